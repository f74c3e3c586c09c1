//! `cargo xtask vm`: Debian's cloud kernels under qemu, with nothing in them but statically linked tests. What they say
//! on the serial console tells how it went.
//!
//! Everything lies in `target/vm`; kernels that are there are used again. Remove the folder for the newest ones.

mod build;
mod initramfs;
mod packages;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{setup, sh};

use initramfs::Archive;
use packages::{Kernel, Qemu};
use report::{Report, table};

/// The kernels that Cordon must run on, beside the host's.
pub const SERIES: [&str; 2] = ["6.1", "6.12"];

/// How much is run there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything that runs without network tools: about half an hour a kernel.
    Full,
    /// What must hold before a commit: some minutes for both kernels.
    Ci,
}

impl Extent {
    /// What is run, after the settings in its environment: programs by their names in tests/tests. The emulated
    /// processor is some twenty times slower, so long tests go through fewer cases. Loading comes first, and its output
    /// is not kept back: that has the numbers, and why the verifier refuses a program.
    const fn plan(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[
                LOADING,
                "CORDON_BARE=1 CORDON_CASES=500 PROPTEST_CASES=16 /verdict --skip verifier::",
                "/kernel_side bench:: nodes:: pins:: tables::",
                "CORDON_CORPUS=/corpus CORDON_CORPUS_SAMPLE=40 /corpus_test",
            ],
            Self::Ci => &[
                LOADING,
                "CORDON_BARE=1 CORDON_CASES=50 PROPTEST_CASES=2 /verdict actions:: quic::q tunnels:: split::dns:: split::records::",
                "CORDON_CORPUS=/corpus CORDON_CORPUS_SAMPLE=200 /corpus_test",
            ],
        }
    }
}

/// The line of the plan that the host runs as well.
const LOADING: &str = "/verdict --nocapture verifier::";

/// Longest that a machine may run, in seconds.
const LIMIT: &str = "1800";

pub fn run<S: AsRef<str>>(series: &[S], extent: Extent) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the kernel matrix is of amd64 kernels: run it on an amd64 machine");
    setup::run(false)?;
    let folder = sh::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let qemu = Qemu::find(&folder)?;
    let kernels: Vec<Kernel> =
        series.iter().map(|series| Kernel::find(&folder, series.as_ref())).collect::<Result<_>>()?;
    let executables = build::executables()?;
    let image = folder.join("initramfs");
    fs::write(&image, initramfs(&executables, extent)?).with_context(|| image.display().to_string())?;

    let mut reports = vec![load_here(&executables)?];
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (series, kernel) in series.iter().zip(&kernels) {
        let begun = Instant::now();
        let report = boot(&qemu, kernel, &image)?;
        lines.extend(report.summary(series.as_ref(), begun.elapsed().as_secs()));
        if let Err(error) = report.verdict() {
            failed.push(format!("{}: {error}", series.as_ref()));
        }
        reports.push(report);
    }
    println!("\nKernel matrix:");
    for line in lines.into_iter().chain(table(&reports)) {
        println!("{line}");
    }
    if !failed.is_empty() {
        bail!("kernel matrix: {}", failed.join("; "));
    }
    Ok(())
}

/// Loads every program into the host's kernel.
fn load_here(executables: &[(String, PathBuf)]) -> Result<Report> {
    let (_, path) = executables.iter().find(|(name, _)| name == "verdict").context("no `verdict`")?;
    let path = path.to_str().context("the target folder's path is not text")?;
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").context("/proc/sys/kernel/osrelease")?;
    let mut report = Report::of(version.trim());
    let mut command = sh::as_root(path, LOADING.split(' ').skip(1))?;
    let succeeded = sh::run_lines(&mut command, |line| report.line(line))?;
    ensure!(succeeded, "the programs do not load into the host's kernel {}", version.trim());
    Ok(report)
}

/// Process 1, the tests, the plan and the corpus.
fn initramfs(executables: &[(String, PathBuf)], extent: Extent) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.folder("dev");
    // The kernel opens it for process 1 before that could mount anything.
    archive.console("dev/console");
    for (name, path) in executables {
        let name = match &name[..] {
            "vm_init" => "init",
            "corpus" => "corpus_test",
            name => name,
        };
        archive.program(name, fs::read(path).with_context(|| path.display().to_string())?);
    }
    let corpus = sh::workspace().join("../shared/corpus");
    if corpus.is_dir() {
        archive.tree(&corpus, "corpus")?;
    } else {
        println!("\nSKIPPING the real captures: ../shared/corpus is not there.\n");
    }
    archive.file("plan", extent.plan().join("\n").into_bytes());
    Ok(archive.finish())
}

fn boot(qemu: &Qemu, kernel: &Kernel, image: &Path) -> Result<Report> {
    let mut report = Report::default();
    let mut command = machine(qemu, kernel, image);
    // What matters is what the console says: a machine that panics or is ended says less.
    sh::run_lines(&mut command, |line| report.line(line.trim_end()))?;
    Ok(report)
}

fn machine(qemu: &Qemu, kernel: &Kernel, image: &Path) -> Command {
    let mut command = qemu.command(&["timeout", "--foreground", LIMIT]);
    command
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nic", "none", "-no-reboot"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image);
    command
}
