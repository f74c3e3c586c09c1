//! Nanoseconds a packet where the program knows or learns something of the packet's flow.

use anyhow::{Context as _, Result};
use cordon_tests::packet::{Hello, Ip, Packet, Query, Transport, extension};
use filter_user::kernel::Bench;

use crate::{
    Size,
    packets::{long, long_of, short, short_of},
};

/// Measures; `listed` are names of four labels that an order drops. `hot` is one flow, `honest` are many.
pub fn run(bench: &Bench, listed: &[String], size: &Size) -> Result<()> {
    short(bench, size, "SYN", |flow| Packet::new(from(flow), Transport::tcp(443).flags(SYN), Vec::new()).build())?;
    // Of other flows: the tags are full of those that were opened.
    short(bench, size, "mid-connection data, tags full", |flow| data(flow | OTHERS))?;
    bench.tables().forget_flows()?;
    let listed = listed.first().context("a listed name")?;
    for (what, name) in [("not listed", "www.shop.example.org"), ("listed", listed)] {
        let query = framed(&Query::new(name).build());
        let title = format!("DNS over TCP, {what}");
        short(bench, size, &title, |flow| Packet::new(from(flow), Transport::tcp(53), query.clone()).build())?;
        let (head, tail) = query.split_at(20);
        let halves = (Half(0, 53, head.to_vec()), Half(20, 53, tail.to_vec()));
        let title = format!("DNS over TCP in two, {what}, mean");
        short_of(2, bench, size, &title, |index| half(&halves, index))?;
        bench.tables().forget_flows()?;
    }
    for (what, name) in [("not listed", "www.shop.example.org"), ("listed", listed)] {
        let halves = halves(name);
        long(bench, size, &format!("split hello, {what}, 1st half"), |flow| halves.0.build(flow))?;
        bench.tables().forget_flows()?;
        long_of(2, bench, size, &format!("split hello, {what}, mean of both"), |index| half(&halves, index))?;
        bench.tables().forget_flows()?;
    }
    memory(bench)
}

fn memory(bench: &Bench) -> Result<()> {
    println!("memory of the maps of flows, which is allocated at the start and does not grow:");
    let maps = bench.tables().flow_memory()?;
    for map in &maps {
        println!("  {:<12} {:>8} entries {:>6.1} MB", map.name, map.entries, map.octets as f64 / 1e6);
    }
    println!("  {:<12} {:>23.1} MB", "in all", maps.iter().map(|map| map.octets).sum::<u64>() as f64 / 1e6);
    Ok(())
}

/// A segment in the middle of a connection: application data.
pub fn data(flow: u32) -> Vec<u8> {
    let record = [&[0x17, 3, 3, 0, 40][..], &[0xa5; 40]].concat();
    Packet::new(from(flow), Transport::tcp(443), record).build()
}

/// Flows with this bit have had no SYN.
const OTHERS: u32 = 1 << 23;

const SYN: u8 = 2;

/// A client of its own for each flow.
pub fn from(flow: u32) -> Ip {
    let mut ip = Ip::v4();
    let [_, a, b, c] = flow.to_be_bytes();
    ip.set_source([10, a, b, c].into());
    ip
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A part of what a client sends: its first octet's place, the port, and its octets.
struct Half(u32, u16, Vec<u8>);

impl Half {
    fn build(&self, flow: u32) -> Vec<u8> {
        let transport = Transport::tcp(self.1).numbers(1000 + self.0, 1);
        Packet::new(from(flow), transport, self.2.clone()).build()
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
    (Half(0, 443, first.to_vec()), Half(900, 443, second.to_vec()))
}

/// First halves, each followed by its second.
fn half((first, second): &(Half, Half), index: u32) -> Vec<u8> {
    if index.is_multiple_of(2) { first.build(index / 2) } else { second.build(index / 2) }
}
