//! What guards hold, in the book: in and out.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use ring::digest;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    BookError,
    rows::{self, Kind, OrderRow, damaged},
};
use crate::{
    guard::{Guard, Guards},
    name::Name,
    order::{Terms, json::RawOrder},
};

/// A change that a guard holds. What is enforced meanwhile is what was before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub(super) number: i64,
    /// Hash of all that an approval brings about, as 32 hexadecimal digits.
    pub id: String,
    /// The feed that its source belongs to.
    pub feed: String,
    /// Who gave it: a file's path, or `cli`.
    pub source: String,
    /// Order id; empty where orders go that the source lists no longer.
    pub order: String,
    /// What holds it.
    pub guard: Guard,
    /// Why.
    pub why: String,
    /// Line in the source; 0 where the source as a whole means it.
    pub line: u64,
    /// When it arrived.
    pub since: Timestamp,
    /// When it is let through without approval.
    pub until: Option<Timestamp>,
    /// When it should be enforced.
    pub deadline: Option<Timestamp>,
    /// When it was rejected, and by whom. It is not asked for again.
    pub rejected: Option<(Timestamp, String)>,
    /// Of a growth or shrink: how many names came or went, and how many there were before.
    pub(super) figures: Option<(u64, u64)>,
    /// Terms that the order would have.
    pub terms: Option<Arc<Terms>>,
    /// What comes and goes, the first of it where that was asked for.
    pub items: Vec<Item>,
    /// How much of each kind there is, in the order of [`ItemKind::ALL`].
    pub counts: [u64; 4],
}

/// One thing that comes or goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// A name, or an order's id.
    pub name: String,
    /// What is thought of this one; may be empty.
    pub why: String,
}

/// See [`Item`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKind {
    /// A name comes.
    Added = 0,
    /// A name goes.
    Removed = 1,
    /// An exception goes.
    ExceptRemoved = 2,
    /// An order goes.
    Order = 3,
}

impl ItemKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Added, Self::Removed, Self::ExceptRemoved, Self::Order];
}

impl Held {
    /// Whether its deadline will pass, or has passed, unless somebody approves it before.
    pub fn is_late(&self) -> bool {
        let Some(deadline) = self.deadline.filter(|_| self.rejected.is_none()) else { return false };
        self.until.is_none_or(|until| until > deadline)
    }

    /// Whether it is about terms and exceptions, not about names.
    pub(super) fn is_of_terms(&self) -> bool {
        self.terms.is_some() || self.names(ItemKind::ExceptRemoved).next().is_some()
    }

    /// What of a kind comes or goes.
    pub(super) fn names(&self, kind: ItemKind) -> impl Iterator<Item = &str> {
        self.items.iter().filter(move |item| item.kind == kind).map(|item| item.name.as_str())
    }

    /// Hash of what an approval would bring about. The order's reach is part of it: by it the names stop more or less;
    /// and so is what the order's names, also those that came since, would stop by terms that reach further.
    pub(super) fn hash(&self, transaction: &Transaction<'_>, guards: &Guards) -> Result<String, BookError> {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut field = |text: &str| {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        };
        field(self.guard.word());
        field(&self.order);
        field(OrderRow::find(transaction, &self.order)?.map_or("", |row| row.terms.reach.word()));
        field(&self.terms.as_deref().map(rows::terms_json).transpose()?.unwrap_or_default());
        for item in &self.items {
            field(["+", "-", "except -", "order -"][item.kind as usize]);
            field(&item.name);
        }
        if self.guard == Guard::Reach {
            self.reached(transaction, guards)?.iter().for_each(|reached| field(reached));
        }
        let hash = context.finish();
        Ok(hash.as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect())
    }

    /// What of the order's names, as they are now, would stop more protected names than it does, and which.
    pub(super) fn reached(&self, transaction: &Transaction<'_>, guards: &Guards) -> Result<Vec<String>, BookError> {
        let mut reached = Vec::new();
        let Some(row) = OrderRow::find(transaction, &self.order)?.filter(|_| self.is_of_terms()) else {
            return Ok(reached);
        };
        let guarded = guards.of(&self.source);
        let mut except = BTreeSet::new();
        rows::read_names(transaction, row.number, Kind::Except, |name| {
            except.insert(rows::name(name)?);
            Ok(())
        })?;
        let gone: BTreeSet<&str> = self.names(ItemKind::ExceptRemoved).collect();
        let left = except.iter().filter(|name| !gone.contains(name.as_str())).cloned().collect();
        let reach = self.terms.as_ref().map_or(row.terms.reach, |terms| terms.reach);
        rows::read_names(transaction, row.number, Kind::Listed, |name| {
            let name = rows::name(name)?;
            let why = guarded.widens(&name, (row.terms.reach, &except), (reach, &left));
            reached.extend(why.map(|why| format!("{name} {why}")));
            Ok(())
        })?;
        Ok(reached)
    }

