//! Names as sequences of labels, and the keyed hash of every suffix of a name.
//!
//! A name is hashed from its last label to its first, in 64-bit words. A label of n octets is its length octet and
//! its octets, filled up with zeros in front to whole words; so the words of a name, read from the left, give back
//! its labels, and two different names never have the same words.
//!
//! Each of four lanes is MULTILINEAR-HM (Lemire and Kaser, "Strongly universal string hashing is fast"): the sum of
//! (key + low half) * (key' + high half) modulo 2^64, of which the upper 32 bits count. The lanes' keys are
//! independent and random, and what a lane starts from depends on the number of words, so that any two different
//! names collide in all of the first three lanes, by which they are known, with a probability of 2^-96, whoever chose
//! them, as long as the key is secret. The last lane takes octets that differ in one bit for the same ([`ANY_CASE`]); by it
//! goes the filter alone, which decides only that a name is not listed. Where no name is hashed, nothing is taken for
//! anything else, and all four lanes count.

use crate::layout::{HashKey, KEY_WORDS, NameKey};

/// A hash of a name's labels so far, last label first.
pub trait SuffixHash {
    /// What it comes to.
    type Key;
    /// Takes in one word, in any case. More than 127 words, which no name has, are left out.
    fn word(&mut self, key: &HashKey, word: u64);
    /// The hash of the labels taken in so far, which must be whole.
    fn suffix(&self, key: &HashKey) -> Self::Key;
}

/// The bit of each octet that the last lane of a name's hash takes as set: lower case in one step. That other octets
/// than letters are taken for the same, too, only lets a few names through to the table.
const ANY_CASE: u64 = 0x2020_2020_2020_2020;

/// The last lane alone, by which the filter goes; see [`filter`](crate::filter).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Lane {
    sum: u64,
    words: u32,
    pad: u32,
}

impl Lane {
    /// Nothing hashed: the root.
    pub const ROOT: Self = Self { sum: 0, words: 0, pad: 0 };
}

impl SuffixHash for Lane {
    type Key = u32;

    #[inline(always)]
    fn word(&mut self, key: &HashKey, word: u64) {
        let Some([.., a, b]) = key.terms.get(self.words as usize & (KEY_WORDS - 1)) else { return };
        let word = word | ANY_CASE;
        let (low, high) = (word & 0xffff_ffff, word >> 32);
        self.sum = self.sum.wrapping_add(a.wrapping_add(low).wrapping_mul(b.wrapping_add(high)));
        self.words = self.words.wrapping_add(1);
    }

    #[inline(always)]
    fn suffix(&self, key: &HashKey) -> u32 {
        let Some([.., start]) = key.start.get(self.words as usize & (KEY_WORDS - 1)) else { return 0 };
        (self.sum.wrapping_add(*start) >> 32) as u32
    }
}

/// All lanes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Hasher {
    lanes: [u64; 4],
    words: u32,
    pad: u32,
}

impl Hasher {
    /// Nothing hashed: the root.
    pub const ROOT: Self = Self { lanes: [0; 4], words: 0, pad: 0 };

    /// Takes in one word that is not of a name, as it is. More than 127 words are left out.
    #[inline(always)]
    pub fn raw_word(&mut self, key: &HashKey, word: u64) {
        self.words(key, word, word);
    }

    /// Takes in one word, and another into the last lane.
    #[inline(always)]
    fn words(&mut self, key: &HashKey, word: u64, last: u64) {
        let Some(terms) = key.terms.get(self.words as usize & (KEY_WORDS - 1)) else { return };
        let (low, high) = (word & 0xffff_ffff, word >> 32);
        let [a0, b0, a1, b1, a2, b2, a3, b3] = *terms;
        let [l0, l1, l2, l3] = &mut self.lanes;
        *l0 = l0.wrapping_add(a0.wrapping_add(low).wrapping_mul(b0.wrapping_add(high)));
        *l1 = l1.wrapping_add(a1.wrapping_add(low).wrapping_mul(b1.wrapping_add(high)));
        *l2 = l2.wrapping_add(a2.wrapping_add(low).wrapping_mul(b2.wrapping_add(high)));
        let (low, high) = (last & 0xffff_ffff, last >> 32);
        *l3 = l3.wrapping_add(a3.wrapping_add(low).wrapping_mul(b3.wrapping_add(high)));
        self.words = self.words.wrapping_add(1);
    }

    /// The hash of the labels taken in so far, which must be whole.
    #[inline(always)]
    pub fn suffix(&self, key: &HashKey) -> NameKey {
        let Some(start) = key.start.get(self.words as usize & (KEY_WORDS - 1)) else {
            return NameKey::default();
        };
        let ([l0, l1, l2, l3], [s0, s1, s2, s3]) = (self.lanes, *start);
        NameKey {
            lanes: [
                (l0.wrapping_add(s0) >> 32) as u32,
                (l1.wrapping_add(s1) >> 32) as u32,
                (l2.wrapping_add(s2) >> 32) as u32,
                (l3.wrapping_add(s3) >> 32) as u32,
            ],
        }
    }
}

impl SuffixHash for Hasher {
    type Key = NameKey;

    #[inline(always)]
    fn word(&mut self, key: &HashKey, word: u64) {
        self.words(key, lower8(word), word | ANY_CASE);
    }

    #[inline(always)]
    fn suffix(&self, key: &HashKey) -> NameKey {
        Self::suffix(self, key)
    }
}

/// ASCII letters of eight octets to lower case, the others as they are (RFC 4343).
#[inline(always)]
pub const fn lower8(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    let above_z = low.wrapping_add((0x7f - b'Z' as u64) * ONES);
    let from_a = low.wrapping_add((0x80 - b'A' as u64) * ONES);
    let upper = (from_a ^ above_z) & !word & (0x80 * ONES);
    word | (upper >> 2)
}
