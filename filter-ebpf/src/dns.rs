//! DNS queries, over UDP and over TCP.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    dns::{Question, Step},
    edns::{self, Records},
    flow,
    frame::{self, Payload},
    layout::StreamReader,
    stream::{self, Place, Segment, place},
    verdict::{Action, Protocol, Reason},
    walk::{STEPS, Walk},
};

use crate::{
    act, choose,
    filter::{Outcome, reason, scratch},
    flow::{find, finish, identify, keep, may_have, resume},
    lookup::{self, Lengths, TURN, View, Way},
    maps::{GOING_ON, SETTINGS, Scratch},
    packet::{Held, Packet, Whole, repeat, turns},
    seam,
    sieve::{self, Sifted},
};

/// See [`seam::dns_query`].
#[inline(always)]
pub fn query_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(query(context))
}

/// Takes the name of a query through the filter, where that can be done in one go: most queries end here.
#[inline(always)]
fn query(context: *mut xdp_md) -> Result<Outcome, Reason> {
    let scratch = scratch()?;
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    if sieve::query(&Packet::new(context), scratch, settings).is_none() {
        scratch.sifted = Sifted::UNKNOWN;
    }
    if scratch.sifted.is_none() { Err(Reason::NotListed) } else { Ok(Outcome::QUESTION) }
}

/// See [`seam::dns_question`].
#[inline(always)]
pub fn question_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| question(&mut way)))
}

/// Reads the question, looks its name up, and acts.
#[inline(always)]
fn question(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.is_held = 0;
    scratch.payload = frame::udp(&way.packet, &scratch.network)?;
    if !scratch.sifted.is_unknown() {
        let filter_common::sieve::Question { labels, octets } = scratch.sieving.question;
        scratch.question = Question::read(&scratch.payload, octets, labels);
    } else {
        scratch.question = Question::begin(&way.packet, &scratch.payload)?;
        read::<Packet>(way)?;
        lookup::filtered::<Packet, Lengths>(way, &walk(scratch))?;
    }
    scratch.qtype = u32::from(scratch.question.finish(&way.packet)?);
    lookup::exact::<Packet, Lengths>(way, walk(scratch))?;
    choose::decide(way, Protocol::Dns)?;

    let mut records = Records::begin(&way.packet, scratch.payload.start, &scratch.question, scratch.payload.end)
        .ok_or(Reason::TableBroken)?;
    core::mem::swap(&mut scratch.records, &mut records);
    act::dns(way)
}

/// Reads the question that [`Scratch::question`] stands before; `Ok` if it has a name in class IN.
#[inline(always)]
fn read<V: View>(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    // SAFETY: as above.
    let view = unsafe { V::of(way) };
    scratch.end = Reason::DnsMalformed as u32;
    repeat(STEPS / TURN, labels::<V>, way);
    if scratch.end != GOING_ON {
        return Err(stopped(scratch.end));
    }
    scratch.qtype = u32::from(scratch.question.finish(&view)?);
    if scratch.question.labels == 0 { Err(Reason::NotListed) } else { Ok(()) }
}

/// The way through the name of the question that was read.
#[inline(always)]
fn walk(scratch: &mut Scratch) -> Walk {
    let (name, root) = (scratch.question.name, scratch.question.after().wrapping_sub(5));
    scratch.name = Payload { start: name, end: root };
    Walk::dns(name, root)
}

/// Judges a TCP segment with data: each message that it holds or ends.
#[inline(always)]
pub fn segment(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: as in `listed`.
    let scratch = unsafe { &mut *way.scratch };
    find(&way.packet, scratch)?;
    identify(&way.packet, scratch)?;
    Ok(Outcome::MESSAGES)
}

/// See [`seam::dns_segment`].
#[inline(always)]
pub fn segment_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| messages(&mut way).map(|()| Outcome::ACT)))
}

