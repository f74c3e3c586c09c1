//! The keys that protect a client's Initial packets, which follow from a connection id (RFC 9001 5.2).

use std::{fmt, sync::LazyLock};

use filter_common::quic::{V1, V2};
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey, quic},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};

/// A client's Initial keys under one connection id and version.
pub struct Keys {
    packet: LessSafeKey,
    iv: [u8; NONCE_LEN],
    header: quic::HeaderProtectionKey,
}

/// A packet that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its packet number.
    pub number: u64,
    /// Octets before its frames.
    pub head: usize,
    /// Octets up to the end of its frames.
    pub end: usize,
}

impl Keys {
    /// Derives them; `None` for a version that is not known.
    pub fn new(version: u32, dcid: &[u8]) -> Option<Self> {
        let (salt, labels) = match version {
            V1 => (&*SALT_V1, &LABELS_V1),
            V2 => (&*SALT_V2, &LABELS_V2),
            _ => return None,
        };
        let secret = Prk::from(salt.extract(dcid).expand(&CLIENT_IN, HKDF_SHA256).ok()?);
        let mut iv = [0; NONCE_LEN];
        secret.expand(&labels.iv, IvLength).ok()?.fill(&mut iv).ok()?;
        let packet = UnboundKey::from(secret.expand(&labels.key, &AES_128_GCM).ok()?);
        let header = quic::HeaderProtectionKey::from(secret.expand(&labels.header, &quic::AES_128).ok()?);
        Some(Self { packet: LessSafeKey::new(packet), iv, header })
    }

    /// Removes the protection of a packet whose number stands at `number`, in place (RFC 9001 5.3, 5.4), and checks its
    /// tag. `largest` is the largest packet number so far. Afterwards the packet is of no use under other keys.
    pub fn open(&self, packet: &mut [u8], number: usize, largest: Option<u64>) -> Option<Opened> {
        let sample = packet.get(number + 4..)?.first_chunk::<16>()?;
        let mask = self.header.new_mask(sample).ok()?;
        let first = packet.first_mut()?;
        *first ^= mask[0] & 0x0f;
        let number_len = usize::from(*first & 3) + 1;
        let head = number + number_len;
        let mut truncated = 0;
        for (octet, mask) in packet.get_mut(number..head)?.iter_mut().zip(&mask[1..]) {
            *octet ^= mask;
            truncated = truncated << 8 | u64::from(*octet);
        }
        let packet_number = full_number(truncated, number_len, largest);
        let mut nonce = self.iv;
        for (octet, number) in nonce.iter_mut().rev().zip(packet_number.to_le_bytes()) {
            *octet ^= number;
        }
        let (aad, sealed) = packet.split_at_mut_checked(head)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let frames = self.packet.open_in_place(nonce, Aad::from(&*aad), sealed).ok()?;
        Some(Opened { number: packet_number, head, end: head + frames.len() })
    }
}

/// RFC 9000 A.3.
fn full_number(truncated: u64, octets: usize, largest: Option<u64>) -> u64 {
    let window = 1_u64 << (8 * octets);
    let expected = largest.map_or(0, |largest| largest + 1);
    let candidate = expected & !(window - 1) | truncated;
    if candidate + window / 2 <= expected && candidate + window < 1 << 62 {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

struct IvLength;

impl KeyType for IvLength {
    fn len(&self) -> usize {
        NONCE_LEN
    }
}

/// What tells the keys of a version apart: each an `HkdfLabel` with an empty context (RFC 8446 7.1).
struct Labels {
    key: [&'static [u8]; 1],
    iv: [&'static [u8]; 1],
    header: [&'static [u8]; 1],
}

const CLIENT_IN: [&[u8]; 1] = [b"\0\x20\x0ftls13 client in\0"];

/// RFC 9001 5.1.
const LABELS_V1: Labels = Labels {
    key: [b"\0\x10\x0etls13 quic key\0"],
    iv: [b"\0\x0c\x0dtls13 quic iv\0"],
    header: [b"\0\x10\x0dtls13 quic hp\0"],
};

/// RFC 9369 3.3.2.
const LABELS_V2: Labels = Labels {
    key: [b"\0\x10\x10tls13 quicv2 key\0"],
    iv: [b"\0\x0c\x0ftls13 quicv2 iv\0"],
    header: [b"\0\x10\x0ftls13 quicv2 hp\0"],
};

/// RFC 9001 5.2.
static SALT_V1: LazyLock<Salt> = LazyLock::new(|| Salt::new(HKDF_SHA256, &OCTETS_V1));
const OCTETS_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f,
    0x0a,
];

/// RFC 9369 3.3.1.
static SALT_V2: LazyLock<Salt> = LazyLock::new(|| Salt::new(HKDF_SHA256, &OCTETS_V2));
const OCTETS_V2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e,
    0xd9,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_numbers_are_completed() {
        // RFC 9000 A.3.
        assert_eq!(full_number(0x9b32, 2, Some(0xa82f_30ea)), 0xa82f_9b32);
        assert_eq!(full_number(0, 1, None), 0);
        assert_eq!(full_number(255, 1, None), 255);
        assert_eq!(full_number(2, 1, Some(255)), 258);
        assert_eq!(full_number(254, 1, Some(256)), 254);
    }
}
