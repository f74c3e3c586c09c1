//! From a name to the order that decides: the deepest node, its policy, the strongest action.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_ktime_get_boot_ns, maps::lpm_trie::Key};
use filter_common::{
    bytes::Bytes,
    frame::{self, Source},
    layout::{HashKey, MAX_REACH, NameBucket, NameKey, NameTag, Node, POLICY_ALLOW, POLICY_NONE, SCOPE_ALL},
    verdict::{Asker, Choice, Protocol, Reason},
    walk::Walk,
};

use crate::{
    maps::{HITS, NAME_FILTER, NAMES, ORDERS, POLICIES, SCOPES_V4, SCOPES_V6, SETTINGS, Scratch, Search},
    packet::{Held, Packet, Whole, octets, repeat},
    seam,
};

/// What the steps of a loop work on.
#[repr(C)]
pub struct Way {
    /// The packet.
    pub packet: Packet,
    /// This CPU's scratch space.
    pub scratch: *mut Scratch,
    /// The installation's hash key.
    pub key: *const HashKey,
}

/// Where a name lies.
pub trait View: Bytes + Copy {
    /// Of a packet's way.
    ///
    /// # Safety
    /// The way must be live.
    unsafe fn of(way: *mut Way) -> Self;
}

impl View for Packet {
    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises.
        unsafe { (*way).packet }
    }
}

impl View for Whole {
    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Self((*way).packet) }
    }
}

impl View for Held {
    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises; it refers to this CPU's scratch space.
        unsafe { Held::of(&(*(*way).scratch).stream) }
    }
}

/// Sets out on a name.
#[inline(always)]
pub fn begin(scratch: &mut Scratch, walk: Walk) {
    scratch.walk = walk;
    scratch.node = 0;
    scratch.node_depth = 0;
    let Some(settings) = SETTINGS.get(0) else {
        scratch.depths = [0; 2];
        return;
    };
    scratch.depths = settings.depths;
    scratch.filter_mask = settings.filter_mask.into();
    scratch.buckets = settings.buckets;
}

/// Looks up one suffix of the name, the last one found being the deepest.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
pub unsafe fn probe(way: *mut Way, key: &NameKey) {
    // SAFETY: as the caller promises.
    let scratch = unsafe { &mut *(*way).scratch };
    let depth = scratch.walk.depth;
    let [low, high] = scratch.depths;
    let bits = if depth & 64 == 0 { low } else { high };
    if bits >> (depth & 63) & 1 == 0 {
        return;
    }
    let tag = key.tag();
    let after = after(scratch.node);
    let bits = tag.filter_bits();
    let word = tag.filter_word(scratch.filter_mask as u32).wrapping_add(after);
    if NAME_FILTER.get(word).is_some_and(|word| word & bits != bits) {
        return;
    }
    let home = tag.home(scratch.buckets).wrapping_add(after);
    let Some(bucket) = NAMES.get_ptr(home) else { return };
    // SAFETY: the map's memory.
    let (mut found, reach) = unsafe { (node_in(bucket, &tag), (&raw const (*bucket).reach).read_volatile()) };
    if found == 0 {
        if reach == 0 {
            return;
        }
        scratch.search = Search { tag, at: home, found: 0 };
        // SAFETY: as the caller promises.
        repeat(if reach < MAX_REACH { reach } else { MAX_REACH }, next_bucket, unsafe { &mut *way });
        found = scratch.search.found;
        if found == 0 {
            return;
        }
    }
    scratch.node = found;
    scratch.node_depth = depth;
}

/// Looks at one bucket behind a name's home.
unsafe extern "C" fn next_bucket(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let scratch = unsafe { &mut *(*way).scratch };
    let next = scratch.search.at.wrapping_add(1);
    scratch.search.at = if next < scratch.buckets { next } else { 0 };
    let Some(bucket) = NAMES.get_ptr(scratch.search.at) else { return 1 };
    let tag = scratch.search.tag;
    // SAFETY: the map's memory.
    scratch.search.found = unsafe { node_in(bucket, &tag) };
    i64::from(scratch.search.found != 0)
}

/// A name's node, if the bucket holds it; else 0.
///
/// # Safety
/// The bucket must be live.
#[inline(always)]
unsafe fn node_in(bucket: *const NameBucket, tag: &NameTag) -> u64 {
    // SAFETY: as the caller promises; the daemon writes each of these with one store.
    let NameBucket { nodes, tags, .. } = unsafe { &*bucket };
    for (node, lanes) in nodes.iter().zip(tags) {
        if *lanes == tag.lanes {
            // SAFETY: as above.
            let node = unsafe { core::ptr::from_ref(node).read_volatile() };
            if node != 0 {
                return node;
            }
        }
    }
    0
}

/// Zero, so that what is read at a place to which it was added is read after `node` was. Names are written deepest
/// first: who has met a new one must meet those below it. A CPU that reads out of order (arm64) keeps to the
/// dependency; on x86 it costs nothing.
#[inline(always)]
fn after(node: u64) -> u32 {
    let mut zero = node;
    // SAFETY: arithmetic only. LLVM would leave it out.
    unsafe { asm!("{0} ^= {0}", inout(reg) zero) };
    zero as u32
}

/// Whether the node that was found leads to orders. `Ok` if so; their policy is in [`Scratch::slot`].
#[inline(always)]
pub fn listed(scratch: &mut Scratch) -> Result<(), Reason> {
    let Some(node) = Node::from_word(scratch.node) else { return Err(Reason::NotListed) };
    scratch.slot = if scratch.node_depth == scratch.walk.depth { node.at } else { node.below };
    match scratch.slot {
        POLICY_NONE => Err(Reason::NotListed),
        POLICY_ALLOW => Err(Reason::Allowed),
        _ => Ok(()),
    }
}

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
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    scratch.asker = Asker::new(SCOPE_ALL | scopes(&way.packet, scratch).unwrap_or(0), protocol, now);
    scratch.choice = Choice::NONE;
    scratch.entry = 0;
    scratch.is_uncounted = is_uncounted.into();
    repeat(MAX_ENTRIES, consider, way);
    if scratch.choice.action == 0 {
        return Err(scratch.choice.passed());
    }
    if !is_uncounted && let Some(hits) = HITS.get_ptr_mut(scratch.choice.entry.order) {
        // SAFETY: this CPU's counter.
        unsafe { (*hits).decided += 1 };
    }
    Ok(())
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

/// Weighs one entry of the policy, or goes on to its next slot.
unsafe extern "C" fn consider(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let scratch = unsafe { &mut *(*way).scratch };
    let Some(policy) = POLICIES.get(scratch.slot) else { return 1 };
    if scratch.entry >= policy.len {
        scratch.slot = policy.next;
        scratch.entry = 0;
        return i64::from(policy.next == POLICY_NONE);
    }
    let Some(entry) = policy.entries.get(scratch.entry as usize) else { return 1 };
    scratch.entry += 1;
    let Some(order) = ORDERS.get(entry.order) else { return 0 };
    let asker = scratch.asker;
    if scratch.choice.consider(*entry, order, &asker)
        && scratch.is_uncounted == 0
        && let Some(hits) = HITS.get_ptr_mut(entry.order)
    {
        // SAFETY: this CPU's counter.
        unsafe { (*hits).concerned += 1 };
    }
    0
}

/// The most orders at one name, and the slots that hold them.
const MAX_ENTRIES: u32 = 1 << 16;
