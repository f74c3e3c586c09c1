//! QUIC Initials, sealed by rustls.

use cordon_tests::packet::{
    Hello,
    quic::{Client, crypto},
    server_name,
};
use filter_common::verdict::Reason;
use filter_user::deferred::{
    Decision, Junk, Limits, NoName,
    quic::{ConnectionId, SEARCHED_ONE_IN, Searched},
};
use proptest::prelude::*;
use rustls::quic::Version;

use crate::{Engine, NAME, client, long_hello, named};

#[test]
fn q1_one_initial_with_one_crypto_frame() {
    let mut engine = Engine::new();
    let datagram = client().initial(&crypto(0, &Hello::new(NAME).handshake()));
    assert_eq!(datagram.len(), 1200);
    assert_eq!(engine.read(&datagram), named(NAME));
    // A retransmission is known by its ids.
    assert_eq!(engine.read(&datagram), named(NAME));
}

#[test]
fn q1_packet_numbers_of_every_length() {
    for number_len in 1..=4 {
        let mut client = client();
        client.number_len = number_len;
        let hello = Hello::new(NAME).handshake();
        assert_eq!(Engine::new().read(&client.initial(&crypto(0, &hello))), named(NAME));
    }
}

#[test]
fn q2_padding_ping_and_shuffled_frames() {
    let hello = Hello::new(NAME).handshake();
    let (one, rest) = hello.split_at(40);
    let (two, three) = rest.split_at(70);
    let frames =
        [&[0; 20][..], &crypto(110, three), &[1, 1], &crypto(0, one), &[0; 3], &crypto(40, two), &[1], &crypto(0, one)]
            .concat();
    assert_eq!(Engine::new().read(&client().initial(&frames)), named(NAME));
}

#[test]
fn q3_two_and_three_initials_in_any_order_and_repeated() {
    for name_first in [true, false] {
        let hello = long_hello(name_first);
        let cuts = [vec![0, 1000, hello.len()], vec![0, 700, 1300, hello.len()]];
        for cut in cuts {
            let mut client = client();
            let portions =
                cut.windows(2).map(|window| client.initial(&crypto(window[0], &hello[window[0]..window[1]])));
            let portions: Vec<_> = portions.collect();
            let indices: &[usize] = &(0..portions.len()).collect::<Vec<_>>();
            for order in orders(indices) {
                let mut engine = Engine::new();
                let read: Vec<_> = order.iter().map(|index| engine.read(&portions[*index])).collect();
                assert_eq!(read.last(), Some(&named(NAME)), "{order:?}");
                let first = read.iter().find(|decision| **decision != Decision::Undecided);
                assert_eq!(first, Some(&named(NAME)));
                let mut engine = Engine::new();
                let twice = order.iter().flat_map(|index| [index, index]);
                assert_eq!(twice.map(|index| engine.read(&portions[*index])).last(), Some(named(NAME)));
            }
        }
    }
}

fn orders(indices: &[usize]) -> Vec<Vec<usize>> {
    if indices.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = indices.iter().flat_map(|first| {
        let rest: Vec<_> = indices.iter().copied().filter(|other| other != first).collect();
        orders(&rest).into_iter().map(|order| [&[*first][..], &order].concat()).collect::<Vec<_>>()
    });
    with_first.collect()
}

