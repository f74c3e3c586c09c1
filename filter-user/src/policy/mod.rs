//! The compiler: from orders to the nodes, policies and order slots of the kernel tables, as changes.
//!
//! A tree holds the rules of all orders by name. What changes in it is marked, and [`Compiler::commit`] compiles the
//! marked nodes anew: the changed names themselves and, where a rule reaches below, what lies below. Each node's
//! policies repeat the entries of its parents, so that the deepest node decides alone.
//!
//! [`reference::explain`] says the same from the definition, without a tree; [`image::judge`] evaluates tables as the
//! kernel does. The tests hold the three against each other.

use std::{
    collections::HashSet,
    iter::successors,
    net::{Ipv4Addr, Ipv6Addr},
};

use filter_common::layout::{self, MAX_TEXT, Node, ORDER_A, ORDER_AAAA, Policy};
use jiff::Timestamp;

use crate::name::Name;

mod commit;
mod compiler;
pub mod image;
mod interner;
mod nodes;
mod orders;
pub mod reference;
mod scopes;
mod slots;
#[cfg(test)]
mod tests;
mod tree;

pub use commit::CapacityError;
pub use compiler::{Compiler, Limits};
pub use orders::OrderError;
pub use scopes::{ScopeTable, TooManyScopes};
pub use slots::GRACE;

/// An order slot's content; the kernel side turns times into boot-time clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderSlot {
    /// Order id, for statistics and reports.
    pub id: String,
    /// In force from here on, inclusive.
    pub start: Timestamp,
    /// In force up to here, exclusive.
    pub end: Option<Timestamp>,
    /// Scope bits.
    pub scopes: u64,
    /// Action codes by protocol code, 0 for not covered.
    pub actions: [u8; 4],
    /// Slot of the redirect target.
    pub target: u32,
    /// EDE info-code.
    pub ede: u16,
    /// EDE extra text, at most 64 octets of UTF-8.
    pub text: String,
    /// For the action address.
    pub a: Option<Ipv4Addr>,
    /// For the action address.
    pub aaaa: Option<Ipv6Addr>,
}

impl OrderSlot {
    /// The table's form, with times on the clock that `clock` turns them to.
    pub fn to_layout(&self, clock: impl Fn(Timestamp) -> u64) -> layout::Order {
        let mut text = [0; MAX_TEXT];
        let text_len = self.text.len().min(MAX_TEXT);
        text[..text_len].copy_from_slice(&self.text.as_bytes()[..text_len]);
        let flag = |set: bool, flag| if set { flag } else { 0 };
        layout::Order {
            start: clock(self.start),
            end: self.end.map_or(u64::MAX, clock),
            scopes: self.scopes,
            actions: self.actions,
            target: self.target,
            ede: self.ede,
            text_len: text_len as u8,
            flags: flag(self.a.is_some(), ORDER_A) | flag(self.aaaa.is_some(), ORDER_AAAA),
            a: self.a.map_or([0; 4], |address| address.octets()),
            aaaa: self.aaaa.map_or([0; 16], |address| address.octets()),
            text,
        }
    }
}

/// What must be written to bring the kernel tables from one compiled state to the next, in the order of the fields.
/// Written so, each single name is judged by its old or by its new state at every moment, never by a third.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Order slots: new content, or other times of an order that is there already.
    pub orders: Vec<(u32, OrderSlot)>,
    /// Policy slots; a slot in use is never rewritten.
    pub policies: Vec<(u32, Policy)>,
    /// Depth bits while the change is written: the union of before and after.
    pub depths_during: [u64; 2],
    /// New nodes, deepest first.
    pub insert: Vec<(Name, Node)>,
    /// Nodes with other policies, and those that go: these first say what will hold without them.
    pub update: Vec<(Name, Node)>,
    /// Nodes that go, shallowest first.
    pub delete: Vec<Name>,
    /// Order slots that no policy refers to any more: their `end` becomes 0.
    pub retired_orders: Vec<u32>,
    /// Depth bits afterwards.
    pub depths: [u64; 2],
}

impl Changes {
    /// Whether none of the nodes lies below another of them, so that no name is judged by two: then it is judged by its
    /// old or by its new state in whatever order they are written. Of many, nobody knows.
    pub fn are_apart(&self) -> bool {
        let Self { insert, update, delete, .. } = self;
        if insert.len() + update.len() + delete.len() > MOST_APART {
            return false;
        }
        let names = || insert.iter().chain(update).map(|(name, _)| name).chain(delete).map(Name::as_str);
        let all: HashSet<&str> = names().collect();
        let is_below_another = |name: &str| {
            let mut parents = successors(name.split_once('.'), |(_, parent)| parent.split_once('.'));
            parents.any(|(_, parent)| all.contains(parent))
        };
        !names().any(is_below_another)
    }
}

/// To look at more would take longer than to wait for those who may judge by two of them.
const MOST_APART: usize = 10_000;
