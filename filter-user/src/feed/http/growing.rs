//! The file of an incremental feed: what came as a whole, with the events since behind it.
//!
//! A few events are to cost nothing that grows with the file, so they are put at its end, in place. What the meta file
//! says of the file's length is what counts: octets behind it are of an append that was interrupted, and whoever reads
//! the file meanwhile passes over a last line that does not end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use super::meta::{Hash, Meta};
use crate::feed::spool;

/// The file as it was left.
pub(super) struct Growing {
    hash: Hash,
    length: u64,
}

impl Growing {
    /// Puts a whole answer there, each line with its end.
    ///
    /// # Errors
    /// The file is as it was.
    pub(super) fn begin(path: &Path, mut text: Vec<u8>) -> io::Result<Self> {
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        spool::replace(path, &text)?;
        let mut growing = Self { hash: Hash::default(), length: 0 };
        growing.add(&text);
        Ok(growing)
    }

    /// The file that `meta` tells of.
    ///
    /// # Errors
    /// It is not there, or another.
    pub(super) fn open(path: &Path, meta: &Meta) -> io::Result<Self> {
        let mut hash = Hash::default();
        let length = io::copy(&mut File::open(path)?.take(meta.length), &mut hash)?;
        if length != meta.length || hash.so_far() != meta.sha256 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "somebody has changed it"));
        }
        Ok(Self { hash, length })
    }

    /// Whether nobody has put another file there since.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|file| file.len() == self.length)
    }

    /// Puts whole lines at the end.
    ///
    /// # Errors
    /// The file is as it was, or has some of the lines behind what counts.
    pub(super) fn append(mut self, path: &Path, lines: &[u8]) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let written = file.write_all_at(lines, self.length).and_then(|()| {
            file.set_len(self.length + lines.len() as u64)?;
            file.sync_data()
        });
        if let Err(error) = written {
            // If that fails as well, the next append writes over what is there.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.add(lines);
        Ok(self)
    }

    /// Octets of the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Its SHA-256, hexadecimal.
    pub(super) fn sha256(&self) -> String {
        self.hash.so_far()
    }

    fn add(&mut self, octets: &[u8]) {
        self.hash.update(octets);
        self.length += octets.len() as u64;
    }
}
