//! From the marked nodes of the rule tree to the changes that must be written.
//!
//! Either all of a commit happens or, where a table is full, nothing: until the end, the nodes' former content and
//! the slots taken are noted, and undone if need be.

use std::collections::{HashMap, HashSet};

use filter_common::layout::{ENTRY_NODATA, Node, POLICY_ALLOW, POLICY_NONE, PolicyEntry};

use super::{
    Changes, OrderSlot,
    compiler::{Compiler, OrderState},
    tree::{ALLOW, DIRTY, DIRTY_BELOW, Handle, Kind, NIL, NodeId, ROOT, TOUCHED},
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
    #[error("order {order}: its names would make more than {limit} in all")]
    Names {
        /// Id of an order with new names.
        order: String,
        /// Names in all.
        limit: u32,
    },
}

/// A commit under way.
#[derive(Default)]
struct Undo {
    /// Nodes whose content changed, with what the tables hold for them.
    touched: Vec<(NodeId, Option<Node>)>,
    /// Nodes that were marked.
    marked: Vec<NodeId>,
    /// Orders that took a new slot.
    moved: Vec<Handle>,
}

/// What holds below a node for names that have no node of their own.
#[derive(Clone, Default)]
struct Context {
    /// Oldest order first.
    covers: Vec<Cover>,
    allowed: bool,
    /// Slot of the policy with these entries.
    policy: u32,
}

#[derive(Clone, Copy)]
struct Cover {
    order: Handle,
    /// Labels of the rule's name.
    depth: u8,
}

