//! The order book: the durable store of all orders and of what became of them. It is the truth; kernel tables are
//! derived from it.
//!
//! One SQLite file. A change is one transaction, on the disk before it is told, and brings its own history, whose
//! entries are chained by their hashes.
//!
//! What happens in which case:
//! - A put of an order that is there already changes it to what the put says; if that is the same, nothing happens.
//! - A put of an order that another source put, and still puts, is refused if it differs: one source owns an order.
//!   Every source may add, remove, extend and revoke.
//! - A revoke of an order that is unknown does nothing, and is told; a put that comes later puts the order, also if
//!   the order was revoked. Add, remove and extend of an order that is unknown or revoked are refused.
//! - A source that is read again changes only what it says anew. So an order that the operator revoked stays revoked
//!   until a file says something else of it; the same in another file, or in one that was away, is nothing else.
//! - Where a file's put changes an order, what other files add, remove and extend applies again.
//! - What a guard holds of a change is not done: it is kept until it is approved, rejected or said no longer, and the
//!   rest is done at once. Ends are never held, but that a list lacks much of what it had.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior::Immediate};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use self::{
    backlog::Backlog,
    refused::Told,
    rows::{Kind, OrderRow},
    writer::{Origin, Writer},
};

use crate::{
    feed::{Entry, Refusal, file::CopyRead},
    guard::Guards,
    name::Name,
    order::{Order, Terms},
};

mod absence;
pub(crate) mod audit;
mod backlog;
pub(crate) mod chain;
mod claims;
mod guarded;
mod held;
mod hits;
mod holding;
mod names;
mod notes;
mod refused;
mod release;
mod rows;
mod schema;
pub(crate) mod sync;
mod writer;
mod zone;

pub(crate) use absence::{Absences, PATIENCE};
pub use chain::Head;
pub(crate) use chain::listed;
pub use held::{Held, Item, ItemKind};
pub(crate) use notes::{Note, Standing};
pub use zone::PartChange;

/// The book, open.
#[derive(Debug)]
pub struct Book {
    connection: Connection,
    clock_behind: Option<Timestamp>,
    ahead: Ahead,
    absences: Absences,
    guards: Guards,
    notes: Backlog,
    told: Told,
}

/// Who is told of orders that end before the disk has it.
#[derive(Default)]
struct Ahead(Option<Box<dyn FnMut(Vec<String>) + Send>>);

impl fmt::Debug for Ahead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Ahead").field(&self.0.is_some()).finish()
    }
}

/// What went wrong with the book itself.
#[derive(Debug, Error)]
pub enum BookError {
    /// SQLite's error: a full disk, a damaged file.
    #[error("order book: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its folder cannot be made.
    #[error("order book: {0}")]
    Folder(#[from] std::io::Error),
    /// It holds what Cordon never writes.
    #[error("order book: damaged: {0}")]
    Damaged(String),
    /// Another program holds it locked.
    #[error("order book: another daemon has this order book open")]
    InUse,
    /// Written by a newer Cordon.
    #[error(
        "order book: its schema is version {found}, this Cordon knows {known}; use the Cordon that wrote it, or a newer one"
    )]
    Newer {
        /// Version in the file.
        found: i64,
        /// Version of this program.
        known: i64,
    },
}

/// An order as the book has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The order, as changed by every event so far.
    pub order: Order,
    /// Who put it: a file's path, or `cli`.
    pub source: String,
    /// When it was put last.
    pub received: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Number of the entry, from 1, without gaps.
    pub number: i64,
    /// When it was written.
    pub time: Timestamp,
    /// Who gave the event.
    pub source: String,
    /// Line in the source; 0 where the source as a whole means it.
    pub line: u64,
    /// Word of the event; docs/audit.md lists them.
    pub op: String,
    /// Order id.
    pub order: String,
    /// What changed.
    pub detail: Value,
}

/// What came of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What changed, in order; for the compiler.
    pub changes: Vec<Change>,
    /// What became of each event that was taken.
    pub outcomes: Vec<Outcome>,
    /// What was not taken.
    pub refusals: Vec<Refusal>,
    /// What guards hold since now.
    pub held: Vec<Held>,
    /// Number of the last entry that this made in the history; 0 if it made none.
    pub entry: i64,
    /// Copies of zones that were to be read.
    pub zones: BTreeMap<PathBuf, CopyRead>,
}

