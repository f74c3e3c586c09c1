//! Process 1 of the virtual machines of `cargo xtask vm`: mounts what the tests look for, runs the commands of `/plan`
//! one after the other, says on the console how each ended, and switches the machine off.
//!
//! A line of the plan is a command's words, after settings of its environment (`NAME=value`). Lines that begin with
//! `vm: ` are for xtask, which reads the console.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use cordon_tests::bpffs::mount;

fn main() {
    if let Err(error) = run() {
        println!("vm: error: {error:#}");
    }
    // SAFETY: no pointers.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

fn run() -> Result<()> {
    ensure!(std::process::id() == 1, "this is process 1 of a virtual machine, and nothing else");
    for (kind, folder) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("bpf", "/sys/fs/bpf"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")]
    {
        mount(kind, Path::new(folder))?;
    }
    println!("vm: kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    let mut failed = 0;
    for line in fs::read_to_string("/plan").context("/plan")?.lines() {
        let begun = Instant::now();
        let status = command(line)?.status().with_context(|| line.to_owned())?;
        println!("vm: {status} after {} s: {line}", begun.elapsed().as_secs());
        failed += usize::from(!status.success());
    }
    ensure!(failed == 0, "{failed} commands of the plan failed");
    println!("vm: done");
    Ok(())
}

fn command(line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let mut settings = Vec::new();
    let program = loop {
        let word = words.next().with_context(|| format!("no program in {line:?}"))?;
        match word.split_once('=') {
            Some(setting) => settings.push(setting),
            None => break word,
        }
    };
    let mut command = Command::new(program);
    command.args(words).envs(settings);
    Ok(command)
}
