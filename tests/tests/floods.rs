//! More flows than there is room for: what is lost lets packets pass and never stops one. In a process of its own, whose
//! memory is looked at.

use std::{
    fs,
    time::{Duration, Instant},
};

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Connection, Hello, Ip, Packet, Transport},
};
use filter_common::{
    bytes::Slice,
    flow::{LINES, REMEMBERED, entries, kinds, spot, with, without},
    frame::network,
    layout::REMEMBERED_IDLE,
    verdict::{
        Reason::{self, NotListed, Reset, TcpSyn, TlsIncomplete, TlsNotHello},
        Tally,
    },
};
use filter_user::kernel::Capacity;

const LISTED: &str = "www.example.com";
const OTHER: &str = "www.example.net";
/// Between the halves of hellos.
const HALF: usize = 1208;

/// Flows, and room for them: ten million with the defaults with `CORDON_TEST_FULL`; else fewer, and less.
fn size() -> (u32, Capacity) {
    if std::env::var_os("CORDON_TEST_FULL").is_some() {
        return (10_000_000, Capacity { names: 16, ..Capacity::default() });
    }
    (200_000, Capacity { connections: 4096, messages: 2048, remembered: 1024, ..Setup::default().capacity })
}

/// Frames that each flow sends, with an address, a port and sequence numbers of its own.
struct Flow(Vec<Vec<u8>>);

impl Flow {
    /// The frames of the n-th flow. Checksums are not looked at.
    fn frames(&mut self, n: u32) -> &[Vec<u8>] {
        let [a, b, c, d] = (0x0a00_0000 | n >> 12).to_be_bytes();
        let port = (1024 + (n & 0xfff) as u16).to_be_bytes();
        let mut at = n.wrapping_mul(0x9e37_79b9);
        for frame in &mut self.0 {
            frame[26..30].copy_from_slice(&[a, b, c, d]);
            frame[34..36].copy_from_slice(&port);
            frame[38..42].copy_from_slice(&at.to_be_bytes());
            at = at.wrapping_add(HALF as u32);
        }
        &self.0
    }
}

