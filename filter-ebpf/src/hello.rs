//! ClientHellos over several segments: what is known of a connection, and a hello in progress.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    bytes::Bytes,
    flow,
    frame::Payload,
    layout::StreamReader,
    stream::{self, PUT_IN_ORDER, Place, Segment, place},
    tls::Extensions,
    verdict::{Action, Protocol, Reason, Tally},
};

use crate::{
    filter::{Outcome, next, reason},
    flow::{copy_what_follows, finish, identify, keep, marked, may_have, recall, remember, resume},
    lookup::Way,
    maps::{GOING_ON, NO_STATE, SETTINGS, Scratch, tally},
    packet::{Held, Whole, repeat, turns},
    seam, tier,
    tls::{begun, is_nameless, judge_held, stopped},
};
/// See [`seam::tls_connected`].
#[inline(always)]
pub fn connected_seam(context: *mut xdp_md, alone: u32) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| follow(&mut way, reason(alone))))
}

/// Goes on with a segment that came to `alone` by itself.
#[inline(always)]
fn follow(way: &mut Way, alone: Reason) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    identify(&way.packet, scratch)?;
    let judged = match connected(way, alone) {
        Err(other) if is_part(alone) => Err(other),
        Err(_) => Err(alone),
        Ok(()) => Ok(Outcome::ACT),
    };
    // The deferred tier puts segments in order, for which it needs those in order as well.
    let is_for_tier = matches!(judged, Err(Reason::TcpOutOfOrder))
        || matches!(judged, Err(Reason::TlsIncomplete)) && scratch.stream.copied == 1;
    if is_for_tier && scratch.sequence.wrapping_sub(scratch.start) < PUT_IN_ORDER {
        tier::copy(way, Protocol::Tls, false);
    }
    if let Err(reason) = judged {
        let is_whole = reason == alone && is_nameless(reason) && scratch.kinds == NO_STATE;
        if scratch.goes_on == 1 || is_whole && is_sampled(scratch) {
            return Ok(Outcome { reason, action: next::SEARCH });
        }
    }
    judged
}

/// Judges a segment by what is known of its flow. `alone` is what it came to by itself.
#[inline(always)]
fn connected(way: &mut Way, alone: Reason) -> Result<(), Reason> {
    // SAFETY: as in `follow`.
    let scratch = unsafe { &mut *way.scratch };
    let recalled = is_part(alone) && recall(scratch);
    if !recalled {
        advance(way, alone)?;
    }
    let judged = judge_held(way, Protocol::Tls);
    if recalled {
        return if judged.is_ok() { Ok(()) } else { Err(alone) };
    }
    if matches!(judged, Err(Reason::NotListed)) && scratch.stream.reader.is_searched() {
        scratch.goes_on = 1;
        return judged;
    }
    if judged.is_err() || scratch.choice.action == Action::Observe as u8 {
        finish(scratch);
        return judged;
    }
    // A second server_name behind the first, as far as this segment shows.
    read_on(way);
    if scratch.end == Reason::TlsSniDuplicate as u32 {
        finish(scratch);
        return Err(Reason::TlsSniDuplicate);
    }
    remember(scratch);
    Ok(())
}

/// Whether a segment that came to this by itself showed no name: it may be the middle of a hello, whatever it looks
/// like.
#[inline(always)]
fn is_part(alone: Reason) -> bool {
    use Reason::{TlsExtensions, TlsIncomplete, TlsMalformed, TlsNoSni, TlsNotHello};
    matches!(alone, TlsNotHello | TlsIncomplete | TlsMalformed | TlsNoSni | TlsExtensions)
}

/// Reads on in a hello that this segment begins or goes on with, until its name is held.
#[inline(always)]
fn advance(way: &mut Way, alone: Reason) -> Result<(), Reason> {
    // SAFETY: as in `follow`.
    let scratch = unsafe { &mut *way.scratch };
    let len = scratch.payload.end.wrapping_sub(scratch.payload.start);
    let begins = matches!(alone, Reason::TlsIncomplete);
    if resume(scratch) {
        let stream = &mut scratch.stream;
        let is_searching = stream.reader.is_searching();
        match place(stream.base, stream.reader.next, scratch.sequence, len) {
            // A search gives way to any hello.
            _ if is_searching && begins => begin(way),
            Place::Wanted(known) => {
                scratch.segment = Segment { at: scratch.payload.start.wrapping_add(known), end: scratch.payload.end };
                if is_searching {
                    scratch.goes_on = 1;
                    return Err(alone);
                }
            }
            _ if is_searching => return Err(alone),
            Place::Known => return Err(Reason::TcpRepeated),
            Place::Gap => {
                // What is missing may come in order; the tier must have it, too.
                scratch.start = stream.base;
                copy_what_follows(scratch);
                return Err(Reason::TcpOutOfOrder);
            }
            // A hello elsewhere does not displace the one that the connection begins with.
            Place::Elsewhere if begins && stream.anchored == 0 => begin(way),
            Place::Elsewhere => return Err(alone),
        }
    } else {
        let (mut begins, mut anchored, mut copied) = (begins, 0, 0);
        if !may_have(scratch, flow::STREAM)
            && scratch.kinds != NO_STATE
            && let Some(mark) = marked(scratch)
        {
            let is_first = mark.start == scratch.sequence;
            if !is_first && matches!(alone, Reason::TlsIncomplete | Reason::TlsNotHello) {
                mark.copied = 1;
                scratch.start = mark.start;
                return Err(Reason::TcpOutOfOrder);
            }
            copied = mark.copied as u8;
            finish(scratch);
            anchored = u8::from(is_first);
            begins |= is_first && Extensions::is_lone_change(&way.packet, &scratch.payload);
        }
        if !begins {
            return Err(alone);
        }
        begin(way);
        scratch.stream.anchored = anchored;
        scratch.stream.copied = copied;
    }
    scratch.start = scratch.stream.base;
    read_on(way);
    if scratch.end == GOING_ON {
        return held_name(scratch);
    }
    if scratch.end == HUNGRY {
        keep(scratch);
        return Err(Reason::TlsIncomplete);
    }
    finish(scratch);
    note_searched(scratch);
    Err(stopped(scratch.end))
}

