//! `cordon status`, `attach` and `detach`: through the daemon where there is one, else on what is pinned.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Global, feed, output::table, stats::tier_text};
use crate::{
    book::{Book, Note},
    config::{CONTROL_SOURCE, Config},
    control::{
        api::{AttachRequest, DetachRequest, Detached, FeedStatus, InterfaceStatus, Status, TicketCounts},
        client::{ClientError, own_name},
    },
    daemon::{interface_status, off},
    kernel::{self, Kernel, Mode},
};

/// Longest wait for the daemon where the pins can do instead.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Daemon {
        #[serde(flatten)]
        status: Box<Status>,
        /// None if the daemon waits for a disk.
        feeds: Option<Vec<FeedStatus>>,
    },
    Pinned {
        interfaces: Vec<InterfaceStatus>,
        /// Why the daemon does not tell.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        problems: Vec<String>,
    },
}

pub(super) fn status(global: &Global) -> Result<ExitCode> {
    let config = global.config_or_default()?;
    let client = global.client()?.with_patience(PATIENCE);
    let report = match client.get::<Status>("/v1/status") {
        Ok(status) => Report::Daemon { status: Box::new(status), feeds: client.get("/v1/feeds").ok() },
        Err(ClientError::Unreachable(_)) => Report::Pinned { interfaces: pinned(&config)?, problems: Vec::new() },
        Err(error) => Report::Pinned { interfaces: pinned(&config)?, problems: vec![error.to_string()] },
    };
    global.output.print(&report, status_text)?;
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    /// Whether all that should be enforced is, as far as is known.
    fn is_well(&self) -> bool {
        match self {
            Self::Daemon { status, feeds } => {
                status.problems.is_empty()
                    && status.orders.not_enforced == 0
                    && status.clock_behind.is_none()
                    && status.tier.alive
                    && status.interfaces.iter().all(|line| line.problem.is_none())
                    && status.targets.iter().all(|target| target.problem.is_none())
                    && feeds.as_ref().is_some_and(|feeds| feeds.iter().all(feed::is_well))
            }
            Self::Pinned { problems, .. } => problems.is_empty(),
        }
    }
}

fn pinned(config: &Config) -> Result<Vec<InterfaceStatus>> {
    Ok(kernel::status(&config.daemon.pin_root)?.iter().map(interface_status).collect())
}

fn status_text(report: &Report) -> String {
    let (mut text, interfaces) = match report {
        Report::Daemon { status, feeds } => (daemon_text(status, feeds.as_deref()), &status.interfaces),
        Report::Pinned { interfaces, problems } => {
            let mut text: String = problems.iter().map(|problem| format!("problem: {problem}\n")).collect();
            if problems.is_empty() {
                text.push_str("no daemon; what is attached goes on enforcing what it has\n");
            }
            text.push('\n');
            (text, interfaces)
        }
    };
    if interfaces.is_empty() {
        text.push_str("attached to no interface\n");
        return text;
    }
    let mut rows = vec![["interface", "mode", "program", "layout", ""].map(str::to_owned).to_vec()];
    for line in interfaces {
        let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
        let mode = line.mode.clone().unwrap_or_else(|| "not attached".to_owned());
        let note = match (&line.problem, line.configured) {
            (Some(problem), _) => problem.clone(),
            (None, Some(false)) => "not in the configuration".to_owned(),
            _ => String::new(),
        };
        rows.push(vec![line.interface.clone(), mode, number(line.program), number(line.layout), note]);
    }
    text.push_str(&table(&rows));
    text
}

fn daemon_text(status: &Status, feeds: Option<&[FeedStatus]>) -> String {
    let Status { version, started, generation, orders, names, .. } = status;
    let mut text = format!("cordon {version}, running since {started:.0}, generation {generation}\n");
    text.push_str(&format!(
        "orders: {} in force, {} waiting, {} ended; {names} names\n",
        orders.in_force, orders.waiting, orders.ended
    ));
    if orders.not_enforced > 0 {
        text.push_str(&format!("{} ORDERS THAT SHOULD BE IN FORCE ARE NOT ENFORCED\n", orders.not_enforced));
    }
    if let Some(newest) = status.clock_behind {
        text.push_str(&format!("THE CLOCK IS WRONG: the book has an entry of {newest:.0}; no order starts or ends\n"));
    }
    for target in &status.targets {
        text.push_str(&format!("target {}: {}\n", target.name, target.problem.as_deref().unwrap_or("ready")));
    }
    text.push_str(&tier_text(&status.tier));
    for problem in &status.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    match feeds {
        Some(feeds) => text.extend(feeds.iter().map(feed_text)),
        None => text.push_str("problem: the daemon does not tell of its feeds; it waits for a disk\n"),
    }
    text.push('\n');
    text
}

