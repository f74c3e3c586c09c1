//! What the history is told of the kernel's tables, and of where the filter is. It is told afterwards: nothing waits for
//! it to be written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    enforcer::Kept,
    engine::Engine,
    keeper::{self, CONTROL_SOURCE, Job},
};
use crate::{
    book::{Note, Outcome, Standing, What},
    control::api::OrderState,
    kernel::{Attached, Mode},
    order::Terms,
};

/// What the history does not know yet, and what it knows.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// Orders that have changed since the history was told how they stand in the tables.
    open: BTreeMap<String, Open>,
    /// How they stand, as the history has it. Those that it does not have in the tables are not here.
    told: BTreeMap<String, Standing>,
    /// When the next of them begins or ends; no one does before.
    next: Option<Timestamp>,
    /// The clock was stepped: any of them may have begun or ended.
    is_stepped: bool,
    /// The entry up to which the tables have what the history has of all orders.
    entry: i64,
    /// Orders that are not enforced as they should be, and why, as the history has it.
    failing: BTreeMap<String, String>,
    /// Where the filter is, as the history has it.
    attached: BTreeSet<String>,
    /// The generation that the history has.
    generation: u64,
    notes: Vec<Note>,
}

/// See [`Recorder::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    /// The entry up to which the tables have what the history has of it; 0 where the history does not have it yet.
    entry: i64,
    /// When it changed, where that was not just now.
    at: Option<Timestamp>,
}

impl Recorder {
    /// An order has changed, as the history has it up to this entry.
    pub fn open(&mut self, id: &str, entry: i64) {
        self.open.insert(id.to_owned(), Open { entry, at: None });
    }

    /// The entry up to which the tables have what the history has of all orders.
    pub fn entry(&self) -> i64 {
        self.entry
    }

    /// The clock was stepped, or is believed again.
    pub fn stepped(&mut self) {
        self.is_stepped = true;
    }

    /// Finds the orders that have begun or ended because time went by. `orders` are those in the tables.
    fn look<'t>(&mut self, now: Timestamp, orders: impl Iterator<Item = &'t Terms>) {
        if !self.is_stepped && self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = None;
        for terms in orders {
            let (id, stands) = (&terms.id, standing(terms, now));
            if self.told.get(id).copied() != stands && !self.open.contains_key(id) {
                // To the second, however late it is seen; but a clock that was stepped has taken it there just now.
                let at = match stands {
                    Some(_) => Some(terms.not_before),
                    None => terms.not_after,
                };
                self.open.insert(id.clone(), Open { entry: self.entry, at: at.filter(|_| !self.is_stepped) });
            }
            self.await_next(terms, now);
        }
        self.is_stepped = false;
    }

    /// An order may be the next one that begins or ends.
    fn await_next(&mut self, terms: &Terms, now: Timestamp) {
        let times = [Some(terms.not_before), terms.not_after];
        self.next = times.into_iter().flatten().filter(|time| *time > now).chain(self.next).min();
    }
}

/// How an order that is in the tables stands there; `None`: it is over, and they stop nothing by it.
fn standing(terms: &Terms, now: Timestamp) -> Option<Standing> {
    match keeper::state(terms, now) {
        OrderState::Waiting => Some(Standing::Ready),
        OrderState::InForce => Some(Standing::Enforced),
        _ => None,
    }
}

impl Engine {
    /// Tells what a start found and made, of orders as the history has them up to this entry.
    pub(super) fn record_start(&mut self, entry: i64) {
        let generation = self.generation();
        self.record.entry = entry;
        self.record.generation = generation;
        for (id, why) in self.enforcer.problems.clone() {
            self.note_failing(&id, &why, generation);
            // There may be room for it later.
            self.record.open(&id, entry);
        }
        let start = json!({
            "version": env!("CARGO_PKG_VERSION"), "generation": generation, "orders": self.enforcer.compiled().count(),
            "names": self.enforcer.names(),
        });
        self.record.notes.insert(0, Note::of_daemon("start", start));
        let notes = std::mem::take(&mut self.record.notes);
        let now = self.enforcer.now();
        for Kept { terms, .. } in self.enforcer.compiled().filter_map(|id| self.enforcer.orders.get(id)) {
            if !self.record.failing.contains_key(&terms.id) {
                self.record.told.extend(standing(terms, now).map(|stands| (terms.id.clone(), stands)));
                self.record.await_next(terms, now);
            }
        }
        let standing = self.record.told.clone();
        // Where that cannot be told, nothing is said of it.
        let attached = self.attached();
        self.send(Job::Started { notes, standing, attached, generation, at: Timestamp::now() });
    }

