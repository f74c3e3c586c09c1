//! The thread that reads copies, and what the kernel does where it does not: each is counted, and meets what `[quic]`
//! says.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use cordon_tests::{
    harness::Filter,
    order::order,
    packet::{
        Hello, Ip,
        quic::{Client, crypto},
    },
    tiered::{Tiered, datagram_over},
};
use filter_common::{
    layout::quic_mode,
    verdict::{Action, Reason, Tally},
};
use filter_user::{
    deferred::{
        Limits,
        reader::{self, Turn, Watch},
        tier::Tier,
    },
    kernel::Behaviour,
};

/// Each name on a connection of its own.
fn initial(name: &str) -> Vec<u8> {
    let id = name.bytes().last().unwrap_or_default();
    let mut client = Client::new(&[0x83; 8], &[id; 8]);
    datagram_over(Ip::v4(), &client.initial(&crypto(0, &Hello::new(name).handshake())))
}

/// The thread ends with the test, however that ends.
struct Ends<'a>(&'a Watch);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn after_a_failure_the_reader_begins_anew_and_counts_it() {
    let filter = Filter::new([&order("o", ["example.com"]).quic(Action::Drop)]);
    let first = initial("www.example.com");
    let mut copies = filter.kernel().copies().expect("rings");
    let tables = filter.kernel().tables();
    let (watch, fails) = (Watch::default(), AtomicBool::new(true));
    tables.beat();
    thread::scope(|scope| {
        let _ends = Ends(&watch);
        scope.spawn(|| {
            reader::run(&mut copies, tables, &watch, || {
                let (mut tier, fails, counts) = (Tier::new(Limits::default()), &fails, &watch.counts);
                move |turn| {
                    assert!(!fails.swap(false, Relaxed), "a failure on purpose");
                    match turn {
                        Turn::Copy(copy) => tier.read(copy, tables, counts).map(drop),
                        Turn::Ends => tier.write(tables, counts),
                    }
                }
            });
        });
        assert_eq!(filter.run_in_kernel(&first).tallies, [(Tally::Copied, 1)]);
        eventually("a restart", || watch.status().restarts == 1);
        // That copy is lost; the client sends again. To tell of the failure may take longer than the tier may be silent.
        tables.beat();
        assert_eq!(filter.run_in_kernel(&first).tallies, [(Tally::Copied, 1)]);
        eventually("a name", || watch.status().decided == 1);
        eventually("a verdict", || watch.status().listed == 1);
        assert_eq!(filter.run_in_kernel(&first).reason, Reason::Dropped);
        let status = watch.status();
        assert!(status.alive);
        let others = [status.undecided, status.nameless, status.junk, status.incomplete, status.failed];
        assert_eq!((status.restarts, status.decided, status.listed, others), (1, 1, 1, [0; 5]));
    });
    thread::sleep(Duration::from_millis(1100));
    assert!(!watch.status().alive);
    let other = initial("www.example.org");
    let run = filter.run_in_kernel(&other);
    assert_eq!((run.reason, &run.tallies[..]), (Reason::QuicNoTier, &[(Tally::NoTier, 1)][..]));
}

/// The reader writes the names of several copies together.
#[test]
fn every_connection_of_many_at_once_is_stopped_or_not() {
    const CONNECTIONS: u8 = 70;

    let filter = Filter::new([&order("o", ["example.com"]).quic(Action::Drop)]);
    let firsts: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let name = if n % 3 == 0 { "www.example.org" } else { "www.example.com" };
            let hello = crypto(0, &Hello::new(name).handshake());
            (n % 3 != 0, datagram_over(Ip::v4(), &Client::new(&[n; 8], &[n; 8]).initial(&hello)))
        })
        .collect();
    let mut copies = filter.kernel().copies().expect("rings");
    let tables = filter.kernel().tables();
    for (_, first) in &firsts {
        tables.beat();
        assert_eq!(filter.run_in_kernel(first).tallies, [(Tally::Copied, 1)]);
    }
    let watch = Watch::default();
    thread::scope(|scope| {
        let _ends = Ends(&watch);
        scope.spawn(|| {
            reader::run(&mut copies, tables, &watch, || {
                let (mut tier, counts) = (Tier::new(Limits::default()), &watch.counts);
                move |turn| match turn {
                    Turn::Copy(copy) => tier.read(copy, tables, counts).map(drop),
                    Turn::Ends => tier.write(tables, counts),
                }
            });
        });
        let listed = firsts.iter().filter(|(is_listed, _)| *is_listed).count() as u64;
        eventually("all are written", || watch.status().listed == listed);
        eventually("all are read", || watch.status().decided == u64::from(CONNECTIONS));
        for (is_listed, first) in &firsts {
            tables.beat();
            let reason = if *is_listed { Reason::Dropped } else { Reason::QuicCopied };
            assert_eq!(filter.run_in_kernel(first).reason, reason);
        }
        let status = watch.status();
        let others = [status.undecided, status.nameless, status.junk, status.incomplete, status.failed];
        assert_eq!((status.restarts, status.decided, status.listed, others), (0, 70, listed, [0; 5]));
    });
}