/// Floods, which come to these reasons and nothing else. Meanwhile listed hellos are stopped, whole and split, and
/// no other connection is; and neither the maps nor this process take more memory than at the beginning.
fn flood(what: &str, mut flow: Flow, expected: &[Reason]) {
    const CHECKS: u32 = 20;
    let (count, capacity) = size();
    let filter = Filter::with(Setup { capacity, ..Setup::default() }, [&order("o", ["example.com"])]);
    let tables = filter.kernel().tables();
    let memory = || tables.flow_maps().expect("the maps").map(|map| map.octets);
    let [listed, other] = [LISTED, OTHER].map(|name| Hello::post_quantum(name, false).build());
    let whole = Hello::new(LISTED).build();
    let victim = Connection::new(Ip::v6(), 443);
    let (mut evicted, mut began) = (0, None);
    let maps = memory();
    let started = Instant::now();
    let mut run = |from: u32, to: u32| {
        let before = filter.counters();
        for n in from..to {
            for frame in flow.frames(n) {
                filter.kernel().run(frame, 1).expect("the kernel takes the frame");
            }
        }
        for ((reason, before), (_, after)) in before.iter().zip(filter.counters()) {
            let packets = expected.iter().filter(|expected| *expected == reason).count() as u64 * u64::from(to - from);
            assert_eq!(after.packets - before.packets, packets, "{reason:?}");
        }
    };
    for check in 0..CHECKS {
        let (from, to) = (count / CHECKS * check, count / CHECKS * (check + 1));
        run(from, to - BETWEEN);
        assert_eq!(filter.run_all(&victim.opened(&other, &[HALF])), [TcpSyn, TlsIncomplete, NotListed]);
        assert_eq!(filter.run_all(&[victim.data(9000, &[23; 60]), victim.data(0, &whole)]), [TlsNotHello, Reset]);
        assert_eq!(filter.run_all(&victim.opened(&listed, &[HALF])), [TcpSyn, TlsIncomplete, Reset]);
        // With some of the flood between the halves, one may be lost.
        let split = victim.clone().starting(7_000_000).opened(&listed, &[HALF]);
        assert_eq!(filter.run_all(&split[..2]), [TcpSyn, TlsIncomplete]);
        run(to - BETWEEN, to);
        match filter.run_all(&split[2..])[..] {
            [Reset] => {}
            [TlsNotHello] => evicted += 1,
            ref other => panic!("{other:?}"),
        }
        assert_eq!(memory(), maps, "octets of maps");
        let (grown, began) = (resident(), *began.get_or_insert_with(resident));
        assert!(grown < began + (16 << 20), "{began} octets of this process became {grown}");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what}: {count} flows in {seconds:.1} s; {evicted} of {CHECKS} split hellos lost; {} KiB resident",
        resident() >> 10
    );
    for (map, entries) in tables.flow_maps().expect("the maps").iter().zip(tables.flow_entries().expect("the maps")) {
        println!("  {map:?}, {entries} entries");
        assert!(entries <= map.capacity.into());
        // Pressure shows: more was made than is done with, and than there is room for.
        let is_pressed = map.set - map.done > map.capacity.into();
        let is_flooded = match map.name {
            "SYN_MARKS" => expected == [TcpSyn],
            "STREAMS" => expected == [TlsIncomplete],
            _ => expected.contains(&Reset),
        };
        assert_eq!(is_pressed, is_flooded, "{map:?}");
    }
    let share = stale(&filter);
    println!("  a tag of another flow for {:.4} % of flows", share * 100.0);
    assert!(share < 1.5 * 4.0 / 16383.0, "four tags of 14 bits in a line: {share}");

    // Names that no packet meets any more go, and so do their tags, which would stay before those of other flows.
    let later = boot_time() + REMEMBERED_IDLE + 1_000_000_000;
    let stopped = victim.opened(&listed, &[HALF]);
    assert_eq!(filter.run_all(&stopped), [TcpSyn, TlsIncomplete, Reset]);
    assert_eq!(tables.sweep_names_at(boot_time()).expect("tables"), 0, "none is past yet");
    assert_eq!(filter.run_all(&stopped[2..]), [Reset]);
    let [.., names] = tables.flow_entries().expect("the maps");
    assert_eq!(tables.sweep_names_at(later).expect("tables") as u64, names);
    let [.., names] = tables.flow_entries().expect("the maps");
    let tags = tables.flow_tags();
    let named = tags.iter().flat_map(|line| entries(*line)).filter(|(_, kind)| kind & REMEMBERED != 0).count();
    println!("  {names} names and {named} tags of names after a sweep, {:.4} %", stale(&filter) * 100.0);
    assert_eq!((names, named), (0, 0));
    assert_eq!(filter.run_all(&stopped), [TcpSyn, TlsIncomplete, Reset]);
}

/// Flows of the flood between two halves of a hello.
const BETWEEN: u32 = 100;

/// The share of flows nobody has seen for which the tags announce state.
fn stale(filter: &Filter) -> f64 {
    const FLOWS: u64 = 1 << 20;
    let tables = filter.kernel().tables();
    let lines = tables.flow_tags();
    let mut frame = Packet::new(Ip::v4(), Transport::tcp(443), Vec::new()).build();
    let network = network(&Slice(&frame)).expect("a good frame");
    let hits = (0..FLOWS).filter(|n| {
        let [.., a, b, c, d] = n.to_be_bytes();
        // Sources and ports that no flood has.
        frame[26..30].copy_from_slice(&[198, 18 | a & 1, b, c]);
        frame[34..36].copy_from_slice(&[0x80 | b & 0x7f, d]);
        let spot = spot(&Slice(&frame), &network, &tables.spot_key()).expect("a good frame");
        kinds(lines[spot.line as usize], spot.tag).is_some()
    });
    hits.count() as f64 / FLOWS as f64
}

/// Octets of memory of this process (proc_pid_statm(5)).
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 = text.split(' ').nth(1).expect("resident").parse().expect("a number");
    pages * 4096
}

/// The boot-time clock, nanoseconds.
fn boot_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_nanos() as u64
}

