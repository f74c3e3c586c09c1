//! DNS messages over TCP (RFC 1035 4.2.2, RFC 7766): a length of two octets, a message, and so on.

use super::{Segment, Step, field};
use crate::{bytes::Bytes, dns::HEADER, layout::StreamReader, verdict::Reason};

/// Octets of a message that are held: its header and the longest question.
pub const QUESTION: u32 = HEADER + 255 + 4;

impl StreamReader {
    /// At the length of a message.
    #[inline(always)]
    pub fn messages() -> Self {
        Self { stage: LENGTH, ..Self::default() }
    }

    /// Whether the next octet begins a message, so that nothing need be remembered.
    #[inline(always)]
    pub fn is_between_messages(&self) -> bool {
        self.stage == LENGTH && self.field_have == 0 && self.skip == 0
    }

    /// Whether what is held is still the last question that was whole.
    #[inline(always)]
    pub fn holds_last(&self) -> bool {
        self.stage == LENGTH
    }

    /// Reads one field, or skips. When a question is taken, the next message may follow.
    #[inline(always)]
    pub fn step_messages<B: Bytes>(&mut self, bytes: &B, segment: &mut Segment) -> Step {
        if segment.at >= segment.end {
            return Step::Hungry;
        }
        let room = segment.end.wrapping_sub(segment.at);
        if self.skip > 0 {
            let take = if self.skip < room { self.skip } else { room };
            self.skip = self.skip.wrapping_sub(take);
            self.took_of_messages(segment, take);
            return Step::More;
        }
        if self.stage == QUERY {
            return self.step_query(segment, room);
        }
        let Some(take) = field(bytes, segment, (&mut self.field, &mut self.field_have), 2, room) else {
            return Step::Stop(Reason::DnsMalformed);
        };
        self.next = self.next.wrapping_add(take);
        if self.field_have < 2 {
            return Step::More;
        }
        let len = self.field as u32;
        if len < HEADER + 5 {
            return Step::Stop(Reason::DnsMalformed);
        }
        self.message_left = len;
        self.name_len = if len < QUESTION { len as u16 } else { QUESTION as u16 };
        self.name_have = 0;
        self.begin(QUERY);
        Step::More
    }

    #[inline(always)]
    fn took_of_messages(&mut self, segment: &mut Segment, octets: u32) {
        segment.at = segment.at.wrapping_add(octets);
        self.next = self.next.wrapping_add(octets);
    }

    #[inline(always)]
    fn step_query(&mut self, segment: &mut Segment, room: u32) -> Step {
        let missing = u32::from(self.name_len.wrapping_sub(self.name_have));
        let len = if missing < room { missing } else { room };
        let (at, to) = (segment.at, u32::from(self.name_have));
        self.name_have = self.name_have.wrapping_add(len as u16);
        self.took_of_messages(segment, len);
        Step::Hold { at, len, to }
    }

    /// Whether the question that is held is whole: to be asked after each [`Step::Hold`]; then the rest of the message
    /// is skipped.
    #[inline(always)]
    pub fn take_query(&mut self) -> bool {
        if self.stage != QUERY || self.name_have != self.name_len {
            return false;
        }
        self.skip = self.message_left.wrapping_sub(u32::from(self.name_len));
        self.begin(LENGTH);
        true
    }
}

// Stages: what is read next.
const LENGTH: u8 = 0;
const QUERY: u8 = 1;
