//! What guards hold of a change, and what becomes of it later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    BookError, Change, Delta, What,
    held::{self, Held, Item, ItemKind, Of},
    rows::{self, Kind, OrderRow},
    writer::{Origin, Writer, changed},
};
use crate::{
    feed::{Refusal, fold::Place},
    guard::{Guard, Ruling},
    name::Name,
    order::{Order, Terms},
};

/// Part of a change that a guard holds, before it is written.
pub(super) struct Hold {
    guard: Guard,
    why: String,
    terms: Option<Arc<Terms>>,
    items: Vec<Item>,
}

/// What is wanted of an order that is in force, without what is held of it.
pub(super) struct Admitted {
    pub(super) terms: Option<Arc<Terms>>,
    pub(super) names: Delta,
    pub(super) except: Delta,
}

impl Hold {
    fn is_of_terms(&self) -> bool {
        self.terms.is_some() || self.items.iter().any(|item| item.kind == ItemKind::ExceptRemoved)
    }
}

impl Writer<'_> {
    /// Takes out of a new order what is refused or held. `false`: no name is left to put it for.
    pub(super) fn screen_new(&mut self, origin: &Origin, order: &mut Order) -> bool {
        let guarded = self.guards.of(&origin.source);
        let given = order.names.len();
        let out = guarded.screen(order);
        let window = !guarded.policy.hold.is_zero();
        if self.sort_out(origin, out) == given && given > 0 {
            return false;
        }
        if window && !order.names.is_empty() {
            let names = std::mem::take(&mut order.names);
            self.hold_in_window(origin, names.iter());
        }
        true
    }

    /// What of a change is not held. Nothing: every name of the order is refused.
    pub(super) fn screen_change(
        &mut self,
        origin: &Origin,
        known: &OrderRow,
        order: &Order,
        removed: &BTreeSet<Name>,
    ) -> Result<Option<Admitted>, BookError> {
        let guarded = self.guards.of(&origin.source);
        let policy = guarded.policy;
        let (before, after) = (&*known.terms, &*order.terms);
        let mut names = self.difference(known.number, Kind::Listed, &order.names)?;
        let mut except = self.difference(known.number, Kind::Except, &order.except)?;
        let mut terms = (before != after).then(|| order.terms.clone());

        // Reach: terms and exceptions.
        let mut wide_except = None;
        if before.reach != after.reach || !except.removed.is_empty() {
            let mut excepted = order.except.clone();
            excepted.extend(except.removed.iter().cloned());
            excepted.retain(|name| except.added.binary_search(name).is_err());
            let mut reaching = Vec::new();
            rows::read_names(&self.transaction, known.number, Kind::Listed, |name| {
                let name = rows::name(name)?;
                let why = guarded.widens(&name, (before.reach, &excepted), (after.reach, &order.except));
                reaching.extend(why.filter(|_| order.names.contains(&name)).map(|why| format!("{name} {why}")));
                Ok(())
            })?;
            let held = match reaching.first() {
                Some(first) if reaching.len() == 1 => Some((Guard::Reach, first.clone())),
                Some(first) => Some((Guard::Reach, format!("{first}; and {} names more", reaching.len() - 1))),
                None => None,
            };
            wide_except = held;
        }
        let widens = !except.removed.is_empty() || is_wider(before, after);
        if wide_except.is_none() && !policy.hold.is_zero() && widens {
            wide_except = Some((Guard::Window, window_text(policy.hold)));
        }
        let mut narrow = order.terms.clone();
        if let Some((guard, why)) = wide_except {
            let items = std::mem::take(&mut except.removed);
            let items = items.iter().map(|name| item(ItemKind::ExceptRemoved, name, String::new())).collect();
            narrow = Arc::new(narrowed(before, after));
            let held = (*narrow != *after).then(|| order.terms.clone());
            terms = (*narrow != *before).then(|| narrow.clone());
            self.holds.push(Hold { guard, why, terms: held, items });
        }

        // Names that come.
        let given = order.names.len();
        let mut out = Vec::new();
        names.added.retain(|name| {
            let ruling = match guarded.rule(name, after.reach, &order.except) {
                Ruling::Free if narrow.reach != after.reach => guarded.rule(name, narrow.reach, &order.except),
                ruling => ruling,
            };
            let free = ruling == Ruling::Free;
            if !free {
                out.push((name.clone(), ruling));
            }
            free
        });
        if self.sort_out(origin, out) == given && given > 0 {
            return Ok(None);
        }
        self.hold_growth(origin, known, &mut names)?;

        // Names that go, and that nobody took out by name.
        let left: Vec<_> = names.removed.extract_if(.., |name| !removed.contains(name)).collect();
        let held = if left.is_empty() {
            None
        } else if order.names.is_empty() && policy.empty {
            Some((Guard::Empty, "the list is empty".to_owned()))
        } else if let Some(limit) = policy.shrink.filter(|limit| left.len() as u64 > limit.rows) {
            let base = rows::count_names(&self.transaction, known.number)?;
            let why = format!(
                "{} of {base} names are listed no longer: over {} and {} percent",
                left.len(),
                limit.rows,
                limit.percent
            );
            limit.is_exceeded(left.len() as u64, base).then_some((Guard::Shrink, why))
        } else {
            None
        };
        match held {
            Some((guard, why)) => {
                let items = left.iter().map(|name| item(ItemKind::Removed, name, String::new())).collect();
                self.holds.push(Hold { guard, why, terms: None, items });
            }
            None => {
                names.removed.extend(left);
                names.removed.sort_unstable();
            }
        }
        Ok(Some(Admitted { terms, names, except }))
    }

    /// What is not held of names that come to an order by an event.
    pub(super) fn screen_added(
        &mut self,
        origin: &Origin,
        known: &OrderRow,
        names: &mut Delta,
    ) -> Result<(), BookError> {
        if names.added.is_empty() {
            return Ok(());
        }
        let guarded = self.guards.of(&origin.source);
        let mut except = BTreeSet::new();
        rows::read_names(&self.transaction, known.number, Kind::Except, |name| {
            except.insert(rows::name(name)?);
            Ok(())
        })?;
        let mut out = Vec::new();
        names.added.retain(|name| match guarded.rule(name, known.terms.reach, &except) {
            Ruling::Free => true,
            ruling => {
                out.push((name.clone(), ruling));
                false
            }
        });
        self.sort_out(origin, out);
        self.hold_growth(origin, known, names)
    }

    /// Notes an order to which a reading adds too much, so that each of its events is held.
    pub(super) fn note_growth(&mut self, source: &str, id: &str, names: &BTreeSet<&Name>) -> Result<(), BookError> {
        let Some(limit) = self.guards.of(source).policy.growth else { return Ok(()) };
        if names.len() as u64 <= limit.rows {
            return Ok(());
        }
        let Some(known) = OrderRow::find(&self.transaction, id)? else { return Ok(()) };
        let names = names.iter().map(|name| (*name).clone()).collect();
        let fresh = rows::fresh(&self.transaction, known.number, &names, &BTreeSet::new())?;
        if limit.is_exceeded(fresh.added.len() as u64, rows::count_names(&self.transaction, known.number)?) {
            self.overgrown.insert(id.to_owned());
        }
        Ok(())
    }

    fn hold_growth(&mut self, origin: &Origin, known: &OrderRow, names: &mut Delta) -> Result<(), BookError> {
        let policy = self.guards.of(&origin.source).policy;
        let coming = names.added.len() as u64;
        let overgrown = self.overgrown.contains(&known.terms.id);
        if let Some(limit) = policy.growth.filter(|limit| coming > limit.rows || overgrown) {
            let base = rows::count_names(&self.transaction, known.number)?;
            if overgrown || limit.is_exceeded(coming, base) {
                let items = std::mem::take(&mut names.added);
                let items = items.iter().map(|name| item(ItemKind::Added, name, String::new())).collect();
                let why = format!(
                    "more names come at once to the {base} that are there than {} and {} percent",
                    limit.rows, limit.percent
                );
                self.holds.push(Hold { guard: Guard::Growth, why, terms: None, items });
            }
        }
        if !policy.hold.is_zero() && !names.added.is_empty() {
            let added = std::mem::take(&mut names.added);
            self.hold_in_window(origin, added.iter());
        }
        Ok(())
    }

    fn hold_in_window<'n>(&mut self, origin: &Origin, names: impl Iterator<Item = &'n Name>) {
        let items = names.map(|name| item(ItemKind::Added, name, String::new())).collect();
        let why = window_text(self.guards.of(&origin.source).policy.hold);
        self.holds.push(Hold { guard: Guard::Window, why, terms: None, items });
    }

    /// Refuses or holds names, and gives the number of those refused.
    fn sort_out(&mut self, origin: &Origin, out: Vec<(Name, Ruling)>) -> usize {
        let mut refused = 0;
        for (name, ruling) in out {
            match ruling {
                Ruling::Free => {}
                Ruling::Refused(why) => {
                    refused += 1;
                    let refusal = Refusal::new(&origin.source, origin.place.line, name.as_str(), why);
                    self.refusals().push(refusal);
                }
                Ruling::Held(guard, why) => {
                    let general = match guard {
                        Guard::Protected => "a rule would stop a protected name",
                        _ => "a rule is a private suffix, under which its owner gives names to others",
                    };
                    let items = vec![item(ItemKind::Added, &name, why)];
                    self.holds.push(Hold { guard, why: general.to_owned(), terms: None, items });
                }
            }
        }
        refused
    }

    /// Whether all that the guards have just held is held of another source already.
    pub(super) fn is_held_of(&self, source: &str, id: &str) -> Result<bool, BookError> {
        if self.holds.is_empty() {
            return Ok(true);
        }
        let known = held::held(&self.transaction, &Of::Source(source, id), usize::MAX)?;
        let items: BTreeSet<_> = known.iter().flat_map(|known| held::set_of(&known.items)).collect();
        let is_known = |hold: &Hold| {
            hold.items.iter().all(|item| items.contains(&(item.kind, item.name.as_str())))
                && (hold.terms.is_none() || known.iter().any(|known| known.terms == hold.terms))
        };
        Ok(self.holds.iter().all(is_known))
    }

    /// That orders go which a source lists no longer is held.
    pub(super) fn hold_orders(&mut self, guard: Guard, why: String, ids: impl Iterator<Item = String>) {
        let items = ids.map(|name| Item { kind: ItemKind::Order, name, why: String::new() }).collect();
        self.holds.push(Hold { guard, why, terms: None, items });
    }

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
                Some(first) => first.items.extend(hold.items),
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
                terms: hold.terms,
                items: hold.items,
                counts: [0; 4],
            };
            held.id = held.hash(&self.transaction)?;
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
                old.keep(&self.transaction, |item| said.contains(&(item.kind, item.name.as_str())))?;
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
        held.delete(&self.transaction)?;
        let parsed = |kind| held.names(kind).map(rows::name).collect::<Result<BTreeSet<Name>, _>>();
        let names =
            rows::fresh(&self.transaction, known.number, &parsed(ItemKind::Added)?, &parsed(ItemKind::Removed)?)?;
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

    /// Takes out of what is held of an order what has come to be meanwhile.
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
            held.keep(&self.transaction, is_open)?;
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
            held.keep(&self.transaction, stays)?;
        }
        Ok(())
    }
}

