//! Files and folders of orders in the native format, and lists of names.
//!
//! A file is a snapshot: what it says is what holds.
//! - The orders that a file puts are bound to it. When it puts one no longer, or when it is deleted or is no longer
//!   in the configuration, that order is revoked, unless another file puts the same: so orders can be moved between
//!   files. That a file or an order is gone is believed only at a second look, two seconds later at the least: a file
//!   that is written in place lacks some for a moment. What is new or changed waits for nothing.
//! - Where a put is refused, the last good version of that order stays. Where a line is so broken that it could have
//!   put any order, none of its orders is withdrawn for being absent. Where the file is empty, or most of its orders are
//!   gone, the guards hold that until it is approved: it may be half written.
//! - A file that cannot be read changes nothing. If a configured folder is not there, or holds no file of orders at
//!   all, no file counts as deleted below it: it may be not mounted. An empty file left in the folder says that it is.
//! - A folder of lists is one source: its files give the names of one order together. If one of them cannot be read,
//!   none is taken.
//! - Add, remove, extend and revoke apply in the order of the lines, to the order as the file puts it, else to the
//!   book's. Files are read in the order of their paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    Context, Entry, Refusal,
    fold::{Folded, fold},
    input::{self, Input, Kind, Signed, folder_of},
};
use crate::{
    book::{Applied, Book, BookError, sync::Snapshot},
    guard::Ruling,
    order::Order,
};

/// The files and folders of a configuration.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) inputs: Vec<Input>,
}

/// What to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every file.
    All,
    /// These files; whatever else is given here is passed over. Those in which an order was missed lately are looked
    /// at, too, when it is time: for that, this may be empty.
    Only(BTreeSet<PathBuf>),
}

/// What became of the copy of a zone that is transferred, when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRead {
    /// This serial was taken in.
    Taken(u32),
    /// The zone has expired.
    Gone,
    /// It could not be read. Its orders are as they were.
    Failed,
}

impl CopyRead {
    fn of(snapshot: Option<&Snapshot>) -> Self {
        let Some(snapshot) = snapshot else { return Self::Failed };
        let Some(read) = &snapshot.read else { return Self::Gone };
        read.zone.as_ref().and_then(|zone| zone.serial).map_or(Self::Failed, Self::Taken)
    }
}

/// What is there.
#[derive(Default)]
struct Found<'a> {
    sources: BTreeMap<PathBuf, Source<'a>>,
    /// Configured paths that are not there, though the folder that they are in is.
    missing: Vec<PathBuf>,
    /// Other configured paths that cannot be looked into.
    unreadable: Vec<PathBuf>,
    /// Configured folders without a file of orders.
    bare: Vec<PathBuf>,
    /// Something that is fetched was not fetched yet.
    is_waiting: bool,
    refusals: Vec<Refusal>,
    /// Files in configured folders that are not read, because of their names.
    passed_over: Vec<Refusal>,
}

/// What an order can belong to.
struct Source<'a> {
    input: &'a Input,
    files: Vec<PathBuf>,
}

impl Files {
    /// Files, and folders whose `*.jsonl` files are meant, without hidden ones and without those in folders below.
    pub fn native(paths: &[PathBuf]) -> Self {
        Self { inputs: paths.iter().map(|path| Input::native(path)).collect() }
    }

    /// What feeds read.
    pub fn new(inputs: Vec<Input>) -> Self {
        Self { inputs }
    }