impl Applied {
    /// Adds what was applied after this.
    pub(crate) fn extend(&mut self, more: Self) {
        let Self { changes, outcomes, refusals, held, entry, zones } = more;
        self.changes.extend(changes);
        self.outcomes.extend(outcomes);
        self.refusals.extend(refusals);
        self.held.extend(held);
        self.entry = self.entry.max(entry);
        self.zones.extend(zones);
    }
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Who gave it.
    pub source: Arc<str>,
    /// Line in the source; 0 where the source as a whole means it.
    pub line: u64,
    /// Order id.
    pub order: String,
    /// What.
    pub what: What,
}

/// See [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The order is new, or back after it was revoked.
    New,
    /// The order is another now.
    Changed,
    /// All is as it was.
    Unchanged,
    /// The order ended.
    Revoked,
    /// A revoke of an order that the book does not have. Nothing happens; a put that comes later puts the order.
    RevokedUnknown,
}

/// A change of one order, to be made to the compiled state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new order, or one back after it was revoked.
    Put(Order),
    /// Another version of an order that is in force or waits for its time.
    Edit {
        /// Order id.
        id: String,
        /// New terms, where they changed.
        terms: Option<Arc<Terms>>,
        /// Names that come and go.
        names: Delta,
        /// Exceptions that come and go.
        except: Delta,
    },
    /// The order is no longer to be enforced.
    Revoke {
        /// Order id.
        id: String,
    },
}

/// Names that come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// These come.
    pub added: Vec<Name>,
    /// These go.
    pub removed: Vec<Name>,
}

impl Change {
    /// Makes the change to a copy of the book's orders, by id.
    pub fn apply_to(self, orders: &mut BTreeMap<String, Order>) {
        match self {
            Self::Put(order) => _ = orders.insert(order.terms.id.clone(), order),
            Self::Revoke { id } => _ = orders.remove(&id),
            Self::Edit { id, terms, names, except } => {
                let Some(order) = orders.get_mut(&id) else { return };
                if let Some(terms) = terms {
                    order.terms = terms;
                }
                names.apply_to(&mut order.names);
                except.apply_to(&mut order.except);
            }
        }
    }
}

impl Delta {
    /// Whether nothing comes and nothing goes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn apply_to(self, names: &mut BTreeSet<Name>) {
        names.extend(self.added);
        for name in &self.removed {
            names.remove(name);
        }
    }
}

impl Book {
    /// Opens the book in a folder, and makes it where there is none.
    ///
    /// # Errors
    /// The file cannot be opened or is not a book, or is a newer Cordon's.
    pub fn open(folder: &Path) -> Result<Self, BookError> {
        fs::create_dir_all(folder)?;
        let connection = schema::open(&folder.join(FILE))?;
        let clock_behind = rows::newest(&connection)?.filter(|newest| *newest > Timestamp::now());
        let (ahead, absences) = (Ahead::default(), Absences::new(PATIENCE));
        Ok(Self {
            connection,
            clock_behind,
            ahead,
            absences,
            guards: Guards::none(),
            notes: Backlog::default(),
            told: Told::default(),
        })
    }

    /// Has these guards from now on; without this there are none.
    pub fn set_guards(&mut self, guards: Guards) {
        self.guards = guards;
    }

    /// Another time after which an absence is confirmed.
    #[cfg(test)]
    pub(crate) fn set_patience(&mut self, patience: std::time::Duration) {
        self.absences = Absences::new(patience);
    }

