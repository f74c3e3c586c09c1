//! DNS queries: question and EDNS are those that `domain` reads, and each suffix is hashed.

use domain::base::{
    Message, ToName as _,
    iana::{Class, Rtype},
};
use filter_common::{
    dns::{Question, Starts, Step},
    edns::{self, Edns, Records},
    verdict::Reason,
    walk::Walk,
};

use crate::{Framed, KEY, suffixes};

/// A question that was read.
pub(crate) struct Asked {
    pub question: Question,
    pub starts: Starts,
    pub qtype: u16,
    pub edns: Edns,
}

/// Reads a query.
pub(crate) fn ask(framed: &Framed) -> Result<Asked, Reason> {
    let (bytes, payload) = (framed.bytes(), framed.payload());
    let mut question = Question::begin(&bytes, &payload)?;
    let mut starts = [0; 128];
    loop {
        match question.step(&bytes, &mut starts) {
            Step::More => assert!(question.labels < 128, "at most 127 labels"),
            Step::Root => break,
            Step::Stop(reason) => return Err(reason),
        }
    }
    let qtype = question.finish(&bytes)?;
    assert!(question.after() <= payload.end, "the question lies in the message");
    let edns = match Records::begin(&bytes, payload.start, &question, payload.end) {
        Some(mut records) => {
            let _ = (0..edns::STEPS).try_for_each(|_| records.step(&bytes));
            records.edns
        }
        None => Edns::default(),
    };
    if edns.cookie_len > 0 {
        let end = edns.cookie_at + edns.cookie_len;
        assert!(edns.cookie_at >= question.after() && end <= payload.end, "the cookie lies behind the question");
    }
    Ok(Asked { question, starts, qtype, edns })
}

/// Reads a message.
pub fn run(data: &[u8]) {
    if data.len() > usize::from(u16::MAX) {
        return;
    }
    let framed = Framed::new(data);
    let message = Message::from_octets(data).ok();
    let Ok(asked) = ask(&framed) else {
        expect_unread(data, message);
        return;
    };
    let name = &framed.0[asked.question.name as usize..asked.question.after() as usize - 4];
    let message = message.expect("a header");
    let expected = message.first_question().expect("domain reads what we read");
    assert_eq!(expected.qname().to_vec().as_slice(), name);
    assert_eq!((expected.qtype().to_int(), expected.qclass()), (asked.qtype, Class::IN));
    if asked.question.labels > 0 {
        let mut walk = Walk::dns(asked.question.name, asked.question.after() - 5);
        let keys =
            KEY.with(|key| suffixes(|| walk.step_dns(&framed.bytes(), key, asked.question.labels, &asked.starts)));
        assert_eq!(keys.map(|keys| keys.len()), Some(asked.question.labels as usize));
    }
    expect_edns(&message, &asked.edns);
}

/// Only a message that is no plain query, or whose name is compressed, may be left unread.
fn expect_unread(data: &[u8], message: Option<Message<&[u8]>>) {
    let Some(message) = message else { return };
    let header = message.header();
    if header.qr() || header.opcode().to_int() != 0 || message.header_counts().qdcount() != 1 {
        return;
    }
    let Some(Ok(question)) = message.question().next() else { return };
    let name = question.qname().to_vec();
    let is_plain = data.get(12..).is_some_and(|rest| rest.starts_with(name.as_slice()));
    assert!(!is_plain || question.qclass() != Class::IN, "a plain query is read: {question:?}");
}

/// Where all records are whole, an OPT record whose owner is the root is seen, and no other: the root is an octet 0 there
/// (RFC 6891 6.1.2), not a pointer to one.
fn expect_edns(message: &Message<&[u8]>, edns: &Edns) {
    // Those with many labels or options take more steps than are made.
    if message.as_slice().len() > 200 {
        return;
    }
    let Some(is_present) = has_opt(message) else { return };
    assert_eq!(edns.present == 1, is_present, "the OPT record");
}

/// `None` where a record is not whole.
fn has_opt(message: &Message<&[u8]>) -> Option<bool> {
    let mut section = message.answer().ok()?;
    let mut is_present = false;
    loop {
        let mut at = section.pos();
        while let Some(record) = section.next() {
            is_present |= record.ok()?.rtype() == Rtype::OPT && message.as_slice().get(at) == Some(&0);
            at = section.pos();
        }
        match section.next_section().ok()? {
            Some(next) => section = next,
            None => return Some(is_present),
        }
    }
}
