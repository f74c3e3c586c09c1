//! The way of most names through the filter, in one go: names in a packet's first buffer, of not too many labels.
//!
//! It comes to the same as [`lookup`](crate::lookup)'s steps, which take any name, but what is at hand stays in
//! registers. `None` says that the name, or the question, is to be read by those steps.

use filter_common::{
    bytes::Bytes as _,
    dns::{CLASS_IN, HEADER},
    filter::{ANCHOR, ANY_CASE, Line, MASKS, Suffix, line, may_hold, place},
    frame::{Network, UDP_HEADER},
    layout::{FilterKey, Settings},
    walk::label_end,
};

use crate::{
    maps::{NAME_FILTER, Scratch},
    packet::{Cursor, Octets, Packet, anew, masked},
};

/// Labels of the longest name that is read here.
pub const STRAIGHT: usize = 10;

/// What the words of labels come to, by the position of the label.
pub type Sums = [u64; SUMS];

/// More than labels, so that the verifier sees a mask in the place of a comparison.
const SUMS: usize = 16;
const _: () = assert!(SUMS > STRAIGHT && SUMS.is_power_of_two());

/// Octets of the longest label that is read here: so many lie before a name, as the verifier sees it.
const LONGEST: usize = 32;

/// What is to be looked up of a name.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Sifted {
    /// Depths below 64 at which the filter lets it through.
    pub depths: u64,
    /// Those from 64 on, which are not filtered; bit 0 is 64.
    pub deeper: u64,
    /// The deepest of [`Sifted::depths`], 0 for none.
    pub deepest: u32,
    /// Labels of the name.
    pub labels: u32,
}

impl Sifted {
    /// The name is not sifted.
    pub const UNKNOWN: Self = Self { depths: 0, deeper: 0, deepest: u32::MAX, labels: 0 };

    /// Nothing: the name is not listed.
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.deepest == 0 && self.deeper == 0
    }

    /// As [`Sifted::UNKNOWN`].
    #[inline(always)]
    pub fn is_unknown(&self) -> bool {
        self.deepest == u32::MAX
    }
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

/// Takes the name of a query in class IN, in a datagram that is whole, through the filter. Where the filter lets it
/// through at all, [`dns`](crate::dns) goes on with what is then in the scratch space: octets and positions of labels.
#[inline(always)]
#[expect(unused_assignments, reason = "of the last repetition")]
pub fn query(packet: &Packet, scratch: &mut Scratch, settings: &Settings) -> Option<()> {
    let Network { l4, end, .. } = scratch.network;
    let name = l4 + UDP_HEADER + HEADER;
    let mut here = Cursor::of(packet, name)?;
    let [ports_and_length, flags_and_counts] = [here.before(20), here.before(10)];
    let message_end = l4 + (ports_and_length >> 16 & 0xffff) as u32;
    // A query (QR and OPCODE, RFC 1035 4.1.1) with one question.
    if message_end > end || flags_and_counts >> 32 & 0xf800_ffff != 1 {
        return None;
    }
    let mut offset = 0;
    let labels = in_a_row!('name: labels {
        let length = usize::from(here.octet());
        *scratch.starts.get_mut(labels)? = offset as u8;
        if length == 0 {
            break 'name labels;
        }
        if length > LONGEST {
            return None;
        }
        let length = masked::<63>(length);
        offset += 1 + length as u32;
        here = here.ahead(1 + length)?;
        *scratch.sums.get_mut(labels)? = label(&here, length, &settings.filter)?;
    });
    // RFC 1035 2.3.4: 255 octets, the root's included.
    if labels == 0 || offset > 254 || name + offset + 5 > message_end || u32::from(here.be16::<3>()) != CLASS_IN {
        return None;
    }
    scratch.octets = offset;
    scratch.at = labels as u32;
    let labels = Read { sums: &scratch.sums, at: &mut scratch.at };
    sift(settings, labels, &mut scratch.suffix, &mut scratch.sifted)
}

/// What the words of the label come to that ends here.
#[inline(always)]
fn label(end: &Cursor, length: usize, key: &FilterKey) -> Option<u64> {
    let [last, before] = MASKS.get(length)?;
    let [first, second, ..] = key.words;
    let mut sum = (end.before(8) & last).wrapping_mul(first);
    sum = sum.wrapping_add((end.before(16) & before).wrapping_mul(second));
    if length > 16 {
        for word in 2..LONGEST / 8 {
            if length <= 8 * word {
                break;
            }
            let [mask, _] = MASKS.get(masked::<63>(length - 8 * word))?;
            let octets = end.before(8 * word + 8) & mask;
            sum = sum.wrapping_add(octets.wrapping_mul(*key.words.get(word)?));
        }
    }
    Some(sum)
}

/// Takes a host name with dots through the filter; `None` for an empty label, too.
#[inline(always)]
pub fn host(packet: &Packet, scratch: &mut Scratch, settings: &Settings) -> Option<()> {
    let octets = Octets::up_to(packet, scratch.name.end)?;
    scratch.at = scratch.name.end;
    let labels = Dotted { octets, at: &mut scratch.at, start: scratch.name.start, key: &settings.filter };
    sift(settings, labels, &mut scratch.suffix, &mut scratch.sifted)
}

