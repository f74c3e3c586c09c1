//! Writing what the compiler made.
//!
//! A name is judged by the deepest node found for it. While nodes are written one after another, each name must be
//! judged by its old or by its new state: so what nodes refer to is written first, new nodes come deepest first, and
//! old ones go shallowest first, before what they refer to.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap, HashSet},
};

use filter_common::layout::{NameTag, Node, Order, POLICY_FIRST, POLICY_NONE, Policy};

use super::{clock::Clock, error::Error, tables::Tables};
use crate::{
    many,
    name::{Listing, Name},
    policy::{Changes, OrderSlot},
};

/// Slots that the tables refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Policy slots that some node leads to.
    pub policies: HashSet<u32>,
    /// Order slots that these policies name.
    pub orders: HashSet<u32>,
}

/// What a comparison found and put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Nodes that were missing.
    pub inserted: usize,
    /// Nodes with other policies.
    pub updated: usize,
    /// Nodes that should not have been there.
    pub deleted: usize,
}

impl Tables {
    /// Writes the changes, in the order of their fields, with times by `clock`; then the generation is one more.
    ///
    /// # Errors
    /// [`Error::Full`] and others. What was written before the error stays, and each name is still judged by its old
    /// or its new state; bring the tables to a known state with [`Tables::compare_and_repair`].
    pub fn apply(&self, changes: &Changes, clock: &Clock) -> Result<(), Error> {
        self.write_slots(changes, clock)?;
        self.look_also_at(changes.depths_during)?;
        {
            let _writing = self.lock();
            let (insert, update) = (self.hashed(&changes.insert), self.hashed(&changes.update));
            if self.names.is_at_rest() && changes.are_apart() {
                self.names.set_all_apart(&insert)?;
                self.names.set_all_apart(&update)?;
            } else {
                self.names.set_all(&insert)?;
                self.names.set_all(&update)?;
                // A packet looks from the shallow to the deep. One that has passed by where a new node is now must not
                // find an old one gone, which it would have met further on.
                if !changes.delete.is_empty() {
                    self.names.wait_for_readers()?;
                }
            }
            let delete: Vec<_> = changes.delete.iter().map(|name| name.listing(&self.key).tag).collect();
            self.names.delete_all(&delete);
        }
        if !changes.retired_orders.is_empty() {
            self.names.wait_for_readers()?;
        }
        self.retire(changes.retired_orders.iter().copied())?;
        self.finish(changes.depths)
    }

    /// Waits until no packet is on its way that came before the last change, so that the next change need not. To be
    /// called when there is nothing else to do.
    ///
    /// # Errors
    /// If the kernel does not wait; then the next change does.
    pub fn settle(&self) -> Result<(), Error> {
        let _writing = self.lock();
        if self.names.is_at_rest() { Ok(()) } else { self.names.wait_for_readers() }
    }

    /// Brings tables that an earlier process left to a state that was compiled from nothing, while packets are
    /// judged by them:
    ///
    /// 1. The daemon reads [`Tables::in_use_slots`], and has the compiler avoid these slots: what the old nodes refer
    ///    to stays as it is. (So policies and orders need room for both states.)
    /// 2. `take_over` writes the new orders and policies, inserts and updates nodes, then deletes those that the new
    ///    state does not have, as [`Tables::compare_and_repair`] does, and ends the old orders.
    /// 3. After the grace period the old slots may be handed out again.
    ///
    /// # Errors
    /// As [`Tables::apply`]; trying again later is safe, with the same `fresh` and `old`.
    pub fn take_over(&self, fresh: &Changes, old: &InUse, clock: &Clock) -> Result<Difference, Error> {
        self.write_slots(fresh, clock)?;
        self.look_also_at(fresh.depths)?;
        let difference = self.compare_and_repair(fresh.insert.iter().map(|(name, node)| (name, *node)))?;
        self.names.wait_for_readers()?;
        self.retire(old.orders.iter().copied())?;
        self.finish(fresh.depths)?;
        Ok(difference)
    }

    /// Compares the nodes with `expected`, deepest first, and puts right what differs. Depths stay as they are.
    ///
    /// Of a node that should not be there only the hash is known, not how deep it lies; so these are emptied before
    /// the first of them is deleted. For a moment a name at or below such a node may pass that another order covers;
    /// none is stopped that neither state stops.
    ///
    /// # Errors
    /// As [`Tables::apply`].
    pub fn compare_and_repair<'a>(
        &self,
        expected: impl Iterator<Item = (&'a Name, Node)>,
    ) -> Result<Difference, Error> {
        let _writing = self.lock();
        let Repair { insert, update, delete } =
            Repair::new(self.snapshot(), expected.map(|(name, node)| (name.listing(&self.key), node)));
        self.names.set_all(&insert)?;
        self.names.set_all(&update)?;
        let empty = Node { at: POLICY_NONE, below: POLICY_NONE };
        self.names.update_all(&delete.iter().map(|tag| (*tag, empty)).collect::<Vec<_>>());
        if !delete.is_empty() {
            self.names.wait_for_readers()?;
        }
        self.names.delete_all(&delete);
        Ok(Difference { inserted: insert.len(), updated: update.len(), deleted: delete.len() })
    }