/// Goes on where the segment by itself ended too early.
#[inline(always)]
fn begin(way: &mut Way) {
    // SAFETY: as in `follow`.
    let scratch = unsafe { &mut *way.scratch };
    let is_sampled = is_sampled(scratch);
    let reader = match scratch.begun {
        // All of it, also what was read.
        _ if is_sampled => StreamReader::hello().searched(),
        begun::HEAD => StreamReader::hello(),
        begun::EXTENSION => StreamReader::at_extension(&scratch.extensions),
        _ => StreamReader::at_server_name(&scratch.extensions, &scratch.server_name),
    };
    begin_with(way, reader);
}

#[inline(always)]
fn begin_with(way: &mut Way, mut reader: StreamReader) {
    // SAFETY: as in `follow`.
    let scratch = unsafe { &mut *way.scratch };
    let payload = scratch.payload;
    // What lies before the hello is part of the stream: the deferred tier has it, too.
    let before = Extensions::start(&way.packet, &payload).wrapping_sub(payload.start);
    reader.next = reader.next.wrapping_add(before);
    scratch.stream.base = scratch.sequence;
    scratch.stream.copied = 0;
    scratch.stream.anchored = 0;
    scratch.segment = Segment { at: payload.start.wrapping_add(reader.next), end: payload.end };
    scratch.stream.reader = reader;
}

/// Whether this hello is one of those that are searched for an Encrypted Client Hello.
#[inline(always)]
pub fn is_sampled(scratch: &mut Scratch) -> bool {
    let one_in = SETTINGS.get(0).map_or(0, |settings| settings.ech_sample);
    scratch.hellos = scratch.hellos.wrapping_add(1);
    if one_in == 0 || scratch.hellos < one_in {
        return false;
    }
    scratch.hellos = 0;
    true
}

/// See [`seam::tls_search`].
#[inline(always)]
pub fn search_seam(context: *mut xdp_md) -> u32 {
    if let Ok(mut way) = seam::way(context) {
        search(&mut way);
    }
    0
}

/// Looks for an Encrypted Client Hello, over further segments if need be: that of a browser is as often as not behind
/// the first. It decides nothing.
#[inline(always)]
fn search(way: &mut Way) {
    // SAFETY: as in `follow`.
    let scratch = unsafe { &mut *way.scratch };
    let goes_on = scratch.goes_on == 1;
    if !goes_on {
        begin_with(way, StreamReader::hello().searched());
    }
    scratch.stream.reader.search();
    scratch.end = Reason::TlsNoSni as u32;
    if !scratch.stream.reader.has_ech() {
        read_on(way);
    }
    if scratch.end == HUNGRY && (goes_on || identify(&way.packet, scratch).is_ok()) {
        keep(scratch);
    } else {
        finish(scratch);
        note_searched(scratch);
    }
}

/// Counts a hello that was searched to its end.
#[inline(always)]
fn note_searched(scratch: &Scratch) {
    if scratch.end == Reason::TlsNoSni as u32 && scratch.stream.reader.is_searched() {
        tally(Tally::EchSearched);
        if scratch.stream.reader.has_ech() {
            tally(Tally::Ech);
        }
    }
}

/// The name that is held, a trailing dot left out (RFC 6066 3).
#[inline(always)]
fn held_name(scratch: &mut Scratch) -> Result<(), Reason> {
    let len = u32::from(scratch.stream.reader.name_len);
    let mut end = Held::START + len;
    let last = Held::of(&scratch.stream).be16(end - 2).ok_or(Reason::TlsSniInvalid)?;
    if last & 0xff == u16::from(b'.') {
        end -= 1;
    }
    scratch.is_held = 1;
    scratch.name = Payload { start: Held::START, end };
    Ok(())
}

/// [`Scratch::end`] when the segment is read and the next one goes on.
const HUNGRY: u32 = GOING_ON - 1;

/// Goes on in a hello in progress, up to the end of its name.
#[inline(always)]
fn read_on(way: &mut Way) {
    // SAFETY: as in `follow`.
    unsafe { (*way.scratch).end = Reason::TlsExtensions as u32 };
    repeat(stream::STEPS / FIELDS, fields, way);
}

/// Fields that are read in one call: few, since the verifier takes long over one.
const FIELDS: u32 = 2;

/// Reads some fields of a hello in progress, or skips.
unsafe extern "C" fn fields(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `tls::extensions`.
    turns(FIELDS.into(), way, |way| unsafe { field(way) }).into()
}

/// Reads one field of a hello in progress, or skips; whether that was the last.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn field(way: *mut Way) -> bool {
    // SAFETY: as the caller promises.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    let reader = &mut scratch.stream.reader;
    match reader.step_hello(&Whole(packet), &mut scratch.segment) {
        stream::Step::More => false,
        stream::Step::Hold { at, len, to } => {
            if !packet.hold(at, len, &mut scratch.stream.held, to) {
                scratch.end = Reason::TlsIncomplete as u32;
                return true;
            }
            let is_whole = reader.take_name();
            if is_whole {
                scratch.end = GOING_ON;
            }
            is_whole
        }
        stream::Step::Hungry => {
            scratch.end = HUNGRY;
            true
        }
        stream::Step::Stop(reason) => {
            scratch.end = reason as u32;
            true
        }
    }
}
