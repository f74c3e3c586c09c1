//! The history, read without touching the book: whether a daemon has it open or not.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::{
    BookError, FILE,
    chain::{self, Hash, Head, Link},
    hits,
    rows::{self, Kind},
    schema,
};

/// A book that is only read, as it was when it was opened.
#[derive(Debug)]
pub struct Audit {
    connection: Connection,
}

/// Why a history cannot be read.
#[derive(Debug, Error)]
pub enum AuditError {
    /// There is no book.
    #[error("{}: there is no order book", .0.display())]
    Missing(PathBuf),
    /// The daemon started on a full disk.
    #[error(
        "{}: the daemon has the order book for itself alone, because it found no room on the disk when it started; free some, and start it again",
        .0.display()
    )]
    Alone(PathBuf),
    /// Written by another Cordon.
    #[error("{}: the order book's schema is version {found}, this Cordon reads {known}", .file.display(), known = schema::VERSION)]
    Version {
        /// The book.
        file: PathBuf,
        /// Version in the file.
        found: i64,
    },
    /// The book cannot be read.
    #[error(transparent)]
    Book(#[from] BookError),
    /// What was read cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// What a check of a history found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many entries there are.
    pub entries: u64,
    /// Time of the first.
    pub first: Option<Timestamp>,
    /// Time of the last.
    pub last: Option<Timestamp>,
    /// Number of the entry from which on the history was chained as it was written; 1 where it always was.
    pub chained_from: i64,
    /// The last entry.
    pub head: Option<Head>,
    /// What is wrong, in the order of the entries. Of very many the first, and how many there are.
    pub problems: Vec<String>,
}

/// An entry of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) number: i64,
    pub(crate) time: Timestamp,
    pub(crate) source: &'a str,
    pub(crate) op: &'a str,
    /// Order id; empty where it is about no order.
    pub(crate) order: &'a str,
    detail: &'a str,
}

/// What an order met on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DayHits {
    pub(crate) order: String,
    /// Days since 1970, UTC.
    pub(crate) day: i64,
    /// Packets for which it decided.
    pub(crate) decided: u64,
    /// Packets for which it held at all.
    pub(crate) concerned: u64,
}

/// A head that was noted elsewhere; without a number where only the hash was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Number of the entry.
    pub number: Option<i64>,
    /// Its hash.
    pub hash: Hash,
}

impl Entry<'_> {
    /// Whether a book of an earlier version was chained here.
    pub(crate) fn is_chain_start(&self) -> bool {
        self.op == "chain" && self.source == chain::DAEMON
    }

    pub(crate) fn detail(&self) -> Result<Value, BookError> {
        serde_json::from_str(self.detail)
            .map_err(|error| rows::damaged(format_args!("entry {} of the history: {error}", self.number)))
    }
}

impl From<Head> for Noted {
    fn from(Head { number, hash }: Head) -> Self {
        Self { number: Some(number), hash }
    }
}

impl Noted {
    /// `NUMBER:HASH`, or the hash alone.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, hash) = match text.split_once(':') {
            Some((number, hash)) => (Some(number.parse().ok()?), hash),
            None => (None, text),
        };
        Some(Self { number, hash: hash.parse().ok()? })
    }

    /// The heads in a text, such as a journal or a report: every `NUMBER:HASH`, or, where there is none, every hash. Lines
    /// of an export are hashed instead, of which the last one stands for all: what they hold is not a head.
    pub fn all_in(text: &str) -> Vec<Self> {
        let (exported, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with(EXPORTED));
        let last = exported.into_iter().rev().find_map(Self::of_exported);
        last.into_iter().chain(Self::all_told_in(&others.join("\n"))).collect()
    }

    /// The entry that a line of an export is; none if it was cut off.
    fn of_exported(line: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(line).ok()?;
        let number = fields["number"].as_i64().filter(|_| fields["previous"].is_string())?;
        Some(Self { number: Some(number), hash: Hash::of(line) })
    }

    fn all_told_in(text: &str) -> Vec<Self> {
        let words = text.split(|one: char| !one.is_ascii_alphanumeric() && one != ':');
        let found: Vec<Self> = words.filter_map(|word| Self::parse(word.trim_matches(':'))).collect();
        let with_number: Vec<Self> = found.iter().copied().filter(|noted| noted.number.is_some()).collect();
        if with_number.is_empty() { found } else { with_number }
    }
}

