//! The host's judgement and the kernel's are the same, over frames that nobody would send. (Over all the frames of the
//! other tables, `Filter::run` compares them.)

use cordon_tests::{
    cases,
    harness::{Filter, Setup},
    order::order,
    packet::{Edns, Extension, Fragment, Hello, Ip, Packet, QINQ, Query, Transport, VLAN, flag, server_name},
};
use filter_common::verdict::Action;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// A change of a frame.
#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Add(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    /// Goes on as another frame does from there on.
    Splice(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    // Octets that mean something, and any.
    let octet =
        prop_oneof![prop::sample::select(&[0, 1, 3, 6, 17, 22, 41, 44, 53, 63, 64, 0x81, 0xc0, 0xff][..]), any::<u8>()];
    prop_oneof![
        4 => (at(), octet).prop_map(|(at, octet)| Mutation::Set(at, octet)),
        4 => (at(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        2 => (at(), prop::sample::select(&[1_u8, 2, 4, 0xff, 0xfe][..])).prop_map(|(at, octet)| Mutation::Add(at, octet)),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), 1_usize..9).prop_map(|(at, octets)| Mutation::Remove(at, octets)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, octets)| Mutation::Insert(at, octets)),
        1 => (at(), at()).prop_map(|(at, other)| Mutation::Splice(at, other)),
    ]
}

fn mutate(frame: &mut Vec<u8>, mutation: &Mutation, frames: &[Vec<u8>]) {
    let len = frame.len();
    match mutation {
        Mutation::Set(at, octet) => frame[at.index(len)] = *octet,
        Mutation::Flip(at, bit) => frame[at.index(len)] ^= 1 << bit,
        Mutation::Add(at, octet) => {
            let octet_there = &mut frame[at.index(len)];
            *octet_there = octet_there.wrapping_add(*octet);
        }
        Mutation::Cut(at) => frame.truncate(at.index(len)),
        Mutation::Remove(at, octets) => {
            let at = at.index(len);
            frame.drain(at..len.min(at + octets));
        }
        Mutation::Insert(at, octets) => drop(frame.splice(at.index(len)..at.index(len), octets.iter().copied())),
        Mutation::Splice(at, other) => {
            let at = at.index(len);
            frame.truncate(at);
            let other = &frames[other.index(frames.len())];
            frame.extend(other.get(at..).unwrap_or_default());
        }
    }
    // BPF_PROG_TEST_RUN takes no less than an Ethernet header.
    frame.resize(frame.len().max(14), 0);
}

fn frames() -> Vec<Vec<u8>> {
    let chain = [Extension::new(0, 0), Fragment::Atomic.ipv6(), Extension::authentication(1), Extension::new(60, 3)];
    let networks = [
        Ip::v4(),
        Ip::v4().options(&[1; 8]),
        Ip::v4().fragment(Fragment::First),
        Ip::v6(),
        Ip::v6().extensions(&chain),
        Ip::v6().fragment(Fragment::First),
    ];
    let queries = [
        Query::new("www.example.com"),
        Query::new("a.b.c.d.e.f.g.example.net").edns(&Edns::new(1232).cookie(8).client_subnet().padding(12)),
        Query::new("www.exact.example").edns(&Edns::new(4096).dnssec_ok()).tsig(),
        Query::new("allowed.example.com").trailing(&[1, 2, 3]),
    ];
    let other = [(0x2a2a, Vec::new()), (16, b"\x00\x03\x02h2".to_vec())];
    let hellos = [
        Hello::new("www.example.com").grease(),
        Hello::name_last("x.y.example.net."),
        Hello::with_extensions(other.into_iter().chain([server_name("exact.example"), server_name("example.com")])),
        Hello::post_quantum("www.example.com", true).records(&[1400]),
    ];
    let mut packets = Vec::new();
    for ip in networks {
        packets.extend(queries.iter().map(|query| Packet::dns(ip.clone(), query)));
        packets.extend(hellos.iter().map(|hello| Packet::tls(ip.clone(), hello)));
        let fast_open = Transport::tcp(443).flags(flag::SYN).options(&[34, 2, 1, 1]);
        packets.push(Packet::new(ip, fast_open, Hello::new("example.com").build()).padded(5));
    }
    let tagged: Vec<_> = packets
        .iter()
        .enumerate()
        .map(|(n, packet)| match n % 3 {
            0 => packet.clone().tag(VLAN, 7),
            1 => packet.clone().tag(QINQ, 7).tag(VLAN, 8),
            _ => packet.clone().tag(VLAN, 1).tag(VLAN, 2).tag(VLAN, 3),
        })
        .collect();
    packets.iter().chain(&tagged).map(Packet::build).collect()
}

#[test]
fn t20_host_and_kernel_agree_on_mutated_frames() {
    let cases = cases(40_000);
    let setup = Setup { scopes: vec![("near", vec!["192.0.2.0/25".parse().expect("a prefix")])], ..Setup::default() };
    let orders = [
        order("a", ["example.com"]),
        order("b", ["example.net"]).scopes(["near"]).both(Action::Drop),
        order("c", ["exact.example"]).exact().both(Action::Nodata),
        order("d", ["www.example.com"]).exact().both(Action::Observe),
        order("e", ["d.e.f.g.example.net"]).tls(None),
    ];
    let mut filter = Filter::with(setup, &orders);
    filter.allow(["allowed.example.com"]);
    let frames = frames();
    for frame in &frames {
        filter.run(frame);
    }
    let mutated = (any::<prop::sample::Index>(), prop::collection::vec(mutation(), 1..6));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&mutated, |(frame, mutations)| {
        let mut frame = frames[frame.index(frames.len())].clone();
        for mutation in &mutations {
            mutate(&mut frame, mutation, &frames);
        }
        filter.run(&frame);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
