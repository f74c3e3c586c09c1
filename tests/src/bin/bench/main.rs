//! What Cordon costs: `cargo xtask bench`.

mod book;
mod daemon;
mod flows;
mod load;
mod names;
mod packets;
mod poll;
mod quic;
mod spread;
mod tier;

use anyhow::{Result, bail};
use filter_user::kernel::{Bench, Capacity};

/// How much is measured.
pub struct Size {
    names: usize,
    short: u32,
    long: u32,
    rounds: usize,
    repeat: u32,
    changes: usize,
    /// Initials at one a second.
    idle: usize,
}

const FULL: Size =
    Size { names: 1_000_000, short: 1 << 20, long: 1 << 16, rounds: 11, repeat: 1_000_000, changes: 200, idle: 100 };
const QUICK: Size =
    Size { names: 100_000, short: 1 << 16, long: 1 << 13, rounds: 7, repeat: 100_000, changes: 12, idle: 10 };

fn main() -> Result<()> {
    let (mut size, mut is_whole) = (FULL, true);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => size = QUICK,
            "--book" => is_whole = false,
            other => bail!("unknown argument {other}; there are --quick and --book"),
        }
    }
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        bail!("the benchmark loads BPF programs: run it as root");
    }
    if is_whole {
        judging(&size)?;
    }
    book::run(&size)
}

/// What a packet costs.
fn judging(size: &Size) -> Result<()> {
    let capacity = Capacity { event_bytes: 1 << 16, ..Capacity::default() };
    let bench = Bench::new(&capacity, size.short, size.long)?;
    for program in bench.programs() {
        println!("{}: {} verified instructions", program.name, program.verified_instructions);
    }
    let file = load::order_file(size.names)?;
    load::run(bench.tables(), &file, size)?;
    packets::run(&bench, &file.four_labels, size)?;
    flows::run(&bench, &file.four_labels, size)?;
    let mut copies = bench.copies()?;
    quic::run(&bench, &mut copies, &file.four_labels, size)?;
    tier::run(&bench, &mut copies, &file.four_labels, size)
}
