//! The name table: buckets of names, and a filter in front that spares most names the look-up.
//!
//! State: how many names there are, and what is to be done before the next is written or after many are gone. A name's
//! bits in the filter are set before it is there, and cleared only after it is gone. A bit too many costs a look-up, a
//! bit too few would miss an order. Names that go leave their bits;
//! [`NameTable::is_stale`] tells when enough of them have gathered. Then the filter is made anew beside the one in use,
//! a part of the names at a time, so that no order waits for it. What an earlier process left in the buckets is put
//! right before the first write.

use std::sync::{Mutex, MutexGuard, PoisonError};

use filter_common::{
    filter as bits,
    layout::{NameBucket, NameTag, Node, map},
};

use super::{
    buckets::{self, Bucket, Buckets},
    error::Error,
    filter::{Filter, Line},
    grace::GracePeriods,
    table::Table,
    words::Mapped,
};
use crate::name::Listing;

/// The map of names and its filter.
pub struct NameTable {
    names: Table<u32, NameBucket>,
    buckets: Buckets<Mapped<Bucket>>,
    filter: Filter<Mapped<Line>>,
    grace: GracePeriods,
    state: Mutex<State>,
}

struct State {
    /// Number of names, once it is known.
    count: Option<usize>,
    /// Something was written since the last grace period began: readers may be on their way that have passed by it, or
    /// that are yet at a slot that was given up.
    is_wait_due: bool,
    /// Names that were deleted since the filter was made.
    deleted: usize,
    /// The filter that is made anew.
    fresh: Option<Filter<Vec<Line>>>,
}

impl NameTable {
    /// Over two maps. `is_new`: nobody has written to them.
    pub fn new(names: Table<u32, NameBucket>, filter: &Table<u32, bits::Line>, is_new: bool) -> Result<Self, Error> {
        let buckets = Buckets(Mapped::map(names.fd(), map::NAMES, names.entries() as usize)?);
        let filter = Filter(Mapped::map(filter.fd(), map::NAME_FILTER, filter.entries() as usize)?);
        // Of names that an earlier process deleted, nobody knows how many bits are left.
        let state = if is_new {
            State { count: Some(0), is_wait_due: false, deleted: 0, fresh: None }
        } else {
            State { count: None, is_wait_due: true, deleted: usize::MAX, fresh: None }
        };
        Ok(Self { names, buckets, filter, grace: GracePeriods::new()?, state: Mutex::new(state) })
    }

    /// Waits until every run of the program that goes on now has ended.
    pub fn wait_for_readers(&self) -> Result<(), Error> {
        let mut state = self.state();
        self.grace.wait()?;
        state.is_wait_due = false;
        Ok(())
    }

    /// Whether every run that is going on has begun after the last write, also of an earlier process.
    pub fn is_at_rest(&self) -> bool {
        let state = self.state();
        state.count.is_some() && !state.is_wait_due
    }

    /// What `Settings::filter_lines` must be.
    pub fn filter_lines(&self) -> u32 {
        self.filter.0.len() as u32
    }

    /// What `Settings::buckets` must be.
    pub fn buckets(&self) -> u32 {
        self.names.entries()
    }

    /// Most names.
    pub fn entries(&self) -> u32 {
        buckets::names(self.names.entries())
    }

    /// A name's node. The filter is not asked: while it changes, only those may ask it whom a grace period waits for.
    pub fn get(&self, tag: &NameTag) -> Option<Node> {
        self.buckets.get(tag)
    }

    /// Every node, in no order.
    pub fn for_each(&self, visit: impl FnMut(NameTag, Node)) {
        self.buckets.for_each(visit);
    }

    /// Inserts or updates, in order. Whoever looks a name up that is below several of them, and meets one, has met or will
    /// meet those before it: the filter shows all of them to every reader before the first is there.
    pub fn set_all(&self, nodes: &[(Listing, Node)]) -> Result<(), Error> {
        self.write(nodes, true)
    }

    /// The same of nodes of which none is below another, where the table [is at rest](Self::is_at_rest): nobody is waited
    /// for. A reader whom the filter did not show one passes it by, and meets no other.
    pub fn set_all_apart(&self, nodes: &[(Listing, Node)]) -> Result<(), Error> {
        self.write(nodes, false)
    }

    fn write(&self, nodes: &[(Listing, Node)], waits: bool) -> Result<(), Error> {
        let mut state = self.state();
        let State { count, is_wait_due, fresh, .. } = &mut *state;
        let count = count.get_or_insert_with(|| self.buckets.tidy());
        let mut is_due = *is_wait_due;
        *is_wait_due |= !nodes.is_empty();
        for batch in nodes.chunks(BATCH) {
            batch.iter().for_each(|(name, _)| self.filter.fetch(&name.filter));
            for (name, _) in batch {
                is_due |= self.filter.add(&name.filter);
                if let Some(fresh) = fresh {
                    fresh.add(&name.filter);
                }
            }
        }
        let full = || Error::full(map::NAMES, self.entries());
        for batch in nodes.chunks(BATCH) {
            batch.iter().for_each(|(name, _)| self.buckets.fetch(&name.tag));
            for (name, node) in batch {
                if self.buckets.update(&name.tag, *node) {
                    continue;
                }
                if *count >= self.entries() as usize {
                    return Err(full());
                }
                if waits && is_due {
                    self.grace.wait()?;
                    is_due = false;
                }
                self.buckets.insert(&name.tag, *node).map_err(|_| full())?;
                *count += 1;
            }
        }
        Ok(())
    }

    /// Gives names that are there these nodes, in order; others are passed over.
    pub fn update_all(&self, nodes: &[(NameTag, Node)]) {
        let mut state = self.state();
        state.is_wait_due |= !nodes.is_empty();
        for (tag, node) in nodes {
            self.buckets.update(tag, *node);
        }
    }

    /// Deletes, in order; what is not there is no error.
    pub fn delete_all(&self, tags: &[NameTag]) {
        let mut state = self.state();
        let count = state.count.unwrap_or_else(|| self.buckets.tidy());
        let deleted = tags.iter().filter(|tag| self.buckets.delete(tag)).count();
        state.count = Some(count.saturating_sub(deleted));
        state.is_wait_due |= deleted > 0;
        state.deleted = state.deleted.saturating_add(deleted);
    }

    /// Whether so much is left of names that are gone that the filter is to be made anew.
    pub fn is_stale(&self) -> bool {
        self.state().deleted > self.entries() as usize / STALE
    }

    /// Begins to make the filter anew. [`NameTable::refill`] must then be told every name that is there; those that are
    /// inserted meanwhile are known. What was begun before is left.
    pub fn begin_refill(&self) {
        let mut state = self.state();
        state.fresh = Some(Filter::empty(self.filter.0.len()));
        state.deleted = 0;
    }

    /// Goes on with making the filter anew.
    pub fn refill(&self, names: impl Iterator<Item = Listing>) {
        if let Some(fresh) = &self.state().fresh {
            names.for_each(|name| {
                fresh.add(&name.filter);
            });
        }
    }

    /// Puts the filter that was made in place of the other.
    pub fn finish_refill(&self) -> Result<(), Error> {
        match self.state().fresh.take() {
            Some(fresh) => self.filter.become_fresh(&fresh, || self.grace.wait()),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The filter is made anew when this part of the names it is sized for was deleted.
const STALE: usize = 8;

/// Names whose places in memory are fetched together, before they are written one by one.
const BATCH: usize = 32;
