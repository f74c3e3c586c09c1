//! The way through a name in a packet, from its last label to its first, word by word.

use crate::{
    bytes::Bytes,
    dns::Starts,
    filter,
    frame::Payload,
    layout::{HashKey, MAX_LABELS, NameTag},
    name::{Hasher, SuffixHash, lower8},
};

/// A name on its way through a hash. At most [`STEPS`] steps come to an end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Walk<H = Hasher<3>> {
    hasher: H,
    /// Position after the last octet that is not taken in yet.
    at: u32,
    /// Position of the name's first label, its length octet left out.
    start: u32,
    /// Octets of the current label that are taken in.
    octets: u32,
    /// Whole labels taken in.
    pub depth: u32,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<K = NameTag> {
    /// Part of a long label; step again.
    More,
    /// A label is whole: the hash of the suffix that it begins. Step again unless `last`.
    Label {
        /// Hash of the suffix.
        key: K,
        /// It was the name's first label.
        last: bool,
    },
    /// An empty label.
    Empty,
}

/// What a step did, without the hash: in the XDP program, a value with octets that mean nothing may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Part of a long label; step again.
    More,
    /// A label is whole; step again.
    Label,
    /// The name's first label is whole.
    Last,
    /// An empty label.
    Empty,
}

/// The most steps that a name of 255 octets takes.
pub const STEPS: u32 = 128;

impl Walk {
    /// A name of a DNS question; `end` is the position of its root label, `name` that of its first length octet.
    pub fn dns(name: u32, end: u32) -> Self {
        Self { at: end, start: name + 1, ..Self::default() }
    }

    /// A host name with dots.
    pub fn sni(name: &Payload) -> Self {
        Self { at: name.end, start: name.start, ..Self::default() }
    }
}

impl Walk<filter::Words> {
    /// The same name, not begun, on its way through the filter's hash.
    #[inline(always)]
    pub const fn of<H>(walk: &Walk<H>) -> Self {
        let &Walk { at, start, .. } = walk;
        Self { hasher: filter::Words::ROOT, at, start, octets: 0, depth: 0 }
    }
}

impl<H: SuffixHash> Walk<H> {
    /// [`Walk::next_dns`], with the hash.
    #[inline(always)]
    pub fn step_dns<B: Bytes>(
        &mut self,
        bytes: &B,
        key: &HashKey,
        labels: u32,
        starts: &Starts,
    ) -> Option<Step<H::Key>> {
        self.next_dns(bytes, key, labels, starts).map(|next| self.step(key, next))
    }

    /// [`Walk::next_sni`], with the hash.
    #[inline(always)]
    pub fn step_sni<B: Bytes>(&mut self, bytes: &B, key: &HashKey) -> Option<Step<H::Key>> {
        self.next_sni(bytes, key).map(|next| self.step(key, next))
    }

    fn step(&self, key: &HashKey, next: Next) -> Step<H::Key> {
        match next {
            Next::More => Step::More,
            Next::Label => Step::Label { key: self.hash(key), last: false },
            Next::Last => Step::Label { key: self.hash(key), last: true },
            Next::Empty => Step::Empty,
        }
    }

    /// The hash of the suffix that the last whole label begins.
    #[inline(always)]
    pub fn hash(&self, key: &HashKey) -> H::Key {
        self.hasher.suffix(key)
    }

    /// Takes in up to eight octets of a DNS name of `labels` labels.
    #[inline(always)]
    pub fn next_dns<B: Bytes>(&mut self, bytes: &B, key: &HashKey, labels: u32, starts: &Starts) -> Option<Next> {
        let label = labels.wrapping_sub(1).wrapping_sub(self.depth) as usize & MAX_LABELS;
        let start = self.start + u32::from(*starts.get(label)?);
        let word = bytes.be64(self.at.wrapping_sub(8))?;
        Some(self.take(key, word, self.at.wrapping_sub(start)))
    }

    /// Takes in up to eight octets of a host name with dots.
    #[inline(always)]
    pub fn next_sni<B: Bytes>(&mut self, bytes: &B, key: &HashKey) -> Option<Next> {
        let word = bytes.be64(self.at.wrapping_sub(8))?;
        let octets = label_end(word, self.at.wrapping_sub(self.start)).map_or(8, |end| end.octets);
        Some(self.take(key, word, octets))
    }

