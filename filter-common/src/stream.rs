//! Messages over TCP that do not begin and end with a segment: ClientHellos over several segments and TLS records
//! ([`hello`]), and DNS messages ([`messages`]).
//!
//! State: a [`StreamReader`], which counts octets of the stream, never positions in a packet, so that it holds from one
//! segment to the next. A step reads one field or skips; it hands what is to be kept to the caller, who owns the
//! buffer as well as the loop.

pub mod hello;
pub mod messages;

use crate::{bytes::Bytes, layout::StreamReader, verdict::Reason};

/// The part of a segment that is not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Position of the next octet.
    pub at: u32,
    /// Position after the last.
    pub end: u32,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Step again.
    More,
    /// Keep `len` octets of the packet from `at` on, as those from `to` on of what is held; then ask whether that makes
    /// it whole, and step again.
    Hold {
        /// Position in the packet.
        at: u32,
        /// How many, not zero.
        len: u32,
        /// Octets that are held before these.
        to: u32,
    },
    /// The segment is read; the next one goes on.
    Hungry,
    /// There is no name to come, or it cannot be told.
    Stop(Reason),
}

/// The most steps in one segment. What is not read then passes.
pub const STEPS: u32 = 512;

/// Where a segment lies against what a reader wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// So many octets of the segment are known; the next one is wanted.
    Wanted(u32),
    /// All of it is known.
    Known,
    /// What comes before it is missing.
    Gap,
    /// Nowhere near.
    Elsewhere,
}

/// Where a segment of `len` octets lies (RFC 9293 3.4: sequence numbers are compared modulo 2^32).
#[inline(always)]
pub fn place(base: u32, next: u32, sequence: u32, len: u32) -> Place {
    let known = base.wrapping_add(next).wrapping_sub(sequence);
    if known < len {
        Place::Wanted(known)
    } else if known < NEAR {
        Place::Known
    } else if known.wrapping_neg() < NEAR {
        Place::Gap
    } else {
        Place::Elsewhere
    }
}

/// No segment of the same message is further away.
const NEAR: u32 = 1 << 17;

/// Octets of a connection, from its first one or its hello's on, that the deferred tier puts in order: a TLS record, or
/// many small ones. What lies behind them is not copied, so that a connection whose first segment took another way
/// costs a few copies and no more.
pub const PUT_IN_ORDER: u32 = 16 << 10;

/// Reads the field that comes next, of `want` octets, at most five; `None` if the segment, or the room of `most`
/// octets, ends before it does.
#[inline(always)]
fn field<B: Bytes>(
    bytes: &B,
    segment: &mut Segment,
    (value, have): (&mut u64, &mut u8),
    want: u32,
    most: u32,
) -> Option<u32> {
    let left = segment.end.wrapping_sub(segment.at);
    let room = if most < left { most } else { left };
    let missing = want.wrapping_sub(u32::from(*have));
    let take = if missing < room { missing } else { room };
    if take == 0 || take > LONGEST_FIELD {
        return None;
    }
    // Eight octets that end with the last one wanted; the headers before the payload are longer than that.
    let word = bytes.be64(segment.at.wrapping_add(take).wrapping_sub(8))?;
    let octets = word & (1_u64 << (8 * take)).wrapping_sub(1);
    *value = *value << (8 * take) | octets;
    *have = have.wrapping_add(take as u8);
    segment.at = segment.at.wrapping_add(take);
    Some(take)
}

const LONGEST_FIELD: u32 = 5;

impl StreamReader {
    /// Begins a field.
    #[inline(always)]
    fn begin(&mut self, stage: u8) {
        self.stage = stage;
        self.field = 0;
        self.field_have = 0;
    }
}
