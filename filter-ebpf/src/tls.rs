//! ClientHellos: whole in their segment, or over several of them.
//!
//! A segment that holds a whole name is judged by itself, whatever is known of its flow. Only if that stops nothing
//! does what is known count: a hello in progress that this segment goes on with, or the name of a connection.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    bytes::Bytes,
    flow,
    frame::Payload,
    layout::StreamReader,
    stream::{self, PUT_IN_ORDER, Place, Segment, place},
    tls::{Extensions, MAX_EXTENSIONS, Step},
    verdict::{Action, Protocol, Reason, Tally},
    walk::{HOST_STEPS, HostCheck, Walk},
};

use crate::{
    filter::{Outcome, next, reason},
    flow::{copy_what_follows, find, finish, identify, keep, marked, may_have, recall, remember, resume},
    lookup::{self, Dots, View, Way},
    maps::{GOING_ON, NO_STATE, SETTINGS, Scratch, tally},
    packet::{Held, Whole, repeat, turns},
    seam, tier,
};

/// How far a segment by itself was read.
mod begun {
    /// Not up to the extensions.
    pub const HEAD: u32 = 0;
    /// Up to an extension.
    pub const EXTENSION: u32 = 1;
    /// Up to the content of server_name.
    pub const SERVER_NAME: u32 = 2;
}

/// Judges a segment with data.
#[inline(always)]
pub fn segment(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let begun = Extensions::begin(&Whole(way.packet), &scratch.payload);
    find(&way.packet, scratch)?;
    if let Err(Reason::TlsNotHello) = begun
        && scratch.kinds == NO_STATE
    {
        return Err(Reason::TlsNotHello);
    }
    scratch.is_held = 0;
    scratch.goes_on = 0;
    scratch.begun = begun::HEAD;
    let judged = match begun {
        Ok(extensions) => {
            scratch.extensions = extensions;
            whole(way)
        }
        Err(reason) => Err(reason),
    };
    match judged {
        Err(reason) if scratch.kinds != NO_STATE || matches!(reason, Reason::TlsIncomplete) => {
            return Ok(Outcome { reason, action: next::CONNECTED });
        }
        Err(reason) if is_nameless(reason) && is_sampled(scratch) => {
            return Ok(Outcome { reason, action: next::SEARCH });
        }
        Err(reason) => return Err(reason),
        // Its name is known; what comes behind it is no part of a hello.
        Ok(()) if scratch.kinds != NO_STATE => {
            identify(&way.packet, scratch)?;
            finish(scratch);
        }
        Ok(()) => {}
    }
    Ok(Outcome::ACT)
}

/// See [`seam::tls_connected`].
#[inline(always)]
pub fn connected_seam(context: *mut xdp_md, alone: u32) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| follow(&mut way, reason(alone))))
}

