//! Changes of names that the rows do not have yet.
//!
//! A thousand names from all over a million stand in a thousand rows, and to write all of these takes longer than an
//! order may wait: so what changes is written in one row, and goes into the rows of names when there is time.
//!
//! A row of `name_changes` holds names as they changed, each with its LF, and before it `+` if it comes or `-` if it
//! goes. `changes` is how many; `more` is by how many names there are more then. What has a greater `id` came later.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, TransactionBehavior::Immediate, params};

use super::{Names, damaged};
use crate::{
    book::{Book, BookError, rows::Kind},
    name::Name,
};

/// Names in a row, at most: what [`Book::fold_changes`] takes at once.
pub(super) const FOLDED: usize = 256;

impl Book {
    /// Whether changes of names wait.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(crate) fn has_changes_waiting(&self) -> Result<bool, BookError> {
        let mut query = self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM name_changes)")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    /// Brings the oldest of them into the rows of names: as many as take some hundredths of a second.
    ///
    /// # Errors
    /// They wait on.
    pub(crate) fn fold_changes(&mut self) -> Result<(), BookError> {
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let oldest = transaction
            .query_row("SELECT number, kind FROM name_changes ORDER BY id LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?))
            })
            .optional()?;
        if let Some((number, kind)) = oldest {
            let kind = if kind == Kind::Except as i64 { Kind::Except } else { Kind::Listed };
            Names::new(&transaction, number, kind).fold_oldest()?;
        }
        Ok(transaction.commit()?)
    }
}

impl Names<'_> {
    /// How many changes wait.
    pub(super) fn waits(&self) -> Result<usize, BookError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT coalesce(sum(changes), 0) FROM name_changes WHERE number = ?1 AND kind = ?2")?;
        Ok(query.query_row(params![self.number, self.kind as i64], |row| row.get::<_, i64>(0))? as usize)
    }

    /// What waits, and whether it comes: what came last of each name.
    pub(super) fn waiting(&self) -> Result<BTreeMap<String, bool>, BookError> {
        let mut waiting = BTreeMap::new();
        self.each_row(|row| {
            for change in changes(row) {
                let (name, comes) = change?;
                waiting.insert(name.to_owned(), comes);
            }
            Ok(())
        })?;
        Ok(waiting)
    }

    /// The same of a few names, which are searched for.
    pub(super) fn waiting_of(&self, names: &[&Name]) -> Result<BTreeMap<String, bool>, BookError> {
        let mut waiting = BTreeMap::new();
        self.each_row(|row| {
            for name in names {
                if let Some(comes) = last_of(row, name.as_str()) {
                    waiting.insert(name.as_str().to_owned(), comes);
                }
            }
            Ok(())
        })?;
        Ok(waiting)
    }

    /// Calls `each` for what each row holds, the oldest first.
    fn each_row(&self, mut each: impl FnMut(&str) -> Result<(), BookError>) -> Result<(), BookError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT names FROM name_changes WHERE number = ?1 AND kind = ?2 ORDER BY id")?;
        let mut rows = query.query(params![self.number, self.kind as i64])?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_str().map_err(damaged)?)?;
        }
        Ok(())
    }

    /// The same, which waits no longer.
    pub(super) fn take_waiting(&self) -> Result<BTreeMap<String, bool>, BookError> {
        let waiting = self.waiting()?;
        if !waiting.is_empty() {
            let mut delete =
                self.connection.prepare_cached("DELETE FROM name_changes WHERE number = ?1 AND kind = ?2")?;
            delete.execute(params![self.number, self.kind as i64])?;
        }
        Ok(waiting)
    }

    /// Has changes wait. The newest row takes some, so that what comes one by one does not wait in as many rows.
    pub(super) fn append(&self, changes: &[(&str, bool)]) -> Result<(), BookError> {
        let mut newest = self.connection.prepare_cached(
            "SELECT id, changes FROM name_changes WHERE number = ?1 AND kind = ?2 ORDER BY id DESC LIMIT 1",
        )?;
        let mut update = self.connection.prepare_cached(
            "UPDATE name_changes SET changes = changes + ?2, more = more + ?3, names = names || ?4 WHERE id = ?1",
        )?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO name_changes (number, kind, changes, more, names) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as usize));
        let newest = newest.query_row(params![self.number, self.kind as i64], row).optional()?;
        let (id, room) = newest.map_or((0, 0), |(id, changes)| (id, FOLDED.saturating_sub(changes)));
        let (here, rest) = changes.split_at(room.min(changes.len()));
        if !here.is_empty() {
            let (more, names) = written(here);
            update.execute(params![id, here.len() as i64, more, names])?;
        }
        for changes in rest.chunks(FOLDED) {
            let (more, names) = written(changes);
            insert.execute(params![self.number, self.kind as i64, changes.len() as i64, more, names])?;
        }
        Ok(())
    }

    /// Brings the oldest of what waits into the rows of names. Gives how many changes that were.
    pub(super) fn fold_oldest(&self) -> Result<usize, BookError> {
        let mut take = self.connection.prepare_cached(
            "DELETE FROM name_changes WHERE id = \
                 (SELECT id FROM name_changes WHERE number = ?1 AND kind = ?2 ORDER BY id LIMIT 1) \
             RETURNING names",
        )?;
        let names: String = take.query_row(params![self.number, self.kind as i64], |row| row.get(0))?;
        // The last word about each name counts.
        let last = changes(&names).collect::<Result<BTreeMap<_, _>, _>>()?;
        self.write_changes(&last.into_iter().collect::<Vec<_>>())?;
        Ok(names.lines().count())
    }
}

/// Changes as a row has them, and by how many names there are more then.
fn written(changes: &[(&str, bool)]) -> (i64, String) {
    let more = changes.iter().map(|(_, comes)| if *comes { 1 } else { -1 }).sum();
    let names = changes.iter().flat_map(|(name, comes)| [if *comes { "+" } else { "-" }, name, "\n"]).collect();
    (more, names)
}

/// The changes of a row.
fn changes(names: &str) -> impl Iterator<Item = Result<(&str, bool), BookError>> {
    names.lines().map(|line| {
        let comes = line.strip_prefix('+').map(|name| (name, true));
        comes
            .or_else(|| line.strip_prefix('-').map(|name| (name, false)))
            .ok_or_else(|| damaged(format_args!("change of a name {line:?}")))
    })
}

/// Whether a name comes, by the last word about it in a row.
fn last_of(row: &str, name: &str) -> Option<bool> {
    let line = |(at, _): (usize, &str)| {
        let ends = row.as_bytes().get(at + name.len()) == Some(&b'\n');
        match row.as_bytes().get(at.checked_sub(1)?).filter(|_| ends)? {
            b'+' => Some(true),
            b'-' => Some(false),
            _ => None,
        }
    };
    row.match_indices(name).filter_map(line).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_whole_line_and_its_last_one() {
        let row = "+b.a.test\n-a.test\n+a.test.net\n+a.a\n-a.a.a\n+a.test\n";
        let found =
            ["a.test", "b.a.test", "a.test.net", "a.a", "a.a.a", "test", "a", "b.a"].map(|name| last_of(row, name));
        assert_eq!(found, [Some(true), Some(true), Some(true), Some(true), Some(false), None, None, None]);
        assert_eq!((last_of("-a.test\n", "a.test"), last_of("", "a.test")), (Some(false), None));
    }
}
