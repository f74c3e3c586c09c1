//! What becomes of a packet that an order holds for.

use aya_ebpf::bindings::{
    xdp_action::{XDP_DROP, XDP_REDIRECT, XDP_TX},
    xdp_md,
};
use filter_common::{
    answer::{self, Composed, MAX_TTL, Reply, TRANSPORT},
    bytes::Bytes,
    frame,
    layout::{Order, Target},
    verdict::{Action, Protocol, Reason, Verdict},
};

use crate::{
    dns, event,
    filter::{self, Outcome},
    lookup::Way,
    maps::{Bucket, ORDERS, OWN_ADDRESSES, SETTINGS, Scratch, TARGET_DEVICES, TARGETS},
    packet::{Packet, octets, repeat, sum},
    seam,
};

/// Acts on a DNS query over UDP.
#[inline(always)]
pub fn dns(way: &mut Way) -> Result<Outcome, Reason> {
    act(way, true, |way, scratch, order| {
        repeat(dns::RECORD_STEPS, dns::record, way);
        answer(&way.packet, scratch, order)
    })
}

/// Acts on a packet of a connection.
#[inline(always)]
fn connection(way: &mut Way) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let protocol = unsafe { (*way.scratch).asker.protocol() };
    act(way, protocol == Protocol::Dns as u8, |way, scratch, _order| {
        // Nothing that a QUIC client would take as an answer can be sent without its keys.
        if protocol == Protocol::Quic as u8 { Err(Reason::Dropped) } else { reset(&way.packet, scratch) }
    })
}

/// See [`seam::act_connection`].
#[inline(always)]
pub fn connection_seam(context: *mut xdp_md) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| connection(&mut way)))
}

/// Acts, and reports it; `back` sends something back. `wire` is the form of the name.
#[inline(always)]
fn act(
    way: &mut Way,
    wire: bool,
    back: impl FnOnce(&mut Way, &mut Scratch, &Order) -> Result<Reason, Reason>,
) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let order = ORDERS.get(scratch.choice.entry.order).ok_or(Reason::TableBroken)?;
    let noted = event::note(&way.packet, scratch, wire);
    let outcome = match plain(&way.packet, scratch, order) {
        Some(outcome) => outcome,
        None => match back(way, scratch, order) {
            Ok(reason) => Outcome { reason, action: XDP_TX },
            Err(reason) => Outcome::of(reason),
        },
    };
    if noted {
        event::send(scratch, outcome.reason);
    }
    Ok(outcome)
}

/// The actions that are the same for every protocol; `None` for those that send something back.
#[inline(always)]
fn plain(packet: &Packet, scratch: &mut Scratch, order: &Order) -> Option<Outcome> {
    const OBSERVE: u8 = Action::Observe as u8;
    const REDIRECT: u8 = Action::Redirect as u8;
    const DROP: u8 = Action::Drop as u8;
    match scratch.choice.action {
        OBSERVE => Some(Outcome::of(Reason::Observed)),
        DROP => Some(Outcome::of(Reason::Dropped)),
        REDIRECT => Some(redirect(packet, order.target)),
        _ => None,
    }
}

/// To the order's target, or its fallback.
#[inline(always)]
fn redirect(packet: &Packet, slot: u32) -> Outcome {
    let target = TARGETS.get(slot).copied().unwrap_or_default();
    // The addresses change last: the fallback may be to let the packet go on.
    if target.ready == 1
        && let Ok(action) = TARGET_DEVICES.redirect(slot, u64::from(XDP_DROP))
        && action == XDP_REDIRECT
        && readdress(packet, &target)
    {
        return Outcome { reason: Reason::Redirected, action };
    }
    Outcome::of(if target.fallback_pass == 1 { Reason::PassedNoTarget } else { Reason::DroppedNoTarget })
}

#[inline(always)]
fn readdress(packet: &Packet, target: &Target) -> bool {
    if target.rewrite == 0 {
        return true;
    }
    let mut addresses = [target.destination, target.source];
    packet.store(0, &mut addresses)
}

/// Puts the DNS answer in place of the query.
#[inline(always)]
fn answer(packet: &Packet, scratch: &mut Scratch, order: &Order) -> Result<Reason, Reason> {
    if scratch.records.edns.tsig != 0 {
        return Err(Reason::DroppedTsig);
    }
    may_answer(packet, scratch, |scratch| &mut scratch.answers)?;
    let left = order.end.saturating_sub(scratch.asker.now) / 1_000_000_000;
    let reply = Reply {
        order,
        entry: scratch.choice.entry,
        action: scratch.choice.action,
        qtype: scratch.qtype as u16,
        ttl: if left < u64::from(MAX_TTL) { left as u32 } else { MAX_TTL },
    };
    let (len, reason) = answer::message(
        packet,
        &scratch.payload,
        &scratch.question,
        &scratch.starts,
        &scratch.records.edns,
        &reply,
        &mut scratch.buffer,
    )?;
    let composed = answer::datagram(packet, &scratch.network, len, &mut scratch.buffer)?;
    send_back(packet, scratch, &composed)?;
    Ok(reason)
}

