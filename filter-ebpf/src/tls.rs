//! ClientHellos that begin in this segment.

use filter_common::{
    tls::{MAX_EXTENSIONS, Step},
    verdict::{Protocol, Reason},
    walk::{HOST_STEPS, HostCheck, STEPS, Step as WalkStep, Walk},
};

use crate::{
    act,
    filter::Outcome,
    lookup::{self, Way},
    maps::{GOING_ON, HASH_KEY, Scratch},
    packet::{Packet, repeat},
};

/// Finds the server name, looks it up, and acts.
#[inline(always)]
pub fn hello(packet: &Packet, scratch: &mut Scratch) -> Result<Outcome, Reason> {
    let key = HASH_KEY.get_ptr(0).ok_or(Reason::TableBroken)?;
    let mut way = Way { packet: *packet, scratch, key };

    scratch.end = Reason::TlsExtensions as u32;
    repeat(MAX_EXTENSIONS, extension, &mut way);
    if scratch.end != GOING_ON {
        return Err(stopped(scratch.end));
    }
    scratch.name = scratch.extensions.host_name(packet, &scratch.server_name)?;

    lookup::begin(scratch, Walk::sni(&scratch.name));
    scratch.end = GOING_ON;
    repeat(STEPS, word, &mut way);
    if scratch.end != GOING_ON {
        return Err(Reason::TlsSniInvalid);
    }
    lookup::listed(scratch)?;
    only_host_name(&mut way)?;
    lookup::decide(&mut way, Protocol::Tls)?;
    act::tls(&mut way)
}

/// What need not be known of a name that is not listed: that it is a host name, and the only one of the hello.
#[inline(always)]
fn only_host_name(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.host = HostCheck::new(&scratch.name);
    scratch.end = Reason::TlsSniInvalid as u32;
    repeat(HOST_STEPS, host, way);
    if scratch.end != GOING_ON {
        return Err(Reason::TlsSniInvalid);
    }
    scratch.end = Reason::TlsExtensions as u32;
    repeat(MAX_EXTENSIONS, extension, way);
    if scratch.end == GOING_ON { Err(Reason::TlsSniDuplicate) } else { Ok(()) }
}

/// The reasons that reading extensions can end with.
#[inline(always)]
fn stopped(end: u32) -> Reason {
    const NO_SNI: u32 = Reason::TlsNoSni as u32;
    const INCOMPLETE: u32 = Reason::TlsIncomplete as u32;
    const RECORD_SPLIT: u32 = Reason::TlsRecordSplit as u32;
    const EXTENSIONS: u32 = Reason::TlsExtensions as u32;
    match end {
        NO_SNI => Reason::TlsNoSni,
        INCOMPLETE => Reason::TlsIncomplete,
        RECORD_SPLIT => Reason::TlsRecordSplit,
        EXTENSIONS => Reason::TlsExtensions,
        _ => Reason::TlsMalformed,
    }
}

/// Reads one extension.
unsafe extern "C" fn extension(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    match scratch.extensions.step(&packet) {
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

/// Takes up to eight octets of the name into the hash.
unsafe extern "C" fn word(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extension`.
    let (packet, scratch, key) = unsafe { ((*way).packet, &mut *(*way).scratch, &*(*way).key) };
    match scratch.walk.step_sni(&packet, key) {
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
unsafe extern "C" fn host(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `extension`.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    match scratch.host.step(&packet) {
        None => 0,
        Some(good) => {
            if good {
                scratch.end = GOING_ON;
            }
            1
        }
    }
}
