//! What a packet costs at the border, and how many go through.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use filter_user::kernel::Pace;

use super::{
    Becomes, Kind, Programs, Size,
    border::{Border, Passage},
    first,
};
use crate::{
    Run,
    packets::grouped,
    report::{Cell, Report, Table},
    spread::Spread,
};

/// Measures without a program, with the one to compare with, and with Cordon.
pub fn measure(
    border: &Border,
    kinds: &[Kind],
    programs: &Programs,
    run: &Run,
    size: &Size,
    report: &mut Report,
) -> Result<()> {
    let mut measured = Vec::new();
    for kind in kinds {
        let reference = if kind.becomes == Becomes::Dropped { &programs.drop } else { &programs.empty };
        let installed = [None, Some(reference), Some(&programs.cordon.program)];
        let mut passages: [Vec<Passage>; 3] = Default::default();
        let Ok(frames) = &kind.frames else { continue };
        for round in 0..run.size.rounds {
            // None is always the first.
            let mut turns: Vec<_> = installed.iter().zip(&mut passages).enumerate().collect();
            turns.rotate_left(round % installed.len());
            for (which, (program, passages)) in turns {
                border.install(program.map(PathBuf::as_path))?;
                let passage = border.pass(frames, first(round), Pace::Full, size.time)?;
                // The first of them is no program at all.
                check(kind, which != 0, passage)?;
                passages.push(passage);
            }
        }
        measured.push((kind, passages));
    }
    border.install(None)?;
    processor_time(&measured, kinds, run, size, report);
    rates(&measured, report);
    Ok(())
}

/// A figure of something else than its title says is none.
fn check(kind: &Kind, is_filtered: bool, passage: Passage) -> Result<()> {
    let Passage { arrived, forwarded, .. } = passage;
    let title = kind.title;
    match kind.becomes {
        // Now and then a packet is the hosts' own.
        Becomes::Dropped if is_filtered => {
            ensure!(forwarded * 1000 < arrived, "{title}: {forwarded} of {arrived} packets were let through");
        }
        Becomes::Dropped | Becomes::Forwarded => {
            ensure!(forwarded * 10 > arrived * 9, "{title}: only {forwarded} of {arrived} packets were forwarded");
        }
        Becomes::Merged => ensure!(forwarded > 0, "{title}: nothing was forwarded"),
    }
    Ok(())
}

type Measured<'a> = [(&'a Kind, [Vec<Passage>; 3])];

fn processor_time(measured: &Measured<'_>, kinds: &[Kind], run: &Run, size: &Size, report: &mut Report) {
    let text = format!(
        "A client, a border host and a server in network namespaces. A generator (BPF_PROG_TEST_RUN with live frames) on \
         a CPU of its own sends as fast as it can, {} distinct frames of each kind (random names, a flow each). The \
         figures are the processor time of the kernel thread that takes packets in at the border (threaded NAPI, on \
         another CPU), routes them and hands them to the next interface, by the packets that it took in. Medians of {} \
         runs of {} ms, in turn, with the least and the most; *times* is Cordon's by the reference program's of the same \
         round. The reference is an empty program, which lets everything pass; for the listed queries it is one that \
         reads as far as the UDP header and drops what goes to port 53. What nothing drops goes on to the server. {} \
         names are listed. The capture is of what dig, kdig, curl and openssl sent to real servers.",
        grouped(size.frames as usize),
        run.size.rounds,
        size.time.as_millis(),
        grouped(run.size.names),
    );
    let table = report.table(Table::new("live", "Live: processor time at the border", &COSTS).text(text));
    for (kind, passages) in measured {
        let [none, reference, cordon] = passages.each_ref().map(|passages| column(passages, Passage::nanoseconds));
        let [_, reference_runs, cordon_runs] = passages;
        let times = cordon_runs.iter().zip(reference_runs).map(|(one, other)| one.nanoseconds() / other.nanoseconds());
        table.row(kind.title, [none, reference, cordon, Spread::of(times.collect())]);
    }
    for kind in kinds {
        if let Err(why) = &kind.frames {
            table.row(kind.title, ["absent", "", "", ""].map(|text| Cell::from(text.to_owned())));
            table.note(format!("{} is absent: {why}.", kind.title));
        }
    }
}

fn rates(measured: &Measured<'_>, report: &mut Report) {
    let text = "Of the same runs: what the border took in. In a virtual machine rates swing more than processor time \
                does.";
    let table = report.table(Table::new("live-rate", "Live: packets a second", &RATES).text(text));
    for (kind, passages) in measured {
        table.row(kind.title, passages.each_ref().map(|passages| column(passages, Passage::rate).times(1e-6)));
    }
}

fn column(passages: &[Passage], figure: fn(&Passage) -> f64) -> Spread {
    Spread::of(passages.iter().map(figure).collect())
}

const COSTS: [&str; 4] = ["no program, ns a packet", "reference, ns a packet", "Cordon, ns a packet", "times"];
const RATES: [&str; 3] = ["no program, million/s", "reference, million/s", "Cordon, million/s"];
