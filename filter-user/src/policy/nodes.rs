//! What holds at one node of the rule tree and below it: the node's part of a commit.

use filter_common::layout::{ENTRY_NODATA, Node, POLICY_ALLOW, POLICY_NONE, PolicyEntry};
use smallvec::SmallVec;

use super::{
    commit::{CapacityError, Undo},
    compiler::Compiler,
    orders::OrderState,
    tree::{ALLOW, DIRTY, DIRTY_BELOW, Handle, Kind, NIL, NodeId, ROOT},
};

/// What holds below a node for names that have no node of their own.
#[derive(Clone, Default)]
struct Context {
    /// Oldest order first; nearly always one, in each of millions of nodes.
    covers: SmallVec<[Cover; 2]>,
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
    /// Compiles the marked nodes anew, parents first.
    pub(super) fn visit_marked(&mut self, undo: &mut Undo) -> Result<(), CapacityError> {
        let marked = self.tree.by_depth(std::mem::take(&mut self.dirty), |id| *id);
        let start = undo.marked.len();
        undo.marked.extend(marked.into_iter().flatten());
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
        for rule in rules.iter() {
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
        let entries: SmallVec<[PolicyEntry; 2]> = context.covers.iter().map(entry).collect();
        self.policies.intern(&entries).map_err(|_| {
            let orders = context.covers.iter().rev().map(|cover| cover.order);
            CapacityError::Policies { order: self.blamed(orders).unwrap_or_default(), limit: self.limits.policies }
        })
    }

    /// Whether NXDOMAIN by this order for the name itself would say more than the order does: RFC 8020 takes
    /// everything below the name along. Below a name without a node everything is covered, because all parents of
    /// a hole have nodes.
    fn has_uncovered_below(&self, id: NodeId, handle: Handle, order: &OrderState) -> bool {
        order.is_nxdomain()
            && (!order.reaches_below() && !order.terms.insist_nxdomain || self.tree.has_hole_below(id, handle))
    }
}
