//! What must never be stopped.

use cordon_tests::{
    cases,
    harness::{Filter, Setup, xdp},
    order::order,
    packet::{Edns, Hello, Ip, Packet, Query, Transport, extension, name_wire, server_name, server_name_list},
};
use filter_common::{
    name::{Hasher, SuffixHash as _, lower8},
    verdict::{Action, Reason},
};
use filter_user::{kernel::Capacity, name::hash_label, order::Match};

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

/// By DNS and TLS, IPv4 and IPv6.
#[track_caller]
fn expect(filter: &Filter, name: &str, dns: Reason, tls: Reason) {
    for ip in Ip::both() {
        filter.expect(&Packet::dns(ip.clone(), &Query::new(name)), dns);
        filter.expect(&Packet::tls(ip, &Hello::new(name)), tls);
    }
}

#[track_caller]
fn not_listed(filter: &Filter, names: &[&str]) {
    for name in names {
        expect(filter, name, Reason::NotListed, Reason::NotListed);
    }
}

#[track_caller]
fn stopped(filter: &Filter, names: &[&str]) {
    for name in names {
        expect(filter, name, Reason::AnsweredNodata, Reason::Reset);
    }
}

const LOOK_ALIKES: [&str; 12] = [
    "notexample.com",
    "example.com.evil.net",
    "exampl",
    "example.co",
    "xample.com",
    "example.comm",
    "example.net",
    "com",
    "com.example",
    "example-com.net",
    "www-example.com",
    "examplecom",
];

#[test]
fn o01_exact_rule() {
    let filter = Filter::new([&order("o", ["example.com"]).exact().dns(Action::Nodata)]);
    stopped(&filter, &["example.com", "EXAMPLE.COM"]);
    not_listed(&filter, &LOOK_ALIKES);
    not_listed(&filter, &[NAME, "a.b.example.com", "example.example.com", "sibling.com"]);
}

#[test]
fn o01_subtree_rule() {
    let filter = Filter::new([&order("o", ["example.com"]).dns(Action::Nodata)]);
    stopped(&filter, &["example.com", NAME, "a.b.c.d.e.f.g.h.i.j.k.example.com", "example.com.example.com"]);
    not_listed(&filter, &LOOK_ALIKES);
    not_listed(&filter, &["a.notexample.com", "example.com.net", "www.example.com.net", "www.example.co"]);
}

#[test]
fn o01_below_rule() {
    let filter = Filter::new([&order("o", ["example.com"]).reach(Match::Below).dns(Action::Nodata)]);
    stopped(&filter, &[NAME, "a.b.example.com"]);
    not_listed(&filter, &["example.com", "EXAMPLE.com"]);
    not_listed(&filter, &LOOK_ALIKES);
}

#[test]
fn o01_a_deeper_exact_rule_hides_nothing_around_it() {
    // A node for a.b.example.com exists; its children and b.example.com are not covered by anything.
    let filter = Filter::new([&order("o", ["a.b.example.com"]).exact().dns(Action::Nodata)]);
    stopped(&filter, &["a.b.example.com"]);
    not_listed(&filter, &["b.example.com", "example.com", "c.b.example.com", "x.a.b.example.com", "b.a.example.com"]);
}

#[test]
fn o02_names_that_share_their_first_or_last_63_octets() {
    let label = "l".repeat(63);
    let first = format!("{label}.one.example");
    let second = format!("{label}.two.example");
    let filter = Filter::new([&order("o", [first.as_str(), &format!("a.{label}")]).exact().dns(Action::Nodata)]);
    stopped(&filter, &[&first, &format!("a.{label}")]);
    not_listed(&filter, &[&second, &format!("b.{label}"), &format!("{}m.one.example", &label[..62]), &label]);
    // Long names that differ in one octet, anywhere.
    let long = vec!["abcdefghij"; 22].join(".");
    let filter = Filter::new([&order("o", [long.as_str()]).exact().dns(Action::Nodata)]);
    stopped(&filter, &[&long]);
    for at in (0..long.len()).filter(|at| long.as_bytes()[*at] != b'.') {
        let mut other = long.clone();
        other.replace_range(at..at + 1, "z");
        filter.expect(&Packet::dns(Ip::v4(), &Query::new(&other)), Reason::NotListed);
        filter.expect(&Packet::tls(Ip::v4(), &Hello::new(&other)), Reason::NotListed);
    }
}

#[test]
fn o02_the_hash_has_a_key_of_its_own() {
    // Equal names have other keys on another installation, so no collision can be prepared.
    let [one, other] = [filter(), filter()].map(|filter| {
        let mut hasher = Hasher::ROOT;
        for label in ["com", "example"] {
            hash_label(&mut hasher, &filter.image().key, label.as_bytes());
        }
        hasher.suffix(&filter.image().key)
    });
    assert_ne!(one, other);
    assert!(one.lanes.iter().zip(other.lanes).all(|(one, other)| *one != other), "{one:?} {other:?}");
    assert_eq!(lower8(u64::from_be_bytes(*b"EXAMPLE.")), u64::from_be_bytes(*b"example."));
}

