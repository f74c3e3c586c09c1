//! One order's way through the history, entry by entry.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{Changed, HeldBack, Hits, OrderReport, Term, Trouble};
use crate::book::{
    BookError,
    audit::{AuditError, Entry},
};

/// What is known of an order so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    terms: Value,
    source: String,
    changes: Vec<Changed>,
    spells: Vec<Spell>,
    held: Vec<HeldBack>,
    not_enforced: Vec<Trouble>,
    names: Names,
    except: Names,
    /// When the tables lost the order before the history had that it ended.
    lifted: Option<Timestamp>,
}

/// Names, as entries make them come and go.
#[derive(Debug)]
pub(super) struct Names {
    /// `None` once an entry has told only how many came or went.
    pub(super) known: Option<BTreeSet<String>>,
    pub(super) count: u64,
}

/// From a put to a revocation: where they stand among the changes.
#[derive(Clone, Copy, Debug)]
struct Spell {
    put: usize,
    revoke: Option<usize>,
    /// Its start and end by the order, as they were when it was revoked.
    dates: Option<Dates>,
}

type Dates = [Option<Timestamp>; 2];

/// Takes an entry in. Of those that come after the time that is told of, only when the tables had what came before.
pub(super) fn tell(stories: &mut BTreeMap<String, Story>, entry: &Entry<'_>, is_told: bool) -> Result<(), AuditError> {
    if entry.order.is_empty() {
        // What is held of a file as a whole is held of each of its orders.
        if is_told && matches!(entry.op, "hold" | "unhold" | "approve" | "reject" | "release") {
            let detail = entry.detail()?;
            let ids: Vec<&str> = detail["orders"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (id, story) in stories.iter_mut() {
                if ids.contains(&id.as_str()) || story.has_held(&detail) {
                    story.hold(entry, &detail);
                }
            }
        }
        return Ok(());
    }
    match entry.op {
        "ready" | "enforce" | "lift" => {
            if let Some(story) = stories.get_mut(entry.order) {
                story.in_tables(entry, &entry.detail()?);
            }
        }
        _ if !is_told => {}
        _ => stories.entry(entry.order.to_owned()).or_default().entry(entry)?,
    }
    Ok(())
}

impl Default for Names {
    fn default() -> Self {
        Self { known: Some(BTreeSet::new()), count: 0 }
    }
}

impl Names {
    /// Takes in what came and went, and gives how many names that were.
    fn change(&mut self, names: &Value) -> (u64, u64) {
        let (added, removed) = (&names["added"], &names["removed"]);
        let counts = (how_many(added), how_many(removed));
        self.count = (self.count + counts.0).saturating_sub(counts.1);
        let is_listed = |names: &Value| names.is_null() || names.is_array();
        let texts = |names: &Value| -> Vec<String> {
            names.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        match &mut self.known {
            Some(known) if is_listed(added) && is_listed(removed) => {
                known.extend(texts(added));
                texts(removed).iter().for_each(|name| _ = known.remove(name));
            }
            _ => self.known = None,
        }
        counts
    }
}

impl Story {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), BookError> {
        let detail = entry.detail()?;
        match entry.op {
            "put" => self.put(entry, &detail),
            "add" | "remove" => {
                let (added, removed) = self.names.change(&detail["names"]);
                self.change(entry, &detail, &count_text(added, removed), (added, removed));
            }
            "extend" => {
                self.terms["not_after"] = detail["not_after"].clone();
                let text = |field: &str| detail[field].as_str().unwrap_or_default().to_owned();
                let what = format!("its end: {}, before {}", text("not_after"), text("from"));
                self.change(entry, &detail, &what, (0, 0));
            }
            "revoke" => {
                let why = detail["why"].as_str().unwrap_or_default();
                self.change(entry, &detail, &format!("ended: {why}"), (0, 0));
                self.end();
            }
            "approve" | "release" => {
                self.hold(entry, &detail);
                let names = self.names.change(&detail["names"]);
                self.except.change(&detail["except"]);
                if let terms @ Value::Object(_) = &detail["terms"] {
                    self.terms = terms.clone();
                }
                self.change(entry, &detail, &change_text(&detail, names), names);
            }
            "hold" | "unhold" | "reject" => self.hold(entry, &detail),
            "not_enforced" => {
                let why = detail["why"].as_str().unwrap_or_default().to_owned();
                self.not_enforced.push(Trouble { since: entry.time, why });
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, entry: &Entry<'_>, detail: &Value) {
        if let terms @ Value::Object(_) = &detail["terms"] {
            self.terms = terms.clone();
        }
        entry.source.clone_into(&mut self.source);
        let begins = self.spells.last().is_none_or(|spell| spell.revoke.is_some());
        let names = self.names.change(&detail["names"]);
        self.except.change(&detail["except"]);
        let what = if begins { "came".to_owned() } else { change_text(detail, names) };
        self.change(entry, detail, &what, names);
        if begins {
            self.spells.push(Spell { put: self.changes.len() - 1, revoke: None, dates: None });
            self.lifted = None;
        }
    }

    fn change(&mut self, entry: &Entry<'_>, detail: &Value, what: &str, (added, removed): (u64, u64)) {
        self.changes.push(Changed {
            entry: entry.number,
            received: time(&detail["arrived"]).unwrap_or(entry.time),
            op: entry.op.to_owned(),
            source: entry.source.to_owned(),
            by: by(detail),
            what: what.to_owned(),
            added,
            removed,
            in_tables: None,
            seconds: None,
            at_the_latest: false,
        });
    }

    /// Start and end, by the order as it is; no end is none.
    fn dates(&self) -> Dates {
        [time(&self.terms["not_before"]), time(&self.terms["not_after"])]
    }

    fn end(&mut self) {
        let (last, dates) = (self.changes.len() - 1, self.dates());
        let Some(spell) = self.spells.last_mut() else { return };
        (spell.revoke, spell.dates) = (Some(last), Some(dates));
        // The kernel does not wait for the book.
        if let (Some(lifted), Some(revoke)) = (self.lifted.take(), self.changes.last_mut()) {
            note(revoke, lifted, false);
        }
    }

    /// The tables have what the history has of the order up to an entry.
    fn in_tables(&mut self, entry: &Entry<'_>, detail: &Value) {
        let at = time(&detail["at"]).unwrap_or(entry.time);
        let at_the_latest = detail.get("found").is_some();
        match detail["entry"].as_i64() {
            Some(upto) => {
                let open = self.changes.iter_mut().filter(|change| change.in_tables.is_none() && change.entry <= upto);
                open.for_each(|change| note(change, at, at_the_latest));
            }
            // Only of ends the history is told before it has them.
            None => match self.changes.last_mut().filter(|last| last.op == "revoke") {
                Some(revoke) if revoke.in_tables.is_none() => note(revoke, at, at_the_latest),
                Some(_) => {}
                None => self.lifted = Some(at),
            },
        }
    }

    fn has_held(&self, detail: &Value) -> bool {
        detail["held"].as_str().is_some_and(|id| self.held.iter().any(|held| held.id == id))
    }

    fn hold(&mut self, entry: &Entry<'_>, detail: &Value) {
        let text = |field: &str| detail[field].as_str().unwrap_or_default().to_owned();
        if entry.op == "hold" {
            self.held.push(HeldBack {
                id: text("held"),
                guard: text("guard"),
                why: text("why"),
                since: entry.time,
                deadline: time(&detail["deadline"]),
                outcome: None,
                until: None,
                by: None,
                missed: false,
            });
        } else if let Some(held) =
            self.held.iter_mut().rev().find(|held| held.id == text("held") && held.outcome.is_none())
        {
            held.outcome = Some(entry.op.to_owned());
            held.until = Some(entry.time);
            held.by = by(detail);
        }
    }

    /// Names and exceptions.
    pub(super) fn names(&self) -> [&Names; 2] {
        [&self.names, &self.except]
    }

    pub(super) fn order_terms(&self) -> &Value {
        &self.terms
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.spells.last().is_some_and(|spell| spell.revoke.is_some())
    }

    /// What the report has of it, at this time; `names` if they are known otherwise.
    pub(super) fn finish(self, id: String, until: Timestamp, names: Option<BTreeSet<String>>) -> OrderReport {
        let text = |field: &str| self.terms[field].as_str().unwrap_or_default().to_owned();
        let texts = |field: &Value| -> Vec<String> {
            field.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let [not_before, not_after] = self.dates();
        let state = if self.is_revoked() {
            "revoked"
        } else if not_before.is_some_and(|start| until < start) {
            "waiting"
        } else if not_after.is_some_and(|end| end <= until) {
            "ended"
        } else {
            "in_force"
        };
        let terms = self.spells.iter().map(|spell| self.term(*spell, until)).collect();
        let mut held = self.held;
        for held in &mut held {
            let let_through = held.until.unwrap_or(until);
            let is_dropped = matches!(held.outcome.as_deref(), Some("reject" | "unhold"));
            held.missed = !is_dropped && held.deadline.is_some_and(|deadline| deadline < let_through);
        }
        let actions = self.terms["actions"].as_object().into_iter().flatten();
        let actions = actions.map(|(protocol, action)| (protocol.clone(), action.as_str().unwrap_or_default().into()));
        OrderReport {
            id,
            issuer: text("issuer"),
            basis: text("basis"),
            reference: text("reference"),
            issued: text("issued"),
            source: self.source.clone(),
            not_before: text("not_before"),
            not_after: text("not_after"),
            actions: actions.collect(),
            scopes: texts(&self.terms["scopes"]),
            reach: text("match"),
            state,
            terms,
            names_count: self.names.count,
            names: self.names.known.or(names),
            hits: Hits::default(),
            changes: self.changes,
            held,
            not_enforced: self.not_enforced,
            refused: Vec::new(),
        }
    }

    fn term(&self, spell: Spell, until: Timestamp) -> Term {
        let Some(put) = self.changes.get(spell.put) else { return Term::default() };
        // What the order became when it was put again is nothing to its earlier times.
        let [not_before, not_after] = spell.dates.unwrap_or_else(|| self.dates());
        let enforced = put.in_tables.map(|at| not_before.map_or(at, |start| at.max(start))).filter(|at| *at <= until);
        let over = not_after.filter(|end| *end <= until);
        let (ended, why) = match spell.revoke.and_then(|revoke| self.changes.get(revoke)) {
            // Its own end may have come first.
            Some(revoke) if over.is_none_or(|end| revoke.received < end) => {
                let by = revoke.by.as_ref().map_or(String::new(), |by| format!(", by {by}"));
                let why = revoke.what.trim_start_matches("ended: ");
                (Some(revoke.in_tables.unwrap_or(revoke.received)), Some(format!("revoked{by}: {why}")))
            }
            _ => (over, over.map(|_| "its end".to_owned())),
        };
        Term {
            received: Some(put.received),
            in_tables: put.in_tables,
            seconds: put.seconds,
            at_the_latest: put.at_the_latest,
            enforced,
            ended,
            why,
        }
    }
}

fn note(change: &mut Changed, at: Timestamp, at_the_latest: bool) {
    // An end may be in the kernel before the book has it.
    let seconds = at.duration_since(change.received).as_secs_f64().max(0.0);
    change.in_tables = Some(at);
    change.seconds = Some((seconds * 1000.0).round() / 1000.0);
    change.at_the_latest = at_the_latest;
}

fn by(detail: &Value) -> Option<String> {
    let user = detail["user"].as_str()?;
    Some(match detail["claimed"].as_str() {
        Some(claimed) => format!("{user} ({claimed})"),
        None => user.to_owned(),
    })
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Names are listed, or counted: as `{"count": N}`, and by earlier versions as the number alone.
fn how_many(names: &Value) -> u64 {
    match names {
        Value::Array(names) => names.len() as u64,
        names => names["count"].as_u64().or_else(|| names.as_u64()).unwrap_or(0),
    }
}

fn count_text(added: u64, removed: u64) -> String {
    let part = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let parts = [part(added, "name came", "names came"), part(removed, "name went", "names went")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn change_text(detail: &Value, (added, removed): (u64, u64)) -> String {
    let except = (how_many(&detail["except"]["added"]), how_many(&detail["except"]["removed"]));
    let mut parts = vec![count_text(added, removed)];
    if except.0 > 0 {
        parts.push(format!("exceptions came: {}", except.0));
    }
    if except.1 > 0 {
        parts.push(format!("exceptions went: {}", except.1));
    }
    if detail["terms"].is_object() {
        parts.push("other terms".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}
