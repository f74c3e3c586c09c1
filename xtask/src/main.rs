//! Everything that is done with Cordon's source besides `cargo build`: `cargo xtask --help`.

mod bench;
mod bpf_linker;
mod ci;
mod debian;
mod demo;
mod fuzz;
mod layout;
mod setup;
mod sh;
mod test;
mod totals;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Set-up, demonstration, tests and checks.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
enum Verb {
    /// Prepares what a fresh machine lacks: rust-src and bpf-linker, in the target folder
    Setup {
        /// Also the Debian packages that the demo and the tests run
        #[arg(long)]
        tests: bool,
        /// Also the Debian packages of what the benchmark compares Cordon with
        #[arg(long)]
        peers: bool,
    },
    /// Shows in a minute what Cordon does: a lab in network namespaces, real clients, before and after (root or sudo)
    Demo,
    /// Runs all tests: those of the default packages, then those that need root (as root or through sudo)
    Test {
        /// Also the long ones
        #[arg(long)]
        full: bool,
    },
    /// Measures what Cordon costs and writes docs/benchmarks.md with its plots: within half an hour, as root or through
    /// sudo, on a machine that does nothing else
    Bench(bench::Options),
    /// The kernel matrix: boots Debian's cloud kernels under qemu, loads every program and judges frames there
    Vm {
        /// Series of kernels in Debian 12
        #[arg(default_values = vm::SERIES)]
        series: Vec<String>,
        /// Only what `ci` runs, in some minutes
        #[arg(long)]
        quick: bool,
    },
    /// Checks everything that must hold before a commit, tests included
    Ci,
    /// Fuzzes the parsers and the flow state under libFuzzer
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Targets; all of them without
        target: Vec<String>,
    },
    /// Compares the map layout with its lock: a changed layout needs a new version
    Layout {
        /// Writes the lock anew, once the version is raised
        #[arg(long)]
        accept: bool,
    },
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup { tests, peers } => setup::run(tests).and_then(|()| if peers { setup::peers() } else { Ok(()) }),
        Verb::Demo => demo::run(),
        Verb::Test { full } => test::run(full),
        Verb::Bench(options) => bench::run(&options),
        Verb::Vm { series, quick } => vm::run(&series, if quick { vm::Extent::Ci } else { vm::Extent::Full }),
        Verb::Fuzz { seconds, target } => fuzz::run(seconds, None, &target),
        Verb::Ci => ci::run(),
        Verb::Layout { accept } => layout::run(accept),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
