//! Every action, for DNS over UDP and TLS over TCP, IPv4 and IPv6, untagged and with one and two tags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cordon_tests::{
    harness::{Filter, Setup, hex},
    order::order,
    packet::{
        BORDER_MAC, CLIENT_MAC, CLIENT_PORT, Extension, Hello, Ip, Packet, QINQ, Query, Transport, VLAN, flag, patched,
        received::{Content, Received},
    },
};
use filter_common::verdict::{Action, Reason};

const NAME: &str = "www.example.com";

/// What a test packet is about.
struct Case {
    packet: Packet,
    port: u16,
    is_dns: bool,
}

/// Both protocols over both IP versions, plain and with options or extension headers, and 0, 1 and 2 tags.
fn cases() -> Vec<Case> {
    let networks = [
        Ip::v4(),
        Ip::v4().options(&[7, 7, 4, 0, 0, 0, 0, 0]),
        Ip::v6(),
        Ip::v6().extensions(&[Extension::new(0, 0), Extension::new(60, 2)]),
    ];
    let mut cases = Vec::new();
    for ip in networks {
        let query = Packet::dns(ip.clone(), &Query::new(NAME));
        let hello = Packet::tls(ip, &Hello::new(NAME));
        for (packet, port, is_dns) in [(query, 53, true), (hello, 443, false)] {
            let once = packet.clone().tag(VLAN, 0x6064);
            let twice = packet.clone().tag(QINQ, 0x0007).tag(VLAN, 0xa0c8);
            cases.extend([packet, once, twice].map(|packet| Case { packet, port, is_dns }));
        }
    }
    cases
}

fn filter(action: Action) -> Filter {
    let addresses = (Some(Ipv4Addr::new(203, 0, 113, 80)), Some(Ipv6Addr::LOCALHOST));
    Filter::new([&order("o", ["example.com"]).both(action).address(addresses.0, addresses.1)])
}

/// Checks everything around the content: swapped addresses and ports, kept tags, a fresh hop limit. (Checksums, and
/// that there are no options, extension headers or padding, are checked by [`Received::parse`].)
#[track_caller]
fn check_envelope(case: &Case, back: &Received) {
    let Case { packet, port, .. } = case;
    let expected = Received {
        to_mac: CLIENT_MAC,
        from_mac: BORDER_MAC,
        tags: packet.tags.clone(),
        session: None,
        tunnel: None,
        from: packet.ip.destination(),
        to: packet.ip.source(),
        hops: 64,
        from_port: *port,
        to_port: CLIENT_PORT,
        content: back.content.clone(),
    };
    assert_eq!(*back, expected);
}

#[test]
fn observe_passes() {
    let filter = filter(Action::Observe);
    for case in cases() {
        filter.expect(&case.packet, Reason::Observed);
    }
}

#[test]
fn drop_drops() {
    let filter = filter(Action::Drop);
    for case in cases() {
        let run = filter.expect(&case.packet, Reason::Dropped);
        assert_eq!(hex(&run.frame), hex(&case.packet.build()));
    }
}

#[test]
fn what_is_answered_to_dns_is_reset_in_tls() {
    for (action, dns) in [
        (Action::Reset, Reason::AnsweredRefused),
        (Action::Nxdomain, Reason::AnsweredNxdomain),
        (Action::Nodata, Reason::AnsweredNodata),
        (Action::Refused, Reason::AnsweredRefused),
        (Action::Address, Reason::AnsweredAddress),
    ] {
        let filter = filter(action);
        for case in cases() {
            let reason = if case.is_dns { dns } else { Reason::Reset };
            let back = filter.expect_back(&case.packet, reason);
            check_envelope(&case, &back);
            if case.is_dns {
                let answer = filter.expect_answer(&case.packet, reason);
                assert_eq!((answer.name.as_str(), answer.id), (NAME, 0x1dea));
            } else {
                let reset = Content::Tcp { sequence: 0xdead_0001, acknowledgement: 0, flags: flag::RST, window: 0 };
                assert_eq!(back.content, reset);
            }
        }
    }
}

#[test]
fn t14_resets_by_flags() {
    let filter = filter(Action::Reset);
    let hello = Hello::new(NAME).build();
    let octets = hello.len() as u32;
    let with_ack = |flags, acknowledgement| (flags | flag::ACK, acknowledgement, 0, flag::RST);
    let without = |flags, more| (flags, 0, 0x1000_0001 + octets + more, flag::RST | flag::ACK);
    for (flags, sequence, acknowledgement, sent) in [
        with_ack(0, 0xdead_0001),
        with_ack(flag::PSH, 0xdead_0001),
        with_ack(flag::FIN | flag::PSH, 0xdead_0001),
        // TCP Fast Open: the SYN takes one sequence number before the data.
        without(flag::SYN, 1),
        without(flag::FIN, 1),
        without(0, 0),
        without(flag::PSH, 0),
        // A SYN of the other side's.
        with_ack(flag::SYN, 0xdead_0001),
    ] {
        for ip in Ip::both() {
            let packet = Packet::new(ip, Transport::tcp(443).flags(flags), hello.clone());
            let back = filter.expect_back(&packet, Reason::Reset);
            assert_eq!(
                back.content,
                Content::Tcp { sequence, acknowledgement, flags: sent, window: 0 },
                "{flags:#04x}"
            );
        }
    }
}

