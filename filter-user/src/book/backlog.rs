//! Entries that wait to be written to the history, while what they tell of is long in force.
//!
//! State: a queue in memory, which has a bound, and how many there was no room for in it.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use super::Note;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// With the octets of each.
    notes: VecDeque<(Note, usize)>,
    octets: usize,
    /// How many were omitted, by their word.
    omitted: BTreeMap<&'static str, u64>,
    /// They could not be written.
    pub(super) is_stuck: bool,
}

impl Backlog {
    /// Has an entry wait, or counts it where too much waits.
    pub(super) fn push(&mut self, note: Note) {
        let octets = OVERHEAD + note.order.len() + note.source.len() + note.detail.to_string().len();
        if self.octets + octets > MOST {
            *self.omitted.entry(note.op).or_default() += 1;
            return;
        }
        self.octets += octets;
        self.notes.push_back((note, octets));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.omitted.is_empty()
    }

    /// What waits, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().rev().map(|(note, _)| note)
    }

    /// The oldest ones, as many as one transaction takes; the last of all tells how many were omitted.
    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        let mut octets = 0;
        for (note, size) in &self.notes {
            octets += size;
            if octets > BATCH && !batch.notes.is_empty() {
                return batch;
            }
            batch.notes.push(note.clone());
        }
        if !self.omitted.is_empty() {
            batch.has_omitted = true;
            batch.notes.push(Note::of_daemon("omitted", json!(self.omitted)));
        }
        batch
    }

    /// The history has a batch.
    pub(super) fn written(&mut self, batch: &Batch) {
        self.is_stuck = false;
        let queued = batch.notes.len() - usize::from(batch.has_omitted);
        self.octets -= self.notes.drain(..queued).map(|(_, octets)| octets).sum::<usize>();
        if batch.has_omitted {
            self.omitted.clear();
        }
    }
}

/// See [`Backlog::batch`].
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) notes: Vec<Note>,
    has_omitted: bool,
}

/// Octets that wait at most.
const MOST: usize = 4 << 20;

/// Octets that one transaction takes, unless a single entry has more.
const BATCH: usize = 64 << 10;

/// What an entry takes beside its words.
const OVERHEAD: usize = 200;
