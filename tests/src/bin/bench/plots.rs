//! Which figures are plotted against what.

use crate::{
    packets,
    plot::{Axis, Plot, Series},
    report::{Report, Table},
    sweeps::HONEST,
};

/// Those that this run has figures for.
pub fn of(report: &Report) -> Vec<Plot> {
    let mut plots = vec![
        against_size(report, "sizes-dns.svg", "DNS queries and data, against the list", &QUERIES),
        against_size(report, "sizes-hellos.svg", "Hellos and Initials, against the list", &HELLOS),
    ];
    for (id, file, title, x) in [
        ("labels", "labels.svg", "DNS queries of 64 octets, not listed, against labels", Axis::log("labels", 2.0)),
        ("lengths", "lengths.svg", "DNS queries of 4 labels, not listed, against octets", Axis::log("octets", 2.0)),
        (
            "shares",
            "shares.svg",
            "DNS queries of 4 labels, against the share of listed names",
            Axis::linear("% listed"),
        ),
    ] {
        let series = report.find(id).map(|table| one(table, HONEST)).into_iter().collect();
        plots.push(Plot { file, title: title.to_owned(), x, y: "ns a packet", series });
    }
    plots.retain(|plot| plot.series.iter().any(|series| series.points.len() > 1));
    plots
}

fn against_size(report: &Report, file: &'static str, title: &str, rows: &[&str]) -> Plot {
    let series = |row: &&str| {
        let mut points: Vec<_> = SIZES
            .iter()
            .filter_map(|names| Some((*names as f64, report.figure([&packets::id(*names), row, "honest"])?.clone())))
            .collect();
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Series { title: (*row).to_owned(), points }
    };
    let series = rows.iter().map(series).filter(|series| !series.points.is_empty()).collect();
    Plot { file, title: title.to_owned(), x: Axis::log("names", 10.0), y: "ns a packet", series }
}

/// Every row that has a place.
fn one(table: &Table, column: &str) -> Series {
    let points =
        table.rows.iter().filter_map(|row| Some((row.x?, table.figure(&row.title, column)?.clone()))).collect();
    Series { title: column.to_owned(), points }
}

/// Lists that any run measures beside.
const SIZES: [usize; 5] = [1_000, 50_000, 100_000, 1_000_000, 10_000_000];

const QUERIES: [&str; 7] = [
    "mid-connection data",
    "DNS, 2 labels, not listed",
    "DNS, 4 labels, not listed",
    "DNS, 8 labels, not listed",
    "DNS, 2 labels, listed, dropped",
    "DNS, 4 labels, listed, dropped",
    "DNS, 8 labels, listed, dropped",
];

const HELLOS: [&str; 7] = [
    "ClientHello, SNI first, not listed",
    "ClientHello, SNI last, not listed",
    "ClientHello, SNI first, listed, dropped",
    "ClientHello, SNI last, listed, dropped",
    "split hello, not listed, both together",
    "split hello, listed, both together",
    "QUIC Initial, copied",
];
