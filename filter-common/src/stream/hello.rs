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
            return Step::Stop(Reason::TlsMalformed);
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

    /// A record header (RFC 8446 5.1). Records of no octets "MUST NOT" be sent, and are not read past.
    #[inline(always)]
    fn step_record<B: Bytes>(&mut self, bytes: &B, segment: &mut Segment) -> Step {
        let Some(take) = field(bytes, segment, (&mut self.header, &mut self.header_have), 5, 5) else {
            return Step::Stop(Reason::TlsMalformed);
        };
        self.next = self.next.wrapping_add(take);
        if self.header_have < 5 {
            return Step::More;
        }
        let header = self.header;
        self.header = 0;
        self.header_have = 0;
        self.record_left = (header & 0xffff) as u32;
        if header >> 24 != 0x1603 || self.record_left == 0 {
            return Step::Stop(Reason::TlsNotHello);
        }
        Step::More
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
            COMPRESSION if value == self.message_left => Step::Stop(Reason::TlsNoSni),
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
                if value >> 16 != SERVER_NAME {
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
/// Longest host name: 253 octets, and a trailing dot.
const MAX_NAME: u64 = 254;
const CLIENT_HELLO: u32 = 1;
const SERVER_NAME: u32 = 0;

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
