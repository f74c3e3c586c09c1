//! Sampled events: what was met, by which rule, for which scopes. Whether they fit never changes a verdict.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use filter_common::{
    bytes::Bytes,
    dns::HEADER,
    frame::{self, Source},
    layout::{Event, client_detail},
    verdict::Reason,
};

use crate::{
    choose,
    maps::{EVENTS, SETTINGS, Scratch},
    packet::{Packet, copy_name, octets},
};

/// Notes what would be gone after the action, if this packet is to be reported at all.
#[inline(always)]
pub fn note(packet: &Packet, scratch: &mut Scratch, wire: bool) -> bool {
    let Some(settings) = SETTINGS.get(0) else { return false };
    let now = scratch.asker.now;
    if !scratch.events.take(now, settings.events_per_second) {
        return false;
    }
    let len = scratch.name.end.wrapping_sub(scratch.name.start) & 0xff;
    choose::add_scopes(packet, scratch);
    scratch.event.time = now;
    scratch.event.scopes = scratch.asker.scopes;
    scratch.event.order = scratch.choice.entry.order;
    scratch.event.client = client(packet, scratch, settings.client_detail);
    scratch.event.interface = packet.interface();
    scratch.event.depth = scratch.choice.entry.depth;
    scratch.event.protocol = scratch.asker.protocol();
    scratch.event.name_len = len as u8;
    scratch.event.wire = u8::from(wire);
    if len == 0 {
        return true;
    }
    if scratch.is_held == 1 {
        return copy_held(scratch);
    }
    packet.copy_name(scratch.name.start, len, &mut scratch.event.name)
}

/// The name that is held: behind the header of a message, or from the start.
#[inline(always)]
fn copy_held(scratch: &mut Scratch) -> bool {
    let from = if scratch.event.wire == 1 { HEADER as usize } else { 0 };
    let Some(name) = scratch.stream.held.get(from..).and_then(|rest| rest.first_chunk()) else { return false };
    copy_name(name, &mut scratch.event.name);
    true
}

/// The client's address, cut as configured.
#[inline(always)]
fn client(packet: &Packet, scratch: &Scratch, detail: u32) -> [u8; 16] {
    let Source { at, version } = frame::scope_source(&scratch.network);
    if detail == client_detail::NONE {
        return [0; 16];
    }
    let full = detail == client_detail::FULL;
    let (high, low) = if version == 4 {
        let address = u64::from(packet.be32(at + 12).unwrap_or(0));
        (0, 0xffff_0000_0000 | if full { address } else { address & 0xffff_ff00 })
    } else {
        let high = packet.be64(at + 8).unwrap_or(0);
        let low = packet.be64(at + 16).unwrap_or(0);
        if full { (high, low) } else { (high & 0xffff_ffff_ff00_0000, 0) }
    };
    octets([high, low])
}

/// Hands the noted event over with the reason; where the ring is full it is left out.
#[inline(always)]
pub fn send(scratch: &mut Scratch, reason: Reason) {
    scratch.event.reason = reason as u32;
    // Readers poll: a wake-up would cost more than all the rest.
    let _ = EVENTS.output::<Event>(&scratch.event, u64::from(BPF_RB_NO_WAKEUP));
}
