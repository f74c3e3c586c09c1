//! Names on their way to the filter's hash in one go: what most of them are. Where one of these functions gives
//! something, steps through the name ([`walk`](crate::walk)) come to the same; `None` leaves it to them.

use crate::{
    bytes::Bytes,
    dns::{CLASS_IN, HEADER, Starts},
    filter::{ANY_CASE, MASKS},
    frame::{Network, UDP_HEADER},
    layout::FilterKey,
    walk::label_end,
};

/// Labels of the longest name that is read here.
pub const LABELS: usize = 10;

/// Octets of the longest label of a question that is read here; between dots one less. Longer ones are few.
pub const LONGEST: usize = 32;

/// What the words of labels come to, by the position of the label. There are more than [`LABELS`], so that the verifier
/// can be shown a mask in the place of a comparison.
pub type Sums = [u64; SUMS];

/// Of [`Sums`]; a power of two.
pub const SUMS: usize = 16;

/// A place in a frame, behind an IP header and 20 octets more: what lies before it is there, and so are
/// [`Place::AHEAD`] octets from it on.
pub trait Place: Copy {
    /// Octets of what a question ends with: the root label, type and class.
    const AHEAD: usize = 5;
    /// The furthest that is looked back.
    const BACK: usize = LONGEST;

    /// The octet here.
    fn octet(self) -> u8;
    /// The two octets `AT` further on, within those ahead, in network order.
    fn be16<const AT: usize>(self) -> u16;
    /// The eight octets that begin so many before this place, at least three and at most [`Place::BACK`], in network
    /// order.
    fn before<const OCTETS: usize>(self) -> u64;
    /// So many octets further on, if that is a place.
    fn ahead(self, octets: usize) -> Option<Self>;
    /// A number below 64, which the verifier may not know.
    fn below_64(number: usize) -> usize;
}

/// A question that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Question {
    /// Its name's labels, at least one.
    pub labels: u32,
    /// Octets of the name, without its root label.
    pub octets: u32,
}

/// A block for each number of labels in a row, so that what it writes lies at places that are known. It breaks with the
/// label, or returns.
macro_rules! in_a_row {
    ($row:lifetime: $labels:ident $block:block) => {
        $row: {
            in_a_row!(@ $labels $block 0 1 2 3 4 5 6 7 8 9 10);
            return None;
        }
    };
    (@ $labels:ident $block:block $($count:literal)+) => { $(
        let $labels = $count;
        $block
    )+ };
}

/// Reads a query with one question in class IN, in a datagram that is whole. `name` is the place behind the DNS header.
#[inline(always)]
#[expect(unused_assignments, reason = "of the last repetition")]
pub fn question<P: Place>(
    name: P,
    network: &Network,
    key: &FilterKey,
    starts: &mut Starts,
    sums: &mut Sums,
) -> Option<Question> {
    let at = network.l4 + UDP_HEADER + HEADER;
    let [ports_and_length, flags_and_counts] = [name.before::<20>(), name.before::<10>()];
    let message_end = network.l4 + (ports_and_length >> 16 & 0xffff) as u32;
    // A query (QR and OPCODE, RFC 1035 4.1.1) with one question.
    if message_end > network.end || flags_and_counts >> 32 & 0xf800_ffff != 1 {
        return None;
    }
    let (mut here, mut offset) = (name, 0);
    let labels = in_a_row!('name: labels {
        let length = usize::from(here.octet());
        *starts.get_mut(labels)? = offset as u8;
        if length == 0 {
            break 'name labels;
        }
        if length > LONGEST {
            return None;
        }
        let length = P::below_64(length);
        offset += 1 + length as u32;
        here = here.ahead(1 + length)?;
        *sums.get_mut(labels)? = label(here, length, key)?;
    });
    // RFC 1035 2.3.4: 255 octets, the root's included.
    if labels == 0 || offset > 254 || at + offset + 5 > message_end || u32::from(here.be16::<3>()) != CLASS_IN {
        return None;
    }
    Some(Question { labels: labels as u32, octets: offset })
}