/// The labels of a name, the last one first.
trait Labels {
    /// What the words of the next one come to, and whether it is the name's first.
    fn next(&mut self) -> Option<(u64, bool)>;
}

/// Labels that were read before, at least one.
struct Read<'a> {
    sums: &'a Sums,
    /// The one before which the next comes.
    at: &'a mut u32,
}

impl Labels for Read<'_> {
    #[inline(always)]
    fn next(&mut self) -> Option<(u64, bool)> {
        // SAFETY: it is live.
        let at = unsafe { &mut *anew(self.at) };
        *at = at.wrapping_sub(1);
        // SAFETY: there are as many.
        let sum = unsafe { *self.sums.get_unchecked(masked::<{ SUMS as i32 - 1 }>(*at as usize)) };
        Some((sum, *at == 0))
    }
}

/// Labels between dots.
struct Dotted<'a> {
    octets: Octets,
    /// Where the next one ends.
    at: &'a mut u32,
    start: u32,
    key: &'a FilterKey,
}

impl Labels for Dotted<'_> {
    #[inline(always)]
    fn next(&mut self) -> Option<(u64, bool)> {
        let mut sum = 0_u64;
        for (behind, factor) in self.key.words.iter().take(LONGEST / 8).enumerate() {
            // SAFETY: it is live.
            let at = unsafe { &mut *anew(self.at) };
            let word = self.octets.be64(at.wrapping_sub(8))?;
            let Some(end) = label_end(word, at.wrapping_sub(self.start)) else {
                sum = sum.wrapping_add((word & ANY_CASE).wrapping_mul(*factor));
                *at = at.wrapping_sub(8);
                continue;
            };
            if behind == 0 && end.octets == 0 {
                return None;
            }
            sum = sum.wrapping_add((word & end.mask & ANY_CASE).wrapping_mul(*factor));
            let label = at.wrapping_sub(end.octets);
            *at = label.wrapping_sub(1);
            return Some((sum, label == self.start));
        }
        None
    }
}

/// Takes a name through the filter, label by label. What goes from one label to the next lies in memory, where the
/// verifier does not tell names apart by it.
#[inline(always)]
fn sift(settings: &Settings, mut labels: impl Labels, suffix: &mut Suffix, sifted: &mut Sifted) -> Option<()> {
    let key = &settings.filter;
    let [depths, _] = settings.depths;
    let lines = settings.filter_lines;
    *sifted = Sifted::default();
    // SAFETY, here and below: it is live.
    let mut note = |depth: u32| unsafe { add(anew(sifted), depth) };
    let (sum, is_first) = labels.next()?;
    *suffix = Suffix::ROOT.below(sum, key);
    if depths & 1 << 1 != 0 && passes(NAME_FILTER.get(line(suffix.hash(), lines))?, suffix.hash(), lines) {
        note(1);
    }
    if is_first {
        sifted.labels = 1;
        return Some(());
    }
    let (sum, mut is_first) = labels.next()?;
    let hash = unsafe { next(anew(suffix), sum, key) };
    let anchor = NAME_FILTER.get(line(hash, lines))?;
    if passes(anchor, hash, lines) && depths & 1 << ANCHOR != 0 {
        note(ANCHOR);
    }
    // Each round begins where the loop is entered: the verifier of Linux 6.1 takes no other loops.
    for depth in ANCHOR + 1..=STRAIGHT as u32 {
        if is_first {
            sifted.labels = depth - 1;
            return Some(());
        }
        let sum;
        (sum, is_first) = labels.next()?;
        let hash = unsafe { next(anew(suffix), sum, key) };
        if passes(anchor, hash, lines) && depths >> (depth & 63) & 1 != 0 {
            note(depth);
        }
    }
    sifted.labels = STRAIGHT as u32;
    is_first.then_some(())
}

/// With one more label: the hash.
///
/// # Safety
/// For what is live.
#[inline(always)]
unsafe fn next(suffix: *mut Suffix, sum: u64, key: &FilterKey) -> u32 {
    // SAFETY: as the caller promises.
    unsafe {
        *suffix = (*suffix).below(sum, key);
        (*suffix).hash()
    }
}

/// Notes a depth.
///
/// # Safety
/// For what is live.
#[inline(always)]
unsafe fn add(sifted: *mut Sifted, depth: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        (*sifted).depths |= 1 << (depth & 63);
        (*sifted).deepest = depth;
    }
}

/// Whether the filter lets a suffix through whose anchor has this line.
#[inline(always)]
pub fn passes(anchor: &Line, hash: u32, lines: u32) -> bool {
    let (at, bits) = place(hash);
    let Some(word) = anchor.get(at) else { return true };
    may_hold(*word, bits).unwrap_or_else(|| {
        let own = NAME_FILTER.get(line(hash, lines)).and_then(|line| line.get(at));
        own.is_none_or(|word| word & bits == bits)
    })
}
