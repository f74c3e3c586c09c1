//! What a feed reads: a file, or a folder of files, of one kind.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Context, Refusal, content,
    list::{self, List},
    native::{self, Read},
    rpz::{self, Zone},
    signature::{self, Seal},
    transfer::{
        Apex,
        kept::{Changes, Kept},
        records::Records,
    },
};
use crate::book::PartChange;

/// Where a feed's orders lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// A file or a folder, absolute.
    pub path: PathBuf,
    /// What is in it.
    pub kind: Kind,
    /// It must be signed.
    pub seal: Option<Seal>,
    /// A fetcher puts it there: that it is not there says nothing.
    pub is_fetched: bool,
    /// It is the copy of this zone, which is transferred.
    pub transferred: Option<Apex>,
}

/// What a feed's files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events in the native format. Each file is a source by itself.
    Native,
    /// The same, but what one file says happened one after the other.
    Log,
    /// Names of one order, which all files of a folder give together.
    List(Arc<List>),
    /// A response policy zone of one order: a file.
    Rpz(Arc<Zone>),
}

impl Input {
    /// A file of orders in the native format, or a folder of them.
    pub fn native(path: &Path) -> Self {
        Self { path: absolute(path), kind: Kind::Native, seal: None, is_fetched: false, transferred: None }
    }

    /// Whether a file of its folder is read.
    pub(super) fn takes(&self, path: &Path) -> bool {
        match self.kind {
            Kind::Native | Kind::Log => is_orders(path),
            Kind::List(_) => !self.leaves(path),
            Kind::Rpz(_) => false,
        }
    }

    /// Whether a file of its folder is one that nobody takes for one of orders.
    pub(super) fn leaves(&self, path: &Path) -> bool {
        let is_expected = self.seal.is_some() || matches!(self.kind, Kind::List(_));
        is_meant_otherwise(path) || is_expected && is_signature(path)
    }

    /// The file whose signature this is.
    pub(super) fn signed_by(&self, path: &Path) -> Option<PathBuf> {
        (self.seal.is_some() && is_signature(path)).then(|| path.with_extension(""))
    }

    /// Whether it is the copy of a zone, and holds no version of it yet: it is new, or was made anew.
    pub(super) fn is_bare_copy(&self) -> bool {
        let Some(apex) = &self.transferred else { return false };
        // What cannot be read is told of when it is to be.
        matches!(Kept::read(&self.path, apex), Ok(None))
    }

    /// Reads files that make up one source.
    ///
    /// # Errors
    /// One of them cannot be read to its end, or is not signed as it should be; the error names it.
    pub(super) fn read(&self, source: &Path, files: &[PathBuf], context: &Context) -> io::Result<Signed> {
        let mut times = Vec::new();
        let mut open = |file: &Path| {
            let content = content::open(file, self.seal.as_ref())?;
            times.extend(content.signed.map(|time| (file.to_owned(), time)));
            io::Result::Ok(content.input)
        };
        let read = match &self.kind {
            Kind::Native => native::read(&source.to_string_lossy(), open(source)?, context)?,
            Kind::Log => native::read_log(&source.to_string_lossy(), open(source)?, context)?,
            Kind::List(list) => {
                let mut reader = list::Reader::new(&named(source).to_string_lossy(), list, context);
                for file in files {
                    open(file)
                        .and_then(|input| reader.file(&file.to_string_lossy(), input))
                        .map_err(|error| if files.len() == 1 { error } else { in_file(file, &error) })?;
                }
                reader.finish()
            }
            Kind::Rpz(zone) => {
                let mut reader = rpz::Reader::new(&source.to_string_lossy(), zone, context);
                match &self.transferred {
                    Some(apex) => copied(&mut reader, source, apex)?,
                    None => reader.file(open(source)?)?,
                }
                reader.finish()
            }
        };
        Ok(Signed { read, times })
    }

    /// What changed of a zone that is transferred, and what is refused of it; nothing of any other input.
    pub(crate) fn changes(&self, changes: &Changes, context: &Context) -> Option<(Vec<PartChange>, Vec<Refusal>)> {
        let Kind::Rpz(zone) = &self.kind else { return None };
        let read = |records: &Records| {
            let mut reader = rpz::Reader::new(&self.path.to_string_lossy(), zone, context);
            records.iter().for_each(|record| reader.wire(record.owner, record.rtype, record.data));
            reader
        };
        Some(rpz::wire::changes(read(&changes.before), read(&changes.after)))
    }

    /// Notes when the files that were read were signed, and which serial a zone has.
    pub(super) fn note(&self, Signed { read, times }: &Signed) {
        if let Kind::Rpz(zone) = &self.kind
            && let Some((newest, serial)) = zone.newest().zip(read.zone.as_ref().and_then(|zone| zone.serial))
            && let Err(error) = newest.taken(serial)
        {
            tracing::warn!("{}: the zone's serial cannot be noted: {error}", self.path.display());
        }
        for (file, time) in times {
            if let Some(Err(error)) = self.seal.as_ref().map(|seal| seal.taken(file, *time)) {
                tracing::warn!("{}: when it was signed cannot be noted: {error}", file.display());
            }
        }
    }
}

/// Reads the copy of a zone. One that holds no version yet (it is new, or was made anew) says nothing of the zone's
/// orders; only one that has expired says that they are gone.
fn copied(reader: &mut rpz::Reader<'_>, source: &Path, apex: &Apex) -> io::Result<()> {
    let none = || io::Error::other("the zone was not transferred yet");
    let kept = Kept::read(source, apex).map_err(io::Error::other)?.ok_or_else(none)?;
    let read = kept.whole(|record| reader.wire(record.owner, record.rtype, record.data)).map_err(io::Error::other)?;
    let version = read.ok_or_else(none)?;
    if version.is_dropped {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the zone has expired"));
    }
    reader.serial(version.soa.serial);
    Ok(())
}

/// What was read, and when which file was signed.
pub(super) struct Signed {
    pub(super) read: Read,
    pub(super) times: Vec<(PathBuf, u64)>,
}

/// The source that all files of a folder are: no file has such a path, and it lies in the folder.
pub(super) fn all_of(folder: &Path) -> PathBuf {
    folder.join(ALL)
}

/// The folder, if a source is all files of one.
pub(super) fn folder_of(source: &Path) -> Option<&Path> {
    source.parent().filter(|_| source.file_name() == Some(OsStr::new(ALL)))
}

/// What a source is called in reports: something that is there.
pub(crate) fn named(source: &Path) -> &Path {
    folder_of(source).unwrap_or(source)
}

/// Whether a file in a folder is one of orders.
fn is_orders(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension() == Some(OsStr::new("jsonl"))
}

/// Whether a file in a folder is one that nobody takes for one of orders: hidden, of an editor, half written, a note.
fn is_meant_otherwise(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = ["~", ".swp", ".tmp", ".fresh"].iter().any(|end| name.ends_with(end));
    ends || name.starts_with('.') || name.starts_with("README")
}

fn is_signature(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(signature::EXTENSION))
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn in_file(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.file_name().unwrap_or_default().to_string_lossy()))
}

const ALL: &str = "*";
