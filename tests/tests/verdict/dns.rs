//! DNS queries that are stopped, and those that are not ones.

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Edns, Hello, Ip, Packet, Query, Transport, kind, name_wire},
};
use filter_common::verdict::{Action, Reason};
use filter_user::kernel::TlsPorts;

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

/// Every query comes to this reason, over IPv4 and IPv6.
#[track_caller]
fn expect(filter: &Filter, queries: impl IntoIterator<Item = Query>, reason: Reason) {
    for query in queries {
        for ip in Ip::both() {
            filter.expect(&Packet::dns(ip, &query), reason);
        }
    }
}

#[track_caller]
fn stopped(filter: &Filter, queries: impl IntoIterator<Item = Query>) {
    expect(filter, queries, Reason::AnsweredNxdomain);
}

fn label(octets: &[u8]) -> Vec<u8> {
    octets.to_vec()
}

#[test]
fn d01_mixed_case() {
    let filter = filter();
    for name in ["WWW.EXAMPLE.COM", "wWw.ExAmPlE.cOm", "eXaMPLE.COM", "www.example.com"] {
        for ip in Ip::both() {
            let answer = filter.expect_answer(&Packet::dns(ip, &Query::new(name)), Reason::AnsweredNxdomain);
            // The resolver compares the question with the one it sent, case and all.
            assert_eq!(answer.name, name);
        }
    }
}

#[test]
fn d02_one_to_127_labels() {
    let filter = Filter::new([&order("o", ["x"])]);
    for labels in 1..=127 {
        let name = [vec!["a"; labels - 1], vec!["x"]].concat().join(".");
        stopped(&filter, [Query::new(&name)]);
        stopped(&filter, [Query::new(&name).edns(&Edns::new(1232))]);
    }
}

#[test]
fn d02_a_rule_of_every_depth() {
    let mut filter = filter();
    for depth in 1..=127 {
        let name = vec!["b"; depth].join(".");
        filter.put([&order("o", [name.as_str()]).exact().dns(Action::Drop)]);
        expect(&filter, [Query::new(&name)], Reason::Dropped);
        if depth > 1 {
            expect(&filter, [Query::new(&name[2..])], Reason::NotListed);
        }
        if depth < 127 {
            expect(&filter, [Query::new(&format!("b.{name}"))], Reason::NotListed);
        }
    }
}

#[test]
fn d02_names_of_255_octets() {
    let long = "a".repeat(63);
    let name = format!("{long}.{long}.{long}.{}", "b".repeat(61));
    let filter = Filter::new([&order("o", [name.as_str()]).dns(Action::Refused)]);
    let query = Query::new(&name);
    assert_eq!(query.question().len(), 255 + 4);
    expect(&filter, [query.clone(), Query::new(&name.to_uppercase())], Reason::AnsweredRefused);
    // 256 octets are no name.
    let over = Query::new(&format!("{name}b"));
    assert_eq!(over.question().len(), 256 + 4);
    expect(&filter, [over], Reason::DnsMalformed);
    let mut labels = query.labels;
    labels.push(b"c".to_vec());
    expect(&filter, [Query::labels(labels)], Reason::DnsMalformed);
}

#[test]
fn d02_labels_of_every_length() {
    let mut filter = filter();
    for octets in 1..=63 {
        let left = vec![b'a'; octets];
        stopped(&filter, [Query::labels([left.clone(), label(b"example"), label(b"com")])]);
        let rule = String::from_utf8(left).expect("text");
        filter.put([&order("p", [format!("{rule}.test").as_str()])]);
        stopped(&filter, [Query::new(&format!("{rule}.test")), Query::new(&format!("b.{rule}.test"))]);
        expect(
            &filter,
            [Query::new(&format!("a{rule}.test"))],
            if octets < 63 { Reason::NotListed } else { Reason::DnsCompressed },
        );
    }
}

#[test]
fn d02_any_octet_in_a_label_below_a_rule() {
    let filter = filter();
    for octet in 0..=255 {
        stopped(&filter, [Query::labels([vec![octet; 3], label(b"example"), label(b"com")])]);
    }
}

