//! A ClientHello over any number of segments and records (RFC 8446 4.1.2, 5.1).

use super::{Segment, Step, field};
use crate::{
    bytes::Bytes,
    layout::{Stream, StreamReader},
    tls::{Extensions, ServerName},
    verdict::Reason,
};

impl StreamReader {
    /// At the first octet of a TLS record.
    #[inline(always)]
    pub fn hello() -> Self {
        Self { message_left: u32::MAX, stage: MESSAGE, ..Self::default() }
    }

    /// Where [`Extensions`] found that the segment or the record ends too early.
    #[inline(always)]
    pub fn at_extension(extensions: &Extensions) -> Self {
        Self { stage: EXTENSION, ..Self::behind(extensions, extensions.at) }
    }

    /// Before the content of a server_name extension whose name is not whole in the segment and record.
    #[inline(always)]
    pub fn at_server_name(extensions: &Extensions, name: &ServerName) -> Self {
        Self { stage: NAME_HEAD, name_len: name.len as u16, ..Self::behind(extensions, name.at) }
    }

    #[inline(always)]
    fn behind(extensions: &Extensions, at: u32) -> Self {
        let Extensions { start, end, record, segment, .. } = *extensions;
        let readable = if record < segment { record } else { segment };
        let read = if at < readable { at } else { readable };
        let left = end.wrapping_sub(read);
        Self {
            next: read.wrapping_sub(start),
            record_left: record.wrapping_sub(read),
            skip: at.wrapping_sub(read),
            message_left: left,
            extensions_left: left,
            ..Self::default()
        }
    }

    /// Octets of the stream up to the end of the hello, as far as its length is known; later record headers are not
    /// counted.
    #[inline(always)]
    pub fn hello_end(&self) -> u32 {
        self.next.wrapping_add(if self.stage == MESSAGE { 0 } else { self.message_left })
    }

    /// Reads one field, or skips.
    #[inline(always)]
    pub fn step_hello<B: Bytes>(&mut self, bytes: &B, segment: &mut Segment) -> Step {
        if self.stage == EXTENSION && self.extensions_left == 0 {
            return Step::Stop(Reason::TlsNoSni);
        }
        if segment.at >= segment.end {
            return Step::Hungry;
        }
        if self.record_left == 0 {
            return self.step_record(bytes, segment);
        }
        let left = segment.end.wrapping_sub(segment.at);
        let room = if self.record_left < left { self.record_left } else { left };
        if self.skip > 0 {
            let take = if self.skip < room { self.skip } else { room };
            self.skip = self.skip.wrapping_sub(take);
            segment.at = segment.at.wrapping_add(take);
            self.took(take);
            return Step::More;
        }
        if self.stage == NAME {
            return self.step_name(segment, room);
        }
        let want = match self.stage {
            MESSAGE | EXTENSION => 4,
            SESSION | COMPRESSION => 1,
            NAME_HEAD => 5,
            _ => 2,
        };
        let wanted = want - u32::from(self.field_have);
        if wanted > self.message_left || self.stage >= EXTENSION && wanted > self.extensions_left {
            return Step::Stop(Reason::TlsMalformed);
        }
        let Some(take) = field(bytes, segment, (&mut self.field, &mut self.field_have), want, room) else {
            return Step::Stop(UNREADABLE);
        };
        self.took(take);
        if u32::from(self.field_have) < want { Step::More } else { self.read(self.field) }
    }

    /// Counts octets of the hello.
    #[inline(always)]
    fn took(&mut self, octets: u32) {
        self.next = self.next.wrapping_add(octets);
        self.record_left = self.record_left.wrapping_sub(octets);
        self.message_left = self.message_left.wrapping_sub(octets);
        self.extensions_left = self.extensions_left.wrapping_sub(octets);
    }

    /// Looks for an Encrypted Client Hello (RFC 9849 5) on the way.
    #[inline(always)]
    pub fn searched(self) -> Self {
        Self { ech: ech::SOUGHT, ..self }
    }

    /// Whether this hello is one of those that are searched.
    #[inline(always)]
    pub fn is_searched(&self) -> bool {
        self.ech != ech::IGNORED
    }

