//! QUIC Initials: what the program does with them, and what the deferred tier takes to decide.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cordon_tests::packet::{
    Hello, Packet, Transport,
    quic::{Client, crypto},
};
use filter_common::layout::Deferred;
use filter_user::{
    deferred::{
        Limits,
        reader::TOGETHER,
        tier::{Counts, Tier},
    },
    kernel::{Bench, Copies, Entry, Error, Findings},
    name::Name,
};

use crate::{
    Size,
    flows::from,
    names::Random,
    packets::Rows,
    report::{Report, Table},
    spread::{Spread, spread},
};

/// Measures; `listed` are names that an order drops.
pub fn run(bench: &Bench, copies: &mut Copies, listed: &[String], size: &Size, report: &mut Report) -> Result<()> {
    let listed = listed.first().context("a listed name")?;
    let mut random = Random::new(0x0911);
    let mut junk = |flow| packet(flow, junk(&mut random));
    let text = "Nanoseconds an Initial in the kernel, as above, while a thread on another CPU takes the copies from the \
                rings. *Hot* is one connection, *honest* are many.";
    let table = report.table(Table::new("quic", "QUIC Initials, in the kernel", &["hot", "honest"]).text(text));
    let mut rows = Rows { bench, size, table };
    rows.long("QUIC Initial, no tier", &mut junk)?;
    with_reader(bench, copies, || rows.long("QUIC Initial, junk, copied", &mut junk))?;
    with_reader(bench, copies, || {
        rows.long("QUIC Initial, not listed, copied", |flow| initial(flow, "www.shop.example.org"))
    })?;
    bench.tables().forget_flows();

    let text = "Nanoseconds an Initial in userspace: its keys derived, its tag checked, its ClientHello read, and its \
                name looked up; of a listed one also what is written to the kernel.";
    let heading = "QUIC Initials, in the deferred tier";
    let table = report.table(Table::new("quic-tier", heading, &["ns an Initial"]).text(text));
    table.row("junk", [tier(bench, size, &copied(bench, copies, &mut junk)?)?]);
    let unlisted = copied(bench, copies, |flow| initial(flow, "www.shop.example.org"))?;
    table.row("not listed", [tier(bench, size, &unlisted)?]);
    let copied = copied(bench, copies, |flow| initial(flow, listed))?;
    table.row("listed, written to the kernel", [tier(bench, size, &copied)?]);
    let name = Name::parse(listed)?;
    let written = spread(size.rounds, || {
        let mut findings = Findings::default();
        each(&copied, |copies| {
            copies.iter().for_each(|copy| findings.add(copy, &name, None));
            bench.tables().remember(&mut findings)
        })
    })?;
    table.row("the write alone", [written]);

    let heading = "QUIC Initials of stopped connections, in the kernel";
    let table = report.table(Table::new("quic-stopped", heading, &["hot", "honest"]));
    // The tier has told the kernel of as many connections as it read copies at once.
    Rows { bench, size, table }.long("QUIC Initial, of a stopped connection", |index| initial(index % BATCH, listed))
}

/// While something drains the rings.
fn with_reader(bench: &Bench, copies: &mut Copies, measure: impl FnOnce() -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                bench.tables().beat();
                if copies.drain(|_| {}) == 0 {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        let measured = measure();
        stop.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        measured
    })
}

/// Has the tier read copies.
fn tier(bench: &Bench, size: &Size, copied: &[Deferred]) -> Result<Spread> {
    spread(size.rounds, || {
        let (mut tier, counts) = (Tier::new(Limits::default()), Counts::default());
        each(copied, |copies| {
            copies.iter().try_for_each(|copy| tier.read(copy, bench.tables(), &counts).map(drop))?;
            tier.write(bench.tables(), &counts)
        })
    })
}

/// Nanoseconds for one, where they come as many at once as the reader writes names together.
fn each(copied: &[Deferred], mut work: impl FnMut(&[Deferred]) -> Result<(), Error>) -> Result<f64> {
    let begun = Instant::now();
    for copies in copied.chunks(TOGETHER as usize) {
        work(copies)?;
    }
    Ok(begun.elapsed().as_nanos() as f64 / copied.len() as f64)
}

/// Has the program copy Initials of so many connections.
fn copied(bench: &Bench, copies: &mut Copies, mut frame: impl FnMut(u32) -> Vec<u8>) -> Result<Vec<Deferred>> {
    bench.long().set((0..BATCH).map(&mut frame)).context("putting the packets")?;
    bench.tables().beat();
    bench.run(Entry::LongRun, BATCH)?;
    let mut copied: Vec<Deferred> = Vec::new();
    while copies.drain(|copy| copied.push(*copy)) > 0 {}
    ensure!(copied.len() == BATCH as usize, "{} of {BATCH} Initials were copied", copied.len());
    Ok(copied)
}

/// Copies that one CPU's ring has room for.
const BATCH: u32 = 512;

fn packet(flow: u32, datagram: Vec<u8>) -> Vec<u8> {
    Packet::new(from(flow), Transport::udp(443), datagram).build()
}

/// The first Initial of a connection, with all of its hello.
fn initial(flow: u32, name: &str) -> Vec<u8> {
    let id = |end: &str| [&flow.to_be_bytes()[..], end.as_bytes()].concat();
    packet(flow, Client::new(&id("dcid"), &id("scid")).initial(&crypto(0, &Hello::new(name).handshake())))
}

/// Version 1, ids of eight octets, no token, 1,200 octets in all (RFC 9000 14.1); no keys open it.
fn junk(random: &mut Random) -> Vec<u8> {
    let mut ids = || [random.below(usize::MAX).to_be_bytes(), random.below(usize::MAX).to_be_bytes()];
    let [dcid, scid] = ids();
    let mut datagram = [&[0xc3, 0, 0, 0, 1, 8][..], &dcid, &[8], &scid, &[0]].concat();
    let length = 1200 - datagram.len() - 2;
    datagram.extend((0x4000 | length as u16).to_be_bytes());
    datagram.resize(1200, 0xa7);
    datagram
}
