//! The frames of an Initial packet (RFC 9000 12.4, 19).

/// A portion of the handshake's octets (RFC 9000 19.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crypto<'a> {
    /// Where in the stream it begins.
    pub offset: u64,
    /// Its octets.
    pub octets: &'a [u8],
}

/// The CRYPTO frames of these octets. What no Initial may have, and what is malformed, ends them: a server would give
/// the connection up (RFC 9000 12.4, 17.2.2).
pub fn crypto(frames: &[u8]) -> impl Iterator<Item = Crypto<'_>> {
    let mut rest = Reader(frames);
    std::iter::from_fn(move || rest.next_crypto())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next_crypto(&mut self) -> Option<Crypto<'a>> {
        loop {
            self.skip_padding();
            // The shortest encoding is demanded of frame types (RFC 9000 12.4).
            match *self.octets(1)?.first()? {
                PING => {}
                kind @ (ACK | ACK_ECN) => self.ack(kind == ACK_ECN)?,
                CRYPTO => {
                    let offset = self.varint()?;
                    let len = self.varint()?;
                    return Some(Crypto { offset, octets: self.octets(len)? });
                }
                // CONNECTION_CLOSE, too: nothing after it counts.
                _ => return None,
            }
        }
    }

    fn skip_padding(&mut self) {
        while let Some(rest) = self.0.strip_prefix(&[0; 32]) {
            self.0 = rest;
        }
        let zeros = self.0.iter().take_while(|octet| **octet == PADDING).count();
        self.0 = self.0.get(zeros..).unwrap_or_default();
    }

    /// RFC 9000 19.3.
    fn ack(&mut self, has_ecn: bool) -> Option<()> {
        let (_largest, _delay) = (self.varint()?, self.varint()?);
        let ranges = self.varint()?;
        let _first = self.varint()?;
        for _ in 0..ranges {
            let (_gap, _len) = (self.varint()?, self.varint()?);
        }
        if has_ecn {
            let _counts = (self.varint()?, self.varint()?, self.varint()?);
        }
        Some(())
    }

    /// RFC 9000 16.
    fn varint(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let octets = self.octets(1 << (first >> 6))?;
        let value = octets.iter().fold(0, |value, octet| value << 8 | u64::from(*octet));
        Some(value & u64::MAX >> (66 - 8 * octets.len()))
    }

    fn octets(&mut self, len: u64) -> Option<&'a [u8]> {
        let (octets, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(octets)
    }
}

const PADDING: u8 = 0;
const PING: u8 = 1;
const ACK: u8 = 2;
const ACK_ECN: u8 = 3;
const CRYPTO: u8 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(frames: &[u8]) -> Vec<(u64, &[u8])> {
        crypto(frames).map(|crypto| (crypto.offset, crypto.octets)).collect()
    }

    #[test]
    fn q2_padding_and_ping_before_and_between() {
        let frames =
            [&[0; 100][..], &[1, 1, 6, 0x40, 5, 2, b'b', b'c', 0, 1], &[0; 70], &[6, 0, 1, b'a'], &[0; 9]].concat();
        assert_eq!(read(&frames), [(5, &b"bc"[..]), (0, b"a")]);
    }

    #[test]
    fn q2_acknowledgements_are_read_over() {
        let frames =
            [&[2, 0x40, 9, 0, 1, 2, 3, 4][..], &[3, 9, 0, 0, 2, 1, 2, 0x80, 0, 0, 3], &[6, 0, 1, b'a']].concat();
        assert_eq!(read(&frames), [(0, &b"a"[..])]);
    }

    #[test]
    fn what_no_initial_may_have_ends_them() {
        for other in [[0x1c, 0].as_slice(), &[0x08], &[0x40, 6], &[0x1e], &[0xff; 9]] {
            let frames = [&[6, 0, 1, b'a'][..], other, &[6, 1, 1, b'b']].concat();
            assert_eq!(read(&frames), [(0, &b"a"[..])], "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_survives(frames in prop::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..300)) {
            let _ = read(&frames);
        }
    }
}
