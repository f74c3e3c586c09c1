//! From the marked nodes of the rule tree to the changes that must be written.
//!
//! Either all of a commit happens or, where a table is full, nothing: until the end, the nodes' former content and
//! the slots taken are noted, and undone if need be.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use filter_common::layout::{Node, PolicyEntry};

use crate::{many, name::Name};

use super::{
    Changes, OrderSlot,
    compiler::Compiler,
    interner::Interner,
    tree::{ALLOW, DIRTY, DIRTY_BELOW, Handle, NodeId, ROOT, TOUCHED},
};

/// Why a commit is not possible. Nothing was changed; once the order is revoked or made smaller, or the tables are
/// greater, it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// No slot for the order.
    #[error("order {order}: all {limit} order slots are in use")]
    Orders {
        /// Order id.
        order: String,
        /// Order slots in all.
        limit: u32,
    },
    /// No slot for a new combination of orders.
    #[error("order {order}: all {limit} policy slots are in use")]
    Policies {
        /// Id of an order that takes part in the combination, a changed one if there is any.
        order: String,
        /// Policy slots in all.
        limit: u32,
    },
    /// More names than the table holds; while changes are written, it holds the old and the new ones.
    #[error("{}: more than {limit} names in all", order.as_ref().map_or("allow list".into(), |id| format!("order {id}")))]
    Names {
        /// Id of an order with new names; `None` if only the allow list has some.
        order: Option<String>,
        /// Names in all.
        limit: u32,
    },
}

/// A commit under way.
#[derive(Default)]
pub(super) struct Undo {
    /// Nodes whose content changed, with what the tables hold for them.
    pub touched: Vec<(NodeId, Option<Node>)>,
    /// Nodes that were marked.
    pub marked: Vec<NodeId>,
    /// Orders that took a new slot.
    moved: Vec<Handle>,
}

impl Compiler {
    /// Compiles what changed since the last commit.
    pub fn commit(&mut self) -> Result<Changes, CapacityError> {
        let depths = self.depth_bits();
        let mut undo = Undo::default();
        match self.compile(&mut undo) {
            Ok(()) => Ok(self.finish(undo, depths)),
            Err(error) => {
                self.roll_back(undo);
                Err(error)
            }
        }
    }

    /// How many places there are for [`Compiler::listed`].
    pub fn places(&self) -> u32 {
        self.tree.ids().end
    }

    /// The names in these places that the last commit left in force. A name keeps its place while it is in force.
    pub fn listed(&self, places: Range<u32>) -> impl Iterator<Item = Name> {
        let ids = places.start..places.end.min(self.places());
        ids.filter(|id| self.tree.published(*id).is_some()).map(|id| self.tree.name(id))
    }

    /// Everything that the last commit left in force, as changes to empty tables.
    pub fn whole(&self) -> Changes {
        let depths = self.depth_bits();
        let nodes = self.tree.ids().filter_map(|id| self.tree.published(id).map(|node| (id, node)));
        let nodes: Vec<_> = self.tree.by_depth(nodes, |(id, _)| *id).into_iter().rev().flatten().collect();
        Changes {
            orders: self.order_slots().map(|(slot, order)| (slot, order.clone())).collect(),
            policies: self.policies.all().collect(),
            depths_during: depths,
            insert: many::map(&nodes, |(id, node)| (self.tree.name(*id), *node)),
            depths,
            ..Changes::default()
        }
    }

