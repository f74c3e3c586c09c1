//! QUIC: what the kernel does with a datagram, and with the names that the deferred tier finds.

use std::sync::atomic::Ordering::Relaxed;

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{
        Hello, Ip, Packet, Transport,
        quic::{Client, crypto},
    },
    tiered::{Tiered, datagram_over},
};
use filter_common::{
    layout::quic_mode,
    verdict::{Action, Reason},
};
use filter_user::kernel::Behaviour;

const LISTED: &str = "www.example.com";
const OTHER: &str = "www.example.org";

fn client() -> Client {
    Client::new(&[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08], &[0xa1; 8])
}

fn browser() -> Client {
    Client::new(&[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08], &[])
}

fn hello(name: &str) -> Vec<u8> {
    Hello::new(name).handshake()
}

fn initial(client: &mut Client, name: &str) -> Vec<u8> {
    client.initial(&crypto(0, &hello(name)))
}

/// The client knows the server's connection id.
fn answered(client: &mut Client, server: &[u8]) {
    client.dcid = server.to_vec();
}

/// An Initial with an acknowledgement, and a Handshake packet behind it.
fn second_flight(client: &mut Client) -> Vec<u8> {
    [client.initial_packet(&[2, 0, 0, 0, 0]), client.opaque(2, 80)].concat()
}

#[test]
fn q1_the_name_stops_the_packets_that_follow() {
    for ip in Ip::both() {
        let mut border = Tiered::new();
        let mut client = client();
        let first = datagram_over(ip.clone(), &initial(&mut client, LISTED));
        assert_eq!(border.run(&first), Reason::QuicCopied);
        assert_eq!(border.found.iter().map(|name| name.as_str()).collect::<Vec<_>>(), [LISTED]);
        assert_eq!(border.run(&first), Reason::Dropped);
        answered(&mut client, &[0xb2; 8]);
        for datagram in [second_flight(&mut client), client.opaque(2, 80), client.opaque(1, 80)] {
            assert_eq!(border.run(&datagram_over(ip.clone(), &datagram)), Reason::Dropped);
        }
        let hits = border.filter.hits("o");
        assert_eq!((hits.decided, hits.concerned), (4, 4));
    }
}

#[test]
fn q1_other_names_pass() {
    let mut border = Tiered::new();
    let mut client = client();
    let first = initial(&mut client, OTHER);
    assert_eq!(border.datagram(&first), Reason::QuicCopied);
    assert_eq!(border.datagram(&first), Reason::QuicCopied);
    answered(&mut client, &[0xb2; 8]);
    assert_eq!(border.datagram(&second_flight(&mut client)), Reason::QuicCopied);
    assert_eq!(border.datagram(&client.opaque(2, 80)), Reason::QuicOther);
    assert_eq!(border.datagram(&client.short(80)), Reason::QuicShort);
    assert_eq!(
        (border.found.len(), border.counts.decided.load(Relaxed), border.counts.listed.load(Relaxed)),
        (0, 1, 0)
    );
}

#[test]
fn q1_what_follows_from_a_name_is_decided_for_each_packet() {
    // An order's end holds at once for connections whose name is known, and so does another order.
    let listed = order("o", ["example.com"]).quic(Action::Drop);
    let mut border = Tiered::with([&listed]);
    let first = initial(&mut client(), LISTED);
    border.datagram(&first);
    assert_eq!(border.datagram(&first), Reason::Dropped);
    border.filter.put([&listed.clone().quic(Action::Observe)]);
    assert_eq!(border.datagram(&first), Reason::Observed);
    border.filter.put([&listed.clone().quic(None)]);
    assert_eq!(border.datagram(&first), Reason::QuicCopied);
    border.filter.put([&listed]);
    assert_eq!(border.datagram(&first), Reason::Dropped);
    border.filter.allow([LISTED]);
    assert_eq!(border.datagram(&first), Reason::QuicCopied);
}

