//! Frames, built from what is in them.
//!
//! A [`Packet`] is plain data: take one, change the fields that a case is about, and [`Packet::build`] it. Lengths and
//! checksums are right unless a field says otherwise.

use std::net::{Ipv4Addr, Ipv6Addr};

pub mod answer;
pub mod dns;
pub mod ip;
pub mod quic;
pub mod received;
pub mod tls;
pub mod transport;

pub use self::{
    dns::{Edns, Query, kind, name_wire},
    ip::{Extension, Fragment, Ip},
    tls::{Hello, extension, server_name, server_name_list},
    transport::{Transport, flag},
};

/// Ethernet address of the client.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Ethernet address of the border.
pub const BORDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];
/// The client.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The server.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
/// The client.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// The server.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x53);
/// The client's port.
pub const CLIENT_PORT: u16 = 40_000;

/// 802.1Q.
pub const VLAN: u16 = 0x8100;
/// 802.1ad.
pub const QINQ: u16 = 0x88a8;
/// The QinQ ethertype from before 802.1ad.
pub const OLD_QINQ: u16 = 0x9100;

/// A frame's content.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Ethernet destination.
    pub destination: [u8; 6],
    /// Ethernet source.
    pub source: [u8; 6],
    /// VLAN tags, outermost first: TPID and TCI.
    pub tags: Vec<(u16, u16)>,
    /// What lies between the tags and the first IP header.
    pub link: Link,
    /// The tunnel.
    pub tunnel: Option<Tunnel>,
    /// The network layer; in a tunnel the inner one.
    pub ip: Ip,
    /// The transport layer.
    pub transport: Transport,
    /// The transport's payload.
    pub payload: Vec<u8>,
    /// Octets after the IP packet: Ethernet padding.
    pub trailer: Vec<u8>,
}

/// What lies between the tags and the first IP header.
#[derive(Clone, Debug)]
pub enum Link {
    /// The IP version's ethertype.
    Plain,
    /// Another ethertype, and octets after it.
    Other(u16, Vec<u8>),
    /// A PPPoE session (RFC 2516).
    Pppoe {
        /// SESSION_ID.
        session: u16,
        /// In place of the IP version's PPP protocol.
        protocol: Option<u16>,
        /// In place of the right length.
        length: Option<u16>,
    },
    /// MPLS labels, outermost first (RFC 3032).
    Mpls(Vec<u32>),
}

/// A tunnel over IP.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// The outer header.
    pub ip: Ip,
    /// In place of IP in IP: a GRE header without the ethertype, which is put after its first two octets.
    pub gre: Option<Vec<u8>>,
}

impl Tunnel {
    /// IP in IP.
    pub fn ip(ip: Ip) -> Self {
        Self { ip, gre: None }
    }

    /// GRE with the flags and options, or version, in these octets: at least the first two.
    pub fn gre(ip: Ip, header: &[u8]) -> Self {
        Self { ip, gre: Some(header.to_vec()) }
    }

    fn len(&self) -> usize {
        self.ip.header_len() + self.gre.as_ref().map_or(0, |header| header.len() + 2)
    }

    fn build(&self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let Some(header) = &self.gre else {
            return self.ip.build(if ethertype == 0x0800 { 4 } else { 41 }, packet);
        };
        let (flags, options) = header.split_at(2);
        self.ip.build(47, &[flags, &ethertype.to_be_bytes(), options, packet].concat())
    }
}

/// Where the headers of a built frame start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The outermost IP header.
    pub outer: usize,
    /// IP header; in a tunnel the inner one.
    pub l3: usize,
    /// Transport header.
    pub l4: usize,
    /// Transport payload.
    pub payload: usize,
}

impl Packet {
    /// From the client to the server by the given IP and transport.
    pub fn new(ip: Ip, transport: Transport, payload: Vec<u8>) -> Self {
        Self {
            destination: BORDER_MAC,
            source: CLIENT_MAC,
            tags: Vec::new(),
            link: Link::Plain,
            tunnel: None,
            ip,
            transport,
            payload,
            trailer: Vec::new(),
        }
    }

