//! What changed in a zone, of which all else stays as it was: the way of transfers that tell differences.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use rusqlite::TransactionBehavior::Immediate;

use super::{CHANGED, Group, OTHER, in_no_part, meet};
use crate::{
    book::{
        Applied, Book, BookError, Delta, Item, ItemKind,
        claims::set_claim,
        guarded::{Admitted, Wanted},
        held::{self, Of},
        rows::{self, Kind, OrderRow},
        writer::{Origin, Writer},
    },
    feed::fold::Place,
    name::Name,
    order::{Match, Order, Terms},
};

/// What comes to and goes from one part since the zone was heard of last.
#[derive(Clone, Debug)]
pub struct PartChange {
    /// The part's terms as they are now.
    pub terms: Arc<Terms>,
    /// Names.
    pub names: Delta,
    /// Exceptions.
    pub except: Delta,
}

impl Book {
    /// Applies what changed in a zone, of which all else stays as it was, in one transaction. `arrived` is when it was
    /// known. Refusals are in what is given back, and do not take the place of those of the last reading. `None`: the
    /// whole zone is to be read, since what changed does not tell all: the operator has revoked the order, which comes back
    /// with all that the zone says; exceptions change, which may free what is held; a part comes back whose names are not
    /// known; or a name goes for which another part waited.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn change_zone(
        &mut self,
        source: &str,
        parts: Vec<PartChange>,
        arrived: Instant,
    ) -> Result<Option<Applied>, BookError> {
        let origin = Origin { source: source.into(), place: Place::default() };
        self.write_notes_ahead()?;
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut writer = Writer::open(transaction, &self.guards, &mut self.told);
        if writer.is_zone_revoked(&parts)? {
            for part in &parts {
                set_claim(&writer.transaction, source, &part.terms.id, OTHER)?;
            }
            writer.commit(&mut self.ahead)?;
            return Ok(None);
        }
        let there = writer.there(&parts)?;
        if writer.may_be_freed(&parts)? || writer.is_forgotten(&parts)? || is_waited_for(&parts, &there) {
            return Ok(None);
        }
        writer.arrived(Some(arrived));
        writer.look_at_changes(source, &parts, &there)?;
        let mut ids = BTreeSet::new();
        for part in parts {
            ids.insert(part.terms.id.clone());
            writer.change_part(&origin, part)?;
        }
        for id in &ids {
            // A later reading of the whole zone compares each name: what it says is not what was said last.
            set_claim(&writer.transaction, source, id, CHANGED)?;
        }
        writer.finish_moves(&origin)?;
        writer.record_own_refusals()?;
        writer.commit(&mut self.ahead).map(Some)
    }
}

/// A part of a zone that is in force.
struct There<'p> {
    number: i64,
    reach: Match,
    /// What it lists of all names that come to any part or go from it.
    names: BTreeSet<&'p Name>,
}

/// Whether a name goes that its part did not have yet, while another has it: it may have waited for this one.
fn is_waited_for(parts: &[PartChange], there: &BTreeMap<String, There<'_>>) -> bool {
    let is_absent =
        |part: &PartChange, name: &&Name| there.get(&part.terms.id).is_none_or(|own| !own.names.contains(name));
    parts.iter().any(|part| {
        let mut absent = part.names.removed.iter().filter(|name| is_absent(part, name));
        absent.any(|name| there.values().any(|other| other.names.contains(name)))
    })
}

