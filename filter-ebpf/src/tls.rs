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
    filter::{Outcome, next, scratch},
    flow::{find, finish, identify},
    hello::is_sampled,
    lookup::{self, Dots, View, Way},
    maps::{GOING_ON, NO_STATE, SETTINGS, Scratch},
    packet::{Held, Octets, Packet, Whole, repeat, turns},
    seam,
    sieve::{self, Sifted},
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
    let at_once = Octets::up_to(&way.packet, scratch.payload.end)
        .and_then(|octets| Extensions::name_at_once(&octets, &scratch.payload));
    if let Some((extensions, server_name, name)) = at_once {
        scratch.extensions = extensions;
        scratch.server_name = server_name;
        scratch.name = name;
        find(&way.packet, scratch)?;
        scratch.begun = begun::SERVER_NAME;
        return Ok(begins(scratch));
    }
    let begun = Extensions::begin(&Whole(way.packet), &scratch.payload);
    find(&way.packet, scratch)?;
    if let Err(Reason::TlsNotHello) = begun
        && scratch.kinds == NO_STATE
    {
        return Err(Reason::TlsNotHello);
    }
    scratch.begun = begun::HEAD;
    let judged = match begun {
        Ok(extensions) => {
            scratch.extensions = extensions;
            named(way)
        }
        Err(reason) => Err(reason),
    };
    match judged {
        Ok(()) => Ok(begins(scratch)),
        Err(reason) => {
            begins(scratch);
            passing(scratch, reason)
        }
    }
}

/// Nothing is held of this segment's hello yet; its name is to be judged.
#[inline(always)]
fn begins(scratch: &mut Scratch) -> Outcome {
    scratch.is_held = 0;
    scratch.goes_on = 0;
    Outcome::NAME
}

/// What a segment comes to that is to pass for this reason, as far as it is judged by itself.
#[inline(always)]
fn passing(scratch: &mut Scratch, reason: Reason) -> Result<Outcome, Reason> {
    if scratch.kinds != NO_STATE || matches!(reason, Reason::TlsIncomplete) {
        Ok(Outcome { reason, action: next::CONNECTED })
    } else if is_nameless(reason) && is_sampled(scratch) {
        Ok(Outcome { reason, action: next::SEARCH })
    } else {
        Err(reason)
    }
}

/// Finds the name in this segment.
#[inline(always)]
fn named(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    scratch.begun = begun::EXTENSION;
    to_server_name(way);
    if scratch.end != GOING_ON {
        return Err(stopped(scratch.end));
    }
    scratch.begun = begun::SERVER_NAME;
    scratch.name = scratch.extensions.host_name(&Whole(way.packet), &scratch.server_name)?;
    Ok(())
}

/// See [`seam::tls_name`].
#[inline(always)]
pub fn name_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(name(context))
}

/// Takes the name that was found through the filter, where that can be done in one go: most hellos end here.
#[inline(always)]
fn name(context: *mut xdp_md) -> Result<Outcome, Reason> {
    let scratch = scratch()?;
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    if sieve::host(&Packet::new(context), scratch, settings).is_none() {
        scratch.sifted = Sifted::UNKNOWN;
    }
    if scratch.sifted.is_none() { passing(scratch, Reason::NotListed) } else { Ok(Outcome::SIFTED) }
}

/// See [`seam::tls_sifted`].
#[inline(always)]
pub fn sifted_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| sifted(&mut way)))
}

/// Judges a name that the filter lets through, or did not read.
#[inline(always)]
fn sifted(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    if let Err(reason) = whole(way) {
        return passing(scratch, reason);
    }
    // Its name is known; what comes behind it is no part of a hello.
    if scratch.kinds != NO_STATE {
        identify(&way.packet, scratch)?;
        finish(scratch);
    }
    Ok(Outcome::ACT)
}

/// Judges the name in this segment.
#[inline(always)]
fn whole(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    listed::<Whole>(way, scratch.sifted.is_unknown())?;
    to_server_name(way);
    if scratch.end == GOING_ON { Err(Reason::TlsSniDuplicate) } else { choose::decide(way, Protocol::Tls) }
}

/// Looks up the name in [`Scratch::name`]; `Ok` if orders name it. That it is a host name need not be known of others.
/// What the filter lets through of it is known unless it `is_new`.
#[inline(always)]
fn listed<V: View>(way: &mut Way, is_new: bool) -> Result<(), Reason> {
    // SAFETY: as in `segment`.
    let scratch = unsafe { &mut *way.scratch };
    let walk = Walk::sni(&scratch.name);
    if is_new {
        lookup::filtered::<V, Dots>(way, &walk)?;
    }
    lookup::exact::<V, Dots>(way, walk)?;
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
    seam::encode(seam::way(context).and_then(|mut way| listed::<Held>(&mut way, true)))
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