    /// A DNS query over UDP, port 53.
    pub fn dns(ip: Ip, query: &Query) -> Self {
        Self::new(ip, Transport::udp(53), query.build())
    }

    /// A ClientHello in a TCP segment, port 443.
    pub fn tls(ip: Ip, hello: &Hello) -> Self {
        Self::new(ip, Transport::tcp(443), hello.build())
    }

    /// With a VLAN tag inside those that are there.
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }

    /// Puts another ethertype and header between Ethernet and IP.
    pub fn encapsulated(mut self, ethertype: u16, header: &[u8]) -> Self {
        self.link = Link::Other(ethertype, header.to_vec());
        self
    }

    /// In a PPPoE session.
    pub fn pppoe(mut self, session: u16) -> Self {
        self.link = Link::Pppoe { session, protocol: None, length: None };
        self
    }

    /// Under MPLS labels.
    pub fn mpls(mut self, labels: &[u32]) -> Self {
        self.link = Link::Mpls(labels.to_vec());
        self
    }

    /// In a tunnel.
    pub fn tunnel(mut self, tunnel: Tunnel) -> Self {
        self.tunnel = Some(tunnel);
        self
    }

    /// To another destination port.
    pub fn port(mut self, port: u16) -> Self {
        self.transport.set_destination(port);
        self
    }

    /// From another Ethernet and IP source.
    pub fn with_ip(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        change(&mut self.ip);
        self
    }

    /// With another transport header.
    pub fn with_transport(mut self, change: impl FnOnce(&mut Transport)) -> Self {
        change(&mut self.transport);
        self
    }

    /// With `octets` of Ethernet padding.
    pub fn padded(mut self, octets: usize) -> Self {
        self.trailer = vec![0; octets];
        self
    }

    /// Where the headers start in the built frame.
    pub fn positions(&self) -> Positions {
        let link = match &self.link {
            Link::Plain => 0,
            Link::Other(_, header) => header.len(),
            Link::Pppoe { .. } => 8,
            Link::Mpls(labels) => 4 * labels.len(),
        };
        let outer = 14 + 4 * self.tags.len() + link;
        let l3 = outer + self.tunnel.as_ref().map_or(0, Tunnel::len);
        let l4 = l3 + self.ip.header_len();
        Positions { outer, l3, l4, payload: l4 + self.transport.header_len() }
    }

    /// The frame, without FCS.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination);
        frame.extend(self.source);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let transport = self.transport.build(&self.ip, &self.payload);
        let mut packet = self.ip.build(self.transport.protocol(), &transport);
        let mut outermost = &self.ip;
        if let Some(tunnel) = &self.tunnel {
            packet = tunnel.build(self.ip.ethertype(), &packet);
            outermost = &tunnel.ip;
        }
        match &self.link {
            Link::Plain => frame.extend(outermost.ethertype().to_be_bytes()),
            Link::Other(ethertype, header) => {
                frame.extend(ethertype.to_be_bytes());
                frame.extend(header);
            }
            Link::Pppoe { session, protocol, length } => {
                let protocol = protocol.unwrap_or(if outermost.is_v4() { 0x0021 } else { 0x0057 });
                let length = length.unwrap_or((packet.len() + 2) as u16);
                frame.extend([0x88, 0x64, 0x11, 0]);
                frame.extend([*session, length, protocol].map(u16::to_be_bytes).concat());
            }
            Link::Mpls(labels) => {
                frame.extend([0x88, 0x47]);
                for (index, label) in labels.iter().enumerate() {
                    let bottom = u32::from(index + 1 == labels.len());
                    frame.extend((label << 12 | bottom << 8 | 64).to_be_bytes());
                }
            }
        }
        frame.extend(packet);
        frame.extend(&self.trailer);
        frame
    }
}

/// The internet checksum over several parts of even length, the last excepted (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let &[high, low] = pair else {
                sum += u32::from(pair[0]) << 8;
                continue;
            };
            sum += u32::from(u16::from_be_bytes([high, low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame with other octets at a position.
pub fn patched(frame: &[u8], at: usize, octets: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + octets.len()].copy_from_slice(octets);
    frame
}
