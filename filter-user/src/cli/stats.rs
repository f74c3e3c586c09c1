//! `cordon stats`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{Global, output::table};
use crate::{
    control::{
        api::{ReasonCount, Stats, TallyCount, TierStatus},
        client::ClientError,
    },
    kernel::Tables,
    observe::{reason_counts, tallies},
};

pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let stats = match global.client()?.get("/v1/stats") {
        Err(ClientError::Unreachable(_)) => pinned(global)?,
        stats => stats?,
    };
    global.output.print(&stats, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Without a daemon the counters are there, but only the daemon knows which order a slot is.
fn pinned(global: &Global) -> Result<Stats> {
    let root = global.config_or_default()?.daemon.pin_root;
    let tables = Tables::open(&root).with_context(|| format!("no daemon answers; {}", root.display()))?;
    Ok(Stats { reasons: reason_counts(&tables.counters()?), tallies: tallies(&tables.tallies()?), ..Stats::default() })
}

fn text(stats: &Stats) -> String {
    let mut rows = vec![["verdict", "reason", "packets", "octets"].map(str::to_owned).to_vec()];
    for ReasonCount { verdict, reason, packets, bytes } in &stats.reasons {
        rows.push(vec![verdict.clone(), reason.clone(), packets.to_string(), bytes.to_string()]);
    }
    let mut text = table(&rows);
    if !stats.orders.is_empty() {
        let mut rows = vec![["order", "decided", "concerned"].map(str::to_owned).to_vec()];
        for hits in &stats.orders {
            rows.push(vec![hits.order.clone(), hits.decided.to_string(), hits.concerned.to_string()]);
        }
        text.push('\n');
        text.push_str(&table(&rows));
    }
    if !stats.tallies.is_empty() {
        let mut rows = vec![["beside", "times"].map(str::to_owned).to_vec()];
        rows.extend(stats.tallies.iter().map(|TallyCount { what, count }| vec![what.clone(), count.to_string()]));
        text.push('\n');
        text.push_str(&table(&rows));
    }
    if let Some(tier) = &stats.tier {
        text.push('\n');
        text.push_str(&tier_text(tier));
    }
    if stats.events_lost > 0 {
        text.push_str(&format!("\n{} events were lost to slow readers\n", stats.events_lost));
    }
    text
}

/// The deferred tier, in a line.
pub(super) fn tier_text(tier: &TierStatus) -> String {
    let TierStatus { alive, restarts, decided, listed, undecided, nameless, junk, incomplete, failed } = tier;
    let life = if *alive { "alive" } else { "NO SIGN OF LIFE" };
    let mut text = format!(
        "deferred tier: {life}; {decided} names, {listed} of them listed; {undecided} copies undecided, {nameless} \
         without a name, {junk} junk; {incomplete} connections incomplete\n"
    );
    if *failed > 0 {
        text.push_str(&format!("deferred tier: {failed} NAMES COULD NOT BE WRITTEN\n"));
    }
    if *restarts > 0 {
        text.push_str(&format!("deferred tier: failed and began anew {restarts} times\n"));
    }
    text
}
