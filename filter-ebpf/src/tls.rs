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
    stream::{self, Place, Segment, place},
    tls::{Extensions, MAX_EXTENSIONS, Step},
    verdict::{Action, Protocol, Reason},
    walk::{HOST_STEPS, HostCheck, STEPS, Step as WalkStep, Walk},
};

use crate::{
    filter::{Outcome, reason},
    flow::{find, finish, identify, keep, marked, may_have, recall, remember, resume},
    lookup::{self, View, Way},
    maps::{GOING_ON, NO_STATE, Scratch},
    packet::{Held, Whole, repeat},
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
    scratch.begun = begun::HEAD;
    let mut judged = match begun {
        Ok(extensions) => {
            scratch.extensions = extensions;
            whole(way)
        }
        Err(reason) => Err(reason),
    };
    if scratch.kinds != NO_STATE || matches!(judged, Err(Reason::TlsIncomplete)) {
        identify(&way.packet, scratch)?;
        judged = match judged {
            // Its name is known; what comes behind it is no part of a hello.
            Ok(()) => {
                finish(scratch);
                Ok(())
            }
            Err(reason) => {
                // SAFETY: the context is the program's.
                let code = unsafe { seam::tls_connected(way.packet.raw(), reason as u32) };
                match seam::decode(code) {
                    Err(other) if is_part(reason) => Err(other),
                    Err(_) => Err(reason),
                    Ok(()) => Ok(()),
                }
            }
        };
    }
    judged?;
    // SAFETY: the context is the program's.
    Ok(seam::decode_outcome(unsafe { seam::act_connection(way.packet.raw()) }))
}

/// See [`seam::tls_connected`].
#[inline(always)]
pub fn connected_seam(context: *mut xdp_md, alone: u32) -> u32 {
    seam::encode(seam::way(context).and_then(|mut way| connected(&mut way, reason(alone))))
}

/// Finds the name in this segment, and judges it.
#[inline(always)]
fn whole(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    scratch.begun = begun::EXTENSION;
    scratch.end = Reason::TlsExtensions as u32;
    repeat(MAX_EXTENSIONS, extension, way);
    if scratch.end != GOING_ON {
        return Err(stopped(scratch.end));
    }
    scratch.begun = begun::SERVER_NAME;
    scratch.name = scratch.extensions.host_name(&Whole(way.packet), &scratch.server_name)?;
    listed::<Whole>(way)?;
    scratch.end = Reason::TlsExtensions as u32;
    repeat(MAX_EXTENSIONS, extension, way);
    if scratch.end == GOING_ON { Err(Reason::TlsSniDuplicate) } else { lookup::decide(way, Protocol::Tls) }
}

/// Looks up the name in [`Scratch::name`]; `Ok` if orders name it. That it is a host name need not be known of others.
#[inline(always)]
fn listed<V: View>(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    lookup::begin(scratch, Walk::sni(&scratch.name));
    scratch.end = GOING_ON;
    repeat(STEPS, word::<V>, way);
    if scratch.end != GOING_ON {
        return Err(Reason::TlsSniInvalid);
    }
    lookup::listed(scratch)?;
    scratch.host = HostCheck::new(&scratch.name);
    scratch.end = Reason::TlsSniInvalid as u32;
    repeat(HOST_STEPS, host::<V>, way);
    if scratch.end != GOING_ON { Err(Reason::TlsSniInvalid) } else { Ok(()) }
}

