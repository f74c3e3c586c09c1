//! The benchmark's own manners: what it says when it cannot measure, and that it leaves nothing behind.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use cordon_tests::lab::eventually;

fn bench(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("RUST_BACKTRACE", "0");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[test]
fn only_root_measures() {
    // From a folder that anyone may be in, by a copy that anyone may start.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let copy = folder.path().join("bench");
    fs::copy(env!("CARGO_BIN_EXE_bench"), &copy).unwrap();
    for path in [folder.path(), &copy] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, open).unwrap();
    }
    let output = Command::new(&copy).uid(65534).current_dir("/").output().unwrap();
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(1), ROOT));
}

const ROOT: &str = "error: the benchmark loads BPF programs: run it as root";

#[test]
fn a_part_that_is_none_is_told_with_those_that_are() {
    let output = bench(&["--part", "pakets"]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("error: there is no part pakets; there are packets, sizes, sweeps, sync, book"), "{text}");
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_behind() {
    let child = bench(&["--quick", "--part", "book"]).process_group(0).spawn().unwrap();
    let folder = PathBuf::from(format!("/tmp/cordon-{}-0", child.id()));
    let daemon = eventually(Duration::from_secs(60), || {
        let pid = daemon(&folder).context("no daemon")?;
        let pinned = fs::read_dir(folder.join("bpf/0"))?.count();
        ensure!(pinned > 0, "nothing is pinned");
        Ok(pid)
    });
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let daemon = daemon.unwrap_or_else(|error| panic!("{error:#}: {}", said(&output)));
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None), "{}", said(&output));
    assert!(!folder.exists());
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
    // A killed child of a process that is gone is init's to wait for.
    eventually(Duration::from_secs(10), || {
        ensure!(cmdline(daemon).is_empty(), "the daemon {daemon} goes on");
        Ok(())
    })
    .unwrap();
}

fn interrupt(child: &Child) {
    // SAFETY: kill takes two numbers; the child was not waited for, so its number is its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
}

/// The process that runs with the configuration in this folder.
fn daemon(folder: &std::path::Path) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| {
        let words = cmdline(*pid);
        words.contains("--config") && words.contains(folder.to_str().unwrap_or("no such folder"))
    })
}

fn cmdline(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}
