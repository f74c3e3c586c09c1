//! `cargo xtask test`: every test there is, and how many.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{setup, sh, totals::Totals};

/// Longest that the whole may take.
const LIMIT: Duration = Duration::from_secs(25 * 60);

pub fn run(full: bool) -> Result<()> {
    setup::run(true)?;
    all(full)
}

/// Runs the tests on a machine that is set up.
pub fn all(full: bool) -> Result<()> {
    let begun = Instant::now();
    let corpus = sh::workspace().join("../shared/corpus").is_dir();
    if !corpus {
        println!("\nSKIPPING the tests on real captures: ../shared/corpus is not there.\n");
    }
    let mut settings = if full { vec![("CORDON_TEST_FULL", "1"), ("PROPTEST_CASES", "4096")] } else { vec![] };

    let mut totals = Totals::default();
    let mut succeeded = true;
    // The live tests run the program itself, which only its own package builds.
    sh::run(&mut sh::cargo(["build", "--package", "filter-user"]))?;
    let mut default = sh::cargo(["test", "--no-fail-fast"]);
    default.envs(settings.iter().copied());
    succeeded &= sh::run_lines(&mut default, |line| totals.line(line))?;
    let mut privileged = sh::cargo(["test", "--no-fail-fast", "--package", "cordon-tests"]);
    // One more than there are processors: most of these wait more than they compute.
    let threads = (available_parallelism()?.get() + 1).to_string();
    settings.push(("RUST_TEST_THREADS", &threads));
    sh::run_built_as_root(&mut privileged, &settings)?;
    succeeded &= sh::run_lines(&mut privileged, |line| totals.line(line))?;

    for what in &totals.skipped {
        println!("skipped: {what}");
    }
    let seconds = begun.elapsed().as_secs();
    let (passed, failed, ignored, skipped) = (totals.passed, totals.failed, totals.ignored, totals.skipped.len());
    println!("{ignored} ignored, {skipped} skipped in part or whole, {seconds} s");
    println!("{passed} passed, {failed} failed");
    ensure!(succeeded && failed == 0, "tests failed");
    ensure!(begun.elapsed() < LIMIT, "the tests took {seconds} s, more than {} s", LIMIT.as_secs());
    ensure!(skipped == 0 || !corpus, "{skipped} tests were skipped; with the corpus there, none should be");
    Ok(())
}
