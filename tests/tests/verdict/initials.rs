//! QUIC Initials as clients send them, through kernel and tier: stopped from the one on that completes the name.

use cordon_tests::{
    packet::{
        Hello, Ip, Packet, Transport, Tunnel, VLAN,
        quic::{Client, crypto},
    },
    tiered::{Tiered, datagram_over},
};
use filter_common::{
    layout::Hits,
    verdict::Reason::{self, Dropped, NotListed, QuicCopied},
};

const LISTED: &str = "www.example.com";
const OTHER: &str = "www.example.org";

fn client() -> Client {
    Client::new(&[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08], &[0xa1; 8])
}

/// Datagrams with a listed name are copied until it is whole, and then dropped; with another one, they are copied. The
/// order's counters move by what was dropped.
fn expect(datagrams: impl Fn(&str) -> Vec<Vec<u8>>) {
    for ip in Ip::both() {
        for name in [LISTED, OTHER] {
            let mut border = Tiered::new();
            let frames: Vec<_> = datagrams(name).iter().map(|datagram| datagram_over(ip.clone(), datagram)).collect();
            let count = |border: &Tiered, reason: Reason| {
                border
                    .filter
                    .counters()
                    .iter()
                    .find(|(known, _)| *known == reason)
                    .map_or(0, |(_, count)| count.packets)
            };
            for frame in &frames {
                assert_eq!(border.run(frame), QuicCopied, "{name}");
            }
            let stops = name == LISTED;
            for frame in &frames {
                assert_eq!(border.run(frame), if stops { Dropped } else { QuicCopied }, "{name}");
            }
            let (sent, dropped) = (frames.len() as u64, if stops { frames.len() as u64 } else { 0 });
            assert_eq!([count(&border, QuicCopied), count(&border, Dropped)], [2 * sent - dropped, dropped]);
            assert_eq!(count(&border, NotListed), 0);
            assert_eq!(border.filter.hits("o"), Hits { decided: dropped, concerned: dropped });
        }
    }
}

#[test]
fn q2_padding_ping_and_crypto_frames_shuffled_in_one_datagram() {
    expect(|name| {
        let hello = Hello::new(name).handshake();
        let cuts = [0, 7, 40, 41, 90, 150, hello.len()];
        let mut frames: Vec<_> = cuts.windows(2).map(|ends| crypto(ends[0], &hello[ends[0]..ends[1]])).collect();
        frames.reverse();
        frames.swap(1, 4);
        // PADDING and PING before, between and behind them; one frame twice, another overlapping.
        let twice = frames[2].clone();
        let overlap = crypto(20, &hello[20..120]);
        let between: Vec<u8> = frames.iter().flat_map(|frame| [&[0, 0, 1][..], frame, &[1]].concat()).collect();
        vec![client().initial(&[&[1][..], &between, &twice, &[0; 5], &overlap].concat())]
    });
}

#[test]
fn q3_three_datagrams_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        expect(|name| {
            let hello = Hello::post_quantum(name, false).handshake();
            let mut client = client();
            let cuts = [0, 800, 1600, hello.len()];
            let all: Vec<_> =
                cuts.windows(2).map(|ends| client.initial(&crypto(ends[0], &hello[ends[0]..ends[1]]))).collect();
            order.map(|index| all[index].clone()).to_vec()
        });
    }
}

#[test]
fn q4_the_destination_id_changes_within_a_hello() {
    for second in [vec![0x77; 20], vec![0x78; 4], vec![]] {
        expect(|name| {
            let hello = Hello::post_quantum(name, false).handshake();
            let mut client = client();
            let first = client.initial(&crypto(0, &hello[..1000]));
            // The server's own id (RFC 9000 7.2); the keys stay those of the first one (RFC 9001 5.2).
            client.dcid = second.clone();
            vec![first, client.initial(&crypto(1000, &hello[1000..]))]
        });
    }
}

#[test]
fn q4_two_initials_coalesced() {
    expect(|name| {
        let hello = Hello::new(name).handshake();
        let mut client = client();
        let first = client.initial_packet(&crypto(0, &hello[..100]));
        vec![[first, client.opaque(1, 40), client.initial_packet(&crypto(100, &hello[100..]))].concat()]
    });
}

#[test]
fn q5_version_2_over_two_datagrams() {
    expect(|name| client().v2().datagrams(&Hello::post_quantum(name, false).handshake()));
}

/// Equal addresses, ports and connection ids of two subscribers, told apart by their link or tunnel.
#[test]
fn o07_equal_connections_of_two_subscribers() {
    type Wrapped = fn(Packet) -> Packet;
    let links: [Wrapped; 6] = [
        |packet| packet.tag(VLAN, 7),
        |packet| packet.tag(VLAN, 8),
        |packet| packet.pppoe(7),
        |packet| packet.pppoe(8),
        |packet| packet.mpls(&[7]),
        |packet| packet.tunnel(Tunnel::ip(Ip::between([10, 0, 0, 1].into(), [10, 0, 0, 254].into()))),
    ];
    let datagram = |name: &str| {
        let initial = client().initial(&crypto(0, &Hello::new(name).handshake()));
        Packet::new(Ip::v4(), Transport::udp(443), initial)
    };
    for (one, first) in links.iter().enumerate() {
        for (other, second) in links.iter().enumerate().filter(|(other, _)| *other != one) {
            let mut border = Tiered::new();
            let listed = first(datagram(LISTED)).build();
            assert_eq!([border.run(&listed), border.run(&listed)], [QuicCopied, Dropped], "link {one}");
            let innocent = second(datagram(OTHER)).build();
            assert_eq!([border.run(&innocent), border.run(&innocent)], [QuicCopied; 2], "links {one} and {other}");
            assert_eq!(border.run(&listed), Dropped, "links {one} and {other}");
        }
    }
}
