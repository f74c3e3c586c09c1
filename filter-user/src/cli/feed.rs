//! `cordon feed`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;

use super::Global;
use crate::{
    control::{
        api::{DecideRequest, FeedStatus, HeldChange, HeldNames, Submitted, SyncRequest, TicketCounts},
        client::{Client, escaped, own_name},
    },
    feed::transfer::ZoneState,
};

#[derive(Debug, Subcommand)]
pub(super) enum Feed {
    /// Tells of each feed, what was refused of it, and what is held until it is approved
    ///
    /// The exit code is 1 if something is wrong, refused or held. With --output json every held name is listed.
    Status {
        /// This feed alone
        feed: Option<String>,
    },
    /// Reads a feed now, or all of them
    ///
    /// Servers are asked at once; what they give is read and enforced as it arrives.
    Sync {
        /// The feed
        feed: Option<String>,
    },
    /// Has a held change enforced: exactly what is shown, and nothing that has come since
    Approve(Decide),
    /// Has a held change not enforced, and not asked for again until the feed says something else
    Reject(Decide),
}

#[derive(Debug, clap::Args)]
pub(super) struct Decide {
    /// The feed; `control` has what came by `cordon order`
    feed: String,
    /// Held changes; may be left out where there is one only
    id: Vec<String>,
    /// Every change of this feed that is held now
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

impl Feed {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let client = global.client()?;
        match self {
            Self::Status { feed } => {
                let whole = global.output == super::Output::Json;
                status(global, feeds(&client, feed.as_deref(), whole)?)
            }
            Self::Sync { feed } => {
                let mut feeds: Vec<FeedStatus> = client.post("/v1/feeds/sync", &SyncRequest { feed: feed.clone() })?;
                feeds.retain(|known| feed.as_ref().is_none_or(|feed| known.name == *feed));
                status(global, feeds)
            }
            Self::Approve(decide) => decide.run(global, &client, "approve"),
            Self::Reject(decide) => decide.run(global, &client, "reject"),
        }
    }
}

impl Decide {
    fn run(self, global: &Global, client: &Client, word: &str) -> Result<ExitCode> {
        let Self { feed, id, all } = self;
        let known = feeds(client, Some(&feed), false)?;
        let held: Vec<&HeldChange> = known.iter().flat_map(|feed| &feed.held).collect();
        let waiting = || held.iter().filter(|held| held.rejected.is_none()).copied();
        let chosen: Vec<&HeldChange> = if all {
            waiting().collect()
        } else if id.is_empty() {
            match waiting().collect::<Vec<_>>()[..] {
                [] => bail!("feed {feed}: nothing is held"),
                [one] => vec![one],
                _ => {
                    bail!("feed {feed}: several changes are held; name them, or --all; see `cordon feed status {feed}`")
                }
            }
        } else {
            let mut chosen = Vec::new();
            for id in &id {
                match held.iter().find(|held| held.id == *id) {
                    Some(held) => chosen.push(*held),
                    None => bail!(
                        "feed {feed} has no held change {id}: it may have changed since it was shown; see `cordon feed \
                         status {feed}`"
                    ),
                }
            }
            chosen
        };
        if global.output == super::Output::Text {
            // What is decided about, as it is now: the daemon takes the ids for nothing else.
            print!("{}", chosen.iter().map(|held| held_text(held)).collect::<String>());
        }
        let changes = chosen.iter().map(|held| held.id.clone()).collect();
        let request = DecideRequest { changes, user: own_name() };
        let done: Submitted = client.post(&format!("/v1/feeds/{}/{word}", escaped(&feed)), &request)?;
        super::order::submitted(global, &done)
    }
}

/// The feeds, or the one of this name.
fn feeds(client: &Client, name: Option<&str>, whole: bool) -> Result<Vec<FeedStatus>> {
    let mut feeds: Vec<FeedStatus> = client.get(&format!("/v1/feeds?whole={whole}"))?;
    if let Some(name) = name {
        feeds.retain(|feed| feed.name == name);
        if feeds.is_empty() {
            bail!("no feed {name} is configured, or nothing of it is held");
        }
    }
    Ok(feeds)
}

