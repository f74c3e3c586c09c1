//! What guards hold of a change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    BookError, Delta,
    held::{self, Item, ItemKind, Of},
    rows::{self, Kind, OrderRow},
    writer::{Origin, Writer},
};
use crate::{
    feed::{Entry, Event, Refusal},
    guard::{Guard, Ruling},
    name::Name,
    order::{Order, Terms},
};

/// Part of a change that a guard holds, before it is written.
pub(super) struct Hold {
    pub(super) guard: Guard,
    pub(super) why: String,
    pub(super) figures: Option<(u64, u64)>,
    pub(super) terms: Option<Arc<Terms>>,
    pub(super) items: Vec<Item>,
}

/// What is wanted of an order that is in force, without what is held of it.
pub(super) struct Admitted {
    pub(super) terms: Option<Arc<Terms>>,
    pub(super) names: Delta,
    pub(super) except: Delta,
}

/// What an order is to become.
pub(super) struct Wanted<'a> {
    pub(super) terms: &'a Arc<Terms>,
    /// All that it leaves out.
    pub(super) except: &'a BTreeSet<Name>,
    /// How many names it lists.
    pub(super) given: usize,
    /// Whether it lists a name.
    pub(super) is_listed: &'a dyn Fn(&Name) -> bool,
}

impl Hold {
    /// Whether it is about terms and exceptions, not about names.
    pub(super) fn is_of_terms(&self) -> bool {
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
        let limit = guarded.policy.growth.filter(|_| guarded.policy.is_new_growth);
        let coming = order.names.len() as u64;
        if let Some(limit) = limit.filter(|limit| limit.is_exceeded(coming, 0)) {
            let names = std::mem::take(&mut order.names);
            let items = names.iter().map(|name| item(ItemKind::Added, name, String::new())).collect();
            let why = format!("a new order has {coming} names, over {}", limit.rows);
            self.holds.push(Hold { guard: Guard::Growth, why, figures: Some((coming, 0)), terms: None, items });
        }
        if let Some((coming, figures)) = self.group.as_ref().and_then(|group| group.grown.as_ref()) {
            let (items, figures) = (order.names.extract_if(.., |name| coming.contains(name)).collect(), *figures);
            self.hold_grown(origin, items, figures);
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
        let of_zone = self.group.as_mut().and_then(|group| group.delta(&known.terms.id));
        let names = match of_zone {
            Some(names) => names,
            None => self.difference(known.number, Kind::Listed, &order.names)?,
        };
        let except = self.difference(known.number, Kind::Except, &order.except)?;
        let is_listed = |name: &Name| order.names.contains(name);
        let (given, is_named) = (order.names.len(), |name: &Name| removed.contains(name));
        let wanted = Wanted { terms: &order.terms, except: &order.except, given, is_listed: &is_listed };
        self.screen_difference(origin, known, &wanted, Admitted { terms: None, names, except }, &is_named)
    }

    /// What of a difference is not held; its terms are those of `wanted`. `is_named` tells of names that were taken out
    /// by name, not by being left out of a list.
    pub(super) fn screen_difference(
        &mut self,
        origin: &Origin,
        known: &OrderRow,
        wanted: &Wanted<'_>,
        difference: Admitted,
        is_named: &dyn Fn(&Name) -> bool,
    ) -> Result<Option<Admitted>, BookError> {
        let guarded = self.guards.of(&origin.source);
        let policy = guarded.policy;
        let (before, after) = (&*known.terms, &**wanted.terms);
        let Admitted { mut names, mut except, .. } = difference;
        if let Some(group) = &self.group {
            group.come_now(&known.terms.id, &mut except);
        }
        let mut terms = (before != after).then(|| wanted.terms.clone());

        // Reach: terms and exceptions.
        let mut wide_except = None;
        if before.reach != after.reach || !except.removed.is_empty() {
            let mut excepted = wanted.except.clone();
            excepted.extend(except.removed.iter().cloned());
            excepted.retain(|name| except.added.binary_search(name).is_err());
            let mut reaching = Vec::new();
            rows::read_names(&self.transaction, known.number, Kind::Listed, |name| {
                let name = rows::name(name)?;
                let why = guarded.widens(&name, (before.reach, &excepted), (after.reach, wanted.except));
                reaching.extend(why.filter(|_| (wanted.is_listed)(&name)).map(|why| format!("{name} {why}")));
                Ok(())
            })?;
            wide_except = held::reached_text(&reaching).map(|why| (Guard::Reach, why));
        }
        let widens = !except.removed.is_empty() || is_wider(before, after);
        if wide_except.is_none() && !policy.hold.is_zero() && widens {
            wide_except = Some((Guard::Window, window_text(policy.hold)));
        }
        let mut narrow = wanted.terms.clone();
        if let Some((guard, why)) = wide_except {
            let items = std::mem::take(&mut except.removed);
            let items = items.iter().map(|name| item(ItemKind::ExceptRemoved, name, String::new())).collect();
            narrow = Arc::new(narrowed(before, after));
            let held = (*narrow != *after).then(|| wanted.terms.clone());
            terms = (*narrow != *before).then(|| narrow.clone());
            self.holds.push(Hold { guard, why, figures: None, terms: held, items });
        }

        // Names that come.
        let given = wanted.given;
        let mut out = Vec::new();
        names.added.retain(|name| {
            let ruling = match guarded.rule(name, after.reach, wanted.except) {
                Ruling::Free if narrow.reach != after.reach => guarded.rule(name, narrow.reach, wanted.except),
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
        let left: Vec<_> = names.removed.extract_if(.., |name| !is_named(name)).collect();
        match self.held_to_leave(origin, known, left.len() as u64, given == 0)? {
            Some(hold) => {
                let items = left.iter().map(|name| item(ItemKind::Removed, name, String::new())).collect();
                self.holds.push(Hold { items, ..hold });
            }
            None => {
                names.removed.extend(left);
                names.removed.sort_unstable();
            }
        }
        if let Some(group) = &mut self.group {
            group.go_later(&known.terms.id, &mut except);
        }
        Ok(Some(Admitted { terms, names, except }))
    }

    /// Why so many names are not to leave an order yet.
    fn held_to_leave(
        &self,
        origin: &Origin,
        known: &OrderRow,
        left: u64,
        is_empty: bool,
    ) -> Result<Option<Hold>, BookError> {
        let policy = self.guards.of(&origin.source).policy;
        let hold = |guard, why, figures| Some(Hold { guard, why, figures, terms: None, items: Vec::new() });
        let group = self.group.as_ref();
        if left > 0 && group.map_or(is_empty, |group| group.is_empty) && policy.empty {
            return Ok(hold(Guard::Empty, "the list is empty".to_owned(), None));
        }
        let (left, of_zone) = match group {
            Some(group) if left > 0 => (group.left.0, Some(group.left.1)),
            _ => (left, None),
        };
        let Some(limit) = policy.shrink.filter(|limit| left > limit.rows) else { return Ok(None) };
        // Names that have come beside those that wait to go do not make them fewer.
        let waiting = held::held(&self.transaction, &Of::Source(&origin.source, &known.terms.id), 0)?;
        let before = waiting.iter().filter(|held| held.guard == Guard::Shrink).filter_map(|held| held.figures);
        let before = before.map(|(_, before)| before).min();
        let now = match of_zone {
            Some(now) => now,
            None => rows::count_names(&self.transaction, known.number)?,
        };
        let base = before.map_or(now, |before| before.min(now));
        let why =
            format!("{left} of {base} names are listed no longer: over {} and {} percent", limit.rows, limit.percent);
        Ok(if limit.is_exceeded(left, base) { hold(Guard::Shrink, why, Some((left, base))) } else { None })
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
        self.screen_names(origin, known, names)?;
        self.hold_growth(origin, known, names)
    }

    /// Holds or refuses single names that come to an order, by its terms as they are.
    pub(super) fn screen_names(
        &mut self,
        origin: &Origin,
        known: &OrderRow,
        names: &mut Delta,
    ) -> Result<(), BookError> {
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
        Ok(())
    }

    /// Notes the orders to which these events together add too much, so that each of them is held.
    pub(super) fn note_growth_by(&mut self, source: &str, entries: &[Entry]) -> Result<(), BookError> {
        if self.guards.of(source).policy.growth.is_none() {
            return Ok(());
        }
        let mut coming: BTreeMap<&str, BTreeSet<&Name>> = BTreeMap::new();
        for entry in entries {
            let names = match &entry.event {
                Event::Put(order) => &order.names,
                Event::Add { names, .. } => names,
                Event::Remove { .. } | Event::Extend { .. } | Event::Revoke { .. } => continue,
            };
            coming.entry(entry.event.order_id()).or_default().extend(names);
        }
        coming.into_iter().try_for_each(|(id, names)| self.note_growth(source, id, &names))
    }

    fn note_growth(&mut self, source: &str, id: &str, names: &BTreeSet<&Name>) -> Result<(), BookError> {
        let Some(limit) = self.guards.of(source).policy.growth else { return Ok(()) };
        if names.len() as u64 <= limit.rows {
            return Ok(());
        }
        let Some(known) = OrderRow::find(&self.transaction, id)? else { return Ok(()) };
        let names = names.iter().map(|name| (*name).clone()).collect();
        let fresh = rows::fresh(&self.transaction, known.number, &names, &BTreeSet::new())?;
        let (coming, base) = (fresh.added.len() as u64, rows::count_names(&self.transaction, known.number)?);
        if limit.is_exceeded(coming, base) {
            self.overgrown.insert(id.to_owned(), (coming, base));
        }
        Ok(())
    }

    fn hold_growth(&mut self, origin: &Origin, known: &OrderRow, names: &mut Delta) -> Result<(), BookError> {
        let policy = self.guards.of(&origin.source).policy;
        let window = !policy.hold.is_zero();
        if let Some(group) = &self.group {
            if let Some((coming, figures)) = &group.grown {
                let (held, figures) = (names.added.extract_if(.., |name| coming.contains(name)).collect(), *figures);
                self.hold_grown(origin, held, figures);
            }
            if window && !names.added.is_empty() {
                let added = std::mem::take(&mut names.added);
                self.hold_in_window(origin, added.iter());
            }
            return Ok(());
        }
        let coming = names.added.len() as u64;
        let overgrown = self.overgrown.get(&known.terms.id).copied();
        if let Some(limit) = policy.growth.filter(|limit| coming > limit.rows || overgrown.is_some()) {
            let figures = match overgrown {
                Some(figures) => figures,
                None => (coming, rows::count_names(&self.transaction, known.number)?),
            };
            if limit.is_exceeded(figures.0, figures.1) {
                self.hold_grown(origin, std::mem::take(&mut names.added), figures);
            }
        }
        if window && !names.added.is_empty() {
            let added = std::mem::take(&mut names.added);
            self.hold_in_window(origin, added.iter());
        }
        Ok(())
    }

    /// Holds names that are too many: so many of them come to so many.
    fn hold_grown(&mut self, origin: &Origin, names: Vec<Name>, figures: (u64, u64)) {
        let Some(limit) = self.guards.of(&origin.source).policy.growth.filter(|_| !names.is_empty()) else { return };
        let items = names.iter().map(|name| item(ItemKind::Added, name, String::new())).collect();
        let why = format!(
            "more names come at once to the {} that are there than {} and {} percent",
            figures.1, limit.rows, limit.percent
        );
        self.holds.push(Hold { guard: Guard::Growth, why, figures: Some(figures), terms: None, items });
    }

    fn hold_in_window<'n>(&mut self, origin: &Origin, names: impl Iterator<Item = &'n Name>) {
        let items = names.map(|name| item(ItemKind::Added, name, String::new())).collect();
        let why = window_text(self.guards.of(&origin.source).policy.hold);
        self.holds.push(Hold { guard: Guard::Window, why, figures: None, terms: None, items });
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
                    self.holds.push(Hold { guard, why: general.to_owned(), figures: None, terms: None, items });
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
        self.holds.push(Hold { guard, why, figures: None, terms: None, items });
    }
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

/// The same, or whether they last longer.
pub(super) fn widens(before: &Terms, after: &Terms) -> bool {
    let lasts = before.not_after.is_some_and(|end| after.not_after.is_none_or(|later| later > end));
    lasts || is_wider(before, after)
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

#[cfg(test)]
mod tests;
