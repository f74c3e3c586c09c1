//! Link and network headers: what is read through, and what passes by its outside.

use cordon_tests::{
    harness::Filter,
    order::order,
    packet::{Extension, Fragment, Hello, Ip, OLD_QINQ, Packet, QINQ, Query, Transport, VLAN, server_name},
};
use filter_common::verdict::{Action, Reason};

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

fn query(ip: Ip) -> Packet {
    Packet::dns(ip, &Query::new(NAME))
}

fn hello(ip: Ip) -> Packet {
    Packet::tls(ip, &Hello::new(NAME))
}

/// Both protocols are stopped with this network header, and what comes back is well-formed.
#[track_caller]
fn stopped(filter: &Filter, ip: &Ip) {
    filter.expect_back(&query(ip.clone()), Reason::AnsweredNxdomain);
    filter.expect_back(&hello(ip.clone()), Reason::Reset);
}

/// Both protocols come to this reason with this network header.
#[track_caller]
fn expect(filter: &Filter, ip: &Ip, reason: Reason) {
    filter.expect(&query(ip.clone()), reason);
    filter.expect(&hello(ip.clone()), reason);
}

const WALKED: [u8; 6] = [0, 43, 60, 135, 139, 140];

#[test]
fn t18_each_extension_header() {
    let filter = filter();
    for protocol in WALKED {
        for units in [0, 1, 2, 31, 100] {
            stopped(&filter, &Ip::v6().extensions(&[Extension::new(protocol, units)]));
        }
    }
    for words in [1, 3, 5, 63] {
        stopped(&filter, &Ip::v6().extensions(&[Extension::authentication(words)]));
    }
}

#[test]
fn t18_atomic_fragment() {
    let filter = filter();
    stopped(&filter, &Ip::v6().fragment(Fragment::Atomic));
    let chain = [Extension::new(0, 0), Fragment::Atomic.ipv6(), Extension::new(60, 1)];
    stopped(&filter, &Ip::v6().extensions(&chain));
}

#[test]
fn t18_chains_of_up_to_eight() {
    let filter = filter();
    let headers = [
        Extension::new(0, 0),
        Extension::new(60, 2),
        Extension::new(43, 1),
        Fragment::Atomic.ipv6(),
        Extension::authentication(3),
        Extension::new(60, 0),
        Extension::new(135, 0),
        Extension::new(139, 4),
        Extension::new(140, 0),
    ];
    for length in 1..=8 {
        stopped(&filter, &Ip::v6().extensions(&headers[..length]));
    }
    expect(&filter, &Ip::v6().extensions(&headers), Reason::FrameTooDeep);
    for protocol in WALKED {
        stopped(&filter, &Ip::v6().extensions(&vec![Extension::new(protocol, 0); 8]));
        expect(&filter, &Ip::v6().extensions(&vec![Extension::new(protocol, 0); 9]), Reason::FrameTooDeep);
        expect(&filter, &Ip::v6().extensions(&vec![Extension::new(protocol, 0); 40]), Reason::FrameTooDeep);
    }
}

#[test]
fn t18_headers_that_end_the_walk() {
    let filter = filter();
    // ESP, no next header, ICMPv6, an unknown one.
    for protocol in [50, 59, 58, 253] {
        expect(&filter, &Ip::v6().extensions(&[Extension::new(protocol, 0)]), Reason::NotWatched);
        expect(&filter, &Ip::v6().extensions(&[Extension::new(0, 0), Extension::new(protocol, 0)]), Reason::NotWatched);
    }
}

#[test]
fn t18_extension_header_of_every_length() {
    let filter = filter();
    for protocol in WALKED.into_iter().chain([51]) {
        for length in 0..=255 {
            let mut header = Extension::new(protocol, 0);
            header.octets[1] = length;
            for packet in [query(Ip::v6().extensions(&[header.clone()])), hello(Ip::v6().extensions(&[header.clone()]))]
            {
                let run = filter.run(&packet.build());
                // One length alone leads to the transport header: of an authentication header, in words minus two.
                let right = length == 0;
                let stopped = matches!(run.reason, Reason::AnsweredNxdomain | Reason::Reset);
                assert_eq!(stopped, right, "protocol {protocol}, length {length}: {:?}", run.reason);
            }
        }
    }
}

#[test]
fn t19_ipv4_options() {
    let filter = filter();
    for octets in (4..=40).step_by(4) {
        stopped(&filter, &Ip::v4().options(&vec![1; octets]));
        // Router alert, end of options.
        let mut options = vec![0; octets];
        options[..4].copy_from_slice(&[148, 4, 0, 0]);
        stopped(&filter, &Ip::v4().options(&options));
    }
}

