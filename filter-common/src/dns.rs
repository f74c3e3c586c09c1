//! DNS queries: the header, the question's labels, and what an answer must know of the rest.

use crate::{bytes::Bytes, frame::Payload, layout::MAX_LABELS, verdict::Reason};

/// A query's question, read label by label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Question {
    /// Position of the next length octet.
    at: u32,
    /// Position of the name's first length octet.
    pub name: u32,
    /// End of the message.
    end: u32,
    /// Labels so far.
    pub labels: u32,
}

/// Positions of a name's length octets, counted from the first, the root's included.
pub type Starts = [u8; MAX_LABELS + 1];

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One more label; step again.
    More,
    /// The root label: the name is whole.
    Root,
    /// It cannot be judged.
    Stop(Reason),
}

/// Octets of a DNS header (RFC 1035 4.1.1).
pub const HEADER: u32 = 12;

impl Question {
    /// Checks the header: a query with one question.
    #[inline(always)]
    pub fn begin<B: Bytes>(bytes: &B, payload: &Payload) -> Result<Self, Reason> {
        // The shortest question: a root label, type and class.
        if payload.start + HEADER + 5 > payload.end {
            return Err(Reason::DnsMalformed);
        }
        let word = bytes.be32(payload.start + 2).ok_or(Reason::DnsMalformed)?;
        // QR and OPCODE (RFC 1035 4.1.1).
        if word >> 16 & 0xf800 != 0 {
            return Err(Reason::DnsNotQuery);
        }
        if word & 0xffff != 1 {
            return Err(Reason::DnsQuestionCount);
        }
        let name = payload.start + HEADER;
        Ok(Self { at: name, name, end: payload.end, labels: 0 })
    }

    /// One whose labels were read, so many with so many octets, up to the root's.
    #[inline(always)]
    pub fn read(payload: &Payload, octets: u32, labels: u32) -> Self {
        let name = payload.start + HEADER;
        Self { at: name + octets, name, end: payload.end, labels }
    }

    /// Reads one label (RFC 1035 3.1). At most 128 steps come to an end.
    #[inline(always)]
    pub fn step<B: Bytes>(&mut self, bytes: &B, starts: &mut Starts) -> Step {
        // Every length octet of a good question has four more octets behind it.
        if self.at + 5 > self.end {
            return Step::Stop(Reason::DnsMalformed);
        }
        let Some(two) = bytes.be16(self.at) else { return Step::Stop(Reason::DnsMalformed) };
        let length = u32::from(two >> 8);
        let offset = self.at.wrapping_sub(self.name);
        if length > 63 {
            return Step::Stop(Reason::DnsCompressed);
        }
        // RFC 1035 2.3.4: 255 octets, the root's included.
        if offset + length > 254 {
            return Step::Stop(Reason::DnsMalformed);
        }
        let Some(start) = starts.get_mut(self.labels as usize & MAX_LABELS) else {
            return Step::Stop(Reason::DnsMalformed);
        };
        *start = offset as u8;
        if length == 0 {
            return Step::Root;
        }
        self.labels = self.labels.wrapping_add(1);
        self.at += 1 + length;
        Step::More
    }

    /// After the root label: QTYPE, if the class is IN.
    #[inline(always)]
    pub fn finish<B: Bytes>(&self, bytes: &B) -> Result<u16, Reason> {
        let word = bytes.be32(self.at + 1).ok_or(Reason::DnsMalformed)?;
        if word & 0xffff == CLASS_IN { Ok((word >> 16) as u16) } else { Err(Reason::DnsClass) }
    }

    /// Position after the question.
    pub fn after(&self) -> u32 {
        self.at + 5
    }
}

/// The class of the Internet (RFC 1035 3.2.4).
pub const CLASS_IN: u32 = 1;