    /// Takes in the last `left` octets of `word`, with which the label ends, or all eight of a longer label.
    #[inline(always)]
    fn take(&mut self, key: &HashKey, word: u64, left: u32) -> Next {
        if left >= 8 {
            self.hasher.word(key, word);
            self.octets = self.octets.wrapping_add(8);
            self.at = self.at.wrapping_sub(8);
            return Next::More;
        }
        let length = self.octets.wrapping_add(left);
        if length == 0 {
            return Next::Empty;
        }
        let unit = 1_u64 << (8 * (left & 7));
        let label = word & unit.wrapping_sub(1);
        self.hasher.first_word(key, label, u64::from(length).wrapping_mul(unit));
        self.octets = 0;
        self.depth = self.depth.wrapping_add(1);
        self.at = self.at.wrapping_sub(left);
        let last = self.at == self.start;
        // Over the dot or the length octet.
        self.at = self.at.wrapping_sub(1);
        if last { Next::Last } else { Next::Label }
    }
}

/// Where, from the right, a label of a host name begins in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelEnd {
    /// Octets of the label that the word has, fewer than eight.
    pub octets: u32,
    /// These octets.
    pub mask: u64,
}

/// Finds the last dot in eight octets of a host name, of which the last `left` are the name's; where these are fewer than
/// eight, its beginning stands for a dot. `None` if the label goes on before the word.
#[inline(always)]
pub const fn label_end(word: u64, left: u32) -> Option<LabelEnd> {
    // The lowest set bit marks the last dot: the octet that is zero after the exclusive or.
    let dots = word ^ (ONES * b'.' as u64);
    let dots = dots.wrapping_sub(ONES) & !dots & (ONES << 7);
    let bounds = if left < 8 { dots | MARK << (8 * left) } else { dots };
    if bounds == 0 {
        return None;
    }
    let mask = ((bounds & bounds.wrapping_neg()) >> 7).wrapping_sub(1);
    let octets = ((mask & ONES).wrapping_mul(ONES) >> 56) as u32;
    Some(LabelEnd { octets, mask })
}

/// A host name on the way through a check of its octets, eight at a time from its end. At most [`HOST_STEPS`] steps
/// come to an end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HostCheck {
    at: u32,
    start: u32,
}

/// The most steps of a [`HostCheck`].
pub const HOST_STEPS: u32 = 33;

impl HostCheck {
    /// Of a name with dots.
    pub fn new(name: &Payload) -> Self {
        Self { at: name.end, start: name.start }
    }

    /// Checks up to eight octets: `None` while all are good and there are more, else whether all were good.
    #[inline(always)]
    pub fn step<B: Bytes>(&mut self, bytes: &B) -> Option<bool> {
        let Some(word) = bytes.be64(self.at.wrapping_sub(8)) else { return Some(false) };
        let left = self.at.wrapping_sub(self.start);
        let others = if left < 8 { u64::MAX << (8 * left) } else { 0 };
        let word = (word & !others) | ((ONES * b'a' as u64) & others);
        if !host_octets(word) {
            return Some(false);
        }
        self.at = self.at.wrapping_sub(8);
        if left <= 8 { Some(true) } else { None }
    }
}

/// Whether all eight octets are ones of a host name: letters, digits, hyphen, dot, and underscore (RFC 1123 2.1; the
/// underscore is in use).
#[inline(always)]
const fn host_octets(word: u64) -> bool {
    let low = lower8(word);
    let top = ONES << 7;
    let punctuation = from(low, b'-') & !from(low, b'9' + 1) & !(from(low, b'/') & !from(low, b'0'));
    let underscore = from(low, b'_') & !from(low, b'_' + 1);
    let letter = from(low, b'a') & !from(low, b'z' + 1);
    word & top == 0 && (punctuation | underscore | letter) & top == top
}