#[inline(always)]
fn messages(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `listed`.
    let scratch = unsafe { &mut *way.scratch };
    let (payload, sequence) = (scratch.payload, scratch.sequence);
    scratch.is_held = 1;
    if resume(scratch) {
        let len = payload.end.wrapping_sub(payload.start);
        let stream = &scratch.stream;
        match place(stream.base, stream.reader.next, sequence, len) {
            Place::Wanted(known) => {
                scratch.segment = Segment { at: payload.start.wrapping_add(known), end: payload.end };
            }
            Place::Known => return Err(Reason::TcpRepeated),
            // What is missing may come yet, but not what is skipped now.
            Place::Gap => return Err(Reason::TcpOutOfOrder),
            Place::Elsewhere => begin(scratch),
        }
    } else {
        begin(scratch);
    }
    scratch.message = Reason::DnsIncomplete as u32;
    scratch.segment_end = Reason::DnsMalformed as u32;
    repeat(stream::STEPS, message, way);
    if scratch.segment_end == GOING_ON {
        // A message in progress stays as it was, for the same segment once more.
        if !may_have(scratch, flow::STREAM) {
            finish(scratch);
        }
        return Ok(());
    }
    if scratch.segment_end == Reason::DnsIncomplete as u32 && !scratch.stream.reader.is_between_messages() {
        keep(scratch);
    } else {
        finish(scratch);
    }
    if scratch.segment_end == Reason::DnsMalformed as u32 {
        return Err(Reason::DnsMalformed);
    }
    // An event tells the name that is held.
    if scratch.message == Reason::Observed as u32 && scratch.stream.reader.holds_last() {
        return Ok(());
    }
    Err(reason(scratch.message))
}

#[inline(always)]
fn begin(scratch: &mut Scratch) {
    scratch.stream.base = scratch.sequence;
    scratch.stream.reader = StreamReader::messages();
    scratch.segment = Segment { at: scratch.payload.start, end: scratch.payload.end };
}

/// The reasons that reading a question can end with.
#[inline(always)]
fn stopped(end: u32) -> Reason {
    if end == Reason::DnsCompressed as u32 { Reason::DnsCompressed } else { Reason::DnsMalformed }
}

/// Reads on in a segment over TCP, and judges each message whose question is whole.
unsafe extern "C" fn message(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    match scratch.stream.reader.step_messages(&Whole(packet), &mut scratch.segment) {
        stream::Step::More => 0,
        stream::Step::Hold { at, len, to } => {
            if !packet.hold(at, len, &mut scratch.stream.held, to) {
                return 1;
            }
            if !scratch.stream.reader.take_query() {
                return 0;
            }
            let end = Held::START + u32::from(scratch.stream.reader.name_len);
            // SAFETY: as above.
            let judged = unsafe { judge_message(&mut *way, Payload { start: Held::START, end }) };
            match judged {
                // It passes, and another order may stop what comes behind it.
                Ok(()) if scratch.choice.action == Action::Observe as u8 => {
                    scratch.message = Reason::Observed as u32;
                    0
                }
                Ok(()) => {
                    scratch.segment_end = GOING_ON;
                    1
                }
                Err(reason) => {
                    scratch.message = reason as u32;
                    0
                }
            }
        }
        stream::Step::Hungry => {
            scratch.segment_end = Reason::DnsIncomplete as u32;
            1
        }
        stream::Step::Stop(_) => 1,
    }
}

#[inline(always)]
fn judge_message(way: &mut Way, message: Payload) -> Result<(), Reason> {
    // SAFETY: as in `listed`.
    let scratch = unsafe { &mut *way.scratch };
    scratch.question = Question::begin(&Held::of(&scratch.stream), &message)?;
    read::<Held>(way)?;
    let walk = walk(scratch);
    lookup::filtered::<Held, Lengths>(way, &walk)?;
    lookup::exact::<Held, Lengths>(way, walk)?;
    choose::decide(way, Protocol::Dns)
}

/// Reads some labels of the question.
unsafe extern "C" fn labels<V: View>(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `message`.
    turns(TURN.into(), way, |way| unsafe { label_step::<V>(way) }).into()
}

/// Reads one label of the question; whether it was the last.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn label_step<V: View>(way: *mut Way) -> bool {
    // SAFETY: as the caller promises.
    let (view, scratch) = unsafe { (V::of(way), &mut *(*way).scratch) };
    match scratch.question.step(&view, &mut scratch.starts) {
        Step::More => false,
        Step::Root => {
            scratch.end = GOING_ON;
            true
        }
        Step::Stop(reason) => {
            scratch.end = reason as u32;
            true
        }
    }
}

/// Reads on in the records behind the question.
///
/// # Safety
/// For `packet::repeat` with a live [`Way`] only.
pub unsafe extern "C" fn record(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `message`.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    i64::from(scratch.records.step(&packet).is_none())
}

/// The most steps of [`record`].
pub const RECORD_STEPS: u32 = edns::STEPS;
