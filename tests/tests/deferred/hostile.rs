//! Octets that no honest client sends: everything survives, and nothing is named that the packets do not name.

use cordon_tests::packet::{
    Hello,
    quic::{Client, crypto, varint},
};
use filter_common::verdict::Reason;
use filter_user::deferred::{Decision, Junk, NoName};
use proptest::prelude::*;

use crate::{Engine, NAME, client, long_hello, named};

#[test]
fn t20_a_datagram_cut_at_every_octet() {
    let datagram = client().initial(&crypto(0, &Hello::new(NAME).handshake()));
    for len in 0..datagram.len() {
        let decision = Engine::new().read(&datagram[..len]);
        assert!(matches!(decision, Decision::Junk(_)), "{len}: {decision:?}");
    }
}

#[test]
fn t20_every_bit_of_a_packet_flipped() {
    let mut client = client();
    client.size = 300;
    let datagram = client.initial(&crypto(0, &Hello::new(NAME).handshake()));
    for bit in 0..8 * datagram.len() {
        let mut flipped = datagram.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let decision = Engine::new().read(&flipped);
        assert!(matches!(decision, Decision::Junk(_)), "{bit}: {decision:?}");
    }
}

#[test]
fn t20_a_handshake_packet_cut_at_every_octet_and_with_any_id() {
    let first = client().initial(&crypto(0, &Hello::new(NAME).handshake()));
    for len in 0..=20 {
        let packet = Client::new(&vec![5; len], &[]).opaque(2, 60);
        let mut engine = Engine::new();
        engine.read(&first);
        for end in 0..packet.len() {
            let decision = engine.read(&packet[..end]);
            assert!(matches!(decision, Decision::Junk(_)), "{len}, {end}: {decision:?}");
        }
        assert_eq!(engine.read(&packet), named(NAME));
    }
    let long = Client::new(&[5; 21], &[]).opaque(2, 60);
    assert_eq!(Engine::new().read(&long), Decision::Junk(Junk::Header(Reason::QuicConnectionId)));
}

#[test]
fn q6_junk_in_any_number_takes_no_room() {
    let mut engine = Engine::new();
    for connection in 0..2000_u32 {
        engine.connection = connection;
        let mut client = Client::new(&connection.to_be_bytes().repeat(2), &[]);
        client.size = 100;
        let mut wrong = client.initial(&crypto(0, &[1; 40]));
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(engine.read(&wrong), Decision::Junk(Junk::Tag));
        assert_eq!(engine.read(&client.opaque(2, 60)), Decision::NoName(NoName::Ambiguous));
    }
    assert_eq!((engine.connections.len(), engine.connections.waiting()), (0, 0));
}

#[test]
fn q6_crypto_far_behind_ends_the_reading() {
    let mut engine = Engine::new();
    let frames = crypto(1 << 20, &[1; 100]);
    assert_eq!(engine.read(&client().initial(&frames)), Decision::NoName(NoName::TooLong));
    assert_eq!(engine.connections.waiting(), 0);
}

#[test]
fn q6_more_pieces_than_are_kept_end_the_reading() {
    let mut client = client();
    client.size = 1400;
    let frames: Vec<u8> = (1..=300).flat_map(|piece| crypto(2 * piece, &[7])).collect();
    assert_eq!(Engine::new().read(&client.initial(&frames)), Decision::NoName(NoName::TooLong));
}

#[test]
fn frames_that_no_initial_may_have_end_the_reading() {
    let hello = Hello::new(NAME).handshake();
    for other in [&[0x1c, 0, 0, 0][..], &[0x08, 0, 1, 2], &[0x40, 0x06], &varint(0x1234)] {
        let mut engine = Engine::new();
        let frames = [other, &crypto(0, &hello)].concat();
        assert_eq!(engine.read(&client().initial(&frames)), Decision::Undecided);
    }
}

#[test]
fn a_wrong_tag_changes_nothing() {
    let hello = long_hello(false);
    let mut client = client();
    let [one, two]: [_; 2] = client.datagrams(&hello).try_into().unwrap();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&one), Decision::Undecided);
    let mut forged = two.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(engine.read(&forged), Decision::Junk(Junk::Tag));
    assert_eq!(engine.read(&two), named(NAME));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn any_frames_survive(
        frames in prop::collection::vec(prop_oneof![4 => 0..8_u8, 1 => any::<u8>()], 0..600), rest in any::<bool>()
    ) {
        let mut client = client();
        let mut engine = Engine::new();
        engine.read(&client.initial(&frames));
        // Whatever came first, what is right is read, unless the first octets said otherwise.
        let decision = engine.read(&client.initial(&crypto(0, &Hello::new(NAME).handshake())));
        if rest {
            prop_assert!(!matches!(decision, Decision::Junk(_)));
        }
    }

    #[test]
    fn any_handshake_survives(
        octets in prop::collection::vec(any::<u8>(), 0..600), at in 0..400_usize, len in 0..40_usize
    ) {
        let mut hello = Hello::new(NAME).handshake();
        let at = at.min(hello.len());
        let end = (at + len).min(hello.len());
        hello.splice(at..end, octets.iter().copied().take(40));
        let mut client = client();
        let mut engine = Engine::new();
        engine.read(&client.initial(&crypto(0, &hello)));
        engine.read(&client.initial(&crypto(5, &octets)));
    }

    #[test]
    fn any_octets_survive(datagram in prop::collection::vec(any::<u8>(), 0..300), head in 0..3_usize) {
        let mut datagram = datagram;
        let heads = [&[0xc3, 0, 0, 0, 1][..], &[0xd0, 0x6b, 0x33, 0x43, 0xcf], &[]];
        datagram.splice(0..0, heads[head].iter().copied());
        let decision = Engine::new().read(&datagram);
        prop_assert!(matches!(decision, Decision::Junk(_)));
    }
}
