//! What becomes of held changes: approved, rejected, let through when their time has come.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::TransactionBehavior::Immediate;
use serde_json::{Value, json};

use super::{
    Applied, Book, BookError,
    held::{self, Held, ItemKind, Of},
    rows::{self, OrderRow},
    sync::withdraw_held,
    writer::{Origin, Writer},
};
use crate::{
    feed::fold::Place,
    guard::{Guard, Guards, Limit, Ruling},
    name::Name,
};

impl Book {
    /// What guards hold, and what of it was rejected, oldest first; each with so many of its items at most.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn held(&self, most: usize) -> Result<Vec<Held>, BookError> {
        let mut held = held::held(&self.connection, &Of::All, most)?;
        held.iter_mut().for_each(|held| held.feed.clone_from(&self.guards.of(&held.source).policy.feed));
        Ok(held)
    }

    /// What holds that a name joins an order, and why; nothing: it is not held.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub(crate) fn held_name(&self, order: &str, name: &Name) -> Result<Option<(Guard, String)>, BookError> {
        held::of_name(&self.connection, order, name)
    }

    /// When something is to be let through next.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn next_release(&self) -> Result<Option<Timestamp>, BookError> {
        held::next_release(&self.connection)
    }

    /// Does what was held, for the user `by`. Also gives the sources that are to be read again.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn approve(&mut self, changes: &[Held], by: &Value) -> Result<(Applied, BTreeSet<String>), BookError> {
        let is_chosen =
            |held: &Held| changes.iter().any(|chosen| (chosen.number, &chosen.id) == (held.number, &held.id));
        self.carry_out(|_, held| is_chosen(held).then(|| ("approve", by.clone())))
    }

    /// What was held is not done, for the user `by`, and not asked for again until its source says something else.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn reject(&mut self, changes: &[Held], by: &Value) -> Result<(), BookError> {
        self.write_notes_ahead()?;
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut writer = Writer::open(transaction, &self.guards, &mut self.told);
        let user = by["user"].as_str().unwrap_or_default();
        for held in changes.iter().filter(|held| held.rejected.is_none()) {
            held.reject(&writer.transaction, writer.now, user)?;
            let mut detail = json!({"held": held.id, "guard": held.guard.word()});
            if let (Some(detail), Some(by)) = (detail.as_object_mut(), by.as_object()) {
                detail.extend(by.clone());
            }
            writer.record(&origin(held), "reject", &held.order, detail)?;
        }
        writer.commit(&mut self.ahead)?;
        Ok(())
    }

    /// Lets through what has waited for its time, and what the guards hold no longer. Also gives the sources that are
    /// to be read again.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn release(&mut self, now: Timestamp) -> Result<(Applied, BTreeSet<String>), BookError> {
        self.carry_out(|book, held| {
            if held.rejected.is_some() {
                return None;
            }
            let until = book.shortened(held).unwrap_or(held.until);
            let why = if until.is_some_and(|until| until <= now) {
                "its time has come"
            } else if !book.is_held_still(held).unwrap_or(true) {
                "the configuration holds it no longer"
            } else {
                return None;
            };
            Some(("release", json!({"why": why})))
        })
    }

    fn carry_out(
        &mut self,
        chosen: impl Fn(&Still<'_, '_>, &Held) -> Option<(&'static str, Value)>,
    ) -> Result<(Applied, BTreeSet<String>), BookError> {
        self.write_notes_ahead()?;
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut writer = Writer::open(transaction, &self.guards, &mut self.told);
        let mut again = BTreeSet::new();
        for held in held::held(&writer.transaction, &Of::All, usize::MAX)? {
            let still = Still { writer: &writer, guards: &self.guards };
            let Some((op, by)) = chosen(&still, &held) else { continue };
            if held.order.is_empty() {
                held.delete(&writer.transaction)?;
                let ids: Vec<&str> = held.names(ItemKind::Order).collect();
                let mut detail = json!({"held": held.id, "guard": held.guard.word(), "orders": ids});
                if let (Some(detail), Some(by)) = (detail.as_object_mut(), by.as_object()) {
                    detail.extend(by.clone());
                }
                writer.record(&origin(&held), op, "", detail)?;
                withdraw_held(&mut writer, &held.source, &ids, &mut again)?;
                for id in ids {
                    self.absences.forget(&held.source.as_str().into(), id);
                }
            } else {
                // What a zone's other parts stopped meanwhile, they now leave to this one.
                if OrderRow::find(&writer.transaction, &held.order)?.is_some_and(|row| row.terms.part_of.is_some()) {
                    again.insert(held.source.clone());
                }
                writer.carry_out(&held, op, by)?;
            }
        }
        writer.record_own_refusals()?;
        Ok((writer.commit(&mut self.ahead)?, again))
    }
}

/// The book as it is, to ask whether a change is held still.
struct Still<'w, 'a> {
    writer: &'w Writer<'a>,
    guards: &'w Guards,
}

impl Still<'_, '_> {
    /// When a change is let through. A window that is shorter now holds for what waits already, a longer one does not.
    fn shortened(&self, held: &Held) -> Result<Option<Timestamp>, BookError> {
        let hold = self.guards.of(&held.source).policy.hold;
        let (Some(until), Ok(now)) = (held.until, held.since.checked_add(hold)) else { return Ok(held.until) };
        if now < until {
            self.writer
                .transaction
                .execute("UPDATE held SET until = ?2 WHERE number = ?1", [held.number, now.as_microsecond()])?;
        }
        Ok(Some(until.min(now)))
    }

    fn is_held_still(&self, held: &Held) -> Result<bool, BookError> {
        let guarded = self.guards.of(&held.source);
        let policy = guarded.policy;
        let transaction = &self.writer.transaction;
        // As it was when it was held: an order that has grown since does not make a shrink of it smaller.
        let is_over = |limit: Option<Limit>| {
            limit.is_some_and(|limit| held.figures.is_none_or(|(changed, before)| limit.is_exceeded(changed, before)))
        };
        match held.guard {
            Guard::Protected | Guard::PrivateSuffix => {
                let Some(row) = OrderRow::find(transaction, &held.order)? else { return Ok(true) };
                let mut except = BTreeSet::new();
                rows::read_names(transaction, row.number, rows::Kind::Except, |name| {
                    except.insert(rows::name(name)?);
                    Ok(())
                })?;
                for name in held.names(ItemKind::Added) {
                    let ruling = guarded.rule(&rows::name(name)?, row.terms.reach, &except);
                    if ruling != Ruling::Free {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Guard::Reach => Ok(policy.protected),
            Guard::Growth => Ok(is_over(policy.growth)),
            Guard::Shrink => Ok(is_over(policy.shrink)),
            Guard::Empty => Ok(policy.empty),
            Guard::Window => Ok(!policy.hold.is_zero()),
        }
    }
}

fn origin(held: &Held) -> Origin {
    Origin { source: held.source.as_str().into(), place: Place { line: held.line, ..Place::default() } }
}
