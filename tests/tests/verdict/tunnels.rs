//! PPPoE, MPLS and tunnels: what is read through, what goes back, and what passes by its outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cordon_tests::{
    harness::{Filter, Setup, xdp},
    order::order,
    packet::{
        Extension, Fragment, Hello, Ip, Link, Packet, QINQ, Query, Transport, Tunnel, VLAN, patched,
        received::{Around, Received},
    },
};
use filter_common::verdict::{Action, Reason};

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

fn packets() -> [Packet; 4] {
    let hello = Hello::new(NAME).grease();
    let [v4, v6] = Ip::both();
    [
        Packet::dns(v4.clone(), &Query::new(NAME)),
        Packet::tls(v4, &hello),
        Packet::dns(v6.clone(), &Query::new(NAME)),
        Packet::tls(v6, &hello),
    ]
}

fn answer_to(packet: &Packet) -> Reason {
    if packet.transport.protocol() == 17 { Reason::AnsweredNxdomain } else { Reason::Reset }
}

/// The tunnel's ends, other addresses than those in the packets.
fn outer() -> [Ip; 2] {
    [
        Ip::between(IpAddr::from([203, 0, 113, 7]), IpAddr::from([203, 0, 113, 1])),
        Ip::between(
            Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 7).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1).into(),
        ),
    ]
}

/// IPIP, 4in6, 6in4, 6in6 and plain GRE, around each packet.
fn tunnels() -> Vec<Tunnel> {
    let [v4, v6] = outer();
    let long = v6.clone().extensions(&[Extension::new(60, 0), Fragment::Atomic.ipv6()]);
    let mut tunnels = Vec::new();
    for ip in [v4.clone(), v4.options(&[1; 8]), v6, long] {
        tunnels.push(Tunnel::ip(ip.clone()));
        tunnels.push(Tunnel::gre(ip, &[0, 0]));
    }
    tunnels
}

/// Each packet in everything that an answer goes back into.
fn two_way() -> Vec<Packet> {
    let mut wrapped = Vec::new();
    for packet in packets() {
        for tagged in [packet.clone(), packet.clone().tag(VLAN, 7), packet.tag(QINQ, 2).tag(VLAN, 3).padded(9)] {
            wrapped.push(tagged.clone().pppoe(0x1234));
            for tunnel in tunnels() {
                wrapped.push(tagged.clone().tunnel(tunnel.clone()));
                wrapped.push(tagged.clone().pppoe(0xffff).tunnel(tunnel));
            }
        }
    }
    wrapped
}

/// Each packet in what nothing goes back into.
fn one_way() -> Vec<Packet> {
    let mut wrapped = Vec::new();
    for packet in packets() {
        for labels in [&[0xf_ffff][..], &[16, 17], &[16, 17, 18], &[0, 1, 2, 3]] {
            wrapped.push(packet.clone().mpls(labels));
            wrapped.push(packet.clone().tag(VLAN, 7).mpls(labels));
            wrapped.push(packet.clone().tunnel(Tunnel::ip(Ip::v4())).mpls(labels));
        }
        for (flags, options) in [(0x80, 1), (0x20, 1), (0x10, 1), (0xa0, 2), (0xb0, 3), (0x30, 2), (0x90, 2)] {
            for ip in outer() {
                let mut header = vec![flags, 0];
                header.resize(2 + 4 * options, 0xee);
                wrapped.push(packet.clone().tunnel(Tunnel::gre(ip, &header)));
            }
        }
    }
    wrapped
}

#[test]
fn t19_answers_go_back_the_way_the_packet_came() {
    let filter = filter();
    for packet in two_way() {
        let back = filter.expect_back(&packet, answer_to(&packet));
        let expected = Received {
            to_mac: packet.source,
            from_mac: packet.destination,
            tags: packet.tags.clone(),
            session: match packet.link {
                Link::Pppoe { session, .. } => Some(session),
                _ => None,
            },
            tunnel: packet.tunnel.as_ref().map(|tunnel| Around {
                from: tunnel.ip.destination(),
                to: tunnel.ip.source(),
                hops: 64,
                is_gre: tunnel.gre.is_some(),
            }),
            from: packet.ip.destination(),
            to: packet.ip.source(),
            hops: 64,
            ..back.clone()
        };
        assert_eq!(back, expected);
    }
}