#[test]
fn q4_coalesced_packets() {
    let hello = long_hello(false);
    let (one, two) = hello.split_at(500);
    let mut client = client();
    // Two Initials of one datagram, 0-RTT between them.
    let datagram =
        [client.initial_packet(&crypto(0, one)), client.opaque(1, 50), client.initial_packet(&crypto(500, two))]
            .concat();
    assert_eq!(Engine::new().read(&datagram), named(NAME));
    // Others before and behind, and octets that are no packet.
    let initial = client.initial_packet(&crypto(0, &Hello::new(NAME).handshake()));
    let datagram = [client.opaque(2, 30), client.opaque(1, 30), initial.clone(), vec![0; 40]].concat();
    assert_eq!(Engine::new().read(&datagram), named(NAME));
    let datagram = [client.opaque(2, 30), initial.clone(), client.short(30)].concat();
    assert_eq!(Engine::new().read(&datagram), named(NAME));
    // A packet of another connection in the same datagram does not count.
    let mut other = self::client();
    other.scid = vec![7; 8];
    let undecided = other.initial_packet(&crypto(0, one));
    assert_eq!(Engine::new().read(&[undecided, initial].concat()), Decision::Undecided);
}

#[test]
fn q4_a_token() {
    for octets in [1, 60, 100, 300] {
        let mut client = client();
        client.token = vec![0x5a; octets];
        assert_eq!(Engine::new().read(&client.initial(&crypto(0, &Hello::new(NAME).handshake()))), named(NAME));
    }
}

#[test]
fn q4_retry_then_a_new_initial_under_a_new_id() {
    let hello = long_hello(false);
    let mut client = client();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&client.initial(&crypto(0, &hello[..1000]))), Decision::Undecided);
    // RFC 9000 17.2.5.2: the id and the token come from the Retry, and so do the keys (RFC 9001 5.2).
    client.dcid = vec![0x77; 18];
    client.origin = client.dcid.clone();
    client.token = vec![3; 80];
    let [one, two]: [_; 2] = client.datagrams(&hello).try_into().unwrap();
    assert_eq!(engine.read(&two), Decision::Undecided);
    assert_eq!(engine.read(&one), named(NAME));
}

#[test]
fn q4_the_destination_id_changes_within_a_hello() {
    let hello = long_hello(false);
    let mut client = client();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&client.initial(&crypto(0, &hello[..1000]))), Decision::Undecided);
    client.dcid = vec![0x99; 4];
    assert_eq!(engine.read(&client.initial(&crypto(1000, &hello[1000..]))), named(NAME));
    // What follows is the same connection's.
    client.dcid = vec![0x98; 20];
    assert_eq!(engine.read(&client.initial(&[2, 0, 0, 0, 0])), named(NAME));
}

#[test]
fn q4_the_servers_id_is_believed_once_a_tag_is_right() {
    let mut client = client();
    let mut engine = Engine::new();
    let origin = ConnectionId::new(&client.dcid);
    let found = engine.find(&client.initial(&crypto(0, &Hello::new(NAME).handshake())));
    assert_eq!(found.ids.map(|ids| (Some(ids.origin), ids.server)), Some((origin, None)));
    client.dcid = vec![0x99; 20];
    let datagram = client.initial(&[2, 0, 0, 0, 0]);
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(engine.find(&forged).ids, None);
    let found = engine.find(&datagram);
    assert_eq!(found.decision, named(NAME));
    assert_eq!(found.ids.map(|ids| (Some(ids.origin), ids.server)), Some((origin, ConnectionId::new(&[0x99; 20]))));
}

#[test]
fn q4_a_first_initial_without_data() {
    let mut client = client();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&client.initial(&[1])), Decision::Undecided);
    client.dcid = vec![0x99; 4];
    assert_eq!(engine.read(&client.initial(&crypto(0, &Hello::new(NAME).handshake()))), named(NAME));
}

#[test]
fn q4_version_1_then_version_2() {
    // RFC 9368 2.3, RFC 9369 4.1: the keys follow from the first destination id, the stream goes on.
    let hello = long_hello(false);
    let mut client = client();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&client.initial(&crypto(0, &hello[..1000]))), Decision::Undecided);
    client.version = Version::V2;
    client.dcid = vec![0x99; 8];
    assert_eq!(engine.read(&client.initial(&crypto(1000, &hello[1000..]))), named(NAME));
}

