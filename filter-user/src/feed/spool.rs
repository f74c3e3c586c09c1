//! Files of the state folder, each written whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Puts `content` in the place of a file's content: on the disk before the file is another.
///
/// # Errors
/// The file is as it was.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    let mut file = File::create(&draft)?;
    file.write_all(content)?;
    place(&file, &draft, path)
}

/// Where the next content of a file is written.
pub(super) fn draft(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

/// Puts a draft, written to its end, in the place of a file.
///
/// # Errors
/// As [`replace`].
pub(super) fn place(file: &File, draft: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(draft, path)?;
    // The rename is on the disk when the folder is.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
