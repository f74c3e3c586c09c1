//! The zone as it was transferred last, in a file of its own.
//!
//! One SQLite file for each feed, `<state_dir>/feeds/<feed>.zone`: the records, and how far they are. A transfer is one
//! transaction, on the disk when it is told. So a start goes on from the last serial, and what reads the zone sees one
//! version of it or the next.
//!
//! It is a copy: if it is lost or damaged, the primary has it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::{
    Apex,
    pending::{self, Pending},
    records::{Record, Records, Soa},
    reply::Step,
    touched,
};

/// The zone of one feed, open.
pub struct Kept {
    connection: Connection,
    apex: Apex,
}

/// How far the copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its SOA record.
    pub soa: Soa,
    /// When it changed last.
    pub changed: Timestamp,
    /// When a primary last said that it is the newest.
    pub checked: Timestamp,
    /// It was too old, and the feed is to drop it then.
    pub is_dropped: bool,
}

/// What differences changed: all records of the parts of the zone that they touch, before and after. A part is a name
/// with all below it, and nothing above it has a wildcard that reaches there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Before.
    pub before: Records,
    /// After.
    pub after: Records,
}

/// Why a copy cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// SQLite's error: a full disk, a damaged file.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its folder cannot be made.
    #[error("{0}")]
    Folder(#[from] std::io::Error),
    /// A difference does not fit what is here.
    #[error("its differences do not fit what is here: {0}")]
    Unfit(&'static str),
    /// It was written by a newer Cordon.
    #[error("the copy is of version {0}, which this Cordon does not know")]
    Newer(i64),
}

impl KeptError {
    pub(super) const ABSENT: Self = Self::Unfit("a record is to go that is not here");
    pub(super) const PRESENT: Self = Self::Unfit("a record is to come that is here already");
}

impl Kept {
    /// Opens the copy, and makes it where there is none. What is there of another zone is forgotten.
    ///
    /// # Errors
    /// It cannot be made, or is damaged.
    pub fn open(path: &Path, apex: &Apex) -> Result<Self, KeptError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
        // What is in the log comes into the file after it is told, by [`Kept::tidy`].
        connection.pragma_update_and_check(None, "wal_autocheckpoint", LONG_LOG, |_| Ok(()))?;
        let transaction = connection.transaction()?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
            VERSION => {}
            found @ 0..VERSION => {
                for step in STEPS.iter().skip(found as usize) {
                    transaction.execute_batch(step)?;
                }
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            found => return Err(KeptError::Newer(found)),
        }
        transaction.execute("DELETE FROM zone WHERE apex <> ?1", [apex.to_string()])?;
        transaction.commit()?;
        Ok(Self { connection, apex: apex.clone() })
    }

    /// Opens a copy to read it; none if nothing was transferred yet, or that of another zone.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(path: &Path, apex: &Apex) -> Result<Option<Self>, KeptError> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY)?;
        if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? != VERSION {
            return Ok(None);
        }
        let kept = Self { connection, apex: apex.clone() };
        Ok(kept.version()?.map(|_| kept))
    }

    /// How far the copy is; none before the first transfer.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn version(&self) -> Result<Option<Version>, KeptError> {
        version(&self.connection, &self.apex)
    }

    /// Notes that a primary has nothing newer.
    pub(super) fn checked(&self, now: Timestamp) -> Result<(), KeptError> {
        // If that gets lost, the zone only seems older than it is.
        self.connection.execute("UPDATE zone SET checked = ?1", [now.as_microsecond()])?;
        Ok(())
    }

    /// Notes that the copy is too old to hold any more.
    pub(super) fn drop_expired(&self) -> Result<(), KeptError> {
        self.connection.execute("UPDATE zone SET dropped = 1", [])?;
        Ok(())
    }

    /// Puts a whole zone in the place of the copy.
    pub(super) fn replace(&mut self, soa: Soa, records: &Records, now: Timestamp) -> Result<(), KeptError> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(EMPTY)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for Record { owner, rtype, data } in records.iter() {
                insert.execute(params![owner, rtype, data])?;
            }
        }
        set_version(&transaction, &self.apex, soa, now)?;
        Ok(transaction.commit()?)
    }

    /// Makes the changes of a transfer. Nothing is told of them where they touch so much that the whole zone is to be
    /// looked at.
    pub(super) fn apply(&mut self, soa: Soa, steps: &[Step], now: Timestamp) -> Result<Option<Changes>, KeptError> {
        let transaction = self.connection.transaction()?;
        pending::fold(&transaction)?;
        let records = || steps.iter().flat_map(|step| step.removed.iter().chain(step.added.iter()));
        let touched: BTreeSet<&[u8]> = records().map(|record| record.owner).collect();
        let tops = touched::tops(&transaction, &touched)?;
        let before = if records().count() > touched::MOST { None } else { touched::records(&transaction, &tops)? };
        let changes = match before {
            Some(before) => {
                let after = pending::after(&before, steps)?;
                pending::append(&transaction, steps)?;
                Some(Changes { before, after })
            }
            None => {
                write(&transaction, steps)?;
                None
            }
        };
        set_version(&transaction, &self.apex, soa, now)?;
        transaction.commit()?;
        Ok(changes)
    }

    /// Brings differences to the other records, and what is in the log into the file. All is on the disk in any case.
    pub(super) fn tidy(&mut self) -> Result<(), KeptError> {
        let transaction = self.connection.transaction()?;
        pending::fold(&transaction)?;
        transaction.commit()?;
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// Calls `each` for every record, as [`Kept::records`], and tells which version they are of; none if there is none.
    ///
    /// # Errors
    /// The copy cannot be read.
    pub fn whole(&self, each: impl FnMut(Record<'_>)) -> Result<Option<Version>, KeptError> {
        // One transaction, so that no transfer comes between the version and its records.
        let transaction = self.connection.unchecked_transaction()?;
        let version = self.version()?;
        if version.is_some_and(|version| !version.is_dropped) {
            self.records(each)?;
        }
        transaction.commit()?;
        Ok(version)
    }

    /// Calls `each` for every record, sorted by owner.
    ///
    /// # Errors
    /// The copy cannot be read, or those of `each`.
    pub fn records(&self, mut each: impl FnMut(Record<'_>)) -> Result<(), KeptError> {
        let mut pending = Pending::read(&self.connection)?;
        let mut query =
            self.connection.prepare_cached("SELECT owner, type, data FROM records ORDER BY owner, type, data")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let record = record(row)?;
            if pending.up_to(record, &mut each) {
                each(record);
            }
        }
        pending.rest(each);
        Ok(())
    }
}

/// Makes changes to the records themselves.
fn write(transaction: &Transaction<'_>, steps: &[Step]) -> Result<(), KeptError> {
    let mut delete = transaction.prepare_cached(DELETE)?;
    let mut insert = transaction.prepare_cached(INSERT)?;
    for step in steps {
        for Record { owner, rtype, data } in step.removed.iter() {
            if delete.execute(params![owner, rtype, data])? == 0 {
                return Err(KeptError::ABSENT);
            }
        }
        for Record { owner, rtype, data } in step.added.iter() {
            if insert.execute(params![owner, rtype, data])? == 0 {
                return Err(KeptError::PRESENT);
            }
        }
    }
    Ok(())
}

/// A row of owner, type and data.
pub(super) fn record<'r>(row: &'r Row<'_>) -> Result<Record<'r>, KeptError> {
    let blob = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_blob()?);
    Ok(Record { owner: blob(0)?, rtype: row.get(1)?, data: blob(2)? })
}

