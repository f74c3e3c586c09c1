//! The compiler and the kernel's tables, kept equal to the orders.
//!
//! State: the book's orders by id, and which of them are compiled: those whose end is long past are not. The names of
//! a compiled order lie in the compiler alone, since there may be millions of them. Trust: orders were checked by the
//! feed, but may not fit the configuration any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use filter_common::layout::Hits;
use ipnet::IpNet;
use jiff::Timestamp;

use super::{hold::hold, numbers::Numbers};
use crate::{
    book::Change,
    config::Config,
    kernel::{Clock, Error, InUse, Kernel, Tables},
    name::Name,
    observe::{Directory, HitTotals},
    order::{Match, Order, Terms},
    policy::{CapacityError, Changes, Compiler, Limits, OrderSlot, ScopeTable},
};

/// Orders stay in the tables this long after their end, so that the kernel's clock, not the daemon's, ends them.
const LINGER: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Enforcer {
    pub kernel: Kernel,
    pub scopes: ScopeTable,
    pub allow: Vec<(Name, Match)>,
    pub orders: BTreeMap<String, Kept>,
    /// Orders that are not enforced as they should be, and why.
    pub problems: BTreeMap<String, String>,
    /// The clock is behind the book's newest entry, which is of this time: orders neither start nor end.
    pub held: Option<Timestamp>,
    /// Orders that ended before the book knows: not to be compiled, whatever older changes say.
    pub ending: HashMap<String, usize>,
    /// Hits of slots that are another order's now.
    pub totals: HitTotals,
    /// Slots were given to other orders.
    pub is_reassigned: bool,
    compiler: Compiler,
    compiled: HashSet<String>,
    /// What came since the last commit, by order: what goes first if there is no room.
    pending: HashMap<String, Pending>,
    /// Names of compiled orders that there was no room for.
    left_out: HashMap<String, Vec<Name>>,
    /// Something left the tables, so that orders which did not fit may fit now.
    freed: bool,
    clock: Clock,
    directory: Arc<RwLock<Directory>>,
    /// The last write failed, so that the tables may be anything between two states.
    torn: bool,
    /// Places of the compiler whose names are in the filter that is made anew, if one is.
    refilled: Option<u32>,
}

/// Places of the compiler at a time: some 30 ms.
const REFILLED: u32 = 1 << 16;

/// An order, as far as the compiler does not have it.
pub(super) struct Kept {
    pub terms: Arc<Terms>,
    /// How many names it has.
    pub names: usize,
    except: BTreeSet<Name>,
    /// Its names, while it is not compiled.
    uncompiled: Option<BTreeSet<Name>>,
}

/// What came of an order since the last commit.
enum Pending {
    /// All of it.
    Whole,
    /// These names.
    Names(Vec<Name>),
}

impl Enforcer {
    /// Nothing compiled yet.
    pub fn new(kernel: Kernel, numbers: &Numbers, directory: Arc<RwLock<Directory>>) -> anyhow::Result<Self> {
        let scopes = scope_table(numbers)?;
        Ok(Self {
            compiler: compiler(&kernel, &scopes, numbers, &InUse::default()),
            kernel,
            scopes,
            allow: Vec::new(),
            orders: BTreeMap::new(),
            problems: BTreeMap::new(),
            held: None,
            ending: HashMap::new(),
            totals: HitTotals::default(),
            is_reassigned: false,
            compiled: HashSet::new(),
            pending: HashMap::new(),
            left_out: HashMap::new(),
            freed: false,
            clock: Clock::now(),
            directory,
            torn: false,
            refilled: None,
        })
    }

    /// Compiles these orders under a configuration, and brings the kernel's tables to that state, whatever they hold.
    pub fn start(&mut self, config: &Config, numbers: &Numbers, orders: BTreeMap<String, Order>) -> anyhow::Result<()> {
        let old = self.tables().in_use_slots()?;
        self.tables().set_scopes(&scope_prefixes(config, numbers))?;
        self.scopes = scope_table(numbers)?;
        self.compiler = compiler(&self.kernel, &self.scopes, numbers, &old);
        self.write_directory(|directory| directory.set_scopes(numbers.scopes.clone()));
        self.allow = config.allow.rules().collect();
        self.compiler.set_allow(self.allow.iter().cloned())?;
        orders.into_values().for_each(|order| self.compile(order));
        let mut fresh = self.commit();
        self.keep_hits(&fresh);
        self.write(&mut fresh, |tables, fresh, clock| tables.take_over(fresh, &old, clock).map(drop))?;
        Ok(())
    }

