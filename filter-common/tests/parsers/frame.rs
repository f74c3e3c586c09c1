use filter_common::{
    bytes::Slice,
    frame::{self, Network, Payload, TCP, UDP},
    verdict::Reason,
};
use proptest::prelude::*;

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1];

/// Ethernet with these ethertypes, all but the last of them tags, and what comes after.
fn link(ethertypes: &[u16], rest: &[u8]) -> Vec<u8> {
    let mut frame = ETHERNET.to_vec();
    for (n, ethertype) in ethertypes.iter().enumerate() {
        frame.extend(ethertype.to_be_bytes());
        if n + 1 < ethertypes.len() {
            frame.extend([0, 7]);
        }
    }
    frame.extend(rest);
    frame
}

/// An IPv4 packet with `words` of options.
fn ipv4(words: u8, fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = 20 + 4 * usize::from(words);
    let mut packet = vec![0x45 + words, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 10, 198, 51, 100, 53]);
    packet.resize(header, 1);
    packet.extend(payload);
    packet
}

/// An IPv6 packet; `payload` begins with the extension headers.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53]);
    packet.extend(payload);
    packet
}

fn read(frame: &[u8]) -> Result<Network, Reason> {
    frame::network(&Slice(frame))
}

/// Reads through what lies around the packet.
fn unwrapped(frame: &[u8]) -> Result<Network, Reason> {
    frame::read(&Slice(frame))
}

#[test]
fn t19_positions_in_tunnels() {
    let inner = ipv6(UDP, &[0; 8]);
    for (protocol, gre) in
        [(41, &[][..]), (47, &[0, 0, 0x86, 0xdd]), (47, &[0xb0, 0, 0x86, 0xdd, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])]
    {
        let outer = ipv4(1, 0, protocol, &[gre, &inner].concat());
        let session = [&[0x11, 0, 0, 7][..], &(outer.len() as u16 + 2).to_be_bytes(), &[0, 0x21], &outer].concat();
        let network = unwrapped(&link(&[0x8100, 0x8864], &session)).unwrap();
        let l3 = 18 + 8 + 24 + gre.len() as u32;
        let expected = Network {
            l3,
            l4: l3 + 40,
            end: l3 + 48,
            version: 6,
            transport: UDP,
            wraps: frame::PPPOE | if gre.len() > 4 { frame::ONE_WAY } else { 0 },
            outer: 26,
            outer_version: 4,
            tunnel: protocol,
            ..Network::default()
        };
        assert_eq!(network, expected);
    }
    let network = unwrapped(&link(&[0x8847], &[&[0, 1, 0x20, 64, 0, 2, 0x31, 64][..], &inner].concat())).unwrap();
    assert_eq!((network.l3, network.labels, network.wraps, network.base()), (22, 2, frame::ONE_WAY, 22));
}

#[test]
fn tags_move_the_network_header() {
    let packet = ipv4(0, 0, UDP, &[0; 8]);
    for (tags, l3) in [(&[][..], 14), (&[0x8100], 18), (&[0x88a8, 0x8100], 22), (&[0x9100, 0x88a8], 22)] {
        let network = read(&link(&[tags, &[0x0800]].concat(), &packet)).unwrap();
        let expected = Network { l3, l4: l3 + 20, end: l3 + 28, version: 4, transport: UDP, ..Network::default() };
        assert_eq!(network, expected);
    }
    assert_eq!(read(&link(&[0x8100, 0x8100, 0x8100, 0x0800], &packet)), Err(Reason::FrameTooDeep));
    for ethertype in [0x8864, 0x8847, 0x8848] {
        assert_eq!(read(&link(&[0x8100, ethertype], &packet)), Err(Reason::Encapsulated));
    }
    assert_eq!(read(&link(&[0x0806], &packet)), Err(Reason::NotIp));
}

#[test]
fn ipv4_options_lengths_and_fragments() {
    for words in 0..=10 {
        let network = read(&link(&[0x0800], &ipv4(words, 0x4000, TCP, &[0; 20]))).unwrap();
        assert_eq!((network.l4, network.end), (34 + 4 * u32::from(words), 54 + 4 * u32::from(words)));
    }
    let at = |fragment| read(&link(&[0x0800], &ipv4(0, fragment, UDP, &[0; 8])));
    assert_eq!(at(0x2000).unwrap().fragment, 1);
    assert_eq!(at(0x4000).unwrap().fragment, 0);
    assert_eq!([at(1), at(0x2001), at(0x1fff)], [Err(Reason::FragmentLater); 3]);
    // A header of less than 20 octets, or more than the packet; a packet longer than the frame.
    for (first, total) in [(0x44, 28), (0x40, 28), (0x48, 28), (0x45, 29), (0x45, 19), (0x65, 28)] {
        let mut packet = ipv4(0, 0, UDP, &[0; 8]);
        packet[0] = first;
        packet[3] = total;
        assert_eq!(read(&link(&[0x0800], &packet)), Err(Reason::FrameMalformed), "{first:#x} {total}");
    }
}