/// Puts a RST in place of the segment.
#[inline(always)]
fn reset(packet: &Packet, scratch: &mut Scratch) -> Result<Reason, Reason> {
    may_answer(packet, scratch, |scratch| &mut scratch.resets)?;
    let composed = answer::reset(packet, &scratch.network, &scratch.payload, &mut scratch.buffer)?;
    send_back(packet, scratch, &composed)?;
    Ok(Reason::Reset)
}

/// Whether anything may be sent to the packet's source at all, and now, by the tokens of `bucket`.
#[inline(always)]
fn may_answer(
    packet: &Packet,
    scratch: &mut Scratch,
    bucket: impl FnOnce(&mut Scratch) -> &mut Bucket,
) -> Result<(), Reason> {
    if scratch.network.fragment != 0 || answerable(packet, scratch) != Some(true) {
        return Err(Reason::DroppedUnanswerable);
    }
    let rate = SETTINGS.get(0).map_or(0, |settings| settings.answers_per_second);
    let now = scratch.asker.now;
    if bucket(scratch).take(now, rate) { Ok(()) } else { Err(Reason::DroppedRate) }
}

/// Not where [`frame::client`] says so, and not to the host's own addresses.
#[inline(always)]
fn answerable(packet: &Packet, scratch: &Scratch) -> Option<bool> {
    let source = frame::client(packet, &scratch.network)?;
    // SAFETY: the context is the program's.
    if scratch.network.outer != 0 && unsafe { seam::may_enter(packet.raw()) } != 0 {
        return Some(false);
    }
    Some(!is_own(source))
}

/// See [`seam::may_enter`].
#[inline(always)]
pub fn enter_seam(context: *mut xdp_md) -> u32 {
    seam::encode(seam::way(context).and_then(|way| {
        // SAFETY: `Way` refers to this CPU's scratch space.
        let end = frame::tunnel_end(&way.packet, unsafe { &(*way.scratch).network });
        if is_own(end.ok_or(Reason::DroppedUnanswerable)?) { Err(Reason::DroppedUnanswerable) } else { Ok(()) }
    }))
}

#[inline(always)]
fn is_own(address: [u64; 2]) -> bool {
    // SAFETY: an own address that is removed meanwhile is still one that was.
    unsafe { OWN_ADDRESSES.get(octets(address)) }.is_some()
}

/// See [`seam::wrap_answer`].
#[inline(always)]
pub fn wrap_seam(context: *mut xdp_md, len: u32) -> u32 {
    seam::encode(seam::way(context).and_then(|way| {
        // SAFETY: `Way` refers to this CPU's scratch space.
        let scratch = unsafe { &mut *way.scratch };
        scratch.wrap =
            answer::wrap(&way.packet, &scratch.network, len, &mut scratch.around).ok_or(Reason::DroppedUnanswerable)?;
        Ok(())
    }))
}

/// Puts the composed packet in place of the one that came, its Ethernet addresses and those of a
/// tunnel swapped, its tags and PPPoE session kept.
#[inline(always)]
fn send_back(packet: &Packet, scratch: &mut Scratch, composed: &Composed) -> Result<(), Reason> {
    // One by one: of a tuple of reads LLVM checks the first again after the last, and the verifier is lost.
    let high = packet.be32(0).ok_or(Reason::DroppedUnanswerable)?;
    let middle = packet.be32(4).ok_or(Reason::DroppedUnanswerable)?;
    let low = packet.be32(8).ok_or(Reason::DroppedUnanswerable)?;
    let sum = sum(&mut scratch.buffer, TRANSPORT, composed.end);
    composed.seal(&mut scratch.buffer, sum);
    let is_wrapped = scratch.network.is_wrapped();
    let mut at = scratch.network.l3;
    if is_wrapped {
        // SAFETY: the context is the program's.
        seam::decode(unsafe { seam::wrap_answer(packet.raw(), composed.end.wrapping_sub(composed.start)) })?;
        at = filter::scratch()?.wrap.behind();
    }
    if !packet.replace(at, &mut scratch.buffer, composed.start, composed.end) {
        return Err(Reason::DroppedSize);
    }
    if is_wrapped {
        let around = filter::scratch()?;
        if !packet.put(around.wrap.at, &mut around.around, around.wrap.start, around.wrap.end) {
            return Err(Reason::DroppedSize);
        }
    }
    // Twelve octets: destination and source, six each.
    let mut addresses = [middle << 16 | low >> 16, low << 16 | high >> 16, high << 16 | middle >> 16].map(u32::to_be);
    if packet.store(0, &mut addresses) { Ok(()) } else { Err(Reason::DroppedSize) }
}

const _: () = assert!(matches!(Reason::Reset.verdict(), Verdict::Answer));