    /// Takes over another configuration, under which everything that some order names has the number that it had. What
    /// stays the same is not written. [`Enforcer::flush`] then writes the rest.
    pub fn reconfigure(&mut self, config: &Config, numbers: &Numbers) -> anyhow::Result<()> {
        let scopes = scope_table(numbers)?;
        self.tables().set_scopes(&scope_prefixes(config, numbers))?;
        self.compiler.set_numbers(scopes.clone(), target_slots(numbers));
        self.scopes = scopes;
        self.write_directory(|directory| directory.set_scopes(numbers.scopes.clone()));
        let allow: Vec<_> = config.allow.rules().collect();
        self.compiler.set_allow(allow.iter().cloned())?;
        self.allow = allow;
        // Their numbers may be another's now.
        self.unconfigured(config).keys().for_each(|id| self.restore(id));
        // What did not fit may fit now.
        self.freed = true;
        self.sweep();
        Ok(())
    }

    /// What orders name and the configuration does not have, by order.
    pub fn unconfigured(&self, config: &Config) -> BTreeMap<String, String> {
        let orders = self.orders.values().filter(|order| !is_long_over(&order.terms, self.now()));
        orders.filter_map(|order| Some((order.terms.id.clone(), unconfigured(&order.terms, config)?))).collect()
    }

    pub fn tables(&self) -> &Tables {
        self.kernel.tables()
    }

    /// The time that orders are compared with.
    pub fn now(&self) -> Timestamp {
        self.held.unwrap_or_else(Timestamp::now)
    }

    /// Names in the tables.
    pub fn names(&self) -> u64 {
        self.orders.iter().filter(|(id, _)| self.compiled.contains(*id)).map(|(_, order)| order.names as u64).sum()
    }

    /// The orders that list a name or a parent of it, with these names alone. Those that have ended before the book knows,
    /// and those whose end is so long past that they are not in the tables any more, are left out.
    pub fn speaking_of(&self, name: &Name) -> Vec<Order> {
        let suffixes: Vec<Name> = name.suffixes().collect();
        let of_name = |(id, kept): (&String, &Kept)| {
            let is_left_out = |name: &Name| self.left_out.get(id).is_some_and(|names| names.contains(name));
            let lists = |name: &&Name| match &kept.uncompiled {
                Some(names) => names.contains(*name),
                None => self.compiler.lists(id, name) || is_left_out(name),
            };
            let names: BTreeSet<Name> = suffixes.iter().filter(lists).cloned().collect();
            let has_ended = self.ending.contains_key(id) || is_long_over(&kept.terms, self.now());
            let speaks = !names.is_empty() && !has_ended;
            speaks.then(|| Order { terms: kept.terms.clone(), names, except: kept.except.clone() })
        };
        self.orders.iter().filter_map(of_name).collect()
    }

    /// Whether an order is in the tables.
    pub fn is_compiled(&self, id: &str) -> bool {
        self.compiled.contains(id)
    }

    /// The orders in the tables.
    pub fn compiled(&self) -> impl Iterator<Item = &str> {
        self.compiled.iter().map(String::as_str)
    }

    /// Whether the tables may be anything between two states, because a write has failed.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Takes in what the book took in. [`Enforcer::flush`] then writes it.
    pub fn take(&mut self, change: Change) {
        match change {
            Change::Put(order) => self.compile(order),
            Change::Revoke { id } => {
                self.orders.remove(&id);
                self.end(&id);
                self.problems.remove(&id);
            }
            edit @ Change::Edit { .. } => self.edit(edit),
        }
    }

    /// Ends orders in the kernel at once, however many names they have. [`Enforcer::end`] then takes them out.
    pub fn end_at_once(&self, ids: &[String]) -> Result<(), Error> {
        let ended = |(slot, order): (u32, &OrderSlot)| {
            let order = OrderSlot { end: Some(Timestamp::MIN), ..order.clone() };
            ids.contains(&order.id).then_some((slot, order))
        };
        let slots: Vec<_> = self.compiler.order_slots().filter_map(ended).collect();
        self.tables().rewrite_times(slots.iter().map(|(slot, order)| (*slot, order)), &self.clock)
    }

    /// Takes an order out of the tables, while the book still has it.
    pub fn end(&mut self, id: &str) {
        if self.compiled.remove(id) {
            let left_out = self.left_out.remove(id);
            if let Some(kept) = self.orders.get_mut(id) {
                let mut names = self.compiler.names(id);
                names.extend(left_out.into_iter().flatten());
                kept.uncompiled = Some(names);
            }
            // Only an order that is not known cannot be revoked.
            let _ = self.compiler.revoke(id);
            self.pending.remove(id);
            self.freed = true;
        }
    }