#[test]
fn d02_labels_compare_as_labels() {
    let filter = filter();
    let others = [
        vec![label(b"example.com")],
        vec![label(b"www.example.com")],
        vec![label(b"www"), label(b"example.com")],
        vec![label(b"www.example"), label(b"com")],
        vec![label(b"a.example"), label(b"com")],
        vec![label(b"example"), label(b"com"), label(b"\0")],
        vec![label(b"example\0"), label(b"com")],
        vec![label(b"\0example"), label(b"com")],
        vec![label(b"example"), label(b"\0com")],
        vec![label(b"\x07example\x03com")],
        vec![label(b"\x07example"), label(b"com")],
        vec![label(b"exampl\x65\x03com")],
        vec![label(b"example"), label(b"co"), label(b"m")],
    ];
    expect(&filter, others.map(Query::labels), Reason::NotListed);
    // A dot below the rule changes nothing.
    stopped(&filter, [Query::labels([label(b"a.b"), label(b"example"), label(b"com")])]);
    // Only ASCII letters have two cases: 0x40 and 0x60, 0x5b and 0x7b, 0xc5 and 0xe5 differ.
    let filter = Filter::new([&order("o", ["a-z_0.example"])]);
    stopped(&filter, [Query::new("A-Z_0.EXAMPLE")]);
    let near = [&b"a\x0dz_0"[..], b"a-z\x7f0", b"a-z_\x10", b"a-\xfa_0", b"\xe1-z_0"];
    expect(&filter, near.map(|octets| Query::labels([octets.to_vec(), label(b"example")])), Reason::NotListed);
}

#[test]
fn d02_the_root_is_not_listed() {
    expect(&filter(), [Query::labels([]), Query::labels([]).qtype(2)], Reason::NotListed);
}

#[test]
fn d03_question_counts() {
    let filter = filter();
    expect(
        &filter,
        [0, 2, 3, 255, 256, 65535].map(|count| Query::new(NAME).questions(count)),
        Reason::DnsQuestionCount,
    );
}

#[test]
fn d03_responses_and_other_opcodes() {
    let filter = filter();
    let mut flags: Vec<u16> = (1..16).map(|opcode| opcode << 11 | 0x0100).collect();
    flags.extend([0x8000, 0x8180, 0x8583, 0xffff]);
    expect(&filter, flags.into_iter().map(|flags| Query::new(NAME).flags(flags)), Reason::DnsNotQuery);
}

#[test]
fn d03_all_other_flags_are_a_query() {
    let filter = filter();
    let flags = [0, 0x0100, 0x0010, 0x0020, 0x0030, 0x0130, 0x0200, 0x0400, 0x0080, 0x0040, 0x07ff];
    stopped(&filter, flags.map(|flags| Query::new(NAME).flags(flags)));
}

#[test]
fn d03_compression_and_unknown_label_types() {
    let filter = filter();
    let names: [&[u8]; 6] =
        [b"\xc0\x0c", b"\x03www\xc0\x0c", b"\x07example\x03com\xc0\x0c", b"\x40\x03www\x00", b"\x80abc\x00", b"\xff"];
    expect(&filter, names.map(|name| Query::new(NAME).raw_name(name)), Reason::DnsCompressed);
}

#[test]
fn d03_trailing_octets() {
    let filter = filter();
    for octets in [1, 2, 7, 30, 500] {
        stopped(&filter, [Query::new(NAME).trailing(&vec![0xa5; octets]), Query::new(NAME).trailing(&vec![0; octets])]);
    }
}

#[test]
fn d03_classes_other_than_in() {
    let filter = filter();
    expect(
        &filter,
        [0, 2, 3, 4, 254, 255, 0x0101, 0x8001].map(|class| Query::new(NAME).class(class)),
        Reason::DnsClass,
    );
}

#[test]
fn d03_cut_short() {
    let filter = filter();
    let whole = Query::new(NAME).build();
    for octets in 0..whole.len() {
        for ip in Ip::both() {
            let packet = Packet::new(ip, Transport::udp(53), whole[..octets].to_vec());
            filter.expect(&packet, Reason::DnsMalformed);
        }
    }
}

