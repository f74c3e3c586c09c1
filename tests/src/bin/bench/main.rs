//! What Cordon costs: `cargo xtask bench`.

mod bars;
mod book;
mod daemon;
mod document;
mod flows;
mod live;
mod load;
mod machine;
mod names;
mod packets;
mod peers;
mod plain;
mod plot;
mod plots;
mod poll;
mod quic;
mod report;
mod sizes;
mod spread;
mod sweeps;
mod sync;
mod tier;
mod zone;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use cordon_tests::lab::{self, Folder};

use report::Report;

/// Measures what Cordon costs. Without options: what revisions are compared by.
#[derive(Parser)]
struct Options {
    /// Smaller counts
    #[arg(long)]
    quick: bool,
    /// Everything, within two minutes if quick, else within half an hour
    #[arg(long, conflicts_with = "part")]
    whole: bool,
    /// Only these parts
    #[arg(long)]
    part: Vec<String>,
    /// Writes the document and its plots into this folder
    #[arg(long, requires = "whole")]
    document: Option<PathBuf>,
    /// Which source was built, for the document
    #[arg(long, default_value = "")]
    revision: String,
    /// How many CPUs other work kept busy before the measurement, for the document
    #[arg(long)]
    busy: Option<f64>,
}

/// One run of the benchmark.
pub struct Run {
    /// How much is measured.
    pub size: Size,
    /// Whether that is little.
    pub is_quick: bool,
    /// For files; removed in the end, whatever the end is.
    pub folder: Folder,
}

/// How much is measured.
#[derive(Clone)]
pub struct Size {
    /// Names in the list, where only one list is measured.
    pub names: usize,
    /// Names in the other lists.
    pub lists: &'static [usize],
    /// Names in the lists that are loaded and changed.
    pub loads: &'static [usize],
    /// Names in the daemon's list where it is changed.
    pub daemon: usize,
    /// Names in the daemon's other lists, and how often each is measured.
    pub daemons: &'static [(usize, usize)],
    /// Starts of the daemon.
    pub starts: usize,
    /// Distinct short packets.
    pub short: u32,
    /// Distinct long packets.
    pub long: u32,
    /// How often each figure is measured.
    pub rounds: usize,
    /// Packets in one measurement: even, since some come in pairs, and no part of `short`, so that each measurement has
    /// other packets than the one before.
    pub repeat: u32,
    /// Changes by the daemon.
    pub changes: usize,
    /// Initials at one a second.
    pub idle: usize,
}

const FULL: Size = Size {
    names: 1_000_000,
    lists: &[1_000, 50_000, 10_000_000],
    loads: &[1_000, 50_000, 1_000_000, 10_000_000],
    daemon: 1_000_000,
    daemons: &[(1_000, 7), (50_000, 7), (1_000_000, 7)],
    starts: 7,
    short: 1 << 20,
    long: 1 << 17,
    rounds: 7,
    repeat: 100_000,
    changes: 200,
    idle: 20,
};

const QUICK: Size = Size {
    names: 100_000,
    lists: &[1_000, 1_000_000],
    loads: &[1_000, 100_000],
    daemon: 20_000,
    daemons: &[(1_000, 3)],
    starts: 1,
    short: 1 << 16,
    long: 1 << 13,
    rounds: 7,
    repeat: 50_000,
    changes: 12,
    idle: 3,
};

/// A part of the benchmark.
struct Part {
    name: &'static str,
    /// Programs that it starts.
    needs: &'static [&'static str],
    /// Revisions are compared by it.
    is_compared: bool,
    /// A quick run has it.
    in_quick: bool,
    run: fn(&Run, &mut Report) -> Result<()>,
}

const PARTS: [Part; 7] = [
    Part { name: "packets", needs: &[], is_compared: true, in_quick: true, run: packets::part },
    Part { name: "sizes", needs: &[], is_compared: false, in_quick: true, run: sizes::run },
    Part { name: "sweeps", needs: &[], is_compared: false, in_quick: true, run: sweeps::run },
    Part { name: "sync", needs: &[], is_compared: false, in_quick: true, run: sync::run },
    Part { name: "book", needs: &[], is_compared: false, in_quick: true, run: book::run },
    Part { name: "live", needs: &["ip", "ethtool"], is_compared: false, in_quick: true, run: live::run },
    Part { name: "peers", needs: &["ip", "ethtool"], is_compared: false, in_quick: false, run: peers::run },
];

fn main() -> ExitCode {
    let done = measure(&Options::parse());
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn measure(options: &Options) -> Result<ExitCode> {
    // SAFETY: no arguments, no failure.
    ensure!(unsafe { libc::geteuid() } == 0, "the benchmark loads BPF programs: run it as root");
    let parts = chosen(options)?;
    for program in parts.iter().flat_map(|part| part.needs) {
        ensure!(lab::find(program).is_some(), "{program} is not installed: run `cargo xtask setup --tests`");
    }
    let machine = machine::facts(options.busy)?;
    let size = if options.quick { QUICK } else { FULL };
    let run = Run { size, is_quick: options.quick, folder: lab::folder()? };
    let mut report = Report::default();
    for part in &parts {
        if let Err(error) = (part.run)(&run, &mut report) {
            eprintln!("error: {}: {error:#}", part.name);
            report.fail(part.name, format!("{error:#}"));
        }
    }
    if options.whole {
        bars::print(&report);
    }
    if let Some(folder) = &options.document {
        document::write(folder, &options.revision, &machine, &report)?;
    }
    Ok(if report.failed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those that were asked for; else all of them, or those that revisions are compared by.
fn chosen(options: &Options) -> Result<Vec<&'static Part>> {
    for name in &options.part {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        ensure!(known.contains(&name.as_str()), "there is no part {name}; there are {}", known.join(", "));
    }
    let is_chosen = |part: &&Part| match options {
        Options { part: names, .. } if !names.is_empty() => names.iter().any(|name| name == part.name),
        Options { whole: true, quick, .. } => part.in_quick || !quick,
        _ => part.is_compared,
    };
    Ok(PARTS.iter().filter(is_chosen).collect())
}
