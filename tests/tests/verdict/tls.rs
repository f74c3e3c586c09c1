//! ClientHellos that are stopped, and those whose name is not one.

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Hello, Ip, Packet, Transport, flag, server_name, server_name_list},
};
use filter_common::{layout::Hits, verdict::Reason};
use filter_user::kernel::TlsPorts;

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

/// Every hello comes to this reason, over IPv4 and IPv6.
#[track_caller]
fn expect(filter: &Filter, hellos: impl IntoIterator<Item = Hello>, reason: Reason) {
    for hello in hellos {
        for ip in Ip::both() {
            filter.expect(&Packet::tls(ip, &hello), reason);
        }
    }
}

/// Every hello is stopped.
#[track_caller]
fn stopped(filter: &Filter, hellos: impl IntoIterator<Item = Hello>) {
    expect(filter, hellos, Reason::Reset);
}

/// The first `octets` of a hello in a segment.
fn cut(hello: &Hello, octets: usize) -> Packet {
    let mut packet = Packet::tls(Ip::v4(), hello);
    packet.payload.truncate(octets);
    packet
}

#[test]
fn t01_server_name_first_and_last() {
    stopped(&filter(), [Hello::new(NAME), Hello::name_last(NAME)]);
}

#[test]
fn t01_server_name_behind_up_to_127_others() {
    let filter = filter();
    stopped(&filter, [1, 3, 18, 40, 127].map(|others| Hello::name_behind(NAME, others)));
    expect(&filter, [128, 140].map(|others| Hello::name_behind(NAME, others)), Reason::TlsExtensions);
}

#[test]
fn t01_second_hello_behind_change_cipher_spec() {
    // RFC 8446 D.4: after a HelloRetryRequest, in compatibility mode.
    let filter = filter();
    for ip in Ip::both() {
        let payload = [&[20, 3, 3, 0, 1, 1][..], &Hello::new(NAME).build()].concat();
        filter.expect(&Packet::new(ip, Transport::tcp(443), payload), Reason::Reset);
    }
}

#[test]
fn t01_grease_around_the_server_name() {
    stopped(&filter(), [Hello::new(NAME).grease(), Hello::name_last(NAME).grease()]);
}

#[test]
fn t01_every_order_of_extensions() {
    let filter = filter();
    let extensions = Hello::new(NAME).extensions.expect("extensions");
    for turn in 0..extensions.len() {
        let mut turned = extensions.clone();
        turned.rotate_left(turn);
        stopped(&filter, [Hello::with_extensions(turned)]);
    }
}

#[test]
fn t02_post_quantum_hello_with_the_name_in_the_first_segment() {
    let filter = filter();
    for hello in [Hello::post_quantum(NAME, true), Hello::post_quantum(NAME, true).grease()] {
        let len = hello.build().len();
        assert!((1700..2200).contains(&len), "{len} octets");
        // Whole, and cut where segments end in the field.
        filter.expect(&Packet::tls(Ip::v4(), &hello), Reason::Reset);
        for segment in [1460, 1440, 1400, 1380, 1208] {
            filter.expect(&cut(&hello, segment), Reason::Reset);
        }
    }
}

#[test]
fn t02_name_whole_at_the_last_octet_of_the_segment() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, true);
    let end = hello.position(NAME) + NAME.len();
    filter.expect(&cut(&hello, end), Reason::Reset);
    filter.expect(&cut(&hello, end - 1), Reason::TlsIncomplete);
}

#[test]
fn t03_name_behind_the_first_segment_passes_and_is_counted() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false);
    filter.expect(&Packet::tls(Ip::v4(), &hello), Reason::Reset);
    filter.expect(&cut(&hello, 1208), Reason::TlsIncomplete);
}

#[test]
fn t10_name_in_the_first_of_several_records() {
    let filter = filter();
    let name = Hello::new(NAME).position(NAME) - 5 + NAME.len();
    stopped(&filter, [Hello::new(NAME).records(&[name]), Hello::new(NAME).records(&[name, 20, 20])]);
    let split = [name - 1, name - 10, 30, 6, 4, 1].map(|first| Hello::new(NAME).records(&[first]));
    expect(&filter, split, Reason::Reset);
}

