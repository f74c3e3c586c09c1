//! Frames with PPPoE, MPLS or a tunnel: positions lie in the frame, what is inside is read as it is by itself, and flows
//! that only what is around them tells apart are told apart.

use arbitrary::{Result as Made, Unstructured};
use cordon_tests::packet::{Ip, Link, Packet, QINQ, Query, Tunnel, VLAN};
use filter_common::{
    bytes::Slice,
    frame::{self, Network},
    verdict::Reason,
};

/// Reads a frame: the octets behind the first, or one that they describe.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0, frame)) => raw(frame),
        // Octets that run out make zeros: then there is an empty case.
        Some((_, described)) => drop(built(&mut Unstructured::new(described))),
        None => {}
    }
}

fn raw(frame: &[u8]) {
    let Some(network) = unwrapped(frame) else { return };
    let (l3, end) = (network.l3 as usize, network.end as usize);
    assert!(14 <= network.base() && network.base() <= network.l3 && network.l3 < network.l4, "{network:?}");
    assert!(network.l4 + 8 <= network.end && end <= frame.len(), "{network:?}");
    let scope = frame::scope_source(&network);
    assert!(scope.at == network.l3 || scope.at == network.outer, "{scope:?}");
    words(frame, &network);
    // Of a tunnel's first fragment, what is inside is not whole.
    if network.outer != 0 && network.fragment == 1 {
        return;
    }

    let ethertype = if network.version == 4 { [8, 0] } else { [0x86, 0xdd] };
    let alone = [&[0; 12][..], &ethertype, &frame[l3..end]].concat();
    let expected = Network {
        l3: 14,
        l4: network.l4 - network.l3 + 14,
        end: alone.len() as u32,
        version: network.version,
        transport: network.transport,
        fragment: network.fragment,
        ..Network::default()
    };
    assert_eq!(frame::read(&Slice(&alone)), Ok(expected), "by itself");
}

fn unwrapped(frame: &[u8]) -> Option<Network> {
    let bytes = Slice(frame);
    if frame::network(&bytes) != Err(Reason::Encapsulated) {
        return None;
    }
    let mut network = Network::default();
    frame::unwrap(&bytes, &mut network, |network| frame::header(&bytes, network)).ok()?;
    Some(network)
}

fn words(frame: &[u8], network: &Network) -> [u64; 6] {
    let mut words = [u64::MAX; 6];
    frame::link_words(&Slice(frame), network, &mut words).expect("they lie before the packet");
    words
}

fn built(u: &mut Unstructured) -> Made<()> {
    let mut packet = Packet::dns(ip(u)?, &Query::new("www.example.com"));
    for _ in 0..u.int_in_range(0..=2)? {
        packet = packet.tag(*u.choose(&[VLAN, QINQ])?, u.arbitrary()?);
    }
    packet.link = match u.int_in_range(0..=2)? {
        0 => Link::Plain,
        1 => Link::Pppoe { session: u.arbitrary()?, protocol: None, length: None },
        _ => Link::Mpls((0..u.int_in_range(1..=4)?).map(|_| u.int_in_range(0..=LABEL)).collect::<Made<_>>()?),
    };
    if u.arbitrary()? || matches!(packet.link, Link::Plain) {
        packet.tunnel = Some(tunnel(u)?);
    }
    packet.trailer = vec![0; u.int_in_range(0..=8)?];
    let frame = packet.build();
    raw(&frame);
    let network = unwrapped(&frame).expect("a good frame");
    let positions = packet.positions();
    assert_eq!(
        [network.base(), network.l3, network.l4].map(|at| at as usize),
        [positions.outer, positions.l3, positions.l4]
    );

    let before = words(&frame, &network);
    another(u, &mut packet)?;
    let frame = packet.build();
    assert_ne!(words(&frame, &unwrapped(&frame).expect("a good frame")), before, "another link: another flow");
    Ok(())
}

fn ip(u: &mut Unstructured) -> Made<Ip> {
    Ok(if u.arbitrary()? { Ip::v4() } else { Ip::v6() })
}

fn tunnel(u: &mut Unstructured) -> Made<Tunnel> {
    let ip = ip(u)?;
    if u.arbitrary()? {
        return Ok(Tunnel::ip(ip));
    }
    let flags: u8 = u.arbitrary::<u8>()? & 0xb0;
    let options = 4 * (flags.count_ones() as usize);
    Ok(Tunnel::gre(ip, &[&[flags, 0][..], &vec![u.arbitrary()?; options]].concat()))
}

/// Changes one thing that tells flows apart.
fn another(u: &mut Unstructured, packet: &mut Packet) -> Made<()> {
    let mut changes: Vec<fn(&mut Packet, u16)> = Vec::new();
    if !packet.tags.is_empty() {
        changes.push(|packet, by| packet.tags[0].1 ^= 1 + by % 0xfff);
    }
    match &packet.link {
        Link::Pppoe { .. } => changes.push(|packet, by| {
            if let Link::Pppoe { session, .. } = &mut packet.link {
                *session ^= by.max(1);
            }
        }),
        Link::Mpls(_) => changes.push(|packet, by| {
            if let Link::Mpls(labels) = &mut packet.link {
                let index = usize::from(by) % labels.len();
                labels[index] ^= u32::from(by.max(1));
            }
        }),
        _ => {}
    }
    if packet.tunnel.is_some() {
        changes.push(|packet, by| {
            if let Some(tunnel) = &mut packet.tunnel {
                let [high, low] = by.to_be_bytes();
                tunnel.ip.set_source(if tunnel.ip.is_v4() {
                    [10, 77, high, low].into()
                } else {
                    [0x2001, 0xdb8, 0x77, 0, 0, 0, 0, by].into()
                });
            }
        });
    }
    let change = *u.choose(&changes)?;
    change(packet, u.arbitrary()?);
    Ok(())
}

/// The greatest MPLS label.
const LABEL: u32 = 0xf_ffff;
