//! What goes back around a packet: the PPPoE session's header as it came, and the tunnel with its ends exchanged.

use super::{Buffer, put, put_ipv4, put_ipv6};
use crate::{
    bytes::Bytes,
    frame::{GRE, GRE_OCTETS, Network, PPPOE, PPPOE_OCTETS},
};

/// The headers before a packet that goes back, in a buffer of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Wrap {
    /// Position in the frame that they are put at.
    pub at: u32,
    /// Position in the buffer of the first octet.
    pub start: u32,
    /// Position in the buffer after the last.
    pub end: u32,
}

impl Wrap {
    /// Position in the frame of the packet that comes behind.
    #[inline(always)]
    pub fn behind(&self) -> u32 {
        self.at.wrapping_add(self.end).wrapping_sub(self.start)
    }
}

/// Composes the headers before a packet of `len` octets, back to where the one in the frame came from.
#[inline(always)]
pub fn wrap<B: Bytes>(bytes: &B, network: &Network, len: u32, buffer: &mut Buffer) -> Option<Wrap> {
    let base = network.base();
    let gre = if network.tunnel == GRE { GRE_OCTETS } else { 0 };
    let end = match network.outer_version {
        0 => IP,
        4 => {
            let source = bytes.be32(base + 12)?;
            let destination = bytes.be32(base + 16)?;
            put_ipv4(buffer, IP, network.tunnel, gre + len, source, destination);
            IP + 20
        }
        _ => {
            let s0 = bytes.be64(base + 8)?;
            let s1 = bytes.be64(base + 16)?;
            let d0 = bytes.be64(base + 24)?;
            let d1 = bytes.be64(base + 32)?;
            put_ipv6(buffer, IP, network.tunnel, gre + len, [s0, s1], [d0, d1]);
            IP + 40
        }
    };
    if gre != 0 {
        // RFC 2784 2: no flags, version 0.
        let ethertype: u32 = if network.version == 4 { 0x0800 } else { 0x86dd };
        put(buffer, end, ethertype.to_be_bytes());
    }
    let end = end + gre;
    if network.wraps & PPPOE == 0 {
        return Some(Wrap { at: base, start: IP, end });
    }
    let pppoe = bytes.be64(base - PPPOE_OCTETS)?;
    // RFC 2516 4: the length begins with the PPP protocol.
    let length = u64::from(end - IP + len + 2);
    put(buffer, 0, (pppoe & !0xffff_0000 | (length & 0xffff) << 16).to_be_bytes());
    Some(Wrap { at: base - PPPOE_OCTETS, start: 0, end })
}

/// Position of the IP header in the buffer.
const IP: u32 = PPPOE_OCTETS;
