//! The server name of a TLS ClientHello that begins in this segment.

use crate::{bytes::Bytes, frame::Payload, verdict::Reason};

/// The extensions of a ClientHello, read one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Extensions {
    /// Position of the record header.
    pub(crate) start: u32,
    /// Position of the next extension.
    pub(crate) at: u32,
    /// End of the extensions, as the hello says.
    pub(crate) end: u32,
    /// End of the first TLS record.
    pub(crate) record: u32,
    /// End of the segment.
    pub(crate) segment: u32,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another extension; step again.
    More,
    /// server_name.
    ServerName(ServerName),
    /// There is no server_name from here on, or it cannot be told.
    Stop(Reason),
}

/// A server_name extension's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServerName {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// Extensions that are read before the rest is let pass.
pub const MAX_EXTENSIONS: u32 = 128;

/// Whether a payload may begin a ClientHello, by its first octet: for all others, [`Extensions::begin`] comes to
/// [`Reason::TlsNotHello`].
#[inline(always)]
pub fn may_begin<B: Bytes>(bytes: &B, payload: &Payload) -> Option<bool> {
    let first = first_octet(bytes, payload)?;
    Some(matches!(first, HANDSHAKE | CHANGE_CIPHER_SPEC | ALERT))
}

/// The octet before the payload is a TCP header's, so two octets from there can be read.
#[inline(always)]
fn first_octet<B: Bytes>(bytes: &B, payload: &Payload) -> Option<u16> {
    Some(bytes.be16(payload.start - 1)? & 0xff)
}

impl Extensions {
    /// Reads from the record header to the extensions (RFC 8446 5.1, 4, 4.1.2).
    #[inline(always)]
    pub fn begin<B: Bytes>(bytes: &B, payload: &Payload) -> Result<Self, Reason> {
        let first = first_octet(bytes, payload).ok_or(Reason::TlsNotHello)?;
        let start = match first {
            HANDSHAKE => payload.start,
            // The second ClientHello, after a HelloRetryRequest, may have this before it (RFC 8446 D.4).
            CHANGE_CIPHER_SPEC => payload.start + 6,
            ALERT => payload.start,
            _ => return Err(Reason::TlsNotHello),
        };
        let mut hello = Self { start, at: start, end: u32::MAX, record: u32::MAX, segment: payload.end };
        if first != HANDSHAKE {
            let before = Self { at: payload.start, ..hello };
            let head = before.be32(bytes, 0)?;
            let length = before.be16(bytes, 3)?;
            let is_record = head >> 16 & 0xff == 3;
            // A record of no octets, or an alert of level warning: `stream` reads past them.
            if is_record && length == 0 && first == CHANGE_CIPHER_SPEC {
                return Err(Reason::TlsIncomplete);
            }
            let tail = before.be16(bytes, 4)?;
            if is_record && length == 2 && first == ALERT && tail & 0xff == WARNING {
                return Err(Reason::TlsIncomplete);
            }
            // A record of version 3.x with one octet, which is 1; and one of handshake behind it.
            if head & 0xffff_00ff != 0x1403_0000 || tail != 0x0101 || start == payload.end {
                return Err(Reason::TlsNotHello);
            }
            match hello.be16(bytes, 0)? >> 8 {
                HANDSHAKE => {}
                CHANGE_CIPHER_SPEC | ALERT => return Err(Reason::TlsIncomplete),
                _ => return Err(Reason::TlsNotHello),
            }
        }
        let record = hello.be32(bytes, 0)?;
        let record_len = u32::from(hello.be16(bytes, 3)?);
        if record >> 16 & 0xff != 3 {
            return Err(Reason::TlsNotHello);
        }
        hello.record = start + 5 + record_len;
        let kind = hello.be32(bytes, 5)?;
        if kind >> 24 != CLIENT_HELLO {
            return Err(Reason::TlsNotHello);
        }
        let hello_end = start + 9 + (kind & 0xff_ffff);
        hello.end = hello_end;
        // Version and random come before the session id.
        let session = u32::from(hello.be16(bytes, 43)? >> 8);
        if session > 32 {
            return Err(Reason::TlsMalformed);
        }
        hello.at += 44 + session;
        let ciphers = u32::from(hello.be16(bytes, 0)?);
        hello.at += 2 + ciphers;
        let compression = u32::from(hello.be16(bytes, 0)? >> 8);
        hello.at += 1 + compression;
        if hello.at == hello_end {
            return Err(Reason::TlsNoSni);
        }
        let extensions = u32::from(hello.be16(bytes, 0)?);
        hello.at += 2;
        if hello.at + extensions > hello_end {
            return Err(Reason::TlsMalformed);
        }
        hello.end = hello.at + extensions;
        Ok(hello)
    }