#[test]
fn o06_floods() {
    let any = Connection::new(Ip::v4(), 443);
    let [listed, other] = [LISTED, OTHER].map(|name| Hello::post_quantum(name, false).build());
    flood("SYNs", Flow(vec![any.syn()]), &[TcpSyn]);
    flood("first halves of hellos", Flow(vec![any.data(0, &other[..HALF])]), &[TlsIncomplete]);
    flood("listed split hellos", Flow(any.cut(&listed, &[HALF])), &[TlsIncomplete, Reset]);
}

/// What the tags have no room for shows in a number.
#[test]
fn o06_tags_that_give_way_are_counted() {
    const FLOWS: u32 = 40_000;
    let capacity = Capacity { connections: 1 << 16, ..Setup::default().capacity };
    let filter = Filter::with(Setup { capacity, ..Setup::default() }, [&order("o", ["example.com"])]);
    let tables = filter.kernel().tables();
    let mut flow = Flow(vec![Connection::new(Ip::v4(), 443).syn()]);
    let network = network(&Slice(&flow.0[0])).expect("a good frame");
    let mut lines = vec![0; LINES as usize];
    let mut displaced = 0;
    for n in 0..FLOWS {
        let frame = &flow.frames(n)[0];
        filter.kernel().run(frame, 1).expect("the kernel takes the frame");
        let spot = spot(&Slice(frame), &network, &tables.spot_key()).expect("a good frame");
        let line = &mut lines[spot.line as usize];
        // A SYN ends what the tag announced before.
        *line = without(*line, spot.tag);
        displaced += u64::from(entries(*line).count() == 4);
        *line = with(*line, spot.tag, 0);
    }
    assert_eq!(tables.flow_tags(), lines);
    let counted = tables.tallies().expect("the map");
    assert_eq!(
        counted.iter().find(|(tally, _)| *tally == Tally::TagsDisplaced).map(|(_, count)| *count),
        Some(displaced)
    );
    println!("{displaced} of {FLOWS} flows without a tag");
    assert!(displaced >= u64::from(FLOWS - 4 * LINES), "no more than four in a line");
}

/// After ordinary connections nothing is left but what must be remembered: the names of those that were stopped.
#[test]
fn state_goes_when_it_is_not_needed() {
    const EACH: u16 = 300;
    let capacity = Capacity { connections: 8192, messages: 8192, remembered: 8192, ..Setup::default().capacity };
    let filter = Filter::with(Setup { capacity, ..Setup::default() }, [&order("o", ["example.com"])]);
    let tables = filter.kernel().tables();
    let [listed, other] = [LISTED, OTHER].map(|name| Hello::post_quantum(name, false).build());
    let (whole, small) = (Hello::new(LISTED).build(), Hello::new(OTHER).build());
    for n in 0..EACH {
        for ip in Ip::both() {
            let connection = |kind: u16| Connection::new(ip.clone(), 443).from(1024 + 4 * n + kind);
            let frames = connection(0).opened(&other, &[HALF]);
            assert_eq!(filter.run_all(&frames), [TcpSyn, TlsIncomplete, NotListed]);
            assert_eq!(filter.run_all(&connection(1).opened(&small, &[])), [TcpSyn, NotListed]);
            assert_eq!(filter.run_all(&connection(2).opened(&whole, &[])), [TcpSyn, Reset]);
        }
    }
    assert_eq!(tables.flow_entries().expect("the maps"), [0, 0, 0]);
    assert_eq!(tables.flow_tags().iter().filter(|line| **line != 0).count(), 0);
    for n in 0..EACH {
        let stopped = Connection::new(Ip::v6(), 443).from(1024 + 4 * n + 3);
        assert_eq!(filter.run_all(&stopped.opened(&listed, &[HALF])), [TcpSyn, TlsIncomplete, Reset]);
    }
    assert_eq!(tables.flow_entries().expect("the maps"), [0, 0, EACH.into()]);
    for n in 0..EACH {
        let next = Connection::new(Ip::v6(), 443).from(1024 + 4 * n + 3).starting(9);
        assert_eq!(filter.run_all(&next.opened(&small, &[])), [TcpSyn, NotListed]);
    }
    assert_eq!(tables.flow_entries().expect("the maps"), [0, 0, 0]);
    assert_eq!(tables.flow_tags().iter().filter(|line| **line != 0).count(), 0);
}
