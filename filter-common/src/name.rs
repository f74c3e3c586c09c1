//! Names as sequences of labels, and the keyed hash of every suffix of a name.
//!
//! A name is hashed from its last label to its first, in 64-bit words. A label of n octets is its length octet and
//! its octets, filled up with zeros in front to whole words; so the words of a name, read from the left, give back
//! its labels, and two different names never have the same words.
//!
//! Each of the lanes is MULTILINEAR-HM (Lemire and Kaser, "Strongly universal string hashing is fast"): the sum of
//! (key + low half) * (key' + high half) modulo 2^64, of which the upper 32 bits count. The lanes' keys are
//! independent and random, and what a lane starts from depends on the number of words, so that any two different
//! names collide in all of the three lanes by which they are known with a probability of 2^-96, whoever chose
//! them, as long as the key is secret. Flows have a fourth.

use crate::layout::{HashKey, KEY_WORDS, NameTag};

/// A hash of a name's labels so far, last label first.
pub trait SuffixHash {
    /// What it comes to.
    type Key;
    /// Takes in eight octets of a label, in any case, that come behind others of it.
    fn word(&mut self, key: &HashKey, octets: u64);
    /// Takes in what a label begins with, up to seven octets, and the label's length, moved up by as many octets.
    fn first_word(&mut self, key: &HashKey, octets: u64, length: u64);
    /// The hash of the labels taken in so far, which must be whole.
    fn suffix(&self, key: &HashKey) -> Self::Key;
}

/// What names are known by, and with four lanes flows.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hasher<const LANES: usize> {
    lanes: [u64; LANES],
    words: u32,
    pad: u32,
}

impl<const LANES: usize> Hasher<LANES> {
    /// Nothing hashed: the root.
    pub const ROOT: Self = Self { lanes: [0; LANES], words: 0, pad: 0 };

    /// Takes in one word, as it is. More than 127, which no name has, are left out.
    #[inline(always)]
    pub fn raw_word(&mut self, key: &HashKey, word: u64) {
        let Some(terms) = key.terms.get(self.words as usize & (KEY_WORDS - 1)) else { return };
        let (low, high) = (word & 0xffff_ffff, word >> 32);
        let (terms, _) = terms.as_chunks();
        for (lane, [a, b]) in self.lanes.iter_mut().zip(terms) {
            *lane = lane.wrapping_add(a.wrapping_add(low).wrapping_mul(b.wrapping_add(high)));
        }
        self.words = self.words.wrapping_add(1);
    }

    /// The upper halves of the lanes, for the words taken in so far.
    #[inline(always)]
    pub fn lanes(&self, key: &HashKey) -> [u32; LANES] {
        let mut halves = [0; LANES];
        if let Some(start) = key.start.get(self.words as usize & (KEY_WORDS - 1)) {
            for ((half, lane), start) in halves.iter_mut().zip(self.lanes).zip(start) {
                *half = (lane.wrapping_add(*start) >> 32) as u32;
            }
        }
        halves
    }
}

impl<const LANES: usize> Default for Hasher<LANES> {
    fn default() -> Self {
        Self::ROOT
    }
}

impl SuffixHash for Hasher<3> {
    type Key = NameTag;

    #[inline(always)]
    fn word(&mut self, key: &HashKey, octets: u64) {
        self.raw_word(key, lower8(octets));
    }

    #[inline(always)]
    fn first_word(&mut self, key: &HashKey, octets: u64, length: u64) {
        self.raw_word(key, lower8(octets | length));
    }

    #[inline(always)]
    fn suffix(&self, key: &HashKey) -> NameTag {
        NameTag { lanes: self.lanes(key) }
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