#[test]
fn t19_nothing_goes_back_into_labels_or_gre_with_options() {
    let filter = filter();
    for packet in one_way() {
        filter.expect(&packet, Reason::DroppedUnanswerable);
    }
    let drops = Filter::new([&order("o", ["example.com"]).both(Action::Drop)]);
    for packet in one_way().into_iter().chain(two_way()) {
        drops.expect(&packet, Reason::Dropped);
    }
}

#[test]
fn t19_names_that_are_not_listed_pass() {
    let filter = Filter::new([&order("o", ["other.example"])]);
    for packet in one_way().into_iter().chain(two_way()) {
        filter.expect(&packet, Reason::NotListed);
    }
}

#[test]
fn t19_a_second_tunnel_passes() {
    let filter = filter();
    let [v4, v6] = outer();
    for packet in packets() {
        for tunnel in tunnels() {
            for (outer, protocol) in [(v4.clone(), 4), (v6.clone(), 41), (v4.clone(), 47)] {
                // What lies in the inner packet is a tunnel again.
                let mut second = packet.clone().tunnel(tunnel.clone());
                let inner = second.build()[second.positions().l3..].to_vec();
                second.ip = outer;
                second.transport = Transport::Raw(protocol);
                second.payload = inner;
                filter.expect(&second, Reason::FrameTooDeep);
                filter.expect(&second.pppoe(1), Reason::FrameTooDeep);
            }
        }
    }
}

#[test]
fn t19_five_labels_and_pseudowires_pass() {
    let filter = filter();
    for packet in packets() {
        filter.expect(&packet.clone().mpls(&[1, 2, 3, 4, 5]), Reason::FrameTooDeep);
        // The control word of a pseudowire, then an Ethernet frame.
        let mut stack = vec![0, 1, 0x01, 64, 0, 0, 0, 0];
        stack.extend(packet.build());
        filter.expect(&packet.clone().encapsulated(0x8847, &stack), Reason::Encapsulated);
        // Upstream-assigned labels are read as well.
        filter.expect(&packet.encapsulated(0x8848, &[0, 1, 0x01, 64]), Reason::DroppedUnanswerable);
    }
}

#[test]
fn t19_what_else_ppp_and_gre_carry_passes() {
    let filter = filter();
    for packet in packets() {
        for protocol in [0xc021, 0xc223, 0x8021, 0x8057, 0x0281, 0x0021 ^ 0x0057, 0] {
            let mut other = packet.clone().pppoe(1);
            other.link = Link::Pppoe { session: 1, protocol: Some(protocol), length: None };
            filter.expect(&other, Reason::NotIp);
        }
        for [first, second] in [[0x00, 1], [0x30, 1], [0x40, 0], [0x08, 0], [0x01, 0], [0x00, 0x80], [0x00, 2]] {
            for ip in outer() {
                let header = [first, second, 0, 0, 0, 0, 0, 0, 0, 0];
                filter.expect(&packet.clone().tunnel(Tunnel::gre(ip, &header)), Reason::Encapsulated);
            }
        }
        for ip in outer() {
            // Ethernet, PPP, WCCP in GRE.
            for ethertype in [[0x65, 0x58], [0x88, 0x0b], [0x88, 0x3e], [0x08, 0x06]] {
                let gre = packet.clone().tunnel(Tunnel::gre(ip.clone(), &[0, 0]));
                let frame = patched(&gre.build(), gre.positions().l3 - 2, &ethertype);
                filter.expect_frame(&frame, Reason::Encapsulated);
            }
        }
    }
}

