//! Tells when files of orders change.
//!
//! Folders are watched by inotify, single files by the folder that they are in, so that a file written in place and
//! one renamed over it look alike. A change is told [`SETTLED`] after a file was closed or renamed into place, else
//! when nothing has moved for [`QUIET`], so that a file is not read while it is written; but no later than
//! [`LATEST`]. Every second it is looked whether the folders are still the same ones; when one goes or comes, and
//! when the kernel's queue ran over, everything is to be read again. Then it is also looked whether the files are
//! still as they were told last, links followed: of a link that leads elsewhere, or of what another machine writes,
//! inotify knows nothing.
//!
//! Some time after a change, and after the start, [`Which::Only`] without a path is told, some times: then a file that
//! lacked an order is looked at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{
    file::{Files, Which},
    input::Input,
};

/// Watches files and folders until the receiver is dropped. What arrives is ready for
/// [`Files::sync`](super::file::Files::sync).
///
/// # Errors
/// Inotify is not available, or its limits are reached.
pub fn watch(files: &Files) -> notify::Result<Receiver<Which>> {
    let (events, incoming) = mpsc::channel();
    let (changes, receiver) = channel(1);
    let mut watched = Watched {
        inputs: files.inputs.iter().filter(|input| !input.is_fetched).cloned().collect(),
        folders: BTreeMap::new(),
        stamps: BTreeMap::new(),
        watcher: notify::recommended_watcher(events)?,
    };
    watched.look().1?;
    watched.stamps = watched.stamps_now();
    thread::Builder::new().name("watch".to_owned()).spawn(move || watched.run(&incoming, &changes))?;
    Ok(receiver)
}

struct Watched {
    /// As configured, but for what is fetched: its fetcher tells of it.
    inputs: Vec<Input>,
    /// The folders that inotify watches: device and inode.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    /// The files as they were told last.
    stamps: BTreeMap<PathBuf, Stamp>,
    watcher: RecommendedWatcher,
}

/// What changes when a file does, or when a link leads to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// Changes that are not told yet.
struct Pending {
    which: Which,
    since: Instant,
    quiet: Duration,
}

impl Watched {
    fn run(mut self, incoming: &mpsc::Receiver<notify::Result<Event>>, changes: &Sender<Which>) {
        let mut pending: Option<Pending> = None;
        let mut looked = Instant::now();
        let mut told = Instant::now();
        let mut again = AGAIN.iter();
        let mut next_again = again.next();
        while !changes.is_closed() {
            let wait = pending.as_ref().map_or(LOOK, |pending| pending.quiet);
            let due = match incoming.recv_timeout(wait) {
                Ok(event) => {
                    self.note(event, &mut pending);
                    pending.as_ref().is_some_and(|pending| pending.since.elapsed() >= LATEST)
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let (moved, watching) = self.look();
                if moved {
                    add(&mut pending, Which::All, QUIET);
                }
                if let Err(error) = watching {
                    tracing::warn!(%error, "a folder of orders cannot be watched");
                }
                let changed = self.changed();
                if !changed.is_empty() {
                    add(&mut pending, Which::Only(changed), QUIET);
                }
            }
            if due && let Some(pending) = pending.take() {
                self.stamp(&pending.which);
                told = Instant::now();
                again = AGAIN.iter();
                next_again = again.next();
                // The receiver is gone: the next turn ends.
                _ = changes.blocking_send(pending.which);
            } else if next_again.is_some_and(|after| told.elapsed() >= *after) {
                next_again = again.next();
                _ = changes.blocking_send(Which::Only(BTreeSet::new()));
            }
        }
    }

    fn note(&mut self, event: notify::Result<Event>, pending: &mut Option<Pending>) {
        let event = match event {
            Ok(event) if event.need_rescan() => return add(pending, Which::All, QUIET),
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "watching orders");
                return add(pending, Which::All, QUIET);
            }
        };
        let quiet = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => SETTLED,
            EventKind::Access(_) => return,
            EventKind::Remove(_) => {
                // Its watch ended with it, and a new folder may get the same inode: it must be watched anew.
                for path in &event.paths {
                    self.folders.remove(path);
                }
                QUIET
            }
            _ => QUIET,
        };
        let paths: BTreeSet<_> = event.paths.into_iter().filter_map(|path| self.wanted(path)).collect();
        if !paths.is_empty() {
            add(pending, Which::Only(paths), quiet);
        }
    }

    /// The file that is to be read when this one changes.
    fn wanted(&self, path: PathBuf) -> Option<PathBuf> {
        let read = self.inputs.iter().find_map(|input| input.signed_by(&path)).unwrap_or(path);
        // Also those that are not read, since that is to be told.
        let is_wanted = |input: &Input| {
            input.path == read || read.parent() == Some(&input.path) && (input.takes(&read) || !input.leaves(&read))
        };
        self.inputs.iter().any(is_wanted).then_some(read)
    }

    /// Looks whether the folders are the ones that are watched, and watches those that are. Tells whether any was not,
    /// and of one that cannot be watched.
    fn look(&mut self) -> (bool, notify::Result<()>) {
        let folders = self.inputs.iter().filter_map(|Input { path, .. }| {
            let folder = if path.is_dir() { path } else { path.parent()? };
            let metadata = fs::metadata(folder).ok()?;
            Some((folder.to_owned(), (metadata.dev(), metadata.ino())))
        });
        let folders: BTreeMap<_, _> = folders.collect();
        let gone: Vec<_> = self
            .folders
            .iter()
            .filter(|(path, inode)| folders.get(*path) != Some(inode))
            .map(|(path, _)| path.clone())
            .collect();
        for folder in &gone {
            // A deleted folder's watch is gone already.
            _ = self.watcher.unwatch(folder);
            self.folders.remove(folder);
        }
        let mut changed = !gone.is_empty();
        let mut watching = Ok(());
        for (folder, inode) in folders {
            if !self.folders.contains_key(&folder) {
                if let Err(error) = self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                    watching = Err(error);
                    continue;
                }
                self.folders.insert(folder, inode);
                changed = true;
            }
        }
        (changed, watching)
    }
}

