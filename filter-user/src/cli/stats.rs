//! `cordon stats`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{Global, output::table};
use crate::{
    control::{
        api::{FlowUse, Hidden, ReasonCount, Stats, TallyCount, TierStatus},
        client::ClientError,
    },
    kernel::Tables,
    observe::{flow_uses, hidden, reason_counts, tallies},
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
    let (counters, counted) = (tables.counters()?, tables.tallies()?);
    Ok(Stats {
        reasons: reason_counts(&counters),
        hidden: hidden(&counters, &counted),
        tallies: tallies(&counted),
        flows: flow_uses(&tables.flow_maps()?),
        ..Stats::default()
    })
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
    text.push('\n');
    text.push_str(&hidden_text(&stats.hidden, stats.tier.as_ref()));
    if !stats.tallies.is_empty() {
        let mut rows = vec![["beside", "times"].map(str::to_owned).to_vec()];
        rows.extend(stats.tallies.iter().map(|TallyCount { what, count }| vec![what.clone(), count.to_string()]));
        text.push('\n');
        text.push_str(&table(&rows));
    }
    if !stats.flows.is_empty() {
        let mut rows = vec![["flows", "made", "done with", "room", "KiB"].map(str::to_owned).to_vec()];
        rows.extend(stats.flows.iter().map(|FlowUse { map, capacity, octets, set, done }| {
            vec![map.clone(), set.to_string(), done.to_string(), capacity.to_string(), (octets >> 10).to_string()]
        }));
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

/// What no order can reach, in plain words.
fn hidden_text(hidden: &Hidden, tier: Option<&TierStatus>) -> String {
    let mut rows = vec![
        ("what names cannot be seen", "times".to_owned()),
        ("DNS over TLS: connections opened", hidden.dns_over_tls.to_string()),
        ("DNS over QUIC: first packets", hidden.dns_over_quic.to_string()),
        ("TLS to known public resolvers: connections opened", hidden.resolver_tls.to_string()),
        ("QUIC to known public resolvers: first packets", hidden.resolver_quic.to_string()),
        ("TLS hellos without a name", hidden.hellos_without_name.to_string()),
        ("QUIC packets of other versions than 1 and 2", hidden.quic_versions.to_string()),
    ];
    let tls = format!("TLS hellos with an encrypted one inside, of one in {}", hidden.searched_one_in);
    rows.push((&tls, share(hidden.hellos_encrypted, hidden.hellos_searched)));
    let quic = tier.map(|tier| {
        let TierStatus { searched, encrypted, searched_one_in, .. } = tier;
        let what = format!("QUIC hellos with an encrypted one inside, of one in {searched_one_in}");
        (what, share(*encrypted, *searched))
    });
    rows.extend(quic.as_ref().map(|(what, times)| (what.as_str(), times.clone())));
    table(&rows.iter().map(|(what, times)| vec![(*what).to_owned(), times.clone()]).collect::<Vec<_>>())
}

fn share(some: u64, all: u64) -> String {
    match all {
        0 => "none searched yet".to_owned(),
        all => format!("{some} of {all} ({:.1} %)", some as f64 / all as f64 * 100.0),
    }
}

/// The deferred tier, in a line.
pub(super) fn tier_text(tier: &TierStatus) -> String {
    let TierStatus { alive, restarts, decided, listed, undecided, nameless, junk, incomplete, failed, .. } = tier;
    let life = if *alive { "alive" } else { "NO SIGN OF LIFE" };
    let mut text = format!(
        "deferred tier: {life}; {decided} connections with a name, {listed} of them listed, {nameless} without one, \
         {incomplete} incomplete; {undecided} copies undecided, {junk} junk\n"
    );
    if *failed > 0 {
        text.push_str(&format!("deferred tier: {failed} NAMES COULD NOT BE WRITTEN\n"));
    }
    if *restarts > 0 {
        text.push_str(&format!("deferred tier: failed and began anew {restarts} times\n"));
    }
    text
}