fn version(connection: &Connection, apex: &Apex) -> Result<Option<Version>, KeptError> {
    let columns = "serial, refresh, retry, expire, changed, checked, dropped";
    let mut query = connection.prepare_cached(&format!("SELECT {columns} FROM zone WHERE apex = ?1"))?;
    let version = query.query_row([apex.to_string()], |row| {
        let time = |column| row.get(column).map(|time| Timestamp::from_microsecond(time).unwrap_or_default());
        Ok(Version {
            soa: Soa { serial: row.get(0)?, refresh: row.get(1)?, retry: row.get(2)?, expire: row.get(3)? },
            changed: time(4)?,
            checked: time(5)?,
            is_dropped: row.get(6)?,
        })
    });
    Ok(version.optional()?)
}

fn set_version(transaction: &Transaction<'_>, apex: &Apex, soa: Soa, now: Timestamp) -> Result<(), KeptError> {
    let Soa { serial, refresh, retry, expire } = soa;
    let mut write = transaction.prepare_cached(
        "INSERT OR REPLACE INTO zone (one, apex, serial, refresh, retry, expire, changed, checked, dropped) \
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?6, 0)",
    )?;
    write.execute(params![apex.to_string(), serial, refresh, retry, expire, now.as_microsecond()])?;
    Ok(())
}

/// A record comes. RFC 5936 2.2: one that comes twice counts once.
pub(super) const INSERT: &str = "INSERT OR IGNORE INTO records (owner, type, data) VALUES (?1, ?2, ?3)";

/// A record goes.
pub(super) const DELETE: &str = "DELETE FROM records WHERE owner = ?1 AND type = ?2 AND data = ?3";

/// `zone` has one row: how far the copy is. `dropped`: it was too old, and its rules are to go.
const TABLES: &str = "
CREATE TABLE zone (
    one INTEGER PRIMARY KEY,
    apex TEXT NOT NULL,
    serial INTEGER NOT NULL,
    refresh INTEGER NOT NULL,
    retry INTEGER NOT NULL,
    expire INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    checked INTEGER NOT NULL,
    dropped INTEGER NOT NULL
) STRICT;
CREATE TABLE records (
    owner BLOB NOT NULL,
    type INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (owner, type, data)
) STRICT, WITHOUT ROWID;
";

/// `pending` is what the records do not have yet; see the module `pending`.
const PENDING: &str = "
CREATE TABLE pending (
    id INTEGER PRIMARY KEY,
    comes INTEGER NOT NULL,
    owner BLOB NOT NULL,
    type INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
";

/// Deletes no row by row: that would take as long as the transfer.
const EMPTY: &str = "DELETE FROM pending; DROP TABLE records; CREATE TABLE records (
    owner BLOB NOT NULL,
    type INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (owner, type, data)
) STRICT, WITHOUT ROWID;";

/// What makes each version of the one before.
const STEPS: [&str; 2] = [TABLES, PENDING];

const VERSION: i64 = STEPS.len() as i64;

/// Pages in the log after which a transaction brings them into the file itself.
const LONG_LOG: i64 = 8192;

/// How long another one's transaction is waited for.
const BUSY: Duration = Duration::from_secs(30);