impl Audit {
    /// Opens the book in a folder for reading.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, AuditError> {
        let file = folder.join(FILE);
        if !file.exists() {
            return Err(AuditError::Missing(file));
        }
        let opened = match open_as(&file, "mode=ro") {
            // On a disk that cannot be written, where no daemon can have left anything in its log.
            Err(BookError::Sqlite(error))
                if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && is_alone(&file) =>
            {
                open_as(&file, "immutable=1")
            }
            opened => opened,
        };
        let (connection, found) = match opened {
            Err(BookError::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                return Err(AuditError::Alone(file));
            }
            opened => opened?,
        };
        if found == schema::VERSION { Ok(Self { connection }) } else { Err(AuditError::Version { file, found }) }
    }

    /// The last entry; `None` where there is no entry.
    ///
    /// # Errors
    /// The book cannot be read.
    pub fn head(&self) -> Result<Option<Head>, AuditError> {
        Ok(chain::head(&self.connection)?)
    }

    /// Writes every entry, a line each.
    ///
    /// # Errors
    /// The book cannot be read, or the output not be written.
    pub fn export(&self, out: &mut impl Write) -> Result<(), AuditError> {
        self.each(|number, link, previous, _| {
            let previous = Hash::from_octets(previous).unwrap_or(Hash::NONE);
            Ok(writeln!(out, "{}", link.text(number, &previous)?)?)
        })
    }

    /// Checks that no entry was changed, moved, put in or taken away; and, by what was noted elsewhere, that the end
    /// was not cut off or written anew.
    ///
    /// # Errors
    /// The book cannot be read. What is wrong with its history is in [`Verified::problems`].
    pub fn verify(&self, noted: &[Noted]) -> Result<Verified, AuditError> {
        let mut check = Check { noted: noted.iter().map(|noted| (*noted, Sight::None)).collect(), ..Check::default() };
        self.each(|number, link, previous, hash| {
            check.entry(number, link, previous, hash);
            Ok(())
        })?;
        Ok(check.finish())
    }

    /// Hands on every entry, in order.
    pub(crate) fn entries(&self, mut each: impl FnMut(Entry<'_>) -> Result<(), AuditError>) -> Result<(), AuditError> {
        self.each(|number, link, _, _| {
            let Link { source, op, id, detail, .. } = *link;
            each(Entry { number, time: rows::time(link.time)?, source, op, order: id, detail })
        })
    }

    /// The names that an order lists now, and those that it leaves out; `None` if there is no such order.
    pub(crate) fn names(&self, id: &str) -> Result<Option<[BTreeSet<String>; 2]>, AuditError> {
        let Some(row) = rows::OrderRow::find(&self.connection, id)? else { return Ok(None) };
        let names = |kind| -> Result<BTreeSet<String>, BookError> {
            let mut names = BTreeSet::new();
            rows::read_names(&self.connection, row.number, kind, |name| {
                names.insert(name.to_owned());
                Ok(())
            })?;
            Ok(names)
        };
        Ok(Some([names(Kind::Listed)?, names(Kind::Except)?]))
    }

    /// Each order of the book: its id, its terms, and whether it is revoked.
    pub(crate) fn orders(&self) -> Result<Vec<(String, Value, bool)>, AuditError> {
        let mut query =
            self.connection.prepare("SELECT id, terms, revoked FROM orders ORDER BY id").map_err(BookError::from)?;
        let mut rows = query.query([]).map_err(BookError::from)?;
        let mut orders = Vec::new();
        while let Some(row) = rows.next().map_err(BookError::from)? {
            orders.push(order(row)?);
        }
        Ok(orders)
    }

    /// What orders met, by day.
    pub(crate) fn hits(&self) -> Result<Vec<DayHits>, AuditError> {
        Ok(hits::by_day(&self.connection)?)
    }

    /// Since when hits are written down, and when that was last done.
    pub(crate) fn counting(&self) -> Result<Option<(Timestamp, Timestamp)>, AuditError> {
        Ok(hits::counting(&self.connection)?)
    }

    fn each(
        &self,
        mut each: impl FnMut(i64, &Link<'_>, &[u8], &[u8]) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let mut query = self.connection.prepare(ENTRIES).map_err(BookError::from)?;
        let mut rows = query.query([]).map_err(BookError::from)?;
        while let Some(row) = rows.next().map_err(BookError::from)? {
            let link = chain::link(row)?;
            each(number(row)?, &link, octets(row, 7)?, octets(row, 8)?)?;
        }
        Ok(())
    }
}

fn order(row: &Row<'_>) -> Result<(String, Value, bool), BookError> {
    let terms = serde_json::from_str(row.get_ref(1)?.as_str().map_err(rows::damaged)?).map_err(rows::damaged)?;
    Ok((row.get(0)?, terms, row.get::<_, Option<i64>>(2)?.is_some()))
}

fn number(row: &Row<'_>) -> Result<i64, BookError> {
    Ok(row.get(0)?)
}

fn octets<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], BookError> {
    row.get_ref(column)?.as_blob().map_err(rows::damaged)
}