/// O3: of many names that are not listed none is stopped, and of as many that are, each is. A million of each with
/// CORDON_TEST_FULL=1.
#[test]
fn o03_listed_and_unlisted_names() {
    let count = u64::from(cases(50_000));
    // Every second pair lies below one anchor, whose line in the filter is crowded.
    let below = |n: u64| ["example", "co.example"][(n / 2 % 2) as usize];
    let listed: Vec<String> = (0..count).map(|n| format!("{}.{}", word(2 * n), below(n))).collect();
    let setup =
        Setup { capacity: Capacity { names: 2 * count as u32, ..Setup::default().capacity }, ..Setup::default() };
    let order = order("o", listed.iter().map(String::as_str)).exact().both(Action::Drop);
    let filter = Filter::with(setup, [&order]);
    let before = filter.counters();
    for (n, name) in listed.iter().enumerate() {
        let unlisted = format!("{}.{}", word(2 * n as u64 + 1), below(n as u64));
        let frames = if n % 2 == 0 {
            [name, &unlisted].map(|name| Packet::dns(Ip::v4(), &Query::new(name)))
        } else {
            [name, &unlisted].map(|name| Packet::tls(Ip::v6(), &Hello::new(name)))
        };
        for (packet, action) in frames.into_iter().zip([xdp::DROP, xdp::PASS]) {
            let run = filter.kernel().run(&packet.build(), 1).expect("the kernel takes the frame");
            assert_eq!(run.xdp_action, action, "{name}, {unlisted}");
        }
    }
    for ((reason, before), (_, after)) in before.iter().zip(filter.counters()) {
        let moved = after.packets - before.packets;
        let expected = if matches!(reason, Reason::Dropped | Reason::NotListed) { count } else { 0 };
        assert_eq!(moved, expected, "{reason:?}");
    }
}

/// A distinct word for each number.
fn word(number: u64) -> String {
    // An odd multiplier makes it one to one.
    let mut rest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut word = String::new();
    for _ in 0..13 {
        word.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(rest & 31) as usize]));
        rest >>= 5;
    }
    word
}

#[test]
fn o04_dns_responses() {
    let filter = filter();
    for ip in Ip::both() {
        let response = Query::new(NAME).flags(0x8180).build();
        // To the client, and to a port that is read.
        let mut back = Packet::new(ip.clone(), Transport::udp(40_000), response.clone());
        back.transport.set_source(53);
        filter.expect(&back, Reason::NotWatched);
        filter.expect(&Packet::new(ip, Transport::udp(53), response), Reason::DnsNotQuery);
    }
}