/// As the kernel counts it, and what becomes of the Initial by `without_tier`.
#[test]
fn what_is_not_copied_is_counted_and_meets_the_fallback() {
    let first = initial("www.example.com");
    for (fallback, is_dropped) in [(quic_mode::PASS, false), (quic_mode::DROP, true)] {
        for mode in [quic_mode::PASS, quic_mode::HOLD] {
            let reason = |passed| if is_dropped { Reason::QuicRefused } else { passed };
            let behaviour = Behaviour { quic_mode: mode, quic_fallback: fallback, ..Behaviour::default() };

            let border = Tiered::new();
            border.behaviour(&behaviour);
            let run = border.filter.run_in_kernel(&first);
            assert_eq!((run.reason, &run.tallies[..]), (reason(Reason::QuicNoTier), &[(Tally::NoTier, 1)][..]));

            let tables = border.filter.kernel().tables();
            border.behaviour(&Behaviour { copies_per_second: 0, ..behaviour });
            tables.beat();
            let run = border.filter.run_in_kernel(&first);
            assert_eq!((run.reason, &run.tallies[..]), (reason(Reason::QuicOverBudget), &[(Tally::OverBudget, 1)][..]));

            border.behaviour(&Behaviour { copies_per_second: u32::MAX, ..behaviour });
            // Tokens come with the kernel's next tick.
            thread::sleep(Duration::from_millis(20));
            let full = (0..2000).map(|_| {
                tables.beat();
                border.filter.run_in_kernel(&first)
            });
            let run = full.into_iter().find(|run| run.tallies != [(Tally::Copied, 1)]).expect("the ring is full");
            assert_eq!((run.reason, &run.tallies[..]), (reason(Reason::QuicRingFull), &[(Tally::RingFull, 1)][..]));
        }
    }
}

/// Junk takes its share of copies, and nothing else of anyone.
#[test]
fn q6_junk_takes_no_more_than_its_budget_and_other_packets_are_judged_as_ever() {
    let border = Tiered::with([&order("o", ["example.com"]).both(Action::Drop)]);
    let budget = 50;
    border.behaviour(&Behaviour { copies_per_second: budget, events_per_second: 0, ..Behaviour::default() });
    let tables = border.filter.kernel().tables();
    let listed = cordon_tests::packet::Packet::tls(Ip::v4(), &Hello::new("www.example.com")).build();
    let begun = Instant::now();
    let [mut copied, mut passed] = [0, 0];
    for flow in 0..3000_u32 {
        let mut junk = Client::new(&flow.to_be_bytes().repeat(2), &[0xa1; 8]);
        let frame = datagram_over(Ip::v4(), &junk.initial(&[1]));
        tables.beat();
        match border.filter.run_in_kernel(&frame).reason {
            Reason::QuicCopied => copied += 1,
            Reason::QuicOverBudget => passed += 1,
            other => panic!("{other:?}"),
        }
        if flow % 100 == 0 {
            assert_eq!(border.filter.run_in_kernel(&listed).reason, Reason::Dropped);
        }
    }
    // On each CPU the bucket holds one second's tokens, and is filled at that rate.
    let cpus = thread::available_parallelism().map_or(1, usize::from) as u64;
    let most = cpus * u64::from(budget) * (begun.elapsed().as_secs() + 2);
    assert!((u64::from(budget)..=most).contains(&copied), "{copied} of at most {most}");
    assert_eq!(copied + passed, 3000);
}
