//! What is known of the last good answer, beside it.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use reqwest::Url;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::feed::spool;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Where it is from.
    pub(super) url: String,
    /// Its version, by the server.
    pub(super) etag: Option<String>,
    /// The same, by time.
    pub(super) last_modified: Option<String>,
    /// SHA-256 of the first `length` octets of the file, hexadecimal.
    pub(super) sha256: String,
    /// Octets of the file that count. More can be there only of a feed whose events are put behind the others.
    pub(super) length: u64,
    /// When it was put there.
    pub(super) changed: Option<Timestamp>,
    /// When it was signed, in seconds since 1970.
    pub(super) signed: Option<u64>,
    /// Number of the last event in it.
    pub(super) seq: Option<u64>,
    /// Octets of events that came after the whole.
    pub(super) appended: u64,
}

impl Meta {
    /// What is known of the file at `path`, if it is the one that was written with it, and from `url`. When it was signed
    /// holds for all that come after.
    pub(super) fn read(path: &Path, url: &Url) -> Self {
        let known: Self =
            fs::read(beside(path)).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let may_be_longer = known.seq.is_some();
        let is_same = known.url == url.as_str()
            && fs::metadata(path).is_ok_and(|file| file.len() == known.length || may_be_longer)
            && hash_of(path, known.length).is_ok_and(|hash| hash == known.sha256);
        if is_same { known } else { Self { signed: known.signed, ..Self::default() } }
    }

    /// To be written after the file: if that fails, the next answer is asked for as the first one is.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        spool::replace(&beside(path), serde_json::to_string(self)?.as_bytes())
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".meta");
    name.into()
}

/// Of the first octets of a file.
fn hash_of(path: &Path, length: u64) -> io::Result<String> {
    let mut hash = Hash::default();
    io::copy(&mut fs::File::open(path)?.take(length), &mut hash)?;
    Ok(hash.so_far())
}

/// SHA-256 of what is written to it.
pub(super) struct Hash(Context);

impl Default for Hash {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hash {
    pub(super) fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// Of what was written until now, hexadecimal.
    pub(super) fn so_far(&self) -> String {
        self.0.clone().finish().as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

impl io::Write for Hash {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.update(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
