//! Nanoseconds a packet, by BPF_PROG_TEST_RUN.
//!
//! Each entry fetches its packet from a map; beside it stands the same entry with an empty body, and what is printed
//! is the difference. `hot` repeats one packet. `honest` takes distinct packets in random order, as a border host
//! sees them: there the table is not in the cache. Segments in the middle of a connection are then of many flows.

use anyhow::{Context as _, Result};
use cordon_tests::packet::{Edns, Hello, Ip, Packet, Query};
use filter_user::kernel::{Bench, Copies, Entry};

use crate::{
    Run, Size,
    flows::{self, data},
    load::{OrderFile, Ready},
    names::Random,
    plain, quic,
    report::{Cell, Report, Table},
    spread::{Spread, spread},
    tier,
};

/// Everything beside one list: what revisions are compared by.
pub fn part(run: &Run, report: &mut Report) -> Result<()> {
    plain::run(&run.size, report)?;
    let ready = Ready::new(run, run.size.names)?;
    let table = report.table(Table::new("programs", "Verified instructions", &["of 1,000,000"]));
    for program in ready.bench.programs() {
        table.row(program.name.clone(), [grouped(program.verified_instructions as usize)]);
    }
    let mut copies = ready.bench.copies()?;
    kinds(&ready, &mut copies, &run.size, report)?;
    let listed = ready.file.four_labels.as_slice();
    flows::run(&ready.bench, listed, &run.size, report)?;
    quic::run(&ready.bench, &mut copies, listed, &run.size, report)?;
    tier::run(&ready.bench, &mut copies, listed, &run.size, report)
}

/// Measures every kind of packet beside a list.
pub fn kinds(ready: &Ready, copies: &mut Copies, size: &Size, report: &mut Report) -> Result<()> {
    let Ready { bench, file, .. } = ready;
    let table = report.table(table(file.names, size));
    let mut rows = Rows { bench, size, table };
    rows.short("mid-connection data", data)?;
    for labels in LABELS {
        let mut random = Random::new(0x5eed);
        rows.short(&format!("DNS, {labels} labels, not listed"), |_| query(&random.name(labels)))?;
        let mut random = Random::new(0xfeed);
        rows.short(&format!("DNS, {labels} labels, listed, dropped"), |_| query(&listed(file, &mut random, labels)))?;
    }
    for (where_, build) in [("first", Hello::new as fn(&str) -> Hello), ("last", Hello::name_last)] {
        let mut random = Random::new(0x5eed);
        rows.long(&format!("ClientHello, SNI {where_}, not listed"), |_| hello(&random.name(4), build))?;
        let mut random = Random::new(0xfeed);
        let title = format!("ClientHello, SNI {where_}, listed, dropped");
        rows.long(&title, |_| hello(random.of(&file.four_labels), build))?;
    }
    flows::split(&mut rows, file)?;
    let copied = tier::copying(bench, copies, size, Entry::LongRun)?;
    rows.table.row("QUIC Initial, copied", [Cell::from(String::new()), copied.into()]);
    rows.empty()
}

fn table(names: usize, size: &Size) -> Table {
    let text = format!(
        "Nanoseconds a packet above the same entry with an empty body: the median of {} runs of {} packets each, with \
         the least and the most of them, by BPF_PROG_TEST_RUN; both take turns of some milliseconds. The entry takes \
         each packet from a map. *Hot* is one packet again and again; *honest* takes {} distinct random names (of hellos {}) in random order, or as many \
         flows. The list has names of two, three and four labels, with subtree rules; a listed query of eight labels \
         is four labels below one of them. The last rows are what was taken off: the empty entries.",
        size.rounds,
        grouped(size.repeat as usize),
        grouped(size.short as usize),
        grouped(size.long as usize)
    );
    Table::new(id(names), format!("Per packet, {} names", grouped(names)), &["hot", "honest"]).text(text)
}

/// Of the table for a list of so many names.
pub fn id(names: usize) -> String {
    format!("packets-{names}")
}

/// With a comma before each three digits, as in 50,000.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes().iter().enumerate().map(|(index, digit)| {
        let gap = index != 0 && index % 3 == first;
        format!("{}{}", if gap { "," } else { "" }, char::from(*digit))
    });
    groups.collect()
}

fn listed(file: &OrderFile, random: &mut Random, labels: usize) -> String {
    match labels {
        2 => random.of(&file.two_labels).to_owned(),
        4 => random.of(&file.four_labels).to_owned(),
        _ => {
            let above = random.of(&file.four_labels);
            random.below_name(above)
        }
    }
}

/// Labels of queries: a listed name of the last is four below a listed one.
const LABELS: [usize; 3] = [2, 4, 8];

/// A table that rows come into.
pub struct Rows<'a> {
    /// The program.
    pub bench: &'a Bench,
    /// How much is measured.
    pub size: &'a Size,
    /// The table, with a column for `hot` and one for `honest`.
    pub table: &'a mut Table,
}

