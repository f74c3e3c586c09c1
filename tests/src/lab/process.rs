//! Running programs: to their end within a deadline, or in the background until dropped.

use std::{
    fmt, fs,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// Whether it said that all went well.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code, or 128 and the signal's number, as a shell has it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; {}{}", self.status, self.stdout, self.stderr)
    }
}

/// Runs a command to its end. It and what it started are killed when the time is over.
pub fn finish(command: &mut Command, patience: Duration) -> Result<Finished> {
    let begun = Instant::now();
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > patience {
            end(&mut child);
            bail!("{shown} did not end within {patience:?}: {}{}", text(stdout), text(stderr));
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Finished { status, took: begun.elapsed(), stdout: text(stdout), stderr: text(stderr) })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Cut off output is shown as far as it came.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(collected: thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&collected.join().unwrap_or_default()).into_owned()
}

/// Runs a command that has to succeed.
pub fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs a command while cleaning up: a failure is told, and does not stop the rest.
pub fn attempt(command: &mut Command) {
    if let Err(error) = done(command) {
        eprintln!("warning: {error:#}");
    }
}

/// A program in the background, killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it writes goes to a file in `folder`.
    pub fn start(command: &mut Command, folder: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = folder.join(format!("process-{number}.log"));
        let file = fs::File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails with its log once it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended early: {status}: {}", self.log()),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send(self.child.id() as i32, signal);
    }

    /// Sends it a signal and waits until it has ended.
    ///
    /// # Errors
    /// It does not end within half a minute; it is killed then. A process whose disk is slow or broken ends late.
    pub fn stop(&mut self, signal: i32) -> Result<ExitStatus> {
        send(self.child.id() as i32, signal);
        super::eventually(Duration::from_secs(30), || self.child.try_wait()?.context("still runs"))
            .inspect_err(|_| end(&mut self.child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a process that leads its group, with the group.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        send(-(child.id() as i32), libc::SIGKILL);
        // Nothing can be done about a child that cannot be waited for.
        let _ = child.wait();
    }
}

/// Kills a process.
pub fn kill(pid: i32) {
    send(pid, libc::SIGKILL);
}

/// Kills what this process has started and not waited for, and the process groups that these lead.
pub fn kill_children() {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| parent(*pid) == Some(std::process::id())) {
        send(-pid, libc::SIGKILL);
        send(pid, libc::SIGKILL);
    }
}

/// The fourth field of /proc/PID/stat (proc(5)); the second, in parentheses, may hold anything.
fn parent(pid: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// To a process, or to a group where the number is negative. One that is gone needs no signal.
fn send(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(pid, signal) };
}

/// Whether there is a process of this number.
pub fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The process that a name of the form `cordon-PID-...` belongs to.
pub fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("cordon-")?.split('-').next()?.parse().ok()
}

/// Looks a program up as a shell would, and where Debian keeps those of root.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_from_names() {
        assert_eq!(owner("cordon-17-0-client"), Some(17));
        assert_eq!(owner("cordon-17-0"), Some(17));
        assert_eq!(owner("cordon-demo"), None);
        assert_eq!(owner("other-17"), None);
    }

    #[test]
    fn a_deadline_kills() {
        let begun = Instant::now();
        let error = finish(Command::new("sh").args(["-c", "echo begun; sleep 60"]), Duration::from_millis(300));
        assert!(error.unwrap_err().to_string().contains("did not end within 300ms: begun"));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_child_is_known_by_its_parent() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = parent(child.id() as i32);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(std::process::id()));
    }

    #[test]
    fn codes_are_a_shells() {
        let code = |script| finish(Command::new("sh").args(["-c", script]), Duration::from_secs(10)).unwrap().code();
        assert_eq!(code("exit 35"), 35);
        assert_eq!(code("kill -9 $$"), 137);
    }
}