    /// Orders that what was applied has changed. To be called before the changes are made.
    pub(super) fn record_outcomes(&mut self, outcomes: &[Outcome], ended: &[String], entry: i64) {
        self.record.entry = self.record.entry.max(entry);
        for Outcome { order, what, .. } in outcomes {
            let is_changed = match what {
                What::New | What::Changed => true,
                What::Revoked => self.enforcer.is_compiled(order) && !ended.contains(order),
                What::Unchanged | What::RevokedUnknown => false,
            };
            if is_changed {
                self.record.open(order, entry);
            }
        }
    }

    /// Tells what the tables hold since now, after what was done for this reason.
    pub(super) fn record_tables(&mut self, why: &'static str) {
        let generation = self.generation();
        let compiled = self.enforcer.compiled().filter_map(|id| self.enforcer.orders.get(id));
        self.record.look(self.enforcer.now(), compiled.map(|order| &*order.terms));
        // One may have to give its room to another, without a word about it.
        for id in self.enforcer.problems.keys().filter(|id| !self.record.failing.contains_key(*id)) {
            let open = Open { entry: self.record.entry, at: None };
            self.record.open.entry(id.clone()).or_insert(open);
        }
        if generation != self.record.generation || !self.record.open.is_empty() {
            self.record_orders(generation);
            let is_told = self.record.notes.iter().any(|note| note.detail["generation"] == generation);
            if generation != self.record.generation && !is_told {
                self.record.notes.push(Note::of_daemon("tables", json!({"generation": generation, "why": why})));
            }
            self.record.generation = generation;
        }
        if !self.record.notes.is_empty() {
            let notes = std::mem::take(&mut self.record.notes);
            self.send(Job::Notes(notes));
        }
    }

    fn record_orders(&mut self, generation: u64) {
        // While a write has failed, the tables may be anything between two states.
        if self.enforcer.is_torn() {
            return;
        }
        let now = self.enforcer.now();
        for (id, open) in std::mem::take(&mut self.record.open) {
            if let Some(why) = self.enforcer.problems.get(&id).cloned() {
                self.note_failing(&id, &why, generation);
                self.record.open.insert(id, open);
                continue;
            }
            self.record.failing.remove(&id);
            let mut detail = json!({"generation": generation, "at": open.at.unwrap_or_else(Timestamp::now)});
            if open.entry > 0 {
                detail["entry"] = open.entry.into();
            }
            let order = self.enforcer.orders.get(&id).filter(|_| self.enforcer.is_compiled(&id));
            let stands = order.and_then(|order| standing(&order.terms, now));
            if let Some(order) = order {
                self.record.await_next(&order.terms, now);
            }
            let was = match stands {
                Some(stands) => self.record.told.insert(id.clone(), stands),
                None => self.record.told.remove(&id),
            };
            if was.is_some() && stands.is_none() || was == Some(Standing::Enforced) && stands == Some(Standing::Ready) {
                self.record.notes.push(Note::of_daemon("lift", detail.clone()).about(&id));
            }
            if let (Some(stands), Some(order)) = (stands, order) {
                detail["names"] = order.names.into();
                self.record.notes.push(Note::of_daemon(stands.word(), detail).about(&id));
            }
        }
    }

    fn note_failing(&mut self, id: &str, why: &str, generation: u64) {
        if self.record.failing.insert(id.to_owned(), why.to_owned()).as_deref() != Some(why) {
            let note = Note::of_daemon("not_enforced", json!({"generation": generation, "why": why}));
            self.record.notes.push(note.about(id));
        }
    }

    /// The filter is on an interface.
    pub(super) fn record_attached(&mut self, attached: &Attached, by: &Value) {
        let mode = attached.mode.map(Mode::word);
        let detail = json!({"interface": attached.interface, "mode": mode, "program": attached.program});
        self.record.notes.push(note("attach", detail, by));
        self.record.attached.insert(attached.interface.clone());
    }

    /// It was taken off.
    pub(super) fn record_detached(&mut self, interface: &str, by: &Value) {
        self.record.notes.push(note("detach", json!({"interface": interface}), by));
        self.record.attached.remove(interface);
    }