#[test]
fn q5_version_2() {
    let datagram = client().v2().initial(&crypto(0, &Hello::new(NAME).handshake()));
    assert_eq!(Engine::new().read(&datagram), named(NAME));
}

#[test]
fn q7_what_is_no_initial_is_told_apart() {
    let mut engine = Engine::new();
    let client = client();
    assert_eq!(engine.read(&client.short(100)), Decision::Junk(Junk::NoInitial));
    assert_eq!(engine.read(&client.opaque(2, 100)), Decision::Junk(Junk::NoInitial));
    assert_eq!(engine.read(&[0; 100]), Decision::Junk(Junk::Header(Reason::QuicNotQuic)));
    assert_eq!(engine.read(&[]), Decision::Junk(Junk::Header(Reason::QuicNotQuic)));
    let mut other = client.opaque(0, 100);
    other[1..5].copy_from_slice(&0xff00_001d_u32.to_be_bytes());
    assert_eq!(engine.read(&other), Decision::Junk(Junk::Header(Reason::QuicVersion)));
    assert_eq!(engine.read(&client.opaque(0, 100)), Decision::Junk(Junk::Header(Reason::QuicMalformed)));
    let mut client = client;
    let mut datagram = client.initial(&crypto(0, &Hello::new(NAME).handshake()));
    datagram[1199] ^= 1;
    assert_eq!(engine.read(&datagram), Decision::Junk(Junk::Tag));
    assert!(engine.connections.is_empty());
}

#[test]
fn t12_t12b_names_as_in_other_hellos() {
    let read = |hello: Hello| Engine::new().read(&client().initial(&crypto(0, &hello.handshake())));
    assert_eq!(read(Hello::new("WWW.Example.COM.")), named(NAME));
    assert_eq!(read(Hello::anonymous()), Decision::NoName(NoName::Hello(Reason::TlsNoSni)));
    assert_eq!(read(Hello::bare()), Decision::NoName(NoName::Hello(Reason::TlsNoSni)));
    assert_eq!(read(Hello::new("a..b")), Decision::NoName(NoName::Hello(Reason::TlsSniInvalid)));
    assert_eq!(read(Hello::name_behind(NAME, 200)), named(NAME));
}

#[test]
fn o6_another_connection_under_the_same_ids_has_its_own_name() {
    // A client without a source id of its own (Chrome) that opens one connection after the other from one port.
    let mut engine = Engine::new();
    for (id, name) in [(1, "one.example"), (2, "two.example"), (3, "three.example"), (4, "four.example")] {
        let mut client = client();
        client.scid = Vec::new();
        client.dcid = vec![id; 8];
        client.origin = client.dcid.clone();
        assert_eq!(engine.read(&client.initial(&crypto(0, &Hello::new(name).handshake()))), named(name));
    }
    assert_eq!(engine.connections.len(), 1);
}

#[test]
fn o6_a_decoy_does_not_end_the_connection_that_it_imitates() {
    let hello = long_hello(false);
    let mut client = client();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&client.initial(&crypto(0, &hello[..1000]))), Decision::Undecided);
    let mut decoy = self::client();
    decoy.dcid = vec![1; 8];
    decoy.origin = decoy.dcid.clone();
    let frames = crypto(0, &Hello::new("decoy.example").handshake());
    assert_eq!(engine.read(&decoy.initial(&frames)), named("decoy.example"));
    assert_eq!(engine.read(&client.initial(&crypto(1000, &hello[1000..]))), named(NAME));
}

/// A client without a source id of its own.
fn browser(id: u8) -> Client {
    let mut client = Client::new(&[id; 8], &[]);
    client.number = 1;
    client
}

/// Its second flight, which is all that shows the server's id.
fn handshake(server: &[u8]) -> Vec<u8> {
    Client::new(server, &[]).opaque(2, 60)
}