    /// Looks for nothing else from here on; it ends as if there were no name.
    #[inline(always)]
    pub fn search(&mut self) {
        self.named = SEARCHING;
    }

    /// Whether nothing but an Encrypted Client Hello is looked for.
    #[inline(always)]
    pub fn is_searching(&self) -> bool {
        self.named == SEARCHING
    }

    /// Whether there is one, as far as was read.
    #[inline(always)]
    pub fn has_ech(&self) -> bool {
        self.ech == ech::FOUND
    }

    /// A record header (RFC 8446 5.1), or a record without a part of the hello, which servers read past: OpenSSL
    /// takes 32 empty ones in a row, GnuTLS change_cipher_spec, and rustls some alerts of level warning.
    #[inline(always)]
    fn step_record<B: Bytes>(&mut self, bytes: &B, segment: &mut Segment) -> Step {
        // The header, and then the octet of a change_cipher_spec or the two of an alert.
        let want = match self.header_have {
            0..5 => 5,
            5 if self.header >> 24 == CHANGE_CIPHER_SPEC => 6,
            _ => 7,
        };
        let Some(take) = field(bytes, segment, (&mut self.header, &mut self.header_have), want, want) else {
            return Step::Stop(UNREADABLE);
        };
        self.next = self.next.wrapping_add(take);
        if u32::from(self.header_have) < want {
            return Step::More;
        }
        let header = self.header;
        match want {
            6 => return self.idle(header & 0xff == 1),
            // Other than close_notify (RFC 8446 6.1).
            7 => return self.idle(header >> 8 & 0xff == WARNING && header & 0xff != 0),
            _ => {}
        }
        // Type, major version, and length; the minor version says nothing.
        match (header >> 24, header & 0xffff) {
            (HANDSHAKE, 1..) => {
                self.idle = 0;
                self.header = 0;
                self.header_have = 0;
                self.record_left = (header & 0xffff) as u32;
                Step::More
            }
            (CHANGE_CIPHER_SPEC, 1) | (ALERT, 2) => Step::More,
            (HANDSHAKE | CHANGE_CIPHER_SPEC, 0) => self.idle(true),
            _ => Step::Stop(Reason::TlsNotHello),
        }
    }

    /// After a record without a part of the hello.
    #[inline(always)]
    fn idle(&mut self, is_idle: bool) -> Step {
        self.header = 0;
        self.header_have = 0;
        self.idle = self.idle.wrapping_add(1);
        if is_idle && self.idle <= MAX_IDLE { Step::More } else { Step::Stop(Reason::TlsNotHello) }
    }

    /// What a field says.
    #[inline(always)]
    fn read(&mut self, field: u64) -> Step {
        let value = field as u32;
        match self.stage {
            MESSAGE => {
                if value >> 24 != CLIENT_HELLO {
                    return Step::Stop(Reason::TlsNotHello);
                }
                self.message_left = value & 0xff_ffff;
                self.skip(SESSION, VERSION_AND_RANDOM)
            }
            SESSION if value > 32 => Step::Stop(Reason::TlsMalformed),
            SESSION => self.skip(CIPHERS, value),
            CIPHERS => self.skip(COMPRESSION, value),
            COMPRESSION if value == self.message_left => {
                self.extensions_left = 0;
                self.begin(EXTENSION);
                Step::Stop(Reason::TlsNoSni)
            }
            COMPRESSION => self.skip(EXTENSIONS, value),
            EXTENSIONS => {
                if value > self.message_left {
                    return Step::Stop(Reason::TlsMalformed);
                }
                self.extensions_left = value;
                self.begin(EXTENSION);
                Step::More
            }
            EXTENSION => {
                let len = value & 0xffff;
                if len > self.extensions_left {
                    return Step::Stop(Reason::TlsMalformed);
                }
                let kind = value >> 16;
                if kind == ENCRYPTED_CLIENT_HELLO && self.is_searched() {
                    self.ech = ech::FOUND;
                    if self.is_searching() {
                        return Step::Stop(Reason::TlsNoSni);
                    }
                }
                if kind != SERVER_NAME || self.is_searching() {
                    return self.skip(EXTENSION, len);
                }
                if self.named == 1 {
                    return Step::Stop(Reason::TlsSniDuplicate);
                }
                if len < MIN_SERVER_NAME {
                    return Step::Stop(Reason::TlsSniInvalid);
                }
                self.name_len = len as u16;
                self.begin(NAME_HEAD);
                Step::More
            }
            _ => self.read_name_head(field),
        }
    }

