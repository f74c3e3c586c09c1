//! `cargo xtask fuzz`: each target for some seconds, under libFuzzer.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::sh;

/// Those of `cordon_fuzz::TARGETS`.
pub const TARGETS: [&str; 8] = ["frame", "dns", "tls", "answer", "flow", "quic", "tunnel", "deferred"];

const VERSION: &str = "0.13.1";

/// What the targets try is another each time, unless a seed is given.
pub fn run(seconds: u32, seed: Option<u32>, targets: &[String]) -> Result<()> {
    if let Some(unknown) = targets.iter().find(|target| !TARGETS.contains(&target.as_str())) {
        bail!("no target `{unknown}`; there are {}", TARGETS.join(", "));
    }
    let targets: Vec<&str> =
        if targets.is_empty() { TARGETS.to_vec() } else { targets.iter().map(String::as_str).collect() };
    let cargo_fuzz = install()?;
    seeds()?;
    for target in &targets {
        build(&cargo_fuzz, target)?;
    }
    let mut failed = Vec::new();
    for target in targets {
        if !fuzz(target, seconds, seed)? {
            failed.push(target);
        }
    }
    ensure!(
        failed.is_empty(),
        "found something: {}; keep the input under fuzz/fixtures with a line in its README.md",
        failed.join(", ")
    );
    Ok(())
}

/// Builds cargo-fuzz into `target/tools`, unless it is there.
fn install() -> Result<PathBuf> {
    let tools = sh::target().join("tools");
    let binary = tools.join("bin/cargo-fuzz");
    let version = sh::read(&mut sh::command(&binary, ["--version"]));
    if !version.is_ok_and(|line| line.trim() == format!("cargo-fuzz {VERSION}")) {
        println!("fuzz: building cargo-fuzz {VERSION} into {} (about a minute, once).", tools.display());
        let version = format!("={VERSION}");
        sh::run(
            sh::cargo(["install", "cargo-fuzz", "--version", &version, "--locked", "--force", "--root"]).arg(&tools),
        )?;
    }
    Ok(binary)
}

/// Inputs to begin with, from real captures where they are there.
fn seeds() -> Result<()> {
    let captures = sh::workspace().join("../shared/corpus/pcaps");
    let mut run = sh::cargo(["run", "--quiet", "--package", "cordon-fuzz", "--example", "seeds", "--"]);
    sh::run(run.arg(folder().join("seeds")).args(captures.is_dir().then_some(captures)))
}

/// Coverage alone takes no more than the stable toolchain; only sanitizers would need a nightly one, and what is fuzzed
/// has no `unsafe`. The profile for development checks overflows; it is made as fast as the other.
fn build(cargo_fuzz: &Path, target: &str) -> Result<()> {
    sh::run(
        sh::command(cargo_fuzz, ["build", "--dev", "--sanitizer", "none", "--features", "libfuzzer", "--target-dir"])
            .arg(folder())
            .arg(target)
            .envs([("CARGO_PROFILE_DEV_OPT_LEVEL", "3"), ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")]),
    )
    .context("the fuzz targets were not built; they need a C++ compiler (g++ or clang)")
}

/// Whether nothing was found.
fn fuzz(target: &str, seconds: u32, seed: Option<u32>) -> Result<bool> {
    let binary = folder().join(env!("XTASK_HOST")).join("debug").join(target);
    let [corpus, found] = ["corpus", "found"].map(|name| folder().join(name).join(target));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let log = folder().join(format!("{target}.log"));
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let mut command = sh::command(&binary, [&corpus, &folder().join("seeds").join(target)]);
    command
        .args(["-max_len=4096", "-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"))
        .args(seed.map(|seed| format!("-seed={seed}")))
        .arg(format!("-artifact_prefix={}/", found.display()));
    let status = command.stderr(output).status().with_context(|| binary.display().to_string())?;
    let text = fs::read(&log).with_context(|| log.display().to_string())?;
    let text = String::from_utf8_lossy(&text);
    let executed = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let edges = text.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
    println!(
        "fuzz: {target:8} {seconds:5} s {:>12} runs {:>6} edges  {}",
        executed.map_or("?", str::trim),
        edges.unwrap_or("?"),
        if status.success() { "clean" } else { "FOUND" }
    );
    if !status.success() {
        let last: Vec<&str> = text.lines().rev().take(40).collect();
        last.iter().rev().for_each(|line| eprintln!("{line}"));
    }
    Ok(status.success())
}

fn folder() -> PathBuf {
    sh::target().join("fuzz")
}