fn feed_text(feed: &FeedStatus) -> String {
    const MOST: usize = 10;
    let FeedStatus { name, path, url, fetch, tickets, problem, refusals, held, .. } = feed;
    let mut text = String::new();
    let zone = fetch.as_ref().and_then(|fetch| fetch.zone.as_ref());
    let place = match zone {
        Some(zone) => format!("zone {}", zone.zone),
        None => url.clone().unwrap_or_else(|| path.display().to_string()),
    };
    let moment = |time: Option<Timestamp>| time.map_or("never".to_owned(), |time| format!("{time:.0}"));
    if let Some(fetch) = fetch {
        let (checked, changed) = (moment(fetch.checked), moment(fetch.changed));
        let age = fetch.age.map_or(String::new(), |age| format!(" ({age} s ago)"));
        text.push_str(&format!("feed {name}: {place}: asked {checked}{age}, changed {changed}\n"));
    }
    if let Some(TicketCounts { tickets, processed, unprocessed, open }) = tickets {
        let items = format!("{processed} processed, {unprocessed} not, {open} not answered");
        text.push_str(&format!("feed {name}: {tickets} tickets; items: {items}\n"));
    }
    if let Some(zone) = zone {
        text.push_str(&feed::zone_text(zone));
    }
    if let Some(problem) = problem {
        let stale = fetch.as_ref().and_then(|fetch| fetch.stale_since);
        let stale = stale.map_or(String::new(), |time| format!("; stale since {time:.0}, its orders stay"));
        text.push_str(&format!("problem: feed {name}: {place}: {problem}{stale}\n"));
    }
    text.extend(refusals.iter().take(MOST).map(|refusal| format!("refused: {refusal}\n")));
    if refusals.len() > MOST {
        text.push_str(&format!("refused: {} more of feed {name}\n", refusals.len() - MOST));
    }
    let waiting = held.iter().filter(|held| held.rejected.is_none());
    text.extend(waiting.map(feed::held_line));
    text
}

