//! The tables of the book.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use rusqlite::{
    Connection,
    ErrorCode::{CannotOpen, DatabaseBusy, DiskFull, SystemIoFailure},
};

use super::{BookError, chain};

/// Version of the tables, in SQLite's `user_version`.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// What makes each version of the one before.
pub(super) const STEPS: [&str; 4] = [TABLES, HELD, FIGURES, CHAIN];

/// The version that has the history chained.
const CHAINED: i64 = 4;

/// How long another program is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Opens the file and brings its tables to [`VERSION`].
pub(super) fn open(file: &Path) -> Result<Connection, BookError> {
    let opened = match open_as(file, "normal") {
        // A full disk has no room for the index of the log that others could share. It needs none if nobody can.
        Err(BookError::Sqlite(error))
            if matches!(error.sqlite_error_code(), Some(SystemIoFailure | DiskFull | CannotOpen)) =>
        {
            open_as(file, "exclusive")
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        BookError::Sqlite(error) if error.sqlite_error_code() == Some(DatabaseBusy) => BookError::InUse,
        error => error,
    })
}

fn open_as(file: &Path, locking: &str) -> Result<Connection, BookError> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(BUSY)?;
    // Before the journal's mode, or the index is made nevertheless.
    connection.pragma_update_and_check(None, "locking_mode", locking, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The log of a large import does not stay as large as it was.
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    let transaction = connection.transaction()?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        VERSION => {}
        0..VERSION => {
            for step in STEPS.iter().skip(found as usize) {
                transaction.execute_batch(step)?;
            }
            if found < CHAINED {
                chain::begin(&transaction, Timestamp::now())?;
                transaction.execute_batch(UNCHAINED)?;
            }
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        _ => return Err(BookError::Newer { found, known: VERSION }),
    }
    transaction.commit()?;
    Ok(connection)
}

/// Times are microseconds since 1970. A number stands for an order in `names`, because ids are long.
///
/// `claims` is what each source said last about an order: a hash of the order that it puts (`kind` 0), of its events
/// about an order that it does not put (1), or an order or events of it that the book refused (2). Only what a source
/// says anew is applied, so that a reading does not undo what others did since. Events that a put has undone count as
/// refused. The source `revoked` has what a file said last, now gone, of an order that the operator revoked.
const TABLES: &str = "
CREATE TABLE orders (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    terms TEXT NOT NULL,
    received INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
CREATE TABLE names (
    number INTEGER NOT NULL REFERENCES orders (number),
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (number, kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE claims (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_id ON claims (id);
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    source TEXT NOT NULL,
    line INTEGER NOT NULL,
    op TEXT NOT NULL,
    id TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_id ON events (id, number);
CREATE INDEX events_time ON events (time);
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TRIGGER events_keep BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TABLE refusals (
    number INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    line INTEGER NOT NULL,
    text TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX refusals_source ON refusals (source, number);
";

/// `held` is what guards hold: `id` is the order, or empty where orders of the source as a whole are meant; `hash` is
/// of everything that an approval would bring about. A rejected change has the time and the user. `held_names` is what
/// comes and goes: names that come (`kind` 0) or go (1), exceptions that go (2), orders that go (3).
const HELD: &str = "
CREATE TABLE held (
    number INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    guard TEXT NOT NULL,
    hash TEXT NOT NULL,
    line INTEGER NOT NULL,
    why TEXT NOT NULL,
    terms TEXT,
    since INTEGER NOT NULL,
    until INTEGER,
    deadline INTEGER,
    rejected INTEGER,
    rejected_by TEXT
) STRICT;
CREATE INDEX held_source ON held (source, id);
CREATE INDEX held_id ON held (id);
CREATE TABLE held_names (
    held INTEGER NOT NULL REFERENCES held (number) ON DELETE CASCADE,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (held, kind, name)
) STRICT, WITHOUT ROWID;
";

/// How many names a held growth or shrink would have brought or taken, and how many there were before it: a limit is
/// asked about these again, not about what the order has become since.
const FIGURES: &str = "
ALTER TABLE held ADD COLUMN changed INTEGER;
ALTER TABLE held ADD COLUMN before INTEGER;
";

/// The history, chained: `hash` is the SHA-256 of the entry as it is exported, `previous` that of the entry before.
/// What is fetched is found by its source.
///
/// `hits` is what orders met on each day since 1970 (UTC), without any client; `counted` is how much of what the
/// kernel's counters say is in it, and `counting` since when they are looked at, and when that was last.
const CHAIN: &str = "
DROP TRIGGER events_stay;
DROP TRIGGER events_keep;
DROP INDEX events_id;
DROP INDEX events_time;
ALTER TABLE events RENAME TO events_unchained;
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    source TEXT NOT NULL,
    line INTEGER NOT NULL,
    op TEXT NOT NULL,
    id TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX events_id ON events (id, number);
CREATE INDEX events_fetched ON events (source, number) WHERE op = 'fetch';
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TRIGGER events_keep BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TABLE hits (
    id TEXT NOT NULL,
    day INTEGER NOT NULL,
    decided INTEGER NOT NULL,
    concerned INTEGER NOT NULL,
    PRIMARY KEY (id, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE counted (
    id TEXT NOT NULL PRIMARY KEY,
    decided INTEGER NOT NULL,
    concerned INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE counting (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    since INTEGER NOT NULL,
    looked INTEGER NOT NULL
) STRICT;
";

/// When the entries of [`CHAIN`]'s `events_unchained` are in the chain.
const UNCHAINED: &str = "DROP TABLE events_unchained;";