#[test]
fn t19_up_to_two_tags() {
    let filter = filter();
    let types = [VLAN, QINQ, OLD_QINQ];
    // VLAN 100, a priority tag, all bits.
    let tags = [0x0064, 0xe000, 0xffff];
    for ip in Ip::both() {
        for packet in [query(ip.clone()), hello(ip.clone())] {
            for outer in types {
                for tci in tags {
                    let tagged = packet.clone().tag(outer, tci);
                    let run = filter.run(&tagged.build());
                    assert!(matches!(run.reason, Reason::AnsweredNxdomain | Reason::Reset));
                    for inner in types {
                        let twice = tagged.clone().tag(inner, 0x0fa5);
                        let run = filter.run(&twice.build());
                        assert!(matches!(run.reason, Reason::AnsweredNxdomain | Reason::Reset));
                        filter.expect(&twice.tag(VLAN, 1), Reason::FrameTooDeep);
                    }
                }
            }
        }
    }
}

#[test]
fn t19_other_ethertypes_pass() {
    let filter = filter();
    // ARP, LLDP, PPPoE discovery, MACsec, 802.3 lengths, and one off each that is read.
    for ethertype in [0x0806, 0x88cc, 0x8863, 0x88e5, 0x0000, 0x0026, 0x05dc, 0x0801, 0x86dc, 0x8101, 0x88a9, 0x9101] {
        for packet in [query(Ip::v4()), hello(Ip::v6())] {
            filter.expect(&packet.clone().encapsulated(ethertype, &[]), Reason::NotIp);
            filter.expect(&packet.tag(VLAN, 5).encapsulated(ethertype, &[]), Reason::NotIp);
        }
    }
}

#[test]
fn t19_the_version_is_the_ethertypes() {
    let filter = filter();
    filter.expect(&query(Ip::v4()).encapsulated(0x86dd, &[]), Reason::FrameMalformed);
    filter.expect(&hello(Ip::v6()).encapsulated(0x0800, &[]), Reason::FrameMalformed);
}

#[test]
fn t17_first_fragments_that_hold_the_name() {
    for action in [Action::Observe, Action::Drop, Action::Nxdomain, Action::Reset, Action::Address] {
        let filter = Filter::new([&order("o", ["example.com"]).both(action)]);
        let reason = match action {
            Action::Observe => Reason::Observed,
            Action::Drop => Reason::Dropped,
            // The other fragments would still come: nothing is answered to a part.
            _ => Reason::DroppedUnanswerable,
        };
        for ip in Ip::both() {
            expect(&filter, &ip.clone().fragment(Fragment::First), reason);
            // A datagram whose length goes on in the next fragment.
            let mut long = query(ip.fragment(Fragment::First));
            if let Transport::Udp { length, .. } = &mut long.transport {
                *length = Some(1400);
            }
            filter.expect(&long, reason);
        }
    }
}

#[test]
fn t17_later_and_tiny_fragments_pass() {
    let filter = filter();
    for ip in Ip::both() {
        expect(&filter, &ip.clone().fragment(Fragment::Later), Reason::FragmentLater);
        let first = ip.fragment(Fragment::First);
        let mut tiny = query(first.clone());
        tiny.payload.truncate(8);
        filter.expect(&tiny, Reason::DnsMalformed);
        let mut tiny = hello(first.clone());
        tiny.payload.clear();
        filter.expect(&tiny, Reason::NoPayload);
        // Less than a transport header.
        let ports = vec![0x9c, 0x40, 0, 53];
        filter.expect(&Packet::new(first, Transport::Raw(17), ports), Reason::FrameMalformed);
    }
}

/// Fragments of one packet that do not agree: each first one is judged by itself, and the others pass, whatever they lay
/// over it.
#[test]
fn t17_overlapping_fragments() {
    let filter = Filter::new([&order("o", ["example.com"]).both(Action::Drop)]);
    let other = "www.example.net";
    for ip in Ip::both() {
        let first = ip.clone().fragment(Fragment::First);
        // Eight octets in: over the first fragment's payload of UDP, and from the sequence numbers of TCP on.
        let over = |protocol: u8, octets: &[u8]| {
            let mut ip = ip.clone();
            match &mut ip {
                Ip::V4 { fragment, .. } => *fragment = 1,
                Ip::V6 { .. } => {
                    let mut header = Fragment::Atomic.ipv6();
                    header.octets[2..4].copy_from_slice(&8_u16.to_be_bytes());
                    ip = ip.extensions(&[header]);
                }
            }
            Packet::new(ip, Transport::Raw(protocol), octets.to_vec())
        };
        let listed =
            [over(17, &Query::new(NAME).build()), over(6, &[&[0; 12][..], &Hello::new(NAME).build()].concat())];
        let others = [Packet::dns(first.clone(), &Query::new(other)), Packet::tls(first.clone(), &Hello::new(other))];
        for (named, overlapping) in others.iter().zip(&listed) {
            for (packet, reason) in [(named, Reason::NotListed), (overlapping, Reason::FragmentLater)] {
                filter.expect(packet, reason);
            }
            // In the other order.
            filter.expect(overlapping, Reason::FragmentLater);
            filter.expect(named, Reason::NotListed);
        }
        // A second first fragment.
        for packet in [query(first.clone()), hello(first.clone())] {
            filter.expect(&packet, Reason::Dropped);
        }
        for named in &others {
            filter.expect(named, Reason::NotListed);
        }
    }
}

