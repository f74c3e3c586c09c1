use filter_common::{
    frame::Payload,
    quic::{Header, MAX_COALESCED, V1, V2, kind},
    verdict::Reason,
};
use proptest::prelude::*;

use crate::Framed;

fn read(datagram: &[u8]) -> Result<Header, Reason> {
    let framed = Framed::new(datagram);
    Header::read(&framed.bytes(), &framed.payload())
}

/// A packet with a long header of version 1 and these connection ids; `rest` is what follows them.
fn long(kind: u8, dcid: &[u8], scid: &[u8], rest: &[u8]) -> Vec<u8> {
    let lens = (dcid.len() as u8, scid.len() as u8);
    [&[0xc0 | kind << 4, 0, 0, 0, 1, lens.0][..], dcid, &[lens.1], scid, rest].concat()
}

#[test]
fn q1_an_initial() {
    // RFC 9001 A.2: the header, and as many octets as it says.
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 8, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0, 0, 0x44, 0x9e];
    datagram.resize(1200, 0x7b);
    let header = read(&datagram).unwrap();
    assert_eq!((header.version, header.kind, header.start, header.next), (V1, kind::INITIAL, 42, 1242));
    assert_eq!((header.dcid, header.dcid_len, header.scid, header.scid_len), (48, 8, 57, 0));
    assert_eq!((header.token_len, header.number), (0, 60));
    assert_eq!(header.rest(1242), None);
}

#[test]
fn q4_a_token_and_every_form_of_its_length() {
    for (form, octets) in
        [(&[5][..], 5), (&[0x40, 5], 5), (&[0x80, 0, 0, 5], 5), (&[0xc0, 0, 0, 0, 0, 0, 0, 5], 5), (&[0x41, 0], 256)]
    {
        let rest = [form, &vec![9; octets], &[20], &[7; 20]].concat();
        let header = read(&long(0, &[1; 8], &[2; 5], &rest)).unwrap();
        assert_eq!(header.token_len, octets as u32, "{form:?}");
        assert_eq!(header.next - header.number, 20);
        assert_eq!((header.scid, header.scid_len), (42 + 6 + 8 + 1, 5));
    }
}

#[test]
fn q5_types_of_both_versions() {
    // RFC 9000 17.2, RFC 9369 3.2.
    let rest = [&[0, 20][..], &[7; 20]].concat();
    let kinds = [kind::INITIAL, kind::ZERO_RTT, kind::HANDSHAKE, kind::RETRY];
    for bits in 0..4 {
        let mut packet = long(bits, &[1; 8], &[], if bits == 0 { &rest } else { &rest[1..] });
        assert_eq!(read(&packet).map(|header| header.kind), Ok(kinds[usize::from(bits)]));
        packet[0] = 0xc0 | ((bits + 1) & 3) << 4;
        packet[1..5].copy_from_slice(&V2.to_be_bytes());
        let header = read(&packet).unwrap();
        assert_eq!((header.version, header.kind), (V2, kinds[usize::from(bits)]));
    }
}

#[test]
fn q7_what_is_not_quic() {
    assert_eq!(read(&[]), Err(Reason::QuicNotQuic));
    assert_eq!(read(&[0x40; 20]), Err(Reason::QuicNotQuic), "shorter than any packet");
    assert_eq!(read(&[0x00; 60]), Err(Reason::QuicNotQuic));
    assert_eq!(read(&[0x40; 21]).map(|header| header.kind), Ok(kind::SHORT));
    let rest = [&[0, 20][..], &[7; 20]].concat();
    let mut packet = long(0, &[1; 8], &[], &rest);
    for (version, reason) in [(0, Reason::QuicVersion), (2, Reason::QuicVersion), (0xff00_001d, Reason::QuicVersion)] {
        packet[1..5].copy_from_slice(&u32::to_be_bytes(version));
        assert_eq!(read(&packet), Err(reason));
    }
    // The fixed bit is clear, and the version is not known: anything.
    packet[0] &= !0x40;
    assert_eq!(read(&packet), Err(Reason::QuicNotQuic));
    packet[1..5].copy_from_slice(&1_u32.to_be_bytes());
    assert_eq!(read(&packet).map(|header| header.kind), Ok(kind::INITIAL), "RFC 9287");
}

#[test]
fn q7_connection_ids_of_over_20_octets() {
    let rest = [&[0, 20][..], &[7; 20]].concat();
    assert!(read(&long(0, &[1; 20], &[2; 20], &rest)).is_ok());
    assert_eq!(read(&long(0, &[1; 21], &[], &rest)), Err(Reason::QuicConnectionId));
    assert_eq!(read(&long(0, &[1; 8], &[2; 21], &rest)), Err(Reason::QuicConnectionId));
}

#[test]
fn t20_lengths_that_do_not_fit() {
    for rest in [
        &[0, 19][..],                     // less than a sample
        &[0, 21],                         // more than there is
        &[30, 0, 20],                     // a token beyond the packet
        &[0xff; 9],                       // a token of 2^62
        &[0, 0xc0, 1, 0, 0, 0, 0, 0, 20], // more than 2^30
        &[0, 0xbf, 0xff, 0xff, 0xff],
    ] {
        let rest = [rest, &[7; 20]].concat();
        assert_eq!(read(&long(0, &[1; 8], &[], &rest)), Err(Reason::QuicMalformed), "{rest:?}");
    }
}

#[test]
fn q4_an_initial_behind_other_packets() {
    let other = long(2, &[1; 8], &[2; 5], &[&[20][..], &[7; 20]].concat());
    let initial = long(0, &[1; 8], &[2; 5], &[&[0, 20][..], &[7; 20]].concat());
    for others in 0..=MAX_COALESCED as usize + 1 {
        let datagram = [other.repeat(others), initial.clone()].concat();
        let framed = Framed::new(&datagram);
        let Payload { start, end } = framed.payload();
        let first = read(&datagram).unwrap();
        let found = first.initial(&framed.bytes(), end).map(|header| header.start);
        let expected = (others <= MAX_COALESCED as usize).then_some(start + (other.len() * others) as u32);
        assert_eq!(found, expected, "{others}");
    }
    let datagram = [other.clone(), vec![0x41; 40]].concat();
    let framed = Framed::new(&datagram);
    assert_eq!(read(&datagram).unwrap().initial(&framed.bytes(), framed.payload().end), None);
}

proptest! {
    #[test]
    fn what_is_read_lies_in_the_payload(
        datagram in prop::collection::vec(prop_oneof![any::<u8>(), 0..30_u8, Just(0xc0)], 0..120), known in any::<bool>(),
        trailer in 0..10_usize
    ) {
        let mut datagram = datagram;
        if known && datagram.len() > 5 {
            datagram[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]);
        }
        let len = datagram.len() as u32;
        let framed = Framed::new(&[datagram, vec![0; trailer]].concat());
        let payload = Payload { start: 42, end: 42 + len };
        if let Ok(header) = Header::read(&framed.bytes(), &payload) {
            prop_assert!(header.next <= payload.end && header.number <= header.next && header.start == 42);
            if header.kind != kind::SHORT {
                prop_assert!(header.dcid + header.dcid_len < header.scid && header.scid + header.scid_len <= header.number);
            }
            let _ = header.initial(&framed.bytes(), payload.end);
        }
    }
}
