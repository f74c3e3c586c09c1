use filter_common::{
    answer::{self, Composed, MESSAGE, Reply, TRANSPORT, fold},
    bytes::{BUFFER, Slice},
    dns::{Question, Starts, Step},
    edns::Edns,
    frame::{Network, Payload, TCP, UDP},
    layout::{ENTRY_NODATA, MAX_TEXT, ORDER_A, ORDER_AAAA, Order, PolicyEntry},
    verdict::{Action, Reason},
};
use proptest::prelude::*;

use crate::Framed;

fn order(text: &str) -> Order {
    let mut order = Order {
        start: 0,
        end: u64::MAX,
        scopes: 1,
        actions: [0; 4],
        target: 0,
        ede: 16,
        text_len: text.len() as u8,
        flags: ORDER_A | ORDER_AAAA,
        a: [203, 0, 113, 80],
        aaaa: [0xaa; 16],
        text: [0; MAX_TEXT],
    };
    order.text[..text.len()].copy_from_slice(text.as_bytes());
    order
}

fn entry(depth: u8, flags: u8) -> PolicyEntry {
    PolicyEntry { order: 0, depth, flags, pad: [0; 2] }
}

/// A query for `labels`, and how it was read.
struct Asked {
    framed: Framed,
    question: Question,
    starts: Starts,
}

fn ask(flags: u16, labels: &[&[u8]], trailing: &[u8]) -> Asked {
    let mut message = vec![0xab, 0xcd];
    message.extend(flags.to_be_bytes());
    message.extend([0, 1, 0, 7, 0, 8, 0, 9]);
    for label in labels {
        message.push(label.len() as u8);
        message.extend(*label);
    }
    message.extend([0, 0, 1, 0, 1]);
    message.extend(trailing);
    let framed = Framed::new(&message);
    let mut question = Question::begin(&framed.bytes(), &framed.payload()).unwrap();
    let mut starts = [0; 128];
    while question.step(&framed.bytes(), &mut starts) == Step::More {}
    Asked { framed, question, starts }
}

impl Asked {
    fn answer(&self, edns: &Edns, reply: &Reply) -> Result<(Vec<u8>, Reason), Reason> {
        let mut buffer = [0xee; BUFFER];
        let Self { framed, question, starts } = self;
        let (len, reason) =
            answer::message(&framed.bytes(), &framed.payload(), question, starts, edns, reply, &mut buffer)?;
        // The checksum is summed in whole words of 32 bits.
        let end = (MESSAGE + len) as usize;
        assert!(buffer[end..end.next_multiple_of(4)].iter().all(|octet| *octet == 0));
        Ok((buffer[MESSAGE as usize..end].to_vec(), reason))
    }
}

fn reply(order: &Order, action: Action) -> Reply<'_> {
    Reply { order, entry: entry(2, 0), action: action as u8, qtype: 1, ttl: 60 }
}

const EXAMPLE: &[&[u8]] = &[b"www", b"example", b"com"];

#[test]
fn nxdomain_octet_by_octet() {
    let order = order("");
    let asked = ask(0x0100, EXAMPLE, &[]);
    let (octets, reason) = asked.answer(&Edns::default(), &reply(&order, Action::Nxdomain)).unwrap();
    let expected = [
        // QR, RD, RA, NXDOMAIN; one question, one authority.
        &b"\xab\xcd\x81\x83\x00\x01\x00\x00\x00\x01\x00\x00"[..],
        b"\x03www\x07example\x03com\x00\x00\x01\x00\x01",
        // example.com, as a pointer; MNAME and RNAME are the root.
        b"\xc0\x10\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x16\x00\x00",
        b"\x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x02\x58\x00\x01\x51\x80\x00\x00\x00\x3c",
    ]
    .concat();
    assert_eq!((octets, reason), (expected, Reason::AnsweredNxdomain));
}

#[test]
fn edns_octet_by_octet() {
    let order = order("ref");
    let cookie = [&[0, 10, 0, 16][..], &[0xcc; 16]].concat();
    let asked = ask(0x0010, EXAMPLE, &cookie);
    let cookie_at = asked.framed.payload().end - 20;
    let edns = Edns { present: 1, dnssec_ok: 1, size: 1232, cookie_at, cookie_len: 20, ..Edns::default() };
    let (octets, reason) = asked.answer(&edns, &reply(&order, Action::Refused)).unwrap();
    let expected = [
        // QR, AA, CD, REFUSED; one question, one additional.
        &b"\xab\xcd\x84\x15\x00\x01\x00\x00\x00\x00\x00\x01"[..],
        b"\x03www\x07example\x03com\x00\x00\x01\x00\x01",
        b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x1d",
        b"\x00\x0f\x00\x05\x00\x10ref",
        &cookie,
    ]
    .concat();
    assert_eq!((octets, reason), (expected, Reason::AnsweredRefused));
}

