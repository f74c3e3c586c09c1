//! A report as CSV (RFC 4180): a line for each order.

use std::io::{self, Write};

use csv_core::{WriteResult, Writer};
use jiff::Timestamp;

use super::{OrderReport, Report};

/// The columns, in order.
pub const COLUMNS: [&str; 27] = [
    "id",
    "issuer",
    "basis",
    "reference",
    "issued",
    "source",
    "not_before",
    "not_after",
    "actions",
    "scopes",
    "match",
    "state",
    "received",
    "in_tables",
    "seconds",
    "at_the_latest",
    "enforced",
    "ended",
    "ended_why",
    "names_count",
    "names",
    "hits_decided",
    "hits_concerned",
    "changes",
    "held",
    "refused",
    "audit_head",
];

/// Writes it. An order that was put again after it was revoked has its last time here.
///
/// # Errors
/// Those of the output.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    line(&COLUMNS.map(str::to_owned), out)?;
    report.orders.iter().try_for_each(|order| line(&fields(report, order), out))
}

fn fields(report: &Report, order: &OrderReport) -> [String; 27] {
    let term = order.terms.last().cloned().unwrap_or_default();
    let moment = |time: Option<Timestamp>| time.map_or(String::new(), |time| time.to_string());
    let actions: Vec<String> = order.actions.iter().map(|(protocol, action)| format!("{protocol}={action}")).collect();
    // A cell with a million names is no use to anybody.
    let names = order.names.iter().filter(|names| names.len() <= MOST_NAMES).flatten();
    [
        order.id.clone(),
        order.issuer.clone(),
        order.basis.clone(),
        order.reference.clone(),
        order.issued.clone(),
        order.source.clone(),
        order.not_before.clone(),
        order.not_after.clone(),
        actions.join(" "),
        order.scopes.join(" "),
        order.reach.clone(),
        order.state.to_owned(),
        moment(term.received),
        moment(term.in_tables),
        term.seconds.map_or(String::new(), |seconds| format!("{seconds:.3}")),
        if term.at_the_latest { "yes" } else { "" }.to_owned(),
        moment(term.enforced),
        moment(term.ended),
        term.why.unwrap_or_default(),
        order.names_count.to_string(),
        names.map(String::as_str).collect::<Vec<_>>().join(" "),
        order.hits.decided.to_string(),
        order.hits.concerned.to_string(),
        order.changes.len().to_string(),
        order.held.len().to_string(),
        order.refused.len().to_string(),
        report.audit_head.clone().unwrap_or_default(),
    ]
}

fn line(fields: &[String], out: &mut impl Write) -> io::Result<()> {
    let mut writer = Writer::new();
    let mut buffer = [0; 4096];
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            let (_, written) = writer.delimiter(&mut buffer);
            out.write_all(buffer.get(..written).unwrap_or_default())?;
        }
        let mut rest = guarded(field).into_bytes();
        loop {
            let (result, read, written) = writer.field(&rest, &mut buffer);
            out.write_all(buffer.get(..written).unwrap_or_default())?;
            rest.drain(..read);
            if result == WriteResult::InputEmpty {
                break;
            }
        }
    }
    let (_, written) = writer.terminator(&mut buffer);
    out.write_all(buffer.get(..written).unwrap_or_default())
}

/// What a feed wrote must not be a formula where a report is opened as a table.
fn guarded(field: &str) -> String {
    if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{field}") } else { field.to_owned() }
}

/// Names that a cell holds; of more, their number is all.
const MOST_NAMES: usize = 1000;
