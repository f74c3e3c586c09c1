//! Zones: several parts, which are orders, of one source. Guards count over all of them, as over one list, and a name
//! that goes from one part to another is stopped by the old one until the new one has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use filter_common::verdict::Protocol;

use super::{
    BookError, Delta,
    claims::{Claim, ClaimKind, claim, claims, forget, set_claim},
    held,
    rows::{self, Kind, OrderRow},
    writer::{Origin, Writer},
};
use crate::{
    feed::{
        fold::{Folded, Place},
        rpz::Whole,
    },
    name::Name,
    order::{Match, Order, Terms},
};

pub use changes::PartChange;
use moves::Moving;

mod changes;
mod moves;

/// What a reading of a zone changes.
#[derive(Default)]
pub(super) struct Group {
    /// Numbers of the parts that are in force, by order id, and how they reach.
    numbers: BTreeMap<String, (i64, Match)>,
    /// Parts that had no name before, and get none.
    idle: Vec<String>,
    /// What comes to and goes from each part that the zone says anew.
    deltas: HashMap<String, Delta>,
    /// Names that no part has, if they are more than the growth limit lets in; how many, and how many there were.
    pub(super) grown: Option<(BTreeSet<Name>, (u64, u64))>,
    /// How many names no part has any more, and how many there were.
    pub(super) left: (u64, u64),
    /// The zone has no rule.
    pub(super) is_empty: bool,
    /// By part, names that others have now, and which.
    moving: BTreeMap<String, Moving>,
    /// By part, exceptions that wait until others stop those names, and which.
    waiting: BTreeMap<String, Moving>,
    /// By part, exceptions that go with names that others have now.
    leaving: BTreeMap<String, Vec<Name>>,
    /// The zone says something else than it last did: parts that were revoked come back, also those that are the same.
    pub(super) says_anew: bool,
}

impl Group {
    /// What comes to and goes from a part, without the names that go to others.
    pub(super) fn delta(&mut self, id: &str) -> Option<Delta> {
        let mut delta = self.deltas.remove(id)?;
        if let Some(moving) = self.moving.get(id) {
            delta.removed.retain(|name| !moving.contains_key(name));
        }
        Some(delta)
    }

    /// Takes out the exceptions that go from a part when names above them have gone to others.
    pub(super) fn go_later(&mut self, id: &str, except: &mut Delta) {
        if let Some(moving) = self.moving.get(id) {
            let is_below = |name: &mut Name| name.suffixes().any(|above| moving.contains_key(&above));
            self.leaving.insert(id.to_owned(), except.removed.extract_if(.., is_below).collect());
        }
    }

    /// Exceptions that come to a part, without those that wait.
    pub(super) fn come_now(&self, id: &str, except: &mut Delta) {
        if let Some(waiting) = self.waiting.get(id) {
            except.added.retain(|name| !waiting.contains_key(name));
        }
    }
}