/// Opens a file in a transaction that reads, and gives the version of its tables.
fn open_as(file: &Path, how: &str) -> Result<(Connection, i64), BookError> {
    let absolute = std::path::absolute(file)?;
    let mut uri = String::from("file://");
    for octet in absolute.as_os_str().as_encoded_bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(*octet)),
            octet => uri.push_str(&format!("%{octet:02X}")),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("{uri}?{how}"), flags)?;
    connection.busy_timeout(schema::BUSY)?;
    connection.execute_batch("BEGIN")?;
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((connection, found))
}

/// Whether nothing waits in a log to come into the file.
fn is_alone(file: &Path) -> bool {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).map_or(true, |log| log.len() == 0)
}

/// Whether a noted head was found in the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sight {
    #[default]
    None,
    /// The entry is there, but is another.
    Other,
    Found,
}

/// A check on its way through the history.
#[derive(Default)]
struct Check {
    entries: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    chained_from: Option<i64>,
    /// The entry before, with the hash that it says it has.
    head: Option<Head>,
    problems: Vec<String>,
    found: u64,
    noted: Vec<(Noted, Sight)>,
}

impl Check {
    fn entry(&mut self, number: i64, link: &Link<'_>, previous: &[u8], hash: &[u8]) {
        self.entries += 1;
        self.last = rows::time(link.time).ok();
        self.first = self.first.or(self.last);
        if link.op == "chain" && link.source == chain::DAEMON {
            self.chained_from.get_or_insert(number);
        }
        let expected = self.head.map_or(1, |head| head.number + 1);
        let is_next = number == expected;
        if number < 1 {
            self.problem(format!("entry {number} stands before entry 1, the first"));
        } else if number == expected + 1 {
            self.problem(format!("entry {expected} is missing"));
        } else if !is_next {
            self.problem(format!("entries {expected} to {} are missing", number - 1));
        }
        let (previous, hash) = (Hash::from_octets(previous), Hash::from_octets(hash));
        let own = previous.and_then(|previous| link.text(number, &previous).ok()).map(|text| Hash::of(&text));
        if own.is_none() || own != hash {
            self.problem(format!("entry {number} was changed: its hash is not that of its content"));
        }
        let before = self.head.map_or(Hash::NONE, |head| head.hash);
        if is_next && previous != Some(before) {
            self.problem(match number {
                1 => "entry 1 was written behind another one: it is not the first".to_owned(),
                _ => format!("entry {number} was written behind another entry than {} is", number - 1),
            });
        }
        let hash = hash.or(own).unwrap_or(Hash::NONE);
        for (noted, sight) in &mut self.noted {
            if noted.number.is_none_or(|noted| noted == number) {
                if noted.hash == hash {
                    *sight = Sight::Found;
                } else if noted.number.is_some() {
                    *sight = Sight::Other;
                }
            }
        }
        if number >= 1 {
            self.head = Some(Head { number, hash });
        }
    }

    fn problem(&mut self, problem: String) {
        self.found += 1;
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn finish(mut self) -> Verified {
        let end = self.head.map_or("there is no entry".to_owned(), |head| format!("the last entry is {}", head.number));
        for (Noted { number, hash }, sight) in std::mem::take(&mut self.noted) {
            match (sight, number) {
                (Sight::Found, _) => {}
                (Sight::Other, Some(number)) => self.problem(format!(
                    "entry {number} is another one than was noted ({hash}): the history was written anew, or is of \
                     another book"
                )),
                (_, Some(number)) => self.problem(format!(
                    "entry {number} was noted ({hash}), and {end}: the end of the history was cut off, or it is of \
                     another book"
                )),
                (_, None) => self.problem(format!(
                    "no entry has the hash that was noted ({hash}): the end of the history was cut off or written \
                     anew, or it is of another book"
                )),
            }
        }
        if self.found > self.problems.len() as u64 {
            self.problems.push(format!("{} more problems", self.found - self.problems.len() as u64));
        }
        let Self { entries, first, last, chained_from, head, problems, .. } = self;
        Verified { entries, first, last, chained_from: chained_from.unwrap_or(1), head, problems }
    }
}

/// How each line of an export begins.
const EXPORTED: &str = r#"{"number":"#;

const ENTRIES: &str = "SELECT number, time, source, line, op, id, detail, previous, hash FROM events ORDER BY number";

/// Problems that are told one by one.
const MOST_PROBLEMS: usize = 20;

#[cfg(test)]
mod tests;
