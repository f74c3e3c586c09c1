//! What orders met, day by day, without any client.
//!
//! The kernel counts by slot, from when its tables were made; what comes here is what all counters of an order say
//! together. Of that, what is more than at the last look belongs to the day of this look.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior::Immediate, params};

use super::{Book, BookError, audit::DayHits, rows};
use crate::control::api::OrderHits;

impl Book {
    /// Writes down what orders have met since the last look. `totals` is what the counters say; `anew`: the kernel's
    /// have begun anew since, so that what they say was counted before.
    ///
    /// # Errors
    /// Nothing was written; the next look makes up for it.
    pub(crate) fn count(&mut self, totals: &[OrderHits], anew: bool, now: Timestamp) -> Result<(), BookError> {
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        // At the first look, nobody knows when the counters counted that.
        let anew = anew || counting(&transaction)?.is_none();
        if anew {
            transaction.execute("DELETE FROM counted", [])?;
        }
        let known = counted(&transaction)?;
        let day = now.as_second().div_euclid(SECONDS_A_DAY);
        for OrderHits { order, decided, concerned } in totals {
            let before = known.get(order).copied().unwrap_or_default();
            if before == (*decided, *concerned) {
                continue;
            }
            // Counters that were lost begin at nothing.
            let is_lost = *decided < before.0 || *concerned < before.1;
            let (base, now) = (if is_lost { (0, 0) } else { before }, (*decided, *concerned));
            if !anew {
                transaction.prepare_cached(ADD)?.execute(params![
                    order,
                    day,
                    (now.0 - base.0) as i64,
                    (now.1 - base.1) as i64
                ])?;
            }
            transaction.prepare_cached(COUNTED)?.execute(params![order, now.0 as i64, now.1 as i64])?;
        }
        transaction.execute(LOOKED, [now.as_microsecond()])?;
        Ok(transaction.commit()?)
    }
}

fn counted(connection: &Connection) -> Result<HashMap<String, (u64, u64)>, BookError> {
    let mut query = connection.prepare_cached("SELECT id, decided, concerned FROM counted")?;
    let rows =
        query.query_map([], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Since when hits are written down, and when that was done last.
pub(super) fn counting(connection: &Connection) -> Result<Option<(Timestamp, Timestamp)>, BookError> {
    let times: Option<(i64, i64)> = connection
        .query_row("SELECT since, looked FROM counting", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    times.map(|(since, looked)| Ok((rows::time(since)?, rows::time(looked)?))).transpose()
}

/// What is written down.
pub(super) fn by_day(connection: &Connection) -> Result<Vec<DayHits>, BookError> {
    let mut query = connection.prepare("SELECT id, day, decided, concerned FROM hits ORDER BY id, day")?;
    let rows = query.query_map([], |row| {
        Ok(DayHits {
            order: row.get(0)?,
            day: row.get(1)?,
            decided: row.get::<_, i64>(2)? as u64,
            concerned: row.get::<_, i64>(3)? as u64,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

const ADD: &str = "
INSERT INTO hits (id, day, decided, concerned) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (id, day) DO UPDATE SET decided = decided + ?3, concerned = concerned + ?4";

const COUNTED: &str = "INSERT OR REPLACE INTO counted (id, decided, concerned) VALUES (?1, ?2, ?3)";

const LOOKED: &str = "
INSERT INTO counting (one, since, looked) VALUES (1, ?1, ?1) ON CONFLICT (one) DO UPDATE SET looked = ?1";

const SECONDS_A_DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_counted_once_whatever_becomes_of_the_counters() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let look = |book: &mut Book, text: &str, counters: &[(&str, u64, u64)], anew: bool| {
            let line = |(order, decided, concerned): &(&str, u64, u64)| OrderHits {
                order: (*order).to_owned(),
                decided: *decided,
                concerned: *concerned,
            };
            let totals: Vec<OrderHits> = counters.iter().map(line).collect();
            book.count(&totals, anew, time(text)).unwrap();
        };
        assert_eq!(counting(&book.connection).unwrap(), None);
        // What was there before the first look belongs to no day.
        look(&mut book, "2026-01-01T00:00:00Z", &[("a", 5, 6)], false);
        look(&mut book, "2026-01-01T23:59:00Z", &[("a", 7, 9), ("b", 1, 1)], false);
        look(&mut book, "2026-01-02T00:00:00Z", &[("a", 8, 10), ("b", 1, 1)], false);
        let mut book = Book::open(folder.path()).unwrap();
        look(&mut book, "2026-01-02T01:00:00Z", &[("a", 9, 11), ("b", 1, 1)], false);
        // The machine was started anew: of a, four are kept of a slot that it had before.
        look(&mut book, "2026-01-03T00:00:00Z", &[("a", 4, 4)], true);
        look(&mut book, "2026-01-03T00:01:00Z", &[("a", 6, 6), ("b", 2, 2)], false);
        // What was kept is lost, too.
        look(&mut book, "2026-01-03T00:02:00Z", &[("a", 1, 1), ("b", 2, 2)], false);
        let days: Vec<_> = by_day(&book.connection)
            .unwrap()
            .into_iter()
            .map(|hits| (hits.order, hits.day - 20_454, hits.decided, hits.concerned))
            .collect();
        let day = |order: &str, day, decided, concerned| (order.to_owned(), day, decided, concerned);
        assert_eq!(
            days,
            [day("a", 0, 2, 3), day("a", 1, 2, 2), day("a", 2, 3, 3), day("b", 0, 1, 1), day("b", 2, 2, 2),]
        );
        let (since, looked) = counting(&book.connection).unwrap().unwrap();
        assert_eq!((since, looked), (time("2026-01-01T00:00:00Z"), time("2026-01-03T00:02:00Z")));
    }
}
