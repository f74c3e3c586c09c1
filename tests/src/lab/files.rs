//! The lab's folder: `/tmp/cordon-PID-N`, with a BPF file system mounted in it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use super::{disk, process, signals};
use crate::bpffs;

/// Owner of the folder.
pub struct Folder {
    path: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Folder {
    pub(super) fn new() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cordon-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let folder = Self { path };
        bpffs::mount("bpf", &folder.bpffs())?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `cordon-PID-N`, which nothing else on this host is called.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// An empty BPF file system.
    pub fn bpffs(&self) -> PathBuf {
        self.path.join("bpf")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _guard = signals::quiet();
        remove(&self.path);
    }
}

/// Removes what processes that are no more have left.
pub fn remove_stale() {
    for path in folders() {
        if owner(&path).is_some_and(|pid| !process::lives(pid)) {
            remove(&path);
        }
    }
}

/// Removes the folders of this process.
pub fn remove_own() {
    for path in folders() {
        if owner(&path) == Some(std::process::id()) {
            remove(&path);
        }
    }
}

fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect()
}

fn owner(path: &Path) -> Option<u32> {
    process::owner(path.file_name()?.to_str()?)
}

fn remove(path: &Path) {
    disk::unmount_below(path);
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("warning: {}: {error}", path.display());
    }
}