#[test]
fn o6_forged_hellos_do_not_push_out_the_one_that_a_handshake_belongs_to() {
    let hello = |name: &str| crypto(0, &Hello::new(name).handshake());
    let mut engine = Engine::new();
    assert_eq!(engine.read(&browser(1).initial(&hello("other.example"))), named("other.example"));
    for forged in 2..=4 {
        assert_eq!(engine.read(&browser(forged).initial(&hello(NAME))), named(NAME));
    }
    assert_eq!(engine.read(&handshake(&[9; 8])), ambiguous());
}

fn ambiguous() -> Decision {
    Decision::NoName(NoName::Ambiguous)
}

#[test]
fn q1_a_handshake_packet_is_of_the_only_connection_that_there_is() {
    let hello = long_hello(false);
    for name_is_known in [true, false] {
        let mut engine = Engine::new();
        let mut client = browser(1);
        assert_eq!(engine.read(&client.initial(&crypto(0, &hello[..1000]))), Decision::Undecided);
        let last = client.initial(&crypto(1000, &hello[1000..]));
        if name_is_known {
            assert_eq!(engine.read(&last), named(NAME));
        }
        let found = engine.find(&handshake(&[2; 8]));
        assert_eq!(found.decision, if name_is_known { named(NAME) } else { Decision::Undecided });
        assert_eq!(found.ids.unwrap().server, ConnectionId::new(&[2; 8]));
        let found = engine.find(&last);
        assert_eq!((found.decision, found.ids.unwrap().server), (named(NAME), ConnectionId::new(&[2; 8])));
        // A connection has one id of its server.
        assert_eq!(engine.read(&handshake(&[3; 8])), ambiguous());
        assert_eq!(engine.connections.len(), 1);
    }
}

#[test]
fn o6_a_handshake_packet_of_one_of_two_names_is_no_ones() {
    let mut engine = Engine::new();
    assert_eq!(engine.read(&handshake(&[9; 8])), ambiguous(), "no connection is known");
    assert!(engine.connections.is_empty());
    for (id, name) in [(1, "one.example"), (2, "two.example")] {
        assert_eq!(engine.read(&browser(id).initial(&crypto(0, &Hello::new(name).handshake()))), named(name));
    }
    assert_eq!(engine.read(&handshake(&[9; 8])), ambiguous());
    // The first one's server is known by a packet that could be opened.
    let mut first = browser(1);
    first.dcid = vec![7; 8];
    assert_eq!(engine.read(&first.initial_packet(&[2, 0, 0, 0, 0])), named("one.example"));
    assert_eq!(engine.read(&handshake(&[7; 8])), named("one.example"));
    assert_eq!(engine.read(&handshake(&[9; 8])), named("two.example"));
    // Two of one name: whichever it is of.
    let mut engine = Engine::new();
    for id in [1, 2] {
        engine.read(&browser(id).initial(&crypto(0, &Hello::new(NAME).handshake())));
    }
    assert_eq!(engine.read(&handshake(&[9; 8])), named(NAME));
}

#[test]
fn o7_connections_are_told_apart_by_their_key() {
    let hello = long_hello(false);
    let mut client = client();
    let [one, two]: [_; 2] = client.datagrams(&hello).try_into().unwrap();
    let mut engine = Engine::new();
    assert_eq!(engine.read(&one), Decision::Undecided);
    engine.connection = 1;
    assert_eq!(engine.read(&two), Decision::Undecided);
    engine.connection = 0;
    assert_eq!(engine.read(&two), named(NAME));
}