    /// Whether so much is left of names that are gone that packets take longer: then the filter in front of the names is
    /// to be made anew.
    pub fn is_stale(&self) -> bool {
        self.names.is_stale()
    }

    /// Begins to make the filter anew. Before [`Tables::finish_refill`], [`Tables::refill`] must be told every name in the
    /// tables; those that are written meanwhile are known. What was begun before is left.
    pub fn begin_refill(&self) {
        self.names.begin_refill();
    }

    /// Goes on with making the filter anew: with a part of the names, so that nothing else has to wait.
    pub fn refill(&self, names: impl Iterator<Item = impl Borrow<Name>>) {
        self.names.refill(names.map(|name| name.borrow().listing(&self.key)));
    }

    /// Puts the filter that was made in place of the other.
    ///
    /// # Errors
    /// If the kernel does not wait for readers; then both are in use.
    pub fn finish_refill(&self) -> Result<(), Error> {
        let _writing = self.lock();
        self.names.finish_refill()
    }

    /// Slots in use in the maps as they are.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn in_use_slots(&self) -> Result<InUse, Error> {
        let mut waiting = BTreeSet::new();
        self.names.for_each(|_, node| waiting.extend([node.at, node.below]));
        let mut in_use = InUse::default();
        while let Some(slot) = waiting.pop_first() {
            // A slot that does not exist is no use to anyone.
            if slot < POLICY_FIRST || slot >= self.policies.entries() || !in_use.policies.insert(slot) {
                continue;
            }
            let Policy { len, next, entries } = self.policy(slot)?;
            in_use.orders.extend(entries.iter().take(len as usize).map(|entry| entry.order));
            waiting.insert(next);
        }
        Ok(in_use)
    }

    /// Writes the orders' times anew, after a clock step.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn rewrite_times<'a>(
        &self,
        slots: impl Iterator<Item = (u32, &'a OrderSlot)>,
        clock: &Clock,
    ) -> Result<(), Error> {
        let _writing = self.lock();
        self.orders
            .set_all(&slots.map(|(slot, order)| (slot, order.to_layout(|time| clock.boot(time)))).collect::<Vec<_>>())
    }

    fn write_slots(&self, changes: &Changes, clock: &Clock) -> Result<(), Error> {
        self.rewrite_times(changes.orders.iter().map(|(slot, order)| (*slot, order)), clock)?;
        let _writing = self.lock();
        self.policies.set_all(&changes.policies)
    }

    /// Has the program look at these depths, too. A packet that does not yet has come to its end when this returns.
    fn look_also_at(&self, depths: [u64; 2]) -> Result<(), Error> {
        let mut more = false;
        self.change_settings(|settings| {
            for (old, new) in settings.depths.iter_mut().zip(depths) {
                more |= new & !*old != 0;
                *old |= new;
            }
        })?;
        if more {
            self.names.wait_for_readers()?;
        }
        Ok(())
    }

    fn hashed(&self, nodes: &[(Name, Node)]) -> Vec<(Listing, Node)> {
        many::map(nodes, |(name, node)| (name.listing(&self.key), *node))
    }

    /// Ends orders that nothing refers to any more.
    fn retire(&self, slots: impl Iterator<Item = u32>) -> Result<(), Error> {
        let _writing = self.lock();
        let mut ended = Vec::new();
        for slot in slots {
            if let Some(order) = self.orders.get(&slot)? {
                ended.push((slot, Order { end: 0, ..order }));
            }
        }
        self.orders.set_all(&ended)
    }

    fn finish(&self, depths: [u64; 2]) -> Result<(), Error> {
        self.change_settings(|settings| {
            settings.depths = depths;
            settings.generation += 1;
        })
    }
}

/// What brings the nodes that there are to those that there should be.
#[derive(Debug, PartialEq, Eq)]
struct Repair {
    insert: Vec<(Listing, Node)>,
    update: Vec<(Listing, Node)>,
    delete: Vec<NameTag>,
}

impl Repair {
    fn new(mut found: HashMap<NameTag, Node>, expected: impl Iterator<Item = (Listing, Node)>) -> Self {
        let (mut insert, mut update) = (Vec::new(), Vec::new());
        for (name, node) in expected {
            match found.remove(&name.tag) {
                None => insert.push((name, node)),
                Some(found) if found != node => update.push((name, node)),
                Some(_) => {}
            }
        }
        Self { insert, update, delete: found.into_keys().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_does_what_differs_and_keeps_the_order() {
        let tag = |n| NameTag { lanes: [n, 0, 0] };
        let name = |n| Listing { tag: tag(n), ..Listing::default() };
        let node = |at| Node { at, below: 0 };
        let found = HashMap::from([(tag(1), node(1)), (tag(2), node(2)), (tag(3), node(3))]);
        let expected = [(name(5), node(5)), (name(2), node(9)), (name(4), node(4)), (name(1), node(1))];
        assert_eq!(
            Repair::new(found, expected.into_iter()),
            Repair {
                insert: vec![(name(5), node(5)), (name(4), node(4))],
                update: vec![(name(2), node(9))],
                delete: vec![tag(3)],
            }
        );
    }
}
