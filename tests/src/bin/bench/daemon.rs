//! The real daemon under measurement.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cordon_tests::lab::Folder;
use filter_user::{control::client::Client, kernel::Tables, name::Name};

/// A daemon that runs until this is dropped.
pub struct Daemon {
    child: Child,
    tables: Tables,
    socket: PathBuf,
    log: PathBuf,
    pins: PathBuf,
}

impl Daemon {
    /// Starts one, with its files in a folder of its own, these feeds, and nothing pinned before.
    pub fn start(run: &Folder, folder: &Path, feeds: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::with_pins(folder, feeds, run.bpffs().join(number.to_string()))
    }

    fn with_pins(folder: &Path, feeds: &str, pins: PathBuf) -> Result<Self> {
        let config = folder.join("cordon.toml");
        let (state, socket) = (folder.join("state"), folder.join("socket"));
        fs::write(
            &config,
            format!("[daemon]\nstate_dir = {state:?}\nsocket = {socket:?}\npin_root = {pins:?}\n{feeds}"),
        )?;
        // Of the daemon before.
        let _ = fs::remove_file(&socket);
        let program = std::env::current_exe()?.with_file_name("cordon");
        let log = fs::File::options().append(true).create(true).open(folder.join("log"))?;
        let mut command = Command::new(&program);
        // SAFETY: prctl(2) is a system call that takes numbers only; it has the daemon end with the thread that starts
        // it, so that a benchmark that is killed leaves none.
        unsafe { command.pre_exec(end_with_parent) };
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let begun = Instant::now();
        let tables = loop {
            if let Ok(tables) = Tables::open(&pins) {
                break tables;
            }
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended: {status}: {}", fs::read_to_string(folder.join("log"))?);
            }
            ensure!(begun.elapsed() < PATIENCE, "no tables");
            thread::sleep(STEP);
        };
        Ok(Self { child, tables, socket, log: folder.join("log"), pins })
    }

    /// Kills it. The next one finds what it has pinned, if that is `kept`.
    pub fn again(mut self, run: &Folder, folder: &Path, feeds: &str, kept: bool) -> Result<(Self, Instant)> {
        self.kill();
        let pins = kept.then(|| std::mem::take(&mut self.pins));
        drop(self);
        let begun = Instant::now();
        let next = match pins {
            Some(pins) => Self::with_pins(folder, feeds, pins),
            None => Self::start(run, folder, feeds),
        };
        Ok((next?, begun))
    }

    /// How often the tables were brought to another state.
    pub fn generation(&self) -> Result<u64> {
        Ok(self.tables.settings()?.generation)
    }

    /// Whether the tables hold a name.
    pub fn holds(&self, name: &str) -> Result<bool> {
        Ok(self.tables.node(&Name::parse(name)?).is_some())
    }

    /// Its control socket.
    pub fn control(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Waits until something is so; looks 20,000 times a second.
    pub fn until(&mut self, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done(self)? {
            ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended: {status}: {}", fs::read_to_string(&self.log)?);
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// A line of /proc/PID/status, in MB.
    pub fn memory(&self, what: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).context("no such line")?;
        let kilobytes: f64 = line.trim().strip_suffix(" kB").context("not in kB")?.parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    /// Processor seconds that it has used.
    pub fn processor(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).context("stat");
        // utime and stime, proc(5); 100 ticks a second.
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end_with_parent() -> std::io::Result<()> {
    // SAFETY: as above.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        // What is pinned is nobody's any more: the maps go with it. The run's folder goes with what is left.
        let _ = fs::remove_dir_all(&self.pins);
    }
}

const PATIENCE: Duration = Duration::from_secs(120);

const STEP: Duration = Duration::from_micros(50);
