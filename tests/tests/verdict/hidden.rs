//! D6 and others: what names cannot be seen is counted.

use std::net::{IpAddr, Ipv4Addr};

use cordon_tests::{
    harness::{Filter, Run, Setup},
    order::order,
    packet::{
        Hello, Ip, Packet, Transport, flag,
        quic::{Client, crypto},
    },
};
use filter_common::{
    resolver::{self, Summary},
    verdict::{
        Reason::{self, NotListed, NotWatched, QuicNoTier, QuicVersion, Reset, TcpSyn, TlsNoSni},
        Tally,
    },
};
use filter_user::kernel::TlsPorts;

const NAME: &str = "dns.example.com";

/// A filter, and a known resolver of each IP version.
fn filter(setup: Setup) -> Filter {
    let filter = Filter::with(setup, [&order("o", ["example.com"])]);
    filter.kernel().tables().set_resolvers(&["9.9.9.9", "2620:fe::9"].map(|text| text.parse().unwrap())).unwrap();
    filter
}

fn to_resolver() -> [Ip; 2] {
    let [mut v4, mut v6] = Ip::both();
    v4.set_destination("9.9.9.9".parse().unwrap());
    v6.set_destination("2620:fe::9".parse().unwrap());
    [v4, v6]
}

#[track_caller]
fn judge(filter: &Filter, ip: &Ip, transport: Transport, payload: &[u8], reason: Reason) -> Vec<(Tally, u64)> {
    filter.forget_flows();
    let Run { reason: judged, mut tallies, .. } =
        filter.run_in_kernel(&Packet::new(ip.clone(), transport, payload.to_vec()).build());
    assert_eq!(judged, reason);
    // State, and copies that no tier was there for, are other tests' concern.
    tallies.retain(|(tally, _)| matches!(tally, Tally::Dot | Tally::Doq | Tally::Doh | Tally::DohQuic));
    tallies
}

fn syn(port: u16) -> Transport {
    Transport::tcp(port).flags(flag::SYN)
}

#[test]
fn d6_connections_of_dns_over_tls() {
    let filter = filter(Setup::default());
    for ip in Ip::both().into_iter().chain(to_resolver()) {
        assert_eq!(judge(&filter, &ip, syn(853), &[], NotWatched), [(Tally::Dot, 1)]);
        // Once for a connection: not its data, nor its end; and not what is on other ports.
        let hello = Hello::new(NAME).build();
        assert_eq!(judge(&filter, &ip, Transport::tcp(853), &hello, NotWatched), []);
        assert_eq!(judge(&filter, &ip, Transport::tcp(853).flags(flag::FIN | flag::ACK), &[], NotWatched), []);
        assert_eq!(judge(&filter, &ip, syn(8853), &[], NotWatched), []);
    }
}

/// The resolver's own name can be read, where the configuration has TLS read on that port. The names that it is asked
/// for cannot.
#[test]
fn d6_only_the_resolvers_own_name_is_visible() {
    let filter = filter(Setup { tls_ports: TlsPorts::List(vec![443, 853]), ..Setup::default() });
    for ip in Ip::both() {
        assert_eq!(judge(&filter, &ip, syn(853), &[], TcpSyn), [(Tally::Dot, 1)]);
        assert_eq!(judge(&filter, &ip, Transport::tcp(853), &Hello::new(NAME).build(), Reset), []);
        assert_eq!(judge(&filter, &ip, Transport::tcp(853), &Hello::new("dns.example").build(), NotListed), []);
        // Encrypted: as any other data.
        let query = [&[23, 3, 3, 0, 60][..], &[0xa5; 60]].concat();
        assert_eq!(judge(&filter, &ip, Transport::tcp(853), &query, Reason::TlsNotHello), []);
    }
}

