//! QUIC datagrams. Names in Initials are encrypted: the deferred tier reads them. Here, packets of connections whose
//! name it found are judged by that name.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    flow, frame,
    layout::{HashKey, Settings, quic_mode},
    quic::{Header, id_words, kind},
    verdict::{Action, Protocol, Reason, Tally},
};

use crate::{
    filter::Outcome,
    flow::{Recalled, find, identify, may_have, recall_connection, recall_flow},
    lookup::Way,
    maps::{CLEARED, HASH_KEY, SETTINGS, Scratch},
    packet::Packet,
    seam, tier,
};

/// See [`seam::quic_datagram`].
#[inline(always)]
pub fn datagram_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| datagram(&mut way)))
}

#[inline(always)]
fn datagram(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.payload = frame::udp(&way.packet, &scratch.network)?;
    scratch.quic = Header::read(&way.packet, &scratch.payload)?;
    let short = scratch.quic.kind == kind::SHORT;
    // An Initial speaks for its datagram, whatever lies before it.
    if !short && let Some(initial) = scratch.quic.initial(&way.packet, scratch.payload.end) {
        scratch.quic = initial;
    }
    find(&way.packet, scratch)?;
    if short && !may_have(scratch, flow::REMEMBERED) {
        return Err(Reason::QuicShort);
    }
    identify(&way.packet, scratch)?;
    if !short {
        let key = HASH_KEY.get(0).ok_or(Reason::TableBroken)?;
        connect(&way.packet, scratch, key).ok_or(Reason::QuicMalformed)?;
    }
    if may_have(scratch, flow::REMEMBERED) {
        let recalled = match short {
            true if recall_flow(&way.packet, scratch) => Recalled::Yes,
            true => Recalled::No,
            false => recall_connection(&way.packet, scratch),
        };
        // SAFETY: the context is the program's.
        let stops =
            recalled != Recalled::No && unsafe { seam::held_name(way.packet.raw(), Protocol::Quic as u32) } == 0;
        if stops && recalled == Recalled::Yes {
            // SAFETY: as above.
            return Ok(seam::decode_outcome(unsafe { seam::act_connection(way.packet.raw()) }));
        }
        // What is not the connection's passes once the deferred tier has said so.
        if stops && scratch.quic.kind == kind::INITIAL && scratch.choice.action != Action::Observe as u8 {
            let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
            return Err(initial(way, settings, true));
        }
    }
    if short {
        return Err(Reason::QuicShort);
    }
    undecided(way)
}

/// Computes the connection's key: the client's source connection id is the one in what the client sends.
#[inline(always)]
fn connect(packet: &Packet, scratch: &mut Scratch, key: &HashKey) -> Option<()> {
    let len = scratch.quic.scid_len;
    let id = id_words(packet, scratch.quic.scid + len, len)?;
    scratch.connection = flow::connection(&scratch.flow, id, len, key);
    Some(())
}

/// A long header of a connection that is not known, or not listed.
#[inline(always)]
fn undecided(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: as in `datagram`.
    let scratch = unsafe { &mut *way.scratch };
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    let holds = settings.quic_mode == quic_mode::HOLD;
    // SAFETY: only whether it is there counts.
    let is_cleared = holds && unsafe { CLEARED.get(&scratch.connection) }.is_some();
    if scratch.quic.kind != kind::INITIAL {
        let is_early = scratch.quic.kind == kind::ZERO_RTT;
        return Err(if holds && is_early && !is_cleared { Reason::QuicHeld } else { Reason::QuicOther });
    }
    if is_cleared {
        // It may begin another connection under the same ids.
        tier::copy(way, Protocol::Quic, false);
        return Err(Reason::QuicCleared);
    }
    Err(initial(way, settings, holds))
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
