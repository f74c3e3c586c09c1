//! Files whose last events the book has, though it has not read the file with these events in it.
//!
//! To read a large file takes a second, in which nothing else is taken in, so it is left until nothing has come for a
//! while. Until then the book would take these events for new ones: whatever others say of orders waits for the reading.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// See the module.
#[derive(Default)]
pub(super) struct Grown {
    /// When each has grown first since it was read, and last.
    files: BTreeMap<PathBuf, (Instant, Instant)>,
}

impl Grown {
    pub(super) fn has_grown(&mut self, path: PathBuf) {
        let now = Instant::now();
        self.files.entry(path).or_insert((now, now)).1 = now;
    }

    /// How long they may wait; `None`: there are none.
    pub(super) fn wait(&self) -> Option<Duration> {
        let due = |(first, last): &(Instant, Instant)| (*first + LONGEST).min(*last + QUIET);
        Some(self.files.values().map(due).min()?.saturating_duration_since(Instant::now()))
    }

    /// Whether there is none beside this.
    pub(super) fn is_only(&self, path: Option<&Path>) -> bool {
        self.files.keys().all(|known| Some(&**known) == path)
    }

    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// All of them, which are read now.
    pub(super) fn take(&mut self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.files).into_keys().collect()
    }
}

const QUIET: Duration = Duration::from_secs(3);

/// For files that grow all the time.
const LONGEST: Duration = Duration::from_secs(60);
