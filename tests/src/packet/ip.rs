//! IPv4 and IPv6 headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CLIENT_V4, CLIENT_V6, SERVER_V4, SERVER_V6, checksum};

/// A network layer.
#[derive(Clone, Debug)]
pub enum Ip {
    /// RFC 791.
    V4 {
        /// Source.
        source: Ipv4Addr,
        /// Destination.
        destination: Ipv4Addr,
        /// A multiple of four octets, at most 40.
        options: Vec<u8>,
        /// Flags and fragment offset.
        fragment: u16,
        /// In place of the right total length.
        total_length: Option<u16>,
    },
    /// RFC 8200.
    V6 {
        /// Source.
        source: Ipv6Addr,
        /// Destination.
        destination: Ipv6Addr,
        /// Extension headers, in order.
        extensions: Vec<Extension>,
        /// In place of the right payload length.
        payload_length: Option<u16>,
    },
}

/// An IPv6 extension header: its protocol number, and its octets with a zero for the next header.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Protocol number.
    pub protocol: u8,
    /// All octets; the first is filled in when the packet is built.
    pub octets: Vec<u8>,
}

/// Which part of a fragmented packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Offset 0, no more fragments (RFC 6946).
    Atomic,
    /// Offset 0, more fragments.
    First,
    /// Offset 64 octets.
    Later,
}

impl Fragment {
    /// The flags and offset field of IPv4, where the offset counts in eights.
    pub fn ipv4(self) -> u16 {
        match self {
            Self::Atomic => 0,
            Self::First => 0x2000,
            Self::Later => 8,
        }
    }

    /// The extension header of IPv6.
    pub fn ipv6(self) -> Extension {
        let field: u16 = match self {
            Self::Atomic => 0,
            Self::First => 1,
            Self::Later => 8 << 3,
        };
        let [high, low] = field.to_be_bytes();
        Extension { protocol: 44, octets: vec![0, 0, high, low, 0xca, 0xfe, 0xba, 0xbe] }
    }
}

impl Extension {
    /// A header of `units` times eight octets after the first eight: hop-by-hop (0), routing (43), destination (60),
    /// mobility (135), HIP (139), shim6 (140).
    pub fn new(protocol: u8, units: u8) -> Self {
        let mut octets = vec![0; 8 + 8 * usize::from(units)];
        octets[1] = units;
        // One PadN option fills options headers (RFC 8200 4.2); elsewhere it is as good as anything.
        octets[2] = 1;
        octets[3] = (octets.len() - 4).min(255) as u8;
        Self { protocol, octets }
    }

    /// Authentication header (RFC 4302) with `words` of 32 bits of ICV: an odd number for IPv6.
    pub fn authentication(words: u8) -> Self {
        let mut octets = vec![0; 12 + 4 * usize::from(words)];
        octets[1] = words + 1;
        Self { protocol: 51, octets }
    }
}

impl Ip {
    /// Client to server.
    pub fn v4() -> Self {
        Self::V4 {
            source: CLIENT_V4,
            destination: SERVER_V4,
            options: Vec::new(),
            fragment: 0x4000,
            total_length: None,
        }
    }

    /// Client to server.
    pub fn v6() -> Self {
        Self::V6 { source: CLIENT_V6, destination: SERVER_V6, extensions: Vec::new(), payload_length: None }
    }

    /// Both of them.
    pub fn both() -> [Self; 2] {
        [Self::v4(), Self::v6()]
    }

    /// Between these addresses, of one family.
    pub fn between(from: IpAddr, to: IpAddr) -> Self {
        let mut ip = if from.is_ipv4() { Self::v4() } else { Self::v6() };
        ip.set_source(from);
        ip.set_destination(to);
        ip
    }

    /// As the given part of a fragmented packet.
    pub fn fragment(mut self, part: Fragment) -> Self {
        match &mut self {
            Self::V4 { fragment, .. } => *fragment = part.ipv4(),
            Self::V6 { extensions, .. } => extensions.push(part.ipv6()),
        }
        self
    }

