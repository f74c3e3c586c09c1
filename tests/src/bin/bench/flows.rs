//! Nanoseconds a packet where the program knows or learns something of the packet's flow.

use anyhow::{Context as _, Result};
use cordon_tests::packet::{Hello, Ip, Packet, Query, Transport, extension};
use filter_user::kernel::Bench;

use crate::{
    Size,
    load::OrderFile,
    names::Random,
    packets::Rows,
    report::{Cell, Report, Table},
};

/// Measures; `listed` are names of four labels that an order drops. `hot` is one flow, `honest` are many.
pub fn run(bench: &Bench, listed: &[String], size: &Size, report: &mut Report) -> Result<()> {
    let text = "Nanoseconds a packet as above, where the program knows or learns something of the packet's flow. *Hot* \
                is one flow, *honest* are many.";
    let table = report.table(Table::new("flows", "Packets of flows with state", &["hot", "honest"]).text(text));
    let mut rows = Rows { bench, size, table };
    rows.short("SYN", |flow| Packet::new(from(flow), Transport::tcp(443).flags(SYN), Vec::new()).build())?;
    // Of other flows: the tags are full of those that were opened.
    rows.short("mid-connection data, tags full", |flow| data(flow | OTHERS))?;
    bench.tables().forget_flows();
    let listed = listed.first().context("a listed name")?;
    for (what, name) in [("not listed", "www.shop.example.org"), ("listed", listed)] {
        let query = framed(&Query::new(name).build());
        let title = format!("DNS over TCP, {what}");
        rows.short(&title, |flow| Packet::new(from(flow), Transport::tcp(53), query.clone()).build())?;
        let (head, tail) = query.split_at(20);
        let halves = (Half(0, 53, head.to_vec()), Half(20, 53, tail.to_vec()));
        let title = format!("DNS over TCP in two, {what}, mean");
        rows.short_of(2, &title, |index| half(&halves, index))?;
        bench.tables().forget_flows();
    }
    for (what, name) in [("not listed", "www.shop.example.org"), ("listed", listed)] {
        let halves = halves(name);
        rows.long(&format!("split hello, {what}, 1st half"), |flow| halves.0.build(flow))?;
        bench.tables().forget_flows();
        let [hot, honest] = rows.measure_long(2, |index| half(&halves, index))?;
        rows.table.row(format!("split hello, {what}, mean of both"), [hot, honest]);
        bench.tables().forget_flows();
    }
    memory(bench, report)
}

/// Hellos in two segments: what both cost together, each of a new flow and with a name of its own.
pub fn split(rows: &mut Rows<'_>, file: &OrderFile) -> Result<()> {
    for what in ["not listed", "listed"] {
        let mut random = Random::new(0x5917);
        let mut pair = None;
        let [hot, honest] = rows.measure_long(2, |index| {
            let pair = match &pair {
                Some(pair) if index % 2 == 1 => pair,
                _ => {
                    let other = random.name(4);
                    let name = if what == "listed" { random.of(&file.four_labels) } else { &other };
                    &*pair.insert(halves(name))
                }
            };
            half(pair, index)
        })?;
        rows.table.row(format!("split hello, {what}, both together"), [hot.times(2.0), honest.times(2.0)]);
        rows.bench.tables().forget_flows();
    }
    Ok(())
}

fn memory(bench: &Bench, report: &mut Report) -> Result<()> {
    let text = "It is allocated when the program is loaded, and does not grow.";
    let columns = ["entries", "MB"];
    let table = report.table(Table::new("flow-memory", "Memory of the maps of flows", &columns).text(text));
    let maps = bench.tables().flow_memory()?;
    let row = |entries: String, octets: u64| [Cell::from(entries), Cell::from(format!("{:.1}", octets as f64 / 1e6))];
    for map in &maps {
        table.row(map.name, row(map.entries.to_string(), map.octets));
    }
    table.row("in all", row(String::new(), maps.iter().map(|map| map.octets).sum()));
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
