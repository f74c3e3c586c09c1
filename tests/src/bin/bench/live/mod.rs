//! A border host that packets go through: what each costs there, how many a second there is time for, and what a
//! flood of listed names does to ordinary traffic.

pub mod border;
mod capture;
pub mod cordon;
mod costs;
mod echo;
pub mod threads;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use cordon_tests::packet::Hello;
use filter_user::kernel::{Frames, Plainer, Traffic};

use self::{border::Border, cordon::Cordon};
use crate::{
    Run,
    flows::{data, from},
    load::{self, OrderFile},
    names::Random,
    packets::{hello_from, query_from},
    report::Report,
};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let size = if run.is_quick { QUICK } else { FULL };
    let captured = if run.is_quick { Err("it is left out of quick runs".to_owned()) } else { captured() };
    let room = captured.as_ref().map_or(0, Vec::len) as u32;
    let mut border = Border::new(Traffic::new(3 * size.frames, size.frames + room, 1)?)?;
    let file = load::order_file(run.folder.path(), run.size.names)?;
    let cordon = Cordon::new(border.lab(), "cordon", file.path(), &load::capacity(file.names))?;
    let kinds = kinds(&mut border, &file, size.frames, captured)?;
    let programs = Programs { empty: border.plain(Plainer::Pass)?, drop: border.plain(Plainer::DropDns)?, cordon };

    costs::measure(&border, &kinds, &programs, run, &size, report)?;
    let [flood, ..] = &kinds;
    match &flood.frames {
        Ok(flood) => echo::measure(&border, flood, &programs, run, &size, report),
        Err(_) => Ok(()),
    }
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

const FULL: Size = Size { frames: 1 << 18, time: Duration::from_millis(300), ordinary: Duration::from_millis(700) };
const QUICK: Size = Size { frames: 1 << 14, time: Duration::from_millis(80), ordinary: Duration::from_millis(150) };

/// Frames of one kind.
struct Kind {
    title: &'static str,
    /// The frames, or why there are none.
    frames: Result<Frames, String>,
    becomes: Becomes,
}

/// What becomes of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Becomes {
    /// An order drops them.
    Dropped,
    /// They come to the server as they are.
    Forwarded,
    /// They come to the server, some of them merged (GRO); what is not for the server does not.
    Merged,
}

/// Pinned programs.
struct Programs {
    empty: PathBuf,
    drop: PathBuf,
    cordon: Cordon,
}

fn kinds(
    border: &mut Border,
    file: &OrderFile,
    count: u32,
    captured: Result<Vec<Vec<u8>>, String>,
) -> Result<[Kind; 5]> {
    let traffic = &mut border.traffic;
    let mut random = Random::new(0xfeed);
    let listed = traffic.add(false, (0..count).map(|flow| query_from(from(flow), random.of(&file.four_labels))))?;
    let mut random = Random::new(0x5eed);
    let unlisted = traffic.add(false, (0..count).map(|flow| query_from(from(flow), &random.name(4))))?;
    let hellos = (0..count).map(|flow| {
        let build = if flow.is_multiple_of(2) { Hello::new } else { Hello::name_last };
        hello_from(from(flow), &random.name(4), build)
    });
    let hellos = traffic.add(true, hellos)?;
    let data = traffic.add(false, (0..count).map(data))?;
    let captured = match captured {
        Ok(frames) => Ok(traffic.add(true, frames)?),
        Err(why) => Err(why),
    };
    let kind = |title, frames, becomes| Kind { title, frames, becomes };
    Ok([
        kind("listed DNS, dropped", Ok(listed), Becomes::Dropped),
        kind("unlisted DNS", Ok(unlisted), Becomes::Forwarded),
        kind("hellos", Ok(hellos), Becomes::Forwarded),
        kind("data", Ok(data), Becomes::Forwarded),
        kind("a capture", captured, Becomes::Merged),
    ])
}

/// What dig, curl and others send.
fn captured() -> Result<Vec<Vec<u8>>, String> {
    capture::frames().map_err(|error| format!("{error:#}"))
}

/// Where a round begins in the frames: not with those of the round before.
pub fn first(round: usize) -> u32 {
    (round as u32).wrapping_mul(0x9e37_79b9)
}
