//! QUIC datagrams. Names in Initials are encrypted: the deferred tier reads them. Here, packets of connections whose
//! name it found are judged by that name.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    flow, frame,
    layout::{CLEARED_AGE, HashKey, PORT_ENCRYPTED_DNS, PORT_QUIC, Settings, quic_mode},
    quic::{Header, id_words, kind},
    verdict::{Action, Protocol, Reason, Tally},
};

use crate::{
    choose::weigh,
    clock,
    filter::Outcome,
    flow::{Recalled, find, identify, may_have, recall_connection, recall_flow},
    lookup::Way,
    maps::{CLEARED, HASH_KEY, REMEMBERED, SETTINGS, Scratch, tally},
    packet::Packet,
    seam,
    tcp::goes_to_resolver,
    tier,
    tls::{judge_held, look_up_held},
};

/// See [`seam::quic_datagram`].
#[inline(always)]
pub fn datagram_seam(context: *mut xdp_md, roles: u32) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| datagram(&mut way, roles as u8)))
}

#[inline(always)]
fn datagram(way: &mut Way, roles: u8) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let read = read(way);
    if roles & PORT_ENCRYPTED_DNS != 0 && read.is_ok() && scratch.quic.kind == kind::INITIAL {
        tally(Tally::Doq);
    }
    if roles & PORT_QUIC == 0 {
        return Err(Reason::NotWatched);
    }
    let unknown = read?;
    let short = scratch.quic.kind == kind::SHORT;
    if roles & PORT_ENCRYPTED_DNS == 0
        && scratch.quic.kind == kind::INITIAL
        && goes_to_resolver(&way.packet, &scratch.network) == Some(true)
    {
        tally(Tally::DohQuic);
    }
    find(&way.packet, scratch)?;
    if short && !may_have(scratch, flow::REMEMBERED) {
        return Err(unknown);
    }
    identify(&way.packet, scratch)?;
    if !short {
        let key = HASH_KEY.get(0).ok_or(Reason::TableBroken)?;
        connect(&way.packet, scratch, key).ok_or(Reason::QuicMalformed)?;
    }
    let mut is_known = false;
    if may_have(scratch, flow::REMEMBERED) {
        let recalled = match short {
            true if recall_flow(&way.packet, scratch) => Recalled::Yes,
            true => Recalled::No,
            false => recall_connection(&way.packet, scratch),
        };
        let stops = match recalled {
            Recalled::No => false,
            Recalled::Yes => judge_held(way, Protocol::Quic).is_ok(),
            Recalled::Doubtful => look_up_held(way).is_ok() && weigh(way, Protocol::Quic).is_ok(),
        };
        if stops && recalled == Recalled::Yes {
            return Ok(Outcome::ACT);
        }
        // What is not the connection's passes once the deferred tier has said so.
        let tells = scratch.quic.kind == kind::INITIAL || scratch.quic.kind == kind::HANDSHAKE;
        if stops && tells && scratch.choice.action != Action::Observe as u8 {
            return Err(doubtful(way)?);
        }
        is_known = recalled != Recalled::No && (!stops || scratch.choice.action == Action::Observe as u8);
    }
    if short {
        return Err(unknown);
    }
    undecided(way, is_known)
}

/// Reads the header of the packet that speaks for its datagram: an Initial, whatever lies before it. Gives what a short
/// header counts as where its connection is not known.
#[inline(always)]
fn read(way: &Way) -> Result<Reason, Reason> {
    // SAFETY: as in `datagram`.
    let scratch = unsafe { &mut *way.scratch };
    scratch.payload = frame::udp(&way.packet, &scratch.network)?;
    scratch.quic = match Header::read(&way.packet, &scratch.payload) {
        Err(Reason::QuicNotQuic) => {
            scratch.quic = Header::greased(&way.packet, &scratch.payload).ok_or(Reason::QuicNotQuic)?;
            return Ok(Reason::QuicNotQuic);
        }
        read => read?,
    };
    if scratch.quic.kind != kind::SHORT
        && let Some(initial) = scratch.quic.initial(&way.packet, scratch.payload.end)
    {
        scratch.quic = initial;
    }
    Ok(Reason::QuicShort)
}

/// Computes the connection's key: the client's source connection id is the one in what the client sends.
#[inline(always)]
fn connect(packet: &Packet, scratch: &mut Scratch, key: &HashKey) -> Option<()> {
    let len = scratch.quic.scid_len;
    let id = id_words(packet, scratch.quic.scid + len, len)?;
    scratch.connection = flow::connection(&scratch.flow, id, len, key);
    Some(())
}

/// A packet of a client without a source id of its own that may be of the connection whose name would stop it.
#[inline(always)]
fn doubtful(way: &mut Way) -> Result<Reason, Reason> {
    // SAFETY: as in `datagram`.
    let scratch = unsafe { &mut *way.scratch };
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    let reason = initial(way, settings, true);
    let stays = reason == Reason::QuicHeld || reason == Reason::QuicRefused;
    if !stays && scratch.quic.kind == kind::INITIAL {
        // A connection that the deferred tier has not seen begin must not be taken for the one that is remembered.
        let _ = REMEMBERED.remove(&scratch.connection);
    }
    Ok(reason)
}

/// A long header of a connection that is not known, or not stopped; `is_known` says that its name is.
#[inline(always)]
fn undecided(way: &mut Way, is_known: bool) -> Result<Outcome, Reason> {
    // SAFETY: as in `datagram`.
    let scratch = unsafe { &mut *way.scratch };
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    let holds = settings.quic_mode == quic_mode::HOLD;
    let is_cleared = is_known || holds && is_cleared(scratch);
    match scratch.quic.kind {
        kind::INITIAL => {}
        kind::ZERO_RTT if holds && !is_cleared => return Err(Reason::QuicHeld),
        // All that shows the server's id, where the client has none and sends no second Initial.
        kind::HANDSHAKE if scratch.quic.scid_len == 0 && !is_cleared => {
            tier::copy(way, Protocol::Quic, false);
            return Err(Reason::QuicOther);
        }
        _ => return Err(Reason::QuicOther),
    }
    if holds && is_cleared {
        // It may begin another connection under the same ids.
        tier::copy(way, Protocol::Quic, false);
        return Err(Reason::QuicCleared);
    }
    Err(initial(way, settings, holds))
}

/// Whether the deferred tier has found the connection not listed.
#[inline(always)]
fn is_cleared(scratch: &mut Scratch) -> bool {
    // SAFETY: a time. One that is written meanwhile is as good.
    let Some(cleared) = (unsafe { CLEARED.get(&scratch.connection) }) else { return false };
    clock::now(scratch).saturating_sub(*cleared) <= CLEARED_AGE
}

#[inline(always)]
fn initial(way: &mut Way, settings: &Settings, holds: bool) -> Reason {
    if settings.quic_mode == quic_mode::DROP {
        return Reason::QuicRefused;
    }
    match tier::copy(way, Protocol::Quic, holds) {
        Tally::Copied if holds => Reason::QuicHeld,
        Tally::Copied => Reason::QuicCopied,
        _ if settings.quic_fallback != quic_mode::PASS => Reason::QuicRefused,
        Tally::NoTier => Reason::QuicNoTier,
        Tally::OverBudget => Reason::QuicOverBudget,
        _ => Reason::QuicRingFull,
    }
}
