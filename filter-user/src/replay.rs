//! Captures through the filter: each frame goes through the loaded XDP program by BPF_PROG_TEST_RUN, with tables of
//! its own and no interface attached.

pub mod capture;
mod lockstep;
mod tables;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use filter_common::verdict::{Asker, Reason};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    config::Config,
    feed::Refusal,
    kernel::{Event, Events, Kernel, Reading},
    name::Name,
    observe::KernelView,
    policy::image,
};
use capture::Capture;
use lockstep::{Found, Lockstep, Settled};
use tables::Prepared;

/// What to replay, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files and folders of orders in the native format.
    pub orders: Vec<PathBuf>,
    /// Captures.
    pub captures: Vec<PathBuf>,
    /// Gives scopes, targets and the allow list. Without it, every scope is all clients and there is no target.
    pub config: Option<Config>,
    /// Whether guarded names are refused.
    pub guards: bool,
    /// Which ports are read.
    pub reading: Reading,
    /// Whether the deferred tier runs, and decides before the next frame.
    pub lockstep: bool,
    /// The time that the orders' dates are compared with. Without it, every order is in force.
    pub at: Option<Timestamp>,
}

/// A packet that a rule met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stop<'a> {
    /// The capture, as it was named.
    pub pcap: &'a Path,
    /// Number of the frame, from 1.
    pub frame: u64,
    /// `drop`, `answer`, `redirect`; `pass` where the order only observes or its redirect target is not ready;
    /// `deferred` where the deferred tier found the name of a connection, whose later packets meet the order.
    pub verdict: &'static str,
    /// Why. For `deferred`, the order's action.
    pub reason: &'static str,
    /// The name in the packet.
    pub name: Option<String>,
    /// The order's name that covers it.
    pub rule: Option<String>,
    /// Orders that hold for this packet: the deciding one, then the others, oldest first.
    pub orders: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Captures that were read, also in part.
    pub captures: u64,
    /// Frames that were run.
    pub packets: u64,
    /// Their octets.
    pub bytes: u64,
    /// Packets by verdict and reason.
    pub verdicts: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Median of the program's time for a packet, as the kernel measures it; each frame runs once.
    pub ns_per_packet: u32,
    /// Frames of less than an Ethernet header, which the kernel does not run.
    pub too_short: u64,
    /// Frames that the kernel did not run for another reason, such as their length.
    pub not_run: u64,
    /// Entries of the order files that were not taken.
    pub refusals: u64,
    /// Captures that could not be read to their end, and why.
    pub problems: Vec<Problem>,
    /// Seconds that the replay took.
    pub seconds: u64,
}

/// A capture that could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The capture, as it was named.
    pub pcap: PathBuf,
    /// Frames that were read before.
    pub frames: u64,
    /// Why.
    pub why: String,
}

/// Frames shorter than this have no whole Ethernet header; `bpf_prog_test_run_xdp` answers EINVAL.
const SHORTEST_FRAME: usize = 14;

/// Replays captures. `report` gets each packet that a rule met, `refuse` what the order files hold that cannot be
/// taken.
///
/// # Errors
/// If the orders cannot be read or the program not be loaded, and those of `report`. A capture that cannot be read
/// is no error, but a [`Problem`].
pub fn run(
    options: &Options,
    progress: &ProgressBar,
    mut report: impl FnMut(&Stop<'_>) -> io::Result<()>,
    mut refuse: impl FnMut(&Refusal),
) -> Result<Summary> {
    let started = Instant::now();
    let prepared = Prepared::new(options)?;
    prepared.refusals.iter().for_each(&mut refuse);
    let kernel = prepared.load(options)?;
    let lockstep = options.lockstep.then(|| Lockstep::new(&kernel)).transpose()?;
    let mut replay = Replay {
        lockstep,
        events: kernel.tables().events()?,
        kernel: &kernel,
        prepared: &prepared,
        times: Times::new(),
        summary: Summary { refusals: prepared.refusals.len() as u64, ..Summary::default() },
    };
    for pcap in &options.captures {
        replay.capture(pcap, progress, &mut report)?;
    }
    let mut summary = replay.summary;
    summary.ns_per_packet = replay.times.median();
    for (reason, counter) in kernel.tables().counters()?.into_iter().filter(|(_, counter)| counter.packets > 0) {
        let reasons = summary.verdicts.entry(reason.verdict().word()).or_default();
        reasons.insert(reason.word(), counter.packets);
    }
    summary.seconds = started.elapsed().as_secs();
    Ok(summary)
}

struct Replay<'a> {
    lockstep: Option<Lockstep>,
    kernel: &'a Kernel,
    events: Events,
    prepared: &'a Prepared,
    times: Times,
    summary: Summary,
}

