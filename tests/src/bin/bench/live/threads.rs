//! Threads of the kernel and of programs: where they run, and what processor time they have used.

use std::{collections::BTreeSet, fs, io, mem, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use cordon_tests::cpu::run_on;

/// The kernel's threads that poll an interface of this name (threaded NAPI, Linux 5.12), whosoever's it is.
pub fn polling(interface: &str) -> Result<BTreeSet<u32>> {
    let prefix = format!("napi/{interface}-");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile has no name.
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with(&prefix)) {
            found.insert(id);
        }
    }
    Ok(found)
}

/// The first and the last CPU that this process may use.
pub fn cpus() -> Result<[usize; 2]> {
    // SAFETY: all bits zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set lives over the call, and is as long as we say.
    let got = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    ensure!(got == 0, "sched_getaffinity: {}", io::Error::last_os_error());
    // SAFETY: the set is initialised, and the index within it.
    let mine = (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) });
    let mine: Vec<usize> = mine.collect();
    match mine[..] {
        [first, .., last] => Ok([first, last]),
        _ => bail!("the generator and the border need a CPU each, and this process may use one only"),
    }
}

/// Has every thread of a process run on a CPU alone.
pub fn all_run_on(process: u32, cpu: usize) -> Result<()> {
    tasks(process)?.into_iter().try_for_each(|thread| run_on(thread, cpu))
}

/// Has a thread run before all ordinary ones on its CPU (SCHED_FIFO); 0 is the calling one.
pub fn run_first(thread: u32) -> Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives over the call.
    let done = unsafe { libc::sched_setscheduler(thread as libc::pid_t, libc::SCHED_FIFO, &parameter) };
    ensure!(done == 0, "scheduling thread {thread}: {}", io::Error::last_os_error());
    Ok(())
}

/// Whether a thread runs, or would if it had a CPU: the state in /proc/PID/stat, behind the name in parentheses.
pub fn runs(thread: u32) -> Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat"))?;
    Ok(stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('R')))
}

/// Processor time that a thread has used, to the nanosecond while it does not run.
pub fn time_of(thread: u32) -> Result<Duration> {
    read(Path::new(&format!("/proc/{thread}/task/{thread}/schedstat")))
}

/// Processor time that the threads of a process have used.
pub fn time_of_all(process: u32) -> Result<Duration> {
    tasks(process)?.into_iter().map(|thread| read(Path::new(&format!("/proc/{process}/task/{thread}/schedstat")))).sum()
}

fn tasks(process: u32) -> Result<Vec<u32>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).with_context(|| folder.clone())?;
    entries.map(|entry| entry?.file_name().to_str().and_then(|name| name.parse().ok()).context("task")).collect()
}

/// The first number of schedstat: nanoseconds on a CPU (Documentation/scheduler/sched-stats.rst).
fn read(path: &Path) -> Result<Duration> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.with_context(|| format!("{}: {text}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread, time::Instant};

    use super::*;

    /// Of a process of its own: threads of this one come and go with its other tests.
    #[test]
    fn work_is_seen_in_the_processor_time() {
        let mut works = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let (begun, before) = (Instant::now(), time_of_all(works.id()).unwrap());
        let mut after = before;
        while after <= before && begun.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(10));
            after = time_of_all(works.id()).unwrap();
        }
        works.kill().unwrap();
        works.wait().unwrap();
        assert!(after > before);
        assert!(time_of(u32::MAX).is_err());
        // SAFETY: takes nothing.
        assert!(runs(unsafe { libc::gettid() } as u32).unwrap());
    }
}
