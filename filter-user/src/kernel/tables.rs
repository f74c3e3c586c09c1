//! Reading and writing the maps.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::Path,
};

use filter_common::{
    layout::{Counter, Hits, NameKey, Node, Order, Policy, Settings},
    verdict::Reason,
};
use ipnet::IpNet;

use super::{clock::Clock, error::Error, events::Events};
use crate::{
    name::Name,
    policy::{Changes, OrderSlot},
};

/// Which ports TLS is looked for on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsPorts {
    /// These.
    List(Vec<u16>),
    /// Every one.
    Any,
}

/// Slots that the pinned tables refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Policy slots that some node leads to.
    pub policies: BTreeSet<u32>,
    /// Order slots that these policies name.
    pub orders: BTreeSet<u32>,
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

/// The maps.
#[derive(Debug)]
pub struct Tables {}

impl Tables {
    /// The pinned maps, without loading a program: for `explain` and `stats` while no daemon runs.
    ///
    /// # Errors
    /// [`Error::Missing`] if nothing is pinned, [`Error::Shape`] if it does not fit.
    pub fn open(_pin_root: &Path) -> Result<Self, Error> {
        todo!()
    }

    /// Writes the changes, in the order of their fields, with times by `clock`.
    ///
    /// # Errors
    /// [`Error::Full`] and others. What was written before the error stays, and each name is still judged by its old
    /// or its new state; bring the tables to a known state with [`Tables::compare_and_repair`].
    pub fn apply(&self, _changes: &Changes, _clock: &Clock) -> Result<(), Error> {
        todo!()
    }

    /// Brings tables that an earlier process left to a state that was compiled from nothing: `fresh.insert` is every
    /// node, and no slot in `fresh` is in `old` (give these to the compiler to avoid). In the end the old orders are
    /// retired; their slots may be handed out again after the grace period.
    ///
    /// # Errors
    /// As [`Tables::apply`].
    pub fn take_over(&self, _fresh: &Changes, _old: &InUse, _clock: &Clock) -> Result<Difference, Error> {
        todo!()
    }

    /// Compares the nodes with `expected` and puts right what differs.
    ///
    /// # Errors
    /// As [`Tables::apply`].
    pub fn compare_and_repair(&self, _expected: impl Iterator<Item = (Name, Node)>) -> Result<Difference, Error> {
        todo!()
    }

    /// Slots in use in the maps as they are.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn in_use_slots(&self) -> Result<InUse, Error> {
        todo!()
    }

    /// Writes the orders' times anew, after a clock step.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn rewrite_times<'a>(
        &self,
        _slots: impl Iterator<Item = (u32, &'a OrderSlot)>,
        _clock: &Clock,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Sets the client prefixes of each scope bit, writing what differs.
    ///
    /// # Errors
    /// [`Error::Full`] and others.
    pub fn set_scopes(&self, _scopes: &[(u8, Vec<IpNet>)]) -> Result<(), Error> {
        todo!()
    }

    /// Sets the ports that are read.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_ports(&self, _dns: &[u16], _tls: &TlsPorts) -> Result<(), Error> {
        todo!()
    }

    /// Sets rates and privacy; depths and generation stay as they are.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_settings(
        &self,
        _answers_per_second: u32,
        _events_per_second: u32,
        _client_detail: u32,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Sets the host's own addresses, writing what differs.
    ///
    /// # Errors
    /// [`Error::Full`] and others.
    pub fn set_own_addresses(&self, _addresses: &[IpAddr]) -> Result<(), Error> {
        todo!()
    }

    /// Settings in force, with depths and generation.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn settings(&self) -> Result<Settings, Error> {
        todo!()
    }

    /// The node of exactly this name.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn node(&self, _name: &Name) -> Result<Option<Node>, Error> {
        todo!()
    }

    /// All nodes.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn snapshot(&self) -> Result<HashMap<NameKey, Node>, Error> {
        todo!()
    }

    /// A policy slot.
    ///
    /// # Errors
    /// If the map cannot be read; [`Error::Missing`] beyond its size.
    pub fn policy(&self, _slot: u32) -> Result<Policy, Error> {
        todo!()
    }

    /// An order slot.
    ///
    /// # Errors
    /// As [`Tables::policy`].
    pub fn order(&self, _slot: u32) -> Result<Order, Error> {
        todo!()
    }

    /// Scope bits of a client, with [`SCOPE_ALL`](filter_common::layout::SCOPE_ALL).
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn scopes_of(&self, _client: IpAddr) -> Result<u64, Error> {
        todo!()
    }

    /// Packets and octets by reason, over all CPUs.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        todo!()
    }

    /// Hits by order slot, over all CPUs; slots without any are left out.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn hits(&self) -> Result<HashMap<u32, Hits>, Error> {
        todo!()
    }

    /// Sets an order slot's hits to zero: before the slot is handed to another order.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn clear_hits(&self, _slots: &[u32]) -> Result<(), Error> {
        todo!()
    }

    /// The event ring's reader.
    ///
    /// # Errors
    /// If the ring cannot be mapped.
    pub fn events(&self) -> Result<Events, Error> {
        todo!()
    }
}