#[test]
fn t19_nothing_goes_to_special_or_own_tunnel_ends() {
    let own = [IpAddr::from([203, 0, 113, 7]), Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 7).into()];
    let filter = Filter::with(Setup { own: own.to_vec(), ..Setup::default() }, [&order("o", ["example.com"])]);
    for packet in packets() {
        for tunnel in tunnels() {
            let wrapped = packet.clone().tunnel(tunnel);
            filter.expect(&wrapped, Reason::DroppedUnanswerable);
            let with = |change: &dyn Fn(&mut Ip)| {
                let mut packet = wrapped.clone();
                if let Some(tunnel) = packet.tunnel.as_mut() {
                    change(&mut tunnel.ip);
                }
                packet
            };
            let other = |ip: &Ip| -> IpAddr {
                if ip.is_v4() {
                    [203, 0, 113, 8].into()
                } else {
                    Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 8).into()
                }
            };
            // This host is the tunnel's end: its address is the destination.
            let to_own = with(&|ip| {
                let (own, other) = (ip.source(), other(ip));
                ip.set_source(other);
                ip.set_destination(own);
            });
            filter.expect_back(&to_own, answer_to(&packet));
            for special in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "ff02::1", "::", "::1"] {
                let special: IpAddr = special.parse().unwrap();
                let is_of = |ip: &Ip| ip.is_v4() == special.is_ipv4();
                for packet in [
                    with(&|ip| {
                        if is_of(ip) {
                            ip.set_source(special)
                        }
                    }),
                    with(&|ip| {
                        let other = other(ip);
                        ip.set_source(other);
                        if is_of(ip) {
                            ip.set_destination(special);
                        }
                    }),
                ] {
                    if packet.tunnel.as_ref().is_some_and(|tunnel| is_of(&tunnel.ip)) {
                        filter.expect(&packet, Reason::DroppedUnanswerable);
                    }
                }
            }
        }
    }
}

#[test]
fn t17_fragments_in_and_of_tunnels() {
    let filter = filter();
    for packet in packets() {
        for tunnel in tunnels() {
            if let Ip::V6 { extensions, .. } = &tunnel.ip
                && !extensions.is_empty()
            {
                continue;
            }
            let fragment = |inner: Option<Fragment>, outer: Option<Fragment>| {
                let mut packet = packet.clone();
                let mut tunnel = tunnel.clone();
                if let Some(part) = inner {
                    packet.ip = packet.ip.fragment(part);
                }
                if let Some(part) = outer {
                    tunnel.ip = tunnel.ip.fragment(part);
                }
                packet.tunnel(tunnel)
            };
            filter.expect(&fragment(Some(Fragment::First), None), Reason::DroppedUnanswerable);
            filter.expect(&fragment(None, Some(Fragment::First)), Reason::DroppedUnanswerable);
            filter.expect(&fragment(Some(Fragment::Later), None), Reason::FragmentLater);
            filter.expect(&fragment(None, Some(Fragment::Later)), Reason::FragmentLater);
            filter.expect(&fragment(Some(Fragment::First), Some(Fragment::Later)), Reason::FragmentLater);
        }
    }
}

/// The inner packet goes on in the tunnel's next fragment.
#[test]
fn t17_the_first_fragment_of_a_tunnel_ends_at_every_octet() {
    let filter = filter();
    for packet in packets() {
        for ip in outer() {
            let whole = packet.clone().tunnel(Tunnel::ip(ip.clone().fragment(Fragment::First)));
            let frame = whole.build();
            let (at, need) = (whole.positions(), name_end(&packet));
            let header = at.l3 - at.outer;
            for octets in 0..frame.len() - at.l3 {
                let (field, base) = if ip.is_v4() { (at.outer + 2, 0) } else { (at.outer + 4, 40) };
                let length = (header - base + octets) as u16;
                let cut = patched(&frame, field, &length.to_be_bytes());
                let stopped = filter.run(&cut[..at.l3 + octets]).action != xdp::PASS;
                assert_eq!(stopped, octets >= at.payload - at.l3 + need, "{octets} of {packet:?}");
                // With the rest as Ethernet padding.
                assert_eq!(filter.run(&cut).action != xdp::PASS, stopped);
            }
        }
    }
}