    /// The ids of the parts of an order that is made of some.
    pub fn parts(&self, id: &str) -> Vec<String> {
        let is_part = |order: &&Kept| order.terms.part_of.as_deref() == Some(id);
        self.orders.values().filter(is_part).map(|order| order.terms.id.clone()).collect()
    }

    /// Compiles an order of the book again that was ended too early.
    pub fn restore(&mut self, id: &str) {
        if let Some(order) = self.whole(id) {
            self.compile(order);
        }
    }

    /// An order of the book, with all its names; it is to be compiled again.
    fn whole(&mut self, id: &str) -> Option<Order> {
        let Kept { terms, except, uncompiled, .. } = self.orders.remove(id)?;
        let names = uncompiled.unwrap_or_else(|| {
            let mut names = self.compiler.names(id);
            names.extend(self.left_out.remove(id).into_iter().flatten());
            names
        });
        Some(Order { terms, names, except })
    }

    /// Takes orders out whose end is long past, and those in whose end has moved, or the clock.
    pub fn sweep(&mut self) {
        let now = self.now();
        let over: Vec<String> = self
            .compiled
            .iter()
            .filter(|id| self.orders.get(*id).is_none_or(|order| is_long_over(&order.terms, now)))
            .cloned()
            .collect();
        over.iter().for_each(|id| self.end(id));
        if std::mem::take(&mut self.freed) {
            self.problems.clear();
            for (id, names) in std::mem::take(&mut self.left_out) {
                self.add(&id, names);
            }
        }
        let missing = |(id, order): (&String, &Kept)| {
            let is_missing = !self.compiled.contains(id) && !self.ending.contains_key(id);
            (is_missing && !self.problems.contains_key(id) && !is_long_over(&order.terms, now)).then(|| id.clone())
        };
        let back: Vec<String> = self.orders.iter().filter_map(missing).collect();
        back.iter().for_each(|id| self.restore(id));
    }

    /// Writes what changed to the kernel.
    pub fn flush(&mut self) -> Result<(), Error> {
        let mut changes = self.commit();
        if !is_empty(&changes) {
            self.keep_hits(&changes);
            self.write(&mut changes, Tables::apply)?;
        }
        if self.torn { self.mend() } else { Ok(()) }
    }

    /// Slots that are free long enough may be used again. To be called every few seconds.
    ///
    /// Not while the tables may hold nodes of a former state: those slots are still referred to.
    pub fn release(&mut self) {
        if !self.torn && self.compiler.release(Instant::now()) {
            self.freed = true;
        }
    }

    /// Goes on with making the filter in front of the names anew, if names that are gone have left too much in it: a part
    /// each time, so that no order waits. To be called every second.
    pub fn refill(&mut self) -> Result<(), Error> {
        let from = match self.refilled {
            // The compiler's names are not those of the tables now.
            _ if self.torn => return Ok(()),
            Some(place) => place,
            None if self.tables().is_stale() => {
                self.tables().begin_refill();
                0
            }
            None => return Ok(()),
        };
        let to = from.saturating_add(REFILLED);
        self.tables().refill(self.compiler.listed(from..to));
        self.refilled = (to < self.compiler.places()).then_some(to);
        if self.refilled.is_none() { self.tables().finish_refill() } else { Ok(()) }
    }

    /// Writes all times anew if the wall clock was stepped; tells whether it was.
    pub fn follow_clock(&mut self) -> Result<bool, Error> {
        let clock = Clock::now();
        if !self.clock.stepped(&clock) {
            return Ok(false);
        }
        self.clock = clock;
        self.rewrite_times()?;
        Ok(true)
    }

    /// Lets orders start and end again.
    pub fn release_hold(&mut self) -> Result<(), Error> {
        self.held = None;
        self.rewrite_times()
    }

    fn rewrite_times(&mut self) -> Result<(), Error> {
        let mut slots: Vec<_> = self.compiler.order_slots().map(|(slot, order)| (slot, order.clone())).collect();
        slots.iter_mut().for_each(|(_, order)| hold(order, self.held));
        self.tables().rewrite_times(slots.iter().map(|(slot, order)| (*slot, order)), &self.clock)
    }

    /// Writes the whole state once more, after a write that failed.
    fn mend(&mut self) -> Result<(), Error> {
        let mut whole = self.compiler.whole();
        self.write(&mut whole, Tables::apply)?;
        self.tables().compare_and_repair(whole.insert.iter().map(|(name, node)| (name, *node)))?;
        self.torn = false;
        self.release();
        Ok(())
    }