#[test]
fn t14_sequence_numbers_wrap() {
    let filter = filter(Action::Reset);
    let hello = Hello::new(NAME).build();
    let octets = hello.len() as u32;
    for sequence in [0xffff_ffff, 0_u32.wrapping_sub(octets), 0, 0x7fff_ffff] {
        let transport = Transport::tcp(443).flags(flag::SYN).numbers(sequence, 77);
        let back = filter.expect_back(&Packet::new(Ip::v4(), transport, hello.clone()), Reason::Reset);
        let acknowledgement = sequence.wrapping_add(octets).wrapping_add(1);
        let flags = flag::RST | flag::ACK;
        assert_eq!(back.content, Content::Tcp { sequence: 0, acknowledgement, flags, window: 0 });
    }
    for acknowledgement in [0, 1, 0xffff_ffff] {
        let transport = Transport::tcp(443).numbers(5, acknowledgement);
        let back = filter.expect_back(&Packet::new(Ip::v6(), transport, hello.clone()), Reason::Reset);
        let expected = Content::Tcp { sequence: acknowledgement, acknowledgement: 0, flags: flag::RST, window: 0 };
        assert_eq!(back.content, expected);
    }
}

#[test]
fn t02_a_long_segment_is_reset_by_a_short_one() {
    let filter = filter(Action::Reset);
    let case = Case { packet: Packet::tls(Ip::v4(), &Hello::post_quantum(NAME, false)), port: 443, is_dns: false };
    let run = filter.expect(&case.packet, Reason::Reset);
    assert_eq!(run.frame.len(), 14 + 20 + 20);
    check_envelope(&case, &Received::parse(&run.frame).expect("a well-formed frame"));
}

/// Nothing is answered to or from these; what is not answered is dropped as it came.
#[test]
fn d09_addresses_that_are_not_answered() {
    let own: [IpAddr; 2] = [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into()];
    let setup = Setup { own: own.to_vec(), ..Setup::default() };
    let filter = Filter::with(setup, [&order("o", ["example.com"]), &order("d", ["d.example"]).both(Action::Drop)]);
    let unanswerable = |packet: Packet| {
        let run = filter.expect(&packet, Reason::DroppedUnanswerable);
        assert_eq!(hex(&run.frame), hex(&packet.build()));
    };
    let groups = [
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "ff02::1",
        "ff0e::1",
        "::",
        "::1",
    ];
    for address in groups {
        let address: IpAddr = address.parse().expect("an address");
        let ip = if address.is_ipv4() { Ip::v4() } else { Ip::v6() };
        for packet in [Packet::dns(ip.clone(), &Query::new(NAME)), Packet::tls(ip.clone(), &Hello::new(NAME))] {
            unanswerable(packet.clone().with_ip(|ip| ip.set_source(address)));
            unanswerable(packet.with_ip(|ip| ip.set_destination(address)));
        }
        // Dropping needs no address.
        filter.expect(&Packet::dns(ip, &Query::new("d.example")).with_ip(|ip| ip.set_source(address)), Reason::Dropped);
    }
    for address in own {
        let ip = if address.is_ipv4() { Ip::v4() } else { Ip::v6() };
        for packet in [Packet::dns(ip.clone(), &Query::new(NAME)), Packet::tls(ip, &Hello::new(NAME))] {
            unanswerable(packet.clone().with_ip(|ip| ip.set_source(address)));
            // A query to the host itself is one as any other.
            let reason = if packet.transport.protocol() == 17 { Reason::AnsweredNxdomain } else { Reason::Reset };
            filter.expect(&packet.with_ip(|ip| ip.set_destination(address)), reason);
        }
    }
}

#[test]
fn d09_group_bits_of_ethernet_addresses() {
    let filter = filter(Action::Nxdomain);
    for case in cases() {
        for packet in [
            Packet { source: [0x03, 0, 0, 0, 0, 1], ..case.packet.clone() },
            Packet { destination: [0x01, 0, 0x5e, 0, 0, 1], ..case.packet.clone() },
            Packet { destination: [0xff; 6], ..case.packet.clone() },
        ] {
            filter.expect(&packet, Reason::DroppedUnanswerable);
        }
    }
}

#[test]
fn d09_answers_to_ordinary_addresses_next_to_special_ones() {
    let filter = filter(Action::Nxdomain);
    for address in [
        "1.0.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "223.255.255.255",
        "10.0.0.1",
        "::2",
        "fe80::1",
        "fd00::1",
        "::ffff:1.2.3.4",
    ] {
        let address: IpAddr = address.parse().expect("an address");
        let ip = if address.is_ipv4() { Ip::v4() } else { Ip::v6() };
        let packet = Packet::dns(ip, &Query::new(NAME));
        filter.expect_back(&packet.clone().with_ip(|ip| ip.set_source(address)), Reason::AnsweredNxdomain);
        filter.expect_back(&packet.with_ip(|ip| ip.set_destination(address)), Reason::AnsweredNxdomain);
    }
}

#[test]
fn checksums_of_the_query_do_not_matter() {
    // A NIC may finish them later; and who sends wrong ones is stopped, too.
    let filter = filter(Action::Nxdomain);
    for case in cases() {
        let at = case.packet.positions().l4 + if case.is_dns { 6 } else { 16 };
        for checksum in [[0, 0], [0xff, 0xff], [0x12, 0x34]] {
            let run = filter.run(&patched(&case.packet.build(), at, &checksum));
            check_envelope(&case, &Received::parse(&run.frame).expect("a well-formed frame"));
        }
    }
}
