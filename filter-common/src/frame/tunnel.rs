//! What may lie between Ethernet and the packet: PPPoE, MPLS, and one tunnel over IP.

use super::{
    IPV4, IPV6, MPLS, MPLS_UPSTREAM, Network, ONE_WAY, PPPOE, PPPOE_SESSION, ethernet, is_tag, is_tunnel, known,
};
use crate::{bytes::Bytes, verdict::Reason};

/// IP protocol number of GRE (RFC 2784).
pub const GRE: u8 = 47;

/// Reads a frame that [`network`](super::network) found encapsulated. `header` is [`header`](super::header), or what
/// has it do its work.
#[inline(always)]
pub fn unwrap<B: Bytes>(
    bytes: &B,
    network: &mut Network,
    header: impl Fn(&mut Network) -> Result<(), Reason>,
) -> Result<(), Reason> {
    *network = link(bytes)?;
    header(network)?;
    if is_tunnel(network.transport) {
        enter(bytes, network)?;
        header(network)?;
        if is_tunnel(network.transport) {
            return Err(Reason::FrameTooDeep);
        }
    }
    known(network)
}

/// Up to the first IP header.
#[inline(always)]
fn link<B: Bytes>(bytes: &B) -> Result<Network, Reason> {
    let (l3, ethertype) = ethernet(bytes)?;
    let mut network = Network { l3, end: bytes.len(), ..Network::default() };
    match ethertype {
        0x0800 => network.version = 4,
        0x86dd => network.version = 6,
        PPPOE_SESSION => pppoe(bytes, &mut network)?,
        MPLS | MPLS_UPSTREAM => mpls(bytes, &mut network)?,
        tag if is_tag(tag) => return Err(Reason::FrameTooDeep),
        _ => return Err(Reason::NotIp),
    }
    Ok(network)
}

/// RFC 2516 4 and 6.
#[inline(always)]
fn pppoe<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    let at = network.l3;
    let kind = bytes.be16(at).ok_or(Reason::FrameMalformed)?;
    let length = u32::from(bytes.be16(at + 4).ok_or(Reason::FrameMalformed)?);
    let protocol = bytes.be16(at + 6).ok_or(Reason::FrameMalformed)?;
    let end = at + 6 + length;
    // Version 1, type 1, code 0. The length begins with the PPP protocol.
    if kind != 0x1100 || length < 2 || end > network.end {
        return Err(Reason::FrameMalformed);
    }
    network.version = match protocol {
        0x0021 => 4,
        0x0057 => 6,
        // LCP, authentication and what else belongs to the session itself.
        _ => return Err(Reason::NotIp),
    };
    network.l3 = at + PPPOE_OCTETS;
    network.end = end;
    network.wraps = PPPOE;
    Ok(())
}

/// RFC 3032 2.1. What is under the labels is told by its first four bits (RFC 4928 2).
#[inline(always)]
fn mpls<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    let mut is_bottom = false;
    for _ in 0..MAX_LABELS {
        let label = bytes.be32(network.l3).ok_or(Reason::FrameMalformed)?;
        network.l3 += LABEL;
        network.labels += 1;
        is_bottom = label & 0x100 != 0;
        if is_bottom {
            break;
        }
    }
    if !is_bottom {
        return Err(Reason::FrameTooDeep);
    }
    network.version = (bytes.be16(network.l3).ok_or(Reason::FrameMalformed)? >> 12) as u8;
    network.wraps = ONE_WAY;
    // A pseudowire (RFC 4385) carries something else.
    if matches!(network.version, 4 | 6) { Ok(()) } else { Err(Reason::Encapsulated) }
}

/// Steps into the tunnel: the header read so far becomes the outer one.
#[inline(always)]
fn enter<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    network.outer = network.l3;
    network.outer_version = network.version;
    network.tunnel = network.transport;
    network.l3 = network.l4;
    network.version = match network.transport {
        IPV4 => 4,
        IPV6 => 6,
        _ => return gre(bytes, network),
    };
    Ok(())
}