#[test]
fn t12_case_and_trailing_dot() {
    let names =
        ["WWW.EXAMPLE.COM", "wWw.eXaMpLe.CoM", "www.example.com.", "WWW.Example.com.", "example.com.", "EXAMPLE.com"];
    stopped(&filter(), names.map(Hello::new));
}

#[test]
fn t12_punycode() {
    // Listed as Unicode, asked for as A-labels; both cases.
    let filter = Filter::new([&order("o", ["bücher.example"])]);
    stopped(&filter, ["xn--bcher-kva.example", "XN--BCHER-KVA.Example", "www.xn--bcher-kva.example"].map(Hello::new));
    expect(&filter, [Hello::new("xn--bcher-kvb.example")], Reason::NotListed);
}

#[test]
fn t12_longest_names_and_labels() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(longest.len(), 253);
    let deepest = vec!["c"; 127].join(".");
    assert_eq!(deepest.len(), 253);
    let filter = Filter::new([&order("o", [longest.as_str(), deepest.as_str()]).exact()]);
    stopped(
        &filter,
        [longest.clone(), deepest.clone(), format!("{longest}."), longest.to_uppercase()].map(|name| Hello::new(&name)),
    );
    // One octet less, or another.
    expect(&filter, [&longest[1..], &longest[..252], &deepest[2..]].map(Hello::new), Reason::NotListed);
}

#[test]
fn t12_names_over_253_octets_are_none() {
    let filter = filter();
    // 253 octets are a name, as are 254 with a trailing dot.
    let name = format!("{}.example.com", "a".repeat(241));
    assert_eq!(name.len(), 253);
    stopped(&filter, [Hello::new(&name), Hello::new(&format!("{name}."))]);
    let over = [243, 300, 1000].map(|octets| Hello::new(&format!("{}.example.com", "a".repeat(octets))));
    expect(&filter, over, Reason::TlsSniInvalid);
}

#[test]
fn t12b_no_name_in_the_server_name() {
    let filter = filter();
    let data = |data: &[u8]| Hello::with_extensions([(0, data.to_vec())]);
    let invalid = [
        Hello::new(""),
        Hello::new("."),
        data(&[]),
        data(&[0, 0]),
        data(&[0, 3, 0, 0, 0]),
        // Lengths that do not fit each other.
        data(b"\x00\x0e\x00\x00\x0cexample.com"),
        data(b"\x00\x0e\x00\x00\x0aexample.com"),
        data(b"\x00\x0d\x00\x00\x0bexample.com"),
        data(b"\x00\x0f\x00\x00\x0bexample.com"),
        // Not of type host_name.
        Hello::with_extensions([server_name_list(&[(1, b"example.com")])]),
    ];
    expect(&filter, invalid, Reason::TlsSniInvalid);
    // An empty label is no label.
    expect(
        &filter,
        [".example.com", "www..example.com", "example.com..", "..example.com"].map(Hello::new),
        Reason::TlsSniInvalid,
    );
}

#[test]
fn t12b_addresses_are_not_names() {
    // Not in any list, so they pass as anything that is not listed.
    expect(&filter(), ["192.0.2.1", "203.0.113.255"].map(Hello::new), Reason::NotListed);
    // A colon and brackets are not listed, either; there is no order that they could meet.
    expect(&filter(), ["2001:db8::1", "[2001:db8::1]"].map(Hello::new), Reason::NotListed);
}

#[test]
fn t12b_octets_that_no_host_name_has() {
    let filter = filter();
    for octet in (0..=255).filter(|octet: &u8| !octet.is_ascii_alphanumeric() && !b"-_.".contains(octet)) {
        let mut name = b"a.example.com".to_vec();
        name[0] = octet;
        expect(&filter, [Hello::with_extensions([server_name_list(&[(0, &name)])])], Reason::TlsSniInvalid);
    }
    // In the listed name itself, it is another name.
    for name in [&b"example\0com"[..], b"www.example.com\0", b"example.com\0.evil.net", b"www.exampl\xe9.com"] {
        expect(&filter, [Hello::with_extensions([server_name_list(&[(0, name)])])], Reason::NotListed);
    }
}

#[test]
fn t12b_two_names_in_the_list() {
    let filter = filter();
    let lists = [
        [(0, NAME.as_bytes()), (0, &b"other.net"[..])],
        [(0, &b"other.net"[..]), (0, NAME.as_bytes())],
        [(0, NAME.as_bytes()), (7, &b"xyz"[..])],
    ];
    expect(&filter, lists.map(|list| Hello::with_extensions([server_name_list(&list)])), Reason::TlsSniInvalid);
}