#[test]
fn protocols_that_are_read_named_or_passed() {
    for (protocol, expected) in [
        (4, Err(Reason::Encapsulated)),
        (41, Err(Reason::Encapsulated)),
        (47, Err(Reason::Encapsulated)),
        (1, Err(Reason::NotWatched)),
        (58, Err(Reason::NotWatched)),
        (132, Err(Reason::NotWatched)),
        (TCP, Ok(TCP)),
        (UDP, Ok(UDP)),
    ] {
        let v4 = read(&link(&[0x0800], &ipv4(0, 0, protocol, &[0; 20])));
        let v6 = read(&link(&[0x86dd], &ipv6(protocol, &[0; 20])));
        assert_eq!([v4, v6].map(|network| network.map(|network| network.transport)), [expected; 2]);
    }
    // Less than the shortest transport header.
    assert_eq!(read(&link(&[0x0800], &ipv4(0, 0, UDP, &[0; 7]))), Err(Reason::FrameMalformed));
    assert_eq!(read(&link(&[0x86dd], &ipv6(TCP, &[0; 7]))), Err(Reason::FrameMalformed));
}

#[test]
fn ipv6_extension_headers() {
    // Hop-by-hop of 8 octets, routing of 24, authentication of 16 (in words), destination of 8.
    let mut chain = vec![43, 0, 1, 4, 0, 0, 0, 0];
    chain.extend([51, 2]);
    chain.extend([0; 22]);
    chain.extend([60, 2]);
    chain.extend([0; 14]);
    chain.extend([UDP, 0, 1, 4, 0, 0, 0, 0]);
    chain.extend([0; 8]);
    let network = unwrapped(&link(&[0x86dd], &ipv6(0, &chain))).unwrap();
    assert_eq!((network.l3, network.l4, network.end), (14, 14 + 40 + 8 + 24 + 16 + 8, 14 + 40 + 64));
    assert_eq!((network.version, network.transport, network.fragment), (6, UDP, 0));
}

#[test]
fn ipv6_fragments() {
    let fragment = |field: u16| {
        let [high, low] = field.to_be_bytes();
        let chain = [&[UDP, 0, high, low, 1, 2, 3, 4][..], &[0; 8]].concat();
        unwrapped(&link(&[0x86dd], &ipv6(44, &chain))).map(|network| network.fragment)
    };
    assert_eq!(fragment(0), Ok(0));
    assert_eq!(fragment(1), Ok(1));
    // Reserved bits do not matter.
    assert_eq!(fragment(6), Ok(0));
    assert_eq!([fragment(8), fragment(9), fragment(0xfff8)], [Err(Reason::FragmentLater); 3]);
}