#[test]
fn q1_short_headers_are_stopped_once_the_servers_id_is_known() {
    for server in [vec![0xb2; 4], vec![0xb2; 8], (1..=20).collect()] {
        let mut border = Tiered::new();
        let mut client = client();
        let first = datagram_over(Ip::v4(), &initial(&mut client, LISTED));
        answered(&mut client, &server);
        let second = datagram_over(Ip::v4(), &second_flight(&mut client));
        // The verdict comes after the whole handshake.
        assert_eq!([border.kernel(&first), border.kernel(&second)], [Reason::QuicCopied; 2]);
        assert_eq!(border.settle(), 2);
        assert_eq!(border.datagram(&client.short(60)), Reason::Dropped, "{server:02x?}");
        assert_eq!(border.datagram(&client.short(20)), Reason::Dropped);
        // The fixed bit may be clear (RFC 9287), as in half of the packets of quinn and others.
        assert_eq!(border.datagram(&greased(&client)), Reason::Dropped);
        let mut other = client.clone();
        other.dcid[server.len() - 1] ^= 1;
        assert_eq!(border.datagram(&other.short(60)), Reason::QuicShort);
        assert_eq!(border.datagram(&greased(&other)), Reason::QuicNotQuic);
        assert_eq!(border.datagram(&[0; 60]), Reason::QuicNotQuic);
        let hits = border.filter.hits("o");
        assert_eq!((hits.decided, hits.concerned), (3, 3), "{server:02x?}");
    }
}

/// A short header whose fixed bit is clear.
fn greased(client: &Client) -> Vec<u8> {
    let mut packet = client.short(60);
    packet[0] &= !0x40;
    packet
}

#[test]
fn q3_a_hello_over_two_datagrams_in_any_order() {
    let handshake = Hello::post_quantum(LISTED, false).handshake();
    for swapped in [false, true] {
        let mut border = Tiered::new();
        let mut datagrams = client().datagrams(&handshake);
        if swapped {
            datagrams.reverse();
        }
        assert_eq!(border.datagram(&datagrams[0]), Reason::QuicCopied);
        assert_eq!(border.datagram(&datagrams[0]), Reason::QuicCopied);
        assert_eq!(border.datagram(&datagrams[1]), Reason::QuicCopied);
        assert_eq!(border.datagram(&datagrams[1]), Reason::Dropped);
        assert_eq!(border.counts.undecided.load(Relaxed), 2);
    }
}

#[test]
fn q4_coalesced_packets_and_a_token() {
    let mut border = Tiered::new();
    let mut client = client();
    client.token = vec![0x5a; 100];
    let packet = client.initial_packet(&crypto(0, &hello(LISTED)));
    // An Initial speaks for its datagram: whatever ids the packet before it has.
    let mut other = client.clone();
    other.scid = vec![0x66; 8];
    let first = [other.opaque(2, 30), packet.clone(), client.opaque(1, 100)].concat();
    assert_eq!(border.datagram(&first), Reason::QuicCopied);
    assert_eq!(border.datagram(&first), Reason::Dropped);
    assert_eq!(border.datagram(&packet), Reason::Dropped);
    assert_eq!(border.datagram(&other.opaque(2, 30)), Reason::QuicOther);
}

#[test]
fn q4_retry_and_version_2() {
    let mut border = Tiered::new();
    let mut client = client();
    let handshake = Hello::post_quantum(LISTED, false).handshake();
    assert_eq!(border.datagram(&client.initial(&crypto(0, &handshake[..900]))), Reason::QuicCopied);
    answered(&mut client, &[0xc3; 10]);
    client.origin = client.dcid.clone();
    client.token = vec![1; 60];
    let mut client = client.v2();
    for datagram in client.datagrams(&handshake) {
        assert_eq!(border.datagram(&datagram), Reason::QuicCopied);
    }
    assert_eq!(border.datagram(&second_flight(&mut client)), Reason::Dropped);
}

#[test]
fn q5_version_2() {
    let mut border = Tiered::new();
    let first = initial(&mut client().v2(), LISTED);
    assert_eq!([border.datagram(&first), border.datagram(&first)], [Reason::QuicCopied, Reason::Dropped]);
}

