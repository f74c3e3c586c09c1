//! The names of orders, many to a row: a row for each would take a million rows for a million names, and seconds.
//!
//! A row of `name_lists` holds names in order, each with its LF, and begins with `first`; all names of the same order
//! and kind in rows with a greater `first` are greater.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    BookError,
    rows::{Kind, damaged},
};
use crate::name::Name;

/// Names of one order and kind.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    connection: &'a Connection,
    number: i64,
    kind: Kind,
}

/// A row.
struct Row {
    id: i64,
    first: String,
    names: String,
}

impl<'a> Names<'a> {
    pub(super) fn new(connection: &'a Connection, number: i64, kind: Kind) -> Self {
        Self { connection, number, kind }
    }

    /// How many there are.
    pub(super) fn count(&self) -> Result<u64, BookError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT coalesce(sum(count), 0) FROM name_lists WHERE number = ?1 AND kind = ?2")?;
        Ok(query.query_row(params![self.number, self.kind as i64], |row| row.get::<_, i64>(0))? as u64)
    }

    /// Calls `each` for every name, in order.
    pub(super) fn read(&self, mut each: impl FnMut(&str) -> Result<(), BookError>) -> Result<(), BookError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT names FROM name_lists WHERE number = ?1 AND kind = ?2 ORDER BY first")?;
        let mut rows = query.query(params![self.number, self.kind as i64])?;
        while let Some(row) = rows.next()? {
            row.get_ref(0)?.as_str().map_err(damaged)?.lines().try_for_each(&mut each)?;
        }
        Ok(())
    }

    /// Calls `each` for every one of `names`, in order, with whether it is there.
    pub(super) fn look_up<'n>(
        &self,
        names: impl Iterator<Item = &'n Name>,
        mut each: impl FnMut(&'n Name, bool),
    ) -> Result<(), BookError> {
        let mut names: Vec<&Name> = names.collect();
        names.sort_unstable();
        let mut rest = names.as_slice();
        while let Some(first) = rest.first() {
            let row = self.row_of(first.as_str())?;
            let end = row.as_ref().map_or(Ok(None), |row| self.after(&row.first))?;
            let here = rest.partition_point(|name| end.as_deref().is_none_or(|end| name.as_str() < end));
            let there: Vec<&str> = row.as_ref().map(|row| row.names.lines().collect()).unwrap_or_default();
            for name in rest.get(..here).unwrap_or_default() {
                each(name, there.binary_search(&name.as_str()).is_ok());
            }
            rest = rest.get(here..).unwrap_or_default();
        }
        Ok(())
    }

    /// Adds names and takes names out.
    pub(super) fn change<'n>(
        &self,
        added: impl IntoIterator<Item = &'n Name>,
        removed: impl IntoIterator<Item = &'n Name>,
    ) -> Result<(), BookError> {
        let added = added.into_iter().map(|name| (name.as_str(), true));
        let mut changes: Vec<(&str, bool)> =
            added.chain(removed.into_iter().map(|name| (name.as_str(), false))).collect();
        changes.sort_unstable();
        let mut rest = changes.as_slice();
        while let Some((first, _)) = rest.first() {
            let row = self.row_of(first)?;
            let end = row.as_ref().map_or(Ok(None), |row| self.after(&row.first))?;
            let here = rest.partition_point(|(name, _)| end.as_deref().is_none_or(|end| *name < end));
            let known = row.as_ref().map_or("", |row| row.names.as_str());
            let mut names = merged(known, rest.get(..here).unwrap_or_default());
            // Rows with few names would become many rows.
            if names.len() < LEAST
                && let Some(next) = end.map(|end| self.row_of(&end)).transpose()?.flatten()
            {
                names.push_str(&next.names);
                self.delete(next.id)?;
            }
            self.write(row.map(|row| row.id), &names)?;
            rest = rest.get(here..).unwrap_or_default();
        }
        Ok(())
    }

    /// The row that a name is in, or would be.
    fn row_of(&self, name: &str) -> Result<Option<Row>, BookError> {
        let of = |query: &str, name: &str| -> Result<Option<Row>, BookError> {
            let mut query = self.connection.prepare_cached(query)?;
            let read = |row: &rusqlite::Row<'_>| Ok(Row { id: row.get(0)?, first: row.get(1)?, names: row.get(2)? });
            Ok(query.query_row(params![self.number, self.kind as i64, name], read).optional()?)
        };
        let before = "SELECT id, first, names FROM name_lists WHERE number = ?1 AND kind = ?2 AND first <= ?3 \
                      ORDER BY first DESC LIMIT 1";
        let after = "SELECT id, first, names FROM name_lists WHERE number = ?1 AND kind = ?2 AND first > ?3 \
                     ORDER BY first LIMIT 1";
        of(before, name)?.map_or_else(|| of(after, name), |row| Ok(Some(row)))
    }

    /// Where the row after this one begins.
    fn after(&self, first: &str) -> Result<Option<String>, BookError> {
        let mut query = self.connection.prepare_cached(
            "SELECT first FROM name_lists WHERE number = ?1 AND kind = ?2 AND first > ?3 ORDER BY first LIMIT 1",
        )?;
        Ok(query.query_row(params![self.number, self.kind as i64, first], |row| row.get(0)).optional()?)
    }

    /// Puts names in the place of a row, or of none: in one row, or in several if they are many.
    fn write(&self, mut id: Option<i64>, names: &str) -> Result<(), BookError> {
        let mut update =
            self.connection.prepare_cached("UPDATE name_lists SET first = ?2, count = ?3, names = ?4 WHERE id = ?1")?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO name_lists (number, kind, first, count, names) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        let mut rest = names;
        while !rest.is_empty() {
            let (names, after) = rest.split_at(if rest.len() <= MOST { rest.len() } else { end_of_line(rest, FILL) });
            let first = names.lines().next().unwrap_or_default();
            let count = names.lines().count() as i64;
            match id.take() {
                Some(id) => update.execute(params![id, first, count, names])?,
                None => insert.execute(params![self.number, self.kind as i64, first, count, names])?,
            };
            rest = after;
        }
        id.map_or(Ok(()), |id| self.delete(id))
    }

    fn delete(&self, id: i64) -> Result<(), BookError> {
        self.connection.prepare_cached("DELETE FROM name_lists WHERE id = ?1")?.execute([id])?;
        Ok(())
    }
}

