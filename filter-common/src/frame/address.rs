//! Whose packet it is, and whether anything may go back there.

use super::{IPV4, Network, ONE_WAY};
use crate::bytes::Bytes;

/// Where an IP header with a source address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Position of the IP header.
    pub at: u32,
    /// 4 or 6.
    pub version: u8,
}

/// The header whose source is the client: the outer one of IPv4 in IPv6 (DS-Lite, RFC 6333, where the inner addresses
/// of all subscribers may be the same), else the inner one.
#[inline(always)]
pub fn scope_source(network: &Network) -> Source {
    if network.tunnel == IPV4 && network.outer_version == 6 {
        Source { at: network.outer, version: 6 }
    } else {
        Source { at: network.l3, version: network.version }
    }
}

/// The client's address, where [`scope_source`] says, IPv4 as `::ffff:a.b.c.d`, in halves.
#[inline(always)]
pub fn source<B: Bytes>(bytes: &B, network: &Network) -> Option<[u64; 2]> {
    let Source { at, version } = scope_source(network);
    if version == 4 {
        return Some([0, 0xffff_0000_0000 | u64::from(bytes.be32(at + 12)?)]);
    }
    let high = bytes.be64(at + 8)?;
    let low = bytes.be64(at + 16)?;
    Some([high, low])
}

/// The address that an answer would go to, IPv4 as `::ffff:a.b.c.d`, in halves. `None` if nothing may be answered: from
/// or to groups, broadcast, unspecified or loopback addresses, on either layer, or where nothing goes back.
#[inline(always)]
pub fn client<B: Bytes>(bytes: &B, network: &Network) -> Option<[u64; 2]> {
    // Group bit of the Ethernet destination and source (IEEE 802).
    if network.wraps & ONE_WAY != 0 || bytes.be16(0)? & 0x0100 != 0 || bytes.be16(6)? & 0x0100 != 0 {
        return None;
    }
    peer(bytes, network.l3, network.version)
}

/// As [`client`], of a packet in a tunnel: the address of the tunnel's other end.
#[inline(always)]
pub fn tunnel_end<B: Bytes>(bytes: &B, network: &Network) -> Option<[u64; 2]> {
    peer(bytes, network.outer, network.outer_version)
}

/// The source of the IP header at `at`, unless it or the destination may not be answered.
#[inline(always)]
fn peer<B: Bytes>(bytes: &B, at: u32, version: u8) -> Option<[u64; 2]> {
    if version == 4 {
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