#[test]
fn q6_over_the_rate_and_with_a_full_ring_initials_pass_and_are_counted() {
    crate::pin_to_this_cpu();
    let mut border = Tiered::new();
    border.behaviour(&Behaviour { copies_per_second: 3, ..Behaviour::default() });
    let first = datagram_over(Ip::v4(), &initial(&mut client(), LISTED));
    let reasons: Vec<_> = (0..10).map(|_| border.kernel(&first)).collect();
    assert!(reasons[3..].iter().filter(|reason| **reason == Reason::QuicOverBudget).count() >= 6, "{reasons:?}");
    assert_eq!(border.settle(), reasons.iter().filter(|reason| **reason == Reason::QuicCopied).count());

    let mut border = Tiered::new();
    border.behaviour(&Behaviour { copies_per_second: u32::MAX, ..Behaviour::default() });
    let reasons: Vec<_> = (0..1000).map(|_| border.kernel(&first)).collect();
    let copied = reasons.iter().filter(|reason| **reason == Reason::QuicCopied).count();
    assert!((500..1000).contains(&copied), "{copied}");
    assert_eq!(reasons.iter().filter(|reason| **reason == Reason::QuicRingFull).count(), 1000 - copied);
    let settled: usize = std::iter::from_fn(|| Some(border.settle()).filter(|count| *count > 0)).sum();
    assert_eq!(settled, copied);
    assert_eq!(border.datagram(&initial(&mut client(), LISTED)), Reason::Dropped);
}

#[test]
fn q6_junk_is_counted_and_remembered_nowhere() {
    let mut border = Tiered::new();
    let mut datagram = initial(&mut client(), LISTED);
    *datagram.last_mut().unwrap() ^= 1;
    assert_eq!([border.datagram(&datagram), border.datagram(&datagram)], [Reason::QuicCopied; 2]);
    assert_eq!(border.counts.junk.load(Relaxed), 2);
}

#[test]
fn q7_what_is_no_initial() {
    let mut border = Tiered::new();
    let client = client();
    assert_eq!(border.datagram(&[0; 60]), Reason::QuicNotQuic);
    assert_eq!(border.datagram(b"short"), Reason::QuicNotQuic);
    assert_eq!(border.datagram(&client.short(60)), Reason::QuicShort);
    assert_eq!(border.datagram(&client.opaque(2, 60)), Reason::QuicOther);
    let mut other = client.opaque(0, 60);
    other[1..5].copy_from_slice(&0xff00_001d_u32.to_be_bytes());
    assert_eq!(border.datagram(&other), Reason::QuicVersion);
    let mut long = Client::new(&[1; 21], &[]);
    assert_eq!(border.datagram(&initial(&mut long, LISTED)), Reason::QuicConnectionId);
    let mut cut = initial(&mut self::client(), LISTED);
    cut.truncate(1199);
    assert_eq!(border.datagram(&cut), Reason::QuicMalformed);
    assert_eq!(border.settle(), 0);
}

#[test]
fn modes_hold_and_drop() {
    let mut border = Tiered::new().holding();
    for (name, verdict) in [(LISTED, Reason::Dropped), (OTHER, Reason::QuicCleared)] {
        let mut client = client();
        client.scid = name.as_bytes()[4..12].to_vec();
        client.scid[7] = name.len() as u8 ^ name.as_bytes()[12];
        let first = initial(&mut client, name);
        let early = client.opaque(1, 100);
        assert_eq!(border.datagram(&early), Reason::QuicHeld);
        assert_eq!(border.datagram(&first), Reason::QuicHeld);
        assert_eq!(border.datagram(&first), verdict);
        let stopped = name == LISTED;
        assert_eq!(border.datagram(&early), if stopped { Reason::Dropped } else { Reason::QuicOther });
    }
    let mut border = Tiered::new().mode(quic_mode::DROP, quic_mode::DROP);
    let first = initial(&mut client(), OTHER);
    assert_eq!([border.datagram(&first), border.datagram(&first)], [Reason::QuicRefused; 2]);
    assert_eq!(border.datagram(&client().short(60)), Reason::QuicShort);
}