/// Names with those that come and without those that go. One that does both goes.
fn merged(known: &str, changes: &[(&str, bool)]) -> String {
    let octets: usize = changes.iter().map(|(name, _)| name.len() + 1).sum();
    let mut names = String::with_capacity(known.len() + octets);
    let mut known = known.lines().peekable();
    let mut changes = changes.iter().copied().peekable();
    loop {
        let before_change = |name: &&str| changes.peek().is_none_or(|(change, _)| name < change);
        let (name, stays) = match known.next_if(before_change) {
            Some(name) => (name, true),
            None => {
                let Some((name, comes)) = changes.next() else { return names };
                while changes.next_if(|(next, _)| *next == name).is_some() {}
                known.next_if_eq(&name);
                (name, comes)
            }
        };
        if stays {
            names.push_str(name);
            names.push('\n');
        }
    }
}

/// After the last line that ends within so many octets, or after the first.
fn end_of_line(names: &str, octets: usize) -> usize {
    let octets = names.as_bytes().get(..octets).unwrap_or(names.as_bytes());
    let end = octets.iter().rposition(|octet| *octet == b'\n').map(|end| end + 1);
    end.or_else(|| names.find('\n').map(|end| end + 1)).unwrap_or(names.len())
}

/// Octets of a new row: two of them fill a page of 4,096 octets.
const FILL: usize = 1900;

/// A row of more octets is split.
const MOST: usize = 3800;

