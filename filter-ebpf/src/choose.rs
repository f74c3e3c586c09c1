//! From a policy to the order that decides: those that hold for this client, protocol and time; the strongest action.

use aya_ebpf::{bindings::xdp_md, maps::lpm_trie::Key};
use filter_common::{
    bytes::Bytes,
    frame::{self, Source},
    layout::{POLICY_NONE, SCOPE_ALL},
    verdict::{Asker, Choice, Protocol, Reason},
};

use crate::{
    clock,
    lookup::Way,
    maps::{HITS, ORDERS, POLICIES, SCOPES_V4, SCOPES_V6, Scratch},
    packet::{Packet, octets, repeat},
    seam,
};

/// Weighs these orders, and counts the packet as theirs. `Ok` if one holds; it is in [`Scratch::choice`].
#[inline(always)]
pub fn decide(way: &Way, protocol: Protocol) -> Result<(), Reason> {
    // SAFETY: the context is the program's.
    seam::decode(unsafe { seam::choose_order(way.packet.raw(), protocol as u32) })
}

/// As [`decide`], of a packet that may be another connection's: it is not counted.
#[inline(always)]
pub fn weigh(way: &Way, protocol: Protocol) -> Result<(), Reason> {
    // SAFETY: as in `decide`.
    seam::decode(unsafe { seam::choose_order(way.packet.raw(), protocol as u32 | UNCOUNTED) })
}

/// Beside a protocol's code.
const UNCOUNTED: u32 = 1 << 8;

/// See [`seam::choose_order`].
#[inline(always)]
pub fn choose_seam(context: *mut xdp_md, protocol: u32) -> u32 {
    const DNS: u32 = Protocol::Dns as u32;
    const TLS: u32 = Protocol::Tls as u32;
    let is_uncounted = protocol & UNCOUNTED != 0;
    let protocol = match protocol & !UNCOUNTED {
        DNS => Protocol::Dns,
        TLS => Protocol::Tls,
        _ => Protocol::Quic,
    };
    seam::encode(seam::way(context).and_then(|mut way| choose(&mut way, protocol, is_uncounted)))
}

#[inline(always)]
fn choose(way: &mut Way, protocol: Protocol, is_uncounted: bool) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let now = clock::now(scratch);
    scratch.asker = Asker::new(SCOPE_ALL, protocol, now);
    scratch.has_scopes = 0;
    scratch.choice = Choice::NONE;
    scratch.entry = 0;
    scratch.is_uncounted = is_uncounted.into();
    // Most names have one order.
    // SAFETY: it is live.
    if !unsafe { entry(way) } {
        repeat(MAX_ENTRIES, consider, way);
    }
    if scratch.choice.action == 0 {
        return Err(scratch.choice.passed());
    }
    if !is_uncounted && let Some(hits) = HITS.get_ptr_mut(scratch.choice.entry.order) {
        // SAFETY: this CPU's counter.
        unsafe { (*hits).decided += 1 };
    }
    Ok(())
}

/// Adds the scopes of the client to those of everyone, unless they are there: most orders do not ask for them.
#[inline(always)]
pub fn add_scopes(packet: &Packet, scratch: &mut Scratch) {
    if scratch.has_scopes == 0 {
        scratch.has_scopes = 1;
        scratch.asker.scopes |= scopes(packet, scratch).unwrap_or(0);
    }
}

/// Scope bits of the client.
#[inline(always)]
fn scopes(packet: &Packet, scratch: &Scratch) -> Option<u64> {
    let Source { at, version } = frame::scope_source(&scratch.network);
    if version == 4 {
        let address = packet.be32(at + 12)?;
        SCOPES_V4.get(Key::new(32, address.to_be_bytes())).copied()
    } else {
        let address = [packet.be64(at + 8)?, packet.be64(at + 16)?];
        SCOPES_V6.get(Key::new(128, octets(address))).copied()
    }
}

/// See [`entry`].
unsafe extern "C" fn consider(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    unsafe { entry(way) }.into()
}

/// Weighs one entry of the policy, or goes on to its next slot; whether there is no more.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn entry(way: *mut Way) -> bool {
    // SAFETY: as the caller promises.
    let (packet, scratch) = unsafe { ((*way).packet, &mut *(*way).scratch) };
    let Some(policy) = POLICIES.get(scratch.slot) else { return true };
    if scratch.entry >= policy.len {
        scratch.slot = policy.next;
        scratch.entry = 0;
        return policy.next == POLICY_NONE;
    }
    let Some(entry) = policy.entries.get(scratch.entry as usize) else { return true };
    scratch.entry += 1;
    let is_last = scratch.entry >= policy.len && policy.next == POLICY_NONE;
    let Some(order) = ORDERS.get(entry.order) else { return is_last };
    if order.scopes & SCOPE_ALL == 0 {
        add_scopes(&packet, scratch);
    }
    let asker = scratch.asker;
    if scratch.choice.consider(*entry, order, &asker)
        && scratch.is_uncounted == 0
        && let Some(hits) = HITS.get_ptr_mut(entry.order)
    {
        // SAFETY: this CPU's counter.
        unsafe { (*hits).concerned += 1 };
    }
    is_last
}

/// The most orders at one name, and the slots that hold them.
const MAX_ENTRIES: u32 = 1 << 16;
