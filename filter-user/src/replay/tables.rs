//! Tables for one replay: the orders of the files, compiled from nothing.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::Options;
use crate::{
    feed::{self, Refusal, file::Files},
    guard::Guards,
    kernel::{Behaviour, Capacity, Clock, Kernel},
    observe::Directory,
    order::{Order, Terms},
    policy::{Changes, Compiler, Limits, ScopeTable},
};

/// The compiled orders.
pub(super) struct Prepared {
    changes: Changes,
    /// What the slots stand for.
    pub directory: Directory,
    /// What was not taken from the files.
    pub refusals: Vec<Refusal>,
}

impl Prepared {
    pub fn new(options: &Options) -> Result<Self> {
        let (mut orders, refusals) = read(options)?;
        let targets = match &options.config {
            Some(config) => config.targets.iter().map(|target| target.name.clone()).collect(),
            None => targets_of(&orders),
        };
        let scopes: Vec<String> = options.config.iter().flat_map(|config| config.scopes.keys().cloned()).collect();
        for order in &mut orders {
            adapt(Arc::make_mut(&mut order.terms), options);
        }
        let limits = Limits { orders: u32::MAX, policies: u32::MAX, names: u32::MAX };
        let table = ScopeTable::new(scopes.iter().map(String::as_str))?;
        let mut compiler = Compiler::new(table, targets.into_iter().zip(0..), limits);
        compiler.set_allow(options.config.iter().flat_map(|config| config.allow.rules()))?;
        for order in &orders {
            compiler.put(order)?;
        }
        let changes = compiler.commit()?;
        let mut directory = Directory::default();
        directory.set_scopes(scopes);
        for (slot, order) in &changes.orders {
            directory.set_order(*slot, &order.id);
        }
        Ok(Self { changes, directory, refusals })
    }

    /// The program, with tables that hold just these orders.
    pub fn load(&self, options: &Options) -> Result<Kernel> {
        let after = |slots: Option<u32>| slots.unwrap_or(0).max(16) + 1;
        let capacity = Capacity {
            names: (self.changes.insert.len() as u32).max(16),
            orders: after(self.changes.orders.iter().map(|(slot, _)| *slot).max()),
            policies: after(self.changes.policies.iter().map(|(slot, _)| *slot).max()),
            ..Capacity::default()
        };
        let kernel = Kernel::ephemeral(&capacity)?;
        let tables = kernel.tables();
        let clock = match options.at {
            Some(at) => clock_at(at),
            None => Clock::now(),
        };
        if let Some(config) = &options.config {
            let scopes: Vec<_> = (1..).zip(config.scopes.values().cloned()).collect();
            tables.set_scopes(&scopes)?;
        }
        tables.apply(&self.changes, &clock)?;
        tables.set_ports(&options.reading);
        tables.set_behaviour(&Behaviour {
            answers_per_second: u32::MAX,
            events_per_second: u32::MAX,
            copies_per_second: u32::MAX,
            ..Behaviour::default()
        })?;
        Ok(kernel)
    }
}

fn read(options: &Options) -> Result<(Vec<Order>, Vec<Refusal>)> {
    let (scopes, targets) = match &options.config {
        Some(config) => (
            Some(config.scopes.keys().cloned().collect()),
            Some(config.targets.iter().map(|target| target.name.clone()).collect()),
        ),
        None => (None, None),
    };
    let guards = if options.guards { Guards::all() } else { Guards::none() };
    let context = feed::Context { scopes, targets, guards };
    let (orders, mut refusals, held) = Files::native(&options.orders).orders(&context).context("reading the orders")?;
    // Nobody can approve anything here.
    refusals.extend(held);
    Ok((orders, refusals))
}

fn targets_of(orders: &[Order]) -> BTreeSet<String> {
    orders.iter().filter_map(|order| order.terms.redirect.clone()).collect()
}

/// Makes an order hold in the replay.
fn adapt(terms: &mut Terms, options: &Options) {
    if options.config.is_none() {
        terms.scopes = BTreeSet::from(["all".to_owned()]);
    }
    if options.at.is_none() {
        (terms.not_before, terms.not_after) = (Timestamp::MIN, None);
    }
}

/// A clock by which it is now that time.
fn clock_at(at: Timestamp) -> Clock {
    let now = Clock::now();
    Clock { offset: now.offset + at.as_nanosecond() - Timestamp::now().as_nanosecond() }
}
