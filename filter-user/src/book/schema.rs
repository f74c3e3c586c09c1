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
pub(super) const STEPS: [&str; 6] = [TABLES, HELD, FIGURES, CHAIN, NAME_LISTS, NAME_CHANGES];

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
    // In KiB. A change of a thousand names looks at each of their rows several times.
    connection.pragma_update(None, "cache_size", -8 << 10)?;
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
/// about an order that it does not put (1), or an order or events of it that the book refused (2), or of an order that
/// it puts and of which not all has come to be (3). Only what a source says anew is applied, so that a reading does not undo what others did since. Events that a put has undone count as
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

/// `name_lists` holds the names of orders, many to a row; see the module `names`.
const NAME_LISTS: &str = "
CREATE TABLE name_lists (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES orders (number),
    kind INTEGER NOT NULL,
    first TEXT NOT NULL,
    count INTEGER NOT NULL,
    names TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX name_lists_first ON name_lists (number, kind, first);
INSERT INTO name_lists (number, kind, first, count, names)
    SELECT number, kind, min(name), count(*), group_concat(name || char(10), '' ORDER BY name)
    FROM (
        SELECT number, kind, name, (row_number() OVER (PARTITION BY number, kind ORDER BY name) - 1) / 64 AS part
        FROM names
    )
    GROUP BY number, kind, part;
DROP TABLE names;
";

/// `name_changes` holds what the rows of names do not have yet; see the module `names::waiting`. The names are counted
/// from the index alone.
const NAME_CHANGES: &str = "
CREATE TABLE name_changes (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES orders (number),
    kind INTEGER NOT NULL,
    changes INTEGER NOT NULL,
    more INTEGER NOT NULL,
    names TEXT NOT NULL
) STRICT;
CREATE INDEX name_changes_number ON name_changes (number, kind, changes, more);
DROP INDEX name_lists_first;
CREATE INDEX name_lists_first ON name_lists (number, kind, first, count);
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::{
        names::Names,
        rows::{Kind, count_names},
    };

    #[test]
    fn names_of_an_older_book_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("book.sqlite");
        let mut names: Vec<String> = (0..1000_u32)
            .map(|n| format!("n{:x}.{}.example", n.wrapping_mul(2_654_435_761), "x".repeat(n as usize % 40 + 1)))
            .collect();
        {
            let old = Connection::open(&file).unwrap();
            STEPS.iter().take(3).for_each(|step| old.execute_batch(step).unwrap());
            old.pragma_update(None, "user_version", 3).unwrap();
            old.execute("INSERT INTO orders VALUES (7, 'a', 's', '', 0, NULL)", []).unwrap();
            let mut insert = old.prepare("INSERT INTO names VALUES (7, ?1, ?2)").unwrap();
            names.iter().for_each(|name| _ = insert.execute((0, name)).unwrap());
            insert.execute((1, "except.example")).unwrap();
        }
        names.sort();
        let book = open(&file).unwrap();
        let read = |kind| {
            let mut read = Vec::new();
            let each = |name: &str| {
                read.push(name.to_owned());
                Ok(())
            };
            Names::new(&book, 7, kind).read(each).unwrap();
            read
        };
        assert_eq!(read(Kind::Listed), names);
        assert_eq!(read(Kind::Except), ["except.example"]);
        assert_eq!(count_names(&book, 7).unwrap(), 1000);
    }
}
