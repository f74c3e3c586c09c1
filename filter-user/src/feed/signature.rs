//! Signatures of files, as minisign makes them: Ed25519, in a file beside the signed one with `.minisig` at its end.
//!
//! The signed comment (`trusted comment`) binds the signature to a time and a file name, which minisign writes there by
//! itself. A file that was signed before the one that was taken last is refused: an attacker who has an old file and
//! its signature could bring back what it said. So is one that was signed under another name.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use minisign_verify::{PublicKey, Signature};

use super::spool;

/// A public key.
#[derive(Clone)]
pub struct Key {
    text: String,
    key: PublicKey,
}

/// What a feed's files must be signed with, and where it is noted when the last one was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// By this key.
    pub key: Key,
    /// A file that need not be there.
    pub newest: PathBuf,
}

/// A signature that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// When, in seconds since 1970; nothing if the comment does not tell.
    pub(crate) time: Option<u64>,
}

impl Key {
    /// A key as `minisign -G` prints it: the line of 56 characters.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = PublicKey::from_base64(text)
            .map_err(|_| "not a public key of minisign, which is a line of 56 characters".to_owned())?;
        Ok(Self { text: text.to_owned(), key })
    }

    /// The line.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Some letters and digits that tell one key from another.
    pub(crate) fn short(&self) -> String {
        self.text.chars().filter(char::is_ascii_alphanumeric).skip(4).take(12).collect()
    }

    /// Whether `signature`, the content of a `.minisig` file, is this key's for `content` under the file name `name`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, content: &[u8], signature: &str, name: &str) -> Result<Signed, String> {
        let signature = Signature::decode(signature).map_err(|_| "its signature is none of minisign's".to_owned())?;
        // Signatures of whole files, without a hash, are minisign's old form, and still right.
        self.key.verify(content, &signature, true).map_err(|error| format!("its signature does not hold: {error}"))?;
        let mut signed = Signed { time: None };
        for part in signature.trusted_comment().split('\t') {
            match part.split_once(':') {
                Some(("timestamp", time)) => signed.time = time.parse().ok(),
                Some(("file", file)) if file != name => {
                    return Err(format!("it was signed under the name {file:?}, not {name:?}"));
                }
                _ => {}
            }
        }
        Ok(signed)
    }
}

impl Signed {
    /// Whether it may take the place of what was signed at `newest`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn follows(self, newest: Option<u64>) -> Result<(), String> {
        match (self.time, newest) {
            (None, Some(_)) => {
                Err("its signature has no time, and an earlier one had: this may be an old file".to_owned())
            }
            (Some(time), Some(newest)) if time < newest => Err(format!(
                "it was signed at {time} (seconds since 1970), before the one that was taken last, {newest}: this is an \
                 old file"
            )),
            _ => Ok(()),
        }
    }
}

/// Where the signature of a file is.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(EXTENSION);
    name.into()
}

impl Seal {
    /// A file's content and when it was signed, if it is signed as it should be.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub(super) fn checked(&self, path: &Path) -> io::Result<(Vec<u8>, Option<u64>)> {
        let content = fs::read(path)?;
        let signature = fs::read_to_string(beside(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused("it is not signed, and the feed's `signature` says that it must be"),
            _ => io::Error::new(error.kind(), format!("its signature cannot be read: {error}")),
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let signed = self.key.check(&content, &signature, &name).map_err(refused)?;
        signed.follows(self.times().get(&*path.to_string_lossy()).copied()).map_err(refused)?;
        Ok((content, signed.time))
    }

    /// Notes when a file that was taken was signed, so that no older one will be.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn taken(&self, path: &Path, time: u64) -> io::Result<()> {
        let mut times = self.times();
        if times.insert(path.to_string_lossy().into_owned(), time) == Some(time) {
            return Ok(());
        }
        if let Some(folder) = self.newest.parent() {
            fs::create_dir_all(folder)?;
        }
        spool::replace(&self.newest, serde_json::to_string(&times)?.as_bytes())
    }

    /// By file, when the one that was taken last was signed.
    fn times(&self) -> BTreeMap<String, u64> {
        fs::read(&self.newest).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }
}

fn refused(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_string())
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Key").field(&self.text).finish()
    }
}

pub(crate) const EXTENSION: &str = "minisig";

#[cfg(test)]
mod tests;
