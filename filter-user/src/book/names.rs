//! The names of orders, many to a row: a row for each would take a million rows for a million names, and seconds.
//!
//! A row of `name_lists` holds names in order, each with its LF, and begins with `first`; all names of the same order
//! and kind in rows with a greater `first` are greater. What would change many rows waits beside them, and whatever
//! asks for names finds it done: see [`waiting`].

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use self::waiting::FOLDED;
use super::{
    BookError,
    rows::{Kind, damaged},
};
use crate::name::Name;

mod waiting;

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
    names: String,
}

impl<'a> Names<'a> {
    pub(super) fn new(connection: &'a Connection, number: i64, kind: Kind) -> Self {
        Self { connection, number, kind }
    }

    /// How many there are.
    pub(super) fn count(&self) -> Result<u64, BookError> {
        let mut query = self.connection.prepare_cached(
            "SELECT (SELECT coalesce(sum(count), 0) FROM name_lists WHERE number = ?1 AND kind = ?2) \
             + (SELECT coalesce(sum(more), 0) FROM name_changes WHERE number = ?1 AND kind = ?2)",
        )?;
        Ok(query.query_row(params![self.number, self.kind as i64], |row| row.get::<_, i64>(0))? as u64)
    }

    /// Calls `each` for every name, in order.
    pub(super) fn read(&self, mut each: impl FnMut(&str) -> Result<(), BookError>) -> Result<(), BookError> {
        let waiting = self.waiting()?;
        let waiting: Vec<(&str, bool)> = waiting.iter().map(|(name, comes)| (name.as_str(), *comes)).collect();
        let mut rest = waiting.as_slice();
        let mut query = self
            .connection
            .prepare_cached("SELECT names FROM name_lists WHERE number = ?1 AND kind = ?2 ORDER BY first")?;
        let mut rows = query.query(params![self.number, self.kind as i64])?;
        while let Some(row) = rows.next()? {
            let known = row.get_ref(0)?.as_str().map_err(damaged)?;
            let last = known.lines().next_back().unwrap_or_default();
            let (here, after) = rest.split_at(rest.partition_point(|(name, _)| *name <= last));
            rest = after;
            match here {
                [] => known.lines().try_for_each(&mut each)?,
                changes => merged(known, changes).lines().try_for_each(&mut each)?,
            }
        }
        merged("", rest).lines().try_for_each(each)
    }

    /// Calls `each` for every one of `names`, in order, with whether it is there.
    pub(super) fn look_up<'n>(
        &self,
        names: impl Iterator<Item = &'n Name>,
        mut each: impl FnMut(&'n Name, bool),
    ) -> Result<(), BookError> {
        let mut names: Vec<&Name> = names.collect();
        if names.is_empty() {
            return Ok(());
        }
        names.sort_unstable();
        let waiting = if names.len() > FEW { self.waiting()? } else { self.waiting_of(&names)? };
        let mut rest = names.as_slice();
        while let Some(first) = rest.first() {
            let (row, end) = self.around(first.as_str())?;
            let (here, after) =
                rest.split_at(rest.partition_point(|name| end.as_deref().is_none_or(|end| name.as_str() < end)));
            rest = after;
            let mut lines = row.as_ref().map_or("", |row| row.names.as_str()).lines().peekable();
            for name in here {
                while lines.next_if(|line| *line < name.as_str()).is_some() {}
                let is_in_row = lines.peek() == Some(&name.as_str());
                each(name, waiting.get(name.as_str()).copied().unwrap_or(is_in_row));
            }
        }
        Ok(())
    }