/// Which of a node's two policies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    At,
    Below,
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

    /// Everything that the last commit left in force, as changes to empty tables.
    pub fn whole(&self) -> Changes {
        let depths = self.depth_bits();
        let mut nodes: Vec<_> =
            self.tree.ids().filter_map(|id| self.tree[id].published.map(|node| (id, node))).collect();
        nodes.sort_by_key(|(id, _)| std::cmp::Reverse(self.tree[*id].depth));
        Changes {
            orders: self.orders.iter().flatten().filter_map(|order| order.written.clone()).collect(),
            policies: self.policies.all().collect(),
            depths_during: depths,
            insert: nodes.into_iter().map(|(id, node)| (self.tree.name(id), node)).collect(),
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

        let before: u32 = self.depths.iter().sum::<u32>();
        let deleted = undo.touched.iter().filter(|(id, old)| old.is_some() && self.tree[*id].published.is_none());
        if before as usize + deleted.count() > self.limits.names as usize {
            let new = undo.touched.iter().find(|(id, old)| old.is_none() && self.tree[*id].published.is_some());
            let orders = new.map_or(&[][..], |(id, _)| self.tree.rules(*id)).iter().map(|rule| rule.order);
            return Err(CapacityError::Names { order: self.blamed(orders), limit: self.limits.names });
        }
        Ok(())
    }

    fn move_order(&mut self, handle: Handle, undo: &mut Undo) -> Result<(), CapacityError> {
        let Some(slot) = self.order_slots.take() else {
            let order = self.order(handle).wanted.id.clone();
            return Err(CapacityError::Orders { order, limit: self.limits.orders });
        };
        self.order_mut(handle).slot = Some(slot);
        undo.moved.push(handle);
        self.mark_order(handle);
        Ok(())
    }

    /// Compiles the marked nodes anew, parents first.
    fn visit_marked(&mut self, undo: &mut Undo) -> Result<(), CapacityError> {
        let mut marked = std::mem::take(&mut self.dirty);
        marked.sort_by_key(|id| self.tree[*id].depth);
        let start = undo.marked.len();
        undo.marked.append(&mut marked);
        for index in start..undo.marked.len() {
            let id = undo.marked[index];
            if self.tree[id].flags & DIRTY != 0 {
                let inherited = self.context(self.tree[id].parent)?;
                self.visit(id, &inherited, false, undo)?;
            }
        }
        Ok(())
    }

    fn visit(
        &mut self,
        id: NodeId,
        inherited: &Context,
        everything: bool,
        undo: &mut Undo,
    ) -> Result<(), CapacityError> {
        let node = &mut self.tree[id];
        let everything = everything || node.flags & DIRTY_BELOW != 0;
        node.flags &= !(DIRTY | DIRTY_BELOW);

        let at = self.covers(id, inherited, Side::At);
        let at = self.policy(&at, Some(id))?;
        let mut below = self.covers(id, inherited, Side::Below);
        below.policy = self.policy(&below, None)?;
        let node = Node { at, below: below.policy };
        let same_as_parent = Node { at: inherited.policy, below: inherited.policy };
        self.publish(id, (node != same_as_parent).then_some(node), undo);

        if everything {
            let mut child = self.tree[id].child;
            while child != NIL {
                self.visit(child, &below, true, undo)?;
                child = self.tree[child].next;
            }
        }
        Ok(())
    }

    /// What the children of a node inherit.
    fn context(&mut self, id: NodeId) -> Result<Context, CapacityError> {
        let mut path = Vec::new();
        let mut above = id;
        while above != ROOT {
            if !self.tree.rules(above).is_empty() {
                path.push(above);
            }
            above = self.tree[above].parent;
        }
        let mut context = Context::default();
        for id in path.into_iter().rev() {
            context = self.covers(id, &context, Side::Below);
        }
        context.policy = self.policy(&context, None)?;
        Ok(context)
    }

    /// What holds at a node or below it, without the policy's slot. Of one order the deeper rule wins, whether it
    /// covers or excepts; at one name the exception wins.
    fn covers(&self, id: NodeId, inherited: &Context, side: Side) -> Context {
        let mut context = inherited.clone();
        let covers = &mut context.covers;
        let (rules, depth) = (self.tree.rules(id), self.tree[id].depth);
        for rule in rules {
            match (rule.kind, side) {
                (Kind::Subtree, _) | (Kind::Exact, Side::At) | (Kind::Below, Side::Below) => {}
                _ => continue,
            }
            if rule.order == ALLOW {
                context.allowed = true;
            } else if let Some(cover) = covers.iter_mut().find(|cover| cover.order == rule.order) {
                cover.depth = depth;
            } else {
                covers.push(Cover { order: rule.order, depth });
            }
        }
        for rule in rules.iter().filter(|rule| rule.kind == Kind::Except) {
            covers.retain(|cover| cover.order != rule.order);
        }
        covers.sort_by_key(|cover| {
            let terms = &self.order(cover.order).terms;
            (terms.issued, &terms.id)
        });
        context
    }

    /// Slot of the policy for a name itself (`at`), or for what lies below one.
    fn policy(&mut self, context: &Context, at: Option<NodeId>) -> Result<u32, CapacityError> {
        if context.allowed {
            return Ok(POLICY_ALLOW);
        }
        if context.covers.is_empty() {
            return Ok(POLICY_NONE);
        }
        let entry = |cover: &Cover| {
            let order = self.order(cover.order);
            let nodata = at.is_some_and(|id| self.has_uncovered_below(id, cover.order, order));
            let flags = if nodata { ENTRY_NODATA } else { 0 };
            PolicyEntry { order: order.slot.unwrap_or_default(), depth: cover.depth, flags, pad: [0; 2] }
        };
        let entries: Vec<_> = context.covers.iter().map(entry).collect();
        self.policies.intern(&entries).map_err(|_| {
            let orders = context.covers.iter().map(|cover| cover.order);
            CapacityError::Policies { order: self.blamed(orders), limit: self.limits.policies }
        })
    }

    /// Whether NXDOMAIN by this order for the name itself would say more than the order does: RFC 8020 takes
    /// everything below the name along. Below a name without a node everything is covered, because all parents of
    /// a hole have nodes.
    fn has_uncovered_below(&self, id: NodeId, handle: Handle, order: &OrderState) -> bool {
        order.is_nxdomain()
            && (!order.reaches_below() && !order.terms.insist_nxdomain || self.tree.has_hole_below(id, handle))
    }

    fn publish(&mut self, id: NodeId, wanted: Option<Node>, undo: &mut Undo) {
        let node = &mut self.tree[id];
        let current = node.published;
        if current == wanted {
            return;
        }
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
        let node = &mut self.tree[id];
        if let Some(count) = self.depths.get_mut(usize::from(node.depth)) {
            *count = *count + u32::from(published.is_some()) - u32::from(node.published.is_some());
        }
        node.published = published;
    }

    /// Those of the orders with new times that share a policy, or hold at a name whose policy changes.
    fn entangled(&self, retimed: &HashSet<Handle>, undo: &Undo) -> HashSet<Handle> {
        let by_slot: HashMap<u32, Handle> =
            retimed.iter().filter_map(|handle| Some((self.order(*handle).slot?, *handle))).collect();
        let old: HashMap<_, _> = undo.touched.iter().copied().collect();
        let mut changing = HashSet::new();
        for (id, _) in &undo.touched {
            let before = self.effective(*id, |id| old.get(&id).copied().unwrap_or(self.tree[id].published));
            let after = self.effective(*id, |id| self.tree[id].published);
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
            match (old, self.tree[id].published) {
                (None, Some(node)) => insert.push((id, node)),
                (Some(_), None) => delete.push(id),
                (Some(old), Some(node)) if old != node => changes.update.push((self.tree.name(id), node)),
                _ => {}
            }
        }
        insert.sort_by_key(|(id, _)| std::cmp::Reverse(self.tree[*id].depth));
        delete.sort_by_key(|id| self.tree[*id].depth);
        changes.insert = insert.into_iter().map(|(id, node)| (self.tree.name(id), node)).collect();
        changes.delete = delete.into_iter().map(|id| self.tree.name(id)).collect();
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
                self.order_slots.retire(*old);
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
            drop_policies(&mut self.policies, self.tree[id].published);
            self.set_published(id, old);
        }
        self.policies.finish();
        for handle in undo.moved {
            let order = self.order_mut(handle);
            let taken = std::mem::replace(&mut order.slot, order.written.as_ref().map(|(slot, _)| *slot));
            if let Some(slot) = taken {
                self.order_slots.give_back(slot);
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

    /// The order to name in an error: one that changed, or else the last of them.
    fn blamed(&self, orders: impl DoubleEndedIterator<Item = Handle> + Clone) -> String {
        let mut newest_first = orders.rev().filter(|order| *order != ALLOW).map(|order| self.order(order));
        let changed = newest_first.clone().find(|order| order.changed);
        changed.or_else(|| newest_first.next()).map_or_else(String::new, |order| order.wanted.id.clone())
    }

    fn depth_bits(&self) -> [u64; 2] {
        let mut bits = [0; 2];
        for (depth, _) in self.depths.iter().enumerate().filter(|(_, count)| **count > 0) {
            bits[depth / 64] |= 1 << (depth % 64);
        }
        bits
    }
}

fn drop_policies(policies: &mut super::interner::Interner, node: Option<Node>) {
    if let Some(node) = node {
        policies.drop(node.at);
        policies.drop(node.below);
    }
}

fn differ_in_times_alone(old: &OrderSlot, new: &OrderSlot) -> bool {
    let timeless = OrderSlot { start: old.start, end: old.end, ..new.clone() };
    *old == timeless
}
