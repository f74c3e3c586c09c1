//! Rows of the book, in and out.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{BookError, Delta, Record, names::Names};
use crate::{
    feed::{Refusal, input::named},
    name::Name,
    order::{Terms, json::RawOrder},
};

/// An order's row, without its names.
pub(super) struct OrderRow {
    pub(super) number: i64,
    pub(super) source: String,
    pub(super) terms: Arc<Terms>,
    pub(super) received: Timestamp,
    pub(super) revoked: Option<Timestamp>,
}

/// Names that are stopped, or names that are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Listed = 0,
    Except = 1,
}

/// Columns of [`OrderRow::read`].
pub(super) const ORDER_COLUMNS: &str = "number, source, terms, received, revoked";

impl OrderRow {
    /// From a row of [`ORDER_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, BookError> {
        let terms: RawOrder = serde_json::from_str(row.get_ref(2)?.as_str().map_err(damaged)?).map_err(damaged)?;
        let terms =
            terms.terms().map_err(|errors| damaged(errors.iter().map(ToString::to_string).collect::<String>()))?;
        Ok(Self {
            number: row.get(0)?,
            source: row.get(1)?,
            terms: Arc::new(terms),
            received: time(row.get(3)?)?,
            revoked: row.get::<_, Option<i64>>(4)?.map(time).transpose()?,
        })
    }

    pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<Self>, BookError> {
        let mut query = connection.prepare_cached(&format!("SELECT {ORDER_COLUMNS} FROM orders WHERE id = ?1"))?;
        let mut rows = query.query([id])?;
        rows.next()?.map(Self::read).transpose()
    }
}

/// The ids of the parts of an order, revoked ones too.
pub(super) fn parts(connection: &Connection, whole: &str) -> Result<Vec<String>, BookError> {
    // What begins with the id and a #, of which a $ is the next character.
    let mut query = connection.prepare_cached(&format!(
        "SELECT {ORDER_COLUMNS} FROM orders WHERE id > ?1 || '#' AND id < ?1 || '$' ORDER BY id"
    ))?;
    let mut rows = query.query([whole])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let row = OrderRow::read(row)?;
        parts.extend((row.terms.part_of.as_deref() == Some(whole)).then(|| row.terms.id.clone()));
    }
    Ok(parts)
}

/// Writes the row of an order, new or not, and gives its number.
pub(super) fn write_order(
    transaction: &Transaction<'_>,
    source: &str,
    terms: &Terms,
    received: Timestamp,
    revoked: Option<Timestamp>,
) -> Result<i64, BookError> {
    let mut write = transaction.prepare_cached(
        "INSERT INTO orders (id, source, terms, received, revoked) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) \
         DO UPDATE SET source = ?2, terms = ?3, received = ?4, revoked = ?5 RETURNING number",
    )?;
    let revoked = revoked.map(Timestamp::as_microsecond);
    let row = params![terms.id, source, terms_json(terms)?, received.as_microsecond(), revoked];
    Ok(write.query_row(row, |row| row.get(0))?)
}

/// Adds and takes out names.
pub(super) fn write_names<'a>(
    transaction: &Transaction<'_>,
    number: i64,
    kind: Kind,
    added: impl IntoIterator<Item = &'a Name>,
    removed: impl IntoIterator<Item = &'a Name>,
) -> Result<(), BookError> {
    Names::new(transaction, number, kind).change(added, removed)
}

/// What of these names an order does not list yet, and what of those it does.
pub(super) fn fresh(
    transaction: &Transaction<'_>,
    number: i64,
    added: &BTreeSet<Name>,
    removed: &BTreeSet<Name>,
) -> Result<Delta, BookError> {
    let names = Names::new(transaction, number, Kind::Listed);
    let mut delta = Delta::default();
    names.look_up(added.iter(), |name, is_there| delta.added.extend((!is_there).then(|| name.clone())))?;
    names.look_up(removed.iter(), |name, is_there| delta.removed.extend(is_there.then(|| name.clone())))?;
    Ok(delta)
}

/// Those of these names that an order lists.
pub(super) fn listed_of<'n>(
    connection: &Connection,
    number: i64,
    names: impl IntoIterator<Item = &'n Name>,
) -> Result<BTreeSet<&'n Name>, BookError> {
    let mut listed = BTreeSet::new();
    Names::new(connection, number, Kind::Listed)
        .look_up(names.into_iter(), |name, is_there| listed.extend(is_there.then_some(name)))?;
    Ok(listed)
}

/// How many names an order has.
pub(super) fn count_names(connection: &Connection, number: i64) -> Result<u64, BookError> {
    Names::new(connection, number, Kind::Listed).count()
}

