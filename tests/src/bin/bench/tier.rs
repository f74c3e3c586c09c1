//! The deferred tier: what a copy costs the kernel, and from an Initial's arrival to its name's being in the map.
//!
//! Initials arrive by BPF_PROG_TEST_RUN, one by one; what that takes before the program runs is counted as well. The reader
//! is the daemon's own: rings, wake-up, priority, engine, writes.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cordon_tests::{
    cpu,
    packet::{
        Hello, Packet, Transport,
        quic::{Client, crypto},
    },
};
use filter_common::{layout::Deferred, verdict::Tally};
use filter_user::{
    deferred::{
        Limits,
        reader::{self, Turn, Watch},
        tier::Tier,
    },
    kernel::{Bench, Copies, Entry, boot_time},
};

use crate::{
    Size,
    flows::from,
    names::Random,
    report::{Cell, Report, Table},
    spread::{Spread, spread},
};

/// Measures; `listed` are names of four labels that an order drops.
pub fn run(bench: &Bench, copies: &mut Copies, listed: &[String], size: &Size, report: &mut Report) -> Result<()> {
    let text = "Microseconds from a listed Initial's arrival to its name's being in the kernel's map, from where each \
                further packet of the connection is stopped. The reader is the daemon's own.";
    let columns = ["a second", "median", "99th percentile", "most", "of", "not copied"];
    let heading = "From a QUIC Initial to its verdict";
    let table = report.table(Table::new("tier", heading, &columns).text(text));
    let mut random = Random::new(0x9000);
    for (rate, most) in [(1, size.idle), (10_000, 30_000), (50_000, usize::MAX)] {
        let count = most.min(size.long as usize);
        bench.tables().forget_flows();
        let frames = (0..count as u32).map(|flow| {
            let name = random.of(listed).to_owned();
            initial(flow, &mut random, &name)
        });
        bench.long().set(frames).context("putting the packets")?;
        let Delays { reached, of, lost } = delay(bench, copies, rate, count)?;
        let [median, most, last] = [0.5, 0.99, 1.0].map(|part| Cell::from(format!("{:.0}", of.part(part))));
        let reached = Cell::from(format!("{reached:.0}"));
        let row = [reached, median, most, last, Cell::from(of.runs().to_string()), Cell::from(lost.to_string())];
        table.row(format!("{rate} a second asked for"), row);
    }
    Ok(())
}

fn initial(flow: u32, random: &mut Random, name: &str) -> Vec<u8> {
    let mut id = || random.below(usize::MAX).to_be_bytes();
    let mut client = Client::new(&id(), &id());
    let datagram = client.initial(&crypto(0, &Hello::new(name).handshake()));
    Packet::new(from(flow), Transport::udp(443), datagram).build()
}

/// What a program takes that copies each Initial. The ring is emptied before it is full.
pub fn copying(bench: &Bench, copies: &mut Copies, size: &Size, entry: Entry) -> Result<Spread> {
    bench.tables().forget_flows();
    let mut random = Random::new(0x9000);
    let frames = (0..size.long.min(COPIED)).map(|flow| initial(flow, &mut random, "www.example.org"));
    bench.long().set(frames).context("putting the packets")?;
    bench.rewind(Entry::LongRun)?;
    on_one_cpu(|| {
        spread((size.long.min(COPIED) / (2 * GATHERED)) as usize, || {
            bench.tables().beat();
            let run = bench.go_on(entry, GATHERED)?;
            let taken = copies.drain(|_| {});
            ensure!(taken == GATHERED as usize, "{taken} copies of {GATHERED}; {} not copied", not_copied(bench)?);
            Ok(f64::from(run) - f64::from(bench.go_on(Entry::LongEmpty, GATHERED)?))
        })
    })
}

/// Which packet is the next is noted for each CPU.
fn on_one_cpu<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            cpu::stay()?;
            work()
        });
        worker.join().map_err(|_| anyhow!("it panicked"))?
    })
}

/// As many as one turn of the reader takes from a ring.
const GATHERED: u32 = 256;

/// Most Initials that are built for [`copying`].
const COPIED: u32 = 1 << 15;

/// What [`delay`] measured.
struct Delays {
    /// Initials a second.
    reached: f64,
    /// Microseconds.
    of: Spread,
    /// Initials that were not copied.
    lost: u64,
}

/// Sends the packets at this rate, while the reader runs.
fn delay(bench: &Bench, copies: &mut Copies, rate: u32, count: usize) -> Result<Delays> {
    bench.rewind(Entry::LongRun)?;
    let before = not_copied(bench)?;
    let watch = Watch::default();
    let sent: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let (delays, took) = thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| {
            let delays = RefCell::new(Vec::with_capacity(count));
            reader::run(copies, bench.tables(), &watch, || {
                let mut tier = Tier::new(Limits::default());
                let (counts, delays, sent) = (&watch.counts, &delays, &sent);
                let mut found = Vec::new();
                move |turn| match turn {
                    Turn::Copy(copy) => {
                        let name = tier.read(copy, bench.tables(), counts)?;
                        found.extend(name.and_then(|_| sent.get(flow(copy))));
                        Ok(())
                    }
                    Turn::Ends => {
                        tier.write(bench.tables(), counts)?;
                        let now = boot_time();
                        let delay = |sent: &AtomicU64| now.saturating_sub(sent.load(Relaxed));
                        delays.borrow_mut().extend(found.drain(..).map(delay));
                        Ok(())
                    }
                }
            });
            delays.into_inner()
        });
        // Its first sign of life, and then its sleep.
        thread::sleep(Duration::from_millis(50));
        let sent = on_one_cpu(|| send(bench, rate, &sent));
        thread::sleep(Duration::from_millis(200));
        watch.end();
        let delays = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
        Ok((delays, sent?))
    })?;
    let of = Spread::of(delays.into_iter().map(|delay: u64| delay as f64 / 1e3).collect());
    Ok(Delays { reached: count as f64 / took.as_secs_f64(), of, lost: not_copied(bench)? - before })
}

/// Sends as many as there is room for the times of.
fn send(bench: &Bench, rate: u32, sent: &[AtomicU64]) -> Result<Duration> {
    let begun = Instant::now();
    let gap = Duration::from_secs(1) / rate;
    for (index, time) in (0..).zip(sent) {
        let due = begun + gap * index;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left > Duration::from_millis(1) {
                thread::sleep(left - Duration::from_millis(1));
            } else if left.is_zero() {
                break;
            }
            std::hint::spin_loop();
        }
        time.store(boot_time(), Relaxed);
        bench.go_on(Entry::LongRun, 1)?;
    }
    Ok(begun.elapsed().max(gap * sent.len() as u32))
}

/// Which of the flows a copy is of: see [`from`].
fn flow(copy: &Deferred) -> usize {
    let [.., a, b, c] = copy.client;
    u32::from_be_bytes([0, a, b, c]) as usize
}

fn not_copied(bench: &Bench) -> Result<u64> {
    let tallies = bench.tables().tallies()?;
    let is_lost = |tally| matches!(tally, Tally::NoTier | Tally::OverBudget | Tally::RingFull);
    Ok(tallies.into_iter().filter(|(tally, _)| is_lost(*tally)).map(|(_, count)| count).sum())
}
