//! The order book: the durable store of all orders and of what became of them. It is the truth; kernel tables are
//! derived from it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    feed::{Entry, Refusal},
    name::Name,
    order::{Order, Terms},
};

/// The book, open.
#[derive(Debug)]
pub struct Book {}

/// What went wrong with the book itself.
#[derive(Debug, Error)]
pub enum BookError {
    /// SQLite's error: a full disk, a damaged file.
    #[error("order book: {0}")]
    Sqlite(String),
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the entry, from 1, without gaps.
    pub number: i64,
    /// When it was written.
    pub time: Timestamp,
    /// Who gave the event.
    pub source: String,
    /// Line in the source; 0 where the source as a whole means it.
    pub line: u64,
    /// `put`, `add`, `remove`, `extend`, `revoke`.
    pub op: String,
    /// Order id.
    pub order: String,
    /// JSON: what changed.
    pub detail: String,
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
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub fn apply_to(self, _orders: &mut BTreeMap<String, Order>) {
        todo!()
    }
}

impl Book {
    /// Opens the book in a folder, and makes it where there is none.
    ///
    /// # Errors
    /// The file cannot be opened or is not a book, or is a newer Cordon's.
    pub fn open(_folder: &Path) -> Result<Self, BookError> {
        todo!()
    }

    /// Time of the newest entry, where the clock is behind it: then the clock is wrong, and no order may start or end.
    pub fn clock_behind(&self) -> Option<Timestamp> {
        todo!()
    }

    /// Applies events in order, in one transaction: when this returns they are on the disk, all of them.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn apply(&mut self, _source: &str, _entries: &[Entry]) -> Result<Applied, BookError> {
        todo!()
    }

    /// The orders that are not revoked.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load(&self) -> Result<Vec<Stored>, BookError> {
        todo!()
    }

    /// One order, also if it is revoked.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn order(&self, _id: &str) -> Result<Option<Stored>, BookError> {
        todo!()
    }

    /// What became of one order, oldest first.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn history(&self, _id: &str) -> Result<Vec<Record>, BookError> {
        todo!()
    }

    /// What the sources' last reading refused.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn refusals(&self) -> Result<Vec<Refusal>, BookError> {
        todo!()
    }
}
