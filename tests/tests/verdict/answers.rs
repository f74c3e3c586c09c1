//! What DNS answers say, how large they get, and how often they are given.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use cordon_tests::{
    harness::{Filter, Setup},
    order::{TestOrder, order},
    packet::{
        Edns, Hello, Ip, Packet, Query,
        answer::{Answer, Authority, Options},
        kind,
    },
};
use filter_common::verdict::{Action, Reason};
use filter_user::order::Match;
use jiff::{SignedDuration, Timestamp};

use crate::pin_to_this_cpu;

const NAME: &str = "www.example.com";
const A: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const AAAA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x80);
const TEXT: &str = "TJ Paris 28 mars 2025, n° 25/51926";

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

fn example() -> TestOrder {
    order("o", ["example.com"]).ede(16, TEXT).address(Some(A), Some(AAAA))
}

fn ask(filter: &Filter, query: &Query, reason: Reason) -> Answer {
    let [v4, v6] = Ip::both().map(|ip| filter.expect_answer(&Packet::dns(ip, query), reason));
    assert_eq!(v4, v6);
    v4
}

/// An SOA of the longest time.
fn soa(owner: &str) -> Option<Authority> {
    Some(Authority { owner: owner.to_owned(), ttl: 60, minimum: 60 })
}

fn options(code: u16, text: &str) -> Options {
    Options { size: 1232, ede: Some((code, text.to_owned())), ..Options::default() }
}

#[test]
fn nxdomain_of_a_subtree_rule() {
    let filter = Filter::new([&example()]);
    let expected = Answer {
        id: 0x1dea,
        rcode: NXDOMAIN,
        flags: "qr rd ra".to_owned(),
        name: NAME.to_owned(),
        qtype: kind::A,
        addresses: Vec::new(),
        soa: soa("example.com"),
        opt: None,
        size: 12 + 17 + 4 + 34,
    };
    assert_eq!(ask(&filter, &Query::new(NAME), Reason::AnsweredNxdomain), expected);
    let expected = Answer { opt: Some(options(16, TEXT)), size: expected.size + 11 + 6 + TEXT.len(), ..expected };
    assert_eq!(ask(&filter, &Query::new(NAME).edns(&Edns::new(4096)), Reason::AnsweredNxdomain), expected);
}

#[test]
fn soa_is_owned_by_the_listed_name() {
    let filter = Filter::new([&order("o", ["example.com", "net", "a.b.c.d.org"])]);
    for (name, owner) in [
        ("example.com", "example.com"),
        ("a.b.c.example.com", "example.com"),
        ("A.eXample.COM", "eXample.COM"),
        ("net", "net"),
        ("x.net", "net"),
        ("z.a.b.c.d.org", "a.b.c.d.org"),
    ] {
        assert_eq!(ask(&filter, &Query::new(name), Reason::AnsweredNxdomain).soa, soa(owner), "{name}");
    }
}

#[test]
fn nxdomain_goes_out_as_nodata_where_something_below_is_not_covered() {
    // RFC 8020: a resolver would take NXDOMAIN for everything below.
    let exact = order("e", ["exact.example"]).exact();
    let insists = order("i", ["insists.example"]).exact().insist_nxdomain();
    let below = order("b", ["below.example"]).reach(Match::Below);
    let hole = order("h", ["hole.example"]).except(["a.b.hole.example"]);
    let filter = Filter::new([&exact, &insists, &below, &hole]);
    let check = |name, rcode, reason, owner| {
        let answer = ask(&filter, &Query::new(name), reason);
        assert_eq!((answer.rcode, answer.soa), (rcode, soa(owner)), "{name}");
    };
    check("exact.example", NOERROR, Reason::AnsweredNodata, "exact.example");
    check("insists.example", NXDOMAIN, Reason::AnsweredNxdomain, "insists.example");
    check("a.below.example", NXDOMAIN, Reason::AnsweredNxdomain, "below.example");
    check("hole.example", NOERROR, Reason::AnsweredNodata, "hole.example");
    check("b.hole.example", NOERROR, Reason::AnsweredNodata, "hole.example");
    check("c.hole.example", NXDOMAIN, Reason::AnsweredNxdomain, "hole.example");
}