    /// Whether the segment is one change_cipher_spec record and no more: common in the middle of a connection, but where
    /// its data starts, a hello may follow.
    #[inline(always)]
    pub fn is_lone_change<B: Bytes>(bytes: &B, payload: &Payload) -> bool {
        let at = payload.start;
        payload.end.wrapping_sub(at) == 6
            && bytes.be32(at).is_some_and(|head| head & 0xffff_00ff == 0x1403_0000)
            && bytes.be16(at + 4) == Some(0x0101)
    }

    /// Where the hello starts, in a segment that [`Extensions::begin`] found to begin one.
    #[inline(always)]
    pub fn start<B: Bytes>(bytes: &B, payload: &Payload) -> u32 {
        let first = first_octet(bytes, payload).unwrap_or(HANDSHAKE);
        if first != CHANGE_CIPHER_SPEC {
            return payload.start;
        }
        // Its last octet, and the first of the record behind it.
        let is_before_hello = bytes.be16(payload.start + 5) == Some(0x0100 | HANDSHAKE);
        payload.start + if is_before_hello { 6 } else { 0 }
    }

    /// Reads one extension (RFC 8446 4.2).
    #[inline(always)]
    pub fn step<B: Bytes>(&mut self, bytes: &B) -> Step {
        if self.at == self.end {
            return Step::Stop(Reason::TlsNoSni);
        }
        let head = match self.be32(bytes, 0) {
            Ok(head) => head,
            Err(reason) => return Step::Stop(reason),
        };
        let (kind, len) = (head >> 16, head & 0xffff);
        let at = self.at + 4;
        self.at = at + len;
        if self.at > self.end {
            return Step::Stop(Reason::TlsMalformed);
        }
        if kind == SERVER_NAME { Step::ServerName(ServerName { at, len }) } else { Step::More }
    }

    /// The host name of a server_name extension: where it lies, a trailing dot left out (RFC 6066 3).
    #[inline(always)]
    pub fn host_name<B: Bytes>(&self, bytes: &B, name: &ServerName) -> Result<Payload, Reason> {
        if name.len < MIN_SERVER_NAME {
            return Err(Reason::TlsSniInvalid);
        }
        let here = Self { at: name.at, ..*self };
        let list = u32::from(here.be16(bytes, 0)?);
        let kind = here.be16(bytes, 2)?;
        let len = u32::from(here.be16(bytes, 3)?);
        // "The ServerNameList MUST NOT contain more than one name of the same name_type."
        if list + 2 != name.len || len + 3 != list || kind >> 8 != 0 || len > MAX_NAME {
            return Err(Reason::TlsSniInvalid);
        }
        let start = name.at + 5;
        let mut end = start + len;
        if end > self.record || end > self.segment {
            return Err(Reason::TlsIncomplete);
        }
        if here.be16(bytes, 5 + len - 2)? & 0xff == u16::from(b'.') {
            end -= 1;
        }
        Ok(Payload { start, end })
    }

    #[inline(always)]
    fn be16<B: Bytes>(&self, bytes: &B, offset: u32) -> Result<u16, Reason> {
        self.check(offset + 2)?;
        bytes.be16(self.at + offset).ok_or(Reason::TlsIncomplete)
    }

    #[inline(always)]
    fn be32<B: Bytes>(&self, bytes: &B, offset: u32) -> Result<u32, Reason> {
        self.check(offset + 4)?;
        bytes.be32(self.at + offset).ok_or(Reason::TlsIncomplete)
    }

    /// That so many octets from here lie in the hello, in its first record, and in the segment: if not in the latter,
    /// `stream` reads on.
    #[inline(always)]
    fn check(&self, octets: u32) -> Result<(), Reason> {
        let end = self.at + octets;
        if end > self.end {
            Err(Reason::TlsMalformed)
        } else if end > self.record || end > self.segment {
            Err(Reason::TlsIncomplete)
        } else {
            Ok(())
        }
    }
}

/// Lengths of list and name, type, and one octet of name.
const MIN_SERVER_NAME: u32 = 6;
/// Longest host name: 253 octets, and a trailing dot.
const MAX_NAME: u32 = 254;
const CHANGE_CIPHER_SPEC: u16 = 20;
const ALERT: u16 = 21;
const HANDSHAKE: u16 = 22;
/// An alert's level.
const WARNING: u16 = 1;
const CLIENT_HELLO: u32 = 1;
const SERVER_NAME: u32 = 0;
