//! A report for people.

use std::fmt::Write;

use jiff::Timestamp;

use super::{Changed, HeldBack, OrderReport, Refused, Report, Term};

/// All of it, each order with its whole story.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Nothing can go wrong in writing to memory.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let from = report.from.map_or("the beginning".to_owned(), |from| format!("{from:.0}"));
    writeln!(out, "orders from {from} to {:.0}, made {:.0}", report.until, report.made)?;
    writeln!(out, "audit head {}", report.audit_head.as_deref().unwrap_or("none"))?;
    for problem in &report.audit_problems {
        writeln!(out, "THE HISTORY IS NOT AS IT WAS WRITTEN: {problem}")?;
    }
    report.unknown.iter().try_for_each(|unknown| writeln!(out, "not known: {unknown}"))?;
    report.orders.iter().try_for_each(|order| write_order(order, out))?;
    let of_orders: Vec<&Refused> = report.orders.iter().flat_map(|order| &order.refused).collect();
    let others: Vec<&Refused> = report.refused.iter().filter(|row| !of_orders.contains(row)).collect();
    if !others.is_empty() {
        writeln!(out, "\nrefused rows of no order above")?;
        write_refused(&others, out)?;
    }
    Ok(())
}

fn write_order(order: &OrderReport, out: &mut String) -> std::fmt::Result {
    let OrderReport { id, issuer, basis, reference, issued, source, state, hits, .. } = order;
    let actions: Vec<String> = order.actions.iter().map(|(protocol, action)| format!("{protocol}={action}")).collect();
    writeln!(out, "\norder {id}: {}", state.replace('_', " "))?;
    for (word, value) in [
        ("ordered by", issuer.clone()),
        ("basis", basis.clone()),
        ("reference", reference.clone()),
        ("issued", issued.clone()),
        ("came from", source.clone()),
        ("in force", format!("{} to {}", order.not_before, order.not_after)),
        ("stops", format!("{}, match {}, clients {}", actions.join(" "), order.reach, order.scopes.join(" "))),
    ] {
        writeln!(out, "  {word:<12}{value}")?;
    }
    order.terms.iter().try_for_each(|term| write_term(term, out))?;
    writeln!(out, "  {:<12}{} packets decided, {} concerned", "hits", hits.decided, hits.concerned)?;
    match &order.names {
        Some(names) => {
            let more = names.len().saturating_sub(SHOWN);
            let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(out, "  {:<12}{}: {}{more}", "names", order.names_count, shown.join(" "))?;
        }
        None => writeln!(out, "  {:<12}{}; which they were, the history tells as digests", "names", order.names_count)?,
    }
    order.changes.iter().try_for_each(|change| write_change(change, out))?;
    order.held.iter().try_for_each(|held| write_held(held, out))?;
    for trouble in &order.not_enforced {
        writeln!(out, "  not enforced as it should be since {:.0}: {}", trouble.since, trouble.why)?;
    }
    write_refused(&order.refused.iter().collect::<Vec<_>>(), out)
}

fn write_term(term: &Term, out: &mut String) -> std::fmt::Result {
    let moment = |time: Option<Timestamp>| time.map_or("not known".to_owned(), |time| format!("{time:.3}"));
    writeln!(out, "  {:<12}{}", "received", moment(term.received))?;
    let in_tables = match (term.in_tables, term.at_the_latest) {
        (None, _) => "not known".to_owned(),
        (Some(time), true) => format!("{time:.3} at the latest"),
        (Some(time), false) => format!("{time:.3}, {:.3} s after it was received", term.seconds.unwrap_or_default()),
    };
    writeln!(out, "  {:<12}{in_tables}", "in tables")?;
    let enforced = term.enforced.map_or("not yet, as far as is known".to_owned(), |time| format!("since {time:.3}"));
    writeln!(out, "  {:<12}{enforced}", "enforced")?;
    if let Some(ended) = term.ended {
        writeln!(out, "  {:<12}{ended:.3}: {}", "ended", term.why.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn write_change(change: &Changed, out: &mut String) -> std::fmt::Result {
    let Changed { entry, received, op, source, by, what, in_tables, seconds, at_the_latest, .. } = change;
    let by = by.as_ref().map_or(String::new(), |by| format!(", by {by}"));
    let done = match (in_tables, seconds) {
        (Some(time), _) if *at_the_latest => format!("; in the tables at {time:.3} at the latest"),
        (Some(_), Some(seconds)) => format!("; in the tables after {seconds:.3} s"),
        _ => "; when the tables had it is not known".to_owned(),
    };
    writeln!(out, "  entry {entry}: {received:.3}: {op} from {source}{by}: {what}{done}")
}

fn write_held(held: &HeldBack, out: &mut String) -> std::fmt::Result {
    let HeldBack { id, guard, why, since, outcome, until, by, missed, .. } = held;
    let by = by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
    let outcome = match (outcome.as_deref(), until) {
        (Some(outcome), Some(until)) => format!("{outcome} {until:.0}{by}"),
        _ => "waits still".to_owned(),
    };
    let missed = if *missed { "; ITS DEADLINE WAS MISSED" } else { "" };
    writeln!(out, "  held {since:.0}: {guard}: {why}: {outcome}{missed}; id {id}")
}

fn write_refused(refused: &[&Refused], out: &mut String) -> std::fmt::Result {
    for Refused { time, file, line, text, why, .. } in refused.iter().take(SHOWN) {
        let place = if *line > 0 { format!("{file}:{line}") } else { file.clone() };
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        writeln!(out, "  refused {time:.0}: {place}{text}: {why}")?;
    }
    if refused.len() > SHOWN {
        writeln!(out, "  refused: {} more; --output json has them all", refused.len() - SHOWN)?;
    }
    Ok(())
}

/// Names, and refused rows, that are shown of each order.
const SHOWN: usize = 20;