    /// These are the interfaces that the filter is on now. What differs from what was told is told; but who has it taken
    /// off past the daemon tells that, too.
    pub(super) fn record_found(&mut self, attached: BTreeSet<String>) {
        let lost = self.record.attached.difference(&attached).filter(|interface| !self.is_off(interface));
        let lost: Vec<_> = lost.map(|interface| ("detach", interface.clone())).collect();
        let come = attached.difference(&self.record.attached).map(|interface| ("attach", interface.clone()));
        for (op, interface) in lost.into_iter().chain(come) {
            tracing::warn!("{interface}: found {op}ed");
            self.record.notes.push(Note::found(op, &interface, "on a look"));
        }
        self.record.attached = attached;
    }

    fn generation(&self) -> u64 {
        // What cannot be read is as it was, as far as is known.
        self.enforcer.tables().settings().map_or(self.record.generation, |settings| settings.generation)
    }
}

/// What was done by the daemon itself, or by the user whose fields these are.
fn note(op: &'static str, mut detail: Value, by: &Value) -> Note {
    let (Some(fields), Some(by)) = (detail.as_object_mut(), by.as_object()) else { return Note::of_daemon(op, detail) };
    fields.extend(by.clone());
    Note { source: CONTROL_SOURCE.to_owned(), ..Note::of_daemon(op, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::json::RawOrder;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn order(id: &str, from: i64, until: Option<i64>) -> Terms {
        let until = until.map_or("none".to_owned(), |until| time(until).to_string());
        let terms = json!({
            "id": id, "issuer": "Court", "basis": "Law", "reference": "1/25", "issued": "2025-03-28",
            "not_before": time(from), "not_after": until, "protocols": ["dns"], "actions": {"dns": "drop"},
            "scopes": ["all"], "match": "exact",
        });
        serde_json::from_value::<RawOrder>(terms).unwrap().terms().unwrap()
    }

    /// What a look finds: which orders, and since when, where that is not now.
    fn look(recorder: &mut Recorder, now: i64, orders: &[Terms]) -> Vec<(String, Option<i64>)> {
        recorder.look(time(now), orders.iter());
        let open = std::mem::take(&mut recorder.open);
        for terms in orders.iter().filter(|terms| open.contains_key(&terms.id)) {
            match standing(terms, time(now)) {
                Some(stands) => recorder.told.insert(terms.id.clone(), stands),
                None => recorder.told.remove(&terms.id),
            };
        }
        assert!(open.values().all(|open| open.entry == 7), "{open:?}");
        open.into_iter().map(|(id, open)| (id, open.at.map(Timestamp::as_second))).collect()
    }

    #[test]
    fn orders_begin_and_end_in_the_history_at_their_second_whenever_it_is_looked() {
        let orders = [order("a", 10, Some(20)), order("b", 15, None), order("c", 0, Some(15))];
        let mut recorder = Recorder { entry: 7, ..Recorder::default() };
        for terms in &orders {
            recorder.told.extend(standing(terms, time(5)).map(|stands| (terms.id.clone(), stands)));
            recorder.await_next(terms, time(5));
        }
        assert_eq!(recorder.next, Some(time(10)));
        let found = |id: &str, at| (id.to_owned(), Some(at));
        assert_eq!(look(&mut recorder, 9, &orders), []);
        assert_eq!(look(&mut recorder, 12, &orders), [found("a", 10)]);
        assert_eq!(recorder.next, Some(time(15)));
        assert_eq!(look(&mut recorder, 14, &orders), []);
        assert_eq!(look(&mut recorder, 15, &orders), [found("b", 15), found("c", 15)]);
        assert_eq!(look(&mut recorder, 100, &orders), [found("a", 20)]);
        assert_eq!((recorder.next, look(&mut recorder, 1000, &orders)), (None, Vec::new()));
    }

    #[test]
    fn after_a_step_of_the_clock_orders_begin_and_end_now() {
        let orders = [order("a", 10, Some(20))];
        let mut recorder = Recorder { entry: 7, ..Recorder::default() };
        // Over when it was looked first, and in force again by a clock that goes back.
        assert_eq!(look(&mut recorder, 25, &orders), []);
        assert_eq!(look(&mut recorder, 15, &orders), [], "nobody told of a step");
        recorder.stepped();
        assert_eq!(look(&mut recorder, 15, &orders), [("a".to_owned(), None)]);
        assert_eq!((look(&mut recorder, 16, &orders), recorder.next), (Vec::new(), Some(time(20))));
        recorder.stepped();
        assert_eq!(look(&mut recorder, 5, &orders), [("a".to_owned(), None)]);
        assert_eq!(recorder.told, [("a".to_owned(), Standing::Ready)].into());
    }
}
