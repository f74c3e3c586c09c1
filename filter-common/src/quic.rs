//! The headers of QUIC packets, versions 1 and 2: what can be told without keys (RFC 8999, RFC 9000 17, RFC 9369 3).
//!
//! A datagram holds one or several packets (RFC 9000 12.2). [`Header::read`] reads one; [`Header::next`] is where the
//! next one begins. Octets that header protection covers are not believed.

use crate::{bytes::Bytes, frame::Payload, verdict::Reason};

/// The header of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// [`V1`] or [`V2`]; 0 for a short header.
    pub version: u32,
    /// Code of [`kind`].
    pub kind: u32,
    /// Position of the packet's first octet.
    pub start: u32,
    /// Position of the destination connection id. In a short header nothing tells its length.
    pub dcid: u32,
    /// Octets of the destination connection id; 0 for a short header.
    pub dcid_len: u32,
    /// Position of the source connection id.
    pub scid: u32,
    /// Its octets.
    pub scid_len: u32,
    /// Octets of an Initial's token.
    pub token_len: u32,
    /// Position of the packet number, which is protected; the end of the packet for those without one.
    pub number: u32,
    /// Position after the packet.
    pub next: u32,
}

/// Types of packets.
pub mod kind {
    /// Initial.
    pub const INITIAL: u32 = 0;
    /// 0-RTT.
    pub const ZERO_RTT: u32 = 1;
    /// Handshake.
    pub const HANDSHAKE: u32 = 2;
    /// Retry, which only servers send.
    pub const RETRY: u32 = 3;
    /// A short header.
    pub const SHORT: u32 = 4;
}

/// Version 1 (RFC 9000 15).
pub const V1: u32 = 1;
/// Version 2 (RFC 9369 3.1).
pub const V2: u32 = 0x6b33_43cf;

/// Longest connection id of versions 1 and 2 (RFC 9000 17.2).
pub const MAX_CONNECTION_ID: u32 = 20;

/// Packets of a datagram that are looked at for an Initial behind the first.
pub const MAX_COALESCED: u32 = 3;

impl Header {
    /// Reads the header of the packet that begins where `rest` does.
    #[inline(always)]
    pub fn read<B: Bytes>(bytes: &B, rest: &Payload) -> Result<Self, Reason> {
        let Payload { start, end } = *rest;
        if end.wrapping_sub(start) < SHORTEST || end < start {
            return Err(Reason::QuicNotQuic);
        }
        let first = octet(bytes, start).ok_or(Reason::QuicNotQuic)?;
        if first & LONG == 0 {
            if first & FIXED == 0 {
                return Err(Reason::QuicNotQuic);
            }
            return Ok(Self::short(rest));
        }
        let version = bytes.be32(start + 1).ok_or(Reason::QuicNotQuic)?;
        if version != V1 && version != V2 {
            return Err(if first & FIXED == 0 { Reason::QuicNotQuic } else { Reason::QuicVersion });
        }
        // In a known version the fixed bit may be clear (RFC 9287).
        let mut header = Self { version, kind: kind_of(version, first), start, next: end, ..Self::default() };
        header.dcid = start + 6;
        header.dcid_len = connection_id(bytes, start + 5)?;
        header.scid = header.dcid + header.dcid_len + 1;
        header.scid_len = connection_id(bytes, header.scid - 1)?;
        header.number = header.scid + header.scid_len;
        if header.number > end {
            return Err(Reason::QuicMalformed);
        }
        header.read_lengths(bytes, end)?;
        Ok(header)
    }

    /// A short header whose fixed bit is clear (RFC 9287), if that is what it is: only its connection can tell.
    #[inline(always)]
    pub fn greased<B: Bytes>(bytes: &B, rest: &Payload) -> Option<Self> {
        let Payload { start, end } = *rest;
        let is_long_enough = end >= start && end - start >= SHORTEST;
        (is_long_enough && octet(bytes, start)? & (LONG | FIXED) == 0).then(|| Self::short(rest))
    }

    #[inline(always)]
    fn short(&Payload { start, end }: &Payload) -> Self {
        Self { kind: kind::SHORT, start, dcid: start + 1, number: end, next: end, ..Self::default() }
    }

    /// An Initial's token, and the length that all but Retry have (RFC 9000 17.2.2 to 17.2.5).
    #[inline(always)]
    fn read_lengths<B: Bytes>(&mut self, bytes: &B, end: u32) -> Result<(), Reason> {
        if self.kind == kind::RETRY {
            self.number = end;
            return Ok(());
        }
        if self.kind == kind::INITIAL {
            let token = VarInt::read(bytes, self.number, end)?;
            self.token_len = token.value;
            if token.value > end - token.after {
                return Err(Reason::QuicMalformed);
            }
            self.number = token.after + token.value;
        }
        let length = VarInt::read(bytes, self.number, end)?;
        self.number = length.after;
        // Four octets of packet number, as header protection takes it, and a sample (RFC 9001 5.4.2).
        if length.value > end - length.after || length.value < MIN_LENGTH {
            return Err(Reason::QuicMalformed);
        }
        self.next = length.after + length.value;
        Ok(())
    }