    /// Brings the book to what the files say. [`Applied::refusals`] also tells of files that could not be read.
    ///
    /// # Errors
    /// Those of the book. Nothing was changed then.
    pub fn sync(&self, book: &mut Book, context: &Context, which: &Which) -> Result<Applied, BookError> {
        let due = book.due()?;
        if due.is_empty() && *which == Which::Only(BTreeSet::new()) {
            return Ok(Applied::default());
        }
        let found = self.find();
        let known = book.sources()?;
        let mut wanted: BTreeSet<PathBuf> = known.iter().map(PathBuf::from).collect();
        wanted.extend(found.sources.keys().cloned());
        if let Which::Only(paths) = which {
            let folders: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
            let is_changed =
                |path: &Path| paths.contains(path) || folder_of(path).is_some_and(|folder| folders.contains(folder));
            wanted.retain(|path| is_changed(path) || path.to_str().is_some_and(|path| due.contains(path)));
        }
        let mut applied = Applied { refusals: found.refusals.clone(), ..Applied::default() };
        applied.refusals.extend(found.passed_over.iter().cloned());
        applied.refusals.extend(found.emptied(&known));
        while !wanted.is_empty() {
            let mut snapshots = Vec::new();
            for path in &wanted {
                let snapshot = self.snapshot(path, &found, context, &mut applied.refusals);
                if found.sources.get(path).is_some_and(|source| source.input.transferred.is_some()) {
                    applied.zones.insert(path.clone(), CopyRead::of(snapshot.as_ref()));
                }
                snapshots.extend(snapshot);
            }
            let (next, again) = book.sync(snapshots)?;
            applied.extend(next);
            applied.refusals.retain(|refusal| !again.contains(&*refusal.file));
            wanted = again.into_iter().map(PathBuf::from).collect();
        }
        Ok(applied)
    }

    /// The orders that the files put, without a book, as `cordon check` and `cordon replay` need them, by id; and what
    /// was not taken. Names that guards would hold are in neither: they are told in a list of their own.
    ///
    /// # Errors
    /// A file or folder cannot be read; the error names it.
    pub fn orders(&self, context: &Context) -> io::Result<(Vec<Order>, Vec<Refusal>, Vec<Refusal>)> {
        let Found { sources, mut refusals, .. } = self.find();
        let mut held = Vec::new();
        if let Some(refusal) = refusals.first() {
            return Err(io::Error::other(refusal.to_string()));
        }
        let mut orders: BTreeMap<String, Order> = BTreeMap::new();
        for (path, Source { input, files }) in sources {
            let Signed { read, .. } = input
                .read(&path, &files, context)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", input::named(&path).display())))?;
            refusals.extend(read.refusals);
            let file: Arc<str> = path.to_string_lossy().into();
            let mut by_order: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
            for entry in read.entries {
                by_order.entry(entry.event.order_id().to_owned()).or_default().push(entry);
            }
            for (id, entries) in by_order {
                match fold(&file, entries, &mut refusals) {
                    Folded::Put { mut order, place, .. } => {
                        let refusal = |name: &str, why| Refusal::new(&file, place.line, name, why);
                        for (name, ruling) in context.guards.of(&file).screen(&mut order) {
                            match ruling {
                                Ruling::Free => {}
                                Ruling::Refused(why) => refusals.push(refusal(name.as_str(), why.to_string())),
                                Ruling::Held(_, why) => held.push(refusal(name.as_str(), why)),
                            }
                        }
                        match orders.get(&id) {
                            Some(known) if *known != order => {
                                refusals.push(refusal(&id, "another file puts the order, and differs".to_owned()));
                            }
                            _ => _ = orders.insert(id, order),
                        }
                    }
                    Folded::Revoked { .. } => {}
                    Folded::Events(entries) => refusals.extend(
                        entries
                            .iter()
                            .map(|entry| Refusal::new(&file, entry.line, &id, "the file does not put this order")),
                    ),
                }
            }
        }
        Ok((orders.into_values().collect(), refusals, held))
    }