#[test]
fn without_a_tier_the_fallback_holds() {
    let first = datagram_over(Ip::v4(), &initial(&mut client(), LISTED));
    for (mode, fallback, reason) in [
        (quic_mode::PASS, quic_mode::PASS, Reason::QuicNoTier),
        (quic_mode::HOLD, quic_mode::PASS, Reason::QuicNoTier),
        (quic_mode::PASS, quic_mode::DROP, Reason::QuicRefused),
        (quic_mode::HOLD, quic_mode::DROP, Reason::QuicRefused),
    ] {
        let border = Tiered::new().mode(mode, fallback);
        assert_eq!(border.filter.run_in_kernel(&first).reason, reason, "{mode} {fallback}");
    }
    // What is known goes on being enforced.
    let mut border = Tiered::new();
    border.run(&first);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(border.filter.run_in_kernel(&first).reason, Reason::Dropped);
}

#[test]
fn o6_other_connections_of_the_same_client_pass() {
    let mut border = Tiered::new();
    border.datagram(&initial(&mut client(), LISTED));
    // On the same UDP socket, to the same server address: another source id, another name.
    let mut other = Client::new(&[0x11; 8], &[0xb4; 8]);
    assert_eq!(border.datagram(&initial(&mut other, OTHER)), Reason::QuicCopied);
    answered(&mut other, &[0x22; 8]);
    assert_eq!(border.datagram(&second_flight(&mut other)), Reason::QuicCopied);
    assert_eq!(border.datagram(&other.opaque(2, 60)), Reason::QuicOther);
    assert_eq!(border.datagram(&other.short(60)), Reason::QuicShort);
    // The first one stays stopped.
    assert_eq!(border.datagram(&initial(&mut client(), LISTED)), Reason::Dropped);
}

#[test]
fn o6_forged_hellos_bar_no_connection() {
    for mut forged in [client(), browser()] {
        let mut border = Tiered::new();
        let mut victim = Client::new(&[0x11; 8], &[]);
        // A connection in progress: its Initials are long past.
        answered(&mut victim, &[0x22; 8]);
        border.datagram(&initial(&mut forged, LISTED));
        // The forger answers in the server's place, with an id that it makes up, and with an empty one.
        for server in [&[0x33; 8][..], &[]] {
            answered(&mut forged, server);
            border.datagram(&second_flight(&mut forged));
            assert_eq!(border.datagram(&victim.short(60)), Reason::QuicShort);
        }
    }
}

#[test]
fn o6_a_browser_without_a_source_id_on_a_port_that_was_forged_waits_one_retransmission() {
    let mut border = Tiered::new();
    border.datagram(&initial(&mut browser(), LISTED));
    let mut victim = Client::new(&[0x11; 8], &[]);
    let first = initial(&mut victim, OTHER);
    assert_eq!(border.datagram(&first), Reason::QuicHeld);
    assert_eq!(border.datagram(&first), Reason::QuicCopied);
    answered(&mut victim, &[0x22; 8]);
    assert_eq!(border.datagram(&second_flight(&mut victim)), Reason::QuicCopied);
    assert_eq!(border.datagram(&victim.opaque(2, 60)), Reason::QuicOther);
    assert_eq!(border.datagram(&victim.short(60)), Reason::QuicShort);
}

#[test]
fn q1_a_browser_without_a_source_id_is_stopped() {
    let mut border = Tiered::new();
    let mut browser = browser();
    let first = initial(&mut browser, LISTED);
    assert_eq!([border.datagram(&first), border.datagram(&first)], [Reason::QuicCopied, Reason::Dropped]);
    // Its second flight may be another connection's: it is held until the tier knows.
    answered(&mut browser, &[0x44; 8]);
    let second = second_flight(&mut browser);
    assert_eq!([border.datagram(&second), border.datagram(&second)], [Reason::QuicHeld, Reason::Dropped]);
    assert_eq!(border.datagram(&browser.opaque(2, 60)), Reason::Dropped);
    assert_eq!(border.datagram(&browser.short(60)), Reason::Dropped);
}

