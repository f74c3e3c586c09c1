//! What the history has beside the events of orders: what was fetched and refused, what the kernel's tables hold, and
//! where the filter was put and taken off.
//!
//! Nobody waits for these. They are written right before the next transaction, or when there is nothing else to do; until
//! then, also while the disk is full, they are kept, up to a bound. No event fails because they cannot be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior::Immediate};
use serde_json::{Value, json};

use super::{
    Ahead, Book, BookError, FILE,
    backlog::Batch,
    chain::{self, DAEMON, Head},
    refused::Told,
    rows, schema,
    writer::{Origin, Writer},
};
use crate::{
    feed::{Refusal, fold::Place},
    guard::Guards,
};

/// An entry to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Who did it: `daemon`, `cli`, or the file that it is about.
    pub(crate) source: String,
    /// The entry's word.
    pub(crate) op: &'static str,
    /// Order id; empty where it is about no order.
    pub(crate) order: String,
    /// What.
    pub(crate) detail: Value,
}

/// How an order stands in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They hold it, and its time is still to come.
    Ready,
    /// They stop its names.
    Enforced,
}

impl Standing {
    /// Its word in the history.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Enforced => "enforce",
        }
    }
}

impl Note {
    /// Of something that the daemon did.
    pub(crate) fn of_daemon(op: &'static str, detail: Value) -> Self {
        Self { source: DAEMON.to_owned(), op, order: String::new(), detail }
    }

    /// The filter was found on an interface (`attach`) or off it, past Cordon: by another program, or since the interface
    /// is gone, or has another name.
    pub(crate) fn found(op: &'static str, interface: &str, found: &str) -> Self {
        Self::of_daemon(op, json!({"interface": interface, "found": found}))
    }

    /// The same, about an order.
    #[must_use]
    pub(crate) fn about(self, order: &str) -> Self {
        Self { order: order.to_owned(), ..self }
    }
}

impl Book {
    /// Has an entry written, as soon as that delays nothing.
    pub(crate) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// The same of what was fetched to the file `source`, unless the history has it already.
    pub(crate) fn note_fetch(&mut self, source: &str, detail: Value) {
        // Where the book cannot be read, once too often does no harm.
        let last = self.last_fetch(source).unwrap_or_default();
        if last.as_ref().is_none_or(|last| last["sha256"] != detail["sha256"]) {
            self.note(Note { source: source.to_owned(), op: "fetch", order: String::new(), detail });
        }
    }

    /// The same of what was refused before it came to the book.
    pub(crate) fn note_refusals(&mut self, source: &str, refusals: &[Refusal]) {
        self.note_refusals_by(source, refusals, &Value::Null);
    }

    /// The same, with these fields of who gave it.
    pub(crate) fn note_refusals_by(&mut self, source: &str, refusals: &[Refusal], by: &Value) {
        if let Some(mut detail) = self.told.refused(&self.guards.of(source).policy.feed, refusals) {
            if let (Some(detail), Some(by)) = (detail.as_object_mut(), by.as_object()) {
                detail.extend(by.clone());
            }
            self.note(Note { source: source.to_owned(), op: "refuse", order: String::new(), detail });
        }
    }