#[test]
fn t17_every_offset_is_a_later_fragment() {
    let filter = filter();
    for bit in 0..13 {
        let mut packet = query(Ip::v4());
        if let Ip::V4 { fragment, .. } = &mut packet.ip {
            *fragment = 1 << bit;
        }
        filter.expect(&packet, Reason::FragmentLater);
        let mut header = Fragment::Atomic.ipv6();
        header.octets[2..4].copy_from_slice(&(8_u16 << bit).to_be_bytes());
        filter.expect(&query(Ip::v6().extensions(&[header])), Reason::FragmentLater);
    }
}

#[test]
fn t20_ethernet_padding() {
    let filter = filter();
    for ip in Ip::both() {
        for octets in [1, 6, 18, 46, 300] {
            filter.expect_back(&query(ip.clone()).padded(octets), Reason::AnsweredNxdomain);
            filter.expect_back(&hello(ip.clone()).padded(octets), Reason::Reset);
        }
        // What lies in the padding is not the packet's.
        let mut empty = hello(ip.clone());
        empty.trailer = std::mem::take(&mut empty.payload);
        filter.expect(&empty, Reason::NoPayload);
        let mut empty = query(ip.clone());
        empty.trailer = std::mem::take(&mut empty.payload);
        filter.expect(&empty, Reason::DnsMalformed);
        let name = Hello::new(NAME).position(NAME);
        let mut cut = hello(ip);
        cut.trailer = cut.payload.split_off(name + 3);
        filter.expect(&cut, Reason::TlsIncomplete);
    }
}

#[test]
fn t21_packets_over_several_buffers() {
    let filter = filter();
    for ip in Ip::both() {
        let mut long = hello(ip.clone());
        long.payload.resize(8000, 0);
        filter.expect_back(&long, Reason::Reset);
        let mut long = query(ip.clone());
        long.payload.resize(8000, 0);
        filter.expect_back(&long, Reason::AnsweredNxdomain);
    }
}

/// BPF_PROG_TEST_RUN puts 3,520 octets into the first buffer, and a page into each further one.
#[test]
fn t21_names_in_every_buffer_and_over_two() {
    let filter = filter();
    for ip in Ip::both() {
        for padding in [3000, 5000, 7000, 8500].into_iter().chain(3300..3520).chain(7400..7616) {
            let far = Hello::with_extensions([(21, vec![0; padding]), server_name(NAME)]);
            filter.expect_back(&Packet::tls(ip.clone(), &far), Reason::Reset);
        }
        let other = Hello::with_extensions([(21, vec![0; 7000]), server_name("other.example")]);
        filter.expect(&Packet::tls(ip.clone(), &other), Reason::NotListed);
        let none = Hello::with_extensions([(21, vec![0; 7000]), (0xfafa, vec![0; 300])]);
        filter.expect(&Packet::tls(ip, &none), Reason::TlsNoSni);
    }
}

#[test]
fn t21_a_far_name_that_goes_on_in_the_next_segment() {
    let filter = filter();
    for padding in [3000, 3500, 5000, 7590, 8000] {
        let hello = Hello::with_extensions([(21, vec![0; padding]), server_name(NAME)]);
        let (octets, name) = (hello.build(), hello.position(NAME));
        for cut in [name - 4, name, name + 5] {
            filter.forget_flows();
            let segment = |start: usize, end: usize| {
                let transport = Transport::tcp(443).numbers(7 + start as u32, 1);
                Packet::new(Ip::v4(), transport, octets[start..end].to_vec()).build()
            };
            let reasons = filter.run_all(&[segment(0, cut), segment(cut, octets.len())]);
            assert_eq!(reasons, [Reason::TlsIncomplete, Reason::Reset], "{padding}, cut at {cut}");
        }
    }
}
