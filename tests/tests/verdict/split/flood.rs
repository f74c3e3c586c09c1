//! More flows than there is room for: what is lost lets packets pass and never stops one.

use std::{net::Ipv4Addr, time::Instant};

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Connection, Hello, Ip},
};
use filter_common::verdict::Reason::{self, NotListed, Reset, TcpSyn, TlsIncomplete, TlsNotHello};
use filter_user::kernel::Capacity;

use super::{NAME, State};

/// Ten million flows with `CORDON_TEST_FULL`; by default many times what there is room for.
fn flows() -> u32 {
    if std::env::var_os("CORDON_TEST_FULL").is_some() { 10_000_000 } else { 20_000 }
}

/// The n-th flow: an address, port and sequence number of its own.
fn flow(n: u32) -> Connection {
    let mut ip = Ip::v4();
    ip.set_source(Ipv4Addr::from(0x0a00_0000 | n >> 12).into());
    Connection::new(ip, 443).from(1024 + (n & 0xfff) as u16).starting(n.wrapping_mul(0x9e37_79b9))
}

/// Floods with the frames of each flow, which come to these reasons. Meanwhile whole listed hellos are stopped, no
/// other connection is, and the maps take no more memory than when they were full for the first time.
fn flood(filter: &Filter, frames: impl Fn(&Connection) -> Vec<Vec<u8>>, expected: &[Reason]) {
    const CHECKS: u32 = 20;
    let (listed, innocent) = (Hello::new(NAME).build(), Hello::post_quantum("www.example.net", false).build());
    let victim = Connection::new(Ip::v6(), 443);
    let counted = |reason| {
        let counters = filter.counters();
        counters.iter().find(|(known, _)| *known == reason).map_or(0, |(_, counter)| counter.packets)
    };
    let before: Vec<_> = expected.iter().map(|reason| counted(*reason)).collect();
    let (count, started) = (flows(), Instant::now());
    let mut full = None;
    for n in 0..count {
        for frame in frames(&flow(n)) {
            filter.kernel().run(&frame, 1).expect("the kernel takes the frame");
        }
        if (n + 1) % (count / CHECKS) == 0 {
            let reasons = filter.run_all(&victim.opened(&innocent, &[1208]));
            assert_eq!(reasons, [TcpSyn, TlsIncomplete, NotListed]);
            let reasons = filter.run_all(&[victim.data(9000, &[23; 60]), victim.data(0, &listed)]);
            assert_eq!(reasons, [TlsNotHello, Reset]);
            let full = *full.get_or_insert_with(map_memory);
            assert_eq!(map_memory(), full, "octets of maps");
        }
    }
    for (reason, before) in expected.iter().zip(before) {
        let checks = if matches!(reason, TcpSyn | TlsIncomplete | Reset) { CHECKS } else { 0 };
        assert_eq!(counted(*reason) - before, u64::from(count + checks), "{reason:?}");
    }
    println!(
        "{count} flows of {} frames in {:.1} s, {} KiB of maps, {:?}",
        expected.len(),
        started.elapsed().as_secs_f64(),
        map_memory() >> 10,
        State::now(filter),
    );
}

/// Room for flows in this module's filters, which no other test's maps have: marks, messages, and names.
const ROOM: [u32; 3] = [1031, 1033, 1039];

/// Octets of memory that the maps of flows hold (proc_pid_fdinfo(5)).
fn map_memory() -> u64 {
    let folder = std::fs::read_dir("/proc/self/fdinfo").expect("procfs");
    let infos = folder.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let field = |info: &str, name| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    let of_map = |info: String| {
        let is_own = ROOM.iter().any(|room| field(&info, "max_entries:") == Some(u64::from(*room)));
        field(&info, "memlock:").filter(|_| is_own)
    };
    let maps: Vec<u64> = infos.filter_map(of_map).collect();
    assert_eq!(maps.len(), ROOM.len(), "maps of flows");
    maps.iter().sum()
}

#[test]
fn o06_floods() {
    let (other, listed) = (Hello::post_quantum("www.example.net", false), Hello::post_quantum(NAME, false));
    let (other, listed) = (other.build(), listed.build());
    let [connections, messages, remembered] = ROOM;
    let capacity = Capacity { connections, messages, remembered, ..Setup::default().capacity };
    let filter = || Filter::with(Setup { capacity, ..Setup::default() }, [&order("o", ["example.com"])]);
    // SYNs, first halves of hellos, and split hellos with a listed name.
    flood(&filter(), |flow| vec![flow.syn()], &[TcpSyn]);
    flood(&filter(), |flow| vec![flow.data(0, &other[..1208])], &[TlsIncomplete]);
    flood(&filter(), |flow| flow.cut(&listed, &[1208]), &[TlsIncomplete, Reset]);
}