/// As Chromium does: no second Initial, and the request beside the Handshake packet.
#[test]
fn q1_a_browser_whose_second_flight_has_no_initial_is_stopped() {
    for handshake_came_first in [false, true] {
        let mut border = Tiered::new();
        let mut browser = browser();
        let first = datagram_over(Ip::v4(), &initial(&mut browser, LISTED));
        let mut second = browser.clone();
        answered(&mut second, &[0x44; 8]);
        let second = [second.opaque(2, 60), second.short(40)].concat();
        let second = datagram_over(Ip::v4(), &second);
        answered(&mut browser, &[0x44; 8]);
        assert_eq!(border.kernel(&first), Reason::QuicCopied);
        if handshake_came_first {
            // The verdict comes after the whole handshake.
            assert_eq!(border.kernel(&second), Reason::QuicOther);
            assert_eq!(border.settle(), 2);
        } else {
            assert_eq!(border.settle(), 1);
            assert_eq!(border.run(&second), Reason::QuicHeld);
        }
        assert_eq!(border.run(&second), Reason::Dropped);
        assert_eq!(border.datagram(&browser.short(60)), Reason::Dropped);
        // What was held until the tier knew is not counted: it might have been another connection's.
        let hits = border.filter.hits("o");
        assert_eq!((hits.decided, hits.concerned), (2, 2));
    }
}

#[test]
fn o6_a_browsers_handshake_passes_where_it_may_be_another_connections() {
    for other_came_first in [false, true] {
        let mut border = Tiered::new();
        let mut victim = Client::new(&[0x11; 8], &[]);
        let theirs = initial(&mut victim, OTHER);
        answered(&mut victim, &[0x22; 8]);
        let second = victim.opaque(2, 60);
        if other_came_first {
            assert_eq!(border.datagram(&theirs), Reason::QuicCopied);
            border.datagram(&initial(&mut browser(), LISTED));
            // Of the two, this one may be either.
            assert_eq!(border.datagram(&second), Reason::QuicHeld);
        } else {
            border.datagram(&initial(&mut browser(), LISTED));
            assert_eq!([border.datagram(&theirs), border.datagram(&theirs)], [Reason::QuicHeld, Reason::QuicCopied]);
        }
        assert_eq!(border.datagram(&second), Reason::QuicOther);
        assert_eq!(border.datagram(&victim.short(60)), Reason::QuicShort);
    }
}

/// What is held because it may be of a stopped connection, and is not, is no order's hit.
#[test]
fn o6_what_is_held_of_other_connections_is_not_counted_as_hits() {
    let mut border = Tiered::new();
    border.datagram(&initial(&mut browser(), LISTED));
    assert_eq!(border.datagram(&initial(&mut browser(), LISTED)), Reason::Dropped);
    let mut victim = Client::new(&[0x11; 8], &[]);
    let theirs = initial(&mut victim, OTHER);
    assert_eq!([border.datagram(&theirs), border.datagram(&theirs)], [Reason::QuicHeld, Reason::QuicCopied]);
    answered(&mut victim, &[0x22; 8]);
    assert_eq!(border.datagram(&victim.opaque(2, 60)), Reason::QuicOther);
    let hits = border.filter.hits("o");
    assert_eq!((hits.decided, hits.concerned), (1, 1));
}

/// However many packets of a connection are copied, its name counts once.
#[test]
fn q3_the_tier_counts_connections() {
    let count = |border: &Tiered| {
        let counts = &border.counts;
        [&counts.decided, &counts.listed, &counts.nameless, &counts.undecided, &counts.junk]
            .map(|count| count.load(Relaxed))
    };
    // An order that covers the names, and no QUIC: each Initial is copied.
    let mut border = Tiered::with([&order("o", ["example.com"])]);
    for (nth, name) in (1..).zip([LISTED, "a.example.com"]) {
        let mut client = Client::new(&[nth; 8], &[nth; 8]);
        let datagrams = client.datagrams(&Hello::post_quantum(name, false).handshake());
        for datagram in datagrams.iter().chain(&datagrams) {
            assert_eq!(border.datagram(datagram), Reason::QuicCopied);
        }
        answered(&mut client, &[0xb2; 8]);
        border.datagram(&second_flight(&mut client));
        let nth = u64::from(nth);
        assert_eq!(count(&border), [nth, nth, 0, nth, 0]);
    }
    let anonymous = Client::new(&[9; 8], &[9; 8]).initial(&crypto(0, &Hello::anonymous().handshake()));
    border.datagram(&anonymous);
    border.datagram(&anonymous);
    assert_eq!(count(&border), [2, 2, 1, 2, 0]);
}

