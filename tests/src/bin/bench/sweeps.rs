//! DNS queries against what a name is like: how long, of how many labels, and how many of them are listed.

use anyhow::Result;
use filter_user::kernel::Bench;

use crate::{
    Run, Size,
    load::Ready,
    names::Random,
    packets::{grouped, long, query, short},
    report::{Report, Table},
    spread::Spread,
};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let Ready { bench, file, .. } = &Ready::new(run, run.size.names)?;
    let names = grouped(file.names);

    let text = format!(
        "Nanoseconds a query as above, honest, not listed, beside {names} names: 64 octets in each, in so many labels of \
         one length. (The list has names of two to four labels: only these depths are looked up.)"
    );
    let table = report.table(Table::new("labels", "Against the number of labels", &[HONEST]).text(text));
    for labels in LABELS {
        let spread = unlisted(bench, &run.size, labels, 64)?;
        table.point(format!("{labels} label{}", if labels == 1 { "" } else { "s" }), labels as f64, [spread]);
    }

    let text = format!("The same, of four labels, with so many octets in each name, beside {names} names.");
    let table = report.table(Table::new("lengths", "Against the length of names", &[HONEST]).text(text));
    for octets in OCTETS {
        let spread = unlisted(bench, &run.size, 4, octets)?;
        table.point(format!("{octets} octets"), octets as f64, [spread]);
    }

    let text = format!("The same, of four labels, so many in a hundred being listed and dropped, of {names} names.");
    let table = report.table(Table::new("shares", "Against the share of listed names", &[HONEST]).text(text));
    for percent in SHARES {
        let mut random = Random::new(0x57a6e);
        let spread = short(bench, &run.size, run.size.short, |_| {
            let other = random.name(4);
            query(if random.below(100) < percent { random.of(&file.four_labels) } else { &other })
        })?;
        table.point(format!("{percent} % listed"), percent as f64, [spread]);
    }
    Ok(())
}

/// Of names of so many octets on the wire, without the root, in so many labels.
fn unlisted(bench: &Bench, size: &Size, labels: usize, octets: usize) -> Result<Spread> {
    let mut random = Random::new(0x1abe15);
    long(bench, size, size.long, |_| query(&random.labels((0..labels).map(|_| octets / labels - 1))))
}

/// The column.
pub const HONEST: &str = "ns, honest";

const LABELS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Four labels of 62 octets are as many as a name has room for.
const OCTETS: [usize; 5] = [16, 32, 64, 128, 252];

const SHARES: [usize; 7] = [0, 1, 10, 25, 50, 75, 100];