/// What the history has of it.
fn held_json(held: &Held) -> Value {
    let listed = |kind| {
        let names: Vec<&str> = held.names(kind).collect();
        if names.len() <= LISTED { json!(names) } else { json!(names.len()) }
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

fn item(kind: ItemKind, name: &Name, why: String) -> Item {
    Item { kind, name: name.as_str().to_owned(), why }
}

fn window_text(hold: std::time::Duration) -> String {
    let hold = jiff::SignedDuration::try_from(hold).unwrap_or(jiff::SignedDuration::MAX);
    format!("the feed's additions wait {hold:#}")
}

/// Whether terms could stop what the ones before do not. Their end does not count: extending never waits.
fn is_wider(before: &Terms, after: &Terms) -> bool {
    before.reach != after.reach
        || before.actions != after.actions
        || before.address != after.address
        || before.redirect != after.redirect
        || after.not_before < before.not_before
        || !has_scopes_of(before, after)
}

/// Whether the terms before bind every client that these do.
fn has_scopes_of(before: &Terms, after: &Terms) -> bool {
    before.scopes.contains("all") || after.scopes.is_subset(&before.scopes)
}

/// The new terms, as far as they are not wider.
fn narrowed(before: &Terms, after: &Terms) -> Terms {
    let starts_too_late = after.not_after.is_some_and(|end| end <= before.not_before);
    Terms {
        reach: before.reach,
        scopes: if has_scopes_of(before, after) { &after.scopes } else { &before.scopes }.clone(),
        actions: before.actions.clone(),
        address: before.address,
        redirect: before.redirect.clone(),
        not_before: if starts_too_late { after.not_before } else { after.not_before.max(before.not_before) },
        ..after.clone()
    }
}

/// Names that an entry of the history lists.
const LISTED: usize = 1000;

#[cfg(test)]
mod tests;