    /// Writes it as a new one.
    pub(super) fn insert(&mut self, transaction: &Transaction<'_>) -> Result<(), BookError> {
        let mut write = transaction.prepare_cached(
            "INSERT INTO held (source, id, guard, hash, line, why, terms, since, until, deadline, changed, before) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) RETURNING number",
        )?;
        let terms = self.terms.as_deref().map(rows::terms_json).transpose()?;
        let micros = |time: Option<Timestamp>| time.map(Timestamp::as_microsecond);
        let row = params![
            self.source,
            self.order,
            self.guard.word(),
            self.id,
            self.line as i64,
            self.why,
            terms,
            self.since.as_microsecond(),
            micros(self.until),
            micros(self.deadline),
            self.figures.map(|(changed, _)| changed as i64),
            self.figures.map(|(_, before)| before as i64)
        ];
        self.number = write.query_row(row, |row| row.get(0))?;
        let mut write = transaction
            .prepare_cached("INSERT OR IGNORE INTO held_names (held, kind, name, why) VALUES (?1, ?2, ?3, ?4)")?;
        for item in &self.items {
            write.execute(params![self.number, item.kind as i64, item.name, item.why])?;
        }
        Ok(())
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> Result<(), BookError> {
        // The names go with it.
        transaction.execute("DELETE FROM held WHERE number = ?1", [self.number])?;
        Ok(())
    }

    /// Takes items out; what is left has another hash, and if nothing is left it goes.
    pub(super) fn keep(
        mut self,
        transaction: &Transaction<'_>,
        guards: &Guards,
        keep: impl Fn(&Item) -> bool,
    ) -> Result<Option<Self>, BookError> {
        let before = self.items.len();
        self.items.retain(keep);
        if self.items.len() == before {
            return Ok(Some(self));
        }
        if self.items.is_empty() && self.terms.is_none() {
            self.delete(transaction)?;
            return Ok(None);
        }
        self.id = self.hash(transaction, guards)?;
        self.delete(transaction)?;
        let rejected = self.rejected.clone();
        self.insert(transaction)?;
        if let Some((time, by)) = rejected {
            self.reject(transaction, time, &by)?;
        }
        Ok(Some(self))
    }

    /// What approves it must be of its order as that is now.
    pub(super) fn rehash(&self, transaction: &Transaction<'_>, guards: &Guards) -> Result<(), BookError> {
        let hash = self.hash(transaction, guards)?;
        if hash != self.id {
            let reached = if self.guard == Guard::Reach { self.reached(transaction, guards)? } else { Vec::new() };
            let why = reached_text(&reached).unwrap_or_else(|| self.why.clone());
            transaction
                .execute("UPDATE held SET hash = ?2, why = ?3 WHERE number = ?1", params![self.number, hash, why])?;
        }
        Ok(())
    }

    pub(super) fn reject(&self, transaction: &Transaction<'_>, time: Timestamp, by: &str) -> Result<(), BookError> {
        transaction.execute(
            "UPDATE held SET rejected = ?2, rejected_by = ?3 WHERE number = ?1",
            params![self.number, time.as_microsecond(), by],
        )?;
        Ok(())
    }

    fn read(row: &Row<'_>) -> Result<Self, BookError> {
        let guard: String = row.get(3)?;
        let guard = Guard::ALL.into_iter().find(|known| known.word() == guard).ok_or_else(|| damaged(&guard))?;
        let terms: Option<String> = row.get(7)?;
        let terms = terms.map(|terms| -> Result<_, BookError> {
            let terms: RawOrder = serde_json::from_str(&terms).map_err(damaged)?;
            let wrong =
                |errors: Vec<crate::order::Unfit>| damaged(errors.iter().map(ToString::to_string).collect::<String>());
            Ok(Arc::new(terms.terms().map_err(wrong)?))
        });
        let time = |index: usize| -> Result<Option<Timestamp>, BookError> {
            row.get::<_, Option<i64>>(index)?.map(rows::time).transpose()
        };
        let rejected = time(11)?;
        let by: Option<String> = row.get(12)?;
        Ok(Self {
            number: row.get(0)?,
            feed: String::new(),
            source: row.get(1)?,
            order: row.get(2)?,
            guard,
            id: row.get(4)?,
            line: row.get::<_, i64>(5)? as u64,
            why: row.get(6)?,
            figures: row.get::<_, Option<i64>>(13)?.zip(row.get(14)?).map(|(a, b): (i64, i64)| (a as u64, b as u64)),
            terms: terms.transpose()?,
            since: rows::time(row.get(8)?)?,
            until: time(9)?,
            deadline: time(10)?,
            rejected: rejected.map(|time| (time, by.unwrap_or_default())),
            items: Vec::new(),
            counts: [0; 4],
        })
    }

    /// Reads the first items, and counts them all.
    fn fill(&mut self, connection: &Connection, most: usize) -> Result<(), BookError> {
        let mut query = connection
            .prepare_cached("SELECT kind, name, why FROM held_names WHERE held = ?1 ORDER BY kind, name LIMIT ?2")?;
        let mut rows = query.query(params![self.number, most.min(i64::MAX as usize) as i64])?;
        while let Some(row) = rows.next()? {
            let kind = ItemKind::ALL.get(row.get::<_, i64>(0)? as usize).copied();
            let kind = kind.ok_or_else(|| damaged("a held change of an unknown kind"))?;
            self.items.push(Item { kind, name: row.get(1)?, why: row.get(2)? });
        }
        let mut query =
            connection.prepare_cached("SELECT kind, count(*) FROM held_names WHERE held = ?1 GROUP BY kind")?;
        let mut rows = query.query([self.number])?;
        while let Some(row) = rows.next()? {
            if let Some(count) = self.counts.get_mut(row.get::<_, i64>(0)? as usize) {
                *count = row.get::<_, i64>(1)? as u64;
            }
        }
        Ok(())
    }
}

/// What an operator is told of names that reach protected ones.
pub(super) fn reached_text(reached: &[String]) -> Option<String> {
    match reached {
        [] => None,
        [only] => Some(only.clone()),
        [first, more @ ..] => Some(format!("{first}; and {} names more", more.len())),
    }
}

/// Which held changes.
pub(super) enum Of<'a> {
    All,
    /// Of a source about an order.
    Source(&'a str, &'a str),
    /// About an order.
    Order(&'a str),
}

/// The held changes, oldest first, each with so many of its items at most.
pub(super) fn held(connection: &Connection, of: &Of<'_>, most: usize) -> Result<Vec<Held>, BookError> {
    const COLUMNS: &str = "number, source, id, guard, hash, line, why, terms, since, until, deadline, rejected, rejected_by, changed, before";
    let (condition, source, id) = match of {
        Of::All => ("TRUE OR ?1 = ?2", "", ""),
        Of::Source(source, id) => ("source = ?1 AND id = ?2", *source, *id),
        Of::Order(id) => ("id = ?2 AND ?1 = ''", "", *id),
    };
    let mut query =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM held WHERE {condition} ORDER BY number"))?;
    let mut rows = query.query([source, id])?;
    let mut held = Vec::new();
    while let Some(row) = rows.next()? {
        held.push(Held::read(row)?);
    }
    for one in &mut held {
        one.fill(connection, most)?;
    }
    Ok(held)
}

/// What holds that a name joins an order, and why; the newest, if more do.
pub(super) fn of_name(connection: &Connection, order: &str, name: &Name) -> Result<Option<(Guard, String)>, BookError> {
    let mut query = connection.prepare_cached(
        "SELECT guard, iif(held_names.why = '', held.why, held_names.why), rejected IS NOT NULL
         FROM held JOIN held_names ON held_names.held = held.number
         WHERE held.id = ?1 AND kind = ?2 AND name = ?3 ORDER BY number DESC LIMIT 1",
    )?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?));
    let held = query.query_row(params![order, ItemKind::Added as i64, name.as_str()], row).optional()?;
    let Some((guard, why, is_rejected)) = held else { return Ok(None) };
    let guard = Guard::ALL.into_iter().find(|known| known.word() == guard).ok_or_else(|| damaged(&guard))?;
    let why = if is_rejected { format!("{why}; the provider has rejected it") } else { why };
    Ok(Some((guard, why)))
}

/// Whether anything about an order is held.
pub(super) fn is_any_held(connection: &Connection, id: &str) -> Result<bool, BookError> {
    Ok(connection.prepare_cached("SELECT 1 FROM held WHERE id = ?1")?.exists([id])?)
}

/// The next time at which something is let through.
pub(super) fn next_release(connection: &Connection) -> Result<Option<Timestamp>, BookError> {
    let mut query =
        connection.prepare_cached("SELECT min(until) FROM held WHERE rejected IS NULL AND until IS NOT NULL")?;
    let next: Option<Option<i64>> = query.query_row([], |row| row.get(0)).optional()?;
    next.flatten().map(rows::time).transpose()
}

/// What is held of a source about an order goes.
pub(super) fn forget(connection: &Connection, source: &str, id: &str) -> Result<(), BookError> {
    connection.prepare_cached("DELETE FROM held WHERE source = ?1 AND id = ?2")?.execute([source, id])?;
    Ok(())
}

/// Names of items, for look-ups.
pub(super) fn set_of(items: &[Item]) -> BTreeSet<(ItemKind, &str)> {
    items.iter().map(|item| (item.kind, item.name.as_str())).collect()
}