    /// Whether anything can be written, as with a disk that is full.
    #[cfg(test)]
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.connection.pragma_update(None, "query_only", is_full).unwrap();
    }

    /// Time of the newest entry of the history, where the clock was behind it when the book was opened: then the
    /// clock is wrong, and no order may start or end.
    pub fn clock_behind(&self) -> Option<Timestamp> {
        self.clock_behind
    }

    /// Has `tell` called with the orders that a transaction revokes, right before it is written to the disk: an order's
    /// end waits for no disk. If the transaction fails then, the book still has them.
    pub fn tell_ends_ahead(&mut self, tell: impl FnMut(Vec<String>) + Send + 'static) {
        self.ahead = Ahead(Some(Box::new(tell)));
    }

    /// Applies events in order, in one transaction: when this returns they are on the disk, all of them.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn apply(&mut self, source: &str, entries: Vec<Entry>) -> Result<Applied, BookError> {
        self.apply_by(source, entries, &Value::Null)
    }

    /// As [`Book::apply`]; the history has these fields of who gave the events.
    ///
    /// # Errors
    /// As [`Book::apply`].
    pub fn apply_by(&mut self, source: &str, entries: Vec<Entry>, by: &Value) -> Result<Applied, BookError> {
        let source: Arc<str> = source.into();
        self.write_notes_ahead()?;
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut writer = Writer::open(transaction, &self.guards, &mut self.told).by(by);
        writer.note_growth_by(&source, &entries)?;
        let mut entries = entries.into_iter().peekable();
        while let Some(entry) = entries.next() {
            let (id, place, op) = (entry.event.order_id().to_owned(), entry.place(), entry.event.op());
            writer.event(&Origin { source: source.clone(), place }, entry.event)?;
            // What is held of names that come one by one is one change.
            let goes_on = |next: &Entry| op == "add" && next.event.op() == "add" && next.event.order_id() == id;
            if !entries.peek().is_some_and(goes_on) {
                writer.write_holds(&source, &id, place, op == "put")?;
            }
        }
        // What a file is refused is kept and told when it is read whole.
        if !source.starts_with('/') {
            writer.record_own_refusals()?;
        }
        writer.commit(&mut self.ahead)
    }

    /// The orders that are not revoked, by id.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load(&self) -> Result<Vec<Stored>, BookError> {
        let columns = rows::ORDER_COLUMNS;
        let mut query = self
            .connection
            .prepare_cached(&format!("SELECT {columns} FROM orders WHERE revoked IS NULL ORDER BY id"))?;
        let mut rows = query.query([])?;
        let mut orders = Vec::new();
        while let Some(row) = rows.next()? {
            orders.push(self.stored(OrderRow::read(row)?)?);
        }
        Ok(orders)
    }

    /// One order, also if it is revoked.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn order(&self, id: &str) -> Result<Option<Stored>, BookError> {
        OrderRow::find(&self.connection, id)?.map(|row| self.stored(row)).transpose()
    }

    /// Whether an order is revoked.
    pub(crate) fn revoked(&self, id: &str) -> Result<bool, BookError> {
        Ok(OrderRow::find(&self.connection, id)?.is_some_and(|row| row.revoked.is_some()))
    }

    /// Whether an order was put since this entry of the history.
    pub(crate) fn is_put_since(&self, id: &str, entry: i64) -> Result<bool, BookError> {
        rows::is_put_since(&self.connection, id, entry)
    }

    /// The ids of the parts of an order that is made of some, revoked ones too.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn parts(&self, id: &str) -> Result<Vec<String>, BookError> {
        rows::parts(&self.connection, id)
    }

    /// The terms of one order, if it is there.
    pub(crate) fn terms(&self, id: &str) -> Result<Option<Arc<Terms>>, BookError> {
        Ok(OrderRow::find(&self.connection, id)?.map(|row| row.terms))
    }

    /// What became of one order, oldest first.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn history(&self, id: &str) -> Result<Vec<Record>, BookError> {
        rows::history(&self.connection, id)
    }

    /// What the last reading of each file refused.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn refusals(&self) -> Result<Vec<Refusal>, BookError> {
        rows::refusals(&self.connection)
    }

    fn stored(&self, row: OrderRow) -> Result<Stored, BookError> {
        let names = |kind| -> Result<BTreeSet<Name>, BookError> {
            let mut names = Vec::new();
            rows::read_names(&self.connection, row.number, kind, |name| {
                names.push(rows::name(name)?);
                Ok(())
            })?;
            Ok(names.into_iter().collect())
        };
        let order = Order { terms: row.terms.clone(), names: names(Kind::Listed)?, except: names(Kind::Except)? };
        Ok(Stored { order, source: row.source, received: row.received, revoked: row.revoked })
    }
}

/// Name of the book's file in its folder.
const FILE: &str = "book.sqlite";

#[cfg(test)]
mod tests;
