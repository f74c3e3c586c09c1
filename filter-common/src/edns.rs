//! What an answer must know of the records behind a query's question: EDNS, its cookie, and TSIG.

use crate::{bytes::Bytes, dns::Question};

/// The options of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Edns {
    /// 1: the query has an OPT record (RFC 6891).
    pub present: u8,
    /// 1: DO is set (RFC 3225).
    pub dnssec_ok: u8,
    /// 1: the query is signed (RFC 8945).
    pub tsig: u8,
    /// Zero.
    pub pad: u8,
    /// Octets of UDP payload that the client takes.
    pub size: u32,
    /// Position of a COOKIE option with a server part (RFC 7873 4), with its code and length.
    pub cookie_at: u32,
    /// Octets of that option, 0 without one.
    pub cookie_len: u32,
}

/// The records, read label by label, record by record and option by option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Records {
    at: u32,
    end: u32,
    /// Records that are left.
    left: u32,
    /// End of the OPT record that is being read, 0 outside of one.
    options: u32,
    /// Octets of this record's owner name so far.
    owner: u32,
    /// What was found.
    pub edns: Edns,
}

/// The most steps that are read; a query that needs more is answered by what was found until then.
pub const STEPS: u32 = 256;

impl Records {
    /// From the end of the question on; `message` is the position of the header.
    #[inline(always)]
    pub fn begin<B: Bytes>(bytes: &B, message: u32, question: &Question, end: u32) -> Option<Self> {
        let counts = bytes.be64(message + 4)?;
        let left = (counts >> 32 & 0xffff) + (counts >> 16 & 0xffff) + (counts & 0xffff);
        Some(Self { at: question.after(), end, left: left as u32, ..Self::default() })
    }

    /// Reads on; `None` at the end, or where the records make no sense.
    #[inline(always)]
    pub fn step<B: Bytes>(&mut self, bytes: &B) -> Option<()> {
        if self.options != 0 { self.option(bytes) } else { self.record(bytes) }
    }

    /// RFC 6891 6.1.2.
    #[inline(always)]
    fn option<B: Bytes>(&mut self, bytes: &B) -> Option<()> {
        if self.at >= self.options {
            self.options = 0;
            return Some(());
        }
        let head = bytes.be32(self.at)?;
        let len = 4 + (head & 0xffff);
        if self.at + len > self.options {
            return None;
        }
        if head >> 16 == OPTION_COOKIE && (COOKIE_MIN..=COOKIE_MAX).contains(&len) {
            self.edns.cookie_at = self.at;
            self.edns.cookie_len = len;
        }
        self.at += len;
        Some(())
    }

    /// One label of the owner, and the rest of the record with the last (RFC 1035 4.1.3).
    #[inline(always)]
    fn record<B: Bytes>(&mut self, bytes: &B) -> Option<()> {
        if self.left == 0 || self.at + 11 > self.end {
            return None;
        }
        let label = u32::from(bytes.be16(self.at)? >> 8);
        let fixed = match label {
            0 => self.at + 1,
            0xc0.. => self.at + 2,
            _ => {
                self.at += 1 + label;
                self.owner += 1 + label;
                return Some(());
            }
        };
        let head = bytes.be32(fixed)?;
        let flags = bytes.be32(fixed + 4)?;
        let data = u32::from(bytes.be16(fixed + 8)?);
        let (kind, class) = (head >> 16, head & 0xffff);
        let end = fixed + 10 + data;
        if end > self.end {
            return None;
        }
        self.at = end;
        if kind == TYPE_OPT && label == 0 && self.owner == 0 && self.edns.present == 0 {
            self.edns.present = 1;
            self.edns.dnssec_ok = (flags >> 15 & 1) as u8;
            self.edns.size = class;
            self.at = fixed + 10;
            self.options = end;
        }
        self.edns.tsig |= (kind == TYPE_TSIG) as u8;
        self.owner = 0;
        self.left -= 1;
        Some(())
    }
}

const TYPE_OPT: u32 = 41;
const TYPE_TSIG: u32 = 250;
const OPTION_COOKIE: u32 = 10;
/// Code, length, eight octets of client cookie and 8 to 32 of server cookie.
const COOKIE_MIN: u32 = 4 + 8 + 8;
const COOKIE_MAX: u32 = 4 + 8 + 32;