/// See [`seam::held_name`].
#[inline(always)]
pub fn held_seam(context: *mut xdp_md, protocol: u32) -> u32 {
    let judge = |mut way: Way| {
        listed::<Held>(&mut way)?;
        let protocol = if protocol == Protocol::Quic as u32 { Protocol::Quic } else { Protocol::Tls };
        lookup::decide(&mut way, protocol)
    };
    seam::encode(seam::way(context).and_then(judge))
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
    // SAFETY: the context is the program's.
    let judged = seam::decode(unsafe { seam::held_name(way.packet.raw(), Protocol::Tls as u32) });
    if recalled {
        return if judged.is_ok() { Ok(()) } else { Err(alone) };
    }
    if judged.is_err() || scratch.choice.action == Action::Observe as u8 {
        finish(scratch);
        return judged;
    }
    // A second server_name behind the first, as far as this segment shows.
    scratch.end = Reason::TlsExtensions as u32;
    repeat(stream::STEPS, octets, way);
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
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    let len = scratch.payload.end.wrapping_sub(scratch.payload.start);
    let begins = matches!(alone, Reason::TlsIncomplete);
    if resume(scratch) {
        let stream = &mut scratch.stream;
        match place(stream.base, stream.reader.next, scratch.sequence, len) {
            Place::Wanted(known) => {
                scratch.segment = Segment { at: scratch.payload.start.wrapping_add(known), end: scratch.payload.end };
            }
            Place::Known => return Err(Reason::TcpRepeated),
            Place::Gap => {
                scratch.start = stream.base;
                return Err(out_of_order(way));
            }
            // A hello elsewhere does not displace the one that the connection begins with.
            Place::Elsewhere if begins && stream.anchored == 0 => begin(way),
            Place::Elsewhere => return Err(alone),
        }
    } else {
        let mut anchored = 0;
        if !may_have(scratch, flow::STREAM)
            && scratch.kinds != NO_STATE
            && let Some(mark) = marked(scratch)
        {
            let is_first = mark.start == scratch.sequence;
            if !is_first && matches!(alone, Reason::TlsIncomplete | Reason::TlsNotHello) {
                mark.copied = 1;
                scratch.start = mark.start;
                return Err(out_of_order(way));
            }
            finish(scratch);
            anchored = u8::from(is_first);
        }
        if !begins {
            return Err(alone);
        }
        begin(way);
        scratch.stream.anchored = anchored;
    }
    scratch.end = Reason::TlsExtensions as u32;
    repeat(stream::STEPS, octets, way);
    if scratch.end == GOING_ON {
        return held_name(scratch);
    }
    if scratch.end == Reason::TlsIncomplete as u32 {
        keep(scratch);
        return Err(Reason::TlsIncomplete);
    }
    finish(scratch);
    Err(stopped(scratch.end))
}

/// The deferred tier puts segments in order.
#[inline(always)]
fn out_of_order(way: &mut Way) -> Reason {
    tier::copy(way, Protocol::Tls, false);
    Reason::TcpOutOfOrder
}

/// Goes on where the segment by itself ended too early.
#[inline(always)]
fn begin(way: &mut Way) {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    let payload = scratch.payload;
    let reader = match scratch.begun {
        begun::HEAD => StreamReader::hello(),
        begun::EXTENSION => StreamReader::at_extension(&scratch.extensions),
        _ => StreamReader::at_server_name(&scratch.extensions, &scratch.server_name),
    };
    let start = Extensions::start(&way.packet, &payload);
    scratch.stream.base = scratch.sequence.wrapping_add(start.wrapping_sub(payload.start));
    scratch.stream.copied = 0;
    scratch.stream.anchored = 0;
    scratch.segment = Segment { at: start.wrapping_add(reader.next), end: payload.end };
    scratch.stream.reader = reader;
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

/// Reads one extension.
unsafe extern "C" fn extension(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    match scratch.extensions.step(&Whole(packet)) {
        Step::More => 0,
        Step::ServerName(name) => {
            scratch.server_name = name;
            scratch.end = GOING_ON;
            1
        }
        Step::Stop(reason) => {
            scratch.end = reason as u32;
            1
        }
    }
}

/// Reads one field of a hello in progress, or skips.
unsafe extern "C" fn octets(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extension`.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    let reader = &mut scratch.stream.reader;
    match reader.step_hello(&Whole(packet), &mut scratch.segment) {
        stream::Step::More => 0,
        stream::Step::Hold { at, len, to } => {
            if !packet.hold(at, len, &mut scratch.stream.held, to) {
                scratch.end = Reason::TlsMalformed as u32;
                return 1;
            }
            let is_whole = reader.take_name();
            if is_whole {
                scratch.end = GOING_ON;
            }
            i64::from(is_whole)
        }
        stream::Step::Hungry => {
            scratch.end = Reason::TlsIncomplete as u32;
            1
        }
        stream::Step::Stop(reason) => {
            scratch.end = reason as u32;
            1
        }
    }
}

/// Takes up to eight octets of the name into the hash.
unsafe extern "C" fn word<V: View>(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extension`.
    let (view, scratch, key) = unsafe { (V::of(way), &mut *(*way).scratch, &*(*way).key) };
    match scratch.walk.step_sni(&view, key) {
        Some(WalkStep::More) => 0,
        Some(WalkStep::Label { key, last }) => {
            lookup::probe(scratch, &key);
            i64::from(last)
        }
        Some(WalkStep::Empty) | None => {
            scratch.end = Reason::TlsSniInvalid as u32;
            1
        }
    }
}

/// Checks up to eight octets of the name.
unsafe extern "C" fn host<V: View>(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extension`.
    let (view, scratch) = unsafe { (V::of(way), &mut *(*way).scratch) };
    match scratch.host.step(&view) {
        None => 0,
        Some(good) => {
            if good {
                scratch.end = GOING_ON;
            }
            1
        }
    }
}