/// The top bit of each octet that is at least `least`; all are below 128.
#[inline(always)]
const fn from(word: u64, least: u8) -> u64 {
    word.wrapping_add((0x80 - least as u64) * ONES)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const MARK: u64 = 0x80;

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::{string::String, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        bytes::Slice,
        dns::Question,
        filter, flow,
        frame::Network,
        layout::{FilterKey, KEY_WORDS, LAYOUT_VERSION},
        resolver,
    };

    pub fn key() -> std::boxed::Box<HashKey> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut terms = [[0; 8]; KEY_WORDS];
        terms.iter_mut().flatten().for_each(|term| *term = next());
        let mut start = [[0; 4]; KEY_WORDS];
        start.iter_mut().flatten().for_each(|term| *term = next());
        let filter = FilterKey { words: [(); 8].map(|()| next()), label: next() }.made_odd();
        std::boxed::Box::new(HashKey { terms, start, filter })
    }

    /// What a suffix is known by, and its hash in the filter.
    type Hashes = (NameTag, u32);

    /// The hashes from their definitions: each label's wire form, in words from the right; and each label's octets.
    fn reference(labels: &[Vec<u8>], key: &HashKey) -> Hashes {
        let words = |octets: &[u8]| {
            let words =
                octets.rchunks(8).map(|chunk| chunk.iter().fold(0, |word, octet| word << 8 | u64::from(*octet)));
            words.collect::<Vec<_>>()
        };
        let (mut hasher, mut suffix) = (Hasher::ROOT, filter::Suffix::ROOT);
        for label in labels.iter().rev() {
            let mut wire = vec![label.len() as u8];
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
            words(&wire).iter().for_each(|word| hasher.raw_word(key, *word));
            let octets: Vec<u8> = label.iter().map(|octet| octet & !0x20).collect();
            let products =
                words(&octets).into_iter().zip(key.filter.words).map(|(word, factor)| word.wrapping_mul(factor));
            suffix = suffix.below(products.fold(0, u64::wrapping_add), &key.filter);
        }
        (NameTag { lanes: hasher.lanes(key) }, suffix.hash())
    }

    fn suffixes<K>(mut step: impl FnMut() -> Option<Step<K>>) -> Option<Vec<K>> {
        let mut keys = Vec::new();
        for _ in 0..STEPS {
            match step()? {
                Step::More => {}
                Step::Empty => return None,
                Step::Label { key, last } => {
                    keys.push(key);
                    if last {
                        return Some(keys);
                    }
                }
            }
        }
        None
    }

    fn walk_dns(labels: &[Vec<u8>], key: &HashKey) -> Option<Vec<Hashes>> {
        let mut frame = vec![0xee; 42];
        frame.extend([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in labels {
            frame.push(label.len() as u8);
            frame.extend(label);
        }
        frame.extend([0, 0, 1, 0, 1]);
        let payload = Payload { start: 42, end: frame.len() as u32 };
        let bytes = Slice(&frame);
        let mut question = Question::begin(&bytes, &payload).unwrap();
        let mut starts = [0; 128];
        while question.step(&bytes, &mut starts) == crate::dns::Step::More {}
        assert_eq!(question.finish(&bytes), Ok(1));
        let mut walk = Walk::dns(question.name, question.after() - 5);
        let mut glance = Walk::of(&walk);
        let hashes = suffixes(|| glance.step_dns(&bytes, key, question.labels, &starts));
        let tags = suffixes(|| walk.step_dns(&bytes, key, question.labels, &starts));
        together(tags, hashes)
    }

    fn walk_sni(name: &[u8], key: &HashKey) -> Option<Vec<Hashes>> {
        let mut frame = vec![b'.'; 50];
        frame.extend(name);
        let bytes = Slice(&frame);
        let mut walk = Walk::sni(&Payload { start: 50, end: frame.len() as u32 });
        let mut glance = Walk::of(&walk);
        let hashes = suffixes(|| glance.step_sni(&bytes, key));
        let tags = suffixes(|| walk.step_sni(&bytes, key));
        together(tags, hashes)
    }

    /// Both ways through a name come to as many suffixes, or to none.
    fn together(tags: Option<Vec<NameTag>>, hashes: Option<Vec<u32>>) -> Option<Vec<Hashes>> {
        assert_eq!(tags.as_ref().map(Vec::len), hashes.as_ref().map(Vec::len));
        Some(tags?.into_iter().zip(hashes?).collect())
    }

    fn label() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-zA-Z0-9_-]{1,20}".prop_map(String::into_bytes),
            "[a-zA-Z0-9_-]{1,63}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn every_suffix_has_the_hash_of_its_definition(labels in prop::collection::vec(label(), 1..12)) {
            let name = labels.join(&b'.');
            prop_assume!(name.len() <= 253);
            let key = key();
            let expected: Vec<_> = (0..labels.len()).rev().map(|from| reference(&labels[from..], &key)).collect();
            prop_assert_eq!(walk_sni(&name, &key), Some(expected.clone()));
            prop_assert_eq!(walk_dns(&labels, &key), Some(expected));
        }

        #[test]
        fn d2_labels_of_any_octets_are_compared_as_labels(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 1..8)
        ) {
            prop_assume!(labels.iter().map(|label| 1 + label.len()).sum::<usize>() < 255);
            let key = key();
            let expected: Vec<_> = (0..labels.len()).rev().map(|from| reference(&labels[from..], &key)).collect();
            prop_assert_eq!(walk_dns(&labels, &key), Some(expected));
        }
    }

    #[test]
    fn d2_a_dot_in_a_label_is_not_a_boundary() {
        let key = key();
        let one = walk_dns(&[b"a.b".to_vec(), b"com".to_vec()], &key).unwrap();
        let two = walk_dns(&[b"a".to_vec(), b"b".to_vec(), b"com".to_vec()], &key).unwrap();
        assert_ne!(one.last(), two.last());
    }

    #[test]
    fn d2_127_labels_of_one_octet_are_walked_to_the_end() {
        let labels = vec![b"a".to_vec(); 127];
        assert_eq!(walk_dns(&labels, &key()).unwrap().len(), 127);
    }

    #[test]
    fn t12b_only_host_name_octets_are_good() {
        for octet in 0..=255_u8 {
            for at in 0..20 {
                let mut frame = vec![0xff; 50];
                frame.extend([b'a'; 20]);
                frame[50 + at] = octet;
                let bytes = Slice(&frame);
                let mut check = HostCheck::new(&Payload { start: 50, end: 70 });
                let good = (0..HOST_STEPS).find_map(|_| check.step(&bytes)).unwrap();
                let expected = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
                assert_eq!(good, expected, "{octet:#04x} at {at}");
            }
        }
    }

    #[test]
    fn t12b_names_with_an_empty_label_are_refused() {
        for name in [&b".example.com"[..], b"example..com", b"", b".", b"example.com."] {
            assert_eq!(walk_sni(name, &key()), None, "{name:?}");
        }
    }

    /// What pinned maps hold is looked for where an earlier program has put it: another result needs another
    /// LAYOUT_VERSION.
    #[test]
    fn names_flows_and_resolvers_lie_where_layout_9_has_them() {
        let key = key();
        let (tag, hash) = walk_sni(b"www.Example.com", &key).unwrap().pop().unwrap();
        let network = Network { l3: 14, l4: 34, end: 60, version: 4, transport: 6, ..Network::default() };
        let octets: Vec<u8> = (0..60).collect();
        let sixth = Network { l4: 54, version: 6, ..network };
        let spots = [&network, &sixth].map(|network| flow::spot(&Slice(&octets), network, &key.spot()).unwrap());
        let spots = spots.map(|spot| (spot.line, spot.tag));
        let flow = flow::begin_key(&Slice(&octets), &network, 3, &key).unwrap().lanes(&key);
        let mut known = resolver::Summary::default();
        resolver::add(&mut known, [0, 0xffff_0101_0101]);
        let known = known.iter().position(|word| *word != 0).map(|at| (at, known[at]));
        let found = (tag.lanes, hash, filter::line(hash, 1 << 20), filter::place(hash), tag.home(1 << 20));
        assert_eq!(LAYOUT_VERSION, 9, "take the figures anew");
        let names = ([844249789, 1174545403, 1793529946], 4222874070, 1030975, (3, 1153238163955646464), 437873);
        assert_eq!(found, names);
        let lanes = [3811735856, 1017445531, 102298626, 1105663117];
        assert_eq!((spots, flow, known), ([(4118, 11629), (2174, 3545)], lanes, Some((0, 4194304))));
    }

    #[test]
    fn words_of_a_name_give_back_its_labels() {
        // Two labels against one of the same octets, a NUL in front, and lengths that could be octets.
        type Labels = &'static [&'static [u8]];
        let pairs: [(Labels, Labels); 3] =
            [(&[b"x", b"bcdefgh"], &[b"xbcdefgh"]), (&[b"\0a"], &[b"a"]), (&[b"\x01b"], &[b"", b"b"])];
        let key = key();
        for (one, two) in pairs {
            let [one, two] = [one, two].map(|labels| labels.iter().map(|label| label.to_vec()).collect::<Vec<_>>());
            assert_ne!(reference(&one, &key), reference(&two, &key), "{one:?} {two:?}");
        }
    }
}
