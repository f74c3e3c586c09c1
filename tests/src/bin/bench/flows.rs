//! Nanoseconds a packet where the program knows or learns something of the packet's flow.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use cordon_tests::packet::{Hello, Ip, Packet, Query, Transport, extension};
use filter_user::kernel::Bench;

use crate::{
    Size,
    names::Random,
    packets::{long, short},
};

/// Measures; `listed` are names of four labels that an order drops. `hot` is one flow, `honest` are many.
pub fn run(bench: &Bench, listed: &[String], size: &Size) -> Result<()> {
    let record = [&[0x17, 3, 3, 0, 40][..], &[0xa5; 40]].concat();
    short(bench, size, "mid-connection data, many flows", |flow| {
        Packet::new(from(flow), Transport::tcp(443), record.clone()).build()
    })?;
    short(bench, size, "SYN", |flow| Packet::new(from(flow), Transport::tcp(443).flags(SYN), Vec::new()).build())?;
    let query = framed(&Query::new("www.example.org").build());
    short(bench, size, "DNS over TCP, not listed", |flow| {
        Packet::new(from(flow), Transport::tcp(53), query.clone()).build()
    })?;
    bench.tables().forget_flows()?;
    let unlisted = halves("www.shop.example.org");
    long(bench, size, "split hello, first half", |flow| unlisted.0.build(flow))?;
    bench.tables().forget_flows()?;
    long(bench, size, "both halves, not listed, mean", |index| half(&unlisted, index))?;
    let listed = halves(listed.first().context("a listed name")?);
    bench.tables().forget_flows()?;
    long(bench, size, "both halves, listed, mean", |index| half(&listed, index))?;
    let mut random = Random::new(0x0911);
    let mut initial = |flow| Packet::new(from(flow), Transport::udp(443), junk_initial(&mut random)).build();
    long(bench, size, "QUIC Initial, no tier", &mut initial)?;
    let stop = AtomicBool::new(false);
    let mut copies = bench.copies()?;
    thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                bench.tables().beat();
                if copies.drain(|_| {}) == 0 {
                    thread::sleep(Duration::from_micros(50));
                }
            }
            Ok(())
        });
        let measured = long(bench, size, "QUIC Initial, copied", &mut initial);
        stop.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?.and(measured)
    })
}

const SYN: u8 = 2;

/// A client of its own for each flow.
fn from(flow: u32) -> Ip {
    let mut ip = Ip::v4();
    let [_, a, b, c] = flow.to_be_bytes();
    ip.set_source([10, a, b, c].into());
    ip
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A part of a hello: its first octet's place, and its octets.
struct Half(u32, Vec<u8>);

impl Half {
    fn build(&self, flow: u32) -> Vec<u8> {
        let transport = Transport::tcp(443).numbers(1000 + self.0, 1);
        Packet::new(from(flow), transport, self.1.clone()).build()
    }
}

/// A hello whose name lies behind a key share of 1,216 octets, as X25519MLKEM768's, in two segments that are each no
/// longer than a packet of the benchmark.
fn halves(name: &str) -> (Half, Half) {
    let mut hello = Hello::name_last(name);
    if let Some(extensions) = &mut hello.extensions {
        extensions.insert(0, (51, extension(0x11ec, &[0x5a; 1216])));
    }
    let octets = hello.build();
    let (first, second) = octets.split_at(900);
    (Half(0, first.to_vec()), Half(900, second.to_vec()))
}

/// First halves, each followed by its second.
fn half((first, second): &(Half, Half), index: u32) -> Vec<u8> {
    if index.is_multiple_of(2) { first.build(index / 2) } else { second.build(index / 2) }
}

/// Version 1, ids of eight octets, no token, 1,200 octets in all (RFC 9000 14.1).
fn junk_initial(random: &mut Random) -> Vec<u8> {
    let mut ids = || [random.below(usize::MAX).to_be_bytes(), random.below(usize::MAX).to_be_bytes()];
    let [dcid, scid] = ids();
    let mut datagram = [&[0xc3, 0, 0, 0, 1, 8][..], &dcid, &[8], &scid, &[0]].concat();
    let length = 1200 - datagram.len() - 2;
    datagram.extend((0x4000 | length as u16).to_be_bytes());
    datagram.resize(1200, 0xa7);
    datagram
}
