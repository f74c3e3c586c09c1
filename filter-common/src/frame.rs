//! From the Ethernet header to the payload of UDP or TCP.

use crate::{bytes::Bytes, verdict::Reason};

/// Where the network layer starts and what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Network {
    /// Position of the IP header.
    pub l3: u32,
    /// Position of the transport header.
    pub l4: u32,
    /// End of the IP packet; what follows in the frame is Ethernet padding.
    pub end: u32,
    /// 4 or 6.
    pub version: u8,
    /// IP protocol number of the transport.
    pub transport: u8,
    /// 1: the first fragment of several.
    pub fragment: u8,
    /// Zero.
    pub pad: u8,
}

/// The payload of a transport packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Payload {
    /// Position of the first octet.
    pub start: u32,
    /// Position after the last.
    pub end: u32,
}

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Reads the link and network headers: Ethernet, up to two VLAN tags (802.1Q, 802.1ad), IPv4 with options, IPv6 with
/// up to eight extension headers.
#[inline(always)]
pub fn network<B: Bytes>(bytes: &B) -> Result<Network, Reason> {
    let mut l3 = ETHERNET;
    let mut ethertype = bytes.be16(l3 - 2).ok_or(Reason::FrameMalformed)?;
    for _ in 0..MAX_TAGS {
        if !is_tag(ethertype) {
            break;
        }
        l3 += TAG;
        ethertype = bytes.be16(l3 - 2).ok_or(Reason::FrameMalformed)?;
    }
    match ethertype {
        0x0800 => ipv4(bytes, l3),
        0x86dd => ipv6(bytes, l3),
        // PPPoE session, MPLS.
        0x8864 | 0x8847 | 0x8848 => Err(Reason::Encapsulated),
        tag if is_tag(tag) => Err(Reason::FrameTooDeep),
        _ => Err(Reason::NotIp),
    }
}

fn is_tag(ethertype: u16) -> bool {
    // 802.1Q, 802.1ad, and the QinQ ethertype from before the standard.
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// RFC 791 3.1.
#[inline(always)]
fn ipv4<B: Bytes>(bytes: &B, l3: u32) -> Result<Network, Reason> {
    let first = bytes.be32(l3).ok_or(Reason::FrameMalformed)?;
    let flags = bytes.be16(l3 + 6).ok_or(Reason::FrameMalformed)?;
    let protocol = bytes.be16(l3 + 8).ok_or(Reason::FrameMalformed)?;
    let header = (first >> 24 & 15) * 4;
    let total = first & 0xffff;
    if first >> 28 != 4 || header < 20 || total < header || l3 + total > bytes.len() {
        return Err(Reason::FrameMalformed);
    }
    if flags & 0x1fff != 0 {
        return Err(Reason::FragmentLater);
    }
    let network = Network {
        l3,
        l4: l3 + header,
        end: l3 + total,
        version: 4,
        transport: protocol as u8,
        fragment: (flags >> 13 & 1) as u8,
        pad: 0,
    };
    known(network)
}

/// RFC 8200 3 and 4.
#[inline(always)]
fn ipv6<B: Bytes>(bytes: &B, l3: u32) -> Result<Network, Reason> {
    let first = bytes.be16(l3).ok_or(Reason::FrameMalformed)?;
    let second = bytes.be32(l3 + 4).ok_or(Reason::FrameMalformed)?;
    let end = l3 + 40 + (second >> 16);
    if first >> 12 != 6 || end > bytes.len() {
        return Err(Reason::FrameMalformed);
    }
    let mut network = Network { l3, l4: l3 + 40, end, version: 6, transport: (second >> 8) as u8, fragment: 0, pad: 0 };
    for _ in 0..MAX_EXTENSIONS {
        if !extension(bytes, &mut network)? {
            return known(network);
        }
    }
    if is_extension(network.transport) { Err(Reason::FrameTooDeep) } else { known(network) }
}

fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6)
}

/// Steps over one extension header; false if there is none.
#[inline(always)]
fn extension<B: Bytes>(bytes: &B, network: &mut Network) -> Result<bool, Reason> {
    if !is_extension(network.transport) {
        return Ok(false);
    }
    if network.l4 + 8 > network.end {
        return Err(Reason::FrameMalformed);
    }
    let head = bytes.be32(network.l4).ok_or(Reason::FrameMalformed)?;
    let units = head >> 16 & 0xff;
    let octets = match network.transport {
        // RFC 8200 4.5. An atomic fragment (RFC 6946) is a whole packet.
        FRAGMENT => {
            if head & 0xfff8 != 0 {
                return Err(Reason::FragmentLater);
            }
            network.fragment |= (head & 1) as u8;
            8
        }
        // RFC 4302 2.2: in units of four octets, minus two.
        AUTHENTICATION => units * 4 + 8,
        _ => units * 8 + 8,
    };
    network.transport = (head >> 24) as u8;
    network.l4 += octets;
    Ok(true)
}