    /// Writes changes, and keeps what the slots stand for.
    fn write(
        &mut self,
        changes: &mut Changes,
        apply: impl FnOnce(&Tables, &Changes, &Clock) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // First, so that no event is told of a slot's former order: a slot that changes hands has rested.
        self.write_directory(|directory| {
            changes.orders.iter().for_each(|(slot, order)| directory.set_order(*slot, &order.id));
        });
        changes.orders.iter_mut().for_each(|(_, order)| hold(order, self.held));
        let result = apply(self.kernel.tables(), changes, &self.clock);
        self.torn |= result.is_err();
        self.release();
        result
    }

    fn compile(&mut self, order: Order) {
        let id = order.terms.id.clone();
        // Its names as they were are no longer wanted.
        self.orders.remove(&id);
        let problem = if self.ending.contains_key(&id) || is_long_over(&order.terms, self.now()) {
            self.end(&id);
            None
        } else if let Err(error) = self.compiler.put(&order) {
            // The compiler still has the version before, which the order no longer says.
            self.end(&id);
            Some(error.to_string())
        } else {
            self.left_out.remove(&id);
            self.compiled.insert(id.clone());
            self.pending.insert(id.clone(), Pending::Whole);
            self.problems.remove(&id);
            None
        };
        self.problems.extend(problem.map(|problem| (id.clone(), problem)));
        let Order { terms, names, except } = order;
        let (count, is_compiled) = (names.len(), self.compiled.contains(&id));
        let uncompiled = (!is_compiled).then_some(names);
        self.orders.insert(id, Kept { terms, names: count, except, uncompiled });
    }

    fn edit(&mut self, change: Change) {
        let Change::Edit { id, terms, names, except } = &change else { return };
        let id = id.clone();
        let is_small = except.is_empty() && terms.as_ref().is_none_or(|terms| self.is_other_end(terms));
        if !is_small || !self.compiled.contains(&id) || self.ending.contains_key(&id) {
            if let Some(order) = self.whole(&id) {
                let mut orders = BTreeMap::from([(id, order)]);
                change.apply_to(&mut orders);
                orders.into_values().for_each(|order| self.compile(order));
            }
            return;
        }
        let compiler = &mut self.compiler;
        let extended = terms.as_ref().map_or(Ok(()), |terms| compiler.extend(&id, terms.not_after));
        // Both fail only for an order that is not known.
        let _ = extended.and_then(|()| compiler.remove_names(&id, &names.removed));
        if let Some(left_out) = self.left_out.get_mut(&id) {
            left_out.retain(|name| names.removed.binary_search(name).is_err());
        }
        self.freed |= !names.removed.is_empty();
        if let Some(kept) = self.orders.get_mut(&id) {
            kept.names = (kept.names + names.added.len()).saturating_sub(names.removed.len());
            if let Some(terms) = terms {
                kept.terms = terms.clone();
            }
        }
        self.add(&id, names.added.clone());
    }

    /// Compiles further names of an order that is compiled.
    fn add(&mut self, id: &str, names: Vec<Name>) {
        if let Err(error) = self.compiler.add_names(id, &names) {
            self.problems.insert(id.to_owned(), error.to_string());
            self.left_out.entry(id.to_owned()).or_default().extend(names);
            return;
        }
        let pending = self.pending.entry(id.to_owned()).or_insert_with(|| Pending::Names(Vec::new()));
        if let Pending::Names(added) = pending {
            added.extend(names);
        }
    }

    /// Whether the terms differ from the order's in its end alone.
    fn is_other_end(&self, terms: &Terms) -> bool {
        let Some(order) = self.orders.get(&terms.id) else { return false };
        Terms { not_after: terms.not_after, ..(*order.terms).clone() } == *terms
    }