/// What the words of the label come to that ends here, of at most [`LONGEST`] octets.
#[inline(always)]
fn label<P: Place>(end: P, length: usize, key: &FilterKey) -> Option<u64> {
    let [last, before] = MASKS.get(length)?;
    let [first, second, third, fourth, ..] = key.words;
    let mut sum = (end.before::<8>() & last).wrapping_mul(first);
    sum = sum.wrapping_add((end.before::<16>() & before).wrapping_mul(second));
    if length > 16 {
        let [last, before] = MASKS.get(P::below_64(length - 16))?;
        sum = sum.wrapping_add((end.before::<24>() & last).wrapping_mul(third));
        sum = sum.wrapping_add((end.before::<32>() & before).wrapping_mul(fourth));
    }
    Some(sum)
}

/// What the words of a label between dots come to, and where the label before it ends; it is before `start` behind the
/// name's first label. `None` for an empty label, too.
#[inline(always)]
pub fn dotted<B: Bytes>(bytes: &B, start: u32, mut end: u32, key: &FilterKey) -> Option<(u64, u32)> {
    let mut sum = 0_u64;
    for (behind, factor) in key.words.iter().take(LONGEST / 8).enumerate() {
        let word = bytes.be64(end.wrapping_sub(8))?;
        let Some(part) = label_end(word, end.wrapping_sub(start)) else {
            sum = sum.wrapping_add((word & ANY_CASE).wrapping_mul(*factor));
            end = end.wrapping_sub(8);
            continue;
        };
        if behind == 0 && part.octets == 0 {
            return None;
        }
        sum = sum.wrapping_add((word & part.mask & ANY_CASE).wrapping_mul(*factor));
        // Over the dot.
        return Some((sum, end.wrapping_sub(part.octets).wrapping_sub(1)));
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        bytes::Slice,
        dns::{self, Step},
        filter::Suffix,
        frame::Payload,
        walk::{self, STEPS, Walk, tests::key},
    };

    #[derive(Clone, Copy)]
    struct At<'a>(&'a [u8], usize);

    impl Place for At<'_> {
        fn octet(self) -> u8 {
            self.0[self.1]
        }

        fn be16<const AT: usize>(self) -> u16 {
            Slice(self.0).be16((self.1 + AT) as u32).unwrap()
        }

        fn before<const OCTETS: usize>(self) -> u64 {
            assert!((3..=Self::BACK).contains(&OCTETS));
            Slice(self.0).be64((self.1 - OCTETS) as u32).unwrap()
        }

        fn ahead(self, octets: usize) -> Option<Self> {
            (self.1 + octets + Self::AHEAD <= self.0.len()).then_some(Self(self.0, self.1 + octets))
        }

        fn below_64(number: usize) -> usize {
            assert!(number < 64);
            number
        }
    }

    /// A query, behind Ethernet, IPv4 and UDP headers.
    fn frame(labels: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = vec![0xee; 34];
        let octets = labels.iter().map(|label| 1 + label.len()).sum::<usize>();
        frame.extend([0, 9, 0, 53, 0, (8 + 12 + octets + 5) as u8, 0, 0]);
        frame.extend([7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in labels {
            frame.push(label.len() as u8);
            frame.extend(label);
        }
        frame.extend([0, 0, 1, 0, 1]);
        frame
    }

    /// In one go: the suffixes' hashes, and what was read.
    fn at_once(frame: &[u8]) -> Option<(Vec<u32>, Question, Starts)> {
        let key = key();
        let network = Network { l4: 34, end: frame.len() as u32, ..Network::default() };
        let (mut starts, mut sums) = ([0; 128], [0; SUMS]);
        let place = At(frame, 54).ahead(0)?;
        let question = question(place, &network, &key.filter, &mut starts, &mut sums)?;
        let mut suffix = Suffix::ROOT;
        let of = sums[..question.labels as usize].iter().rev();
        let hashes = of.map(|sum| {
            suffix = suffix.below(*sum, &key.filter);
            suffix.hash()
        });
        Some((hashes.collect(), question, starts))
    }

    fn hashes(mut step: impl FnMut() -> Option<walk::Step<u32>>) -> Option<Vec<u32>> {
        let mut hashes = Vec::new();
        for _ in 0..STEPS {
            match step()? {
                walk::Step::More => {}
                walk::Step::Empty => return None,
                walk::Step::Label { key, last } => {
                    hashes.push(key);
                    if last {
                        return Some(hashes);
                    }
                }
            }
        }
        None
    }

    /// By steps, if the question is good.
    fn by_steps(frame: &[u8]) -> Option<(Vec<u32>, Question, Starts)> {
        let (key, bytes) = (key(), Slice(frame));
        let network = Network { l4: 34, end: frame.len() as u32, ..Network::default() };
        let payload = crate::frame::udp(&bytes, &network).ok()?;
        let mut question = dns::Question::begin(&bytes, &payload).ok()?;
        let mut starts = [0; 128];
        while match question.step(&bytes, &mut starts) {
            Step::More => true,
            Step::Root => false,
            Step::Stop(_) => return None,
        } {}
        question.finish(&bytes).ok()?;
        let octets = question.after() - 5 - question.name;
        let mut walk = Walk::of(&Walk::dns(question.name, question.after() - 5));
        let hashes = hashes(|| walk.step_dns(&bytes, &key, question.labels, &starts))?;
        Some((hashes, Question { labels: question.labels, octets }, starts))
    }

    fn dotted_at_once(name: &[u8]) -> Option<Vec<u32>> {
        let mut frame = vec![b'.'; 60];
        frame.extend(name);
        let (key, start, mut end) = (key(), 60, frame.len() as u32);
        let (mut suffix, mut hashes) = (Suffix::ROOT, Vec::new());
        loop {
            let sum;
            (sum, end) = dotted(&Slice(&frame), start, end, &key.filter)?;
            suffix = suffix.below(sum, &key.filter);
            hashes.push(suffix.hash());
            if end < start {
                return Some(hashes);
            }
        }
    }

    fn dotted_by_steps(name: &[u8]) -> Option<Vec<u32>> {
        let mut frame = vec![b'.'; 60];
        frame.extend(name);
        let mut walk = Walk::of(&Walk::sni(&Payload { start: 60, end: frame.len() as u32 }));
        hashes(|| walk.step_sni(&Slice(&frame), &key()))
    }

    #[test]
    fn each_length_of_a_label_has_one_hash() {
        for length in 1..=63 {
            for (first, last) in [(length, 2), (2, length), (length, length)] {
                let labels = [first, last].map(|length| (0..length as u8).map(|octet| b'a' + octet % 26).collect());
                let [at_once, steps] = [at_once(&frame(&labels)), by_steps(&frame(&labels))];
                assert!(steps.is_some());
                assert_eq!(at_once, steps.filter(|_| length <= LONGEST), "{length}");
                let name = labels.join(&b'.');
                let steps = dotted_by_steps(&name);
                assert!(steps.is_some());
                assert_eq!(dotted_at_once(&name), steps.filter(|_| length < LONGEST), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_in_one_go_is_what_steps_come_to(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..35), 0..13),
            changes in prop::collection::vec((38_usize..120, any::<u8>()), 0..3),
            cut in 0_usize..6,
            is_changed: bool,
        ) {
            prop_assume!(labels.iter().map(|label| 1 + label.len()).sum::<usize>() < 220);
            let mut frame = frame(&labels);
            if is_changed {
                for (at, octet) in changes {
                    if let Some(place) = frame.get_mut(at) {
                        *place = octet;
                    }
                }
                frame.truncate(frame.len() - cut);
            }
            let found = at_once(&frame);
            if found.is_some() {
                prop_assert_eq!(&found, &by_steps(&frame));
            }
            let is_short = labels.iter().all(|label| label.len() <= LONGEST) && (1..=LABELS).contains(&labels.len());
            prop_assert!(is_changed || found.is_some() == is_short);
        }

        #[test]
        fn names_with_dots_are_read_as_steps_read_them(name in "[a-zA-Z0-9.-]{0,80}") {
            let found = dotted_at_once(name.as_bytes());
            let steps = dotted_by_steps(name.as_bytes());
            let is_short = name.split('.').all(|label| label.len() < LONGEST);
            prop_assert!(found.is_none() || found == steps);
            prop_assert!(!is_short || found.is_some() == steps.is_some());
        }
    }
}
