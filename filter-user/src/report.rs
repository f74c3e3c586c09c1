//! What a provider tells of its orders: who gave them, when each was received, enforced and ended, what it listed, and
//! what it met. Made of the history, so that what is told of a past time can be told again, and be proven.
//!
//! Nothing in it is about clients: the history has nothing, and hits are counted by order alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, ToSpan, civil::Date, tz::Offset};
use serde::Serialize;
use serde_json::Value;

use crate::book::{
    BookError, Head,
    audit::{Audit, AuditError, DayHits, Entry},
};
pub use agree::disagreements;
use story::Story;

mod agree;
pub mod csv;
mod story;
pub mod text;

/// What is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// This order alone.
    pub order: Option<String>,
    /// This time alone.
    pub period: Period,
}

/// From when on, inclusive, and until when, exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// None: from the beginning.
    pub from: Option<Timestamp>,
    /// None: until now.
    pub until: Option<Timestamp>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// When it was made.
    pub made: Timestamp,
    /// What is told is of this time on, inclusive.
    pub from: Option<Timestamp>,
    /// And before this time.
    pub until: Timestamp,
    /// The last entry of the history: `cordon audit verify --head` takes it.
    pub audit_head: Option<String>,
    /// What is wrong with the history, by `cordon audit verify`; nothing, as a rule.
    pub audit_problems: Vec<String>,
    /// What is not known.
    pub unknown: Vec<String>,
    /// The orders that were there in this time, by id.
    pub orders: Vec<OrderReport>,
    /// Rows that feeds were refused in this time.
    pub refused: Vec<Refused>,
}

/// One order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderReport {
    /// Its id.
    pub id: String,
    /// Who ordered.
    pub issuer: String,
    /// Legal basis.
    pub basis: String,
    /// Public reference.
    pub reference: String,
    /// Date of the judgment or decision.
    pub issued: String,
    /// Where it came from: a file, or `cli`.
    pub source: String,
    /// In force from here on, inclusive.
    pub not_before: String,
    /// In force up to here, exclusive, or `none`.
    pub not_after: String,
    /// Action by protocol.
    pub actions: BTreeMap<String, String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// How far each name reaches.
    #[serde(rename = "match")]
    pub reach: String,
    /// `waiting`, `in_force`, `ended`, `revoked`, at the end of the time that is told of.
    pub state: &'static str,
    /// From when it was received to its end; of one that was put again after it was revoked, each time.
    pub terms: Vec<Term>,
    /// How many names it lists.
    pub names_count: u64,
    /// The names, where they are known.
    pub names: Option<BTreeSet<String>>,
    /// Packets for which it decided, and for which it held at all.
    pub hits: Hits,
    /// What became of it, oldest first.
    pub changes: Vec<Changed>,
    /// What guards held of it.
    pub held: Vec<HeldBack>,
    /// When the kernel's tables had no room for all of it, and why.
    pub not_enforced: Vec<Trouble>,
    /// Rows about it that were refused.
    pub refused: Vec<Refused>,
}

/// One time of an order, from its arrival to its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Term {
    /// When it arrived.
    pub received: Option<Timestamp>,
    /// When the kernel's tables had it; none if that is not known, or has not happened.
    pub in_tables: Option<Timestamp>,
    /// Seconds from the one to the other.
    pub seconds: Option<f64>,
    /// The tables had it at that time at the latest.
    pub at_the_latest: bool,
    /// Since when clients met it: it was in the tables, and its time had come.
    pub enforced: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why.
    pub why: Option<String>,
}

/// One change of an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// Number of the entry in the history.
    pub entry: i64,
    /// When it arrived.
    pub received: Timestamp,
    /// The entry's word: `put`, `add`, `remove`, `extend`, `revoke`, `approve`, `release`.
    pub op: String,
    /// Where it came from.
    pub source: String,
    /// Who gave it, where that is known.
    pub by: Option<String>,
    /// What changed, in words.
    pub what: String,
    /// Names that came.
    pub added: u64,
    /// Names that went.
    pub removed: u64,
    /// When the kernel's tables had it.
    pub in_tables: Option<Timestamp>,
    /// Seconds from the one to the other.
    pub seconds: Option<f64>,
    /// The tables had it at that time at the latest.
    pub at_the_latest: bool,
}

