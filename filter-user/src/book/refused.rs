//! How much the history tells of rows that feeds refuse: it cannot be shortened, and a feed that has other bad rows at
//! each reading must not fill the disk.
//!
//! State: by feed, the rows of this day (UTC) that were told, and the number and the hash of those that were not. A
//! restart begins anew.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use crate::feed::Refusal;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told {
    day: Option<Date>,
    feeds: BTreeMap<String, Feed>,
}

#[derive(Debug, Default)]
struct Feed {
    /// Rows told today.
    rows: usize,
    rest: Rest,
    /// When a rest was last told by itself.
    told: Option<Instant>,
}

/// Rows that are not told one by one.
struct Rest {
    count: u64,
    hash: Context,
}

impl fmt::Debug for Rest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Rest").field(&self.count).finish()
    }
}

impl Default for Rest {
    fn default() -> Self {
        Self { count: 0, hash: Context::new(&SHA256) }
    }
}

impl Told {
    /// What an entry tells of rows that were refused; `None` where it is none, or only counted for today.
    pub(super) fn refused<'r>(&mut self, feed: &str, refusals: impl IntoIterator<Item = &'r Refusal>) -> Option<Value> {
        self.refused_on(Timestamp::now().to_zoned(TimeZone::UTC).date(), feed, refusals)
    }

    fn refused_on<'r>(
        &mut self,
        day: Date,
        feed: &str,
        refusals: impl IntoIterator<Item = &'r Refusal>,
    ) -> Option<Value> {
        if self.day.replace(day) != Some(day) {
            self.feeds.values_mut().for_each(|feed| feed.rows = 0);
        }
        let of_feed = self.feeds.entry(feed.to_owned()).or_default();
        let room = ROWS.min(ROWS_A_DAY - of_feed.rows);
        let mut refusals = refusals.into_iter();
        let rows: Vec<Value> = refusals.by_ref().take(room).map(row).collect();
        refusals.for_each(|refusal| of_feed.rest.add(&row(refusal)));
        if rows.is_empty() {
            return None;
        }
        of_feed.rows += rows.len();
        let mut detail = json!({"feed": feed, "rows": rows});
        of_feed.rest.take_into(&mut detail);
        Some(detail)
    }

    /// What is to be told of the rest: `all` of it, or of the feeds of which that was told long ago.
    pub(super) fn omitted(&mut self, all: bool) -> Vec<Value> {
        let mut told = Vec::new();
        for (name, feed) in &mut self.feeds {
            let is_due = all || feed.told.is_none_or(|told| told.elapsed() >= REST_EVERY);
            if feed.rest.count > 0 && is_due {
                let mut detail = json!({"feed": name, "rows": []});
                feed.rest.take_into(&mut detail);
                feed.told = Some(Instant::now());
                told.push(detail);
            }
        }
        told
    }
}

impl Rest {
    fn add(&mut self, row: &Value) {
        self.count += 1;
        self.hash.update(format!("{row}\n").as_bytes());
    }

    fn take_into(&mut self, detail: &mut Value) {
        if self.count > 0 {
            let Self { count, hash } = std::mem::take(self);
            detail["more"] = count.into();
            let hash = hash.finish();
            detail["sha256"] = hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect::<String>().into();
        }
    }
}

fn row(refusal: &Refusal) -> Value {
    json!({"file": refusal.file, "line": refusal.line, "text": refusal.text, "why": refusal.why})
}

/// Rows that an entry tells one by one.
const ROWS: usize = 1000;

/// Rows of a feed that are told one by one in a day.
const ROWS_A_DAY: usize = 5000;

/// How often the rest of a feed's rows is told.
const REST_EVERY: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_that_is_always_wrong_has_a_bound_each_day() {
        let mut told = Told::default();
        let rows = |count: u64| -> Vec<Refusal> {
            (1..=count).map(|line| Refusal::new(&"/f".into(), line, "a b", "holds a space")).collect()
        };
        let day: Date = "2026-11-28".parse().unwrap();
        let mut lines = 0;
        for _ in 0..7 {
            let detail = told.refused_on(day, "f", &rows(990));
            lines += detail.map_or(0, |detail| detail["rows"].as_array().unwrap().len());
        }
        assert_eq!(lines, 5000);
        // Of 6930, 5000 were told; the sixth time told of 940 more, and the last of none.
        let rest = told.omitted(false);
        assert_eq!((rest.len(), &rest[0]["feed"], &rest[0]["more"]), (1, &json!("f"), &json!(990)));
        let text: String = rows(990).iter().map(|refusal| format!("{}\n", row(refusal))).collect();
        assert_eq!(rest[0]["sha256"], crate::book::chain::Hash::of(&text).to_string());
        assert_eq!(told.refused_on(day, "f", &rows(3)), None);
        assert_eq!(told.omitted(false), Vec::<Value>::new());
        assert_eq!(told.omitted(true)[0]["more"], 3);
        // Another feed has its own bound, and each has it anew the next day.
        assert_eq!(told.refused_on(day, "g", &rows(1)).unwrap()["rows"].as_array().unwrap().len(), 1);
        let next = told.refused_on(day.tomorrow().unwrap(), "f", &rows(1001)).unwrap();
        assert_eq!((next["rows"].as_array().unwrap().len(), &next["more"]), (1000, &json!(1)));
    }
}