    /// Commits. What does not fit is left out, until something else has left.
    fn commit(&mut self) -> Changes {
        loop {
            let error: CapacityError = match self.compiler.commit() {
                Ok(changes) => {
                    self.pending.clear();
                    return changes;
                }
                Err(error) => error,
            };
            // Without any order there is only the allow list, which stops nothing if it is not written.
            let Some(culprit) = self.largest() else { return Changes::default() };
            let (how_many, limit) = match error {
                CapacityError::Orders { limit, .. } => ("orders", limit),
                CapacityError::Policies { limit, .. } => ("policies", limit),
                CapacityError::Names { limit, .. } => ("names", limit),
            };
            let problem = format!("order {culprit}: no room in the kernel's tables for more than {limit} {how_many}");
            match self.pending.remove(&culprit) {
                Some(Pending::Names(names)) => {
                    // Fails only for an order that is not known.
                    let _ = self.compiler.remove_names(&culprit, &names);
                    let problem = format!("{problem}; {} of its names are not enforced", names.len());
                    self.left_out.entry(culprit.clone()).or_default().extend(names);
                    self.problems.insert(culprit, problem);
                }
                _ => {
                    self.end(&culprit);
                    self.problems.insert(culprit, format!("{problem}; it is not enforced"));
                }
            }
            self.freed = false;
        }
    }

    /// What makes the most room: of the orders that came or grew since the last commit, or else of all.
    fn largest(&self) -> Option<String> {
        let size = |id: &String| self.orders.get(id).map_or(0, |order| order.names);
        let pending = self.pending.iter().max_by_key(|(id, pending)| match pending {
            Pending::Whole => size(id),
            Pending::Names(names) => names.len(),
        });
        pending.map(|(id, _)| id).or_else(|| self.compiled.iter().max_by_key(|id| size(id))).cloned()
    }

    /// Keeps what slots counted for other orders than they get now.
    fn keep_hits(&mut self, changes: &Changes) {
        let directory = self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = |(slot, order): &&(u32, OrderSlot)| directory.known_order(*slot) != Some(&order.id);
        let given: Vec<u32> = changes.orders.iter().filter(changed).map(|(slot, _)| *slot).collect();
        if given.is_empty() {
            return;
        }
        self.is_reassigned = true;
        let hits = self.kernel.tables().hits().unwrap_or_default();
        for slot in &given {
            if let Some(order) = directory.known_order(*slot) {
                self.totals.keep(order, hits.get(slot).copied().unwrap_or(Hits::default()));
            }
        }
        if let Err(error) = self.kernel.tables().clear_hits(&given) {
            tracing::warn!("counters of orders: {error}");
        }
    }

    fn write_directory(&self, write: impl FnOnce(&mut Directory)) {
        write(&mut self.directory.write().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

fn is_empty(changes: &Changes) -> bool {
    let Changes { orders, policies, insert, update, delete, retired_orders, .. } = changes;
    orders.is_empty()
        && policies.is_empty()
        && insert.is_empty()
        && update.is_empty()
        && delete.is_empty()
        && retired_orders.is_empty()
}

fn is_long_over(terms: &Terms, now: Timestamp) -> bool {
    terms.not_after.is_some_and(|end| end.saturating_add(LINGER).is_ok_and(|end| end < now))
}

fn scope_table(numbers: &Numbers) -> anyhow::Result<ScopeTable> {
    Ok(ScopeTable::new(numbers.scopes.iter().map(String::as_str))?)
}

fn compiler(kernel: &Kernel, scopes: &ScopeTable, numbers: &Numbers, old: &InUse) -> Compiler {
    let capacity = kernel.tables().capacity();
    let limits = Limits { orders: capacity.orders, policies: capacity.policies, names: capacity.names };
    let mut compiler = Compiler::new(scopes.clone(), target_slots(numbers), limits);
    compiler.occupy(&old.orders.iter().copied().collect(), &old.policies.iter().copied().collect());
    compiler
}

fn target_slots(numbers: &Numbers) -> impl Iterator<Item = (String, u32)> {
    numbers.targets.iter().cloned().zip(0..)
}

fn unconfigured(terms: &Terms, config: &Config) -> Option<String> {
    let id = &terms.id;
    let is_unknown = |scope: &&String| *scope != "all" && !config.scopes.contains_key(*scope);
    let scopes: Vec<_> = terms.scopes.iter().filter(is_unknown).map(String::as_str).collect();
    let is_target = |name: &String| config.targets.iter().any(|target| target.name == *name);
    match &terms.redirect {
        _ if !scopes.is_empty() => {
            let scopes = scopes.join(", ");
            Some(format!("order {id}: not enforced for clients of {scopes}: no such scope is configured"))
        }
        Some(target) if !is_target(target) => {
            Some(format!("order {id}: nothing is redirected: no target {target} is configured"))
        }
        _ => None,
    }
}

/// Prefixes by scope bit.
fn scope_prefixes(config: &Config, numbers: &Numbers) -> Vec<(u8, Vec<IpNet>)> {
    let prefixes = |name: &String| config.scopes.get(name).cloned().unwrap_or_default();
    (1..).zip(numbers.scopes.iter().map(prefixes)).collect()
}
