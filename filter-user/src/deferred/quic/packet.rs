//! The packets of a datagram.

use filter_common::{
    bytes::{BUFFER, Bytes, Slice},
    frame::Payload,
    quic::{Header, MAX_COALESCED, kind},
    verdict::Reason,
};

/// An Initial, still protected.
#[derive(Clone, Copy, Debug)]
pub struct Initial<'a> {
    /// Version.
    pub version: u32,
    /// Destination connection id.
    pub dcid: &'a [u8],
    /// Source connection id.
    pub scid: &'a [u8],
    /// The packet.
    pub packet: &'a [u8],
    /// Where in it the packet number stands.
    pub number: usize,
}

/// The Initials among the first packets of a datagram. The first error ends it.
pub fn initials(datagram: &[u8]) -> impl Iterator<Item = Result<Initial<'_>, Reason>> {
    headers(datagram).filter_map(|header| match header {
        Err(reason) => Some(Err(reason)),
        Ok(header) if header.kind == kind::INITIAL => Initial::of(&header, datagram).map(Ok),
        Ok(_) => None,
    })
}

/// The destination connection id of a datagram that begins with a Handshake packet of a client without a connection id
/// of its own.
pub fn handshake(datagram: &[u8]) -> Option<&[u8]> {
    let header = headers(datagram).next()?.ok()?;
    if header.kind != kind::HANDSHAKE || header.scid_len > 0 {
        return None;
    }
    octets(datagram, header.dcid, header.dcid + header.dcid_len)
}

fn headers(datagram: &[u8]) -> impl Iterator<Item = Result<Header, Reason>> {
    let bytes = Datagram(datagram);
    let end = bytes.len();
    let mut rest = Some(Payload { start: 1, end });
    let headers = std::iter::from_fn(move || {
        let header = Header::read(&bytes, &rest?);
        rest = header.ok().and_then(|header| header.rest(end));
        Some(header)
    });
    headers.take(1 + MAX_COALESCED as usize)
}

fn octets(datagram: &[u8], at: u32, end: u32) -> Option<&[u8]> {
    datagram.get(at as usize - 1..end as usize - 1)
}

impl<'a> Initial<'a> {
    fn of(header: &Header, datagram: &'a [u8]) -> Option<Self> {
        Some(Self {
            version: header.version,
            dcid: octets(datagram, header.dcid, header.dcid + header.dcid_len)?,
            scid: octets(datagram, header.scid, header.scid + header.scid_len)?,
            packet: octets(datagram, header.start, header.next)?,
            number: (header.number - header.start) as usize,
        })
    }
}

/// A datagram without the headers before it, of which a reader may look at one octet: its first octet is at 1.
#[derive(Clone, Copy)]
struct Datagram<'a>(&'a [u8]);

impl Bytes for Datagram<'_> {
    fn len(&self) -> u32 {
        1 + self.0.len() as u32
    }

    fn be16(&self, at: u32) -> Option<u16> {
        match at.checked_sub(1) {
            Some(at) => Slice(self.0).be16(at),
            None => self.0.first().copied().map(u16::from),
        }
    }

    fn be32(&self, at: u32) -> Option<u32> {
        Slice(self.0).be32(at.checked_sub(1)?)
    }

    fn be64(&self, at: u32) -> Option<u64> {
        Slice(self.0).be64(at.checked_sub(1)?)
    }

    /// Nothing is copied from here.
    fn copy(&self, _at: u32, _len: u32, _buffer: &mut [u8; BUFFER], _to: u32) -> bool {
        false
    }
}