/// Goes on with a segment that came to `alone` by itself.
#[inline(always)]
fn follow(way: &mut Way, alone: Reason) -> Result<Outcome, Reason> {
    // SAFETY: as in `segment`.
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

/// Finds the name in this segment, and judges it.
#[inline(always)]
fn whole(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    scratch.begun = begun::EXTENSION;
    to_server_name(way);
    if scratch.end != GOING_ON {
        return Err(stopped(scratch.end));
    }
    scratch.begun = begun::SERVER_NAME;
    scratch.name = scratch.extensions.host_name(&Whole(way.packet), &scratch.server_name)?;
    listed::<Whole>(way)?;
    to_server_name(way);
    if scratch.end == GOING_ON { Err(Reason::TlsSniDuplicate) } else { lookup::decide(way, Protocol::Tls) }
}

/// Looks up the name in [`Scratch::name`]; `Ok` if orders name it. That it is a host name need not be known of others.
#[inline(always)]
fn listed<V: View>(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    lookup::name::<V, Dots>(way, Walk::sni(&scratch.name))?;
    scratch.host = HostCheck::new(&scratch.name);
    scratch.end = Reason::TlsSniInvalid as u32;
    // SAFETY: it is live.
    if !unsafe { host_words::<V>(way) } {
        repeat(HOST_STEPS.div_ceil(EIGHTS), host::<V>, way);
    }
    if scratch.end != GOING_ON { Err(Reason::TlsSniInvalid) } else { Ok(()) }
}

/// See [`seam::held_name`].
#[inline(always)]
pub fn held_seam(context: *mut xdp_md) -> u32 {
    seam::encode(seam::way(context).and_then(|mut way| listed::<Held>(&mut way)))
}

/// Looks up a host name that is held, and chooses among its orders.
#[inline(always)]
pub fn judge_held(way: &Way, protocol: Protocol) -> Result<(), Reason> {
    look_up_held(way)?;
    lookup::decide(way, protocol)
}

/// Looks up a host name that is held.
#[inline(always)]
pub fn look_up_held(way: &Way) -> Result<(), Reason> {
    // SAFETY: the context is the program's.
    seam::decode(unsafe { seam::held_name(way.packet.raw()) })
}

/// Judges a segment by what is known of its flow. `alone` is what it came to by itself.
#[inline(always)]
fn connected(way: &mut Way, alone: Reason) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
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

/// Whether a hello that came to this has no name, or one that is in no order.
#[inline(always)]
fn is_nameless(reason: Reason) -> bool {
    matches!(reason, Reason::NotListed | Reason::TlsNoSni)
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
    // SAFETY: as in `segment`.
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
    // SAFETY: as in `segment`.
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
    // SAFETY: as in `segment`.
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
fn is_sampled(scratch: &mut Scratch) -> bool {
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
    // SAFETY: as in `segment`.
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

/// The reasons that reading a hello can end with.
#[inline(always)]
fn stopped(end: u32) -> Reason {
    const NO_SNI: u32 = Reason::TlsNoSni as u32;
    const NOT_HELLO: u32 = Reason::TlsNotHello as u32;
    const INCOMPLETE: u32 = Reason::TlsIncomplete as u32;
    const EXTENSIONS: u32 = Reason::TlsExtensions as u32;
    const INVALID: u32 = Reason::TlsSniInvalid as u32;
    match end {
        NO_SNI => Reason::TlsNoSni,
        NOT_HELLO => Reason::TlsNotHello,
        INCOMPLETE => Reason::TlsIncomplete,
        EXTENSIONS => Reason::TlsExtensions,
        INVALID => Reason::TlsSniInvalid,
        _ => Reason::TlsMalformed,
    }
}

/// Goes through the extensions, up to the next server_name.
#[inline(always)]
fn to_server_name(way: &mut Way) {
    // SAFETY: as in `segment`.
    unsafe { (*way.scratch).end = Reason::TlsExtensions as u32 };
    // SAFETY: it is live.
    if !unsafe { some_extensions(way) } {
        repeat(MAX_EXTENSIONS / EXTENSIONS - 1, extensions, way);
    }
}

/// See [`some_extensions`].
unsafe extern "C" fn extensions(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    unsafe { some_extensions(way) }.into()
}

/// Extensions that are read in a row.
const EXTENSIONS: u32 = 4;

/// Reads some extensions; whether that is all.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn some_extensions(way: *mut Way) -> bool {
    turns(EXTENSIONS.into(), way, |way| {
        // SAFETY: as the caller promises.
        let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
        match scratch.extensions.step(&Whole(packet)) {
            Step::More => false,
            Step::ServerName(name) => {
                scratch.server_name = name;
                scratch.end = GOING_ON;
                true
            }
            Step::Stop(reason) => {
                scratch.end = reason as u32;
                true
            }
        }
    })
}

/// Goes on in a hello in progress, up to the end of its name.
#[inline(always)]
fn read_on(way: &mut Way) {
    // SAFETY: as in `segment`.
    unsafe { (*way.scratch).end = Reason::TlsExtensions as u32 };
    repeat(stream::STEPS / FIELDS, fields, way);
}

/// Fields that are read in one call: few, since the verifier takes long over one.
const FIELDS: u32 = 2;

/// Reads some fields of a hello in progress, or skips.
unsafe extern "C" fn fields(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extensions`.
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

/// See [`host_words`].
unsafe extern "C" fn host<V: View>(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extensions`.
    unsafe { host_words::<V>(way) }.into()
}

/// Words of a name that are checked in a row.
const EIGHTS: u32 = 4;

/// Checks some octets of the name; whether that is all.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn host_words<V: View>(way: *mut Way) -> bool {
    turns(EIGHTS.into(), way, |way| {
        // SAFETY: as the caller promises.
        let (view, scratch) = unsafe { (V::of(way), &mut *(*way).scratch) };
        let is_good = scratch.host.step(&view);
        if is_good == Some(true) {
            scratch.end = GOING_ON;
        }
        is_good.is_some()
    })
}