    /// With IPv4 options.
    pub fn options(mut self, octets: &[u8]) -> Self {
        if let Self::V4 { options, .. } = &mut self {
            *options = octets.to_vec();
        }
        self
    }

    /// With IPv6 extension headers.
    pub fn extensions(mut self, headers: &[Extension]) -> Self {
        if let Self::V6 { extensions, .. } = &mut self {
            *extensions = headers.to_vec();
        }
        self
    }

    /// Sets the source; the family must be the packet's.
    pub fn set_source(&mut self, address: IpAddr) {
        match (self, address) {
            (Self::V4 { source, .. }, IpAddr::V4(address)) => *source = address,
            (Self::V6 { source, .. }, IpAddr::V6(address)) => *source = address,
            _ => panic!("{address} is of the other family"),
        }
    }

    /// Sets the destination; the family must be the packet's.
    pub fn set_destination(&mut self, address: IpAddr) {
        match (self, address) {
            (Self::V4 { destination, .. }, IpAddr::V4(address)) => *destination = address,
            (Self::V6 { destination, .. }, IpAddr::V6(address)) => *destination = address,
            _ => panic!("{address} is of the other family"),
        }
    }

    /// Whether it is IPv4.
    pub fn is_v4(&self) -> bool {
        matches!(self, Self::V4 { .. })
    }

    /// Source.
    pub fn source(&self) -> IpAddr {
        match self {
            Self::V4 { source, .. } => (*source).into(),
            Self::V6 { source, .. } => (*source).into(),
        }
    }

    /// Destination.
    pub fn destination(&self) -> IpAddr {
        match self {
            Self::V4 { destination, .. } => (*destination).into(),
            Self::V6 { destination, .. } => (*destination).into(),
        }
    }

    pub(super) fn ethertype(&self) -> u16 {
        if self.is_v4() { 0x0800 } else { 0x86dd }
    }

    /// Octets of the header with options or extensions.
    pub fn header_len(&self) -> usize {
        match self {
            Self::V4 { options, .. } => 20 + options.len(),
            Self::V6 { extensions, .. } => 40 + extensions.iter().map(|header| header.octets.len()).sum::<usize>(),
        }
    }

    /// The pseudo header of a transport packet (RFC 9293 3.1, RFC 8200 8.1).
    pub(super) fn pseudo_header(&self, protocol: u8, len: usize) -> Vec<u8> {
        let mut octets = match self {
            Self::V4 { source, destination, .. } => [source.octets(), destination.octets()].concat(),
            Self::V6 { source, destination, .. } => [source.octets(), destination.octets()].concat(),
        };
        octets.extend((len as u32).to_be_bytes());
        octets.extend([0, 0, 0, protocol]);
        octets
    }

    /// Header and payload.
    pub fn build(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V4 { source, destination, options, fragment, total_length } => {
                let len = 20 + options.len();
                let total = total_length.unwrap_or((len + payload.len()) as u16);
                let mut header = vec![0x40 | (len / 4) as u8, 0];
                header.extend(total.to_be_bytes());
                header.extend([0xbe, 0xef]);
                header.extend(fragment.to_be_bytes());
                header.extend([57, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(options);
                let sum = checksum(&[&header]).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                header.extend(payload);
                header
            }
            Self::V6 { source, destination, extensions, payload_length } => {
                let headers: usize = extensions.iter().map(|header| header.octets.len()).sum();
                let length = payload_length.unwrap_or((headers + payload.len()) as u16);
                let mut next = extensions.iter().skip(1).map(|header| header.protocol).chain([protocol]);
                let first = extensions.first().map_or(protocol, |header| header.protocol);
                let mut packet = vec![0x60, 0x0a, 0xbc, 0xde];
                packet.extend(length.to_be_bytes());
                packet.extend([first, 57]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                for header in extensions {
                    packet.push(next.next().unwrap_or(protocol));
                    packet.extend(&header.octets[1..]);
                }
                packet.extend(payload);
                packet
            }
        }
    }
}
