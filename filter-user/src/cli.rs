//! The command line.

mod audit;
mod check;
mod events;
mod explain;
mod feed;
mod interfaces;
mod order;
mod output;
mod replay;
mod report;
mod run;
mod stats;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, Config, Mistakes},
    control::client::{Client, ClientError},
    kernel,
};
use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the reason is on standard error
  2  the configuration, an order file or the command line is wrong
  3  the kernel did not take the program or its tables; trying again does not help
  4  no daemon answers at the control socket";

/// Stops the names that orders list, in DNS and TLS, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Global {
    /// The configuration [default: /etc/cordon/cordon.toml; where that is missing, the defaults]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// How results are printed: for people, as one JSON object or JSON Lines, or, of `report`, as CSV
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Loads the filter, attaches it, and keeps it equal to the orders
    ///
    /// SIGHUP reads the configuration again. SIGTERM and SIGINT stop the daemon and leave the filter enforcing what it
    /// has; `cordon detach` ends that.
    Run,
    /// Reads the configuration and the order files, and names every mistake
    Check,
    /// Tells what is attached and loaded, and what is wrong; needs no daemon
    ///
    /// The exit code is 1 if something is wrong: an interface is not attached, an order is not enforced, an order file
    /// is missing or has mistakes, a change waits for approval, a redirect target is not ready, the clock is behind, or a daemon runs that does not
    /// answer. It is 0 where no daemon runs: what is attached goes on.
    Status,
    /// Attaches the filter to interfaces
    ///
    /// Another program that is there is left alone, unless --replace is given. Without a daemon, the tables that are
    /// pinned are used: those of the last one.
    Attach(interfaces::Attach),
    /// Takes the filter off interfaces; needs no daemon: the off switch
    ///
    /// Other programs are left alone. A running daemon does not attach again by itself; its next start does, where the
    /// configuration names the interface.
    Detach(interfaces::Detach),
    /// Adds, shows and ends orders
    #[command(subcommand)]
    Order(order::Order),
    /// Shows feeds, reads them, and approves or rejects what guards hold of them
    #[command(subcommand)]
    Feed(feed::Feed),
    /// Checks and exports the history, whose entries are chained by their hashes; needs no daemon
    #[command(subcommand)]
    Audit(audit::Command),
    /// Tells who ordered what, when it was received, enforced and ended, and what it met; needs no daemon
    ///
    /// Without --order and --period all orders are told of, from the first entry of the history on. --output csv gives
    /// a line for each order. The exit code is 1 if the history is not as it was written.
    Report(report::Report),
    /// Tells which rule of which order decides about a name, and whether the kernel agrees
    ///
    /// For each protocol it says what the orders say, and what the kernel's tables do. The exit code is 1 if they do
    /// not agree. A protocol that the program does not read, as QUIC yet, is marked: no packet of it is stopped.
    Explain(explain::Explain),
    /// Packets by reason and by order
    Stats,
    /// What rules met of late: name, rule, order, protocol, scopes
    ///
    /// The client is told only where the configuration says so. Events are sampled: over the configured rate they are
    /// left out. The counters of `cordon stats` leave nothing out.
    Events(events::Events),
    /// Runs captures through the filter, with no interface attached
    ///
    /// Captures are pcap or pcapng with Ethernet frames, each taken as if it came in where subscribers are. Needs root;
    /// a running filter is not touched.
    ///
    /// With --output json there is one object a line for every packet that a rule stopped (or met, where the order only
    /// observes), and last {"summary": ...}. A capture that cannot be read to its end is named in the summary, and the
    /// exit code is 1.
    ///
    /// Orders are taken as in force whatever their dates, unless --at gives a time. Without --config every scope is
    /// all clients, and no redirect target is ready; the usual configuration file is not read.
    Replay(replay::Replay),
}

/// Carries out the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(code) => code,
        // Whoever reads our output has left.
        Err(error)
            if error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cordon: {}", told(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

impl Cli {
    fn run(self) -> Result<ExitCode> {
        let Self { global, command } = self;
        if global.output == Output::Csv && !matches!(command, Command::Report(_)) {
            bail!("--output csv is for `cordon report` alone");
        }
        match command {
            Command::Run => run::run(&global),
            Command::Check => check::run(&global),
            Command::Status => interfaces::status(&global),
            Command::Attach(attach) => attach.run(&global),
            Command::Detach(detach) => detach.run(&global),
            Command::Order(order) => order.run(&global),
            Command::Feed(feed) => feed.run(&global),
            Command::Audit(audit) => audit.run(&global),
            Command::Report(report) => report.run(&global),
            Command::Explain(explain) => explain.run(&global),
            Command::Stats => stats::run(&global),
            Command::Events(events) => events.run(&global),
            Command::Replay(replay) => replay.run(&global),
        }
    }
}

impl Global {
    /// The file that is read.
    fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_FILE))
    }

    /// The configuration, which must be there.
    fn config(&self) -> Result<Config> {
        Ok(Config::read(self.file())?)
    }

    /// The configuration; the defaults, if none is named and the usual file is missing.
    fn config_or_default(&self) -> Result<Config> {
        if self.config.is_none() && !self.file().exists() { Ok(Config::default()) } else { self.config() }
    }

    /// A way to the daemon.
    fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.config_or_default()?.daemon.socket))
    }
}

/// An error with its causes, each told once.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Mistakes>() {
        return 2;
    }
    if let Some(ClientError::Unreachable(_)) = error.downcast_ref() {
        return 4;
    }
    match error.downcast_ref() {
        Some(kernel::Error::Load { .. } | kernel::Error::NotBuilt | kernel::Error::Shape { .. }) => kernel::EXIT_LOAD,
        _ => 1,
    }
}
