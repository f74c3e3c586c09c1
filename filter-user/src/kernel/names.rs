//! The name table: buckets of names, and a filter in front that spares most names the look-up.
//!
//! State: how many names there are, and what is to be done before the next is inserted or after many are gone. A name's
//! bits in the filter are set, and a grace period passes, before it is there; they are cleared only after it is gone. A
//! bit too many costs a look-up, a bit too few would miss an order. Deletions leave their bits, and the buckets the way
//! to names that are gone; [`NameTable::is_stale`] tells when enough of them have gathered, and [`NameTable::refill`]
//! makes both anew. What an earlier process left in the buckets is put right before the first write.

use std::sync::{Mutex, MutexGuard, PoisonError};

use filter_common::{
    filter as bits,
    layout::{NameBucket, NameTag, Node, map},
};

use super::{
    buckets::{self, Bucket, Buckets},
    error::Error,
    filter::{Filter, Line},
    sys,
    table::Table,
    words::Mapped,
};
use crate::name::Listing;

/// The map of names and its filter.
pub struct NameTable {
    names: Table<u32, NameBucket>,
    buckets: Buckets<Mapped<Bucket>>,
    filter: Filter<Mapped<Line>>,
    state: Mutex<State>,
}

struct State {
    /// Number of names, once it is known.
    count: Option<usize>,
    /// Slots were given up, and readers may be at them yet.
    resting: bool,
    /// Names that were deleted since the filter was made.
    deleted: usize,
}

impl NameTable {
    /// Over two maps, which may have content.
    pub fn new(names: Table<u32, NameBucket>, filter: &Table<u32, bits::Line>) -> Result<Self, Error> {
        let buckets = Buckets(Mapped::map(names.fd(), map::NAMES, names.entries() as usize)?);
        let filter = Filter(Mapped::map(filter.fd(), map::NAME_FILTER, filter.entries() as usize)?);
        Ok(Self { names, buckets, filter, state: Mutex::new(State { count: None, resting: true, deleted: 0 }) })
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

    /// A node as the program finds it: not behind a filter that does not let its name through.
    pub fn get(&self, name: &Listing) -> Option<Node> {
        if self.filter.may_hold(&name.filter) { self.buckets.get(&name.tag) } else { None }
    }

    /// Every node, in no order.
    pub fn for_each(&self, visit: impl FnMut(NameTag, Node)) {
        self.buckets.for_each(visit);
    }

    /// Inserts or updates, in order.
    pub fn set_all(&self, nodes: &[(Listing, Node)]) -> Result<(), Error> {
        let mut state = self.state();
        let mut count = state.count.unwrap_or_else(|| self.buckets.tidy());
        let filtered = nodes.iter().filter(|(name, _)| self.filter.add(&name.filter)).count();
        // Slots that were given up may be taken now, and who has passed the filter must not miss what comes.
        let resting = !nodes.is_empty() && std::mem::take(&mut state.resting);
        if filtered > 0 || resting {
            sys::wait_for_readers();
        }
        let full = || Error::full(map::NAMES, self.entries());
        let written = nodes.iter().try_for_each(|(name, node)| {
            if count >= self.entries() as usize && self.buckets.get(&name.tag).is_none() {
                return Err(full());
            }
            count += usize::from(self.buckets.set(&name.tag, *node).map_err(|_| full())?);
            Ok(())
        });
        state.count = Some(count);
        written
    }

    /// Gives names that are there these nodes, in order; others are passed over.
    pub fn update_all(&self, nodes: &[(NameTag, Node)]) {
        let _state = self.state();
        for (tag, node) in nodes {
            self.buckets.update(tag, *node);
        }
    }

    /// Deletes, in order; what is not there is no error.
    pub fn delete_all(&self, tags: &[NameTag]) {
        let mut state = self.state();
        let count = state.count.unwrap_or_else(|| self.buckets.tidy());
        let deleted = tags.iter().filter(|tag| self.buckets.delete(tag)).count();
        state.count = Some(count - deleted);
        state.resting |= deleted > 0;
        state.deleted += deleted;
    }

    /// Whether so much is left of names that are gone that [`NameTable::refill`] is due.
    pub fn is_stale(&self) -> bool {
        self.state().deleted > self.entries() as usize / STALE
    }

    /// Makes the filter anew, and shortens the ways through the buckets. All names that are there must be among these.
    pub fn refill(&self, names: impl Iterator<Item = Listing>) {
        let mut state = self.state();
        state.count = Some(self.buckets.tidy());
        self.filter.refill(names.map(|name| name.filter), sys::wait_for_readers);
        state.deleted = 0;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The filter is made anew when this part of the names it is sized for was deleted.
const STALE: usize = 8;