#[test]
fn nodata_and_refused() {
    let filter = Filter::new([&example().dns(Action::Nodata)]);
    for qtype in [kind::A, kind::AAAA, kind::HTTPS, kind::ANY] {
        let answer = ask(&filter, &Query::new(NAME).qtype(qtype).edns(&Edns::new(1232)), Reason::AnsweredNodata);
        assert_eq!((answer.rcode, answer.qtype), (NOERROR, qtype));
        assert_eq!((answer.soa, answer.opt), (soa("example.com"), Some(options(16, TEXT))));
        assert_eq!(answer.addresses, []);
    }
    for action in [Action::Refused, Action::Reset] {
        let filter = Filter::new([&example().dns(action)]);
        let answer = ask(&filter, &Query::new(NAME).edns(&Edns::new(1232)), Reason::AnsweredRefused);
        assert_eq!((answer.rcode, answer.soa, answer.opt), (REFUSED, None, Some(options(16, TEXT))));
        assert_eq!(answer.addresses, []);
    }
}

#[test]
fn addresses_by_type() {
    let filter = Filter::new([&example().dns(Action::Address)]);
    let record = |address: IpAddr| vec![(NAME.to_owned(), 60, address)];
    for (qtype, addresses) in
        [(kind::A, record(A.into())), (kind::AAAA, record(AAAA.into())), (kind::ANY, record(A.into()))]
    {
        let answer = ask(&filter, &Query::new(NAME).qtype(qtype).edns(&Edns::new(1232)), Reason::AnsweredAddress);
        assert_eq!((answer.rcode, answer.addresses, answer.soa), (NOERROR, addresses, None));
        // Whatever the order's code: 4, Forged Answer.
        assert_eq!(answer.opt, Some(options(4, TEXT)));
    }
    for qtype in [kind::HTTPS, kind::MX, kind::TXT, kind::SVCB] {
        let answer = ask(&filter, &Query::new(NAME).qtype(qtype).edns(&Edns::new(1232)), Reason::AnsweredNodata);
        assert_eq!((answer.rcode, answer.soa, answer.opt), (NOERROR, soa("example.com"), Some(options(4, TEXT))));
    }
}

#[test]
fn addresses_of_one_family_only() {
    let v4 = Filter::new([&example().dns(Action::Address).address(Some(A), None)]);
    let v6 = Filter::new([&example().dns(Action::Address).address(None, Some(AAAA))]);
    for (filter, qtype, address) in [
        (&v4, kind::A, Some(IpAddr::from(A))),
        (&v4, kind::AAAA, None),
        (&v6, kind::A, None),
        (&v6, kind::AAAA, Some(IpAddr::from(AAAA))),
        (&v6, kind::ANY, Some(IpAddr::from(AAAA))),
    ] {
        let reason = if address.is_some() { Reason::AnsweredAddress } else { Reason::AnsweredNodata };
        let answer = ask(filter, &Query::new(NAME).qtype(qtype), reason);
        assert_eq!(answer.addresses.iter().map(|(_, _, address)| *address).next(), address);
        assert_eq!(answer.soa.is_some(), address.is_none());
    }
}

#[test]
fn flags_of_stub_and_resolver() {
    let filter = Filter::new([&example()]);
    for (flags, expected) in [
        (0x0100, "qr rd ra"),
        (0x0000, "qr aa"),
        (0x0110, "qr rd ra cd"),
        (0x0010, "qr aa cd"),
        // AD, Z, TC, RA and RCODE of the query are not copied.
        (0x0120, "qr rd ra"),
        (0x0020, "qr aa"),
        (0x07ef, "qr rd ra"),
        (0x02ef, "qr aa"),
    ] {
        let answer = ask(&filter, &Query::new(NAME).flags(flags), Reason::AnsweredNxdomain);
        assert_eq!((answer.flags.as_str(), answer.rcode), (expected, NXDOMAIN), "{flags:#06x}");
    }
}

#[test]
fn ede_codes_and_texts() {
    let full = "x".repeat(64);
    // An order without a public reference is told by its id.
    for (code, reference, text) in [(15, "a", "a"), (16, "", "o"), (17, &full, &full), (16, TEXT, TEXT)] {
        let filter = Filter::new([&example().ede(code, reference)]);
        let answer = ask(&filter, &Query::new(NAME).edns(&Edns::new(1232).padding(30)), Reason::AnsweredNxdomain);
        assert_eq!(answer.opt, Some(options(code, text)));
    }
}

