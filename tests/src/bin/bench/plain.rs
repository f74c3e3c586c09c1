//! What the least costs on this machine: the scale by which figures of different machines compare.

use anyhow::{Context as _, Result};
use filter_user::kernel::{Bench, Capacity, Entry};

use crate::{
    Size,
    flows::data,
    load,
    names::Random,
    packets::{above, grouped, query},
    peers::wire,
    report::{Cell, Report, Table},
    tier,
};

/// Measures.
pub fn run(size: &Size, report: &mut Report) -> Result<()> {
    let capacity = Capacity { names: 1 << 21, ..Capacity::default() };
    let bench = Bench::new(&capacity, size.short, size.long, size.names as u32)?;
    let listed: Vec<String> = load::listed(size.names).collect();
    let wires: Vec<Vec<u8>> = listed.iter().map(|name| wire(name)).collect();
    bench.plain().list(wires.iter().map(Vec::as_slice))?;
    let four_labels: Vec<String> = listed.into_iter().skip(2).step_by(3).collect();

    let text = format!(
        "The scale of this machine: nanoseconds a packet, as below, of the simplest programs. One reads as far as the TCP \
         header and compares the port. Another looks a query's name up in a BPF hash map of {} names, as it is written, \
         whole and then without its first label and so on: it folds no case, and knows no exceptions, scopes or times. Two \
         read memory alone, at places that the name chooses: 64 octets of a map as large as the filter of two million \
         names, and 64 more of one as large as these names. The last copies an Initial, whatever it is.",
        grouped(size.names)
    );
    let table = report.table(Table::new("plain", "Plain programs, for scale", &["hot", "honest"]).text(text));
    let mut row = |title: &str, entry: Entry, frame: &mut dyn FnMut(u32) -> Vec<u8>| -> Result<()> {
        let [hot, honest] = [1, size.short].map(|count| {
            bench.short().set((0..count).map(&mut *frame)).context("putting the packets")?;
            above(&bench, size, entry)
        });
        table.row(title, [hot?, honest?]);
        Ok(())
    };
    row("data, its port compared", Entry::ShortPort, &mut data)?;
    let mut random = Random::new(0x5eed);
    row("DNS, 4 labels, in no hash map", Entry::ShortNames, &mut |_| query(&random.name(4)))?;
    let mut random = Random::new(0xfeed);
    row("DNS, 4 labels, in a hash map, dropped", Entry::ShortNames, &mut |_| query(random.of(&four_labels)))?;
    // What the tables cost where nothing is computed, and each place is distinct.
    let mut random = Random::new(0x5eed);
    row("DNS, one line of 4 MiB at random", Entry::ShortLine, &mut |_| query(&random.name(4)))?;
    let mut random = Random::new(0x5eed);
    row("DNS, the same, and then one of 64 MiB", Entry::ShortBucket, &mut |_| query(&random.name(4)))?;
    let copied = tier::copying(&bench, &mut bench.copies()?, size, Entry::LongCopy)?;
    table.row("QUIC Initial, copied to a ring unseen", [Cell::from(String::new()), copied.into()]);
    Ok(())
}