impl Writer<'_> {
    /// The parts that are in force, by order id.
    fn there<'p>(&self, parts: &'p [PartChange]) -> Result<BTreeMap<String, There<'p>>, BookError> {
        let whole = parts.first().map_or("", |part| part.terms.whole());
        let names: BTreeSet<&Name> =
            parts.iter().flat_map(|part| part.names.added.iter().chain(&part.names.removed)).collect();
        let mut there = BTreeMap::new();
        for id in rows::parts(&self.transaction, whole)? {
            if let Some(row) = self.part(&id)? {
                let names = rows::listed_of(&self.transaction, row.number, names.iter().copied())?;
                there.insert(id, There { number: row.number, reach: row.terms.reach, names });
            }
        }
        Ok(there)
    }

    /// Whether the operator has revoked the order of which these are parts.
    fn is_zone_revoked(&self, parts: &[PartChange]) -> Result<bool, BookError> {
        let whole = parts.first().map_or("", |part| part.terms.whole());
        let mut is_revoked = false;
        for id in rows::parts(&self.transaction, whole)? {
            if self.part(&id)?.is_some() {
                return Ok(false);
            }
            is_revoked |= self.is_revoked_by_operator(&id)?;
        }
        Ok(is_revoked)
    }

    /// Whether something may be free now that is held: exceptions come or go, so that something does not reach over a
    /// protected name any more; or names go, so that nothing reaches where an exception was to go.
    fn may_be_freed(&self, parts: &[PartChange]) -> Result<bool, BookError> {
        for part in parts.iter().filter(|part| !part.names.removed.is_empty()) {
            let id = &part.terms.id;
            let is_of_except = |item: &Item| item.kind == ItemKind::ExceptRemoved;
            if held::is_any_held(&self.transaction, id)?
                && held::held(&self.transaction, &Of::Order(id), usize::MAX)?
                    .iter()
                    .any(|held| held.items.iter().any(is_of_except))
            {
                return Ok(true);
            }
        }
        if parts.iter().all(|part| part.except.is_empty()) {
            return Ok(false);
        }
        let whole = parts.first().map_or("", |part| part.terms.whole());
        for id in rows::parts(&self.transaction, whole)? {
            if held::is_any_held(&self.transaction, &id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a part comes back that was revoked with its names: what of them the zone says now, nobody has noted.
    fn is_forgotten(&self, parts: &[PartChange]) -> Result<bool, BookError> {
        for part in parts {
            let Some(row) = OrderRow::find(&self.transaction, &part.terms.id)? else { continue };
            let nothing = Delta::default();
            if row.revoked.is_some()
                && (rows::count_names(&self.transaction, row.number)? > 0
                    || !self.after(Kind::Except, row.number, &nothing)?.is_empty())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`Writer::look_at_zone`], by what changed.
    fn look_at_changes(
        &mut self,
        source: &str,
        parts: &[PartChange],
        there: &BTreeMap<String, There<'_>>,
    ) -> Result<(), BookError> {
        let numbers = there.iter().map(|(id, part)| (id.clone(), (part.number, part.reach))).collect();
        let mut group = Group { says_anew: true, numbers, ..Group::default() };
        let sets: Vec<(&str, BTreeSet<&Name>, BTreeSet<&Name>)> = parts
            .iter()
            .map(|part| {
                (part.terms.id.as_str(), part.names.added.iter().collect(), part.names.removed.iter().collect())
            })
            .collect();
        let mut left = BTreeSet::new();
        let (mut come, mut go) = (0, 0);
        for part in parts {
            let id = part.terms.id.as_str();
            let Some(There { number, names, .. }) = there.get(id) else { continue };
            let number = *number;
            let those = |all: &[Name], are_there: bool| {
                let those: BTreeSet<&Name> = all.iter().filter(|name| names.contains(name) == are_there).collect();
                those.into_iter().cloned().collect()
            };
            let delta = Delta { added: those(&part.names.added, false), removed: those(&part.names.removed, true) };
            for name in &delta.removed {
                let mut others = Vec::new();
                let meets =
                    |(other, (_, reach)): &(&String, &(i64, Match))| *other != id && meet(part.terms.reach, *reach);
                for (other, _) in group.numbers.iter().filter(meets) {
                    let is_said = |added: bool| {
                        sets.iter()
                            .any(|(id, come, go)| *id == other.as_str() && if added { come } else { go }.contains(name))
                    };
                    let is_wanted = is_said(true)
                        || !is_said(false) && there.get(other).is_some_and(|part| part.names.contains(name));
                    others.extend(is_wanted.then(|| other.clone()));
                }
                let is_new_part = |id: &str| !group.numbers.contains_key(id);
                let new = parts.iter().zip(&sets).filter(|(new, (id, come, _))| {
                    is_new_part(id) && come.contains(name) && meet(part.terms.reach, new.terms.reach)
                });
                others.extend(new.map(|(_, (id, ..))| (*id).to_owned()));
                if others.is_empty() {
                    left.insert(name.clone());
                } else {
                    group.moving.entry(id.to_owned()).or_default().insert(name.clone(), others);
                }
            }
            let mut except = Delta::default();
            if !part.except.is_empty() {
                let all = self.after(Kind::Except, number, &part.except)?;
                except = self.difference(number, Kind::Except, &all)?;
            }
            let listing = |name: &Name| {
                let others = sets.iter().filter(|(other, come, _)| *other != id && come.contains(name));
                others.map(|(other, ..)| *other).collect()
            };
            let waiting = self.waiting(&group, &delta, &except, listing)?;
            group.waiting.insert(id.to_owned(), waiting);
            (come, go) = (come + delta.added.len(), go + delta.removed.len());
            group.deltas.insert(id.to_owned(), delta);
        }
        group.left.0 = left.len() as u64;
        let policy = self.guards.of(source).policy;
        let mut base = None;
        if go > 0 && come == 0 {
            let has_more = self.names_of(&group, &mut base)? > go as u64;
            group.is_empty = !has_more && sets.iter().all(|(_, come, _)| come.is_empty());
        }
        if policy.shrink.is_some_and(|limit| group.left.0 > limit.rows) {
            group.left.1 = self.names_of(&group, &mut base)?;
        }
        if let Some(limit) = policy.growth.filter(|_| !group.numbers.is_empty()) {
            let coming =
                parts.iter().flat_map(|part| part.names.added.iter().map(move |name| (part.terms.reach, name)));
            let coming = in_no_part(&group, coming, |id, _, names| {
                let there = there.get(id).map(|part| names.intersection(&part.names).copied().collect());
                Ok(there.unwrap_or_default())
            })?;
            let count = coming.len() as u64;
            if count > limit.rows {
                let before = self.names_of(&group, &mut base)?;
                if limit.is_exceeded(count, before) {
                    group.grown = Some((coming, (count, before)));
                }
            }
        }
        for (id, (number, _)) in &group.numbers {
            if !sets.iter().any(|(changed, ..)| changed == id) && self.is_idle(id, *number)? {
                group.idle.push(id.clone());
            }
        }
        if group.idle.len() == group.numbers.len() {
            group.idle.clear();
        }
        self.group = Some(group);
        Ok(())
    }

    fn change_part(&mut self, origin: &Origin, part: PartChange) -> Result<bool, BookError> {
        let PartChange { terms, names, except } = part;
        let id = terms.id.clone();
        let row = OrderRow::find(&self.transaction, &id)?;
        let taken = match row {
            None => {
                let order = Order {
                    terms,
                    names: names.added.into_iter().collect(),
                    except: except.added.into_iter().collect(),
                };
                self.put(origin, order, &BTreeSet::new())?
            }
            Some(row) if row.revoked.is_some() => {
                let order = Order {
                    terms,
                    names: self.after(Kind::Listed, row.number, &names)?,
                    except: self.after(Kind::Except, row.number, &except)?,
                };
                self.put(origin, order, &BTreeSet::new())?
            }
            Some(row) => {
                self.hold_no_longer(&id, &names.removed.iter().cloned().collect())?;
                self.go_no_longer(&id, &names.added)?;
                let all = self.after(Kind::Except, row.number, &except)?;
                let except = self.difference(row.number, Kind::Except, &all)?;
                // Also those that stay until other parts have them: the zone does not list them here any more.
                let gone: BTreeSet<Name> = names.removed.into_iter().collect();
                let is_listed = |name: &Name| !gone.contains(name);
                let names = self.group.as_mut().and_then(|group| group.delta(&id)).unwrap_or_default();
                let wanted = Wanted { terms: &terms, except: &all, given: usize::MAX, is_listed: &is_listed };
                let difference = Admitted { terms: None, names, except };
                match self.screen_difference(origin, &row, &wanted, difference, &|_| false)? {
                    Some(admitted) => self.admit(origin, &row, admitted)?,
                    None => false,
                }
            }
        };
        self.write_holds(&origin.source, &id, origin.place, false)?;
        Ok(taken)
    }

    /// What the book has of a part, with a change made to it.
    fn after(&self, kind: Kind, number: i64, delta: &Delta) -> Result<BTreeSet<Name>, BookError> {
        let mut all = BTreeSet::new();
        rows::read_names(&self.transaction, number, kind, |name| {
            all.insert(rows::name(name)?);
            Ok(())
        })?;
        delta.removed.iter().for_each(|name| _ = all.remove(name));
        all.extend(delta.added.iter().cloned());
        Ok(all)
    }

    /// Names that are listed again are not held to go any more.
    fn go_no_longer(&mut self, id: &str, names: &[Name]) -> Result<(), BookError> {
        if names.is_empty() || !held::is_any_held(&self.transaction, id)? {
            return Ok(());
        }
        let names: BTreeSet<&str> = names.iter().map(Name::as_str).collect();
        for held in held::held(&self.transaction, &Of::Order(id), usize::MAX)? {
            let stays = |item: &Item| item.kind != ItemKind::Removed || !names.contains(item.name.as_str());
            held.keep(&self.transaction, self.guards, stays)?;
        }
        Ok(())
    }
}
