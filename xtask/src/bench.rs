//! `cargo xtask bench`: builds for release and measures what Cordon costs.

mod compare;
mod rows;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{setup, sh};

pub fn run(quick: bool, book: bool, revision: Option<&str>) -> Result<()> {
    setup::run(false)?;
    if let Some(revision) = revision {
        return compare::run(revision, quick);
    }
    let bench = build(sh::workspace())?;
    sh::run(&mut sh::as_root(&bench, options(quick).into_iter().chain(book.then_some("--book")))?)
}

/// Builds the benchmark of the source in this folder, and the program that it starts, which stands beside it.
fn build(source: &Path) -> Result<PathBuf> {
    for package in [&["filter-user"][..], &["cordon-tests", "--bin", "bench"]] {
        let mut cargo = sh::cargo(["build", "--release", "--package"]);
        sh::run(cargo.args(package).current_dir(source))?;
    }
    Ok(source.join("target/release/bench"))
}

fn options(quick: bool) -> Option<&'static str> {
    quick.then_some("--quick")
}