#[test]
fn d04_edns_cookies_padding_and_client_subnet() {
    let filter = filter();
    let edns = [
        Edns::new(0),
        Edns::new(512),
        Edns::new(1232),
        Edns::new(65535).dnssec_ok(),
        Edns::new(1232).cookie(0),
        Edns::new(1232).cookie(8),
        Edns::new(4096).cookie(16).padding(100),
        Edns::new(4096).client_subnet().cookie(32).padding(200).dnssec_ok(),
        Edns::new(1232).option(65001, &[1; 300]),
        Edns::new(1232).option(3, &[]),
    ];
    for edns in edns {
        stopped(&filter, [Query::new(NAME).edns(&edns)]);
    }
}

#[test]
fn d04_more_records_than_one() {
    let filter = filter();
    // Records of the answer and authority sections, as in no query that is seen; then OPT.
    let plain =
        |query: Query| query.record([name_wire("a.b"), vec![0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat());
    let mut query = plain(plain(Query::new(NAME)));
    query.authority = 1;
    stopped(&filter, [query.clone(), query.edns(&Edns::new(1232))]);
    // A record whose owner is a pointer to the question's.
    let pointer = vec![0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
    stopped(&filter, [Query::new(NAME).record(pointer).edns(&Edns::new(1232))]);
    // Counts without records.
    let mut query = Query::new(NAME);
    query.authority = 500;
    stopped(&filter, [query]);
}

#[test]
fn d04_signed_queries_are_dropped() {
    let filter = filter();
    let queries = [
        Query::new(NAME).tsig(),
        Query::new(NAME).edns(&Edns::new(1232)).tsig(),
        Query::new(NAME).edns(&Edns::new(1232).cookie(8)).record(vec![0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]).tsig(),
    ];
    expect(&filter, queries.clone(), Reason::DroppedTsig);
    // Not because of their signature.
    expect(&filter, queries.map(|query| Query { labels: Query::new("other.net").labels, ..query }), Reason::NotListed);
}

#[test]
fn d07_any_type() {
    let filter = filter();
    let types = [
        kind::A,
        kind::AAAA,
        kind::HTTPS,
        kind::SVCB,
        kind::ANY,
        kind::TXT,
        kind::MX,
        kind::SOA,
        2,
        5,
        43,
        48,
        0,
        252,
        65535,
    ];
    stopped(&filter, types.map(|qtype| Query::new(NAME).qtype(qtype)));
}

#[test]
fn d08_only_the_configured_ports() {
    let setup = Setup { dns_ports: vec![53, 5353, 8053], ..Setup::default() };
    let filter = Filter::with(setup, [&order("o", ["example.com"])]);
    for ip in Ip::both() {
        let packet = Packet::dns(ip, &Query::new(NAME));
        for port in [53, 5353, 8053] {
            filter.expect(&packet.clone().port(port), Reason::AnsweredNxdomain);
        }
        for port in [0, 52, 54, 853, 53 << 8] {
            filter.expect(&packet.clone().port(port), Reason::NotWatched);
        }
        // QUIC's.
        filter.expect(&packet.clone().port(443), Reason::QuicNotQuic);
    }
}

#[test]
fn d08_a_port_of_both_protocols() {
    let setup = Setup { dns_ports: vec![53, 443], tls_ports: TlsPorts::List(vec![443, 53]), ..Setup::default() };
    let filter = Filter::with(setup, [&order("o", ["example.com"])]);
    filter.expect(&Packet::dns(Ip::v4(), &Query::new(NAME)).port(443), Reason::AnsweredNxdomain);
    let hello = Hello::new(NAME);
    filter.expect(&Packet::tls(Ip::v4(), &hello).port(53), Reason::Reset);
}

#[test]
fn d08_tls_on_any_port_leaves_dns_its_own() {
    let setup = Setup { tls_ports: TlsPorts::Any, ..Setup::default() };
    let filter = Filter::with(setup, [&order("o", ["example.com"])]);
    let query = Query::new(NAME).build();
    let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
    for ip in Ip::both() {
        filter.expect(&Packet::new(ip.clone(), Transport::tcp(53), framed.clone()), Reason::Reset);
        filter.expect(&Packet::tls(ip.clone(), &Hello::new(NAME)).port(53), Reason::DnsIncomplete);
        for port in [0, 52, 54, 443, 65535] {
            filter.expect(&Packet::new(ip.clone(), Transport::tcp(port), framed.clone()), Reason::TlsNotHello);
            filter.expect(&Packet::tls(ip.clone(), &Hello::new(NAME)).port(port), Reason::Reset);
        }
    }
}
