//! What nearly all frames are, read in the fewest steps: untagged, IPv4 without options and whole, or IPv6 without
//! extension headers, with UDP or TCP. All positions are known beforehand. Where one of these functions gives something,
//! [`network`](super::network) gives the same.

use super::{ETHERNET, Network, TCP, UDP};
use crate::bytes::Bytes;

/// Octets that [`ipv4`] and a TCP header behind it take.
pub const IPV4_HEAD: u32 = ETHERNET + 20 + 20;

/// Octets that [`ipv6`] and a TCP header behind it take.
pub const IPV6_HEAD: u32 = ETHERNET + 40 + 20;

/// IPv4.
#[inline(always)]
pub fn ipv4<B: Bytes>(head: &B) -> Option<Network> {
    // Type, version, header length; the DSCP octet may be anything.
    if head.be32(ETHERNET - 2)? >> 8 != 0x0008_0045 {
        return None;
    }
    // No part of a datagram: neither an offset nor more to come.
    if head.be16(ETHERNET + 6)? & 0x3fff != 0 {
        return None;
    }
    let end = ETHERNET + u32::from(head.be16(ETHERNET + 2)?);
    let transport = head.be16(ETHERNET + 8)? as u8;
    read(head, Network { l3: ETHERNET, l4: ETHERNET + 20, end, version: 4, transport, ..Network::default() })
}

/// IPv6.
#[inline(always)]
pub fn ipv6<B: Bytes>(head: &B) -> Option<Network> {
    // Type and version.
    if head.be32(ETHERNET - 2)? >> 12 != 0x0008_6dd6 {
        return None;
    }
    let second = head.be32(ETHERNET + 4)?;
    let (end, transport) = (ETHERNET + 40 + (second >> 16), (second >> 8) as u8);
    read(head, Network { l3: ETHERNET, l4: ETHERNET + 40, end, version: 6, transport, ..Network::default() })
}

/// The same, if it is read and lies in the frame.
#[inline(always)]
fn read<B: Bytes>(head: &B, network: Network) -> Option<Network> {
    let is_read = matches!(network.transport, TCP | UDP) && network.l4 + 8 <= network.end && network.end <= head.len();
    is_read.then_some(network)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{bytes::Slice, frame};

    /// Plain IPv4 and IPv6 headers, TCP or UDP, in frames of `len` octets.
    fn frame_of(version: u8, transport: u8, len: usize) -> Vec<u8> {
        let mut frame = [0; 14].to_vec();
        let total = len.saturating_sub(14) as u16;
        if version == 4 {
            frame[12..].copy_from_slice(&[0x08, 0x00]);
            frame.extend([0x45, 0xb8]);
            frame.extend(total.to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, transport]);
        } else {
            frame[12..].copy_from_slice(&[0x86, 0xdd]);
            frame.extend([0x6b, 0x80, 0, 0]);
            frame.extend(total.saturating_sub(40).to_be_bytes());
            frame.extend([transport, 64]);
        }
        frame.resize(len, 0x5a);
        frame
    }

    fn found(frame: &[u8]) -> Option<Network> {
        let bytes = Slice(frame);
        let [v4, v6] = [ipv4(&bytes), ipv6(&bytes)];
        assert!(v4.is_none() || v6.is_none());
        v4.or(v6)
    }

    #[test]
    fn what_nearly_all_frames_are_is_found() {
        for (version, transport, l4) in [(4, TCP, 34), (4, UDP, 34), (6, TCP, 54), (6, UDP, 54)] {
            let network = found(&frame_of(version, transport, 100)).unwrap();
            assert_eq!((network.l4, network.end, network.version, network.transport), (l4, 100, version, transport));
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_reading_finds(
            version in prop::sample::select([4_u8, 6].as_slice()),
            transport in prop::sample::select([TCP, UDP, 1, 4, 44].as_slice()),
            len in 20_usize..120,
            changes in prop::collection::vec((12_usize..60, any::<u8>()), 0..3),
        ) {
            let mut frame = frame_of(version, transport, len);
            for (at, octet) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = octet;
                }
            }
            if let Some(network) = found(&frame) {
                prop_assert_eq!(frame::network(&Slice(&frame)), Ok(network));
            }
        }
    }
}
