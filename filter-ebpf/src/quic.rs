//! QUIC datagrams. Names in Initials are encrypted: the deferred tier reads them. Here, packets of connections whose
//! name it found are judged by that name.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    bytes::Bytes,
    flow::{self, Identity},
    frame,
    layout::{HashKey, Settings, quic_mode},
    quic::{Header, kind},
    verdict::{Protocol, Reason, Tally},
};

use crate::{
    filter::Outcome,
    flow::{find, identify, may_have, recall_connection, recall_flow, supersede},
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
    let identity = find(&way.packet, scratch)?;
    let short = scratch.quic.kind == kind::SHORT;
    if short && !may_have(scratch, flow::REMEMBERED) {
        return Err(Reason::QuicShort);
    }
    identify(&way.packet, scratch, &identity)?;
    if !short {
        let key = HASH_KEY.get(0).ok_or(Reason::TableBroken)?;
        connect(&way.packet, scratch, &identity, key).ok_or(Reason::QuicMalformed)?;
    }
    if may_have(scratch, flow::REMEMBERED) {
        let recalled = if short { recall_flow(scratch) } else { recall_connection(scratch) };
        // SAFETY: the context is the program's.
        if recalled && unsafe { seam::held_name(way.packet.raw(), Protocol::Quic as u32) } == 0 {
            // SAFETY: as above.
            return Ok(seam::decode_outcome(unsafe { seam::act_connection(way.packet.raw()) }));
        }
    }
    if short {
        return Err(Reason::QuicShort);
    }
    undecided(way)
}

/// Computes the connection's key: the client's source connection id is the one in what the client sends.
#[inline(always)]
fn connect(packet: &Packet, scratch: &mut Scratch, identity: &Identity, key: &HashKey) -> Option<()> {
    let len = scratch.quic.scid_len;
    let end = scratch.quic.scid + len;
    // From the end: before it there are more than 24 octets, but perhaps none behind.
    let id = [part(packet, end, len)?, part(packet, end - 8, len.saturating_sub(8))?, {
        part(packet, end - 16, len.saturating_sub(16))?
    }];
    let link = frame::link_words(packet, &scratch.network)?;
    scratch.connection = identity.connection(&link, id, len, key);
    Some(())
}

/// The last `len` octets, eight at most, before `end`.
#[inline(always)]
fn part(packet: &Packet, end: u32, len: u32) -> Option<u64> {
    let word = packet.be64(end.wrapping_sub(8))?;
    Some(if len >= 8 { word } else { word & (1_u64 << (8 * len)).wrapping_sub(1) })
}

/// A long header of a connection that is not known, or not listed.
#[inline(always)]
fn undecided(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: as in `datagram`.
    let scratch = unsafe { &mut *way.scratch };
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    let holds = settings.quic_mode == quic_mode::HOLD;
    // SAFETY: only whether it is there counts.
    if holds && unsafe { CLEARED.get(&scratch.connection) }.is_some() {
        return Err(Reason::QuicCleared);
    }
    let header = scratch.quic;
    if !header.has_initial(&way.packet, scratch.payload.end) {
        return Err(if holds && header.kind == kind::ZERO_RTT { Reason::QuicHeld } else { Reason::QuicOther });
    }
    if may_have(scratch, flow::REMEMBERED) {
        supersede(scratch);
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