/// A row of fewer takes in the next one.
const LEAST: usize = 400;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};
    use rusqlite::Connection;

    use super::*;
    use crate::book::{Book, schema};

    /// In no order, some beginning with others, and long enough for several rows.
    fn name(number: u16) -> Name {
        let scattered = u32::from(number).wrapping_mul(40_503) & 0xfff;
        Name::parse(&format!("n{scattered:x}.{}.example", "long-label".repeat(usize::from(number) % 5 + 1))).unwrap()
    }

    fn read(names: &Names<'_>) -> Vec<String> {
        let mut read = Vec::new();
        names
            .read(|name| {
                read.push(name.to_owned());
                Ok(())
            })
            .unwrap();
        read
    }

    fn check(connection: &Connection) {
        let mut query = connection.prepare("SELECT first, count, names FROM name_lists").unwrap();
        let mut rows = query.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let (first, count, names): (String, i64, String) =
                (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
            let lines: Vec<&str> = names.lines().collect();
            assert_eq!((lines[0], lines.len() as i64), (first.as_str(), count));
            assert!(names.ends_with('\n') && names.len() <= MOST && lines.is_sorted());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn they_are_a_set(batches in vec((vec(0..1000_u16, 0..400), vec(0..1000_u16, 0..400)), 1..8)) {
            let folder = tempfile::tempdir().unwrap();
            drop(Book::open(folder.path()).unwrap());
            let connection = schema::open(&folder.path().join("book.sqlite")).unwrap();
            connection.execute("INSERT INTO orders VALUES (1, 'a', 's', '', 0, NULL), (2, 'b', 's', '', 0, NULL)", []).unwrap();
            let names = Names::new(&connection, 1, Kind::Listed);
            let neighbour = Names::new(&connection, 1, Kind::Except);
            let other = [name(7)];
            neighbour.change(&other, []).unwrap();
            Names::new(&connection, 2, Kind::Listed).change(&other, []).unwrap();
            let mut expected = BTreeSet::new();
            for (come, go) in batches {
                let come: BTreeSet<Name> = come.into_iter().map(name).filter(|name| !expected.contains(name)).collect();
                let go: BTreeSet<Name> = go.into_iter().map(name).filter(|name| expected.contains(name)).collect();
                names.change(&come, &go).unwrap();
                expected.extend(come);
                expected.retain(|name| !go.contains(name));
                check(&connection);
                let read = read(&names);
                prop_assert_eq!(&read, &expected.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>());
                prop_assert_eq!(names.count().unwrap(), expected.len() as u64);
                let asked: Vec<Name> = (0..1000).step_by(7).map(name).collect();
                let mut answers = 0;
                names.look_up(asked.iter(), |name, is_there| {
                    answers += 1;
                    assert_eq!(is_there, expected.contains(name), "{name}");
                }).unwrap();
                prop_assert_eq!(answers, asked.len());
            }
            prop_assert_eq!(super::tests::read(&neighbour), [other[0].as_str()]);
            let rows: i64 = connection.query_row("SELECT count(*) FROM name_lists", [], |row| row.get(0)).unwrap();
            let octets: usize = expected.iter().map(|name| name.as_str().len() + 1).sum();
            prop_assert!(rows as usize <= 4 + octets / LEAST * 2, "{} rows for {} octets", rows, octets);
        }
    }

    #[test]
    fn one_that_comes_and_goes_goes() {
        let changes = [("a", false), ("b", false), ("b", true), ("c", true), ("e", true)];
        assert_eq!(merged("a\nb\nd\n", &changes), "c\nd\ne\n");
        assert_eq!(merged("", &[("b", false), ("b", true)]), "");
        assert_eq!(end_of_line("abc\ndef\n", 5), 4);
        assert_eq!(end_of_line("abc\ndef\n", 2), 4);
        assert_eq!(end_of_line("abc\ndef\n", 100), 8);
    }
}
