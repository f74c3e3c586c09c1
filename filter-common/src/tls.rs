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

/// Extensions that [`Extensions::name_at_once`] reads.
pub const AT_ONCE: u32 = 20;

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

    /// Finds the name of a hello in one go, where it lies in the first record of a segment that begins with it, among the
    /// first [`AT_ONCE`] extensions; most hellos are such. Comes to the same as [`Extensions::begin`], steps up to
    /// server_name, and [`Extensions::host_name`]. `None` says that it is to be read by these.
    #[inline(always)]
    pub fn name_at_once<B: Bytes>(bytes: &B, payload: &Payload) -> Option<(Self, ServerName, Payload)> {
        let Payload { start, end: segment } = *payload;
        let head = bytes.be64(start)?;
        // Handshake, version 3.x; ClientHello.
        if head & 0xffff_0000_00ff_0000 != 0x1603_0000_0001_0000 {
            return None;
        }
        let record = start + 5 + (head >> 24) as u16 as u32;
        let hello_end = start + 9 + ((head as u16 as u32) << 8 | u32::from(bytes.be16(start + 8)? >> 8));
        let session = u32::from(bytes.be16(start + 43)? >> 8);
        if session > 32 {
            return None;
        }
        let mut at = start + 44 + session;
        at += 2 + u32::from(bytes.be16(at)?);
        at += 1 + u32::from(bytes.be16(at)? >> 8);
        let end = at + 2 + u32::from(bytes.be16(at)?);
        at += 2;
        if end > hello_end {
            return None;
        }
        for _ in 0..AT_ONCE {
            let head = bytes.be32(at)?;
            let (kind, content, len) = (head >> 16, at + 4, head & 0xffff);
            at = content + len;
            if at > end {
                return None;
            }
            if kind != SERVER_NAME {
                continue;
            }
            let lengths = bytes.be64(content)?;
            let (list, kind, name) = ((lengths >> 48) as u32, lengths >> 40 & 0xff, (lengths >> 24) as u16 as u32);
            let (name_start, name_end) = (content + 5, content + 5 + name);
            let is_name = list + 2 == len && name + 3 == list && kind == 0 && name != 0 && name <= MAX_NAME;
            let is_here = name_end <= record && name_end <= segment;
            // Without a trailing dot.
            if !is_name || !is_here || bytes.be64(name_end - 8)? & 0xff == u64::from(b'.') {
                return None;
            }
            let extensions = Self { start, at, end, record, segment };
            return Some((extensions, ServerName { at: content, len }, Payload { start: name_start, end: name_end }));
        }
        None
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::bytes::Slice;

    const START: usize = 54;

    /// A segment with a hello: other extensions before the name, and one behind it.
    fn segment(name: &[u8], others: &[usize]) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut extension = |kind: u16, content: &[u8]| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend((content.len() as u16).to_be_bytes());
            extensions.extend(content);
        };
        others.iter().for_each(|len| extension(43, &vec![7; *len]));
        let len = name.len() as u16;
        let mut content = [(len + 3).to_be_bytes(), [0, (len >> 8) as u8]].concat();
        content.push(len as u8);
        content.extend(name);
        extension(0, &content);
        extension(51, &[9; 40]);
        let mut hello = vec![3, 3];
        hello.extend([1; 32]);
        hello.push(32);
        hello.extend([2; 32]);
        hello.extend([0, 6, 1, 2, 3, 4, 5, 6, 1, 0]);
        hello.extend((extensions.len() as u16).to_be_bytes());
        hello.extend(extensions);
        let mut segment = vec![0xee; START];
        segment.extend([22, 3, 1]);
        segment.extend((hello.len() as u16 + 4).to_be_bytes());
        segment.extend([1, 0]);
        segment.extend((hello.len() as u16).to_be_bytes());
        segment.extend(hello);
        segment
    }

    fn by_steps(bytes: &Slice<'_>, payload: &Payload) -> Option<(Extensions, ServerName, Payload)> {
        let mut extensions = Extensions::begin(bytes, payload).ok()?;
        for _ in 0..MAX_EXTENSIONS {
            match extensions.step(bytes) {
                Step::More => {}
                Step::Stop(_) => return None,
                Step::ServerName(name) => {
                    let host = extensions.host_name(bytes, &name).ok()?;
                    return Some((extensions, name, host));
                }
            }
        }
        None
    }

    fn both(frame: &[u8]) -> [Option<(Extensions, ServerName, Payload)>; 2] {
        let payload = Payload { start: START as u32, end: frame.len() as u32 };
        [Extensions::name_at_once(&Slice(frame), &payload), by_steps(&Slice(frame), &payload)]
    }

    #[test]
    fn most_names_are_found_at_once() {
        for others in [&[][..], &[0], &[3, 0, 500], &[1; 19]] {
            let [at_once, steps] = both(&segment(b"www.example.com", others));
            assert!(at_once.is_some() && at_once == steps, "{others:?}");
        }
        for frame in [segment(b"www.example.com", &[1; 20]), segment(b"example.com.", &[])] {
            let [at_once, steps] = both(&frame);
            assert!(at_once.is_none() && steps.is_some());
        }
    }

    proptest! {
        #[test]
        fn what_is_found_at_once_is_what_steps_find(
            name in prop::collection::vec(any::<u8>(), 0..40),
            others in prop::collection::vec(0_usize..30, 0..4),
            changes in prop::collection::vec((START..START + 260, any::<u8>()), 0..4),
            cut in 0_usize..400,
        ) {
            let mut frame = segment(&name, &others);
            for (at, octet) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = octet;
                }
            }
            frame.truncate(START + cut);
            let [at_once, steps] = both(&frame);
            prop_assert!(at_once.is_none() || at_once == steps, "{:?} {:?}", at_once, steps);
        }
    }
}
