use filter_common::{
    dns::{Question, Step},
    verdict::Reason,
};
use proptest::prelude::*;

use crate::Framed;

/// A message of this header word (flags and QDCOUNT) and octets from the question on.
fn message(flags: u16, questions: u16, rest: &[u8]) -> Framed {
    let mut message = vec![0x1d, 0xea];
    message.extend(flags.to_be_bytes());
    message.extend(questions.to_be_bytes());
    message.extend([0; 6]);
    message.extend(rest);
    Framed::new(&message)
}

/// QTYPE, the positions of the length octets with the root's, and the position after the question, from its start.
fn read(framed: &Framed) -> Result<(u16, Vec<u8>, u32), Reason> {
    let bytes = framed.bytes();
    let mut question = Question::begin(&bytes, &framed.payload())?;
    let mut starts = [0; 128];
    for _ in 0..=128 {
        match question.step(&bytes, &mut starts) {
            Step::More => {}
            Step::Root => {
                let qtype = question.finish(&bytes)?;
                let starts = starts[..=question.labels as usize].to_vec();
                return Ok((qtype, starts, question.after() - question.name));
            }
            Step::Stop(reason) => return Err(reason),
        }
    }
    panic!("a question takes at most 128 steps");
}

fn question(octets: &[u8]) -> Result<(u16, Vec<u8>, u32), Reason> {
    read(&message(0x0100, 1, octets))
}

#[test]
fn labels_and_type() {
    let read = question(b"\x03www\x07example\x03com\x00\x00\x1c\x00\x01");
    assert_eq!(read, Ok((28, vec![0, 4, 12, 16], 21)));
    assert_eq!(question(b"\x00\x00\x02\x00\x01"), Ok((2, vec![0], 5)));
    // Octets behind the question.
    assert_eq!(question(b"\x01a\x00\x00\xff\x00\x01rest"), Ok((255, vec![0, 2], 7)));
}

#[test]
fn d02_longest_names() {
    let labels = [b"\x01a".repeat(127), b"\x00\x00\x01\x00\x01".to_vec()].concat();
    let (_, starts, end) = question(&labels).unwrap();
    assert_eq!((starts.len(), end), (128, 259));
    let one_more = [b"\x01a".repeat(128), b"\x00\x00\x01\x00\x01".to_vec()].concat();
    assert_eq!(question(&one_more), Err(Reason::DnsMalformed));
    let long = |last: u8| {
        let mut name = Vec::new();
        for length in [63, 63, 63, last] {
            name.push(length);
            name.extend(vec![b'a'; length.into()]);
        }
        question(&[&name[..], b"\x00\x00\x01\x00\x01"].concat()).map(|(_, _, end)| end)
    };
    assert_eq!([long(61), long(62)], [Ok(259), Err(Reason::DnsMalformed)]);
}

#[test]
fn d03_headers() {
    let rest = b"\x01a\x00\x00\x01\x00\x01";
    for flags in [0, 0x0100, 0x07ff] {
        assert!(read(&message(flags, 1, rest)).is_ok());
    }
    for flags in [0x8000, 0x0800, 0x2800, 0x7800, 0x8180] {
        assert_eq!(read(&message(flags, 1, rest)), Err(Reason::DnsNotQuery));
    }
    for questions in [0, 2, 0x0100, 0xffff] {
        assert_eq!(read(&message(0x0100, questions, rest)), Err(Reason::DnsQuestionCount));
    }
}

#[test]
fn d03_labels_that_are_none() {
    for first in 64..=255 {
        assert_eq!(question(&[&[first][..], &[b'a'; 20]].concat()), Err(Reason::DnsCompressed));
    }
    assert_eq!(question(b"\x01a\xc0\x0c\x00\x01\x00\x01"), Err(Reason::DnsCompressed));
}

#[test]
fn d03_classes() {
    for class in [0, 2, 3, 254, 255, 0x8001] {
        let octets = [b"\x01a\x00\x00\x01", &u16::to_be_bytes(class)[..]].concat();
        assert_eq!(question(&octets), Err(Reason::DnsClass));
    }
}

#[test]
fn d03_cut_at_every_octet() {
    let whole = message(0x0100, 1, b"\x03www\x07example\x00\x00\x01\x00\x01").0;
    for octets in 42..whole.len() {
        assert_eq!(read(&Framed(whole[..octets].to_vec())), Err(Reason::DnsMalformed), "{octets}");
    }
    assert!(read(&Framed(whole)).is_ok());
}

proptest! {
    /// Against a reading of the same octets that knows nothing of steps.
    #[test]
    fn questions_by_definition(octets in prop::collection::vec(prop_oneof![0_u8..8, Just(0), any::<u8>()], 0..300)) {
        let mut at = 0;
        let mut starts = Vec::new();
        let expected = loop {
            // Each length octet has at least the root's and four more behind it.
            let Some(length) = octets.get(at).filter(|_| at + 5 <= octets.len()) else {
                break Err(Reason::DnsMalformed);
            };
            let length = usize::from(*length);
            if length > 63 {
                break Err(Reason::DnsCompressed);
            }
            if at + length > 254 {
                break Err(Reason::DnsMalformed);
            }
            starts.push(at as u8);
            if length == 0 {
                let [high, low, 0, 1] = octets[at + 1..at + 5] else { break Err(Reason::DnsClass) };
                break Ok((u16::from_be_bytes([high, low]), starts, at as u32 + 5));
            }
            at += 1 + length;
        };
        prop_assert_eq!(question(&octets), expected);
    }
}