/// RFC 2784 2 and RFC 2890 2: checksum, key and sequence number are stepped over.
#[inline(always)]
fn gre<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    if network.l4 + GRE_OCTETS > network.end {
        return Err(Reason::FrameMalformed);
    }
    let flags = bytes.be16(network.l4).ok_or(Reason::FrameMalformed)?;
    let ethertype = bytes.be16(network.l4 + 2).ok_or(Reason::FrameMalformed)?;
    network.version = match ethertype {
        0x0800 => 4,
        0x86dd => 6,
        _ => return Err(Reason::Encapsulated),
    };
    // Any other bit: routing (RFC 1701), or version 1 (PPTP).
    if flags & !(CHECKSUM | KEY | SEQUENCE) != 0 {
        return Err(Reason::Encapsulated);
    }
    let options = u32::from(flags & CHECKSUM != 0) + u32::from(flags & KEY != 0) + u32::from(flags & SEQUENCE != 0);
    network.l3 = network.l4 + GRE_OCTETS + 4 * options;
    if options != 0 {
        network.wraps |= ONE_WAY;
    }
    // The octets of the options lie in the packet.
    if network.l3 <= network.end { Ok(()) } else { Err(Reason::FrameMalformed) }
}

/// Whether [`link_words`] are more than zeros: something lies between the Ethernet header and the packet.
#[inline(always)]
pub fn has_link_words(network: &Network) -> bool {
    network.l3 != super::ETHERNET
}

/// What tells flows with equal addresses apart: VLAN ids and PPPoE session, up to four MPLS labels, and the tunnel's
/// addresses (source, destination; IPv4 in the first word). Zeros where there is nothing. Puts them into `words`: a value
/// would go through the stack.
#[inline(always)]
pub fn link_words<B: Bytes>(bytes: &B, network: &Network, words: &mut [u64; 6]) -> Option<()> {
    *words = [0; 6];
    let base = network.base();
    let [link, stack, outer @ ..] = words;
    let mut at = 12;
    for _ in 0..super::MAX_TAGS {
        if !is_tag(bytes.be16(at)?) {
            break;
        }
        // Its lowest bit tells VLAN 0 from no tag.
        *link = *link << 13 | u64::from(bytes.be16(at + 2)? & 0xfff) << 1 | 1;
        at += super::TAG;
    }
    if network.wraps & PPPOE != 0 {
        *link |= u64::from(bytes.be16(base - PPPOE_OCTETS + 2)?) << 32 | 1 << 55;
    }
    // A label is 20 bits of its entry; the rest may change from packet to packet. No PPPoE goes over MPLS.
    for index in 0..MAX_LABELS {
        if index < u32::from(network.labels) {
            let label = u64::from(bytes.be32(at + 2 + index * LABEL)? >> 12);
            if index == 0 {
                *link |= label << 32;
            } else {
                *stack = *stack << 20 | label;
            }
        }
    }
    *link |= u64::from(network.labels) << 52;
    if network.outer_version == 4 {
        let [addresses, ..] = outer;
        *addresses = bytes.be64(base + 12)?;
    } else if network.outer_version == 6 {
        let [s0, s1, d0, d1] = outer;
        *s0 = bytes.be64(base + 8)?;
        *s1 = bytes.be64(base + 16)?;
        *d0 = bytes.be64(base + 24)?;
        *d1 = bytes.be64(base + 32)?;
    }
    Some(())
}

/// Octets of a PPPoE session header with the PPP protocol.
pub(crate) const PPPOE_OCTETS: u32 = 8;
/// Octets of a GRE header without options.
pub(crate) const GRE_OCTETS: u32 = 4;
/// Octets of an MPLS label stack entry.
const LABEL: u32 = 4;
const MAX_LABELS: u32 = 4;

const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
