//! The chain of the history. Each entry holds the SHA-256 of the entry before it, so that none can be changed, moved,
//! put in or taken away unseen; only the end can be cut off, which a head that was noted elsewhere shows.
//!
//! What is hashed is the entry's line, without its line feed, as `cordon audit export` writes it (docs/audit.md). So
//! whoever has the lines needs nothing but SHA-256.

use std::{fmt, fmt::Write, str::FromStr};

use jiff::Timestamp;
use ring::digest::{Context, SHA256, digest};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{BookError, rows};
use crate::name::Name;

/// SHA-256 of an entry's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; 32]);

/// The last entry of a history, noted: `NUMBER:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Number of the entry.
    pub number: i64,
    /// Its hash.
    pub hash: Hash,
}

/// An entry to be written, or as it stands in the book.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'a> {
    /// Microseconds since 1970.
    pub(super) time: i64,
    pub(super) source: &'a str,
    pub(super) line: u64,
    pub(super) op: &'a str,
    pub(super) id: &'a str,
    /// JSON, as it stands in the book.
    pub(super) detail: &'a str,
}

impl Hash {
    /// What the first entry has in the place of the hash of the one before.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn of(line: &str) -> Self {
        Self::from_octets(digest(&SHA256, line.as_bytes()).as_ref()).unwrap_or(Self::NONE)
    }

    /// `None` if there are not 32 octets.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(out, "{octet:02x}"))
    }
}

impl FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let octet = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2).ok_or(())?, 16).map_err(drop);
        if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(());
        }
        let mut hash = [0; 32];
        for (at, to) in hash.iter_mut().enumerate() {
            *to = octet(at)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.number, self.hash)
    }
}

impl Link<'_> {
    /// The line that is exported, and whose hash is the entry's, without its line feed.
    pub(super) fn text(&self, number: i64, previous: &Hash) -> Result<String, BookError> {
        let Self { time, source, line, op, id, detail } = self;
        let time = rows::time(*time)?;
        let word = |text: &str| serde_json::to_string(text).map_err(rows::damaged);
        let (source, op, id) = (word(source)?, word(op)?, word(id)?);
        let mut text = String::with_capacity(256 + detail.len());
        // Nothing can go wrong in writing to memory.
        let _ = write!(
            text,
            r#"{{"number":{number},"previous":"{previous}","time":"{time:.6}","source":{source},"line":{line},"op":{op},"order":{id},"detail":{detail}}}"#
        );
        Ok(text)
    }

    /// Appends an entry, with this hash in the place of the hash of the one before.
    fn write(&self, connection: &Connection, number: i64, previous: &Hash) -> Result<Head, BookError> {
        let hash = Hash::of(&self.text(number, previous)?);
        let Self { time, source, line, op, id, detail } = self;
        connection
            .prepare_cached(
                "INSERT INTO events (number, time, source, line, op, id, detail, previous, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![number, time, source, *line as i64, op, id, detail, previous.0, hash.0])?;
        Ok(Head { number, hash })
    }
}

/// Appends an entry behind the last one, in the transaction that the connection is in.
pub(super) fn append_to(connection: &Connection, last: Option<Head>, link: &Link<'_>) -> Result<Head, BookError> {
    let (number, previous) = last.map_or((1, Hash::NONE), |last| (last.number + 1, last.hash));
    link.write(connection, number, &previous)
}

/// The last entry; `None` where the history is empty.
pub(super) fn head(connection: &Connection) -> Result<Option<Head>, BookError> {
    let mut query = connection.prepare_cached("SELECT number, hash FROM events ORDER BY number DESC LIMIT 1")?;
    let found: Option<(i64, Vec<u8>)> = query.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let head = found.map(|(number, hash)| match Hash::from_octets(&hash) {
        Some(hash) => Ok(Head { number, hash }),
        None => Err(rows::damaged(format_args!("entry {number} of the history has no hash"))),
    });
    head.transpose()
}

/// Chains what a book without a chain has, in `events_unchained`, and says so in an entry of its own: what was done to
/// the entries before that one cannot be known.
pub(super) fn begin(connection: &Connection, now: Timestamp) -> Result<(), BookError> {
    let mut query = connection
        .prepare("SELECT number, time, source, line, op, id, detail FROM events_unchained ORDER BY number")?;
    let mut rows = query.query([])?;
    let mut last: Option<Head> = None;
    let mut entries = 0_u64;
    while let Some(row) = rows.next()? {
        let previous = last.map_or(Hash::NONE, |head| head.hash);
        last = Some(link(row)?.write(connection, row.get(0)?, &previous)?);
        entries += 1;
    }
    let Some(head) = last else { return Ok(()) };
    let detail = json!({"entries": entries, "head": head.to_string()}).to_string();
    let time = now.as_microsecond();
    append_to(connection, last, &Link { time, source: DAEMON, line: 0, op: "chain", id: "", detail: &detail })?;
    Ok(())
}

/// An entry of a row that begins with number, time, source, line, op, id and detail.
pub(super) fn link<'a>(row: &'a Row<'_>) -> Result<Link<'a>, BookError> {
    let text = |at: usize| -> Result<&'a str, BookError> { row.get_ref(at)?.as_str().map_err(rows::damaged) };
    Ok(Link {
        time: row.get(1)?,
        source: text(2)?,
        line: row.get::<_, i64>(3)? as u64,
        op: text(4)?,
        id: text(5)?,
        detail: text(6)?,
    })
}

/// What an entry has of names: the names, or, where they are many, how many they are and the SHA-256 of them, each with
/// a line feed behind it, in the order of their octets. So whoever has the names can show that they are the ones.
pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a Name> + Clone) -> Value {
    digest_of(names.map(Name::as_str))
}

/// As [`listed`], of any words.
pub(super) fn digest_of<'a>(words: impl ExactSizeIterator<Item = &'a str> + Clone) -> Value {
    if words.len() <= LISTED {
        return json!(words.collect::<Vec<_>>());
    }
    let count = words.len();
    let hash = if words.clone().is_sorted() {
        lines_hash(words)
    } else {
        let mut sorted: Vec<&str> = words.collect();
        sorted.sort_unstable();
        lines_hash(sorted.into_iter())
    };
    json!({"count": count, "sha256": hash})
}

/// The SHA-256 of words, each with a line feed behind it. They are hashed many at a time: a call takes longer than a word.
fn lines_hash<'a>(words: impl Iterator<Item = &'a str>) -> Hash {
    let mut hash = Context::new(&SHA256);
    let mut lines = String::with_capacity(2 * AT_ONCE);
    for word in words {
        lines.push_str(word);
        lines.push('\n');
        if lines.len() >= AT_ONCE {
            hash.update(lines.as_bytes());
            lines.clear();
        }
    }
    hash.update(lines.as_bytes());
    Hash::from_octets(hash.finish().as_ref()).unwrap_or(Hash::NONE)
}

/// Octets.
const AT_ONCE: usize = 1 << 14;

/// The source of what the daemon itself does.
pub(crate) const DAEMON: &str = "daemon";

/// Names that an entry lists.
const LISTED: usize = 1000;