#[test]
fn dnssec_ok_and_cookies() {
    let filter = Filter::new([&example()]);
    let answer = ask(&filter, &Query::new(NAME).edns(&Edns::new(1232).dnssec_ok()), Reason::AnsweredNxdomain);
    assert_eq!(answer.opt, Some(Options { dnssec_ok: true, ..options(16, TEXT) }));
    // Without a server part there is nothing that we could have given; with one, all of it goes back.
    for server in [0, 8, 16, 24, 32] {
        let cookie = (server > 0).then(|| (0xc0..=0xff).take(8 + server).collect());
        for edns in
            [Edns::new(1232).cookie(server).padding(9), Edns::new(1232).client_subnet().padding(9).cookie(server)]
        {
            let answer = ask(&filter, &Query::new(NAME).edns(&edns), Reason::AnsweredNxdomain);
            assert_eq!(answer.opt, Some(Options { cookie: cookie.clone(), ..options(16, TEXT) }));
        }
    }
    // Cookies of lengths that RFC 7873 does not know.
    for server in [1, 7, 33] {
        let answer = ask(&filter, &Query::new(NAME).edns(&Edns::new(1232).cookie(server)), Reason::AnsweredNxdomain);
        assert_eq!(answer.opt, Some(options(16, TEXT)));
    }
}

#[test]
fn ttl_is_what_the_order_has_left_at_most_a_minute() {
    for seconds in [3600, 70, 40, 20] {
        let end = Timestamp::now() + SignedDuration::from_secs(seconds);
        let left = || end.duration_since(Timestamp::now()).as_secs().clamp(0, 60) as u32;
        let names = order("n", ["n.example"]).until(end);
        let addresses = order("a", ["a.example"]).dns(Action::Address).address(Some(A), None).until(end);
        let filter = Filter::new([&names, &addresses]);
        let before = left();
        let soa = ask(&filter, &Query::new("n.example"), Reason::AnsweredNxdomain).soa.expect("an SOA");
        let address = ask(&filter, &Query::new("a.example"), Reason::AnsweredAddress);
        let ttls = [soa.ttl, soa.minimum, address.addresses[0].1];
        let range = left()..=before;
        assert!(ttls.iter().all(|ttl| range.contains(ttl)), "{ttls:?} of {range:?}");
    }
}

#[test]
fn d09_never_longer_than_three_queries_nor_than_the_client_takes() {
    let text = "t".repeat(64);
    for action in [Action::Nxdomain, Action::Nodata, Action::Refused, Action::Address] {
        let filter = Filter::new([&order("o", ["x"]).dns(action).ede(16, &text).address(Some(A), Some(AAAA))]);
        for octets in (0..=63).chain([100, 150, 200, 250]) {
            let mut labels = Vec::new();
            let mut left = octets;
            while left > 0 {
                let label = left.min(50);
                labels.push(vec![b'a'; label]);
                left -= label;
            }
            labels.push(b"x".to_vec());
            let query = Query::labels(labels).qtype(kind::AAAA);
            if query.question().len() > 259 {
                continue;
            }
            let edns = [None, Some(Edns::new(0)), Some(Edns::new(512)), Some(Edns::new(65535).cookie(32).padding(0))];
            for edns in edns {
                let query = edns.iter().fold(query.clone(), |query, edns| query.edns(edns));
                let taken = edns.map_or(512, |edns| usize::from(edns.size.max(512)));
                check_size(&filter, &query, taken, text.len());
                check_size(&filter, &query.trailing(&[0; 300]), taken, text.len());
            }
        }
    }
}

