//! `cargo xtask setup`: what the BPF build needs and no package manager is asked for.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::{bpf_linker, debian, sh};

pub fn run(tests: bool) -> Result<()> {
    let sysroot = sh::read(&mut sh::command("rustc", ["--print", "sysroot"])).context("no Rust toolchain")?;
    rust_src(Path::new(sysroot.trim()))?;
    bpf_linker::install(Path::new(sysroot.trim()))?;
    if tests {
        debian::install(&[debian::LAB, debian::BROWSER])?;
    }
    println!("setup: done; `cargo build` builds the filter with its XDP program.");
    Ok(())
}

/// What the benchmark compares Cordon with.
pub fn peers() -> Result<()> {
    debian::install(&[debian::PEERS])
}

/// The BPF target comes without a built core library: it is built from source (`-Z build-std=core`).
fn rust_src(sysroot: &Path) -> Result<()> {
    let library = sysroot.join("lib/rustlib/src/rust/library/core");
    if library.is_dir() {
        println!("setup: rust-src is there.");
        return Ok(());
    }
    println!("setup: adding rust-src, the source of Rust's core library, to the toolchain.");
    sh::run(&mut sh::command("rustup", ["component", "add", "rust-src"]))
        .context("without rustup, put the source of Rust's libraries under lib/rustlib/src of the toolchain")?;
    ensure!(library.is_dir(), "rust-src was added, yet {} is missing", library.display());
    Ok(())
}
