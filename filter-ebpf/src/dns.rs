//! DNS queries over UDP.

use filter_common::{
    dns::{Question, Step},
    edns::{self, Records},
    frame::Payload,
    verdict::{Protocol, Reason},
    walk::{STEPS, Step as WalkStep, Walk},
};

use crate::{
    act,
    filter::Outcome,
    lookup::{self, Way},
    maps::{GOING_ON, HASH_KEY, Scratch},
    packet::{Packet, repeat},
};

/// Reads the question, looks its name up, and acts.
#[inline(always)]
pub fn query(packet: &Packet, scratch: &mut Scratch) -> Result<Outcome, Reason> {
    scratch.question = Question::begin(packet, &scratch.payload)?;
    let key = HASH_KEY.get_ptr(0).ok_or(Reason::TableBroken)?;
    let mut way = Way { packet: *packet, scratch, key };

    scratch.end = Reason::DnsMalformed as u32;
    repeat(STEPS, label, &mut way);
    if scratch.end != GOING_ON {
        return Err(stopped(scratch.end));
    }
    scratch.qtype = u32::from(scratch.question.finish(packet)?);
    let root = scratch.question.after().wrapping_sub(5);
    scratch.name = Payload { start: scratch.question.name, end: root };
    if scratch.question.labels == 0 {
        return Err(Reason::NotListed);
    }

    lookup::begin(scratch, Walk::dns(scratch.question.name, root));
    repeat(STEPS, word, &mut way);
    lookup::listed(scratch)?;
    lookup::decide(&mut way, Protocol::Dns)?;

    let mut records = Records::begin(packet, scratch.payload.start, &scratch.question, scratch.payload.end)
        .ok_or(Reason::TableBroken)?;
    core::mem::swap(&mut scratch.records, &mut records);
    act::dns(&mut way)
}

/// The reasons that reading a question can end with.
#[inline(always)]
fn stopped(end: u32) -> Reason {
    if end == Reason::DnsCompressed as u32 { Reason::DnsCompressed } else { Reason::DnsMalformed }
}

/// Reads one label of the question.
unsafe extern "C" fn label(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    match scratch.question.step(&packet, &mut scratch.starts) {
        Step::More => 0,
        Step::Root => {
            scratch.end = GOING_ON;
            1
        }
        Step::Stop(reason) => {
            scratch.end = reason as u32;
            1
        }
    }
}

/// Takes up to eight octets of the name into the hash.
unsafe extern "C" fn word(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `label`.
    let (packet, scratch, key) = unsafe { ((*way).packet, &mut *(*way).scratch, &*(*way).key) };
    match scratch.walk.step_dns(&packet, key, scratch.question.labels, &scratch.starts) {
        Some(WalkStep::More) => 0,
        Some(WalkStep::Label { key, last }) => {
            lookup::probe(scratch, &key);
            i64::from(last)
        }
        // The labels were read before; this does not happen.
        Some(WalkStep::Empty) | None => 1,
    }
}

/// Reads on in the records behind the question.
///
/// # Safety
/// For `packet::repeat` with a live [`Way`] only.
pub unsafe extern "C" fn record(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `label`.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    i64::from(scratch.records.step(&packet).is_none())
}

/// The most steps of [`record`].
pub const RECORD_STEPS: u32 = edns::STEPS;