    /// Adds names that are not there, and takes names out that are; none does both.
    pub(super) fn change<'n>(
        &self,
        added: impl IntoIterator<Item = &'n Name>,
        removed: impl IntoIterator<Item = &'n Name>,
    ) -> Result<(), BookError> {
        let added = added.into_iter().map(|name| (name.as_str(), true));
        let mut changes: Vec<(&str, bool)> =
            added.chain(removed.into_iter().map(|name| (name.as_str(), false))).collect();
        changes.sort_unstable();
        if changes.is_empty() {
            return Ok(());
        }
        let waits = self.waits()?;
        if changes.len() <= MANY && (waits > 0 || changes.len() > FEW && self.has_rows_over(FEW)?) {
            self.append(&changes)?;
            // What waits has a bound: the oldest makes room for what comes.
            let mut over = (waits + changes.len()).saturating_sub(MANY);
            while over > 0 {
                over = over.saturating_sub(self.fold_oldest()?);
            }
            return Ok(());
        }
        let waiting = self.take_waiting()?;
        if waiting.is_empty() {
            return self.write_changes(&changes);
        }
        let mut all: BTreeMap<&str, bool> = waiting.iter().map(|(name, comes)| (name.as_str(), *comes)).collect();
        all.extend(changes);
        self.write_changes(&all.into_iter().collect::<Vec<_>>())
    }

    /// Brings changes, in order and each name once, into the rows.
    fn write_changes(&self, changes: &[(&str, bool)]) -> Result<(), BookError> {
        let mut rest = changes;
        while let Some((first, _)) = rest.first() {
            let (mut row, mut end) = self.around(first)?;
            if row.is_none()
                && let Some(next) = end.take()
            {
                (row, end) = self.around(&next)?;
            }
            let (here, after) =
                rest.split_at(rest.partition_point(|(name, _)| end.as_deref().is_none_or(|end| *name < end)));
            rest = after;
            let known = row.as_ref().map_or("", |row| row.names.as_str());
            let mut names = merged(known, here);
            // Rows with few names would become many rows.
            if names.len() < LEAST
                && let Some(end) = end
                && let (Some(next), _) = self.around(&end)?
            {
                names.push_str(&next.names);
                self.delete(next.id)?;
            }
            self.write(row.map(|row| row.id), &names)?;
        }
        Ok(())
    }

    /// The row that a name is in, or would be unless it is less than all, and where the row after that begins.
    fn around(&self, name: &str) -> Result<(Option<Row>, Option<String>), BookError> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, names, next FROM ( \
                 SELECT (SELECT id FROM name_lists WHERE number = ?1 AND kind = ?2 AND first <= ?3 \
                         ORDER BY first DESC LIMIT 1) AS here, \
                        (SELECT first FROM name_lists WHERE number = ?1 AND kind = ?2 AND first > ?3 \
                         ORDER BY first LIMIT 1) AS next \
             ) LEFT JOIN name_lists ON id = here",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let id: Option<i64> = row.get(0)?;
            let here = id.map(|id| Ok::<_, rusqlite::Error>(Row { id, names: row.get(1)? })).transpose()?;
            Ok((here, row.get(2)?))
        };
        Ok(query.query_row(params![self.number, self.kind as i64, name], read)?)
    }

    fn has_rows_over(&self, most: usize) -> Result<bool, BookError> {
        let mut query = self.connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM name_lists WHERE number = ?1 AND kind = ?2 LIMIT ?3)",
        )?;
        let least = most as i64 + 1;
        let found: i64 = query.query_row(params![self.number, self.kind as i64, least], |row| row.get(0))?;
        Ok(found == least)
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

/// Names with those that come and without those that go.
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

/// Changes that go into the rows at once, unless others wait: a few take no longer there than beside them.
const FEW: usize = 16;

