//! T20: frames cut at every octet, and every length field at every value. `Filter::run` asserts that nothing aborts.

use cordon_tests::{
    harness::{Filter, xdp},
    order::order,
    packet::{Edns, Extension, Fragment, Hello, Ip, Packet, QINQ, Query, Transport, VLAN, flag, patched},
};
use filter_common::verdict::Reason;

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

/// One of each kind of frame that is stopped.
fn kinds() -> Vec<Packet> {
    let headers = [Extension::new(0, 0), Extension::authentication(1), Fragment::Atomic.ipv6(), Extension::new(60, 1)];
    let networks = [Ip::v4(), Ip::v4().options(&[1; 12]), Ip::v6(), Ip::v6().extensions(&headers)];
    let mut kinds = Vec::new();
    for ip in networks {
        let query = Query::new(NAME).edns(&Edns::new(1232).cookie(8).padding(9));
        let mut hello = Packet::tls(ip.clone(), &Hello::new(NAME).grease());
        hello.transport = hello.transport.options(&[1; 12]);
        for packet in [Packet::dns(ip.clone(), &query), hello] {
            kinds.push(packet.clone());
            kinds.push(packet.clone().tag(VLAN, 1));
            kinds.push(packet.tag(QINQ, 2).tag(VLAN, 3).padded(7));
        }
    }
    kinds
}

/// Judges a frame; whether it is stopped.
fn is_stopped(filter: &Filter, frame: &[u8]) -> bool {
    filter.run(frame).action != xdp::PASS
}

#[test]
fn t20_frames_cut_at_every_octet() {
    let filter = filter();
    for packet in kinds() {
        let frame = packet.build();
        let whole = frame.len() - packet.trailer.len();
        assert!(is_stopped(&filter, &frame));
        // BPF_PROG_TEST_RUN takes no less than an Ethernet header.
        for octets in 14..whole {
            filter.expect_frame(&frame[..octets], Reason::FrameMalformed);
        }
        assert!(is_stopped(&filter, &frame[..whole]));
    }
}

#[test]
fn t20_packets_that_end_at_every_octet() {
    let filter = filter();
    for packet in kinds() {
        let payload = packet.payload.len();
        let name = match packet.transport {
            // Up to QCLASS.
            Transport::Udp { .. } => Query::new(NAME).build().len(),
            _ => Hello::new(NAME).grease().position(NAME) + NAME.len(),
        };
        for octets in 0..payload {
            let mut cut = packet.clone();
            cut.payload.truncate(octets);
            assert_eq!(is_stopped(&filter, &cut.build()), octets >= name, "{octets} of {packet:?}");
        }
        // Within the transport header.
        let header = packet.transport.build(&packet.ip, &packet.payload);
        for octets in 0..packet.transport.header_len() {
            let transport = Transport::Raw(packet.transport.protocol());
            let cut = Packet { transport, payload: header[..octets].to_vec(), ..packet.clone() };
            filter.expect(&cut, Reason::FrameMalformed);
        }
    }
}

/// What most frames are: acknowledgements and data, down to those that end with their TCP header.
#[test]
fn t20_segments_in_mid_connection_of_every_length() {
    let filter = filter();
    let timestamps = [1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7];
    for (ip, options) in Ip::both().into_iter().flat_map(|ip| [(ip.clone(), &[][..]), (ip, &timestamps)]) {
        for (port, octets) in [443, 80].into_iter().flat_map(|port| (0..40).map(move |octets| (port, octets))) {
            let transport = Transport::tcp(port).flags(flag::ACK).options(options);
            let packet = Packet::new(ip.clone(), transport, vec![0x17; octets]);
            let reason = match (port, octets) {
                (80, _) => Reason::NotWatched,
                (_, 0) => Reason::NoPayload,
                _ => Reason::TlsNotHello,
            };
            for frame in [packet.build(), packet.padded(6).build()] {
                filter.expect_frame(&frame, reason);
                // Another class of traffic (RFC 2474, RFC 3168), and then what is not a plain header any more.
                let class: [u8; 2] = if ip.is_v4() { [0x45, 0xba] } else { [0x6b, 0xa0] };
                filter.expect_frame(&patched(&frame, 14, &class), reason);
                filter.expect_frame(&patched(&frame, 14, &[0x05]), Reason::FrameMalformed);
            }
        }
    }
}

#[test]
fn t20_every_ip_length() {
    let filter = filter();
    for packet in kinds() {
        let frame = packet.build();
        let at = packet.positions();
        let (field, base) = if packet.ip.is_v4() { (at.l3 + 2, 0) } else { (at.l3 + 4, 40) };
        let right = frame.len() - packet.trailer.len() - at.l3 - base;
        let name = match packet.transport {
            // The UDP length does not fit into less.
            Transport::Udp { .. } => right,
            _ => at.payload - at.l3 - base + Hello::new(NAME).grease().position(NAME) + NAME.len(),
        };
        let values = (0..right as u16 + 40).chain([0x1000, 0x7fff, 0x8000, 0xfffe, 0xffff]);
        for value in values {
            let length = usize::from(value);
            let stopped = is_stopped(&filter, &patched(&frame, field, &value.to_be_bytes()));
            assert_eq!(stopped, (name..=right + packet.trailer.len()).contains(&length), "{value} in {packet:?}");
        }
    }
}

