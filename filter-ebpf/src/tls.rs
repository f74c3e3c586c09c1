//! ClientHellos whole in their segment, and what a segment that begins or goes on with one is by itself.
//!
//! A segment that holds a whole name is judged by itself, whatever is known of its flow. Only if that stops nothing
//! does what is known count, in [`hello`](crate::hello).

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    tls::{Extensions, MAX_EXTENSIONS, Step},
    verdict::{Protocol, Reason},
    walk::{HOST_STEPS, HostCheck, Walk},
};

use crate::{
    choose,
    filter::{Outcome, next},
    flow::{find, finish, identify},
    hello::is_sampled,
    lookup::{self, Dots, View, Way},
    maps::{GOING_ON, NO_STATE},
    packet::{Held, Whole, repeat, turns},
    seam,
};

/// How far a segment by itself was read.
pub mod begun {
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
    if scratch.end == GOING_ON { Err(Reason::TlsSniDuplicate) } else { choose::decide(way, Protocol::Tls) }
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
    choose::decide(way, protocol)
}

/// Looks up a host name that is held.
#[inline(always)]
pub fn look_up_held(way: &Way) -> Result<(), Reason> {
    // SAFETY: the context is the program's.
    seam::decode(unsafe { seam::held_name(way.packet.raw()) })
}

/// Whether a hello that came to this has no name, or one that is in no order.
#[inline(always)]
pub fn is_nameless(reason: Reason) -> bool {
    matches!(reason, Reason::NotListed | Reason::TlsNoSni)
}

/// The reasons that reading a hello can end with.
#[inline(always)]
pub fn stopped(end: u32) -> Reason {
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