#[test]
fn o6_a_browsers_initial_that_no_one_read_is_not_taken_for_a_forged_one() {
    let mut border = Tiered::new();
    border.datagram(&initial(&mut browser(), LISTED));
    let mut victim = Client::new(&[0x11; 8], &[]);
    border.behaviour(&Behaviour { copies_per_second: 0, ..Behaviour::default() });
    assert_eq!(border.datagram(&initial(&mut victim, OTHER)), Reason::QuicOverBudget);
    border.behaviour(&Behaviour::default());
    answered(&mut victim, &[0x22; 8]);
    assert_eq!(border.datagram(&victim.opaque(2, 60)), Reason::QuicOther);
    assert_eq!(border.datagram(&victim.short(60)), Reason::QuicShort);
}

#[test]
fn hold_lets_a_listed_name_pass_where_it_is_not_stopped() {
    // The name is known, and no order stops it for this client, in this protocol, or at all.
    let observing = order("o", ["example.com"]).quic(Action::Observe);
    let elsewhere = order("o", ["example.com"]).quic(Action::Drop).scopes(["far"]);
    for (listed, verdict) in [
        (&order("o", ["example.com"]), Reason::QuicCleared),
        (&observing, Reason::Observed),
        (&elsewhere, Reason::QuicCleared),
    ] {
        for mut client in [client(), browser()] {
            let far = vec![("far", vec!["203.0.113.7/32".parse().unwrap()])];
            let mut border = Tiered::over(Filter::with(Setup { scopes: far, ..Setup::default() }, [listed])).holding();
            let first = initial(&mut client, LISTED);
            let early = client.opaque(1, 100);
            assert_eq!([border.datagram(&early), border.datagram(&first)], [Reason::QuicHeld; 2]);
            assert_eq!(border.datagram(&first), verdict);
            let observed = verdict == Reason::Observed;
            assert_eq!(border.datagram(&early), if observed { Reason::Observed } else { Reason::QuicOther });
            answered(&mut client, &[0xb2; 8]);
            // Without a source id it may be another connection's.
            let last = if observed && !client.scid.is_empty() { Reason::Observed } else { Reason::QuicOther };
            assert_eq!(border.datagram(&client.opaque(2, 60)), last);
        }
    }
}

#[test]
fn o6_other_ports_addresses_and_tcp_pass() {
    let mut border = Tiered::new();
    let first = initial(&mut client(), LISTED);
    border.datagram(&first);
    let mut packet = Packet::new(Ip::v4(), Transport::udp(443), first.clone());
    packet.transport.set_source(40_001);
    assert_eq!(border.kernel(&packet.build()), Reason::QuicCopied);
    assert_eq!(border.kernel(&datagram_over(Ip::v6(), &first)), Reason::QuicCopied);
    let tls = Packet::tls(Ip::v4(), &Hello::new(OTHER)).build();
    assert_eq!(border.run(&tls), Reason::NotListed);
    assert_eq!(border.run(&Packet::new(Ip::v4(), Transport::udp(8443), first).build()), Reason::NotWatched);
}

#[test]
fn o5_an_order_for_another_protocol_or_client_stops_no_quic() {
    let mut border = Tiered::with([&order("tls", ["example.com"])]);
    let first = initial(&mut client(), LISTED);
    // The name is remembered, for an order names it, and the kernel decides.
    assert_eq!([border.datagram(&first), border.datagram(&first)], [Reason::QuicCopied; 2]);
    assert_eq!(border.found.len(), 2);
    assert_eq!(border.filter.hits("tls").concerned, 0);
}
