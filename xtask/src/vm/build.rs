//! The tests, linked statically: the machines have no libraries.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::sh;

/// The host's own C library, whose static form every C compiler's package brings along: nothing is to be installed.
/// A target that is named keeps the flags away from build scripts and macros, which cannot be static.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds them; names and paths of what was built.
pub fn executables() -> Result<Vec<(String, PathBuf)>> {
    sh::run(&mut cargo()).context("the tests were not built statically; that needs libc6-dev")?;
    // Once more, for the paths.
    let messages = sh::read(cargo().arg("--message-format=json"))?;
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    for name in ["vm_init", "verdict", "corpus", "kernel_side"] {
        ensure!(found.iter().any(|(found, _)| found == name), "cargo built no `{name}`");
    }
    found.retain(|(name, _)| !matches!(&name[..], "demo" | "bench"));
    Ok(found)
}

/// Cargo builds a package's programs along with its tests.
fn cargo() -> Command {
    let mut cargo = sh::cargo(["test", "--no-run", "--package", "cordon-tests", "--target", TRIPLE]);
    cargo
        .args(["--test", "verdict", "--test", "corpus", "--test", "kernel_side"])
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        // Ten times smaller.
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo
}