/// The names that no part has, or none that reaches as far. `listed` tells which of some names a part lists.
fn in_no_part<'n>(
    group: &Group,
    coming: impl IntoIterator<Item = (Match, &'n Name)>,
    listed: impl Fn(&str, i64, &BTreeSet<&'n Name>) -> Result<BTreeSet<&'n Name>, BookError>,
) -> Result<BTreeSet<Name>, BookError> {
    let (mut at, mut below) = (BTreeSet::new(), BTreeSet::new());
    for (reach, name) in coming {
        at.extend((reach != Match::Below).then_some(name));
        below.extend((reach != Match::Exact).then_some(name));
    }
    for (id, (number, reach)) in &group.numbers {
        for (names, without) in [(&mut at, Match::Below), (&mut below, Match::Exact)] {
            if *reach == without {
                continue;
            }
            for listed in listed(id, *number, names)? {
                names.remove(listed);
            }
        }
    }
    Ok(at.union(&below).map(|name| (*name).clone()).collect())
}

/// Parts that the zone has no names for any more are emptied; if the zone is not taken, all stay as they are.
pub(super) fn complete(
    writer: &Writer<'_>,
    source: &str,
    whole: &Whole,
    orders: &mut BTreeMap<String, Folded>,
    held: &mut BTreeMap<String, u64>,
) -> Result<(), BookError> {
    for (id, _) in claims(&writer.transaction, source)? {
        let is_part = id.strip_prefix(whole.terms.id.as_str()).is_some_and(|rest| rest.starts_with('#'));
        if !is_part || orders.contains_key(&id) {
            continue;
        }
        match OrderRow::find(&writer.transaction, &id)?.filter(|_| whole.serial.is_some()) {
            Some(row) if row.revoked.is_none() => {
                let Terms { id: _, part_of, reach, actions, address, .. } = &*row.terms;
                let mut all = whole.terms.actions.clone();
                all.extend(actions.iter().filter(|(protocol, _)| **protocol == Protocol::Dns));
                let terms = Terms {
                    id: id.clone(),
                    part_of: part_of.clone(),
                    reach: *reach,
                    address: *address,
                    actions: all,
                    ..(*whole.terms).clone()
                };
                let order = Order { terms: terms.into(), names: BTreeSet::new(), except: BTreeSet::new() };
                orders.insert(id, Folded::Put { order, place: Place::default(), removed: BTreeSet::new() });
            }
            row => {
                if row.is_some() {
                    // If it comes back, the zone says something else than it does now.
                    set_claim(&writer.transaction, source, &id, OTHER)?;
                }
                held.insert(id, 0);
            }
        }
    }
    Ok(())
}

impl Writer<'_> {
    /// Looks at the zone as a whole before its parts are put. `said` is what the source says of each of them.
    pub(super) fn look_at_zone(
        &mut self,
        source: &str,
        orders: &BTreeMap<String, Folded>,
        said: &BTreeMap<String, Claim>,
    ) -> Result<(), BookError> {
        let puts: Vec<&Order> = orders.values().filter_map(put).collect();
        let mut group = Group { is_empty: puts.iter().all(|order| order.names.is_empty()), ..Group::default() };
        let last: HashMap<String, Claim> = claims(&self.transaction, source)?.into_iter().collect();
        let is_anew = |id: &str| said.get(id) != last.get(id);
        for order in &puts {
            let id = order.terms.id.as_str();
            if let Some(row) = self.part(id)? {
                group.numbers.insert(id.to_owned(), (row.number, row.terms.reach));
                if order.names.is_empty() && self.is_idle(id, row.number)? {
                    group.idle.push(id.to_owned());
                }
                if is_anew(id) {
                    let delta = self.difference(row.number, Kind::Listed, &order.names)?;
                    group.deltas.insert(id.to_owned(), delta);
                }
            }
        }
        for order in &puts {
            let id = &order.terms.id;
            let (said, last) = (said.get(id), last.get(id));
            group.says_anew |= said != last && self.is_other(&group, order, said, last)?;
        }
        let mut left = BTreeSet::new();
        for (id, delta) in &group.deltas {
            for name in &delta.removed {
                let reach = group.numbers.get(id).map(|(_, reach)| *reach);
                let others = puts.iter().filter(|order| {
                    order.terms.id != *id
                        && order.names.contains(name)
                        && reach.is_none_or(|reach| meet(reach, order.terms.reach))
                });
                let others: Vec<String> = others.map(|order| order.terms.id.clone()).collect();
                if others.is_empty() {
                    left.insert(name);
                } else {
                    group.moving.entry(id.clone()).or_default().insert(name.clone(), others);
                }
            }
        }
        for order in &puts {
            let id = order.terms.id.as_str();
            let (Some((number, _)), Some(names)) = (group.numbers.get(id), group.deltas.get(id)) else { continue };
            let except = self.difference(*number, Kind::Except, &order.except)?;
            let listing = |name: &Name| {
                let others = puts.iter().filter(|other| other.terms.id != id && other.names.contains(name));
                others.map(|other| other.terms.id.as_str()).collect()
            };
            let waiting = self.waiting(&group, names, &except, listing)?;
            group.waiting.insert(id.to_owned(), waiting);
        }
        group.left.0 = left.len() as u64;
        let policy = self.guards.of(source).policy;
        let mut base = None;
        if policy.shrink.is_some_and(|limit| group.left.0 > limit.rows) {
            group.left.1 = self.names_of(&group, &mut base)?;
        }
        if let Some(limit) = policy.growth.filter(|_| !group.numbers.is_empty()) {
            let coming = self.coming(&group, &puts)?;
            let count = coming.len() as u64;
            if count > limit.rows {
                let before = self.names_of(&group, &mut base)?;
                if limit.is_exceeded(count, before) {
                    group.grown = Some((coming, (count, before)));
                }
            }
        }
        if group.idle.len() == group.numbers.len() {
            group.idle.clear();
        }
        self.group = Some(group);
        Ok(())
    }

    /// Whether the zone says something else of a part than it `last` did, not only the same again.
    fn is_other(
        &self,
        group: &Group,
        order: &Order,
        said: Option<&Claim>,
        last: Option<&Claim>,
    ) -> Result<bool, BookError> {
        match (said, last) {
            (Some(said), Some(last)) if said.hash == last.hash => Ok(false),
            (_, Some(&UNKNOWN)) => Ok(false),
            (_, Some(&CHANGED)) => {
                let id = order.terms.id.as_str();
                let Some(row) = OrderRow::find(&self.transaction, id)? else { return Ok(true) };
                let has_other_names = match group.deltas.get(id) {
                    Some(delta) => !delta.is_empty(),
                    None => !self.difference(row.number, Kind::Listed, &order.names)?.is_empty(),
                };
                Ok(has_other_names
                    || row.terms != order.terms
                    || !self.difference(row.number, Kind::Except, &order.except)?.is_empty())
            }
            _ => Ok(true),
        }
    }

    /// Whether the operator has revoked a part of the zone that is being put, and the zone says nothing else since.
    pub(super) fn stays_revoked_with_zone(&self, id: &str) -> Result<bool, BookError> {
        Ok(self.group.as_ref().is_some_and(|group| !group.says_anew) && self.is_revoked_by_operator(id)?)
    }

    fn is_revoked_by_operator(&self, id: &str) -> Result<bool, BookError> {
        let is_revoked = OrderRow::find(&self.transaction, id)?.is_some_and(|row| row.revoked.is_some());
        Ok(is_revoked && rows::revoked_by_operator(&self.transaction, id)?)
    }

    /// Before the operator's revoke of a part. What is held of the zone is forgotten with it: then the book does not
    /// tell any more whether a reading says something else.
    pub(super) fn forget_zone(&self, known: &OrderRow) -> Result<(), BookError> {
        let Some(whole) = known.terms.part_of.as_deref() else { return Ok(()) };
        let parts = rows::parts(&self.transaction, whole)?;
        for id in &parts {
            if !held::is_any_held(&self.transaction, id)? {
                continue;
            }
            for id in &parts {
                if claim(&self.transaction, &known.source, id)? == Some(CHANGED) {
                    set_claim(&self.transaction, &known.source, id, UNKNOWN)?;
                }
            }
            break;
        }
        Ok(())
    }

    /// Names that no part has yet.
    fn coming(&self, group: &Group, puts: &[&Order]) -> Result<BTreeSet<Name>, BookError> {
        let mut coming = Vec::new();
        for order in puts {
            let Terms { id, reach, .. } = &*order.terms;
            match group.deltas.get(id) {
                Some(delta) => coming.extend(delta.added.iter().map(|name| (*reach, name))),
                None if group.numbers.contains_key(id) => {}
                None => coming.extend(order.names.iter().map(|name| (*reach, name))),
            }
        }
        in_no_part(group, coming, |_, number, names| rows::listed_of(&self.transaction, number, names.iter().copied()))
    }

    /// How many names the parts have.
    fn names_of(&self, group: &Group, known: &mut Option<u64>) -> Result<u64, BookError> {
        if let Some(known) = *known {
            return Ok(known);
        }
        let count = group.numbers.values().try_fold(0, |count, (number, _)| {
            Ok::<_, BookError>(count + rows::count_names(&self.transaction, *number)?)
        })?;
        *known = Some(count);
        Ok(count)
    }

    /// Whether a part has no name, and none that waits.
    fn is_idle(&self, id: &str, number: i64) -> Result<bool, BookError> {
        Ok(rows::count_names(&self.transaction, number)? == 0 && !held::is_any_held(&self.transaction, id)?)
    }

    /// Ends parts that had no name before this reading and got none: each would take an order's place in the kernel's
    /// tables. Not those that have just lost their names to others: what ends is told of before it is written, so they
    /// would end, too, if it then cannot be written. The last parts stay: their order is in force.
    fn end_idle(&mut self, origin: &Origin, idle: Vec<String>) -> Result<(), BookError> {
        for id in idle {
            let Some(row) = self.part(&id)?.filter(|row| row.source == *origin.source) else { continue };
            if self.is_idle(&id, row.number)? {
                self.revoke(origin, &id, "the zone has no rule of this part any more")?;
                forget(&self.transaction, &origin.source, &id)?;
            }
        }
        Ok(())
    }

    /// The row of a part, or of any order, if that is not revoked.
    pub(super) fn part(&self, id: &str) -> Result<Option<OrderRow>, BookError> {
        Ok(OrderRow::find(&self.transaction, id)?.filter(|row| row.revoked.is_none()))
    }
}

/// What a source has said of a part by differences: nobody has read the whole since, and the book tells what it says.
const CHANGED: Claim = Claim { kind: ClaimKind::Again, hash: [0; 16] };

/// As [`CHANGED`], but the book does not tell it.
const UNKNOWN: Claim = Claim { kind: ClaimKind::Again, hash: [1; 16] };

/// Something else than was said before.
const OTHER: Claim = Claim { kind: ClaimKind::Again, hash: [2; 16] };

/// Whether rules at one name that reach so have anything in common: only then does one take the other's place.
fn meet(one: Match, other: Match) -> bool {
    !matches!((one, other), (Match::Exact, Match::Below) | (Match::Below, Match::Exact))
}

fn put(folded: &Folded) -> Option<&Order> {
    match folded {
        Folded::Put { order, .. } => Some(order),
        Folded::Revoked { .. } | Folded::Events(_) => None,
    }
}

#[cfg(test)]
mod tests;
