//! `cordon stats`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{Global, output::table};
use crate::{
    control::{
        api::{ReasonCount, Stats},
        client::ClientError,
    },
    kernel::Tables,
    observe::reason_counts,
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
    Ok(Stats { reasons: reason_counts(&tables.counters()?), ..Stats::default() })
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
    if stats.events_lost > 0 {
        text.push_str(&format!("\n{} events were lost to slow readers\n", stats.events_lost));
    }
    text
}