    fn compile(&mut self, undo: &mut Undo) -> Result<(), CapacityError> {
        let mut retimed = HashSet::new();
        for handle in self.changed.clone() {
            let order = self.order(handle);
            match &order.written {
                _ if order.revoked => {}
                Some((_, written)) if *written == order.wanted => {}
                Some((_, written)) if differ_in_times_alone(written, &order.wanted) => drop(retimed.insert(handle)),
                _ => self.move_order(handle, undo)?,
            }
        }
        self.visit_marked(undo)?;
        // New times take effect at once wherever the order's slot is referred to. A name for which something else
        // changes, too, would for a moment be judged by the new times and the old rest: there, the order moves to a
        // new slot instead.
        while !retimed.is_empty() {
            let entangled = self.entangled(&retimed, undo);
            if entangled.is_empty() {
                break;
            }
            for handle in entangled {
                retimed.remove(&handle);
                self.move_order(handle, undo)?;
            }
            self.visit_marked(undo)?;
        }

        let deleted = undo.touched.iter().filter(|(id, old)| old.is_some() && self.tree.published(*id).is_none());
        if self.nodes() as usize + deleted.count() > self.limits.names as usize {
            let new = undo.touched.iter().filter(|(id, old)| old.is_none() && self.tree.published(*id).is_some());
            let orders = new.flat_map(|(id, _)| self.tree.rules(*id).to_vec()).map(|rule| rule.order);
            return Err(CapacityError::Names { order: self.blamed(orders), limit: self.limits.names });
        }
        Ok(())
    }

    fn move_order(&mut self, handle: Handle, undo: &mut Undo) -> Result<(), CapacityError> {
        let Some(slot) = self.free_orders.take() else {
            let order = self.order(handle).wanted.id.clone();
            return Err(CapacityError::Orders { order, limit: self.limits.orders });
        };
        self.order_mut(handle).slot = Some(slot);
        undo.moved.push(handle);
        self.mark_order(handle);
        Ok(())
    }

    pub(super) fn publish(&mut self, id: NodeId, wanted: Option<Node>, undo: &mut Undo) {
        let current = self.tree.published(id);
        if current == wanted {
            return;
        }
        let node = &mut self.tree[id];
        if node.flags & TOUCHED == 0 {
            node.flags |= TOUCHED;
            undo.touched.push((id, current));
        } else {
            drop_policies(&mut self.policies, current);
        }
        if let Some(node) = wanted {
            self.policies.acquire(node.at);
            self.policies.acquire(node.below);
        }
        self.set_published(id, wanted);
    }

    fn set_published(&mut self, id: NodeId, published: Option<Node>) {
        let was_published = self.tree.published(id).is_some();
        if let Some(count) = self.depths.get_mut(usize::from(self.tree[id].depth)) {
            *count = *count + u32::from(published.is_some()) - u32::from(was_published);
        }
        self.tree.set_published(id, published);
    }

    /// Those of the orders with new times that share a policy, or hold at a name whose policy changes.
    fn entangled(&self, retimed: &HashSet<Handle>, undo: &Undo) -> HashSet<Handle> {
        let by_slot: HashMap<u32, Handle> =
            retimed.iter().filter_map(|handle| Some((self.order(*handle).slot?, *handle))).collect();
        let old: HashMap<_, _> = undo.touched.iter().copied().collect();
        let mut changing = HashSet::new();
        for (id, _) in &undo.touched {
            let before = self.effective(*id, |id| old.get(&id).copied().unwrap_or_else(|| self.tree.published(id)));
            let after = self.effective(*id, |id| self.tree.published(id));
            for (before, after) in [(before.at, after.at), (before.below, after.below)] {
                if before != after {
                    changing.extend([before, after]);
                }
            }
        }
        let of = |entries: &[PolicyEntry]| entries.iter().filter_map(|it| by_slot.get(&it.order).copied()).collect();
        let shared = self.policies.lists().map(of).filter(|orders: &Vec<_>| orders.len() > 1);
        let changed = changing.iter().map(|slot| of(self.policies.entries(*slot)));
        shared.chain(changed).flatten().collect()
    }

    /// The policies that hold at a name and below it, whether it has a node of its own in the tables or not.
    fn effective(&self, id: NodeId, published: impl Fn(NodeId) -> Option<Node>) -> Node {
        if let Some(node) = published(id) {
            return node;
        }
        let mut above = self.tree[id].parent;
        while above != ROOT {
            if let Some(Node { below, .. }) = published(above) {
                return Node { at: below, below };
            }
            above = self.tree[above].parent;
        }
        Node::default()
    }

