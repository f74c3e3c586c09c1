//! `cargo xtask ci`: what must hold before a commit.

use anyhow::{Result, ensure};

use crate::{demo, fuzz, layout, setup, sh, test, vm};

/// A name and what to run.
type Check = (&'static str, fn() -> Result<()>);

pub fn run() -> Result<()> {
    setup::run(true)?;
    let checks: [Check; 9] = [
        ("layout", || layout::run(false)),
        ("formatting", || sh::run(&mut sh::cargo(["fmt", "--all", "--check"]))),
        ("lints of the host's packages", host_lints),
        ("lints of the XDP program", bpf_lints),
        ("documentation", documentation),
        ("tests", || test::all(false)),
        ("demo", demo::show),
        ("fuzzing", || fuzz::run(FUZZ_SECONDS, Some(FUZZ_SEED), &[])),
        ("kernel matrix", || vm::run(&vm::SERIES, vm::Extent::Ci)),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            eprintln!("error: {error:#}");
            failed.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failed.is_empty(), "these checks failed:\n{}", failed.join("\n"));
    Ok(())
}

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 5;
/// A check looks in the same places each time, as far as the machine gets in its seconds; looking for something new is
/// `cargo xtask fuzz`'s.
const FUZZ_SEED: u32 = 1;

fn host_lints() -> Result<()> {
    sh::run(&mut sh::cargo(["clippy", "--workspace", "--exclude", "filter-ebpf", "--all-targets", "--", "-Dwarnings"]))
}

/// A target folder of its own, because RUSTC_BOOTSTRAP, which only the BPF build may have, changes what the build
/// scripts of dependencies find.
fn bpf_lints() -> Result<()> {
    let folder = sh::target().join("bpf-lints");
    sh::run(
        sh::cargo(["clippy", "--package", "filter-ebpf", "--target", "bpfel-unknown-none", "-Zbuild-std=core"])
            .args(["--", "-Dwarnings"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", folder),
    )
}

/// With private items, since nobody but us reads it: then links to them are good links.
fn documentation() -> Result<()> {
    let mut doc =
        sh::cargo(["doc", "--workspace", "--exclude", "filter-ebpf", "--no-deps", "--document-private-items"]);
    sh::run(doc.env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links"))
}
