//! The compiler's operations: orders and the allow list into the rule tree and out of it again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use filter_common::layout::MAX_LABELS;
use jiff::Timestamp;

use super::{
    OrderSlot, ScopeTable,
    interner::Interner,
    orders::{OrderError, OrderState, kind, slot_for},
    slots::Slots,
    tree::{ALLOW, DIRTY, DIRTY_BELOW, Handle, KEPT, Kind, NodeId, ROOT, Rule, Tree},
};
use crate::{
    name::{Name, list::sorted},
    order::{Match, Order, Terms},
};

/// Sizes of the kernel tables.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Slots in `ORDERS`.
    pub orders: u32,
    /// Slots in `POLICIES`, the two reserved ones among them.
    pub policies: u32,
    /// Entries in `NAMES`.
    pub names: u32,
}

/// The rule tree, and what the tables hold of it.
///
/// Operations change the tree; [`Compiler::commit`] gives what must be written to the tables since the last commit.
#[derive(Debug)]
pub struct Compiler {
    scopes: ScopeTable,
    targets: HashMap<String, u32>,
    handles: HashMap<String, Handle>,
    free_handles: Vec<Handle>,
    allow: BTreeSet<(Name, Match)>,
    pub(super) limits: Limits,
    pub(super) tree: Tree,
    /// By handle.
    pub(super) orders: Vec<Option<OrderState>>,
    /// Orders that were put, changed or revoked since the last commit.
    pub(super) changed: Vec<Handle>,
    /// Nodes with a dirty flag.
    pub(super) dirty: Vec<NodeId>,
    pub(super) policies: Interner,
    pub(super) free_orders: Slots,
    /// Nodes in the tables, by number of labels.
    pub(super) depths: [u32; MAX_LABELS + 1],
}

impl Compiler {
    /// Empty. `targets` gives the slots of the redirect targets by name.
    pub fn new(scopes: ScopeTable, targets: impl IntoIterator<Item = (String, u32)>, limits: Limits) -> Self {
        Self {
            scopes,
            targets: targets.into_iter().collect(),
            handles: HashMap::new(),
            free_handles: Vec::new(),
            allow: BTreeSet::new(),
            limits,
            tree: Tree::new(),
            orders: Vec::new(),
            changed: Vec::new(),
            dirty: Vec::new(),
            policies: Interner::new(limits.policies),
            free_orders: Slots::new(0, limits.orders),
            depths: [0; MAX_LABELS + 1],
        }
    }

    /// Keeps away from slots that the tables hold from an earlier run, as if they had been freed just now. To be
    /// called before the first order is put.
    pub fn occupy(&mut self, orders: &BTreeSet<u32>, policies: &BTreeSet<u32>) {
        self.free_orders.occupy(orders);
        self.policies.occupy(policies);
    }

    /// Takes other scopes and targets into use. Those of the orders that there are must keep their numbers.
    pub fn set_numbers(&mut self, scopes: ScopeTable, targets: impl IntoIterator<Item = (String, u32)>) {
        self.scopes = scopes;
        self.targets = targets.into_iter().collect();
    }

    /// To be called when all changes so far are in the tables, and every few seconds: slots that those changes freed
    /// may be used again from [`GRACE`](super::GRACE) after the first such call. Tells whether there are more now.
    pub fn release(&mut self, now: Instant) -> bool {
        let (orders, policies) = (self.free_orders.release(now), self.policies.release(now));
        orders || policies
    }

    /// The order slots in the tables.
    pub fn order_slots(&self) -> impl Iterator<Item = (u32, &OrderSlot)> {
        self.orders.iter().flatten().filter_map(|order| order.written.as_ref()).map(|(slot, order)| (*slot, order))
    }

    /// Number of nodes in the tables.
    pub fn nodes(&self) -> u32 {
        self.depths.iter().sum()
    }

    /// Adds an order, or replaces the one with its id.
    pub fn put(&mut self, order: &Order) -> Result<(), OrderError> {
        let wanted = slot_for(&order.terms, &self.scopes, &self.targets)?;
        let id = &order.terms.id;
        let held = self.handles.get(id).map_or(0, |handle| self.order(*handle).names.len());
        self.reserve(Some(id), order.names.iter().chain(&order.except), order.names.len().saturating_sub(held))?;
        let handle = match self.handles.get(id) {
            Some(handle) => *handle,
            None => self.add_order(order.terms.clone(), wanted.clone()),
        };

        let state = self.order_mut(handle);
        let old_terms = std::mem::replace(&mut state.terms, order.terms.clone());
        state.wanted = wanted;
        let (old_kind, new_kind) = (kind(old_terms.reach), state.kind());
        let (old_names, old_except) = (std::mem::take(&mut state.names), std::mem::take(&mut state.except));
        state.stale = 0;
        self.note_changed(handle);

        let names = self.tree.make_all(order.names.iter());
        for id in self.leftover(old_names, if old_kind == new_kind { &names } else { &[] }) {
            self.remove_rule(id, Rule { order: handle, kind: old_kind });
        }
        for id in &names {
            self.insert_rule(*id, Rule { order: handle, kind: new_kind });
        }
        let except = self.tree.make_all(order.except.iter());
        for id in self.leftover(old_except, &except) {
            self.remove_rule(id, Rule { order: handle, kind: Kind::Except });
        }
        for id in &except {
            self.insert_rule(*id, Rule { order: handle, kind: Kind::Except });
        }
        let state = self.order_mut(handle);
        (state.names, state.except) = (names, except);
        // These show in the policies, not in the order's slot.
        if old_terms.issued != order.terms.issued || old_terms.insist_nxdomain != order.terms.insist_nxdomain {
            self.mark_order(handle);
        }
        Ok(())
    }