#[test]
fn d6_connections_to_known_resolvers() {
    let filter = filter(Setup { tls_ports: TlsPorts::List(vec![443, 8443]), ..Setup::default() });
    for (known, other) in to_resolver().into_iter().zip(Ip::both()) {
        for port in [443, 8443] {
            assert_eq!(judge(&filter, &known, syn(port), &[], TcpSyn), [(Tally::Doh, 1)]);
            assert_eq!(judge(&filter, &other, syn(port), &[], TcpSyn), []);
        }
        assert_eq!(judge(&filter, &known, Transport::tcp(443), &Hello::new("dns.quad9.net").build(), NotListed), []);
        // On a port where nothing is read, and DNS in the clear, which can be seen.
        assert_eq!(judge(&filter, &known, syn(80), &[], NotWatched), []);
        assert_eq!(judge(&filter, &known, syn(53), &[], TcpSyn), []);
        // From a resolver.
        let mut back = known.clone();
        back.set_source(known.destination());
        back.set_destination(other.destination());
        assert_eq!(judge(&filter, &back, syn(443), &[], TcpSyn), []);
    }
}

/// A look-up is spared by a summary in which addresses share bits.
#[test]
fn d6_addresses_that_share_a_bit_with_a_known_resolver_are_others() {
    let filter = filter(Setup::default());
    let words = |address: Ipv4Addr| [0, 0xffff_0000_0000 | u64::from(address.to_bits())];
    let known = Ipv4Addr::new(9, 9, 9, 9);
    let mut summary = Summary::default();
    resolver::add(&mut summary, words(known));
    let twin =
        (0x0a00_0000..).map(Ipv4Addr::from_bits).find(|address| resolver::may_be_known(&summary, words(*address)));
    let twin = twin.unwrap();
    let counted = || {
        [known, twin].map(|address| {
            let mut ip = Ip::v4();
            ip.set_destination(address.into());
            judge(&filter, &ip, syn(443), &[], TcpSyn) == [(Tally::Doh, 1)]
        })
    };
    assert_eq!(counted(), [true, false]);
    for (resolvers, expected) in
        [(&[twin][..], [false, true]), (&[known, twin], [true, true]), (&[], [false, false]), (&[known], [true, false])]
    {
        let resolvers: Vec<IpAddr> = resolvers.iter().map(|address| (*address).into()).collect();
        filter.kernel().tables().set_resolvers(&resolvers).unwrap();
        assert_eq!(counted(), expected, "{resolvers:?}");
    }
}

#[test]
fn d6_initials_of_dns_over_quic_and_to_known_resolvers() {
    let filter = filter(Setup::default());
    for client in [Client::new(&[7; 8], &[8; 4]), Client::new(&[7; 8], &[]).v2()] {
        let initial = client.clone().initial(&crypto(0, &Hello::new(NAME).handshake()));
        for (known, other) in to_resolver().into_iter().zip(Ip::both()) {
            for ip in [&known, &other] {
                assert_eq!(judge(&filter, ip, Transport::udp(853), &initial, NotWatched), [(Tally::Doq, 1)]);
                for data in [client.short(40), client.opaque(2, 40), b"no QUIC".to_vec(), initial[..900].to_vec()] {
                    assert_eq!(judge(&filter, ip, Transport::udp(853), &data, NotWatched), []);
                }
                assert_eq!(judge(&filter, ip, Transport::udp(8853), &initial, NotWatched), []);
            }
            assert_eq!(judge(&filter, &known, Transport::udp(443), &initial, QuicNoTier), [(Tally::DohQuic, 1)]);
            assert_eq!(judge(&filter, &other, Transport::udp(443), &initial, QuicNoTier), []);
            assert_eq!(judge(&filter, &known, Transport::udp(443), &client.short(40), Reason::QuicShort), []);
        }
    }
}

/// Each of these has a counter of its own among the reasons.
#[test]
fn q7_t12b_unknown_versions_and_hellos_without_a_name() {
    let filter = filter(Setup::default());
    for ip in Ip::both() {
        let mut initial = Client::new(&[7; 8], &[]).initial(&crypto(0, &Hello::new(NAME).handshake()));
        for version in [0x0000_0002_u32, 0xff00_001d, 0x5130_3530, 0x1a2a_3a4a, 0] {
            initial[1..5].copy_from_slice(&version.to_be_bytes());
            assert_eq!(judge(&filter, &ip, Transport::udp(443), &initial, QuicVersion), []);
        }
        assert_eq!(judge(&filter, &ip, Transport::tcp(443), &Hello::anonymous().build(), TlsNoSni), []);
    }
}
