//! Tables as the kernel holds them, and the judgement of a name by them as the XDP program comes to it.

use std::collections::HashMap;

use filter_common::{
    layout::{self, ENTRY_NODATA, Node, POLICY_ALLOW, POLICY_NONE, Policy, PolicyEntry},
    verdict::{Action, Asker, Choice, Reason},
};
use jiff::Timestamp;

use super::{Changes, OrderSlot};
use crate::name::Name;

/// Tables that a name can be judged by.
pub trait Tables {
    /// Bit d: some node has d labels. No other suffixes are looked up.
    fn depths(&self) -> [u64; 2];
    /// The node of a name.
    fn node(&self, name: &Name) -> Option<Node>;
    /// A policy slot.
    fn policy(&self, slot: u32) -> Option<Policy>;
    /// An order slot.
    fn order(&self, slot: u32) -> Option<layout::Order>;
}

/// How a name is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What decides, or why it passes.
    pub outcome: Outcome,
    /// Slots of all orders that hold for this name, client, protocol and time, oldest first.
    pub concerned: Vec<u32>,
}

/// What decides, or why a name passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No order holds.
    Passes(Reason),
    /// An order holds.
    Decided {
        /// The deciding entry.
        entry: PolicyEntry,
        /// Its action, before what the packet makes of it.
        action: Action,
    },
}

impl Outcome {
    /// Whether NXDOMAIN goes out as NODATA.
    pub fn is_nodata(&self) -> bool {
        matches!(self, Self::Decided { entry, .. } if entry.flags & ENTRY_NODATA != 0)
    }
}

/// Judges a name by tables: the deepest node decides alone, then the strongest action, then the older order.
pub fn judge(tables: &impl Tables, name: &Name, asker: &Asker) -> Judgement {
    let passes = |reason| Judgement { outcome: Outcome::Passes(reason), concerned: Vec::new() };
    let mut slot = match deepest(tables, name) {
        None | Some(POLICY_NONE) => return passes(Reason::NotListed),
        Some(POLICY_ALLOW) => return passes(Reason::Allowed),
        Some(slot) => slot,
    };
    let mut choice = Choice::NONE;
    let mut concerned = Vec::new();
    while slot != POLICY_NONE {
        let Some(policy) = tables.policy(slot) else { return passes(Reason::TableBroken) };
        for entry in policy.entries.iter().take(policy.len as usize) {
            let Some(order) = tables.order(entry.order) else { return passes(Reason::TableBroken) };
            if choice.consider(*entry, &order, asker) {
                concerned.push(entry.order);
            }
        }
        slot = policy.next;
    }
    let outcome = match Action::from_code(choice.action) {
        Some(action) => Outcome::Decided { entry: choice.entry, action },
        None => Outcome::Passes(choice.passed()),
    };
    Judgement { outcome, concerned }
}

/// Slot of the policy that decides.
fn deepest(tables: &impl Tables, name: &Name) -> Option<u32> {
    let depths = tables.depths();
    name.suffixes().find_map(|suffix| {
        let depth = usize::from(suffix.depth());
        let in_use = depths.get(depth / 64).is_some_and(|bits| bits >> (depth % 64) & 1 != 0);
        let node = if in_use { tables.node(&suffix) } else { None }?;
        Some(if suffix == *name { node.at } else { node.below })
    })
}

/// Tables in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    nodes: HashMap<Name, Node>,
    policies: HashMap<u32, Policy>,
    orders: HashMap<u32, OrderSlot>,
    depths: [u64; 2],
}

/// One write to the tables.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Content of an order slot.
    Order(u32, &'a OrderSlot),
    /// Content of a policy slot.
    Policy(u32, &'a Policy),
    /// Which depths are looked up.
    Depths([u64; 2]),
    /// A node, new or with other policies.
    Node(&'a Name, Node),
    /// A node goes.
    Delete(&'a Name),
    /// An order slot goes out of use.
    Retire(u32),
}

impl Changes {
    /// The writes one by one, in their order.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let orders = self.orders.iter().map(|(slot, order)| Step::Order(*slot, order));
        let policies = self.policies.iter().map(|(slot, policy)| Step::Policy(*slot, policy));
        let nodes = self.insert.iter().chain(&self.update).map(|(name, node)| Step::Node(name, *node));
        orders
            .chain(policies)
            .chain([Step::Depths(self.depths_during)])
            .chain(nodes)
            .chain(self.delete.iter().map(Step::Delete))
            .chain(self.retired_orders.iter().copied().map(Step::Retire))
            .chain([Step::Depths(self.depths)])
    }
}

impl Image {
    /// Writes changes.
    pub fn apply(&mut self, changes: &Changes) {
        changes.steps().for_each(|step| self.write(step));
    }

    /// Writes one of them.
    pub fn write(&mut self, step: Step<'_>) {
        match step {
            Step::Order(slot, order) => drop(self.orders.insert(slot, order.clone())),
            Step::Policy(slot, policy) => drop(self.policies.insert(slot, *policy)),
            Step::Depths(depths) => self.depths = depths,
            Step::Node(name, node) => drop(self.nodes.insert(name.clone(), node)),
            Step::Delete(name) => drop(self.nodes.remove(name)),
            Step::Retire(slot) => drop(self.orders.remove(&slot)),
        }
    }

    /// What an order slot holds.
    pub fn order_slot(&self, slot: u32) -> Option<&OrderSlot> {
        self.orders.get(&slot)
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

impl Tables for Image {
    fn depths(&self) -> [u64; 2] {
        self.depths
    }

    fn node(&self, name: &Name) -> Option<Node> {
        self.nodes.get(name).copied()
    }

    fn policy(&self, slot: u32) -> Option<Policy> {
        self.policies.get(&slot).copied()
    }

    fn order(&self, slot: u32) -> Option<layout::Order> {
        self.orders.get(&slot).map(|order| order.to_layout(clock))
    }
}

/// The clock of an [`Image`]: nanoseconds since 1970, instead of since boot.
pub fn clock(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond().max(0)).unwrap_or(u64::MAX - 1)
}