    fn finish(&mut self, undo: Undo, depths_before: [u64; 2]) -> Changes {
        let mut changes = Changes::default();
        let (mut insert, mut delete) = (Vec::new(), Vec::new());
        for (id, old) in undo.touched {
            self.tree[id].flags &= !TOUCHED;
            drop_policies(&mut self.policies, old);
            match (old, self.tree.published(id)) {
                (None, Some(node)) => insert.push((id, node)),
                (Some(_), None) => {
                    // First it says what holds without it: whether a packet still finds it is then the same.
                    let without = self.effective(id, |id| self.tree.published(id));
                    changes.update.push((self.tree.name(id), without));
                    delete.push(id);
                }
                (Some(old), Some(node)) if old != node => changes.update.push((self.tree.name(id), node)),
                _ => {}
            }
        }
        let insert: Vec<_> = self.tree.by_depth(insert, |(id, _)| *id).into_iter().rev().flatten().collect();
        let delete = self.tree.by_depth(delete, |id| *id).into_iter().flatten();
        changes.insert = many::map(&insert, |(id, node)| (self.tree.name(*id), *node));
        changes.delete = delete.map(|id| self.tree.name(id)).collect();
        changes.policies = self.policies.finish();
        changes.depths = self.depth_bits();
        changes.depths_during = [changes.depths[0] | depths_before[0], changes.depths[1] | depths_before[1]];

        for handle in std::mem::take(&mut self.changed) {
            let order = self.order_mut(handle);
            order.changed = false;
            let slot = order.slot.filter(|_| !order.revoked);
            let now = slot.map(|slot| (slot, order.wanted.clone()));
            let before = std::mem::replace(&mut order.written, now.clone());
            let revoked = order.revoked;
            if let Some((old, _)) = before.as_ref().filter(|(old, _)| Some(*old) != slot) {
                changes.retired_orders.push(*old);
                self.free_orders.retire(*old);
            }
            changes.orders.extend(now.filter(|now| before.as_ref() != Some(now)));
            if revoked {
                self.forget_order(handle);
            }
        }
        for id in undo.marked {
            self.tree.prune(id);
        }
        changes
    }

    fn roll_back(&mut self, undo: Undo) {
        for (id, old) in undo.touched {
            self.tree[id].flags &= !TOUCHED;
            drop_policies(&mut self.policies, self.tree.published(id));
            self.set_published(id, old);
        }
        self.policies.finish();
        for handle in undo.moved {
            let order = self.order_mut(handle);
            let taken = std::mem::replace(&mut order.slot, order.written.as_ref().map(|(slot, _)| *slot));
            if let Some(slot) = taken {
                self.free_orders.give_back(slot);
            }
        }
        let marked: Vec<_> = undo.marked.into_iter().chain(std::mem::take(&mut self.dirty)).collect();
        for id in &marked {
            self.tree[*id].flags &= !(DIRTY | DIRTY_BELOW);
        }
        for id in marked {
            self.mark(id, true);
        }
    }

    /// The order to name in an error: one of these that changed, or else the first of them. `None` if there is only
    /// the allow list.
    pub(super) fn blamed(&self, orders: impl Iterator<Item = Handle> + Clone) -> Option<String> {
        let mut orders = orders.filter(|order| *order != ALLOW).map(|order| self.order(order));
        let changed = orders.clone().find(|order| order.changed);
        changed.or_else(|| orders.next()).map(|order| order.wanted.id.clone())
    }

    fn depth_bits(&self) -> [u64; 2] {
        let mut bits = [0; 2];
        for (depth, _) in self.depths.iter().enumerate().filter(|(_, count)| **count > 0) {
            bits[depth / 64] |= 1 << (depth % 64);
        }
        bits
    }
}

fn drop_policies(policies: &mut Interner, node: Option<Node>) {
    if let Some(node) = node {
        policies.drop(node.at);
        policies.drop(node.below);
    }
}

fn differ_in_times_alone(old: &OrderSlot, new: &OrderSlot) -> bool {
    let timeless = OrderSlot { start: old.start, end: old.end, ..new.clone() };
    *old == timeless
}
