//! The way of most names through the filter, in one go: names in a packet's first buffer, of not too many labels.
//!
//! It comes to the same as [`lookup`](crate::lookup)'s steps, which take any name, but what is at hand stays in
//! registers. `None` says that the name, or the question, is to be read by those steps.

use filter_common::{
    dns::HEADER,
    filter::{ANCHOR, Line, Suffix, line, may_hold, place},
    frame::UDP_HEADER,
    layout::{FilterKey, Settings},
    sieve::{LABELS, Question, SUMS, Sums, dotted, question},
};

use crate::{
    maps::{NAME_FILTER, Scratch},
    packet::{Cursor, Octets, Packet, anew, masked},
};

/// A name that is sifted. What goes from one label to the next lies here, in memory, where the verifier does not tell
/// names apart by it.
#[repr(C)]
pub struct Sieving {
    /// Of a question's labels.
    pub sums: Sums,
    /// Hash of the labels so far.
    pub suffix: Suffix,
    /// Where it goes on: of a question, the label behind; between dots, the label's end.
    pub at: u32,
    /// The question, once it was read.
    pub question: Question,
}

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

/// Takes the name of a query in class IN, in a datagram that is whole, through the filter. Where the filter lets it
/// through at all, [`dns`](crate::dns) goes on with what is then in the scratch space: the question, and positions of
/// labels.
#[inline(always)]
pub fn query(packet: &Packet, scratch: &mut Scratch, settings: &Settings) -> Option<()> {
    let name = Cursor::of(packet, scratch.network.l4 + UDP_HEADER + HEADER)?;
    let Sieving { sums, suffix, at, question: found } = &mut scratch.sieving;
    *found = question(name, &scratch.network, &settings.filter, &mut scratch.starts, sums)?;
    *at = found.labels;
    sift(settings, Read { sums, at }, suffix, &mut scratch.sifted)
}

/// Takes a host name with dots through the filter; `None` for an empty label, too.
#[inline(always)]
pub fn host(packet: &Packet, scratch: &mut Scratch, settings: &Settings) -> Option<()> {
    let octets = Octets::up_to(packet, scratch.name.end)?;
    let Sieving { suffix, at, .. } = &mut scratch.sieving;
    *at = scratch.name.end;
    let labels = Dotted { octets, start: scratch.name.start, end: at, key: &settings.filter };
    sift(settings, labels, suffix, &mut scratch.sifted)
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
    start: u32,
    /// Where the next one ends.
    end: &'a mut u32,
    key: &'a FilterKey,
}

impl Labels for Dotted<'_> {
    #[inline(always)]
    fn next(&mut self) -> Option<(u64, bool)> {
        // SAFETY: it is live.
        let end = unsafe { &mut *anew(self.end) };
        let (sum, before) = dotted(&self.octets, self.start, *end, self.key)?;
        *end = before;
        Some((sum, before < self.start))
    }
}

/// Takes a name through the filter, label by label.
#[inline(always)]
fn sift(settings: &Settings, mut labels: impl Labels, suffix: &mut Suffix, sifted: &mut Sifted) -> Option<()> {
    let key = &settings.filter;
    let [depths, _] = settings.depths;
    let lines = settings.filter_lines;
    *sifted = Sifted::default();
    let (sum, is_first) = labels.next()?;
    *suffix = Suffix::ROOT.below(sum, key);
    if depths & 1 << 1 != 0 && passes(NAME_FILTER.get(line(suffix.hash(), lines))?, suffix.hash(), lines) {
        note(sifted, 1);
    }
    if is_first {
        sifted.labels = 1;
        return Some(());
    }
    let (sum, mut is_first) = labels.next()?;
    let hash = lengthen(suffix, sum, key);
    let anchor = NAME_FILTER.get(line(hash, lines))?;
    if passes(anchor, hash, lines) && depths & 1 << ANCHOR != 0 {
        note(sifted, ANCHOR);
    }
    // Each round begins where the loop is entered: the verifier of Linux 6.1 takes no other loops.
    for depth in ANCHOR + 1..=LABELS as u32 {
        if is_first {
            sifted.labels = depth - 1;
            return Some(());
        }
        let sum;
        (sum, is_first) = labels.next()?;
        let hash = lengthen(suffix, sum, key);
        if passes(anchor, hash, lines) && depths >> (depth & 63) & 1 != 0 {
            note(sifted, depth);
        }
    }
    sifted.labels = LABELS as u32;
    is_first.then_some(())
}

/// With one more label: the hash.
#[inline(always)]
fn lengthen(suffix: &mut Suffix, sum: u64, key: &FilterKey) -> u32 {
    // SAFETY: it is live.
    let suffix = unsafe { &mut *anew(suffix) };
    *suffix = suffix.below(sum, key);
    suffix.hash()
}

/// Notes a depth.
#[inline(always)]
fn note(sifted: &mut Sifted, depth: u32) {
    // SAFETY: it is live.
    let sifted = unsafe { &mut *anew(sifted) };
    sifted.depths |= 1 << (depth & 63);
    sifted.deepest = depth;
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
