use filter_common::{
    dns::{Question, Step},
    edns::{Edns, Records, STEPS},
};
use proptest::prelude::*;

use crate::Framed;

const QUESTION: &[u8] = b"\x07example\x03com\x00\x00\x01\x00\x01";

/// What the records of a query hold; `counts` are ANCOUNT, NSCOUNT and ARCOUNT. Positions count from the records.
fn read(counts: [u16; 3], records: &[u8]) -> Edns {
    let mut message = vec![0, 0, 1, 0, 0, 1];
    message.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    message.extend(QUESTION);
    let base = (42 + message.len()) as u32;
    message.extend(records);
    let framed = Framed::new(&message);
    let (bytes, payload) = (framed.bytes(), framed.payload());
    let mut question = Question::begin(&bytes, &payload).unwrap();
    let mut starts = [0; 128];
    while question.step(&bytes, &mut starts) == Step::More {}
    let mut records = Records::begin(&bytes, payload.start, &question, payload.end).unwrap();
    for _ in 0..STEPS {
        if records.step(&bytes).is_none() {
            break;
        }
    }
    let mut edns = records.edns;
    if edns.cookie_len != 0 {
        assert!(edns.cookie_at >= base && edns.cookie_at + edns.cookie_len <= payload.end);
        edns.cookie_at -= base;
    }
    edns
}

fn additional(records: &[&[u8]]) -> Edns {
    read([0, 0, records.len() as u16], &records.concat())
}

fn record(owner: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend(class.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

fn opt(size: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    record(&[0], 41, size, ttl, data)
}

fn option(code: u16, len: usize) -> Vec<u8> {
    let mut option = code.to_be_bytes().to_vec();
    option.extend((len as u16).to_be_bytes());
    option.extend(vec![0xcc; len]);
    option
}

#[test]
fn no_records() {
    assert_eq!(read([0, 0, 0], &[]), Edns::default());
    // Counts without records, records without counts.
    assert_eq!(read([9, 9, 9], &[]), Edns::default());
    assert_eq!(read([0, 0, 0], &opt(1232, 0, &[])), Edns::default());
}

#[test]
fn size_and_dnssec_ok() {
    let expected = Edns { present: 1, size: 1232, ..Edns::default() };
    assert_eq!(additional(&[&opt(1232, 0, &[])]), expected);
    assert_eq!(additional(&[&opt(1232, 0x8000, &[])]), Edns { dnssec_ok: 1, ..expected });
    // Version and other flags change nothing.
    assert_eq!(additional(&[&opt(1232, 0x00ff_7fff, &[])]), expected);
}

#[test]
fn d04_cookies() {
    for (octets, echoed) in [(8, false), (15, false), (16, true), (24, true), (40, true), (41, false), (0, false)] {
        let data = [option(12, 5), option(10, octets), option(8, 7)].concat();
        let edns = additional(&[&opt(512, 0, &data)]);
        let (at, len) = if echoed { (11 + 9, 4 + octets as u32) } else { (0, 0) };
        assert_eq!((edns.present, edns.cookie_at, edns.cookie_len), (1, at, len), "{octets}");
    }
}

#[test]
fn options_that_do_not_fit_the_record() {
    let mut data = [option(10, 16), option(12, 4)].concat();
    let at = data.len() - 5;
    // The padding says more than there is: the cookie before it counts, and nothing after.
    data[at] = 200;
    let edns = additional(&[&opt(512, 0, &data), &record(&[0], 250, 255, 0, &[])]);
    assert_eq!((edns.present, edns.cookie_len, edns.tsig), (1, 20, 0));
}

#[test]
fn d04_records_around_opt() {
    let named = record(b"\x03key\x07example\x00", 16, 1, 300, b"\x04text");
    let pointed = record(b"\xc0\x0c", 1, 1, 300, &[1, 2, 3, 4]);
    let partly = record(b"\x01a\xc0\x0c", 1, 1, 300, &[1, 2, 3, 4]);
    let opt = opt(4096, 0, &option(10, 24));
    let tsig = record(b"\x03key\x00", 250, 255, 0, &[7; 40]);
    let records = [&named[..], &pointed, &partly, &opt, &tsig];
    let edns = additional(&records);
    assert_eq!((edns.present, edns.size, edns.cookie_len, edns.tsig), (1, 4096, 28, 1));
    // Whatever section they are counted in.
    let edns = read([1, 2, 2], &records.concat());
    assert_eq!((edns.present, edns.tsig), (1, 1));
    assert_eq!(read([1, 1, 1], &records.concat()), Edns::default());
}

#[test]
fn opt_has_the_root_as_owner_and_is_the_first() {
    assert_eq!(additional(&[&record(b"\x01a\x00", 41, 1232, 0, &[])]), Edns::default());
    assert_eq!(additional(&[&record(b"\xc0\x0c", 41, 1232, 0, &[])]), Edns::default());
    assert_eq!(additional(&[&opt(1232, 0, &[]), &opt(4096, 0x8000, &option(10, 16))]).size, 1232);
}

proptest! {
    /// Positions stay inside (`read` asserts it for cookies), and the steps come to an end.
    #[test]
    fn t20_any_octets(
        counts in any::<[u16; 3]>(),
        octets in prop::collection::vec(prop_oneof![Just(0_u8), Just(41), Just(10), Just(16), any::<u8>()], 0..200),
        lead in any::<bool>(),
    ) {
        let records = if lead { [&[0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 40][..], &octets].concat() } else { octets };
        read(counts, &records);
    }
}