/// The answer keeps both limits; of the EDE text, EDE and SOA nothing is left out that would have fitted.
fn check_size(filter: &Filter, query: &Query, taken: usize, text: usize) {
    let packet = Packet::dns(Ip::v6(), query);
    let run = filter.run(&packet.build());
    let back = cordon_tests::packet::received::Received::parse(&run.frame).expect("a well-formed frame");
    let answer = Answer::parse(back.message().expect("a datagram")).expect("a well-formed answer");
    let limit = taken.min(3 * packet.payload.len());
    assert!(answer.size <= limit, "{} octets over {limit}", answer.size);
    let ede = answer.opt.as_ref().and_then(|opt| opt.ede.clone());
    match (&answer.opt, ede) {
        (Some(_), Some((_, said))) if said.is_empty() => assert!(answer.size + text > limit),
        (Some(_), Some((_, said))) => assert_eq!(said.len(), text),
        (Some(_), None) => assert!(answer.size + 6 > limit),
        (None, _) => assert!(query.records.is_empty()),
    }
    let negative = matches!(run.reason, Reason::AnsweredNxdomain | Reason::AnsweredNodata);
    assert_eq!(answer.soa.is_some(), negative);
}

#[test]
fn d09_checksums_over_names_of_every_length() {
    let filter = Filter::new([&order("o", ["x"]).ede(16, "odd")]);
    for octets in 1..=63 {
        for edns in [None, Some(Edns::new(1232)), Some(Edns::new(1232).cookie(9))] {
            let query = Query::labels([vec![b'q'; octets], b"x".to_vec()]);
            let query = edns.iter().fold(query, |query, edns| query.edns(edns));
            // `expect_answer` verifies them.
            assert_eq!(ask(&filter, &query, Reason::AnsweredNxdomain).rcode, NXDOMAIN);
        }
    }
}

#[test]
fn d09_a_checksum_of_zero_is_sent_as_ones() {
    let filter = Filter::new([&example()]);
    for ip in Ip::both() {
        let mut query = Query { id: 0, ..Query::new(NAME) };
        let at = Packet::dns(ip.clone(), &query).positions().l4 + 6;
        let checksum = |query: &Query| {
            let frame = filter.expect(&Packet::dns(ip.clone(), query), Reason::AnsweredNxdomain).frame;
            u16::from_be_bytes([frame[at], frame[at + 1]])
        };
        // With this ID the sum comes to all ones.
        query.id = checksum(&query);
        assert_eq!(checksum(&query), 0xffff);
    }
}

#[test]
fn d09_answers_and_resets_have_a_rate_each() {
    pin_to_this_cpu();
    let setup = Setup { answers_per_second: 3, ..Setup::default() };
    let drops = order("d", ["drop.example"]).both(Action::Drop);
    let filter = Filter::with(setup, [&example(), &drops]);
    let query = Packet::dns(Ip::v4(), &Query::new(NAME)).build();
    let hello = Packet::tls(Ip::v6(), &Hello::new(NAME)).build();
    // As long as the machine is quick enough for nothing to come in meanwhile.
    let reasons = (0..50)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(1100));
            let start = Instant::now();
            let frames = [&query, &query, &query, &query, &hello, &hello, &hello, &hello];
            let reasons = frames.map(|frame| filter.run_in_kernel(frame).reason);
            (start.elapsed() < Duration::from_millis(300)).then_some(reasons)
        })
        .expect("eight packets within 300 milliseconds");
    let each = |answered| [answered, answered, answered, Reason::DroppedRate];
    let expected = [each(Reason::AnsweredNxdomain), each(Reason::Reset)].concat();
    assert_eq!(reasons.to_vec(), expected);
    // What needs no answer is not concerned.
    filter.expect(&Packet::dns(Ip::v4(), &Query::new("drop.example")), Reason::Dropped);
    filter.expect(&Packet::dns(Ip::v4(), &Query::new("other.net")), Reason::NotListed);
    // A third of a second is one token.
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(filter.run_in_kernel(&query).reason, Reason::AnsweredNxdomain);
}

#[test]
fn d09_without_a_rate_nothing_is_answered() {
    let filter = Filter::with(Setup { answers_per_second: 0, ..Setup::default() }, [&example()]);
    for packet in [Packet::dns(Ip::v4(), &Query::new(NAME)), Packet::tls(Ip::v4(), &Hello::new(NAME))] {
        let frame = packet.build();
        let run = filter.run_in_kernel(&frame);
        assert_eq!((run.reason, run.frame), (Reason::DroppedRate, frame));
    }
}
