//! The daemon: keeps the kernel's tables equal to the order book, and the book equal to the feeds.
//!
//! Two threads do the work. The [`keeper`] has the book and everything that waits for a disk; the [`engine`] has the
//! compiler and the kernel, and waits for nothing, so that an order's end reaches the kernel whatever the disk does.
//! Tokio tasks only bring them messages: requests of the control socket, changed files, signals, clock steps, ticks.

mod addresses;
mod ends;
mod enforcer;
mod engine;
mod explain;
mod heap;
mod held;
mod hold;
mod keeper;
mod memory;
mod numbers;
pub mod off;
mod record;
mod requests;
mod standing;
mod tasks;
mod tier;

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, RwLock, mpsc as blocking},
    thread,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    book::Book,
    config::Config,
    control::{
        api::{InterfaceStatus, RefusalLine},
        server::Socket,
    },
    feed::{self, Refusal},
    kernel::{self, Attached, Kernel},
    observe::EventHub,
};
use ends::Ends;
use engine::Engine;
use keeper::Keeper;
use memory::Memory;

/// What an order is checked against under this configuration.
pub fn feed_context(config: &Config) -> feed::Context {
    feed::Context {
        scopes: Some(config.scopes.keys().cloned().collect()),
        targets: Some(config.targets.iter().map(|target| target.name.clone()).collect()),
        guards: config.guards(),
    }
}

/// A refusal for reports.
pub fn refusal_line(refusal: &Refusal) -> RefusalLine {
    let Refusal { file, line, text, why } = refusal;
    RefusalLine { file: file.to_string(), line: *line, text: text.clone(), why: why.clone() }
}

/// A pinned link for reports.
pub fn interface_status(attached: &Attached) -> InterfaceStatus {
    InterfaceStatus {
        interface: attached.interface.clone(),
        mode: attached.mode.map(|mode| mode.word().to_owned()),
        program: Some(attached.program),
        layout: Some(attached.layout),
        configured: None,
        problem: attached.mode.is_none().then(|| "the interface is gone".to_owned()),
    }
}

/// Runs until SIGTERM or SIGINT. What is attached then stays attached, and goes on enforcing what it has.
///
/// # Errors
/// If the daemon cannot start: another one runs, the kernel refuses the program, the book cannot be opened, or none
/// of the configured interfaces takes the filter.
pub fn run(file: &Path, config: Config) -> Result<()> {
    heap::set_up();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _context = runtime.enter();
    let path = &config.daemon.socket;
    let folder = &config.daemon.state_dir;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // First of all: two daemons would each undo what the other writes, whatever sockets they have.
    let _book_is_ours = sole(folder)?;
    kernel::make_pin_root(&config.daemon.pin_root)?;
    let _tables_are_ours = sole(&config.daemon.pin_root)?;
    // Before the socket, after which whoever detaches marks what this daemon must leave alone.
    off::unmark_all(folder).with_context(|| format!("{}: marks of interfaces", folder.display()))?;
    let socket = Socket::bind(path).with_context(|| format!("control socket {}", path.display()))?;
    let book = Book::open(folder)?;
    let kernel = Kernel::open(&config.daemon.pin_root, &config.capacity)?;

    let Memory { slots, totals } = Memory::load(folder);
    let directory = Arc::new(RwLock::new(slots));
    let events = EventHub::default();
    let reader = kernel.tables().events()?;
    let (watch, tier) = tier::start(&kernel)?;
    let tables = kernel.share_tables();
    let (to_engine, for_engine) = blocking::channel();
    let (to_keeper, for_keeper) = blocking::channel();
    let fetching = feed::http::States::default();
    let (ends, noted) = Ends::open(folder, path.parent().unwrap_or(folder));
    let mut keeper = Keeper::new(book, &config, to_engine.clone(), fetching.clone(), ends);
    let start = engine::Start {
        kernel,
        contents: keeper.contents(noted)?,
        totals,
        directory: Arc::clone(&directory),
        keeper: to_keeper.clone(),
        tier: Arc::clone(&watch),
    };
    let mut engine = Engine::start(&config, start)?;
    engine.attach_configured()?;

    let threads = [
        thread::Builder::new().name("keeper".into()).spawn(move || keeper.run(&for_keeper))?,
        thread::Builder::new().name("engine".into()).spawn({
            let events = events.clone();
            move || engine.run(&for_engine, &events)
        })?,
    ];
    runtime.block_on(tasks::run(tasks::Parts {
        file: file.to_owned(),
        config,
        socket,
        events,
        reader,
        directory,
        tables,
        fetching,
        to_engine,
        to_keeper,
    }))?;
    watch.end();
    for thread in threads.into_iter().chain([tier]) {
        thread.join().map_err(|_| anyhow!("a thread of the daemon panicked"))?;
    }
    Ok(())
}

/// Locks a folder for as long as the file is open.
fn sole(folder: &Path) -> Result<File> {
    let path = folder.display();
    let file = File::open(folder).with_context(|| path.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let other = holder(&file).map(|process| format!(" (process {process})")).unwrap_or_default();
            Err(anyhow!("another daemon runs: it holds the lock on {path}{other}"))
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {path}")),
    }
}

/// The process that has locked a file, if the kernel tells (proc_locks(5)): on some file systems the device's number is
/// another than the one that a file shows.
fn holder(file: &File) -> Option<u32> {
    let file = file.metadata().ok()?;
    let (device, inode) = (file.dev(), file.ino());
    let place = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    std::fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK");
        let process = words.nth(3)?;
        // 0: one of another PID namespace.
        (words.next()? == place).then(|| process.parse().ok().filter(|process| *process > 0)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let first = sole(path).unwrap();
        let error = sole(path).unwrap_err().to_string();
        let expected = format!("another daemon runs: it holds the lock on {}", path.display());
        // Where the kernel does not tell who it is, there is no process in it.
        let named = format!("{expected} (process {})", std::process::id());
        assert_eq!(error, if holder(&first).is_some() { named } else { expected });
        drop(first);
        sole(path).unwrap();
    }
}