/// Octets of the payload up to the end of what makes the name known.
fn name_end(packet: &Packet) -> usize {
    if packet.transport.protocol() == 17 {
        Query::new(NAME).build().len()
    } else {
        Hello::new(NAME).grease().position(NAME) + NAME.len()
    }
}

#[test]
fn t20_wrapped_frames_cut_at_every_octet() {
    let filter = filter();
    for packet in two_way().into_iter().step_by(13).chain(one_way().into_iter().step_by(9)) {
        let frame = packet.build();
        for octets in 14..frame.len() - packet.trailer.len() {
            filter.expect_frame(&frame[..octets], Reason::FrameMalformed);
        }
    }
}

#[test]
fn t20_every_length_of_pppoe() {
    let filter = filter();
    for packet in packets() {
        let plain = packet.clone().pppoe(1).build().len() - 14 - 6;
        for length in (0..plain as u16 + 40).chain([0x7fff, 0x8000, 0xffff]) {
            let mut wrong = packet.clone().pppoe(1).padded(20);
            wrong.link = Link::Pppoe { session: 1, protocol: None, length: Some(length) };
            let stopped = filter.run(&wrong.build()).action != xdp::PASS;
            assert_eq!(
                stopped,
                (plain..=plain + 20).contains(&usize::from(length)),
                "{length}, where {plain} is right"
            );
        }
        // Version, type and code.
        let frame = packet.clone().pppoe(1).build();
        for first in 0..=255 {
            assert_eq!(filter.run(&patched(&frame, 14, &[first])).action != xdp::PASS, first == 0x11);
            assert_eq!(filter.run(&patched(&frame, 15, &[first])).action != xdp::PASS, first == 0);
        }
    }
}

#[test]
fn t20_every_length_of_the_outer_header() {
    let filter = filter();
    for packet in packets() {
        for tunnel in tunnels() {
            let wrapped = packet.clone().tunnel(tunnel.clone());
            let (frame, at) = (wrapped.build(), wrapped.positions());
            let (field, base) = if tunnel.ip.is_v4() { (at.outer + 2, 0) } else { (at.outer + 4, 40) };
            let right = frame.len() - at.outer - base;
            for value in (0..right as u16 + 40).chain([0x1000, 0x7fff, 0x8000, 0xffff]) {
                let stopped = filter.run(&patched(&frame, field, &value.to_be_bytes())).action != xdp::PASS;
                assert_eq!(stopped, usize::from(value) == right, "{value} in {wrapped:?}");
            }
        }
    }
}

fn scope(prefix: &str) -> Vec<ipnet::IpNet> {
    vec![prefix.parse().expect("a prefix")]
}

#[test]
fn o07_the_scope_of_a_tunnelled_client() {
    let scopes = vec![
        ("inner", [scope("192.0.2.0/24"), scope("2001:db8:1::/48")].concat()),
        ("outer", [scope("203.0.113.0/24"), scope("2001:db8:a::/48")].concat()),
    ];
    for name in ["inner", "outer"] {
        let setup = Setup { scopes: scopes.clone(), ..Setup::default() };
        let filter = Filter::with(setup, [&order("o", ["example.com"]).both(Action::Drop).scopes([name])]);
        for packet in packets() {
            for tunnel in tunnels() {
                // DS-Lite: the subscriber is known by the tunnel alone.
                let by_outer = packet.ip.is_v4() && !tunnel.ip.is_v4() && tunnel.gre.is_none();
                let holds = by_outer == (name == "outer");
                let reason = if holds { Reason::Dropped } else { Reason::OtherClient };
                filter.expect(&packet.clone().tunnel(tunnel), reason);
            }
            let reason = if name == "inner" { Reason::Dropped } else { Reason::OtherClient };
            filter.expect(&packet.clone().pppoe(5), reason);
            filter.expect(&packet.mpls(&[5, 6]), reason);
        }
    }
}

