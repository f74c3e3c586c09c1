//! The benchmark object takes its packets in turn.

use cordon_tests::packet::{Ip, Packet, Query, Transport};
use filter_common::verdict::Reason;
use filter_user::kernel::{Bench, Entry, Error, LONG, SHORT};

use crate::support::CAPACITY;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

#[test]
fn each_run_takes_the_next_packet() {
    let bench = Bench::new(&CAPACITY, 4, 2, 2).unwrap();
    // The third packet is IPv4 of no length at all.
    let empty = [&[0x88; 12][..], &[0x08, 0x00, 0x45]].concat();
    bench.short().set([vec![0x88; SHORT], vec![0x88; 60], empty].into_iter()).unwrap();
    bench.long().set([vec![0x88; LONG], vec![0x88; 60]].into_iter()).unwrap();
    let mut programs: Vec<_> = bench.programs().map(|program| program.name.as_str()).collect();
    programs.sort_unstable();
    assert_eq!(
        programs,
        [
            "long_copy",
            "long_empty",
            "long_run",
            "nothing",
            "short_bucket",
            "short_empty",
            "short_line",
            "short_names",
            "short_port",
            "short_run"
        ]
    );

    let counted = || {
        let counters = bench.tables().counters().unwrap();
        let of = |reason| counters.iter().find(|(found, _)| *found == reason).unwrap().1.packets;
        (of(Reason::NotIp), of(Reason::FrameMalformed))
    };
    bench.run(Entry::ShortRun, 9).unwrap();
    assert_eq!(counted(), (6, 3));
    bench.run(Entry::LongRun, 4).unwrap();
    assert_eq!(counted(), (10, 3));
    for entry in [Entry::ShortEmpty, Entry::LongEmpty, Entry::Nothing] {
        bench.run(entry, 100).unwrap();
    }
    assert_eq!(counted(), (10, 3));
    let five = std::iter::repeat_n(vec![0x88; 60], 5);
    assert!(matches!(bench.short().set(five), Err(Error::Full { .. })));
}

#[test]
fn the_plain_programs_drop_what_they_are_to() {
    let bench = Bench::new(&CAPACITY, 4, 1, 2).unwrap();
    bench.plain().list([&b"\x07example\x03net"[..], b"\x03www\x07example\x03org"]).unwrap();
    let last = |entry, frame: Vec<u8>| {
        bench.short().set([frame].into_iter()).unwrap();
        bench.rewind(entry).unwrap();
        bench.outcome(entry, 1).unwrap().xdp_action
    };
    let query = |name: &str| Packet::dns(Ip::v4(), &Query::new(name)).build();
    for (name, action) in [
        ("example.net", XDP_DROP),
        ("a.b.example.net", XDP_DROP),
        ("a.b.c.d.example.net", XDP_PASS),
        ("www.example.org", XDP_DROP),
        ("example.org", XDP_PASS),
        ("net", XDP_PASS),
    ] {
        assert_eq!(last(Entry::ShortNames, query(name)), action, "{name}");
    }
    let segment = |port| Packet::new(Ip::v4(), Transport::tcp(port), vec![0x17; 40]).build();
    assert_eq!(last(Entry::ShortPort, segment(443)), XDP_DROP);
    assert_eq!(last(Entry::ShortPort, segment(444)), XDP_PASS);
}

#[test]
fn the_plain_program_copies_what_it_fetches() {
    let bench = Bench::new(&CAPACITY, 1, 1, 1).unwrap();
    let mut copies = bench.copies().unwrap();
    let payload: Vec<u8> = (0..=255).cycle().take(LONG - 42).collect();
    bench.long().set([Packet::new(Ip::v4(), Transport::udp(443), payload.clone()).build()].into_iter()).unwrap();
    bench.rewind(Entry::LongCopy).unwrap();
    assert_eq!(bench.outcome(Entry::LongCopy, 1).unwrap().xdp_action, XDP_DROP);
    let mut copied = Vec::new();
    assert_eq!(copies.drain(|copy| copied.push(copy.payload[..usize::from(copy.len)].to_vec())), 1);
    assert_eq!(copied, [payload]);
}