    /// A source as it is now, or nothing if that cannot be told.
    fn snapshot(
        &self,
        path: &Path,
        found: &Found<'_>,
        context: &Context,
        refusals: &mut Vec<Refusal>,
    ) -> Option<Snapshot> {
        let source: Arc<str> = path.to_str()?.into();
        let looked = Instant::now();
        let Some(Source { input, files }) = found.sources.get(path) else {
            return self.is_gone(path, found).then_some(Snapshot { source, read: None, looked });
        };
        match input.read(path, files, context) {
            Ok(signed) => {
                input.note(&signed);
                Some(Snapshot { source, read: Some(signed.read), looked })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder_of(path).is_none() => {
                Some(Snapshot { source, read: None, looked })
            }
            Err(error) => {
                let file: Arc<str> = input::named(path).to_string_lossy().into();
                refusals.push(Refusal::new(&file, 0, "", format_args!("{error}; its orders stay as they are")));
                None
            }
        }
    }

    /// Whether a file that is not there is gone for good, and not behind a path that cannot be looked into.
    fn is_gone(&self, path: &Path, found: &Found<'_>) -> bool {
        let Found { missing, unreadable, bare, .. } = found;
        let mut inputs = self.inputs.iter().filter(|input| path.starts_with(&input.path)).peekable();
        let configured = inputs.peek().is_some();
        // What was read before was a file, so a missing path that it is below was a folder.
        let hidden = unreadable.iter().chain(bare).any(|folder| path.starts_with(folder))
            || missing.iter().any(|folder| path.starts_with(folder) && path != folder)
            || inputs.any(|input| input.is_fetched);
        // What is no longer configured may be what is to be fetched now.
        !hidden && (configured || missing.is_empty() && unreadable.is_empty() && !found.is_waiting)
    }

    fn find(&self) -> Found<'_> {
        let mut found = Found::default();
        for input in &self.inputs {
            let path = &input.path;
            let Err(error) = found.look(input) else { continue };
            if input.is_fetched && error.kind() == io::ErrorKind::NotFound {
                found.is_waiting = true;
                continue;
            }
            let file: Arc<str> = path.to_string_lossy().into();
            found.refusals.push(Refusal::new(&file, 0, "", error.to_string()));
            let in_folder = path.parent().is_some_and(Path::is_dir);
            let missing = error.kind() == io::ErrorKind::NotFound && in_folder;
            if missing { &mut found.missing } else { &mut found.unreadable }.push(path.clone());
        }
        found
    }
}

impl<'a> Found<'a> {
    fn look(&mut self, input: &'a Input) -> io::Result<()> {
        let path = &input.path;
        if !fs::metadata(path)?.is_dir() {
            if input.is_bare_copy() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the zone was not transferred yet"));
            }
            self.add(path.clone(), input, vec![path.clone()]);
            return Ok(());
        }
        if let Kind::Rpz(_) = input.kind {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder, but a zone is one file"));
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if input.takes(&path) {
                // A folder in a folder of lists is none of them.
                if !matches!(input.kind, Kind::List(_)) || path.is_file() {
                    files.push(path);
                }
            } else if !input.leaves(&path) && path.is_file() {
                let file: Arc<str> = path.to_string_lossy().into();
                self.passed_over.push(Refusal::new(&file, 0, "", "not read: its name does not end in .jsonl"));
            }
        }
        if files.is_empty() {
            self.bare.push(path.to_owned());
        }
        match input.kind {
            Kind::Native | Kind::Log => files.into_iter().for_each(|file| self.add(file.clone(), input, vec![file])),
            Kind::Rpz(_) => {}
            Kind::List(_) => {
                files.sort();
                if !files.is_empty() {
                    self.add(input::all_of(path), input, files);
                }
            }
        }
        Ok(())
    }

    /// Tells of folders that held files of orders, and now hold none.
    fn emptied(&self, known: &BTreeSet<String>) -> Vec<Refusal> {
        let held = |folder: &&PathBuf| known.iter().any(|source| Path::new(source).parent() == Some(folder));
        let refusal = |folder: &PathBuf| {
            let why = "the folder holds no file of orders any more, so the orders that its files put stay in force; \
                       it may be not mounted; to withdraw them, put an empty file there whose name ends in .jsonl";
            Refusal::new(&folder.to_string_lossy().into(), 0, "", why)
        };
        self.bare.iter().filter(held).map(refusal).collect()
    }

    fn add(&mut self, path: PathBuf, input: &'a Input, files: Vec<PathBuf>) {
        if path.to_str().is_some() {
            self.sources.insert(path, Source { input, files });
        } else {
            let file: Arc<str> = path.to_string_lossy().into();
            self.refusals.push(Refusal::new(&file, 0, "", "the file's name is not UTF-8; it is not read"));
        }
    }
}

#[cfg(test)]
mod tests;