#[test]
fn addresses_octet_by_octet() {
    let order = order("");
    let asked = ask(0x0100, EXAMPLE, &[]);
    for (qtype, kind, data) in [(1, 1, &[203, 0, 113, 80][..]), (255, 1, &[203, 0, 113, 80]), (28, 28, &[0xaa; 16])] {
        let reply = Reply { qtype, ttl: 9, ..reply(&order, Action::Address) };
        let (octets, reason) = asked.answer(&Edns::default(), &reply).unwrap();
        let expected =
            [&b"\xc0\x0c\x00"[..], &[kind], b"\x00\x01\x00\x00\x00\x09\x00", &[data.len() as u8], data].concat();
        assert_eq!(&octets[..12], b"\xab\xcd\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00");
        assert_eq!((&octets[33..], reason), (&expected[..], Reason::AnsweredAddress));
    }
}

#[test]
fn what_each_action_answers() {
    let order = order("");
    let asked = ask(0x0100, EXAMPLE, &[]);
    let without = Order { flags: 0, ..order };
    let nodata = Reply { entry: entry(3, ENTRY_NODATA), ..reply(&order, Action::Nxdomain) };
    for (reply, rcode, reason) in [
        (reply(&order, Action::Nxdomain), 3, Reason::AnsweredNxdomain),
        (nodata, 0, Reason::AnsweredNodata),
        (reply(&order, Action::Nodata), 0, Reason::AnsweredNodata),
        (reply(&order, Action::Refused), 5, Reason::AnsweredRefused),
        (reply(&order, Action::Reset), 5, Reason::AnsweredRefused),
        (reply(&order, Action::Address), 0, Reason::AnsweredAddress),
        (reply(&without, Action::Address), 0, Reason::AnsweredNodata),
        (Reply { qtype: 65, ..reply(&order, Action::Address) }, 0, Reason::AnsweredNodata),
    ] {
        let (octets, found) = asked.answer(&Edns::default(), &reply).unwrap();
        assert_eq!((octets[3] & 15, found), (rcode, reason));
    }
}

/// The internet checksum (RFC 1071), over octets.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u64 =
        octets.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from)).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn sealed(composed: &Composed, buffer: &mut [u8; BUFFER]) -> Vec<u8> {
    let sum = !checksum(&buffer[TRANSPORT as usize..composed.end as usize]);
    composed.seal(buffer, sum);
    buffer[composed.start as usize..composed.end as usize].to_vec()
}

/// Headers to answer: IPv4 or IPv6, 20 octets of transport header.
fn headers(version: u8, transport: u8, head: [u8; 20]) -> (Vec<u8>, Network) {
    let (ip, l4) = if version == 4 {
        ([&[0x45, 0, 0, 40, 0, 0, 0, 0, 9, transport, 0, 0][..], &[192, 0, 2, 10], &[198, 51, 100, 53]].concat(), 20)
    } else {
        ([&[0x60, 1, 2, 3, 0, 20, transport, 9][..], &[0x21; 16], &[0x32; 16]].concat(), 40)
    };
    let frame = [&ip[..], &head].concat();
    let network = Network { l3: 0, l4, end: l4 + 20, version, transport, ..Network::default() };
    (frame, network)
}

fn pseudo(version: u8, transport: u8, packet: &[u8], len: usize) -> Vec<u8> {
    let addresses = if version == 4 { &packet[12..20] } else { &packet[8..40] };
    [addresses, &(len as u32).to_be_bytes(), &[0, 0, 0, transport]].concat()
}

#[test]
fn datagrams_go_back() {
    for version in [4, 6] {
        let (frame, network) =
            headers(version, UDP, [&[0x9c, 0x40, 0, 53, 0, 20, 7, 7][..], &[0; 12]].concat().try_into().unwrap());
        let mut buffer = [0; BUFFER];
        buffer[MESSAGE as usize..][..5].copy_from_slice(b"hello");
        let composed = answer::datagram(&Slice(&frame), &network, 5, &mut buffer).unwrap();
        let packet = sealed(&composed, &mut buffer);
        let (ip, datagram) = packet.split_at(if version == 4 { 20 } else { 40 });
        assert_eq!(datagram[..6], [0, 53, 0x9c, 0x40, 0, 13]);
        assert_eq!(&datagram[8..], b"hello");
        assert_eq!(checksum(&[pseudo(version, UDP, ip, 13), datagram.to_vec()].concat()), 0);
        if version == 4 {
            assert_eq!(ip[..10], [0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, UDP]);
            assert_eq!(ip[12..], [198, 51, 100, 53, 192, 0, 2, 10]);
            assert_eq!(checksum(ip), 0);
        } else {
            assert_eq!(ip[..8], [0x60, 0, 0, 0, 0, 13, UDP, 64]);
            assert_eq!(ip[8..], [[0x32; 16], [0x21; 16]].concat());
        }
    }
}

