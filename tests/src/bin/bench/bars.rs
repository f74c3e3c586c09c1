//! What is to be reached, and whether this run reached it.

use crate::{report::Report, spread::Spread};

/// A figure that must not be over a limit.
pub struct Bar {
    /// What is measured.
    pub what: &'static str,
    /// Most that it may be.
    pub limit: f64,
    /// Of the limit and the figure.
    pub unit: &'static str,
    /// Table, row and column of the figure.
    at: [&'static str; 3],
    /// Row and column of the plain program that does the least of it.
    plain: Option<[&'static str; 2]>,
}

impl Bar {
    /// The figure, if this run has it.
    pub fn figure<'a>(&self, report: &'a Report) -> Option<&'a Spread> {
        report.figure(self.at)
    }

    /// What the plain program took, if there is one and this run has it.
    pub fn plain<'a>(&self, report: &'a Report) -> Option<&'a Spread> {
        let [row, column] = self.plain?;
        report.figure(["plain", row, column])
    }

    /// Whether the median is within the limit; `None` if it was not measured.
    pub fn is_met(&self, report: &Report) -> Option<bool> {
        self.figure(report).map(|figure| figure.median() <= self.limit)
    }

    /// `met`, `not met` or `not measured`.
    pub fn word(&self, report: &Report) -> &'static str {
        match self.is_met(report) {
            Some(true) => "met",
            Some(false) => "not met",
            None => "not measured",
        }
    }
}

/// Prints them all.
pub fn print(report: &Report) {
    println!("\nBars");
    for bar in &BARS {
        let figure = bar.figure(report).map_or_else(|| "-".to_owned(), Spread::to_string);
        let limit = format!("at most {} {}", bar.limit, bar.unit);
        println!("{:<66} {limit:<24} {figure:>24}  {}", bar.what, bar.word(report));
    }
}

const MILLION: &str = "packets-1000000";
const TEN_MILLION: &str = "packets-10000000";

const fn bar(what: &'static str, limit: f64, unit: &'static str, at: [&'static str; 3]) -> Bar {
    Bar { what, limit, unit, at, plain: None }
}

impl Bar {
    const fn beside(self, row: &'static str, column: &'static str) -> Self {
        Self { plain: Some([row, column]), ..self }
    }
}

const PORT: &str = "data, its port compared";
const LINE: &str = "DNS, one line of 4 MiB at random";
const BUCKET: &str = "DNS, the same, and then one of 64 MiB";
const COPY: &str = "QUIC Initial, copied to a ring unseen";

/// Costs in nanoseconds are above an empty program of the same run.
#[rustfmt::skip]
pub const BARS: [Bar; 21] = [
    bar("data packet of a connection, no state, one flow", 10.0, "ns", [MILLION, "mid-connection data", "hot"]).beside(PORT, "hot"),
    bar("the same, many flows", 20.0, "ns", [MILLION, "mid-connection data", "honest"]).beside(PORT, "honest"),
    bar("DNS query, 4 labels, not listed, 1 M names, hot", 40.0, "ns", [MILLION, "DNS, 4 labels, not listed", "hot"]).beside(LINE, "hot"),
    bar("the same, listed, dropped", 80.0, "ns", [MILLION, "DNS, 4 labels, listed, dropped", "hot"]).beside(BUCKET, "hot"),
    bar("DNS query, 4 labels, not listed, 1 M names, honest", 80.0, "ns", [MILLION, "DNS, 4 labels, not listed", "honest"]).beside(LINE, "honest"),
    bar("the same, 10 M names", 150.0, "ns", [TEN_MILLION, "DNS, 4 labels, not listed", "honest"]),
    bar("DNS query, 4 labels, listed, 1 M names, honest", 300.0, "ns", [MILLION, "DNS, 4 labels, listed, dropped", "honest"]).beside(BUCKET, "honest"),
    bar("hello of 583 octets, not listed, SNI first, hot", 75.0, "ns", [MILLION, "ClientHello, SNI first, not listed", "hot"]),
    bar("the same, SNI last", 130.0, "ns", [MILLION, "ClientHello, SNI last, not listed", "hot"]),
    bar("split hello, both segments together, new flow each time", 600.0, "ns", [MILLION, "split hello, not listed, both together", "honest"]),
    bar("QUIC Initial, kernel part (check, bucket, copy)", 300.0, "ns", [MILLION, "QUIC Initial, copied", "honest"]).beside(COPY, "honest"),
    bar("QUIC Initial, userspace part, tag checked", 4000.0, "ns", ["quic-tier", "not listed", "ns an Initial"]),
    bar("the same (tag checked here, too), bar for tags not checked", 2500.0, "ns", ["quic-tier", "not listed", "ns an Initial"]),
    bar("load 1 M names from a prepared file into the kernel", 0.3, "s", ["load", "1,000,000 names", "s in all"]),
    bar("load 10 M names", 3.0, "s", ["load", "10,000,000 names", "s in all"]),
    bar("kernel memory at 10 M names", 40.0, "octets a name", ["memory", "10,000,000 names", "octets a name"]),
    bar("the same, most while all names are written again", 40.0, "octets a name", ["memory", "10,000,000 names", "octets a name, most while it is written again"]),
    bar("live: listed DNS flood dropped, against parsing to UDP and dropping", 1.3, "times", ["live", "listed DNS, dropped", "times"]),
    bar("live: forwarding of unlisted DNS, against an empty program", 1.1, "times", ["live", "unlisted DNS", "times"]),
    bar("live: forwarding of hellos", 1.1, "times", ["live", "hellos", "times"]),
    bar("live: forwarding of data", 1.03, "times", ["live", "data", "times"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Table;

    #[test]
    fn a_bar_is_met_by_the_median_and_by_nothing_that_was_not_measured() {
        let mut report = Report::default();
        let [data, many, ..] = &BARS;
        assert_eq!(data.word(&report), "not measured");
        let table = report.table(Table::new(MILLION, "", &["hot", "honest"]));
        table.row("mid-connection data", [Spread::of(vec![9.0, 10.0, 99.0]), Spread::of(vec![1.0, 20.1, 21.0])]);
        assert_eq!((data.word(&report), many.word(&report)), ("met", "not met"));
        assert!(data.plain(&report).is_none());
        report
            .table(Table::new("plain", "", &["hot", "honest"]))
            .row(PORT, [Spread::of(vec![1.0]), Spread::of(vec![2.0])]);
        let plain = [data, many].map(|bar| bar.plain(&report).map(Spread::median));
        assert_eq!(plain, [Some(1.0), Some(2.0)]);
    }
}
