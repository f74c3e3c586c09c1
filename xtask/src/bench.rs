//! `cargo xtask bench`: builds for release and measures what Cordon costs.

mod busy;
mod compare;
mod rows;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{debian, setup, sh};

/// What is measured, and how much of it.
#[derive(clap::Args)]
pub struct Options {
    /// Smaller counts, within two minutes after the build; prints, and leaves docs/benchmarks.md as it is
    #[arg(long)]
    quick: bool,
    /// Measures although the machine is busy with other work; the document says so
    #[arg(long)]
    loaded: bool,
    /// Runs an earlier revision's benchmark and this one's in turn, seven times each, and shows the difference
    #[arg(long, value_name = "REV", conflicts_with_all = ["part", "book"])]
    compare: Option<String>,
    /// Only this part, which is printed: packets, sizes, sweeps, sync, book and others
    #[arg(long, conflicts_with = "book")]
    part: Vec<String>,
    /// Only the daemon with its order book: as `--part book`
    #[arg(long)]
    book: bool,
}

pub fn run(options: &Options) -> Result<()> {
    setup::run(false)?;
    let bench = build(sh::workspace())?;
    if let Some(revision) = &options.compare {
        // Before the other revision is built: what that takes is not what is waited for.
        busy::check(options.loaded)?;
        return compare::run(revision, &bench, options.quick);
    }
    let parts: Vec<&str> = if options.book { vec!["book"] } else { options.part.iter().map(String::as_str).collect() };
    let mut words: Vec<String> = quick(options.quick).into_iter().map(str::to_owned).collect();
    words.extend(parts.iter().flat_map(|part| ["--part".to_owned(), (*part).to_owned()]));
    if parts.is_empty() {
        debian::install(&[debian::LAB])?;
        words.push("--whole".to_owned());
    }
    words.push(format!("--busy={:.2}", busy::check(options.loaded)?));
    if options.quick || !parts.is_empty() {
        return sh::run(&mut sh::as_root(&bench, words)?);
    }
    publish(&bench, words)
}

/// Smaller counts.
fn quick(quick: bool) -> Option<&'static str> {
    quick.then_some("--quick")
}

/// Builds the benchmark of the source in this folder, and the program that it starts, which stands beside it.
fn build(source: &Path) -> Result<PathBuf> {
    for package in [&["filter-user"][..], &["cordon-tests", "--bin", "bench"]] {
        let mut cargo = sh::cargo(["build", "--release", "--package"]);
        sh::run(cargo.args(package).current_dir(source))?;
    }
    Ok(source.join("target/release/bench"))
}

/// Measures, and puts what was measured into docs. What root wrote is copied, so that the files there belong to whoever
/// runs this. A part that came to no good end is told in the document; the document is written all the same.
fn publish(bench: &Path, mut words: Vec<String>) -> Result<()> {
    let folder = sh::target().join("benchmarks");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir(&folder),
    }
    .with_context(|| folder.display().to_string())?;
    words.push(format!("--document={}", folder.display()));
    words.push(format!("--revision={}", revision()?));
    let measured = sh::run(&mut sh::as_root(bench, words)?);
    let page = folder.join("benchmarks.md");
    if page.exists() {
        let docs = sh::workspace().join("docs");
        let pictures = docs.join("benchmarks");
        fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
        copy(&page, &docs)?;
        for picture in fs::read_dir(folder.join("benchmarks"))? {
            copy(&picture?.path(), &pictures)?;
        }
        println!("written: {}", docs.join("benchmarks.md").display());
    }
    measured
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(file.file_name().context("no file name")?);
    fs::copy(file, &to).with_context(|| to.display().to_string()).map(drop)
}

/// Of the source that is measured.
fn revision() -> Result<String> {
    let commit = sh::read(&mut sh::command("git", ["rev-parse", "--short", "HEAD"]))?;
    let changed = sh::read(&mut sh::command("git", ["status", "--porcelain", "--untracked-files=no"]))?;
    let changes = if changed.trim().is_empty() { "" } else { " with changes" };
    Ok(format!("{}{changes}", commit.trim()))
}