#[test]
fn q6_a_client_loses_its_own_oldest_connections_only() {
    let limits = Limits { client_connections: 4, ..Limits::default() };
    let mut engine = Engine::with(limits);
    let hello = long_hello(false);
    let mut client = client();
    let [one, two]: [_; 2] = client.datagrams(&hello).try_into().unwrap();
    let flood = |engine: &mut Engine, address: u8, connections: u32| {
        engine.client = [address; 16];
        for connection in 0..connections {
            engine.connection = u32::from(address) * 1000 + connection;
            assert_eq!(engine.read(&one), Decision::Undecided);
        }
    };
    flood(&mut engine, 1, 1);
    flood(&mut engine, 2, 20);
    assert_eq!((engine.connections.len(), engine.connections.incomplete()), (5, 16));
    (engine.client, engine.connection) = ([1; 16], 1000);
    assert_eq!(engine.read(&two), named(NAME));
    (engine.client, engine.connection) = ([2; 16], 2000);
    assert_eq!(engine.read(&two), Decision::Undecided, "the first part is forgotten");
    engine.connection = 2019;
    assert_eq!(engine.read(&two), named(NAME));
}

#[test]
fn q6_connections_and_octets_are_bounded_in_all() {
    let limits = Limits { connections: 8, octets: 10_000, ..Limits::default() };
    let mut engine = Engine::with(limits);
    let hello = long_hello(false);
    let [one, two]: [_; 2] = client().datagrams(&hello).try_into().unwrap();
    for connection in 0..100 {
        (engine.connection, engine.client) = (connection, [connection as u8; 16]);
        // Out of order, so that octets wait.
        assert_eq!(engine.read(&two), Decision::Undecided);
        assert!(engine.connections.len() <= 8 && engine.connections.waiting() <= 10_000);
    }
    assert!(engine.connections.len() >= 8, "{}", engine.connections.len());
    assert_eq!(engine.read(&one), named(NAME));
    engine.time += limits.age + 1;
    engine.connection = 1000;
    assert_eq!(engine.read(&one), Decision::Undecided);
    assert_eq!((engine.connections.len(), engine.connections.waiting()), (1, 0));
}

proptest! {
    #[test]
    fn q2_q3_any_cut_order_and_repetition(
        cuts in prop::collection::btree_set(1..1700_usize, 0..30), order in any::<prop::sample::Index>(),
        frames in 1..12_usize, repeat in any::<bool>(), seed in any::<u64>(), two in any::<bool>()
    ) {
        let hello = long_hello(seed % 2 == 0);
        let mut client = client();
        if two {
            client = client.v2();
        }
        let bounds: Vec<_> = [0].into_iter().chain(cuts).chain([hello.len()]).collect();
        let mut pieces: Vec<_> = bounds.windows(2).map(|window| crypto(window[0], &hello[window[0]..window[1]])).collect();
        let first = order.index(pieces.len());
        pieces.rotate_left(first);
        if seed % 3 == 0 {
            pieces.reverse();
        }
        let mut engine = Engine::new();
        let mut last = Decision::Undecided;
        for chunk in pieces.chunks(frames) {
            let datagram = client.initial(&chunk.join(&[0, 1, 0][..]));
            last = engine.read(&datagram);
            if repeat {
                last = engine.read(&datagram);
            }
        }
        prop_assert_eq!(last, named(NAME));
    }
}