/// A change that a guard held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldBack {
    /// Its id.
    pub id: String,
    /// Which guard.
    pub guard: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When it should have been enforced.
    pub deadline: Option<Timestamp>,
    /// `approve`, `reject`, `release`, or `unhold`, where its source says it no longer.
    pub outcome: Option<String>,
    /// When.
    pub until: Option<Timestamp>,
    /// By whom.
    pub by: Option<String>,
    /// Its deadline has passed before it was let through.
    pub missed: bool,
}

/// Something that the tables had no room for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: String,
}

/// A row that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// When.
    pub time: Timestamp,
    /// The feed's name; may be empty.
    pub feed: String,
    /// What was read: a file, a folder of lists, `cli`.
    #[serde(skip)]
    pub source: String,
    /// File, or `cli`.
    pub file: String,
    /// Line in it; 0 where the whole is meant.
    pub line: u64,
    /// The offending text.
    pub text: String,
    /// Why.
    pub why: String,
}

/// Packets of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hits {
    /// For which it decided.
    pub decided: u64,
    /// For which it held at all.
    pub concerned: u64,
}

impl Period {
    /// `2026`, `2026-01`, `2026-01-05`, or two days, `2026-01-01..2026-02-01`, of which the second is not part of it.
    /// Days are UTC.
    ///
    /// # Errors
    /// It is something else; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a period, such as 2026, 2026-01, 2026-01-05 or 2026-01-01..2026-02-01 (UTC)");
        let day = |text: &str| text.parse::<Date>().ok().filter(|_| text.len() == 10);
        let (from, until) = match text.split_once("..") {
            Some((from, until)) => (day(from), day(until)),
            None => {
                let from = day(text).or_else(|| day(&format!("{text}-01"))).or_else(|| day(&format!("{text}-01-01")));
                let length = match text.len() {
                    4 => 1.year(),
                    7 => 1.month(),
                    _ => 1.day(),
                };
                (from, from.and_then(|from| from.checked_add(length).ok()))
            }
        };
        let midnight = |day: Date| Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok();
        let (from, until) = (from.and_then(midnight).ok_or_else(wrong)?, until.and_then(midnight).ok_or_else(wrong)?);
        if from >= until {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(Self { from: Some(from), until: Some(until) })
    }

    fn days(&self) -> (i64, i64) {
        // Both are at midnight.
        let day = |time: Timestamp| time.as_second().div_euclid(SECONDS_A_DAY);
        (self.from.map_or(i64::MIN, day), self.until.map_or(i64::MAX, day))
    }
}