#[derive(Args, Debug)]
pub(super) struct Attach {
    /// Interfaces
    #[arg(required = true)]
    interface: Vec<String>,
    /// In the driver, or after it (slower) [default: the configuration's, or native]
    #[arg(long, value_enum)]
    mode: Option<ModeWord>,
    /// Take the place of another XDP program
    #[arg(long)]
    replace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeWord {
    Native,
    Generic,
}

impl Attach {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let config = global.config_or_default()?;
        let mut kernel = None;
        for interface in &self.interface {
            let generic = match self.mode {
                Some(mode) => mode == ModeWord::Generic,
                None => config.mode(interface) == Some(Mode::Generic),
            };
            let request = AttachRequest { interface: interface.clone(), generic, replace: self.replace };
            let attached = match global.client()?.post("/v1/attach", &request) {
                Err(ClientError::Unreachable(_)) => {
                    let kernel = match &kernel {
                        Some(kernel) => kernel,
                        None => kernel.insert(open_pinned(&config)?),
                    };
                    let mode = if generic { Mode::Generic } else { Mode::Native };
                    let attached = interface_status(&kernel.attach(interface, mode, self.replace)?);
                    off::unmark(&config.daemon.state_dir, interface)?;
                    let mode = attached.mode.as_deref();
                    let what = json!({"interface": interface, "mode": mode, "program": attached.program});
                    note(&config, "attach", what);
                    attached
                }
                attached => attached?,
            };
            global.output.print(&attached, |attached| {
                format!("{interface}: attached, {}", attached.mode.as_deref().unwrap_or("not any more"))
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The program on the tables that the last daemon pinned; on none it would stop nothing.
fn open_pinned(config: &Config) -> Result<Kernel> {
    let root = &config.daemon.pin_root;
    if kernel::Tables::open(root).is_err() {
        bail!("no daemon answers, and no tables are pinned under {}; start `cordon run`", root.display());
    }
    Ok(Kernel::open(root, &config.capacity)?)
}

#[derive(Args, Debug)]
pub(super) struct Detach {
    /// Interfaces
    #[arg(required_unless_present = "all")]
    interface: Vec<String>,
    /// From every interface that it is on
    #[arg(long, conflicts_with = "interface")]
    all: bool,
}

#[derive(Serialize)]
struct DetachLine<'a> {
    interface: &'a str,
    was_attached: bool,
}

impl Detach {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let config = global.config_or_default()?;
        let interfaces = if self.all {
            kernel::status(&config.daemon.pin_root)?.into_iter().map(|attached| attached.interface).collect()
        } else {
            self.interface
        };
        let (mut missing, mut failed, mut alone) = (false, None, Vec::new());
        let mut daemon = Some(global.client()?.with_patience(PATIENCE));
        for interface in &interfaces {
            let request = DetachRequest { interface: interface.clone() };
            let answer = daemon.as_ref().map(|daemon| daemon.post::<Detached>("/v1/detach", &request));
            let was_attached = match answer {
                Some(Ok(detached)) => Some(detached.was_attached),
                // The off switch works whatever the daemon does.
                Some(Err(error)) => {
                    if !matches!(error, ClientError::Unreachable(_)) {
                        eprintln!("cordon: {error}; detaching past it");
                    }
                    daemon = None;
                    None
                }
                None => None,
            };
            // One that cannot be detached keeps the filter off no other.
            let was_attached = match was_attached.map_or_else(|| detach_alone(&config, interface), Ok) {
                Ok(was_attached) => was_attached,
                Err(error) => {
                    eprintln!("cordon: {interface}: {error:#}");
                    failed = Some(error);
                    continue;
                }
            };
            if daemon.is_none() && was_attached {
                alone.push(interface);
            }
            missing |= !was_attached;
            let line = DetachLine { interface, was_attached };
            let word = if was_attached { "detached" } else { "was not attached" };
            global.output.print(&line, |line| format!("{}: {word}", line.interface))?;
        }
        // Last: the disk that a daemon hangs on may keep this waiting, too.
        for interface in alone {
            note(&config, "detach", json!({"interface": interface}));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Detaches without the daemon, which then leaves the interface alone if it runs after all.
fn detach_alone(config: &Config, interface: &str) -> Result<bool> {
    if let Err(error) = off::mark(&config.daemon.state_dir, interface) {
        let folder = config.daemon.state_dir.display();
        eprintln!("cordon: {interface}: {folder}: {error}; a daemon that runs may attach again");
    }
    Ok(kernel::detach(&config.daemon.pin_root, interface)?)
}

/// Has the history tell what was done without the daemon, and by whom. It is done whether this works or not.
fn note(config: &Config, op: &'static str, mut what: Value) {
    let user = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(user).ok().flatten().map_or(user.to_string(), |user| user.name);
    if let Some(claimed) = own_name().filter(|claimed| *claimed != name) {
        what["claimed"] = claimed.into();
    }
    (what["user"], what["uid"]) = (name.into(), user.as_raw().into());
    let note = Note { source: CONTROL_SOURCE.to_owned(), op, order: String::new(), detail: what };
    if let Err(error) = Book::note_past(&config.daemon.state_dir, note) {
        eprintln!("cordon: the history does not have it: {error}");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::control::api::{OrderCounts, RefusalLine, TierStatus};

    fn status() -> Box<Status> {
        Box::new(Status {
            version: "1".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            layout: 1,
            generation: 1,
            interfaces: Vec::new(),
            orders: OrderCounts::default(),
            names: 0,
            targets: Vec::new(),
            clock_behind: None,
            tier: TierStatus { alive: true, ..TierStatus::default() },
            problems: Vec::new(),
        })
    }

    fn feed() -> FeedStatus {
        FeedStatus {
            name: "f".to_owned(),
            path: "/f".into(),
            url: None,
            fetch: None,
            tickets: None,
            read: None,
            problem: None,
            refusals: Vec::new(),
            held: Vec::new(),
        }
    }

    #[test]
    fn whatever_is_wrong_is_told_and_makes_the_exit_code() {
        let well = Report::Daemon { status: status(), feeds: Some(vec![feed()]) };
        assert!(well.is_well());
        assert!(!status_text(&well).contains("problem"));

        let orders = OrderCounts { in_force: 3, not_enforced: 2, ..OrderCounts::default() };
        let not_enforced = Report::Daemon { status: Box::new(Status { orders, ..*status() }), feeds: Some(Vec::new()) };
        let missing = FeedStatus { problem: Some("not there".to_owned()), ..feed() };
        let refusal = RefusalLine { file: "/f".into(), line: 2, text: "x".into(), why: "no name".into() };
        let refused = FeedStatus { refusals: vec![refusal; 12], ..feed() };
        for (report, told) in [
            (not_enforced, "2 ORDERS THAT SHOULD BE IN FORCE ARE NOT ENFORCED\n"),
            (Report::Daemon { status: status(), feeds: Some(vec![missing]) }, "problem: feed f: /f: not there\n"),
            (Report::Daemon { status: status(), feeds: Some(vec![refused]) }, "refused: 2 more of feed f\n"),
            (Report::Daemon { status: status(), feeds: None }, "problem: the daemon does not tell of its feeds"),
            (Report::Pinned { interfaces: Vec::new(), problems: vec!["silent".to_owned()] }, "problem: silent\n"),
        ] {
            let text = status_text(&report);
            assert!(!report.is_well() && text.contains(told), "{text}");
        }
        assert!(Report::Pinned { interfaces: Vec::new(), problems: Vec::new() }.is_well());
    }
}