#[test]
fn ipv6_chains_end_after_eight() {
    for headers in 0..=12 {
        let mut chain = Vec::new();
        for left in (0..headers).rev() {
            chain.extend([if left == 0 { UDP } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        chain.extend([0; 8]);
        let network = unwrapped(&link(&[0x86dd], &ipv6(if headers == 0 { UDP } else { 60 }, &chain)));
        let expected = if headers <= 8 { Ok(54 + 8 * headers) } else { Err(Reason::FrameTooDeep) };
        assert_eq!(network.map(|network| network.l4), expected);
    }
}

fn network(transport: u8, fragment: u8, len: u32) -> Network {
    Network { l3: 0, l4: 20, end: 20 + len, version: 4, transport, fragment, ..Network::default() }
}

#[test]
fn udp_payload_is_what_its_length_says() {
    let with = |length: u16, octets: usize, fragment| {
        let mut packet = vec![0; 20 + octets];
        packet[24..26].copy_from_slice(&length.to_be_bytes());
        frame::udp(&Slice(&packet), &network(UDP, fragment, octets as u32))
    };
    assert_eq!(with(20, 20, 0), Ok(Payload { start: 28, end: 40 }));
    assert_eq!(with(12, 20, 0), Ok(Payload { start: 28, end: 32 }));
    assert_eq!(with(8, 20, 0), Ok(Payload { start: 28, end: 28 }));
    assert_eq!([with(0, 20, 0), with(7, 20, 0), with(21, 20, 0)], [Err(Reason::FrameMalformed); 3]);
    // The rest of the datagram comes in other fragments.
    assert_eq!(with(1000, 20, 1), Ok(Payload { start: 28, end: 40 }));
}

#[test]
fn tcp_payload_begins_after_the_options() {
    let with = |words: u8, octets: usize| {
        let mut packet = vec![0; 60 + octets];
        packet[32] = words << 4;
        frame::tcp(&Slice(&packet), &network(TCP, 0, octets as u32))
    };
    assert_eq!(with(5, 30), Ok(Payload { start: 40, end: 50 }));
    assert_eq!(with(7, 30), Ok(Payload { start: 48, end: 50 }));
    assert_eq!(with(5, 20), Err(Reason::NoPayload));
    assert_eq!(with(15, 60), Err(Reason::NoPayload));
    assert_eq!([with(4, 30), with(0, 30), with(8, 30), with(5, 8)], [Err(Reason::FrameMalformed); 4]);
}

#[test]
fn the_client_that_may_be_answered() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = link(&[0x0800], &ipv4(0, 0, UDP, &[0; 8]));
        change(&mut frame);
        let network = read(&frame).unwrap();
        frame::client(&Slice(&frame), &network)
    };
    assert_eq!(with(&|_| {}), Some([0, 0xffff_c000_020a]));
    assert_eq!(with(&|frame| frame[0] = 1), None);
    assert_eq!(with(&|frame| frame[6] = 0xff), None);
    for (first, answered) in
        [(0, false), (1, true), (126, true), (127, false), (128, true), (223, true), (224, false), (255, false)]
    {
        // Source, destination.
        for at in [26, 30] {
            assert_eq!(with(&|frame| frame[at] = first).is_some(), answered, "{first} at {at}");
        }
    }

    let v6 = |source: u128, destination: u128| {
        let mut frame = link(&[0x86dd], &ipv6(UDP, &[0; 8]));
        frame[22..38].copy_from_slice(&source.to_be_bytes());
        frame[38..54].copy_from_slice(&destination.to_be_bytes());
        let network = read(&frame).unwrap();
        frame::client(&Slice(&frame), &network)
    };
    let (one, other) = (0x2001_0db8 << 96 | 1, 0x2001_0db8 << 96 | 2);
    assert_eq!(v6(one, other), Some([0x2001_0db8_0000_0000, 1]));
    for special in [0, 1, 0xff << 120, u128::MAX] {
        assert_eq!([v6(special, other), v6(one, special)], [None; 2]);
    }
    assert!(v6(2, other).is_some() && v6(0xfe80 << 112 | 5, other).is_some());
}

/// Frames that get far: the right version, lengths and chains now and then.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let next = prop::sample::select(&[0_u8, 4, 6, 17, 41, 43, 44, 50, 51, 60, 135][..]);
    let tail =
        prop::collection::vec(prop_oneof![Just(0_u8), Just(6), Just(17), Just(44), Just(60), any::<u8>()], 0..120);
    let v4 = (0_u8..11, any::<u16>(), next.clone(), tail.clone()).prop_map(|(words, fragment, protocol, tail)| {
        link(&[0x0800], &ipv4(words, fragment & 0x6000, protocol, &tail))
    });
    let v6 = (next, tail).prop_map(|(next, tail)| link(&[0x8100, 0x86dd], &ipv6(next, &tail)));
    let wrapped = (prop::sample::select(&[4_u8, 41, 47][..]), any::<bool>(), prop_oneof![v4.clone(), v6.clone()])
        .prop_map(|(protocol, options, frame)| {
            let (gre, inner) = match (protocol, options) {
                (47, false) => (&[0, 0, 8, 0][..], &frame[14..]),
                (47, true) => (&[0xa0, 0, 0x86, 0xdd, 0, 0, 0, 0, 0, 0, 0, 1][..], &frame[18..]),
                _ => (&[][..], &frame[if frame[12] == 8 { 14 } else { 18 }..]),
            };
            let outer = ipv4(0, 0, protocol, &[gre, inner].concat());
            let session = [&[0x11, 0, 0, 7][..], &(outer.len() as u16 + 2).to_be_bytes(), &[0, 0x21], &outer].concat();
            if options { link(&[0x8864], &session) } else { link(&[0x8847], &[&[0, 1, 1, 1], &outer[..]].concat()) }
        });
    let any = prop::collection::vec(any::<u8>(), 0..100);
    prop_oneof![v4, v6, wrapped, any]
}

proptest! {
    /// Whatever comes: headers lie in the packet, the packet in the frame, and the payload in both.
    #[test]
    fn t20_positions_lie_in_the_frame(
        frame in frames(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut frame = frame;
        for (at, octet) in changes {
            if !frame.is_empty() {
                let at = at.index(frame.len());
                frame[at] = octet;
            }
        }
        let bytes = Slice(&frame);
        if let Ok(network) = unwrapped(&frame) {
            prop_assert!(network.l3 + 20 <= network.l4 && network.l4 + 8 <= network.end);
            prop_assert!(network.end as usize <= frame.len());
            let payload = match network.transport {
                UDP => frame::udp(&bytes, &network),
                _ => frame::tcp(&bytes, &network),
            };
            if let Ok(payload) = payload {
                prop_assert!(network.l4 + 8 <= payload.start);
                prop_assert!(payload.start <= payload.end && payload.end <= network.end);
            }
        }
    }
}