    /// RFC 6066 3: the length of the list, a type, and the length of the only name.
    #[inline(always)]
    fn read_name_head(&mut self, field: u64) -> Step {
        let (list, kind, len) = (field >> 24, field >> 16 & 0xff, field & 0xffff);
        if list + 2 != u64::from(self.name_len) || len + 3 != list || kind != 0 || len == 0 || len > MAX_NAME {
            return Step::Stop(Reason::TlsSniInvalid);
        }
        self.name_len = len as u16;
        self.name_have = 0;
        self.begin(NAME);
        Step::More
    }

    #[inline(always)]
    fn step_name(&mut self, segment: &mut Segment, room: u32) -> Step {
        let missing = u32::from(self.name_len.wrapping_sub(self.name_have));
        let len = if missing < room { missing } else { room };
        let (at, to) = (segment.at, u32::from(self.name_have));
        segment.at = segment.at.wrapping_add(len);
        self.name_have = self.name_have.wrapping_add(len as u16);
        self.took(len);
        Step::Hold { at, len, to }
    }

    /// Whether the name that is held is whole: to be asked after each [`Step::Hold`]; then what follows it is read.
    #[inline(always)]
    pub fn take_name(&mut self) -> bool {
        if self.stage != NAME || self.name_have != self.name_len {
            return false;
        }
        self.named = 1;
        self.begin(EXTENSION);
        true
    }

    #[inline(always)]
    fn skip(&mut self, stage: u8, octets: u32) -> Step {
        if octets > self.message_left {
            return Step::Stop(Reason::TlsMalformed);
        }
        self.skip = octets;
        self.begin(stage);
        Step::More
    }
}

/// Lengths of list and name, type, and one octet of name.
const MIN_SERVER_NAME: u32 = 6;
/// Version and random (RFC 8446 4.1.2).
const VERSION_AND_RANDOM: u32 = 34;
/// Octets behind the first of a packet's buffers are not read.
const UNREADABLE: Reason = Reason::TlsIncomplete;
/// Longest host name: 253 octets, and a trailing dot.
const MAX_NAME: u64 = 254;
const CLIENT_HELLO: u32 = 1;
const SERVER_NAME: u32 = 0;
/// RFC 9849 5.
const ENCRYPTED_CLIENT_HELLO: u32 = 0xfe0d;

/// [`StreamReader::named`] while nothing but an Encrypted Client Hello is looked for.
pub const SEARCHING: u8 = 2;

/// Values of [`StreamReader::ech`].
pub mod ech {
    /// This hello is not one of those that are searched.
    pub const IGNORED: u8 = 0;
    /// It is, and there is none so far.
    pub const SOUGHT: u8 = 1;
    /// There is one, genuine or GREASE.
    pub const FOUND: u8 = 2;
}

/// Records in a row without a part of the hello that are read past: as many as servers take.
pub const MAX_IDLE: u8 = 32;
// Record types with the major version.
const CHANGE_CIPHER_SPEC: u64 = 0x1403;
const ALERT: u64 = 0x1503;
const HANDSHAKE: u64 = 0x1603;
/// An alert's level.
const WARNING: u64 = 1;

// Stages: what is read next.
const MESSAGE: u8 = 0;
const SESSION: u8 = 1;
const CIPHERS: u8 = 2;
const COMPRESSION: u8 = 3;
const EXTENSIONS: u8 = 4;
const EXTENSION: u8 = 5;
const NAME_HEAD: u8 = 6;
const NAME: u8 = 7;

const _: () = assert!(MAX_NAME as usize <= crate::layout::HELD && size_of::<Stream>() < 512);
