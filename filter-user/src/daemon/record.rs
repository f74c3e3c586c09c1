//! What the history is told of the kernel's tables, and of where the filter is. It is told afterwards: nothing waits for
//! it to be written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    engine::Engine,
    keeper::{CONTROL_SOURCE, Job},
};
use crate::{
    book::{Note, Outcome, What},
    kernel::{Attached, Mode},
};

/// What the history does not know yet, and what it knows.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// Orders that have changed since the history was told that the tables hold them, or do not any more, and the
    /// entry up to which the tables have what the history has of them; 0 where the history does not have it yet.
    open: BTreeMap<String, i64>,
    /// Orders that are not enforced as they should be, and why, as the history has it.
    failing: BTreeMap<String, String>,
    /// The generation that the history has.
    generation: u64,
    notes: Vec<Note>,
}

impl Recorder {
    /// An order has changed, as the history has it up to this entry.
    pub fn open(&mut self, id: &str, entry: i64) {
        self.open.insert(id.to_owned(), entry);
    }
}

impl Engine {
    /// Tells what a start found and made.
    pub(super) fn record_start(&mut self) {
        let generation = self.generation();
        self.record.generation = generation;
        let standing: BTreeSet<String> = self.enforcer.compiled().map(str::to_owned).collect();
        for (id, why) in self.enforcer.problems.clone() {
            self.note_failing(&id, &why, generation);
            // There may be room for it later.
            self.record.open(&id, 0);
        }
        let start = json!({
            "version": env!("CARGO_PKG_VERSION"), "generation": generation, "orders": standing.len(),
            "names": self.enforcer.names(),
        });
        self.record.notes.insert(0, Note::of_daemon("start", start));
        let notes = std::mem::take(&mut self.record.notes);
        let standing = standing.into_iter().filter(|id| !self.record.failing.contains_key(id)).collect();
        self.send(Job::Started { notes, standing, generation, at: Timestamp::now() });
    }

    /// Orders that what was applied has changed. To be called before the changes are made.
    pub(super) fn record_outcomes(&mut self, outcomes: &[Outcome], ended: &[String], entry: i64) {
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
        let at = Timestamp::now();
        for (id, entry) in std::mem::take(&mut self.record.open) {
            if let Some(why) = self.enforcer.problems.get(&id).cloned() {
                self.note_failing(&id, &why, generation);
                self.record.open(&id, entry);
                continue;
            }
            self.record.failing.remove(&id);
            let mut detail = json!({"generation": generation, "at": at});
            if entry > 0 {
                detail["entry"] = entry.into();
            }
            let order = self.enforcer.orders.get(&id).filter(|_| self.enforcer.is_compiled(&id));
            if let Some(order) = order {
                detail["names"] = order.names.into();
            }
            let note = Note::of_daemon(if order.is_some() { "enforce" } else { "lift" }, detail);
            self.record.notes.push(note.about(&id));
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
    }

    /// It was taken off.
    pub(super) fn record_detached(&mut self, interface: &str, by: &Value) {
        self.record.notes.push(note("detach", json!({"interface": interface}), by));
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
