//! From the Ethernet header to the payload of UDP or TCP.
//!
//! [`network`] reads what most frames are; where it says [`Reason::Encapsulated`], [`unwrap`] reads on.

mod address;
mod ip;
pub mod plain;
mod tunnel;

pub(crate) use self::tunnel::{GRE_OCTETS, PPPOE_OCTETS};
pub use self::{
    address::{Source, client, scope_source, source, tunnel_end},
    ip::header,
    tunnel::{GRE, has_link_words, link_words, unwrap},
};
use crate::{bytes::Bytes, verdict::Reason};

/// Where the network layer starts and what it carries. All zeros but for these positions where nothing is around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Network {
    /// Position of the IP header, in a tunnel of the inner one.
    pub l3: u32,
    /// Position of the transport header.
    pub l4: u32,
    /// End of the IP packet; what follows in the frame is Ethernet padding.
    pub end: u32,
    /// 4 or 6.
    pub version: u8,
    /// IP protocol number of the transport.
    pub transport: u8,
    /// 1: the first fragment of several, or within one.
    pub fragment: u8,
    /// What lies around it: [`PPPOE`], [`ONE_WAY`].
    pub wraps: u8,
    /// Position of the tunnel's IP header, 0 if there is no tunnel.
    pub outer: u32,
    /// IP version of the tunnel, 4 or 6.
    pub outer_version: u8,
    /// IP protocol number of the tunnel: [`IPV4`], [`IPV6`] or [`GRE`].
    pub tunnel: u8,
    /// MPLS labels before the outermost IP header.
    pub labels: u8,
    /// Zero.
    pub pad: u8,
}

/// In [`Network::wraps`]: a PPPoE session header lies before the outermost IP header.
pub const PPPOE: u8 = 1;
/// In [`Network::wraps`]: nothing can be sent back the same way (MPLS, GRE with options).
pub const ONE_WAY: u8 = 2;

impl Network {
    /// Position of the outermost IP header.
    #[inline(always)]
    pub fn base(&self) -> u32 {
        if self.outer == 0 { self.l3 } else { self.outer }
    }

    /// Whether PPPoE, MPLS or a tunnel lies around the packet.
    #[inline(always)]
    pub fn is_wrapped(&self) -> bool {
        self.outer != 0 || self.wraps != 0
    }
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

/// IP protocol number of IPv4 in IP (RFC 2003).
pub const IPV4: u8 = 4;
/// IP protocol number of IPv6 in IP (RFC 4213).
pub const IPV6: u8 = 41;

/// Reads the link and network headers of what most frames are: Ethernet, up to two VLAN tags (802.1Q, 802.1ad), IPv4
/// with options, IPv6 without extension headers. [`Reason::Encapsulated`] where there is more, for [`unwrap`].
#[inline(always)]
pub fn network<B: Bytes>(bytes: &B) -> Result<Network, Reason> {
    let (l3, ethertype) = ethernet(bytes)?;
    let version = match ethertype {
        0x0800 => 4,
        0x86dd => 6,
        PPPOE_SESSION | MPLS | MPLS_UPSTREAM => return Err(Reason::Encapsulated),
        tag if is_tag(tag) => return Err(Reason::FrameTooDeep),
        _ => return Err(Reason::NotIp),
    };
    let mut network = Network { l3, end: bytes.len(), version, ..Network::default() };
    if version == 4 { ip::ipv4(bytes, &mut network) } else { ip::ipv6(bytes, &mut network) }?;
    if is_tunnel(network.transport) || version == 6 && ip::is_extension(network.transport) {
        return Err(Reason::Encapsulated);
    }
    known(&network)?;
    Ok(network)
}

/// Reads any frame: [`network`], and [`unwrap`] where it takes that.
pub fn read<B: Bytes>(bytes: &B) -> Result<Network, Reason> {
    match network(bytes) {
        Err(Reason::Encapsulated) => {
            let mut network = Network::default();
            unwrap(bytes, &mut network, |network| header(bytes, network))?;
            Ok(network)
        }
        network => network,
    }
}

/// Position after the Ethernet header with up to two tags, and the ethertype there.
#[inline(always)]
fn ethernet<B: Bytes>(bytes: &B) -> Result<(u32, u16), Reason> {
    let mut l3 = ETHERNET;
    let mut ethertype = bytes.be16(l3 - 2).ok_or(Reason::FrameMalformed)?;
    for _ in 0..MAX_TAGS {
        if !is_tag(ethertype) {
            break;
        }
        l3 += TAG;
        ethertype = bytes.be16(l3 - 2).ok_or(Reason::FrameMalformed)?;
    }
    Ok((l3, ethertype))
}

fn is_tag(ethertype: u16) -> bool {
    // 802.1Q, 802.1ad, and the QinQ ethertype from before the standard.
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

fn is_tunnel(protocol: u8) -> bool {
    matches!(protocol, IPV4 | IPV6 | GRE)
}

/// Only UDP and TCP are read.
#[inline(always)]
fn known(network: &Network) -> Result<(), Reason> {
    match network.transport {
        TCP | UDP if network.l4 + 8 <= network.end => Ok(()),
        TCP | UDP => Err(Reason::FrameMalformed),
        _ => Err(Reason::NotWatched),
    }
}

/// The payload of a UDP datagram (RFC 768). Octets after it inside the IP packet are not its own.
#[inline(always)]
pub fn udp<B: Bytes>(bytes: &B, network: &Network) -> Result<Payload, Reason> {
    let length = u32::from(bytes.be16(network.l4 + 4).ok_or(Reason::FrameMalformed)?);
    let start = network.l4 + UDP_HEADER;
    let end = network.l4 + length;
    if length < UDP_HEADER {
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

/// Octets of a UDP header (RFC 768).
pub const UDP_HEADER: u32 = 8;

/// Octets of an Ethernet header.
const ETHERNET: u32 = 14;
/// Octets of a VLAN tag.
const TAG: u32 = 4;
const MAX_TAGS: usize = 2;

const PPPOE_SESSION: u16 = 0x8864;
const MPLS: u16 = 0x8847;
const MPLS_UPSTREAM: u16 = 0x8848;
