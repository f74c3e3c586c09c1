//! What the filter is compared with, in benchmarks only: the least that a program can do.

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::generated::bpf_get_smp_processor_id, maps::HashMap};
use filter_common::{
    bytes::Bytes as _,
    frame::{TCP, UDP},
    traffic::{BUCKET_BITS, LINE_BITS, PlainName, QUESTION},
};

use crate::{
    maps::{DEFERRED, NAME_FILTER, NAMES},
    packet::Packet,
};

/// Names, whole and as they are written.
pub type PlainNames = HashMap<PlainName, u32>;

/// Whether it is IPv4 without options and UDP to port 53.
#[inline(always)]
pub fn is_dns(packet: Packet) -> Option<bool> {
    goes_to(packet, UDP, 53)
}

/// Whether it is IPv4 without options and TCP to port 443.
#[inline(always)]
pub fn is_https(packet: Packet) -> Option<bool> {
    goes_to(packet, TCP, 443)
}

#[inline(always)]
fn goes_to(packet: Packet, transport: u8, to: u16) -> Option<bool> {
    let (ethertype, version) = (packet.be16(12)?, packet.be16(14)? >> 8);
    let (protocol, port) = (packet.be16(22)? & 0xff, packet.be16(36)?);
    Some(ethertype == 0x0800 && version == 0x45 && protocol == u16::from(transport) && port == to)
}

/// Whether the name of a query is there.
#[inline(always)]
pub fn is_listed(packet: Packet, names: &PlainNames) -> Option<bool> {
    if !is_dns(packet)? {
        return None;
    }
    Some(names.get_ptr(name(packet, QUESTION)?).is_some())
}

/// Whether the name of a query, or one above it, is there: one look-up each, for names of up to four labels.
#[inline(always)]
pub fn is_below_listed(packet: Packet, names: &PlainNames) -> Option<bool> {
    if !is_dns(packet)? {
        return None;
    }
    let mut at = QUESTION;
    for _ in 0..4 {
        let len = u32::from(packet.be16(at)? >> 8);
        if len == 0 {
            return Some(false);
        }
        if names.get_ptr(name(packet, at)?).is_some() {
            return Some(true);
        }
        at += 1 + (len & 63);
    }
    Some(false)
}

/// Reads a line of the filter at a place that the name chooses, and, if `and_bucket`, a bucket of names behind it: what
/// memory alone costs. Whether a bit of it is set.
#[inline(always)]
pub fn touch(packet: Packet, and_bucket: bool) -> Option<bool> {
    let hash = (packet.be64(QUESTION)? ^ packet.be64(QUESTION + 8)?).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut word = *NAME_FILTER.get((hash >> (64 - LINE_BITS)) as u32)?.first()?;
    if and_bucket {
        // Behind the line, not beside it.
        word ^= u64::from(NAMES.get((hash >> (64 - BUCKET_BITS)) as u32 ^ word as u32 & 1)?.reach);
    }
    Some(word & 2 != 0)
}

/// Copies what is behind the UDP header, over IPv4 without options, to this CPU's ring; whether it did.
#[inline(always)]
pub fn copy(packet: Packet) -> bool {
    const PAYLOAD: u32 = 14 + 20 + 8;
    // SAFETY: a helper without arguments.
    let Some(ring) = DEFERRED.get(unsafe { bpf_get_smp_processor_id() }) else { return false };
    let Some(mut entry) = ring.reserve(0) else { return false };
    // SAFETY: the record is ours until it is submitted.
    let is_whole = unsafe { packet.copy_payload(PAYLOAD, packet.len().wrapping_sub(PAYLOAD), entry.as_mut_ptr()) };
    entry.submit(BPF_RB_NO_WAKEUP.into());
    is_whole
}

/// The name whose first length octet lies here.
#[inline(always)]
fn name(packet: Packet, mut at: u32) -> Option<PlainName> {
    let mut name: PlainName = [0; 8];
    for word in &mut name {
        let octets = packet.be64(at)?.swap_bytes();
        // The lowest zero octet, which ends the name.
        let zeros = octets.wrapping_sub(ONES) & !octets & HIGHS;
        if zeros != 0 {
            *word = octets & ((zeros & zeros.wrapping_neg()) - 1);
            break;
        }
        *word = octets;
        at += 8;
    }
    Some(name)
}

/// Each octet 1.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Each octet 128.
const HIGHS: u64 = 0x8080_8080_8080_8080;
