//! The filter in front of the names: tells of most names, at the cost of one cache line, that no rule is at them or above.
//!
//! `NAME_FILTER` is a blocked Bloom filter. A rule has up to three bits in one word of a line. Which word and bits
//! follows from the hash of its name; which line from that of the name's last two labels, its *anchor*. So all suffixes
//! of a name in a packet are tested in one line. Where many rules have one anchor (`co.uk`), words of that line fill
//! up: such a word is marked as crowded, and what comes later lies at the same place in the line that the hash of its
//! own name chooses, which is then looked at as well.
//!
//! Its hash decides only that a name is *not* listed, so that it may be one that costs little: different names may have
//! the same, and an octet is taken for another that differs from it in the bit that tells upper from lower case. Each
//! label is hashed by itself, so that this can be done in any order; the hashes of labels, last label first, are that
//! of the name.

use crate::{
    layout::{FilterKey, HashKey},
    name::SuffixHash,
};

/// Words of a line.
pub const WORDS: usize = 8;

/// A line of `NAME_FILTER`.
pub type Line = [u64; WORDS];

/// Labels of an anchor; a name of one label is its own.
pub const ANCHOR: u32 = 2;

/// Of a word: rules whose bits would have been here lie elsewhere.
pub const CROWDED: u64 = 1 << 63;

/// What the filter knows a name by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// Hash of the last [`ANCHOR`] labels.
    pub anchor: u32,
    /// Hash of the name.
    pub own: u32,
}

/// The octets of a word by which a label is hashed: letters of either case are the same.
pub const ANY_CASE: u64 = !0x2020_2020_2020_2020;

/// A name's hash on its way, last label first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Suffix(u64);

impl Suffix {
    /// No label: the root.
    pub const ROOT: Self = Self(0);

    /// With a label before it whose words' products with their factors come to `sum`.
    #[inline(always)]
    pub const fn below(self, sum: u64, key: &FilterKey) -> Self {
        // What is in the upper octets comes down, to go into all of the next product.
        Self(self.0.swap_bytes().wrapping_add(sum).wrapping_mul(key.label))
    }

    /// What counts of it.
    #[inline(always)]
    pub const fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A name's hash on its way, word by word.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Words {
    suffix: Suffix,
    /// Of the label that is not whole.
    sum: u64,
    /// Words of it.
    words: u32,
    pad: u32,
}

impl Words {
    /// Nothing hashed: the root.
    pub const ROOT: Self = Self { suffix: Suffix::ROOT, sum: 0, words: 0, pad: 0 };
}

impl SuffixHash for Words {
    type Key = u32;

    #[inline(always)]
    fn word(&mut self, key: &HashKey, octets: u64) {
        let Some(factor) = key.filter.words.get(self.words as usize & (LABEL_WORDS - 1)) else { return };
        self.sum = self.sum.wrapping_add((octets & ANY_CASE).wrapping_mul(*factor));
        self.words = self.words.wrapping_add(1);
    }

    /// The length does not count.
    #[inline(always)]
    fn first_word(&mut self, key: &HashKey, octets: u64, _length: u64) {
        self.word(key, octets);
        self.suffix = self.suffix.below(self.sum, &key.filter);
        self.sum = 0;
        self.words = 0;
    }

    #[inline(always)]
    fn suffix(&self, _key: &HashKey) -> u32 {
        self.suffix.hash()
    }
}

/// By the length of a label: of the last eight octets, and the eight before them, those of the label in [`ANY_CASE`].
pub static MASKS: [[u64; 2]; 64] = {
    let mut masks = [[0; 2]; 64];
    let mut length = 1;
    while length < 64 {
        masks[length] = [up_to(length), up_to(length.saturating_sub(8))];
        length += 1;
    }
    masks
};

/// The last so many octets of a word, or all of them.
const fn up_to(octets: usize) -> u64 {
    let all = if octets < 8 { (1 << (8 * octets)) - 1 } else { u64::MAX };
    all & ANY_CASE
}

/// Words of a label: 63 octets.
pub const LABEL_WORDS: usize = 8;

/// The line, of so many, that a hash chooses.
#[inline(always)]
pub const fn line(hash: u32, lines: u32) -> u32 {
    ((hash as u64 * lines as u64) >> 32) as u32
}

/// The word of a line that a name's bits lie in, and these bits.
#[inline(always)]
pub const fn place(hash: u32) -> (usize, u64) {
    // Names in one line have the upper bits of the anchor's hash in common, which may be their own.
    let mixed = (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = 1 << (mixed >> 55 & 63) | 1 << (mixed >> 49 & 63) | 1 << (mixed >> 43 & 63);
    ((mixed >> 61) as usize, bits & !CROWDED)
}

/// Whether a name with this hash may be listed, as far as its anchor's line tells; `None`: see its own line.
#[inline(always)]
pub const fn may_hold(word: u64, bits: u64) -> Option<bool> {
    if word & bits == bits {
        Some(true)
    } else if word & CROWDED == 0 {
        Some(false)
    } else {
        None
    }
}