impl Rows<'_> {
    /// Of short packets: `hot` is the first one, `honest` are many.
    pub fn short(&mut self, title: &str, frame: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
        self.short_of(1, title, frame)
    }

    /// As [`Rows::short`], `hot` being so many.
    pub fn short_of(&mut self, hot: u32, title: &str, mut frame: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
        let [hot, honest] = [hot, self.size.short].map(|count| short(self.bench, self.size, count, &mut frame));
        self.table.row(title, [hot?, honest?]);
        Ok(())
    }

    /// As [`Rows::short`], of long packets.
    pub fn long(&mut self, title: &str, frame: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
        let [hot, honest] = self.measure_long(1, frame)?;
        self.table.row(title, [hot, honest]);
        Ok(())
    }

    /// Of long packets, `hot` being so many, without a row.
    pub fn measure_long(&self, hot: u32, mut frame: impl FnMut(u32) -> Vec<u8>) -> Result<[Spread; 2]> {
        let [hot, honest] = [hot, self.size.long].map(|count| long(self.bench, self.size, count, &mut frame));
        Ok([hot?, honest?])
    }

    /// What is taken off the others: over the packets that were put last.
    fn empty(&mut self) -> Result<()> {
        for (title, entry) in
            [("empty entry, short packets", Entry::ShortEmpty), ("empty entry, long packets", Entry::LongEmpty)]
        {
            let honest = spread(self.size.rounds, || Ok(f64::from(self.bench.run(entry, self.size.repeat)?)))?;
            self.table.row(title, [Cell::from(String::new()), honest.into()]);
        }
        let nothing = spread(self.size.rounds, || Ok(f64::from(self.bench.run(Entry::Nothing, self.size.repeat)?)))?;
        let title = "an empty program, without fetching a packet";
        self.table.row(title, [Cell::from(String::new()), nothing.into()]);
        Ok(())
    }
}

/// Of so many distinct short packets.
pub fn short(bench: &Bench, size: &Size, count: u32, frame: impl FnMut(u32) -> Vec<u8>) -> Result<Spread> {
    bench.short().set((0..count).map(frame)).context("putting the packets")?;
    above(bench, size, Entry::ShortRun)
}

/// Of so many distinct long packets.
pub fn long(bench: &Bench, size: &Size, count: u32, frame: impl FnMut(u32) -> Vec<u8>) -> Result<Spread> {
    bench.long().set((0..count).map(frame)).context("putting the packets")?;
    above(bench, size, Entry::LongRun)
}

/// An entry and its empty one in turn, some milliseconds each, so that the machine's moods meet both; each takes the
/// packets behind those of the one before. More turns would take longer than what is measured: the kernel waits for all
/// CPUs before and after each.
pub fn above(bench: &Bench, size: &Size, run: Entry) -> Result<Spread> {
    let empty = if run == Entry::LongRun { Entry::LongEmpty } else { Entry::ShortEmpty };
    bench.rewind(run)?;
    spread(size.rounds, || {
        let mut more = 0.0;
        for _ in 0..TURNS {
            let empty = bench.go_on(empty, size.repeat / TURNS)?;
            more += f64::from(bench.go_on(run, size.repeat / TURNS)?) - f64::from(empty);
        }
        Ok(more / f64::from(TURNS))
    })
}

/// Turns in one measurement.
const TURNS: u32 = 5;

/// A query with EDNS.
pub fn query(name: &str) -> Vec<u8> {
    query_from(Ip::v4(), name)
}

/// The same, from another client.
pub fn query_from(ip: Ip, name: &str) -> Vec<u8> {
    Packet::dns(ip, &Query::new(name).edns(&Edns::new(1232))).build()
}

/// Of 583 octets, as curl with OpenSSL sends one.
fn hello(name: &str, build: fn(&str) -> Hello) -> Vec<u8> {
    hello_from(Ip::v4(), name, build)
}

/// The same, from another client.
pub fn hello_from(ip: Ip, name: &str, build: fn(&str) -> Hello) -> Vec<u8> {
    let mut hello = build(name);
    let missing = HELLO - hello.build().len();
    if let Some(extensions) = &mut hello.extensions {
        let last = extensions.len() - 1;
        // Padding (RFC 7685) in the middle, so that the name stays first or last.
        extensions.insert(last, (21, vec![0; missing - 4]));
    }
    Packet::tls(ip, &hello).build()
}

const HELLO: usize = 583;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(7, "7"), (1_000, "1,000"), (50_000, "50,000"), (10_000_000, "10,000,000")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_longest_query_fits_a_short_packet() {
        let mut random = Random::new(1);
        let longest = random.labels([6, 14, 14, 3]);
        for name in [random.below_name(&longest), random.labels([6, 6, 6, 6, 6, 6, 6, 3])] {
            assert!(query(&name).len() <= filter_user::kernel::SHORT, "{name}");
        }
    }
}
