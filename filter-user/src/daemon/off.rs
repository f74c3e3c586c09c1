//! Interfaces that were detached while the daemon did not answer: a mark for each, `<state_dir>/detached/<interface>`.
//! A running daemon attaches none of them again; its next start begins without marks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const FOLDER: &str = "detached";

/// Marks an interface as detached by hand. Where no daemon has ever kept a state there is nothing to tell.
///
/// # Errors
/// If the mark cannot be written: then a running daemon attaches again.
pub fn mark(state_dir: &Path, interface: &str) -> io::Result<()> {
    let Some(path) = path(state_dir, interface).filter(|_| state_dir.is_dir()) else { return Ok(()) };
    match fs::create_dir(state_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(path, "")
}

/// Takes the mark of an interface away.
///
/// # Errors
/// If there is one and it cannot be removed.
pub fn unmark(state_dir: &Path, interface: &str) -> io::Result<()> {
    path(state_dir, interface).map_or(Ok(()), |path| unless_missing(fs::remove_file(path)))
}

/// Takes all marks away.
pub(super) fn unmark_all(state_dir: &Path) -> io::Result<()> {
    unless_missing(fs::remove_dir_all(state_dir.join(FOLDER)))
}

/// Whether an interface is marked.
pub(super) fn is_marked(state_dir: &Path, interface: &str) -> bool {
    path(state_dir, interface).is_some_and(|path| path.exists())
}

/// None for what is no interface's name, and might lead elsewhere.
fn path(state_dir: &Path, interface: &str) -> Option<PathBuf> {
    let is_plain = Path::new(interface).file_name().is_some_and(|name| name == interface);
    is_plain.then(|| state_dir.join(FOLDER).join(interface))
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_it_is_taken_away() {
        let state = tempfile::tempdir().unwrap();
        unmark_all(state.path()).unwrap();
        unmark(state.path(), "eth0").unwrap();
        for interface in ["eth0", "eth0.100"] {
            mark(state.path(), interface).unwrap();
            mark(state.path(), interface).unwrap();
            assert!(is_marked(state.path(), interface));
        }
        unmark(state.path(), "eth0").unwrap();
        assert!(!is_marked(state.path(), "eth0") && is_marked(state.path(), "eth0.100"));
        unmark_all(state.path()).unwrap();
        assert!(!is_marked(state.path(), "eth0.100"));
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder_or_without_a_state() {
        let state = tempfile::tempdir().unwrap();
        for interface in ["../x", "/x", "..", ".", ""] {
            mark(state.path(), interface).unwrap();
            assert!(!is_marked(state.path(), interface), "{interface}");
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        mark(&state.path().join("none"), "eth0").unwrap();
        assert!(!state.path().join("none").exists());
    }
}