/// Nothing of an order is held any more.
pub(super) fn forget_held(connection: &Connection, id: &str) -> Result<(), BookError> {
    connection.prepare_cached("DELETE FROM held WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Calls `each` for every name of an order, in order.
pub(super) fn read_names(
    connection: &Connection,
    number: i64,
    kind: Kind,
    each: impl FnMut(&str) -> Result<(), BookError>,
) -> Result<(), BookError> {
    Names::new(connection, number, kind).read(each)
}

pub(super) fn history(connection: &Connection, id: &str) -> Result<Vec<Record>, BookError> {
    let mut query = connection.prepare_cached(
        "SELECT number, time, source, line, op, id, detail FROM events WHERE id = ?1 ORDER BY number",
    )?;
    let mut rows = query.query([id])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(Record {
            number: row.get(0)?,
            time: time(row.get(1)?)?,
            source: row.get(2)?,
            line: row.get::<_, i64>(3)? as u64,
            op: row.get(4)?,
            order: row.get(5)?,
            detail: serde_json::from_str(row.get_ref(6)?.as_str().map_err(damaged)?).map_err(damaged)?,
        });
    }
    Ok(records)
}

/// Whether an order's last revoke was the operator's, and no file's.
pub(super) fn revoked_by_operator(connection: &Connection, id: &str) -> Result<bool, BookError> {
    let mut query = connection.prepare_cached(
        "SELECT source NOT LIKE '/%' FROM events WHERE id = ?1 AND op = 'revoke' ORDER BY number DESC LIMIT 1",
    )?;
    Ok(query.query_row([id], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// Whether an order is revoked, as far as it is known.
pub(super) fn is_revoked(connection: &Connection, id: &str) -> Result<bool, BookError> {
    let mut query = connection.prepare_cached("SELECT revoked IS NOT NULL FROM orders WHERE id = ?1")?;
    Ok(query.query_row([id], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// Who gave an order's last revoke, and its number there.
pub(super) struct LastRevoke {
    pub(super) source: String,
    pub(super) seq: Option<u64>,
}

/// See [`LastRevoke`].
pub(super) fn last_revoke(connection: &Connection, id: &str) -> Result<Option<LastRevoke>, BookError> {
    let mut query = connection.prepare_cached(
        "SELECT source, detail FROM events WHERE id = ?1 AND op = 'revoke' ORDER BY number DESC LIMIT 1",
    )?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let Some((source, detail)) = query.query_row([id], row).optional()? else { return Ok(None) };
    let detail: serde_json::Value = serde_json::from_str(&detail).map_err(damaged)?;
    Ok(Some(LastRevoke { source, seq: detail["seq"].as_u64() }))
}

/// Whether an order was put since this entry of the history.
pub(super) fn is_put_since(connection: &Connection, id: &str, entry: i64) -> Result<bool, BookError> {
    let mut query = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE id = ?1 AND number > ?2 AND op = 'put')")?;
    Ok(query.query_row(params![id, entry], |row| row.get(0))?)
}

/// Time of the newest entry about what orders say. What the daemon itself does, it does under a wrong clock, too.
pub(super) fn newest(connection: &Connection) -> Result<Option<Timestamp>, BookError> {
    const NEWEST: &str = "
        SELECT time FROM events
        WHERE op IN ('put', 'add', 'remove', 'extend', 'revoke', 'hold', 'unhold', 'approve', 'reject', 'release')
        ORDER BY number DESC LIMIT 1";
    let newest: Option<i64> = connection.query_row(NEWEST, [], |row| row.get(0)).optional()?;
    newest.map(time).transpose()
}

/// Puts a source's refusals in the place of its last ones. Gives those that are new.
pub(super) fn write_refusals<'a>(
    transaction: &Transaction<'_>,
    source: &str,
    refusals: &'a [Refusal],
) -> Result<Vec<&'a Refusal>, BookError> {
    // What is not told of the source itself is told of a file in its folder.
    let folder = named(Path::new(source)).to_string_lossy();
    let mut known = HashSet::new();
    let mut take = transaction.prepare_cached(
        "DELETE FROM refusals WHERE source IN (?1, ?2) OR ?1 <> ?2 AND source > ?2 || '/' AND source < ?2 || '0' \
         RETURNING source, line, text, why",
    )?;
    let mut rows = take.query([source, &*folder])?;
    while let Some(row) = rows.next()? {
        let Refusal { file, text, why, .. } = read_refusal(row)?;
        known.insert((file, text, why));
    }
    let mut write =
        transaction.prepare_cached("INSERT INTO refusals (source, line, text, why) VALUES (?1, ?2, ?3, ?4)")?;
    for refusal in refusals {
        write.execute(params![refusal.file, refusal.line as i64, refusal.text, refusal.why])?;
    }
    // A row that has moved is not new.
    let is_known =
        |refusal: &&Refusal| known.contains(&(refusal.file.clone(), refusal.text.clone(), refusal.why.clone()));
    Ok(refusals.iter().filter(|refusal| !is_known(refusal)).collect())
}

/// From a row of source, line, text and why.
fn read_refusal(row: &Row<'_>) -> Result<Refusal, BookError> {
    Ok(Refusal {
        file: row.get_ref(0)?.as_str().map_err(damaged)?.into(),
        line: row.get::<_, i64>(1)? as u64,
        text: row.get(2)?,
        why: row.get(3)?,
    })
}

pub(super) fn refusals(connection: &Connection) -> Result<Vec<Refusal>, BookError> {
    let mut query =
        connection.prepare_cached("SELECT source, line, text, why FROM refusals ORDER BY source, number")?;
    let mut rows = query.query([])?;
    let mut refusals = Vec::new();
    while let Some(row) = rows.next()? {
        refusals.push(read_refusal(row)?);
    }
    Ok(refusals)
}

pub(super) fn terms_json(terms: &Terms) -> Result<String, BookError> {
    serde_json::to_string(terms).map_err(damaged)
}

/// A name of the book, which was canonical when it was written.
pub(super) fn name(text: &str) -> Result<Name, BookError> {
    Name::parse(text).map_err(|error| damaged(format_args!("name {text:?} {error}")))
}

pub(super) fn damaged(what: impl std::fmt::Display) -> BookError {
    BookError::Damaged(what.to_string())
}

pub(super) fn time(microseconds: i64) -> Result<Timestamp, BookError> {
    Timestamp::from_microsecond(microseconds).map_err(damaged)
}