fn status(global: &Global, feeds: Vec<FeedStatus>) -> Result<ExitCode> {
    global.output.print(&feeds, |feeds| feeds.iter().map(status_text).collect())?;
    Ok(if feeds.iter().all(is_well) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all of a feed is taken.
pub(super) fn is_well(feed: &FeedStatus) -> bool {
    feed.problem.is_none() && feed.refusals.is_empty() && feed.held.iter().all(|held| held.rejected.is_some())
}

fn status_text(feed: &FeedStatus) -> String {
    let FeedStatus { name, path, fetch, read, tickets, problem, refusals, held, .. } = feed;
    let read = read.map_or("not read yet".to_owned(), |read| format!("read {read:.0}"));
    let mut text = if path.as_os_str().is_empty() {
        format!("{name}: what `cordon order` gave\n")
    } else {
        format!("{name}: {}, {read}\n", path.display())
    };
    if let Some(TicketCounts { tickets, processed, unprocessed, open }) = tickets {
        let items = format!("{processed} processed, {unprocessed} not, {open} not answered");
        text.push_str(&format!("  {tickets} tickets; items: {items}\n"));
    }
    if let Some(zone) = fetch.as_ref().and_then(|fetch| fetch.zone.as_ref()) {
        text.push_str(&zone_text(zone));
    }
    if let Some(problem) = problem {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    text.extend(refusals.iter().take(MOST).map(|refusal| format!("  refused: {refusal}\n")));
    if refusals.len() > MOST {
        text.push_str(&format!("  refused: {} more\n", refusals.len() - MOST));
    }
    text.extend(held.iter().map(held_text));
    text
}

/// How the transfer of a zone goes.
pub(super) fn zone_text(zone: &ZoneState) -> String {
    let ZoneState { serial, expires, is_expired, primaries, notifies, notifies_refused, whole, incremental, .. } = zone;
    let serial = serial.map_or("nothing transferred yet".to_owned(), |serial| format!("serial {serial}"));
    let ends = if *is_expired { "expired" } else { "expires" };
    let expires = expires.map_or(String::new(), |time| format!(", {ends} {time:.0}"));
    let mut text = format!(
        "  {serial}{expires}; AXFR {whole}, IXFR {incremental}; NOTIFY {notifies}, refused {notifies_refused}\n"
    );
    for primary in primaries {
        let serial = primary.serial.map_or("nothing".to_owned(), |serial| format!("serial {serial}"));
        let said = primary.problem.clone().unwrap_or_else(|| format!("has {serial}"));
        text.push_str(&format!("  primary {}: {said}, asked {:.0}\n", primary.address, primary.asked));
    }
    text
}

/// A held change with its diff.
fn held_text(held: &HeldChange) -> String {
    let HeldChange { id, order, source, line, why, since, until, deadline, late, .. } = held;
    let about = if order.is_empty() { source.clone() } else { format!("order {order}") };
    let state = match (held.rejected, &held.rejected_by) {
        (Some(time), Some(by)) => format!("rejected {time:.0} by {by}"),
        (Some(time), None) => format!("rejected {time:.0}"),
        (None, _) => format!("held since {since:.0}"),
    };
    let mut text = format!("  {id}  {about}: {state}\n");
    if !order.is_empty() {
        text.push_str(&format!("    from {source}{}\n", if *line > 0 { format!(":{line}") } else { String::new() }));
    }
    text.push_str(&format!("    {why}\n"));
    if let Some(until) = until {
        text.push_str(&format!("    let through at {until:.0}\n"));
    }
    if let Some(deadline) = deadline {
        let late = if *late { ": MISSED unless approved before" } else { "" };
        text.push_str(&format!("    deadline {deadline:.0}{late}\n"));
    }
    for (field, (before, after)) in &held.terms {
        text.push_str(&format!("    {field}: {before} -> {after}\n"));
    }
    for (sign, names) in
        [("+ ", &held.added), ("- ", &held.removed), ("- except ", &held.except_removed), ("- order ", &held.orders)]
    {
        text.push_str(&names_text(sign, names));
    }
    text
}

fn names_text(sign: &str, names: &HeldNames) -> String {
    let mut text = String::new();
    for name in names.first.iter().take(MOST) {
        let why = if name.why.is_empty() { String::new() } else { format!("  ({})", name.why) };
        text.push_str(&format!("    {sign}{}{why}\n", name.name));
    }
    let shown = names.first.len().min(MOST) as u64;
    if names.count > shown {
        text.push_str(&format!("    {sign}{} more\n", names.count - shown));
    }
    text
}

/// A held change in a line, for `cordon status`.
pub(super) fn held_line(held: &HeldChange) -> String {
    let mut text = format!("held: {}\n", held.summary());
    if let Some(deadline) = held.deadline.filter(|_| held.late) {
        text.push_str(&format!("problem: feed {}: {} misses its deadline of {deadline:.0}\n", held.feed, held.id));
    }
    text
}

/// Lines of each kind that are shown.
const MOST: usize = 10;
