//! The filter in front of the names: tells of most names, at the cost of one cache line, that no rule is at them or above.
//!
//! `NAME_FILTER` is a blocked Bloom filter. A rule has up to three bits in one word of a line. Which word and bits
//! follows from the hash of its name; which line from that of the name's last two labels, its *anchor*. So all suffixes
//! of a name in a packet are tested in one line. Where many rules have one anchor (`co.uk`), words of that line fill
//! up: such a word is marked as crowded, and what comes later lies at the same place in the line that the hash of its
//! own name chooses, which is then looked at as well.
//!
//! The hash is one lane of `name::Hasher`, so that the other lanes need not be computed for names that end here. It
//! decides only that a name is *not* listed.

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
