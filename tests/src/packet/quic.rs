//! A QUIC client's packets (RFC 9000, RFC 9001, RFC 9369), sealed by rustls.

use rustls::{
    Side, SupportedCipherSuite,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};

/// A client's side of a connection. Datagrams are built one after the other; change the fields between them.
#[derive(Clone, Debug)]
pub struct Client {
    /// Version of the packets.
    pub version: Version,
    /// What the Initial keys follow from: the destination connection id of the first Initial (RFC 9001 5.2).
    pub origin: Vec<u8>,
    /// Destination connection id.
    pub dcid: Vec<u8>,
    /// Source connection id.
    pub scid: Vec<u8>,
    /// Token of Initials.
    pub token: Vec<u8>,
    /// The next packet number.
    pub number: u64,
    /// Octets of the packet number.
    pub number_len: usize,
    /// Octets of a datagram at least: Initials are filled up with PADDING (RFC 9000 14.1).
    pub size: usize,
}

impl Client {
    /// Version 1, with these connection ids.
    pub fn new(dcid: &[u8], scid: &[u8]) -> Self {
        Self {
            version: Version::V1,
            origin: dcid.to_vec(),
            dcid: dcid.to_vec(),
            scid: scid.to_vec(),
            token: Vec::new(),
            number: 0,
            number_len: 2,
            size: 1200,
        }
    }

    /// Of version 2.
    pub fn v2(mut self) -> Self {
        self.version = Version::V2;
        self
    }

    /// Datagrams with the handshake in order, one CRYPTO frame each.
    pub fn datagrams(&mut self, handshake: &[u8]) -> Vec<Vec<u8>> {
        let portions = handshake.chunks(self.size - 100).scan(0, |at, octets| {
            let frame = crypto(*at, octets);
            *at += octets.len();
            Some(frame)
        });
        portions.collect::<Vec<_>>().into_iter().map(|frame| self.initial(&frame)).collect()
    }

    /// A datagram of one Initial with these frames, and PADDING behind them.
    pub fn initial(&mut self, frames: &[u8]) -> Vec<u8> {
        let head = 5 + 1 + self.dcid.len() + 1 + self.scid.len() + varint(self.token.len()).len() + self.token.len();
        let without = head + 2 + self.number_len + TAG;
        let mut frames = frames.to_vec();
        frames.resize(frames.len().max(self.size.saturating_sub(without)), 0);
        self.initial_packet(&frames)
    }

    /// An Initial with exactly these frames.
    pub fn initial_packet(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut frames = frames.to_vec();
        // Header protection samples 16 octets behind four of packet number (RFC 9001 5.4.2).
        frames.resize(frames.len().max(4 - self.number_len), 0);
        let mut packet = self.long_header(0);
        packet.extend(varint(self.token.len()));
        packet.extend(&self.token);
        self.seal(packet, &frames)
    }

    /// A packet of another type than Initial, with so many octets that no one can read: 1 for 0-RTT, 2 for Handshake.
    pub fn opaque(&self, kind: u8, octets: usize) -> Vec<u8> {
        let mut packet = self.long_header(kind);
        packet.extend(varint2(octets));
        packet.extend((0..octets).map(|n| (n * 7) as u8));
        packet
    }

    /// A packet with a short header.
    pub fn short(&self, octets: usize) -> Vec<u8> {
        let mut packet = vec![0x41];
        packet.extend(&self.dcid);
        packet.extend((0..octets).map(|n| (n * 11) as u8));
        packet
    }

    fn long_header(&self, kind: u8) -> Vec<u8> {
        let (version, bits) = match self.version {
            Version::V2 => (0x6b33_43cf_u32, (kind + 1) & 3),
            _ => (1, kind),
        };
        let mut header = vec![0xc0 | bits << 4];
        header.extend(version.to_be_bytes());
        for id in [&self.dcid, &self.scid] {
            header.push(id.len() as u8);
            header.extend(id);
        }
        header
    }

    fn seal(&mut self, mut header: Vec<u8>, frames: &[u8]) -> Vec<u8> {
        let keys = self.keys();
        header.extend(varint2(self.number_len + frames.len() + TAG));
        header[0] |= self.number_len as u8 - 1;
        let number = header.len();
        header.extend(&self.number.to_be_bytes()[8 - self.number_len..]);
        let mut packet = header.clone();
        packet.extend(frames);
        let sealed = &mut packet[header.len()..];
        let tag = keys.local.packet.encrypt_in_place(self.number, &header, sealed).expect("it can be sealed");
        packet.extend(tag.as_ref());
        let sample = packet[number + 4..number + 20].to_vec();
        let (first, rest) = packet.split_at_mut(1);
        let number = &mut rest[number - 1..number - 1 + self.number_len];
        keys.local.header.encrypt_in_place(&sample, &mut first[0], number).expect("it can be protected");
        self.number += 1;
        packet
    }

    fn keys(&self) -> Keys {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { unreachable!("it is of TLS 1.3") };
        let quic = suite.quic.expect("with QUIC");
        Keys::initial(self.version, suite, quic, &self.origin, Side::Client)
    }
}

/// A CRYPTO frame (RFC 9000 19.6).
pub fn crypto(offset: usize, octets: &[u8]) -> Vec<u8> {
    [&[6][..], &varint(offset), &varint(octets.len()), octets].concat()
}

/// The shortest form of a variable-length integer (RFC 9000 16).
pub fn varint(value: usize) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => varint2(value),
        _ => (0x8000_0000 | value as u32).to_be_bytes().to_vec(),
    }
}

/// In two octets.
fn varint2(value: usize) -> Vec<u8> {
    (0x4000 | value as u16).to_be_bytes().to_vec()
}

const TAG: usize = 16;
