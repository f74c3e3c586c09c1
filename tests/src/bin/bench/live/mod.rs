//! A border host that packets go through: what each costs there, how many a second there is time for, and what a
//! flood of listed names does to ordinary traffic.

pub mod border;
mod capture;
pub mod cordon;
mod echo;
pub mod threads;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use cordon_tests::{
    lab::{CLIENT_INTERFACE, Host},
    packet::{Hello, Packet},
};
use filter_user::kernel::{Frames, Pace, Plainer, Traffic};

use self::{
    border::{Border, Passage, SERVER_INTERFACE},
    cordon::Cordon,
    echo::Echo,
};
use crate::{
    Run,
    flows::{data, from},
    load::{self, OrderFile},
    names::Random,
    packets::{grouped, hello, query},
    report::{Cell, Report, Table},
    spread::Spread,
};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let size = if run.is_quick { QUICK } else { FULL };
    let captured = if run.is_quick { Err("only in a full run".to_owned()) } else { captured() };
    let long = size.frames + captured.as_ref().map_or(0, Vec::len) as u32;
    let mut border = Border::new(Traffic::new(3 * size.frames, long, 1)?)?;
    let file = load::order_file(run.folder.path(), run.size.names)?;
    let cordon = Cordon::new(border.lab(), "cordon", &file.path, &load::capacity(file.names))?;
    let kinds = kinds(&mut border, &file, size.frames, captured.as_deref().ok())?;
    let programs = Programs { empty: border.plain(Plainer::Pass)?, drop: border.plain(Plainer::DropDns)?, cordon };

    costs(&border, &kinds, &programs, run, &size, report)?;
    if let (Err(why), Some(table)) = (captured, report.last()) {
        table.row("a capture", [Cell::from(why)]);
    }
    let flood = kinds.iter().find(|kind| kind.is_dropped);
    flood.map_or(Ok(()), |flood| ordinary(&border, &flood.frames, &programs, run, &size, report))
}

/// How much is measured.
struct Size {
    /// Distinct frames of each kind.
    frames: u32,
    /// Of one measurement.
    time: Duration,
    /// Of one measurement of ordinary traffic.
    ordinary: Duration,
}

const FULL: Size =
    Size { frames: 1 << 18, time: Duration::from_millis(300), ordinary: Duration::from_millis(700) };
const QUICK: Size = Size { frames: 1 << 14, time: Duration::from_millis(80), ordinary: Duration::from_millis(150) };

/// Frames of one kind.
struct Kind {
    title: &'static str,
    frames: Frames,
    /// An order drops them.
    is_dropped: bool,
    /// Each comes to the server as it is: it is not merged with others, and nothing answers it.
    is_whole: bool,
}

/// Pinned programs.
struct Programs {
    empty: PathBuf,
    drop: PathBuf,
    cordon: Cordon,
}

fn kinds(border: &mut Border, file: &OrderFile, count: u32, captured: Option<&[Vec<u8>]>) -> Result<Vec<Kind>> {
    let traffic = &mut border.traffic;
    let mut random = Random::new(0xfeed);
    let listed = traffic.add(false, (0..count).map(|flow| query(from(flow), random.of(&file.four_labels))))?;
    let mut random = Random::new(0x5eed);
    let unlisted = traffic.add(false, (0..count).map(|flow| query(from(flow), &random.name(4))))?;
    let hellos = (0..count).map(|flow| {
        let build = if flow.is_multiple_of(2) { Hello::new } else { Hello::name_last };
        Packet { ip: from(flow), ..hello(&random.name(4), build) }.build()
    });
    let hellos = traffic.add(true, hellos)?;
    let data = traffic.add(false, (0..count).map(data))?;
    let kind = |title, frames| Kind { title, frames, is_dropped: false, is_whole: true };
    let mut kinds = vec![
        Kind { is_dropped: true, ..kind("listed DNS, dropped", listed) },
        kind("unlisted DNS", unlisted),
        kind("hellos", hellos),
        kind("data", data),
    ];
    if let Some(captured) = captured {
        let frames = traffic.add(true, captured.iter().cloned())?;
        kinds.push(Kind { is_whole: false, ..kind("a capture", frames) });
    }
    Ok(kinds)
}

