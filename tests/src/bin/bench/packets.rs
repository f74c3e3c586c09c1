//! Nanoseconds a packet, by BPF_PROG_TEST_RUN.
//!
//! Each entry fetches its packet from a map; beside it stands the same entry with an empty body, and what is printed
//! is the difference. `hot` repeats one packet. `honest` takes distinct packets in random order, as a border host
//! sees them: there the table is not in the cache. Segments in the middle of a connection are then of many flows.

use anyhow::{Context as _, Result};
use cordon_tests::packet::{Edns, Hello, Ip, Packet, Query};
use filter_user::kernel::{Bench, Entry};

use crate::{
    Size,
    flows::data,
    names::Random,
    spread::{Spread, spread},
};

/// Measures every kind of packet; `listed` are names of four labels that an order drops.
pub fn run(bench: &Bench, listed: &[String], size: &Size) -> Result<()> {
    println!("ns a packet above the same entry with an empty body: median (least to most) of {} runs", size.rounds);
    println!("{:<42} {:>22} {:>26}", "", "hot", "honest");
    let mut random = Random::new(0x5eed);
    short(bench, size, "mid-connection data", data)?;
    short(bench, size, "DNS, 4 labels, not listed", |_| query(&random.name(4)))?;
    let mut random = Random::new(0xfeed);
    short(bench, size, "DNS, 4 labels, listed, dropped", |_| query(&listed[random.below(listed.len())]))?;
    for (where_, build) in [("first", Hello::new as fn(&str) -> Hello), ("last", Hello::name_last)] {
        let mut random = Random::new(0x5eed);
        let title = format!("ClientHello, SNI {where_}, not listed");
        long(bench, size, &title, |_| hello(&random.name(4), build))?;
        let mut random = Random::new(0xfeed);
        let title = format!("ClientHello, SNI {where_}, listed, dropped");
        long(bench, size, &title, |_| hello(&listed[random.below(listed.len())], build))?;
    }
    let nothing = spread(size.rounds, || Ok(f64::from(bench.run(Entry::Nothing, size.repeat)?)))?;
    println!("an empty program, without fetching a packet: {nothing} ns");
    Ok(())
}

/// Of short packets: `hot` is the first one, `honest` are many.
pub fn short(bench: &Bench, size: &Size, title: &str, frame: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
    short_of(1, bench, size, title, frame)
}

/// As [`short`], `hot` being so many.
pub fn short_of(
    hot: u32,
    bench: &Bench,
    size: &Size,
    title: &str,
    mut frame: impl FnMut(u32) -> Vec<u8>,
) -> Result<()> {
    row(title, [hot, size.short], |count| {
        bench.short().set((0..count).map(&mut frame)).context("putting the packets")?;
        above(bench, size, Entry::ShortRun, Entry::ShortEmpty)
    })
}

/// As [`short`], of long packets.
pub fn long(bench: &Bench, size: &Size, title: &str, frame: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
    long_of(1, bench, size, title, frame)
}

/// As [`long`], `hot` being so many.
pub fn long_of(hot: u32, bench: &Bench, size: &Size, title: &str, mut frame: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
    row(title, [hot, size.long], |count| {
        bench.long().set((0..count).map(&mut frame)).context("putting the packets")?;
        above(bench, size, Entry::LongRun, Entry::LongEmpty)
    })
}

fn row(title: &str, counts: [u32; 2], mut measure: impl FnMut(u32) -> Result<Spread>) -> Result<()> {
    let [hot, honest] = counts;
    let (hot, honest) = (measure(hot)?, measure(honest)?);
    println!("{title:<42} {hot:>22} {honest:>26}");
    Ok(())
}

/// Both entries in turn, so that the machine's moods meet both.
fn above(bench: &Bench, size: &Size, run: Entry, empty: Entry) -> Result<Spread> {
    spread(size.rounds, || {
        let empty = bench.run(empty, size.repeat)?;
        Ok(f64::from(bench.run(run, size.repeat)?) - f64::from(empty))
    })
}

fn query(name: &str) -> Vec<u8> {
    Packet::dns(Ip::v4(), &Query::new(name).edns(&Edns::new(1232))).build()
}

/// Of 583 octets, as curl with OpenSSL sends one.
fn hello(name: &str, build: fn(&str) -> Hello) -> Vec<u8> {
    let mut hello = build(name);
    let missing = HELLO - hello.build().len();
    if let Some(extensions) = &mut hello.extensions {
        let last = extensions.len() - 1;
        // Padding (RFC 7685) in the middle, so that the name stays first or last.
        extensions.insert(last, (21, vec![0; missing - 4]));
    }
    Packet::tls(Ip::v4(), &hello).build()
}

const HELLO: usize = 583;