#[test]
fn o04_name_elsewhere_in_a_query() {
    let filter = filter();
    let other = Query::new("other.net");
    let record = [name_wire(NAME), vec![0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat();
    let queries = [
        other.clone().record(record.clone()),
        other.clone().edns(&Edns::new(1232).option(65001, &name_wire(NAME))),
        other.clone().trailing(&Query::new(NAME).question()),
        other.record(record).edns(&Edns::new(1232)),
    ];
    for query in queries {
        filter.expect(&Packet::dns(Ip::v4(), &query), Reason::NotListed);
    }
}

#[test]
fn o04_multicast_dns() {
    let filter = filter();
    // mDNS and LLMNR use ports of their own, and groups.
    let groups = [("224.0.0.251", 5353), ("224.0.0.252", 5355), ("ff02::fb", 5353), ("ff02::1:3", 5355)];
    for (group, port) in groups {
        let group: std::net::IpAddr = group.parse().expect("an address");
        let mut ip = if group.is_ipv4() { Ip::v4() } else { Ip::v6() };
        ip.set_destination(group);
        let mut packet = Packet::dns(ip, &Query::new(NAME)).port(port);
        packet.destination = [0x01, 0, 0x5e, 0, 0, 0xfb];
        filter.expect(&packet, Reason::NotWatched);
        packet.transport.set_source(port);
        filter.expect(&packet, Reason::NotWatched);
    }
}

#[test]
fn o04_icmp_errors_that_quote() {
    let filter = filter();
    for ip in Ip::both() {
        for quoted in [Packet::dns(ip.clone(), &Query::new(NAME)), Packet::tls(ip.clone(), &Hello::new(NAME))] {
            let (protocol, head) = if ip.is_v4() { (1, [3, 3, 0, 0]) } else { (58, [1, 4, 0, 0]) };
            let message = [&head[..], &[0; 4], &quoted.build()[14..]].concat();
            filter.expect(&Packet::new(ip.clone(), Transport::Raw(protocol), message), Reason::NotWatched);
        }
    }
}

#[test]
fn o04_other_octets_on_the_tls_port() {
    let filter = filter();
    let hello = Hello::new(NAME).build();
    let with = |at: usize, octet: u8| {
        let mut octets = hello.clone();
        octets[at] = octet;
        octets
    };
    let payloads = [
        // HTTP, and a hello in its body.
        [&b"POST / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"[..], &hello].concat(),
        b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n".to_vec(),
        // Application data, alert, change cipher spec; other handshake messages.
        with(0, 23),
        with(0, 21),
        with(0, 20),
        with(0, 24),
        with(5, 2),
        with(5, 0),
        with(5, 16),
        // Not at the start of the segment.
        [&[0][..], &hello].concat(),
        hello[1..].to_vec(),
        hello[5..].to_vec(),
        // Change cipher spec alone, before something else, and of a length that it does not have.
        vec![20, 3, 3, 0, 1, 1],
        [&[20, 3, 3, 0, 1, 1][..], &with(0, 23)].concat(),
        [&[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 1, 1][..], &hello].concat(),
        [&[20, 3, 3, 0, 200, 1][..], &hello].concat(),
        [&[20, 3, 3, 0, 1, 2][..], &hello].concat(),
        [&[20, 3, 3, 0, 2, 1][..], &hello].concat(),
        b"\x16".repeat(100),
    ];
    for payload in payloads {
        for ip in Ip::both() {
            filter.expect(&Packet::new(ip, Transport::tcp(443), payload.clone()), Reason::TlsNotHello);
        }
    }
}

#[test]
fn o04_name_in_another_extension() {
    let filter = filter();
    let (_, data) = server_name(NAME);
    let inner = extension(0, &data);
    let others: [(u16, Vec<u8>); 5] =
        [(1, data.clone()), (16, data.clone()), (0xfe0d, inner.clone()), (0xff00, data), (21, inner)];
    for other in others {
        let alone = Hello::with_extensions([other.clone()]);
        filter.expect(&Packet::tls(Ip::v4(), &alone), Reason::TlsNoSni);
        for pair in [[other.clone(), server_name("other.net")], [server_name("other.net"), other]] {
            filter.expect(&Packet::tls(Ip::v6(), &Hello::with_extensions(pair)), Reason::NotListed);
        }
    }
    // In the session id.
    let hello = Hello { session_id: b"www.example.com".to_vec(), ..Hello::new("other.net") };
    filter.expect(&Packet::tls(Ip::v4(), &hello), Reason::NotListed);
    // Behind the name, in the same extension.
    let list = server_name_list(&[(0, b"other.net"), (0, NAME.as_bytes())]);
    filter.expect(&Packet::tls(Ip::v4(), &Hello::with_extensions([list])), Reason::TlsSniInvalid);
}

#[test]
fn o04_the_other_transport() {
    let filter = filter();
    for ip in Ip::both() {
        // A hello over UDP, a query over TCP, either on its own port and on the other's.
        for port in [443, 53] {
            let packet = Packet::new(ip.clone(), Transport::udp(port), Hello::new(NAME).build());
            let reason = filter.run(&packet.build()).reason;
            assert!(
                matches!(reason, Reason::QuicNotQuic | Reason::DnsNotQuery | Reason::DnsQuestionCount),
                "{reason:?}"
            );
            let packet = Packet::new(ip.clone(), Transport::tcp(port), Query::new(NAME).build());
            let reason = filter.run(&packet.build()).reason;
            let unread = [Reason::NotWatched, Reason::TlsNotHello, Reason::DnsMalformed, Reason::DnsIncomplete];
            assert!(unread.contains(&reason), "{reason:?}");
        }
    }
}

#[test]
fn o06_other_connections_of_the_client() {
    let filter = filter();
    for ip in Ip::both() {
        let listed = Packet::tls(ip.clone(), &Hello::new(NAME));
        filter.expect(&listed, Reason::Reset);
        // The same addresses and ports: another name, data, an empty segment; then the listed name once more.
        filter.expect(&Packet::tls(ip.clone(), &Hello::new("other.net")), Reason::NotListed);
        filter.expect(&Packet { payload: vec![23, 3, 3, 0, 9], ..listed.clone() }, Reason::TlsNotHello);
        filter.expect(&Packet { payload: Vec::new(), ..listed.clone() }, Reason::NoPayload);
        filter.expect(&listed, Reason::Reset);
        filter.expect(&Packet::dns(ip.clone(), &Query::new(NAME)), Reason::AnsweredNxdomain);
        filter.expect(&Packet::dns(ip, &Query::new("other.net")), Reason::NotListed);
    }
}

#[test]
fn o06_hellos_from_every_source_port_bar_nothing() {
    let filter = filter();
    let mut forged = Packet::tls(Ip::v4(), &Hello::new(NAME));
    let mut honest = Packet::tls(Ip::v4(), &Hello::new("other.net"));
    for port in (0..=u16::MAX).step_by(61) {
        forged.transport.set_source(port);
        filter.expect(&forged, Reason::Reset);
    }
    for port in (0..=u16::MAX).step_by(61) {
        honest.transport.set_source(port);
        filter.expect(&honest, Reason::NotListed);
    }
}