#[test]
fn t14_resets() {
    let (fin, syn, psh, ack) = (1, 2, 8, 16);
    for (flags, octets, sequence, acknowledge, sent) in [
        (ack, 100, 0xdddd_0000, 0, 4),
        (ack | psh, 5, 0xdddd_0000, 0, 4),
        (ack | fin, 5, 0xdddd_0000, 0, 4),
        (syn, 100, 0, 0xffff_fff0_u32.wrapping_add(101), 20),
        (fin, 100, 0, 0xffff_fff0_u32.wrapping_add(101), 20),
        (psh, 100, 0, 0xffff_fff0_u32.wrapping_add(100), 20),
        (0, 0, 0, 0xffff_fff0, 20),
    ] {
        for version in [4, 6] {
            let mut head = [0; 20];
            head[..12].copy_from_slice(&[0x9c, 0x40, 1, 0xbb, 0xff, 0xff, 0xff, 0xf0, 0xdd, 0xdd, 0, 0]);
            head[12..14].copy_from_slice(&[0x50, flags]);
            let (frame, network) = headers(version, TCP, head);
            let mut buffer = [0xee; BUFFER];
            let payload = Payload { start: network.end, end: network.end + octets };
            let composed = answer::reset(&Slice(&frame), &network, &payload, &mut buffer).unwrap();
            let packet = sealed(&composed, &mut buffer);
            let (ip, segment) = packet.split_at(if version == 4 { 20 } else { 40 });
            let expected = [
                &[1, 0xbb, 0x9c, 0x40][..],
                &u32::to_be_bytes(sequence),
                &u32::to_be_bytes(acknowledge),
                &[0x50, sent, 0, 0],
            ]
            .concat();
            assert_eq!((&segment[..16], &segment[18..]), (&expected[..], &[0, 0][..]), "{flags}");
            assert_eq!(checksum(&[pseudo(version, TCP, ip, 20), segment.to_vec()].concat()), 0);
        }
    }
}

#[test]
fn d09_a_checksum_of_zero_is_sent_as_ones() {
    let (frame, network) = headers(4, UDP, [0; 20]);
    let mut found = false;
    for word in 0..=u16::MAX {
        let mut buffer = [0; BUFFER];
        buffer[MESSAGE as usize..][..2].copy_from_slice(&word.to_be_bytes());
        let composed = answer::datagram(&Slice(&frame), &network, 2, &mut buffer).unwrap();
        let packet = sealed(&composed, &mut buffer);
        let sum = u16::from_be_bytes([packet[26], packet[27]]);
        assert_ne!(sum, 0);
        found |= sum == 0xffff;
    }
    assert!(found);
}

#[test]
fn sums_fold() {
    assert_eq!([fold(0), fold(0xffff), fold(0x1_0000), fold(0x1_ffff), fold(0xffff_ffff)], [0, 0xffff, 1, 1, 0xffff]);
}

proptest! {
    /// D9: over names, texts and options of any length, both limits are kept, and sections are as the header says.
    #[test]
    fn d09_sizes(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..6),
        text in "[a-z]{0,64}",
        trailing in 0_usize..80,
        present in 0_u8..2,
        size in any::<u16>(),
        server in prop::option::of(8_usize..33),
        action in 1_u8..9,
    ) {
        let order = order(&text);
        let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        let cookie = if present == 1 { server.map_or(0, |server| 12 + server) } else { 0 };
        let asked = ask(0x0100, &labels, &vec![0; trailing + cookie]);
        let payload = asked.framed.payload();
        let edns = Edns {
            present,
            size: size.into(),
            cookie_at: payload.end - cookie as u32,
            cookie_len: cookie as u32,
            ..Edns::default()
        };
        let reply = Reply { entry: entry(1, 0), action, ..reply(&order, Action::Nxdomain) };
        let (octets, _) = asked.answer(&edns, &reply).unwrap();
        let taken = if present == 1 { usize::from(size.max(512)) } else { 512 };
        let limit = taken.min(3 * (payload.end - payload.start) as usize);
        prop_assert!(octets.len() <= limit || octets.len() < 12 + 5, "{} over {limit}", octets.len());
        prop_assert_eq!(u16::from_be_bytes([octets[10], octets[11]]), u16::from(present));
        prop_assert_eq!([octets[4], octets[5]], [0, 1]);
    }
}