impl Replay<'_> {
    fn capture(
        &mut self,
        pcap: &Path,
        progress: &ProgressBar,
        report: &mut impl FnMut(&Stop<'_>) -> io::Result<()>,
    ) -> Result<()> {
        let mut frames = 0;
        // Captures have nothing to do with each other.
        self.kernel.tables().forget_flows();
        if let Some(lockstep) = &mut self.lockstep {
            lockstep.forget();
        }
        let opened = File::open(pcap).map_err(Into::into);
        let opened = opened.and_then(|file| Capture::open(BufReader::new(progress.wrap_read(file))));
        let problem = match opened {
            Err(error) => Some(error),
            Ok(mut capture) => {
                self.summary.captures += 1;
                self.frames(pcap, &mut capture, &mut frames, report)?
            }
        };
        if let Some(problem) = problem {
            self.summary.problems.push(Problem { pcap: pcap.to_owned(), frames, why: problem.to_string() });
        }
        Ok(())
    }

    /// Runs every frame; gives back why the capture ends early, if it does.
    fn frames<R: Read>(
        &mut self,
        pcap: &Path,
        capture: &mut Capture<R>,
        frames: &mut u64,
        report: &mut impl FnMut(&Stop<'_>) -> io::Result<()>,
    ) -> Result<Option<capture::CaptureError>> {
        loop {
            let frame = match capture.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            };
            *frames += 1;
            let stop = self.frame(pcap, *frames, frame)?;
            let stops = self.settle(pcap, *frames, stop)?;
            stops.iter().try_for_each(&mut *report).context("writing the report")?;
        }
    }

    fn frame<'p>(&mut self, pcap: &'p Path, number: u64, frame: &[u8]) -> Result<Option<Stop<'p>>> {
        if frame.len() < SHORTEST_FRAME {
            self.summary.too_short += 1;
            return Ok(None);
        }
        if let Some(lockstep) = &mut self.lockstep {
            lockstep.beat(self.kernel.tables());
        }
        let Ok(outcome) = self.kernel.run(frame, 1) else {
            self.summary.not_run += 1;
            return Ok(None);
        };
        self.summary.packets += 1;
        self.summary.bytes += frame.len() as u64;
        self.times.take(outcome.ns_per_run);
        let action = outcome.xdp_action;
        Ok(match self.events.try_next() {
            Some(event) => Some(self.stop(pcap, number, event)?),
            None if action == XDP_PASS => None,
            // Cannot happen as long as the ring is read after each frame; hidden it must not be.
            None => Some(Stop {
                pcap,
                frame: number,
                verdict: action_word(action),
                reason: "unreported",
                name: None,
                rule: None,
                orders: Vec::new(),
            }),
        })
    }

    /// What the deferred tier found in the frame, and what became of it before.
    fn settle<'p>(&mut self, pcap: &'p Path, frame: u64, stop: Option<Stop<'p>>) -> Result<Vec<Stop<'p>>> {
        let Some(lockstep) = &mut self.lockstep else { return Ok(stop.into_iter().collect()) };
        let Settled { found, held } = lockstep.settle(self.kernel.tables())?;
        let (verdict, stop) = if held { ("drop", None) } else { ("deferred", stop) };
        let mut stops: Vec<_> = stop.into_iter().collect();
        if held && found.is_empty() {
            let reason = Reason::QuicHeld.word();
            stops.push(Stop { pcap, frame, verdict, reason, name: None, rule: None, orders: Vec::new() });
        }
        stops.extend(found.into_iter().map(|Found { name, rule, action, orders }| Stop {
            pcap,
            frame,
            verdict,
            reason: if held { Reason::QuicHeld.word() } else { action.word() },
            name: Some(name),
            rule: Some(rule),
            orders: orders.into_iter().map(|slot| self.prepared.directory.order(slot)).collect(),
        }));
        Ok(stops)
    }

    fn stop<'p>(&self, pcap: &'p Path, frame: u64, event: Event) -> Result<Stop<'p>> {
        let mut orders = vec![event.order];
        // Names with octets that no listed name has are covered by a parent; then only the deciding order is told.
        if let Ok(name) = Name::parse(&event.name) {
            let asker = Asker::new(event.scopes, event.protocol, event.time);
            let judgement = image::judge(&KernelView(self.kernel.tables()), &name, &asker);
            orders.extend(judgement.concerned.into_iter().filter(|slot| *slot != event.order));
        }
        let orders = orders.into_iter().map(|slot| self.prepared.directory.order(slot)).collect();
        Ok(Stop {
            pcap,
            frame,
            verdict: event.reason.verdict().word(),
            reason: event.reason.word(),
            name: Some(event.name),
            rule: Some(event.rule),
            orders,
        })
    }
}

const XDP_PASS: u32 = 2;

fn action_word(action: u32) -> &'static str {
    match action {
        1 => "drop",
        2 => "pass",
        3 => "answer",
        4 => "redirect",
        _ => "aborted",
    }
}

/// Times of single runs.
struct Times {
    /// Runs by nanoseconds; the last element holds all that took longer.
    runs: Vec<u64>,
}

impl Times {
    const LONGEST: usize = 1 << 16;

    fn new() -> Self {
        Self { runs: vec![0; Self::LONGEST + 1] }
    }

    fn take(&mut self, ns: u32) {
        if let Some(runs) = self.runs.get_mut((ns as usize).min(Self::LONGEST)) {
            *runs += 1;
        }
    }

    fn median(&self) -> u32 {
        let half = self.runs.iter().sum::<u64>().div_ceil(2);
        let mut below = 0;
        for (ns, runs) in self.runs.iter().enumerate() {
            below += runs;
            if below >= half && half > 0 {
                return ns as u32;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_all_runs() {
        let mut times = Times::new();
        assert_eq!(times.median(), 0);
        for ns in [7, 9, 8, 1_000_000, 8] {
            times.take(ns);
        }
        assert_eq!(times.median(), 8);
    }
}