    /// The names of an order; none if it is not known.
    pub fn names(&self, order: &str) -> BTreeSet<Name> {
        let Ok(handle) = self.handle(order) else { return BTreeSet::new() };
        let state = self.order(handle);
        let rule = Rule { order: handle, kind: state.kind() };
        sorted(state.names.iter().filter(|id| self.tree.has(**id, rule)).map(|id| self.tree.name(*id)).collect())
    }

    /// Whether an order has this very name.
    pub fn lists(&self, order: &str, name: &Name) -> bool {
        let Ok(handle) = self.handle(order) else { return false };
        let rule = Rule { order: handle, kind: self.order(handle).kind() };
        self.tree.find(name).is_some_and(|id| self.tree.has(id, rule))
    }

    /// Adds names to an order.
    pub fn add_names<'a>(&mut self, order: &str, names: impl IntoIterator<Item = &'a Name>) -> Result<(), OrderError> {
        let handle = self.handle(order)?;
        let names: Vec<_> = names.into_iter().collect();
        self.reserve(Some(order), names.iter().copied(), names.len())?;
        let rule = Rule { order: handle, kind: self.order(handle).kind() };
        self.note_changed(handle);
        for id in self.tree.make_all(names.into_iter()) {
            if self.insert_rule(id, rule) {
                self.order_mut(handle).names.push(id);
            }
        }
        Ok(())
    }

    /// Removes names from an order. Names that it does not have are left out.
    pub fn remove_names<'a>(
        &mut self,
        order: &str,
        names: impl IntoIterator<Item = &'a Name>,
    ) -> Result<(), OrderError> {
        let handle = self.handle(order)?;
        let rule = Rule { order: handle, kind: self.order(handle).kind() };
        self.note_changed(handle);
        for name in names {
            if let Some(id) = self.tree.find(name)
                && self.remove_rule(id, rule)
            {
                self.order_mut(handle).stale += 1;
            }
        }
        let Self { orders, tree, .. } = self;
        if let Some(state) = orders.get_mut(handle as usize).and_then(Option::as_mut)
            && state.stale > state.names.len() / 2
        {
            state.names.retain(|id| tree.has(*id, rule));
            state.names.sort_unstable();
            state.names.dedup();
            state.stale = 0;
        }
        Ok(())
    }

    /// Changes an order's end; `None` for no end.
    pub fn extend(&mut self, order: &str, not_after: Option<Timestamp>) -> Result<(), OrderError> {
        let handle = self.handle(order)?;
        let state = self.order_mut(handle);
        Arc::make_mut(&mut state.terms).not_after = not_after;
        state.wanted.end = not_after;
        self.note_changed(handle);
        Ok(())
    }

    /// Removes an order.
    pub fn revoke(&mut self, order: &str) -> Result<(), OrderError> {
        let handle = self.handle(order)?;
        self.handles.remove(order);
        let state = self.order_mut(handle);
        state.revoked = true;
        let kind = state.kind();
        let (names, except) = (std::mem::take(&mut state.names), std::mem::take(&mut state.except));
        self.note_changed(handle);
        for id in names {
            self.remove_rule(id, Rule { order: handle, kind });
        }
        for id in except {
            self.remove_rule(id, Rule { order: handle, kind: Kind::Except });
        }
        Ok(())
    }

    /// Replaces the operator's allow list, which beats every order.
    pub fn set_allow(&mut self, allow: impl IntoIterator<Item = (Name, Match)>) -> Result<(), OrderError> {
        let allow: BTreeSet<_> = allow.into_iter().collect();
        self.reserve(None, allow.iter().map(|(name, _)| name), allow.len().saturating_sub(self.allow.len()))?;
        let old = std::mem::take(&mut self.allow);
        for (name, reach) in old.difference(&allow) {
            if let Some(id) = self.tree.find(name) {
                self.remove_rule(id, Rule { order: ALLOW, kind: kind(*reach) });
            }
        }
        for (name, reach) in allow.difference(&old) {
            let id = self.tree.make(name);
            self.insert_rule(id, Rule { order: ALLOW, kind: kind(*reach) });
        }
        self.allow = allow;
        Ok(())
    }

    /// Marks all names of an order, and what lies below them where it reaches there.
    pub(super) fn mark_order(&mut self, handle: Handle) {
        let state = self.order_mut(handle);
        let rule = Rule { order: handle, kind: state.kind() };
        let below = state.reaches_below();
        let names = std::mem::take(&mut state.names);
        for id in &names {
            if self.tree.has(*id, rule) {
                self.mark(*id, below);
            }
        }
        self.order_mut(handle).names = names;
    }

    pub(super) fn mark(&mut self, id: NodeId, below: bool) {
        let node = &mut self.tree[id];
        if node.flags & (DIRTY | DIRTY_BELOW) == 0 {
            self.dirty.push(id);
        }
        node.flags |= if below { DIRTY | DIRTY_BELOW } else { DIRTY };
    }

    /// Only for handles that the tree holds: those have an order until the commit after the revocation.
    pub(super) fn order(&self, handle: Handle) -> &OrderState {
        self.orders[handle as usize].as_ref().expect("handle of an order")
    }

    pub(super) fn order_mut(&mut self, handle: Handle) -> &mut OrderState {
        self.orders[handle as usize].as_mut().expect("handle of an order")
    }

    pub(super) fn forget_order(&mut self, handle: Handle) {
        self.orders[handle as usize] = None;
        self.free_handles.push(handle);
    }

    fn handle(&self, order: &str) -> Result<Handle, OrderError> {
        self.handles.get(order).copied().ok_or_else(|| OrderError::UnknownOrder { order: order.to_owned() })
    }

    fn add_order(&mut self, terms: Arc<Terms>, wanted: OrderSlot) -> Handle {
        let id = terms.id.clone();
        let state = OrderState {
            terms,
            wanted,
            slot: None,
            written: None,
            changed: false,
            revoked: false,
            names: Vec::new(),
            stale: 0,
            except: Vec::new(),
        };
        let handle = match self.free_handles.pop() {
            Some(handle) => {
                self.orders[handle as usize] = Some(state);
                handle
            }
            None => {
                self.orders.push(Some(state));
                self.orders.len() as Handle - 1
            }
        };
        self.handles.insert(id, handle);
        handle
    }

    fn note_changed(&mut self, handle: Handle) {
        let state = self.order_mut(handle);
        if !std::mem::replace(&mut state.changed, true) {
            self.changed.push(handle);
        }
    }

    fn reserve<'a>(
        &mut self,
        order: Option<&str>,
        names: impl Iterator<Item = &'a Name> + Clone,
        new: usize,
    ) -> Result<(), OrderError> {
        let (count, octets) =
            names.clone().fold((0, 0), |(count, octets), name| (count + 1, octets + name.as_str().len()));
        if self.tree.reserve(nodes_of(new, names, count), octets) {
            Ok(())
        } else {
            Err(OrderError::TooManyNames { order: order.map(str::to_owned) })
        }
    }

    /// Those of `old` that are not among `new`.
    fn leftover(&mut self, mut old: Vec<NodeId>, new: &[NodeId]) -> Vec<NodeId> {
        if !old.is_empty() {
            new.iter().for_each(|id| self.tree[*id].flags |= KEPT);
            old.retain(|id| self.tree[*id].flags & KEPT == 0);
            new.iter().for_each(|id| self.tree[*id].flags &= !KEPT);
        }
        old
    }

    fn insert_rule(&mut self, id: NodeId, rule: Rule) -> bool {
        let new = self.tree.insert(id, rule);
        if new {
            self.mark(id, rule.kind != Kind::Exact);
            self.for_each_above_hole(id, rule, |tree, above| tree.dig(above, rule.order));
        }
        new
    }

    fn remove_rule(&mut self, id: NodeId, rule: Rule) -> bool {
        let was = self.tree.remove(id, rule);
        if was {
            self.mark(id, rule.kind != Kind::Exact);
            self.for_each_above_hole(id, rule, |tree, above| tree.fill(above, rule.order));
        }
        was
    }

    /// If the rule makes a hole in others, counts it at every name that has the hole below it.
    fn for_each_above_hole(&mut self, id: NodeId, rule: Rule, count: impl Fn(&mut Tree, NodeId) -> bool) {
        let first = match rule.kind {
            // The allow list's own name is not in the hole, but all below it is.
            Kind::Below if rule.order == ALLOW => id,
            _ if rule.order == ALLOW || rule.kind == Kind::Except => self.tree[id].parent,
            _ => return,
        };
        let mut above = first;
        while above != ROOT {
            if count(&mut self.tree, above) {
                self.mark(above, false);
            }
            above = self.tree[above].parent;
        }
    }
}

/// About how many nodes so many of these `count` names take, their parents among them, by a sample: too few cost looking
/// at every node again, too many cost memory.
fn nodes_of<'a>(new: usize, names: impl Iterator<Item = &'a Name>, count: usize) -> usize {
    let (mut sampled, mut suffixes) = (0, HashSet::new());
    for name in names.step_by(count.div_ceil(SAMPLE).max(1)) {
        sampled += 1;
        let name = name.as_str();
        suffixes.extend(std::iter::once(name).chain(name.match_indices('.').map(|(dot, _)| &name[dot + 1..])));
    }
    new * suffixes.len() / sampled.max(1)
}

/// Names that are looked at to tell how many nodes all of them take.
const SAMPLE: usize = 4096;
