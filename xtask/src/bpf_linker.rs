//! bpf-linker, built against the LLVM that the Rust toolchain itself carries: that one reads exactly the bitcode that
//! this rustc writes, and no LLVM package is needed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::sh;

const VERSION: &str = "0.13.0";

/// Builds it into `target/tools`, unless what is there runs and was built for this toolchain.
pub fn install(sysroot: &Path) -> Result<()> {
    let tools = sh::target().join("tools");
    let binary = tools.join("bin/bpf-linker");
    let toolchain = sh::read(&mut sh::command("rustc", ["-vV"]))?;
    // Beside the program stands the toolchain that it was built for.
    let note = tools.join("bpf-linker.toolchain");
    if fs::read_to_string(&note).is_ok_and(|noted| noted == toolchain) && runs(&binary) {
        println!("setup: bpf-linker {VERSION} is there.");
        return Ok(());
    }

    println!("setup: building bpf-linker {VERSION} into {} (about a minute, once).", tools.display());
    let libraries = sysroot.join("lib");
    let prefix = tools.join("llvm");
    link_llvm(&libraries, &prefix.join("lib"))?;
    let root = tools.to_str().context("the target folder's name is not UTF-8")?;
    let feature = format!("llvm-{}", llvm_major(&toolchain)?);
    let version = format!("={VERSION}");
    sh::run(
        sh::cargo(["install", "bpf-linker", "--version", &version, "--locked", "--force", "--root", root])
            .args(["--no-default-features", "--features", &feature])
            .env("LLVM_PREFIX", &prefix)
            .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{}", libraries.display())),
    )
    .context("bpf-linker was not built; it needs a C compiler (gcc or clang) and crates.io")?;
    ensure!(runs(&binary), "{} was built but does not run", binary.display());
    fs::write(&note, toolchain).with_context(|| note.display().to_string())
}

fn runs(binary: &Path) -> bool {
    let version = sh::read(&mut sh::command(binary, ["--version"]));
    version.is_ok_and(|line| line.trim() == format!("bpf-linker {VERSION}"))
}

/// A folder in which the linker finds the toolchain's LLVM under the name that it asks for.
fn link_llvm(libraries: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let link = folder.join("libLLVM.so");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => symlink(shared_llvm(libraries)?, &link),
    }
    .with_context(|| link.display().to_string())
}

fn shared_llvm(libraries: &Path) -> Result<PathBuf> {
    fs::read_dir(libraries)
        .with_context(|| libraries.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libLLVM.so.")))
        .with_context(|| format!("no libLLVM.so.* in {}: this toolchain is not one of rustup's", libraries.display()))
}

fn llvm_major(toolchain: &str) -> Result<&str> {
    let version = toolchain.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    version.and_then(|version| version.split('.').next()).context("rustc -vV does not tell its LLVM version")
}