/// Only UDP and TCP are read; tunnels are named.
#[inline(always)]
fn known(network: Network) -> Result<Network, Reason> {
    match network.transport {
        TCP | UDP if network.l4 + 8 <= network.end => Ok(network),
        TCP | UDP => Err(Reason::FrameMalformed),
        // IPIP and 4in6, 6in4, GRE.
        4 | 41 | 47 => Err(Reason::Encapsulated),
        _ => Err(Reason::NotWatched),
    }
}

/// The payload of a UDP datagram (RFC 768). Octets after it inside the IP packet are not its own.
#[inline(always)]
pub fn udp<B: Bytes>(bytes: &B, network: &Network) -> Result<Payload, Reason> {
    let length = u32::from(bytes.be16(network.l4 + 4).ok_or(Reason::FrameMalformed)?);
    let start = network.l4 + 8;
    let end = network.l4 + length;
    if length < 8 {
        return Err(Reason::FrameMalformed);
    }
    if end <= network.end {
        return Ok(Payload { start, end });
    }
    // The first fragment of a longer datagram.
    if network.fragment == 1 { Ok(Payload { start, end: network.end }) } else { Err(Reason::FrameMalformed) }
}

/// The payload of a TCP segment (RFC 9293 3.1).
#[inline(always)]
pub fn tcp<B: Bytes>(bytes: &B, network: &Network) -> Result<Payload, Reason> {
    let offset = u32::from(bytes.be16(network.l4 + 12).ok_or(Reason::FrameMalformed)? >> 12) * 4;
    let start = network.l4 + offset;
    if offset < 20 || start > network.end {
        return Err(Reason::FrameMalformed);
    }
    if start == network.end { Err(Reason::NoPayload) } else { Ok(Payload { start, end: network.end }) }
}

/// The packet's source, IPv4 as `::ffff:a.b.c.d`, in halves.
#[inline(always)]
pub fn source<B: Bytes>(bytes: &B, network: &Network) -> Option<[u64; 2]> {
    let at = network.l3;
    if network.version == 4 {
        return Some([0, 0xffff_0000_0000 | u64::from(bytes.be32(at + 12)?)]);
    }
    let high = bytes.be64(at + 8)?;
    let low = bytes.be64(at + 16)?;
    Some([high, low])
}

/// What the link and a tunnel say of a flow: zeros where there is nothing.
#[inline(always)]
pub fn link_words<B: Bytes>(_bytes: &B, _network: &Network) -> Option<[u64; 6]> {
    Some([0; 6])
}

/// The address that an answer would go to, IPv4 as `::ffff:a.b.c.d`, in halves. `None` if nothing may be answered: from
/// or to groups, broadcast, unspecified or loopback addresses, on either layer.
#[inline(always)]
pub fn client<B: Bytes>(bytes: &B, network: &Network) -> Option<[u64; 2]> {
    // Group bit of the Ethernet destination and source (IEEE 802).
    if bytes.be16(0)? & 0x0100 != 0 || bytes.be16(6)? & 0x0100 != 0 {
        return None;
    }
    let at = network.l3;
    if network.version == 4 {
        let source = bytes.be32(at + 12)?;
        if special_v4(source) || special_v4(bytes.be32(at + 16)?) {
            return None;
        }
        return Some([0, 0xffff_0000_0000 | u64::from(source)]);
    }
    let source = [bytes.be64(at + 8)?, bytes.be64(at + 16)?];
    if special_v6(source) || special_v6([bytes.be64(at + 24)?, bytes.be64(at + 32)?]) {
        return None;
    }
    Some(source)
}

/// "This network", loopback, multicast, reserved and broadcast (RFC 6890).
#[inline(always)]
fn special_v4(address: u32) -> bool {
    let first = address >> 24;
    first == 0 || first == 127 || first >= 224
}

/// Unspecified, loopback and multicast (RFC 4291 2.4).
#[inline(always)]
fn special_v6([high, low]: [u64; 2]) -> bool {
    high >> 56 == 0xff || high == 0 && low <= 1
}

/// Octets of an Ethernet header.
const ETHERNET: u32 = 14;
/// Octets of a VLAN tag.
const TAG: u32 = 4;
const MAX_TAGS: usize = 2;
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