/// So many changes go into the rows at once again, since they touch most rows that there are; and so many wait at most.
const MANY: usize = 32 * FOLDED;

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
    use crate::book::Book;

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

    fn waiting(book: &Book) -> usize {
        let sum = "SELECT coalesce(sum(changes), 0) FROM name_changes";
        book.connection.query_row(sum, [], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn they_are_a_set(
            batches in vec((vec(0..4000_u16, 0..1000), vec(0..4000_u16, 0..1000), any::<bool>(), 0..4), 1..16)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut book = Book::open(folder.path()).unwrap();
            let orders = "INSERT INTO orders VALUES (1, 'a', 's', '', 0, NULL), (2, 'b', 's', '', 0, NULL)";
            book.connection.execute(orders, []).unwrap();
            let other = [name(7)];
            Names::new(&book.connection, 1, Kind::Except).change(&other, []).unwrap();
            Names::new(&book.connection, 2, Kind::Listed).change(&other, []).unwrap();
            let mut expected = BTreeSet::new();
            for (mut come, mut go, is_small, folds) in batches {
                if is_small {
                    come.truncate(FEW / 2);
                    go.truncate(FEW / 2);
                }
                let names = Names::new(&book.connection, 1, Kind::Listed);
                let come: BTreeSet<Name> = come.into_iter().map(name).filter(|name| !expected.contains(name)).collect();
                let go: BTreeSet<Name> = go.into_iter().map(name).filter(|name| expected.contains(name)).collect();
                names.change(&come, &go).unwrap();
                expected.extend(come);
                expected.retain(|name| !go.contains(name));
                check(&book.connection);
                prop_assert!(waiting(&book) <= MANY);
                for _ in 0..folds {
                    book.fold_changes().unwrap();
                }
                prop_assert_eq!(book.has_changes_waiting().unwrap(), waiting(&book) > 0);
                let names = Names::new(&book.connection, 1, Kind::Listed);
                let read = read(&names);
                prop_assert_eq!(&read, &expected.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>());
                prop_assert_eq!(names.count().unwrap(), expected.len() as u64);
                let asked: Vec<Name> = (0..4000).step_by(7).map(name).collect();
                let mut answers = 0;
                names.look_up(asked.iter(), |name, is_there| {
                    answers += 1;
                    assert_eq!(is_there, expected.contains(name), "{name}");
                }).unwrap();
                prop_assert_eq!(answers, asked.len());
            }
            while book.has_changes_waiting().unwrap() {
                book.fold_changes().unwrap();
            }
            check(&book.connection);
            prop_assert_eq!(super::tests::read(&Names::new(&book.connection, 1, Kind::Except)), [other[0].as_str()]);
            let names = Names::new(&book.connection, 1, Kind::Listed);
            prop_assert_eq!(super::tests::read(&names).len(), expected.len());
            prop_assert_eq!(names.count().unwrap(), expected.len() as u64);
            let rows: i64 = book.connection.query_row("SELECT count(*) FROM name_lists", [], |row| row.get(0)).unwrap();
            let octets: usize = expected.iter().map(|name| name.as_str().len() + 1).sum();
            prop_assert!(rows as usize <= 4 + octets / LEAST * 2, "{} rows for {} octets", rows, octets);
        }
    }

    #[test]
    fn changes_of_a_million_names_wait() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        book.connection.execute("INSERT INTO orders VALUES (1, 'a', 's', '', 0, NULL)", []).unwrap();
        let all: BTreeSet<Name> = (0..60_000).map(name).collect();
        let (early, late): (Vec<_>, Vec<_>) = all.iter().partition(|name| name.as_str().len() % 7 > 0);
        let change = |book: &Book, come: &[&Name], go: &[&Name]| {
            let names = Names::new(&book.connection, 1, Kind::Listed);
            names.change(come.iter().copied(), go.iter().copied()).unwrap();
            (waiting(book), names.count().unwrap())
        };
        let n = early.len();
        let (some, few) = (late.get(..100).unwrap(), late.get(100..100 + FEW).unwrap());
        assert!(n > MANY);
        // What is new goes into rows of its own, and few go into the rows that there are.
        assert_eq!(change(&book, &early, &[]), (0, n as u64));
        assert_eq!(change(&book, few, &[]), (0, (n + FEW) as u64));
        // More wait, and what comes after these waits, too.
        assert_eq!(change(&book, some, &[]), (100, (n + FEW + 100) as u64));
        assert_eq!(change(&book, &[], &some[..1]), (101, (n + FEW + 99) as u64));
        // Where too much would wait, the oldest row goes at once.
        let (gone, left) = early.split_at(MANY - 50);
        let wait = MANY - 50 + 101 - FOLDED;
        assert_eq!(change(&book, &[], gone), (wait, (n + FEW + 99 - gone.len()) as u64));
        // Another goes whenever there is time.
        book.fold_changes().unwrap();
        assert_eq!(change(&book, &[], &[]), (wait - FOLDED, (n + FEW + 99 - gone.len()) as u64));
        // What is more than may wait goes into the rows with all that waits.
        assert!(left.len() > MANY);
        assert_eq!(change(&book, &[], left), (0, (FEW + 99) as u64));
        let mut expected: Vec<&str> = some.iter().skip(1).chain(few).map(|name| name.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(read(&Names::new(&book.connection, 1, Kind::Listed)), expected);
    }

    #[test]
    fn little_that_comes_one_by_one_waits_in_few_rows() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        book.connection.execute("INSERT INTO orders VALUES (1, 'a', 's', '', 0, NULL)", []).unwrap();
        let all: Vec<Name> = (0..4000).map(name).collect::<BTreeSet<_>>().into_iter().collect();
        let (there, more) = all.split_at(2000);
        let names = |book: &Book, come: &[Name], go: &[Name]| {
            Names::new(&book.connection, 1, Kind::Listed).change(come, go).unwrap();
        };
        names(&book, there, &[]);
        names(&book, more.get(..FEW + 1).unwrap(), &[]);
        // Each comes, goes, and comes again.
        for name in more.iter().skip(FEW + 1).take(2 * FOLDED) {
            let one = std::slice::from_ref(name);
            names(&book, one, &[]);
            names(&book, &[], one);
            names(&book, one, &[]);
        }
        let rows: usize = book.connection.query_row("SELECT count(*) FROM name_changes", [], |row| row.get(0)).unwrap();
        assert_eq!((rows, waiting(&book)), (7, 6 * FOLDED + FEW + 1));
        let expected: Vec<&str> = there.iter().chain(&more[..=FEW + 2 * FOLDED]).map(Name::as_str).collect();
        let listed = Names::new(&book.connection, 1, Kind::Listed);
        assert_eq!(
            (read(&listed), listed.count().unwrap()),
            (expected.iter().map(|name| (*name).to_owned()).collect(), expected.len() as u64)
        );
        for _ in 0..7 {
            book.fold_changes().unwrap();
        }
        assert_eq!((read(&Names::new(&book.connection, 1, Kind::Listed)).len(), waiting(&book)), (expected.len(), 0));
    }

    #[test]
    fn rows_end_with_a_line() {
        assert_eq!(merged("a\nb\nd\n", &[("a", false), ("b", false), ("c", true), ("e", true)]), "c\nd\ne\n");
        assert_eq!(end_of_line("abc\ndef\n", 5), 4);
        assert_eq!(end_of_line("abc\ndef\n", 2), 4);
        assert_eq!(end_of_line("abc\ndef\n", 100), 8);
    }
}
