//! The compiler: from orders to the nodes, policies and order slots of the kernel tables, as changes.

use std::net::{Ipv4Addr, Ipv6Addr};

use filter_common::layout::{Node, Policy};
use jiff::Timestamp;

use crate::name::Name;

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
    /// Nodes with other policies.
    pub update: Vec<(Name, Node)>,
    /// Nodes that go, shallowest first.
    pub delete: Vec<Name>,
    /// Order slots that no policy refers to any more: their `end` becomes 0.
    pub retired_orders: Vec<u32>,
    /// Depth bits afterwards.
    pub depths: [u64; 2],
}