/// What a packet costs, and how many go through.
fn costs(
    border: &Border,
    kinds: &[Kind],
    programs: &Programs,
    run: &Run,
    size: &Size,
    report: &mut Report,
) -> Result<()> {
    let mut measured = Vec::new();
    for kind in kinds {
        let reference = if kind.is_dropped { &programs.drop } else { &programs.empty };
        let installed = [None, Some(reference), Some(&programs.cordon.program)];
        let mut passages: [Vec<Passage>; 3] = Default::default();
        for round in 0..run.size.rounds {
            // Neither is always the first.
            for turn in 0..installed.len() {
                let which = (round + turn) % installed.len();
                border.install(installed[which].map(PathBuf::as_path))?;
                let first = (round as u32).wrapping_mul(SKIP);
                let passage = border.pass(&kind.frames, first, Pace::Full, size.time)?;
                check(kind, which, passage)?;
                passages[which].push(passage);
            }
        }
        measured.push((kind, passages));
    }
    border.install(None)?;

    let table = report.table(Table::new("live", "Live: processor time at the border", &COSTS).text(format!(
        "A client, a border host and a server in network namespaces. A generator (BPF_PROG_TEST_RUN with live frames) on \
         a CPU of its own sends as fast as it can, {} distinct frames of each kind (random names, a flow each); the \
         figures are the processor time of the kernel thread that takes packets in at the border (threaded NAPI, on \
         another CPU), which also routes them and hands them to the next interface, by the packets it took in. Medians of \
         {} runs of {} ms, the three in turn, each with the least and the most; *times* is Cordon's by the reference \
         program's of the same round. The reference is an empty program, which lets everything pass; for the listed \
         flood it is one that only reads as far as the UDP header and drops what goes to port 53. Without a program, \
         and with the empty one, the packets go on to the server. {} names are listed. The capture is of what dig, \
         kdig, curl and openssl sent to real servers.",
        grouped(size.frames as usize),
        run.size.rounds,
        size.time.as_millis(),
        grouped(run.size.names),
    )));
    for (kind, passages) in &measured {
        let [none, reference, cordon] = passages.each_ref().map(|passages| column(passages, Passage::nanoseconds));
        let [_, reference_runs, cordon_runs] = passages;
        let times = cordon_runs.iter().zip(reference_runs).map(|(one, other)| one.nanoseconds() / other.nanoseconds());
        table.row(kind.title, [none, reference, cordon, Spread::of(times.collect())]);
    }
    let text = "Of the same runs. Where packets are routed, the border is the bottleneck; in this virtual machine, rates \
                swing more than processor time does.";
    let table = report.table(Table::new("live-rate", "Live: packets a second", &RATES).text(text));
    for (kind, passages) in &measured {
        table.row(kind.title, passages.each_ref().map(|passages| column(passages, Passage::rate).times(1e-6)));
    }
    Ok(())
}

fn column(passages: &[Passage], figure: fn(&Passage) -> f64) -> Spread {
    Spread::of(passages.iter().map(figure).collect())
}

/// A figure of something else than its title says is none.
fn check(kind: &Kind, which: usize, passage: Passage) -> Result<()> {
    let Passage { arrived, forwarded, .. } = passage;
    // The table's first column has no program at all.
    let is_dropped = kind.is_dropped && which != 0;
    if is_dropped {
        // Others are now and then a packet of the hosts' own.
        ensure!(forwarded * 10_000 < arrived, "{}: {forwarded} of {arrived} packets were let through", kind.title);
    } else if kind.is_whole {
        ensure!(forwarded * 10 > arrived * 9, "{}: only {forwarded} of {arrived} packets were forwarded", kind.title);
    } else {
        ensure!(forwarded > 0, "{}: nothing was forwarded", kind.title);
    }
    Ok(())
}

/// What dig, curl and others send.
fn captured() -> Result<Vec<Vec<u8>>, String> {
    capture::frames().map_err(|error| format!("absent: {error:#}"))
}

/// Ordinary traffic beside a flood of listed names.
fn ordinary(
    border: &Border,
    flood: &Frames,
    programs: &Programs,
    run: &Run,
    size: &Size,
    report: &mut Report,
) -> Result<()> {
    border.install_on(Host::Server, SERVER_INTERFACE, Some(&programs.drop))?;
    border.install_on(Host::Client, CLIENT_INTERFACE, Some(&programs.empty))?;
    let cases = [
        ("no flood, empty program", false, Some(&programs.empty)),
        ("no flood, Cordon", false, Some(&programs.cordon.program)),
        ("flood, no program", true, None),
        ("flood, empty program", true, Some(&programs.empty)),
        ("flood, Cordon", true, Some(&programs.cordon.program)),
    ];
    let mut echoes: Vec<Vec<Echo>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..run.size.rounds {
        for (&(_, is_flooded, program), echoes) in cases.iter().zip(&mut echoes) {
            border.install(program.map(PathBuf::as_path))?;
            let first = (round as u32).wrapping_mul(SKIP);
            echoes.push(echo::beside(border, size.ordinary, || {
                if is_flooded {
                    border.send(flood, first, FLOOD, size.ordinary)?;
                }
                Ok(())
            })?);
        }
    }
    border.install(None)?;
    let Pace::Rows { burst, rate } = FLOOD else { return Ok(()) };
    let text = format!(
        "A datagram a millisecond from the client to the server and back, beside up to {} queries a second for listed \
         names, {burst} at a time, which without Cordon are routed to the server (whose own program drops them there). \
         Medians of {} runs of {} ms.",
        grouped(rate as usize),
        run.size.rounds,
        size.ordinary.as_millis(),
    );
    let table = report.table(Table::new("live-echo", "Live: ordinary traffic beside a flood", &ECHOES).text(text));
    for ((title, ..), echoes) in cases.iter().zip(&echoes) {
        let columns: [fn(&Echo) -> f64; 3] = [|echo| echo.loss, |echo| echo.times[0], |echo| echo.times[1]];
        table.row(*title, columns.map(|column| Spread::of(echoes.iter().map(column).collect())));
    }
    Ok(())
}

const COSTS: [&str; 4] =
    ["no program, ns a packet", "reference program, ns a packet", "Cordon, ns a packet", "times"];
const RATES: [&str; 3] = ["no program, million/s", "reference program, million/s", "Cordon, million/s"];
const ECHOES: [&str; 3] = ["lost, %", "round trip, µs", "99 of 100 below, µs"];

/// So that no round begins with the packets of the one before.
const SKIP: u32 = 0x9e37_79b9;

const FLOOD: Pace = Pace::Rows { burst: 32, rate: 1_000_000 };
