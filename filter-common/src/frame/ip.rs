//! IP headers: IPv4 with options, IPv6 with extension headers.

use super::Network;
use crate::{bytes::Bytes, verdict::Reason};

/// Reads the IP header at `l3`, of the version that the link or tunnel names: what it carries, and where. `end` is that
/// of what it lies in, and `fragment` tells whether that is a fragment.
#[inline(always)]
pub fn header<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    if network.version == 4 {
        return ipv4(bytes, network);
    }
    ipv6(bytes, network)?;
    for _ in 0..MAX_EXTENSIONS {
        if !extension(bytes, network)? {
            return Ok(());
        }
    }
    if is_extension(network.transport) { Err(Reason::FrameTooDeep) } else { Ok(()) }
}

/// The end of a packet that claims to end at `end`. Only of a fragment the rest may come in others.
#[inline(always)]
fn bound(network: &mut Network, end: u32) -> Result<(), Reason> {
    if end <= network.end {
        network.end = end;
    } else if network.fragment == 0 {
        return Err(Reason::FrameMalformed);
    }
    Ok(())
}

/// RFC 791 3.1.
#[inline(always)]
pub(super) fn ipv4<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    let l3 = network.l3;
    let first = bytes.be32(l3).ok_or(Reason::FrameMalformed)?;
    let flags = bytes.be16(l3 + 6).ok_or(Reason::FrameMalformed)?;
    let protocol = bytes.be16(l3 + 8).ok_or(Reason::FrameMalformed)?;
    let header = (first >> 24 & 15) * 4;
    let total = first & 0xffff;
    if first >> 28 != 4 || header < 20 || total < header {
        return Err(Reason::FrameMalformed);
    }
    bound(network, l3 + total)?;
    if flags & 0x1fff != 0 {
        return Err(Reason::FragmentLater);
    }
    network.l4 = l3 + header;
    network.transport = protocol as u8;
    network.fragment |= (flags >> 13 & 1) as u8;
    Ok(())
}

/// RFC 8200 3, without the extension headers behind.
#[inline(always)]
pub(super) fn ipv6<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    let l3 = network.l3;
    let first = bytes.be16(l3).ok_or(Reason::FrameMalformed)?;
    let second = bytes.be32(l3 + 4).ok_or(Reason::FrameMalformed)?;
    if first >> 12 != 6 {
        return Err(Reason::FrameMalformed);
    }
    bound(network, l3 + 40 + (second >> 16))?;
    network.l4 = l3 + 40;
    network.transport = (second >> 8) as u8;
    Ok(())
}

pub(super) fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6)
}

/// Steps over one extension header (RFC 8200 4); false if there is none.
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

const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