impl Watched {
    /// Files that are not as they were told last.
    fn changed(&self) -> BTreeSet<PathBuf> {
        let now = self.stamps_now();
        let paths = now.keys().chain(self.stamps.keys());
        paths.filter(|path| now.get(*path) != self.stamps.get(*path)).cloned().collect()
    }

    /// Notes how files are that are about to be told.
    fn stamp(&mut self, which: &Which) {
        match which {
            Which::All => self.stamps = self.stamps_now(),
            Which::Only(paths) => {
                let is_read = |path: &&PathBuf| {
                    let is_of =
                        |input: &Input| input.path == **path || path.parent() == Some(&input.path) && input.takes(path);
                    self.inputs.iter().any(is_of)
                };
                for path in paths.iter().filter(is_read) {
                    match Stamp::of(path) {
                        Some(stamp) => _ = self.stamps.insert(path.clone(), stamp),
                        None => _ = self.stamps.remove(path),
                    }
                }
            }
        }
    }

    fn stamps_now(&self) -> BTreeMap<PathBuf, Stamp> {
        let mut stamps = BTreeMap::new();
        for input in &self.inputs {
            let files = match fs::read_dir(&input.path) {
                Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| input.takes(path)).collect(),
                Err(_) => vec![input.path.clone()],
            };
            stamps.extend(files.into_iter().filter_map(|path| Stamp::of(&path).map(|stamp| (path, stamp))));
        }
        stamps
    }
}

impl Stamp {
    /// Of what a path leads to; of nothing if that is no file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn add(pending: &mut Option<Pending>, which: Which, quiet: Duration) {
    let Some(pending) = pending else {
        *pending = Some(Pending { which, since: Instant::now(), quiet });
        return;
    };
    pending.quiet = quiet;
    match (&mut pending.which, which) {
        (Which::Only(paths), Which::Only(more)) => paths.extend(more),
        (all, _) => *all = Which::All,
    }
}

/// When the files that lacked an order are to be looked at again, after the last change was told; several times, since
/// the receiver may be busy at first.
const AGAIN: [Duration; 5] = [
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
];
/// How often the folders are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Time without a change after which a file is read.
const QUIET: Duration = Duration::from_millis(50);
/// The same after a file was closed or renamed into place.
const SETTLED: Duration = Duration::from_millis(5);
/// Changes are told after this time even if more keep coming.
const LATEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