#[test]
fn t20_every_udp_length() {
    let filter = filter();
    for packet in kinds().into_iter().filter(|packet| packet.transport.protocol() == 17) {
        let frame = packet.build();
        let field = packet.positions().l4 + 4;
        let right = 8 + packet.payload.len();
        let question = 8 + Query::new(NAME).build().len();
        for value in (0..right as u16 + 40).chain([0x7fff, 0x8000, 0xffff]) {
            let length = usize::from(value);
            let stopped = is_stopped(&filter, &patched(&frame, field, &value.to_be_bytes()));
            assert_eq!(stopped, (question..=right).contains(&length), "{value} in {packet:?}");
        }
    }
}

#[test]
fn t20_every_header_length() {
    let filter = filter();
    for packet in kinds() {
        let frame = packet.build();
        let at = packet.positions();
        if packet.ip.is_v4() {
            for first in 0..=255 {
                let right = first == frame[at.l3];
                assert_eq!(is_stopped(&filter, &patched(&frame, at.l3, &[first])), right, "{first:#04x}");
            }
        }
        if packet.transport.protocol() == 6 {
            for offset in 0..16 {
                let right = offset == packet.transport.header_len() / 4;
                let stopped = is_stopped(&filter, &patched(&frame, at.l4 + 12, &[(offset as u8) << 4]));
                assert_eq!(stopped, right, "data offset {offset}");
            }
        }
    }
}

#[test]
fn t20_every_length_octet_of_the_question() {
    let filter = filter();
    let packet = Packet::dns(Ip::v4(), &Query::new(NAME).edns(&Edns::new(1232)));
    let frame = packet.build();
    let name = packet.positions().payload + 12;
    for (offset, right) in [(0, 3), (4, 7), (12, 3), (16, 0)] {
        for value in 0..=255 {
            let stopped = is_stopped(&filter, &patched(&frame, name + offset, &[value]));
            assert_eq!(stopped, value == right, "{value} at {offset}");
        }
    }
}

#[test]
fn t20_every_length_of_the_records() {
    let filter = filter();
    let packet = Packet::dns(Ip::v4(), &Query::new(NAME).edns(&Edns::new(1232).cookie(8).padding(3)));
    let frame = packet.build();
    let opt = packet.positions().payload + Query::new(NAME).build().len();
    // RDLENGTH, and the lengths of both options: whatever they say, the question is whole.
    for field in [opt + 9, opt + 13, opt + 33] {
        for value in (0..64).chain([0xff, 0x100, 0x7fff, 0xffff]) {
            assert!(is_stopped(&filter, &patched(&frame, field, &u16::to_be_bytes(value))));
        }
    }
}

#[test]
fn t20_every_length_of_the_hello() {
    let filter = filter();
    // Octets that would be no good as lengths.
    let hello = Hello { ciphers: vec![0xfefe; 9], compression: vec![0, 0xfe], ..Hello::new(NAME) };
    let packet = Packet::tls(Ip::v4(), &hello);
    let frame = packet.build();
    let payload = packet.positions().payload;
    let name = hello.position(NAME);
    let end = name + NAME.len();
    let ciphers = 44 + hello.session_id.len();
    let compression = ciphers + 2 + 2 * hello.ciphers.len();
    let extensions = compression + 1 + hello.compression.len();
    let whole = hello.build().len();

    let check = |field: usize, octets: usize, stops: &dyn Fn(usize) -> bool| {
        let right = frame[payload + field..][..octets].iter().fold(0, |value, octet| value << 8 | usize::from(*octet));
        let values: Vec<usize> = match octets {
            1 => (0..256).collect(),
            2 => (0..right + 300).chain([0x7fff, 0x8000, 0xfffe, 0xffff]).collect(),
            _ => (0..right + 300).chain([0xffff, 0x10000, 0x10000 + right, 0x7f_ffff, 0xff_ffff]).collect(),
        };
        for value in values {
            let octets = &value.to_be_bytes()[8 - octets..];
            let stopped = is_stopped(&filter, &patched(&frame, payload + field, octets));
            assert_eq!(stopped, stops(value), "{value} at {field}, where {right} is right");
        }
    };
    // The record may end behind the name; the hello may go on in other segments.
    check(3, 2, &|value| value >= end - 5);
    check(6, 3, &|value| value >= whole - 9);
    check(43, 1, &|value| value == hello.session_id.len());
    check(ciphers, 2, &|value| value == 2 * hello.ciphers.len());
    check(compression, 1, &|value| value == hello.compression.len());
    check(extensions, 2, &|value| (end - extensions - 2..=whole - extensions - 2).contains(&value));
    check(name - 7, 2, &|value| value == NAME.len() + 5);
    check(name - 5, 2, &|value| value == NAME.len() + 3);
    check(name - 2, 2, &|value| value == NAME.len());
}
