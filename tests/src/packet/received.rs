//! What came back, taken apart without the code that built it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};

use super::{OLD_QINQ, QINQ, VLAN, checksum};

/// A frame that came back: well-formed, its checksums right, nothing after the IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Ethernet destination.
    pub to_mac: [u8; 6],
    /// Ethernet source.
    pub from_mac: [u8; 6],
    /// VLAN tags, outermost first: TPID and TCI.
    pub tags: Vec<(u16, u16)>,
    /// SESSION_ID of PPPoE.
    pub session: Option<u16>,
    /// The tunnel.
    pub tunnel: Option<Around>,
    /// IP source.
    pub from: IpAddr,
    /// IP destination.
    pub to: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// The transport.
    pub content: Content,
}

/// The tunnel that a packet came back in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    /// IP source.
    pub from: IpAddr,
    /// IP destination.
    pub to: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// GRE, not IP in IP.
    pub is_gre: bool,
}

/// What is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A datagram's payload.
    Udp(Vec<u8>),
    /// A segment without data.
    Tcp {
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// Flags.
        flags: u8,
        /// Window.
        window: u16,
    },
}

impl Received {
    /// Takes a frame apart.
    ///
    /// # Errors
    /// If anything is not as RFC 791, 8200, 768 or 9293 says, or is there without need: IP options, extension
    /// headers, TCP options, data after the IP packet.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let (to_mac, rest) = take(frame)?;
        let (from_mac, rest) = take(rest)?;
        let (mut ethertype, mut rest) = be16(rest)?;
        let mut tags = Vec::new();
        while matches!(ethertype, VLAN | QINQ | OLD_QINQ) {
            let (tci, after) = be16(rest)?;
            tags.push((ethertype, tci));
            (ethertype, rest) = be16(after)?;
        }
        let mut session = None;
        if ethertype == 0x8864 {
            let (head, after) = take::<8>(rest)?;
            let [0x11, 0, s0, s1, l0, l1, p0, p1] = head else { bail!("PPPoE header {head:02x?}") };
            ensure!(usize::from(u16::from_be_bytes([l0, l1])) == after.len() + 2, "wrong PPPoE length");
            session = Some(u16::from_be_bytes([s0, s1]));
            ethertype = match u16::from_be_bytes([p0, p1]) {
                0x0021 => 0x0800,
                0x0057 => 0x86dd,
                other => bail!("PPP protocol {other:#06x}"),
            };
            rest = after;
        }
        let mut ip = network(ethertype, rest)?;
        let mut tunnel = None;
        if matches!(ip.protocol, 4 | 41 | 47) {
            let is_gre = ip.protocol == 47;
            tunnel = Some(Around { from: ip.from, to: ip.to, hops: ip.hops, is_gre });
            let (ethertype, packet) = match ip.protocol {
                4 => (0x0800, ip.payload),
                41 => (0x86dd, ip.payload),
                _ => {
                    let (flags, rest) = be16(ip.payload)?;
                    ensure!(flags == 0, "GRE flags");
                    be16(rest)?
                }
            };
            ip = network(ethertype, packet)?;
        }
        ensure!(checksum(&[&ip.pseudo, ip.payload]) == 0, "wrong transport checksum");
        let (from_port, rest) = be16(ip.payload)?;
        let (to_port, rest) = be16(rest)?;
        let content = match ip.protocol {
            17 => udp(rest, ip.payload.len())?,
            6 => tcp(rest)?,
            other => bail!("IP protocol {other}"),
        };
        Ok(Self {
            to_mac,
            from_mac,
            tags,
            session,
            tunnel,
            from: ip.from,
            to: ip.to,
            hops: ip.hops,
            from_port,
            to_port,
            content,
        })
    }

    /// The DNS message in it.
    ///
    /// # Errors
    /// If it is not UDP.
    pub fn message(&self) -> Result<&[u8]> {
        let Content::Udp(message) = &self.content else { bail!("not UDP") };
        Ok(message)
    }
}

struct Network<'a> {
    from: IpAddr,
    to: IpAddr,
    hops: u8,
    protocol: u8,
    pseudo: Vec<u8>,
    payload: &'a [u8],
}

fn network(ethertype: u16, packet: &[u8]) -> Result<Network<'_>> {
    match ethertype {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        other => bail!("ethertype {other:#06x}"),
    }
}

fn ipv4(packet: &[u8]) -> Result<Network<'_>> {
    let (header, payload) = packet.split_first_chunk::<20>().context("IPv4 header cut short")?;
    let [0x45, 0, t0, t1, _, _, f0, f1, hops, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header else {
        bail!("not a plain IPv4 header: {:#04x}, TOS {}", header[0], header[1]);
    };
    ensure!(usize::from(u16::from_be_bytes([t0, t1])) == packet.len(), "wrong total length");
    ensure!([f0, f1] == [0x40, 0], "flags and fragment offset");
    ensure!(checksum(&[header]) == 0, "wrong IPv4 header checksum");
    let mut pseudo = vec![s0, s1, s2, s3, d0, d1, d2, d3, 0, protocol];
    pseudo.extend((payload.len() as u16).to_be_bytes());
    let (from, to) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    Ok(Network { from: from.into(), to: to.into(), hops, protocol, pseudo, payload })
}

fn ipv6(packet: &[u8]) -> Result<Network<'_>> {
    let (header, payload) = packet.split_first_chunk::<40>().context("IPv6 header cut short")?;
    let (start, addresses) = header.split_at(8);
    let &[0x60, 0, 0, 0, l0, l1, protocol, hops] = start else { bail!("version, class and flow label: {start:02x?}") };
    ensure!(usize::from(u16::from_be_bytes([l0, l1])) == payload.len(), "wrong payload length");
    let (from, rest) = take::<16>(addresses)?;
    let (to, _) = take::<16>(rest)?;
    let mut pseudo = addresses.to_vec();
    pseudo.extend((payload.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    Ok(Network { from: Ipv6Addr::from(from).into(), to: Ipv6Addr::from(to).into(), hops, protocol, pseudo, payload })
}

fn udp(rest: &[u8], len: usize) -> Result<Content> {
    let (length, rest) = be16(rest)?;
    let (sum, message) = be16(rest)?;
    ensure!(usize::from(length) == len, "wrong UDP length");
    ensure!(sum != 0, "no UDP checksum");
    Ok(Content::Udp(message.to_vec()))
}

fn tcp(rest: &[u8]) -> Result<Content> {
    let (sequence, rest) = take(rest)?;
    let (acknowledgement, rest) = take(rest)?;
    let &[offset, flags, w0, w1, _, _, 0, 0] = rest else { bail!("not a TCP header without options and data") };
    ensure!(offset == 0x50, "data offset {offset:#04x}");
    Ok(Content::Tcp {
        sequence: u32::from_be_bytes(sequence),
        acknowledgement: u32::from_be_bytes(acknowledgement),
        flags,
        window: u16::from_be_bytes([w0, w1]),
    })
}

fn take<const N: usize>(octets: &[u8]) -> Result<([u8; N], &[u8])> {
    let (first, rest) = octets.split_first_chunk().context("cut short")?;
    Ok((*first, rest))
}

fn be16(octets: &[u8]) -> Result<(u16, &[u8])> {
    let (two, rest) = take(octets)?;
    Ok((u16::from_be_bytes(two), rest))
}