/// Makes a report of what the history has.
///
/// # Errors
/// The book cannot be read, or has never had the order.
pub fn make(audit: &Audit, question: &Question, made: Timestamp) -> Result<Report, ReportError> {
    let Question { order: wanted, period } = question;
    let until = period.until.unwrap_or(made).min(made);
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut unchained = None;
    // Which orders each file puts.
    let mut puts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    audit.entries(|entry| {
        if entry.is_chain_start() {
            unchained = Some(entry.number);
        }
        let is_told = entry.time < until;
        let of_order = wanted.as_ref().is_none_or(|wanted| entry.order == wanted || entry.order.is_empty());
        if entry.op == "put" && entry.source.starts_with('/') {
            puts.entry(entry.source.to_owned()).or_default().insert(entry.order.to_owned());
        }
        if entry.op == "refuse" {
            refused.extend(refusals(&entry)?.into_iter().filter(|_| is_told));
        } else if of_order {
            story::tell(&mut stories, &entry, is_told)?;
        }
        Ok(())
    })?;
    stories.retain(|id, _| wanted.as_ref().is_none_or(|wanted| wanted == id));
    if let Some(wanted) = wanted.as_ref().filter(|wanted| !stories.contains_key(*wanted)) {
        return Err(ReportError::Unknown(wanted.clone()));
    }
    let verified = audit.verify(&[])?;
    let counted = audit.counting()?;
    let hits = hits(&audit.hits()?, period);
    let is_now = period.until.is_none_or(|until| until > made);
    let mut report = Report {
        made,
        from: period.from,
        until,
        audit_head: verified.head.map(|head: Head| head.to_string()),
        audit_problems: verified.problems,
        unknown: unknown(period, counted, unchained, made),
        orders: Vec::new(),
        refused: Vec::new(),
    };
    let is_in_time = |refused: &Refused| period.from.is_none_or(|from| from <= refused.time);
    refused.retain(is_in_time);
    for (id, story) in stories {
        let is_known = story.names()[0].known.is_some();
        let names = if is_now && !is_known { audit.names(&id)?.map(|[names, _]| names) } else { None };
        let mut order = story.finish(id, until, names);
        if !order.is_told(period) {
            continue;
        }
        order.hits = hits.get(&order.id).copied().unwrap_or_default();
        // What is refused of a file that puts one order alone, as lists do, is about that one.
        let is_only = |source: &String| puts.get(source).is_some_and(|ids| ids.len() == 1 && ids.contains(&order.id));
        let is_about = |row: &&Refused| row.text == order.id || is_only(&row.source);
        order.refused = refused.iter().filter(is_about).cloned().collect();
        report.orders.push(order);
    }
    if wanted.is_none() {
        report.refused = refused;
    }
    Ok(report)
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The history never had this order.
    #[error("the history has no order {0}")]
    Unknown(String),
    /// The book cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl OrderReport {
    /// Whether the order was there in this time.
    fn is_told(&self, period: &Period) -> bool {
        self.terms.iter().any(|term| {
            let ended_before = matches!((term.ended, period.from), (Some(ended), Some(from)) if ended <= from);
            !ended_before && term.received.is_some()
        })
    }
}

fn refusals(entry: &Entry<'_>) -> Result<Vec<Refused>, BookError> {
    let detail = entry.detail()?;
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| Refused {
        time: entry.time,
        feed: text(&detail, "feed"),
        source: entry.source.to_owned(),
        file: text(row, "file"),
        line: row["line"].as_u64().unwrap_or(0),
        text: text(row, "text"),
        why: text(row, "why"),
    };
    let mut rows: Vec<Refused> = detail["rows"].as_array().into_iter().flatten().map(row).collect();
    if let Some(more) = detail["more"].as_u64() {
        let (feed, source) = (text(&detail, "feed"), entry.source.to_owned());
        let why = format!("{more} more rows were refused, and are not told one by one");
        rows.push(Refused { time: entry.time, feed, file: source.clone(), source, line: 0, text: String::new(), why });
    }
    Ok(rows)
}

fn hits(days: &[DayHits], period: &Period) -> BTreeMap<String, Hits> {
    let (first, end) = period.days();
    let mut hits: BTreeMap<String, Hits> = BTreeMap::new();
    for day in days.iter().filter(|day| (first..end).contains(&day.day)) {
        let sum = hits.entry(day.order.clone()).or_default();
        sum.decided += day.decided;
        sum.concerned += day.concerned;
    }
    hits
}

/// What cannot be told, so that nobody takes it for nothing.
fn unknown(
    period: &Period,
    counted: Option<(Timestamp, Timestamp)>,
    unchained: Option<i64>,
    made: Timestamp,
) -> Vec<String> {
    let mut unknown = Vec::new();
    match counted {
        None => unknown.push("hits: none were counted yet".to_owned()),
        Some((since, looked)) => {
            if period.from.is_none_or(|from| from < since) {
                unknown.push(format!("hits: before {since:.0} none were written down"));
            }
            if period.until.is_none_or(|until| looked < until.min(made)) {
                unknown.push(format!("hits: after {looked:.0} none are written down yet"));
            }
        }
    }
    if let Some(entry) = unchained {
        unknown.push(format!(
            "the history before entry {entry} was kept by an earlier version, which did not write down when the \
             kernel's tables had an order, nor what was refused"
        ));
    }
    unknown
}

const SECONDS_A_DAY: i64 = 86_400;

#[cfg(test)]
mod tests;