    /// Writes an entry where no daemon has the book, or one that does not answer. Nothing is made or brought to another
    /// version for that: without a book of this version, nothing is written.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn note_past(folder: &Path, note: Note) -> Result<(), BookError> {
        let file = folder.join(FILE);
        if !file.exists() {
            return Ok(());
        }
        let mut connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "synchronous", "full")?;
        let transaction = connection.transaction_with_behavior(Immediate)?;
        if transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? == schema::VERSION {
            let (guards, mut told) = (Guards::none(), Told::default());
            let mut writer = Writer::open(transaction, &guards, &mut told);
            writer.write(&[note])?;
            writer.commit(&mut Ahead::default())?;
        }
        Ok(())
    }

    /// Whether there are entries to be written.
    pub(crate) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Writes them now.
    ///
    /// # Errors
    /// Those that are not written stay to be.
    pub(crate) fn write_notes(&mut self) -> Result<(), BookError> {
        while self.has_notes() {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Has them stand before the events of the next transaction, as far as that costs these nothing: they are not waited
    /// for, which that transaction does for both, and where they cannot be written it has the room that there is.
    ///
    /// # Errors
    /// The events would not be waited for either.
    pub(super) fn write_notes_ahead(&mut self) -> Result<(), BookError> {
        if self.has_notes() && !self.notes.is_stuck {
            self.connection.pragma_update(None, "synchronous", "normal")?;
            let written = self.write_batch();
            self.connection.pragma_update(None, "synchronous", "full")?;
            if let Err(error) = written {
                tracing::warn!("the history lacks what was noted until it can be written: {error}");
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), BookError> {
        let batch = self.notes.batch();
        let written = self.write_these(&batch);
        match &written {
            Ok(()) => self.notes.written(&batch),
            Err(_) => self.notes.is_stuck = true,
        }
        written
    }

    fn write_these(&mut self, batch: &Batch) -> Result<(), BookError> {
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut writer = Writer::open(transaction, &self.guards, &mut self.told);
        writer.write(&batch.notes)?;
        writer.commit(&mut self.ahead)?;
        Ok(())
    }

    /// Notes what was refused beyond what is told one by one: `all` of it, or where the last such note is long ago.
    pub(crate) fn note_omitted_refusals(&mut self, all: bool) {
        for detail in self.told.omitted(all) {
            self.note(Note::of_daemon("refuse", detail));
        }
    }

    /// The last entry of the history.
    pub(crate) fn head(&self) -> Result<Option<Head>, BookError> {
        chain::head(&self.connection)
    }

    /// What the history lacks of how orders stand in the kernel's tables: order ids and words, in order. `standing` are
    /// the orders that the tables hold.
    pub(crate) fn untold(
        &self,
        standing: &BTreeMap<String, Standing>,
    ) -> Result<Vec<(String, &'static str)>, BookError> {
        let mut query = self.connection.prepare(LAST)?;
        let mut rows = query.query([])?;
        let mut untold = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, last, stood): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let stands = standing.get(&id).copied();
            let is_lifted = match stands {
                None => stood != "lift" && !stood.is_empty(),
                Some(Standing::Ready) => stood == Standing::Enforced.word(),
                Some(Standing::Enforced) => false,
            };
            untold.extend(is_lifted.then(|| (id.clone(), "lift")));
            let word = stands.map(Standing::word).filter(|word| *word != last);
            untold.extend(word.map(|word| (id, word)));
        }
        Ok(untold)
    }

    /// The interfaces that the filter is on, as the history has it of the last daemon that ran.
    pub(crate) fn attached(&self) -> Result<BTreeSet<String>, BookError> {
        let mut query = self.connection.prepare(
            "SELECT op, detail FROM events WHERE id = '' AND op IN ('start', 'attach', 'detach') ORDER BY number DESC",
        )?;
        let mut rows = query.query([])?;
        let (mut attached, mut seen) = (BTreeSet::new(), BTreeSet::new());
        while let Some(row) = rows.next()? {
            let (op, detail): (String, String) = (row.get(0)?, row.get(1)?);
            let detail: Value = serde_json::from_str(&detail).map_err(rows::damaged)?;
            // A start tells of every interface anew.
            let Some(interface) = detail["interface"].as_str().filter(|_| op != "start") else { break };
            if seen.insert(interface.to_owned()) && op == "attach" {
                attached.insert(interface.to_owned());
            }
        }
        Ok(attached)
    }

    fn last_fetch(&self, source: &str) -> Result<Option<Value>, BookError> {
        let noted = self.notes.newest().find(|note| note.op == "fetch" && note.source == source);
        if let Some(note) = noted {
            return Ok(Some(note.detail.clone()));
        }
        let mut query = self.connection.prepare_cached(
            "SELECT detail FROM events WHERE op = 'fetch' AND source = ?1 ORDER BY number DESC LIMIT 1",
        )?;
        let detail: Option<String> = query.query_row([source], |row| row.get(0)).optional()?;
        Ok(detail.and_then(|detail| serde_json::from_str(&detail).ok()))
    }
}

impl Writer<'_> {
    /// Writes what was noted before.
    pub(super) fn write(&mut self, notes: &[Note]) -> Result<(), BookError> {
        for Note { source, op, order, detail } in notes {
            let origin = Origin { source: source.as_str().into(), place: Place::default() };
            self.record(&origin, op, order, detail.clone())?;
        }
        Ok(())
    }

    /// Appends what a source's feed refused.
    pub(super) fn record_refusals<'r>(
        &mut self,
        source: &str,
        refusals: impl IntoIterator<Item = &'r Refusal>,
    ) -> Result<(), BookError> {
        match self.told.refused(&self.guards.of(source).policy.feed, refusals) {
            Some(detail) => {
                self.record(&Origin { source: source.into(), place: Place::default() }, "refuse", "", detail)
            }
            None => Ok(()),
        }
    }

    /// Appends what the book itself has refused in this transaction.
    pub(super) fn record_own_refusals(&mut self) -> Result<(), BookError> {
        let mut by_source: BTreeMap<Arc<str>, Vec<Refusal>> = BTreeMap::new();
        for refusal in self.refusals() {
            by_source.entry(refusal.file.clone()).or_default().push(refusal.clone());
        }
        by_source.iter().try_for_each(|(source, refusals)| self.record_refusals(source, refusals))
    }
}

/// Each order, the word of the last entry that concerns what the tables hold of it, and of the last that tells it.
const LAST: &str = "
SELECT id, coalesce((
    SELECT op FROM events
    WHERE events.id = orders.id AND op NOT IN ('hold', 'unhold', 'reject')
    ORDER BY number DESC LIMIT 1
), ''), coalesce((
    SELECT op FROM events
    WHERE events.id = orders.id AND op IN ('ready', 'enforce', 'lift')
    ORDER BY number DESC LIMIT 1
), '') FROM orders ORDER BY id";

/// How long a daemon that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