/// T16: that there is an Encrypted Client Hello is counted, in a sample: whether its octets come before the name's or
/// behind, with them or in a later Initial, in order or not. The name is told at once all the same.
#[test]
fn t16_encrypted_hellos_are_counted() {
    let ech = |kind| (kind, vec![0x42; 700]);
    let rest = || (21, vec![0; 400]);
    let cases = [
        (Hello::with_extensions([ech(0xfe0d), server_name(NAME), rest()]), 1),
        (Hello::with_extensions([server_name(NAME), rest(), ech(0xfe0d)]), 1),
        (Hello::with_extensions([ech(0xfe0c), server_name(NAME), rest()]), 0),
    ];
    for (hello, encrypted) in cases {
        let hello = hello.handshake();
        let name_end = hello.windows(NAME.len()).position(|octets| octets == NAME.as_bytes()).unwrap() + NAME.len();
        let searched = |hellos| Searched { hellos, encrypted: encrypted * hellos };
        // The first is searched, and then one in so many.
        let mut engine = Engine::new();
        let mut last = 0;
        for connection in 0..=SEARCHED_ONE_IN {
            engine.connection = connection as u32;
            let mut client = client();
            let (one, two) = hello.split_at(name_end.min(900));
            let frames = [crypto(0, one), crypto(one.len(), two)];
            let whole = client.initial(&frames.concat());
            assert!(whole.len() < 2048);
            assert_eq!(engine.read(&whole), named(NAME));
            last += u64::from(connection % SEARCHED_ONE_IN == 0);
            assert_eq!(engine.connections.searched(), searched(last), "{connection}");
        }
        // In two Initials, of which one ends with the name, in either order; and only the one with the name.
        let mut client = client();
        let parts = [0, 1].map(|part| {
            let octets = if part == 0 { &hello[..name_end] } else { &hello[name_end..] };
            client.initial(&crypto(part * name_end, octets))
        });
        let [one, two] = &parts;
        let mut engine = Engine::new();
        assert_eq!([one, two, one].map(|part| engine.read(part)), [named(NAME), named(NAME), named(NAME)]);
        assert_eq!((engine.connections.searched(), engine.connections.ended()), (searched(1), 1));
        let mut engine = Engine::new();
        assert_eq!([two, one].map(|part| engine.read(part)), [Decision::Undecided, named(NAME)]);
        assert_eq!((engine.connections.searched(), engine.connections.ended()), (searched(1), 1));
        let mut engine = Engine::new();
        assert_eq!([one, one].map(|part| engine.read(part)), [named(NAME), named(NAME)]);
        assert_eq!((engine.connections.searched(), engine.connections.ended()), (searched(0), 1));
    }
}

/// What waits for the end of a hello whose name is known counts as nobody's, and is little: over that, the search ends,
/// and the name stays known.
#[test]
fn t16_a_search_keeps_little() {
    let limits = Limits { client_octets: 1, ..Limits::default() };
    let hello = Hello::with_extensions([server_name(NAME), (21, vec![0; 9000])]).handshake();
    for (pieces, hellos) in [(3, 1), (5, 0)] {
        let mut engine = Engine::with(limits);
        let mut client = client();
        let mut read = |from: usize, to: usize| engine.read(&client.initial(&crypto(from, &hello[from..to])));
        assert_eq!(read(0, 200), named(NAME));
        for piece in 1..=pieces {
            assert_eq!(read(1000 * piece, 1000 * piece + 1000), named(NAME));
        }
        assert_eq!(read(200, 1000), named(NAME));
        for piece in pieces + 1..9 {
            assert_eq!(read(1000 * piece, 1000 * piece + 1000), named(NAME));
        }
        assert_eq!(read(9000, hello.len()), named(NAME));
        assert_eq!(engine.connections.searched(), Searched { hellos, encrypted: 0 }, "{pieces}");
        assert_eq!((engine.connections.len(), engine.connections.waiting()), (1, 0));
    }
}

/// Hellos that never end take a bounded number of searches, until they are too old.
#[test]
fn t16_searches_are_few_at_once() {
    const AT_ONCE: u64 = 512;
    let hello = Hello::new(NAME).handshake();
    let mut engine = Engine::new();
    for connection in 0..AT_ONCE * SEARCHED_ONE_IN {
        engine.connection = connection as u32;
        let up_to_name = &hello[..hello.len() - 1];
        assert_eq!(engine.read(&client().initial(&crypto(0, up_to_name))), named(NAME));
    }
    let whole = |engine: &mut Engine| {
        for _ in 0..SEARCHED_ONE_IN {
            engine.connection += 1;
            assert_eq!(engine.read(&client().initial(&crypto(0, &hello))), named(NAME));
        }
        engine.connections.searched().hellos
    };
    assert_eq!(whole(&mut engine), 0);
    engine.time += Limits::default().age + 1;
    assert_eq!(whole(&mut engine), 1);
}