#[test]
fn t12b_two_server_names() {
    let filter = filter();
    let between = Hello::anonymous().extensions.expect("extensions");
    let hello = |first, second| {
        Hello::with_extensions([server_name(first)].into_iter().chain(between.clone()).chain([server_name(second)]))
    };
    expect(&filter, [hello(NAME, NAME), hello(NAME, "other.net")], Reason::TlsSniDuplicate);
    // No order is concerned by what passes.
    assert_eq!(filter.hits("o"), Hits::default());
    // The first one decides that no order is concerned; the second is then not looked for.
    expect(&filter, [hello("other.net", NAME)], Reason::NotListed);
}

#[test]
fn t12b_no_server_name() {
    expect(&filter(), [Hello::anonymous(), Hello::bare(), Hello::with_extensions([])], Reason::TlsNoSni);
}

#[test]
fn t13_versions_and_session_ids() {
    let filter = filter();
    for record_version in [0x0301, 0x0303, 0x0300, 0x0302] {
        for version in [0x0301, 0x0302, 0x0303] {
            for session in [0, 1, 31, 32] {
                stopped(&filter, [Hello { record_version, version, session_id: vec![7; session], ..Hello::new(NAME) }]);
            }
        }
    }
    expect(&filter, [Hello { session_id: vec![7; 33], ..Hello::new(NAME) }], Reason::TlsMalformed);
    // SSL 2, and what is not TLS at all.
    expect(
        &filter,
        [0x0201, 0x0401, 0x1303].map(|record_version| Hello { record_version, ..Hello::new(NAME) }),
        Reason::TlsNotHello,
    );
}

#[test]
fn t13_ciphers_and_compression() {
    let filter = filter();
    for ciphers in [0, 1, 40, 300] {
        stopped(&filter, [Hello { ciphers: vec![0x1301; ciphers], ..Hello::new(NAME) }]);
    }
    for methods in [0, 1, 2, 255] {
        stopped(&filter, [Hello { compression: vec![0; methods], ..Hello::new(NAME) }]);
    }
}

#[test]
fn t14_data_in_syn() {
    let filter = filter();
    for ip in Ip::both() {
        // TCP Fast Open: a cookie option, padded.
        let transport = Transport::tcp(443).flags(flag::SYN).options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);
        filter.expect(&Packet::new(ip, transport, Hello::new(NAME).build()), Reason::Reset);
    }
}

#[test]
fn t14_segments_with_options_and_any_flags() {
    let filter = filter();
    let options = [vec![], [1, 1, 8, 10].into_iter().chain([9; 8]).collect(), vec![1; 40]];
    for options in options {
        for flags in
            [flag::ACK, flag::ACK | flag::PSH, flag::ACK | flag::PSH | flag::FIN, 0xd0 | flag::ACK, 0, flag::PSH]
        {
            let transport = Transport::tcp(443).flags(flags).options(&options);
            filter.expect(&Packet::new(Ip::v4(), transport, Hello::new(NAME).build()), Reason::Reset);
        }
    }
}

#[test]
fn t15_only_the_configured_ports() {
    let setup = Setup { tls_ports: TlsPorts::List(vec![443, 853, 8443, 65535]), ..Setup::default() };
    let filter = Filter::with(setup, [&order("o", ["example.com"])]);
    for ip in Ip::both() {
        let packet = Packet::tls(ip, &Hello::new(NAME));
        for port in [443, 853, 8443, 65535] {
            filter.expect(&packet.clone().port(port), Reason::Reset);
        }
        for port in [0, 1, 442, 444, 8080, 65534] {
            filter.expect(&packet.clone().port(port), Reason::NotWatched);
        }
        // From the port, not to it.
        let mut back = packet.port(40_000);
        back.transport.set_source(443);
        filter.expect(&back, Reason::NotWatched);
    }
}

#[test]
fn t16_outer_name_of_ech_is_the_server_name() {
    let ech = |name| Hello::with_extensions([server_name(name), (0xfe0d, vec![0x42; 200])]);
    stopped(&filter(), [ech(NAME)]);
    expect(&filter(), [ech("cloudflare-ech.com")], Reason::NotListed);
}
