//! What is held, from one reading to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    BookError, Change, Delta, What, chain,
    guarded::Hold,
    held::{self, Held, Item, ItemKind, Of},
    rows::{self, Kind},
    writer::{Origin, Writer, changed},
};
use crate::{feed::fold::Place, guard::Guard, name::Name};

impl Writer<'_> {
    /// Writes what the guards held since the last call. If the source has said all that it says about the order, this
    /// takes the place of what was held of it before; what is the same stays as it is, rejected or not.
    pub(super) fn write_holds(
        &mut self,
        source: &Arc<str>,
        id: &str,
        place: Place,
        whole: bool,
    ) -> Result<(), BookError> {
        // Terms wait for themselves: names that come later do not prolong that.
        let mut merged: BTreeMap<(Guard, bool), Hold> = BTreeMap::new();
        for hold in self.holds.drain(..) {
            match merged.get_mut(&(hold.guard, hold.is_of_terms())) {
                Some(first) => {
                    first.items.extend(hold.items);
                    first.figures = first.figures.max(hold.figures);
                }
                None => _ = merged.insert((hold.guard, hold.is_of_terms()), hold),
            }
        }
        let mut known = held::held(&self.transaction, &Of::Source(source, id), usize::MAX)?;
        if known.is_empty() && merged.is_empty() {
            return Ok(());
        }
        for hold in merged.values_mut() {
            hold.items.sort_unstable();
            hold.items.dedup();
        }
        let names_in_window = (Guard::Window, false);
        if let Some(hold) = merged.remove(&names_in_window) {
            merged.extend(self.keep_waiting(hold, &mut known, whole)?.map(|hold| (names_in_window, hold)));
        }
        let guarded = self.guards.of(source);
        for ((guard, _), hold) in merged {
            let policy = guarded.policy;
            let mut held = Held {
                number: 0,
                id: String::new(),
                feed: policy.feed.clone(),
                source: source.to_string(),
                order: id.to_owned(),
                guard,
                why: hold.why,
                line: place.line,
                since: self.now,
                until: None,
                deadline: None,
                rejected: None,
                figures: hold.figures,
                terms: hold.terms,
                items: hold.items,
                counts: [0; 4],
            };
            held.id = held.hash(&self.transaction, self.guards)?;
            if let Some(same) = known.iter().position(|known| known.guard == guard && known.id == held.id) {
                known.remove(same);
                continue;
            }
            // Some of it may have waited before: its deadline goes on.
            let items = held::set_of(&held.items);
            let overlaps = |old: &&Held| {
                old.guard == guard && old.items.iter().any(|item| items.contains(&(item.kind, item.name.as_str())))
            };
            if guard != Guard::Window {
                held.since = known.iter().filter(overlaps).map(|old| old.since).min().unwrap_or(self.now);
            }
            let comes = matches!(guard, Guard::Shrink | Guard::Empty);
            held.deadline = policy.deadline.filter(|_| !comes).and_then(|time| held.since.checked_add(time).ok());
            held.until = (guard == Guard::Window).then(|| held.since.checked_add(policy.hold).ok()).flatten();
            held.insert(&self.transaction)?;
            let origin = Origin { source: source.clone(), place };
            self.record(&origin, "hold", id, held_json(&held))?;
            for item in &held.items {
                held.counts[item.kind as usize] += 1;
            }
            self.note_held(held);
        }
        if whole {
            for gone in known {
                gone.delete(&self.transaction)?;
                let origin = Origin { source: source.clone(), place };
                self.record(&origin, "unhold", id, json!({"held": gone.id, "why": "the source says it no longer"}))?;
            }
        }
        Ok(())
    }

    /// Names that wait already go on waiting for as long as the source says them; the others are new.
    fn keep_waiting(&mut self, mut hold: Hold, known: &mut Vec<Held>, whole: bool) -> Result<Option<Hold>, BookError> {
        for old in known.extract_if(.., |known| known.guard == Guard::Window && !known.is_of_terms()) {
            let names: BTreeSet<String> = old.items.iter().map(|item| item.name.clone()).collect();
            if whole {
                let said = held::set_of(&hold.items);
                old.keep(&self.transaction, self.guards, |item| said.contains(&(item.kind, item.name.as_str())))?;
            }
            hold.items.retain(|item| !names.contains(&item.name));
        }
        Ok((!hold.items.is_empty()).then_some(hold))
    }

    /// Does what was held.
    pub(super) fn carry_out(&mut self, held: &Held, op: &str, by: Value) -> Result<bool, BookError> {
        let origin =
            Origin { source: held.source.as_str().into(), place: Place { line: held.line, ..Place::default() } };
        let id = held.order.as_str();
        let Some(known) = self.in_force(&origin, id)? else { return Ok(false) };
        if op == "approve" && held.hash(&self.transaction, self.guards)? != held.id {
            held.rehash(&self.transaction, self.guards)?;
            return self.refuse(&origin, id, "the order has changed since the held change was shown: look at it again");
        }
        if held.guard != Guard::Reach
            && let Some(why) = held::reached_text(&held.reached(&self.transaction, self.guards)?)
        {
            held.delete(&self.transaction)?;
            let mut reach = Held { guard: Guard::Reach, why: why.clone(), until: None, rejected: None, ..held.clone() };
            reach.id = reach.hash(&self.transaction, self.guards)?;
            reach.insert(&self.transaction)?;
            self.record(&origin, "hold", id, held_json(&reach))?;
            self.note_held(reach);
            return self.refuse(&origin, id, format_args!("names have come to the order since: {why}"));
        }
        held.delete(&self.transaction)?;
        let parsed = |kind| held.names(kind).map(rows::name).collect::<Result<BTreeSet<Name>, _>>();
        let mut names =
            rows::fresh(&self.transaction, known.number, &parsed(ItemKind::Added)?, &parsed(ItemKind::Removed)?)?;
        // By terms that came since, they may stop more than they would have.
        if matches!(held.guard, Guard::Window | Guard::Growth) {
            self.screen_names(&origin, &known, &mut names)?;
            self.write_holds(&origin.source, id, origin.place, false)?;
        }
        let gone = parsed(ItemKind::ExceptRemoved)?;
        let mut except = Delta::default();
        rows::read_names(&self.transaction, known.number, Kind::Except, |name| {
            let name = rows::name(name)?;
            except.removed.extend(gone.contains(&name).then_some(name));
            Ok(())
        })?;
        // Its end may have moved since.
        let terms = held.terms.as_deref().map(|terms| terms.extended(known.terms.not_after));
        let terms = match terms.transpose() {
            Ok(terms) => terms.filter(|terms| *terms != *known.terms).map(Arc::new),
            Err(unfit) => return self.refuse(&origin, id, unfit),
        };
        rows::write_names(&self.transaction, known.number, Kind::Listed, &names.added, &names.removed)?;
        rows::write_names(&self.transaction, known.number, Kind::Except, [], &except.removed)?;
        if let Some(terms) = &terms {
            rows::write_order(&self.transaction, &known.source, terms, known.received, None)?;
        }
        let mut detail = json!({
            "held": held.id, "guard": held.guard.word(), "names": changed(&names), "except": changed(&except),
        });
        if let Some(detail) = detail.as_object_mut() {
            detail.extend(terms.as_ref().map(|terms| ("terms".to_owned(), json!(terms))));
            detail.extend(by.as_object().cloned().unwrap_or_default());
        }
        self.record(&origin, op, id, detail)?;
        if names.is_empty() && except.is_empty() && terms.is_none() {
            self.tell(&origin, id, What::Unchanged);
        } else {
            self.tell(&origin, id, What::Changed);
            self.push(Change::Edit { id: id.to_owned(), terms, names, except });
        }
        self.prune(id, known.number)?;
        Ok(true)
    }

    /// Takes out of what is held of an order what has come to be meanwhile; for the rest, its reach may be another now.
    pub(super) fn prune(&mut self, id: &str, number: i64) -> Result<(), BookError> {
        if !held::is_any_held(&self.transaction, id)? {
            return Ok(());
        }
        for held in held::held(&self.transaction, &Of::Order(id), usize::MAX)? {
            let names = |kind| held.names(kind).map(rows::name).collect::<Result<BTreeSet<Name>, _>>();
            let (added, removed) = (names(ItemKind::Added)?, names(ItemKind::Removed)?);
            let open = rows::fresh(&self.transaction, number, &added, &removed)?;
            let open: BTreeSet<&str> = open.added.iter().chain(&open.removed).map(Name::as_str).collect();
            let is_open = |item: &Item| match item.kind {
                ItemKind::Added | ItemKind::Removed => open.contains(item.name.as_str()),
                ItemKind::ExceptRemoved | ItemKind::Order => true,
            };
            if let Some(held) = held.keep(&self.transaction, self.guards, is_open)? {
                // A rejected one stays as it was asked for.
                if held.rejected.is_none() {
                    held.rehash(&self.transaction, self.guards)?;
                }
            }
        }
        Ok(())
    }

    /// Names that are taken out of an order are not held for it any more.
    pub(super) fn hold_no_longer(&mut self, id: &str, names: &BTreeSet<Name>) -> Result<(), BookError> {
        if names.is_empty() || !held::is_any_held(&self.transaction, id)? {
            return Ok(());
        }
        let names: BTreeSet<&str> = names.iter().map(Name::as_str).collect();
        for held in held::held(&self.transaction, &Of::Order(id), usize::MAX)? {
            let stays = |item: &Item| item.kind != ItemKind::Added || !names.contains(item.name.as_str());
            held.keep(&self.transaction, self.guards, stays)?;
        }
        Ok(())
    }
}

/// What the history has of it.
fn held_json(held: &Held) -> Value {
    let listed = |kind| {
        let names: Vec<&str> = held.names(kind).collect();
        chain::digest_of(names.iter().copied())
    };
    let mut detail = json!({"held": held.id, "feed": held.feed, "guard": held.guard.word(), "why": held.why});
    if let Some(detail) = detail.as_object_mut() {
        for (word, kind) in ["added", "removed", "except_removed", "orders"].into_iter().zip(ItemKind::ALL) {
            if held.names(kind).next().is_some() {
                detail.insert(word.to_owned(), listed(kind));
            }
        }
        detail.extend(held.terms.as_ref().map(|terms| ("terms".to_owned(), json!(terms))));
        detail.extend(held.until.map(|until| ("until".to_owned(), json!(until))));
        detail.extend(held.deadline.map(|deadline| ("deadline".to_owned(), json!(deadline))));
    }
    detail
}