    /// The packets behind this one, in a payload that ends at `end`; `None` if there are none.
    #[inline(always)]
    pub const fn rest(&self, end: u32) -> Option<Payload> {
        if self.next < end { Some(Payload { start: self.next, end }) } else { None }
    }

    /// The first Initial among this packet and the next [`MAX_COALESCED`] of a payload that ends at `end`.
    #[inline(always)]
    pub fn initial<B: Bytes>(&self, bytes: &B, end: u32) -> Option<Self> {
        let mut header = *self;
        for _ in 0..MAX_COALESCED {
            if header.kind == kind::INITIAL {
                return Some(header);
            }
            header = Self::read(bytes, &header.rest(end)?).ok()?;
        }
        if header.kind == kind::INITIAL { Some(header) } else { None }
    }
}

/// A connection id of up to 20 octets that ends before `end`, in three words: its last eight octets, those before them,
/// and the rest, with zeros in front. There are headers of more than 24 octets before it.
#[inline(always)]
pub fn id_words<B: Bytes>(bytes: &B, end: u32, len: u32) -> Option<[u64; 3]> {
    let last = id_word(bytes, end, len)?;
    let middle = id_word(bytes, end.wrapping_sub(8), len.saturating_sub(8))?;
    let first = id_word(bytes, end.wrapping_sub(16), len.saturating_sub(16))?;
    Some([last, middle, first])
}

/// The last `len` octets, eight at most, before `end`.
#[inline(always)]
fn id_word<B: Bytes>(bytes: &B, end: u32, len: u32) -> Option<u64> {
    let word = bytes.be64(end.wrapping_sub(8))?;
    Some(if len >= 8 { word } else { word & (1_u64 << (8 * len)).wrapping_sub(1) })
}

/// Shortest connection id of a server by which packets with short headers are told apart: shorter ones could be
/// guessed.
pub const MIN_SERVER_ID: u32 = 4;

/// RFC 9000 17.2, RFC 9369 3.2.
#[inline(always)]
const fn kind_of(version: u32, first: u32) -> u32 {
    let bits = first >> 4 & 3;
    if version == V1 { bits } else { bits.wrapping_sub(1) & 3 }
}

/// Octets of the connection id whose length stands at `at`.
#[inline(always)]
fn connection_id<B: Bytes>(bytes: &B, at: u32) -> Result<u32, Reason> {
    let len = octet(bytes, at).ok_or(Reason::QuicMalformed)?;
    if len > MAX_CONNECTION_ID { Err(Reason::QuicConnectionId) } else { Ok(len) }
}

/// One octet. There are headers before a payload, so there is one before `at`.
#[inline(always)]
fn octet<B: Bytes>(bytes: &B, at: u32) -> Option<u32> {
    bytes.be16(at.wrapping_sub(1)).map(|two| u32::from(two & 0xff))
}

/// A variable-length integer (RFC 9000 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VarInt {
    /// Its value.
    pub value: u32,
    /// Position after it.
    pub after: u32,
}

impl VarInt {
    /// Reads the one at `at`, before `end`. Values of 2^30 and more fit nothing here.
    #[inline(always)]
    pub fn read<B: Bytes>(bytes: &B, at: u32, end: u32) -> Result<Self, Reason> {
        let first = octet(bytes, at).ok_or(Reason::QuicMalformed)?;
        let len = 1 << (first >> 6);
        let after = at.wrapping_add(len);
        if after > end {
            return Err(Reason::QuicMalformed);
        }
        let value = match len {
            1 => first & 0x3f,
            2 => u32::from(bytes.be16(at).ok_or(Reason::QuicMalformed)?) & 0x3fff,
            4 => bytes.be32(at).ok_or(Reason::QuicMalformed)? & MOST,
            _ => {
                let value = bytes.be64(at).ok_or(Reason::QuicMalformed)? & (u64::MAX >> 2);
                if value > MOST as u64 {
                    return Err(Reason::QuicMalformed);
                }
                value as u32
            }
        };
        Ok(Self { value, after })
    }
}

/// Header form: long.
const LONG: u32 = 0x80;
/// The fixed bit.
const FIXED: u32 = 0x40;
/// A packet of a short header with an empty connection id: first octet, and what header protection needs.
const SHORTEST: u32 = 1 + MIN_LENGTH;
/// Four octets of packet number and 16 of sample (RFC 9001 5.4.2).
const MIN_LENGTH: u32 = 20;
const MOST: u32 = 0x3fff_ffff;
