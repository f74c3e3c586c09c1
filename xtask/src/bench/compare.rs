//! `cargo xtask bench --compare REV`: the benchmarks of two revisions in turn, so that the machine's moods meet both.
//!
//! The earlier revision is checked out and built in a folder of its own, by this revision's toolchain, so that what
//! differs is the code. The folder is removed in the end; what an interrupted run left is removed by the next one.

use std::{
    ffi::OsStr,
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{
    build,
    rows::{Rows, Series},
};
use crate::sh;

/// Compares with `this`, which was built of the source as it is.
pub fn run(revision: &str, this: &Path, quick: bool) -> Result<()> {
    let commit = commit(revision)?;
    let checkout = Checkout::new(&commit)?;
    let earlier = build(&checkout.source)?;

    let (mut before, mut after) = (Series::default(), Series::default());
    for round in 0..ROUNDS {
        println!("round {} of {ROUNDS}", round + 1);
        // Neither is always the first.
        let mut turns = [(earlier.as_path(), &mut before), (this, &mut after)];
        if !round.is_multiple_of(2) {
            turns.reverse();
        }
        for (bench, series) in turns {
            let arguments = OWN_BPFFS.map(OsStr::new).into_iter().chain([bench.as_os_str()]);
            let output = sh::read(&mut sh::as_root("unshare", arguments.chain(super::quick(quick).map(OsStr::new)))?)?;
            series.add(&Rows::read(&output)).with_context(|| bench.display().to_string())?;
        }
    }
    println!("\n{revision} and this revision in turn: medians of {ROUNDS} runs (least to most), each run's own median");
    for line in before.compared_with(&after) {
        println!("{line}");
    }
    Ok(())
}

/// How often each is run. Odd, so that one run is the median.
const ROUNDS: usize = 7;

/// Arguments of unshare that start a program with a BPF file system of its own: earlier benchmarks expect one where it
/// usually is.
const OWN_BPFFS: [&str; 4] = ["--mount", "sh", "-c", r#"mount -t bpf bpf /sys/fs/bpf && exec "$0" "$@""#];

fn commit(revision: &str) -> Result<String> {
    let name = format!("{revision}^{{commit}}");
    let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", &name];
    let found = sh::read(&mut sh::command("git", arguments));
    Ok(found.with_context(|| format!("`{revision}` is no revision of this repository"))?.trim().to_owned())
}

/// An earlier revision's source, with the tools of this one.
struct Checkout {
    source: PathBuf,
}

impl Checkout {
    fn new(commit: &str) -> Result<Self> {
        let source = sh::target().join("compare");
        remove(&source)?;
        sh::run(sh::command("git", ["worktree", "add", "--quiet", "--detach"]).arg(&source).arg(commit))?;
        let checkout = Self { source };
        ensure!(
            checkout.source.join("tests/src/bin/bench").is_dir(),
            "{commit} has no benchmark: it is older than the first"
        );
        let release = checkout.source.join("target/release");
        fs::create_dir_all(&release).with_context(|| release.display().to_string())?;
        let tools = checkout.source.join("target/tools");
        symlink(sh::target().join("tools"), &tools).with_context(|| tools.display().to_string())?;
        // What this revision's benchmark was built of: most libraries are the same in both.
        let built = |folders: &[&str]| folders.iter().map(|folder| sh::target().join("release").join(folder)).collect();
        let (outputs, states): (Vec<PathBuf>, Vec<PathBuf>) = (built(&["deps", "build"]), built(&[".fingerprint"]));
        sh::run(sh::command("cp", ["--archive", "--link"]).args(outputs).arg(&release))?;
        // Cargo writes over these in place.
        sh::run(sh::command("cp", ["--archive"]).args(states).arg(&release))?;
        Ok(checkout)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.source) {
            eprintln!("warning: what was built to compare with is left: {error:#}");
        }
    }
}

/// Removes the folder, and git's note of it.
fn remove(source: &Path) -> Result<()> {
    match fs::remove_dir_all(source) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| source.display().to_string())?;
    sh::read(&mut sh::command("git", ["worktree", "prune"])).map(drop)
}