/// A hello in two segments, its first with one subscriber's link or tunnel, its second with the other's.
#[test]
fn o07_equal_inner_addresses_in_two_tunnels() {
    let filter = Filter::new([&order("o", ["example.com"]).both(Action::Drop)]);
    let hello = Hello::new(NAME).build();
    let cut = Hello::new(NAME).position(NAME) + 3;
    let segment = |port: usize, start: usize, end: usize| {
        let mut transport = Transport::tcp(443).numbers(1000 + start as u32, 1);
        transport.set_source(port as u16);
        Packet::new(Ip::v4(), transport, hello[start..end].to_vec())
    };
    let b4 = |host: u16| {
        Tunnel::ip(Ip::between(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, host).into(), Ipv6Addr::LOCALHOST.into()))
    };
    let gre = |host: u8| {
        Tunnel::gre(Ip::between(Ipv4Addr::new(10, 0, 0, host).into(), IpAddr::from([10, 0, 0, 254])), &[0, 0])
    };
    type Wrapped = Box<dyn Fn(Packet) -> Packet>;
    let links: Vec<Wrapped> = vec![
        Box::new(|packet| packet),
        Box::new(|packet| packet.tag(VLAN, 0)),
        Box::new(|packet| packet.tag(VLAN, 7)),
        Box::new(|packet| packet.tag(VLAN, 8)),
        Box::new(|packet| packet.tag(QINQ, 7).tag(VLAN, 8)),
        Box::new(|packet| packet.tag(QINQ, 8).tag(VLAN, 7)),
        Box::new(|packet| packet.pppoe(0)),
        Box::new(|packet| packet.pppoe(7)),
        Box::new(|packet| packet.tag(VLAN, 7).pppoe(7)),
        Box::new(|packet| packet.mpls(&[7])),
        Box::new(|packet| packet.mpls(&[7, 8])),
        Box::new(|packet| packet.mpls(&[8, 7])),
        Box::new(|packet| packet.mpls(&[1, 2, 3, 4])),
        Box::new(|packet| packet.mpls(&[2, 2, 3, 4])),
        Box::new(|packet| packet.mpls(&[1, 2, 3, 5])),
        Box::new(move |packet| packet.tunnel(b4(1))),
        Box::new(move |packet| packet.tunnel(b4(2))),
        Box::new(move |packet| packet.tunnel(gre(1))),
        Box::new(move |packet| packet.tunnel(gre(2))),
    ];
    for (one, first) in links.iter().enumerate() {
        for (other, second) in links.iter().enumerate() {
            let port = 20_000 + 100 * one + other;
            let first = filter.run_in_kernel(&first(segment(port, 0, cut)).build()).reason;
            assert_eq!(first, Reason::TlsIncomplete);
            let second = filter.run_in_kernel(&second(segment(port, cut, hello.len())).build()).reason;
            assert_eq!(second == Reason::Dropped, one == other, "links {one} and {other}: {second:?}");
        }
    }
}

#[test]
fn o04_a_packet_quoted_by_icmp_in_a_tunnel() {
    let filter = filter();
    for packet in packets() {
        let quoted = packet.build()[14..].to_vec();
        let (protocol, mut message) = if packet.ip.is_v4() { (1, vec![3, 1]) } else { (58, vec![1, 4]) };
        message.resize(8, 0);
        message.extend(quoted);
        let error = Packet { transport: Transport::Raw(protocol), payload: message, ..packet.clone() };
        filter.expect(&error, Reason::NotWatched);
        filter.expect(&error.clone().pppoe(1), Reason::NotWatched);
        filter.expect(&error.clone().mpls(&[1]), Reason::NotWatched);
        for tunnel in tunnels() {
            filter.expect(&error.clone().tunnel(tunnel), Reason::NotWatched);
        }
    }
}
