//! What the history is told of the daemon itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;

use super::Keeper;
use crate::book::{Note, Standing};

impl Keeper {
    /// Time up to the next one that what is to be written is written, unless a transaction takes it along before.
    pub(super) fn next_notes(&self) -> Option<Duration> {
        self.book.has_notes().then_some(if self.unnoted { AGAIN } else { SOON })
    }

    /// Writes what is to be written, and keeps it if that cannot be.
    pub(super) fn write_notes(&mut self) {
        match self.book.write_notes() {
            Ok(()) => self.unnoted = false,
            Err(error) if !self.unnoted => {
                tracing::error!("the history cannot be written, and is kept until it can be: {error}");
                self.unnoted = true;
            }
            Err(_) => {}
        }
    }

    /// A daemon that was killed may have changed the tables, and not have told.
    pub(super) fn started(
        &mut self,
        notes: Vec<Note>,
        standing: &BTreeMap<String, Standing>,
        attached: Option<&BTreeSet<String>>,
        (generation, at): (u64, Timestamp),
    ) {
        // Before the start is told, which begins anew.
        match self.book.attached() {
            Ok(known) => {
                let lost = known.iter().filter(|interface| attached.is_some_and(|now| !now.contains(*interface)));
                lost.for_each(|interface| self.book.note(Note::found("detach", interface, "at the start")));
            }
            Err(error) => tracing::error!("where the filter was attached cannot be told: {error}"),
        }
        notes.into_iter().for_each(|note| self.book.note(note));
        let untold = match self.book.untold(standing) {
            Ok(untold) => untold,
            Err(error) => return tracing::error!("what the history lacks cannot be told: {error}"),
        };
        let entry = self.book.head().ok().flatten().map_or(0, |head| head.number);
        for (id, op) in untold {
            let detail = json!({"generation": generation, "at": at, "entry": entry, "found": "at the start"});
            self.book.note(Note::of_daemon(op, detail).about(&id));
        }
    }

    pub(super) fn stopped(&mut self) {
        self.book.note_omitted_refusals(true);
        self.book.note(Note::of_daemon("stop", json!({})));
        self.write_notes();
        self.tell_head();
    }

    pub(super) fn tell_head(&mut self) {
        self.write_notes();
        match self.book.head() {
            Ok(Some(head)) => tracing::info!("audit head {head}"),
            Ok(None) => {}
            Err(error) => tracing::error!("the history cannot be read: {error}"),
        }
    }
}

/// What comes one after the other is written at once, and no event waits for it.
const SOON: Duration = Duration::from_millis(50);

/// Time after which what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
