//! The name table: buckets of names, and a filter in front that spares most names the look-up.
//!
//! State: how many names there are, a copy of the filter's words, and whether slots were given up since the last grace
//! period. A filter word's bits are set before the first name that needs them is there, and cleared only after it is
//! gone; a bit too many costs a look-up, a bit too few would miss an order. Deletions leave their bits, and the buckets
//! the way to names that are gone, until enough of them have gathered; then both are made anew from the names that are
//! there. What an earlier process left in the buckets is put right before the first write.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed};

use filter_common::layout::{NameBucket, NameTag, Node, map};

use super::{
    buckets::{self, Bucket, Buckets},
    error::Error,
    sys,
    table::Table,
    words::{Mapped, Words},
};

/// Words of the filter for so many names: 16 bits a name.
pub const fn filter_words(names: u32) -> u32 {
    (names / 4).next_power_of_two()
}

/// The map of names and its filter.
pub struct NameTable {
    names: Table<u32, NameBucket>,
    filter: Table<u32, u64>,
    /// The names as they lie in the map.
    buckets: Buckets<Mapped<Bucket>>,
    /// The filter as it lies in the map.
    mapped: Words,
    state: Mutex<State>,
}

struct State {
    /// Number of names, once it is known.
    count: Option<usize>,
    /// Slots were given up, and readers may be at them yet.
    resting: bool,
    words: Vec<u64>,
    /// Names that were deleted since the filter was made.
    deleted: usize,
}

impl NameTable {
    /// Over two maps, which may have content.
    pub fn new(names: Table<u32, NameBucket>, filter: Table<u32, u64>) -> Result<Self, Error> {
        let words = read(&filter)?;
        let buckets = Buckets(Mapped::map(names.fd(), map::NAMES, names.entries() as usize)?);
        let mapped = Words::map(filter.fd(), map::NAME_FILTER, filter.entries() as usize)?;
        let state = Mutex::new(State { count: None, resting: true, words, deleted: 0 });
        Ok(Self { names, filter, buckets, mapped, state })
    }

    /// What `Settings::filter_mask` must be.
    pub fn mask(&self) -> u32 {
        self.filter.entries().saturating_sub(1)
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
    pub fn get(&self, tag: &NameTag) -> Option<Node> {
        let (index, bits) = (tag.filter_word(self.mask()), tag.filter_bits());
        // From the map: what matters is what the program reads, not what the copy says.
        if self.mapped.get(index).is_some_and(|word| word.load(Relaxed) & bits != bits) {
            return None;
        }
        self.buckets.get(tag)
    }

    /// Every node, in no order.
    pub fn for_each(&self, visit: impl FnMut(NameTag, Node)) {
        self.buckets.for_each(visit);
    }

    /// Inserts or updates, in order.
    pub fn set_all(&self, nodes: &[(NameTag, Node)]) -> Result<(), Error> {
        let mut state = self.state();
        let mut changed = Vec::new();
        for (tag, _) in nodes {
            let (index, bits) = (tag.filter_word(self.mask()), tag.filter_bits());
            if let Some(word) = state.words.get_mut(index as usize)
                && *word & bits != bits
            {
                *word |= bits;
                changed.push(index);
            }
        }
        self.write(&mut state, changed)?;
        let mut count = state.count.unwrap_or_else(|| self.buckets.tidy());
        // Of the slots that were given up, some may be taken now.
        if !nodes.is_empty() && std::mem::take(&mut state.resting) {
            sys::wait_for_readers();
        }
        let full = || Error::full(map::NAMES, self.entries());
        let written = nodes.iter().try_for_each(|(tag, node)| {
            if count >= self.entries() as usize && self.buckets.get(tag).is_none() {
                return Err(full());
            }
            count += usize::from(self.buckets.set(tag, *node).map_err(|_| full())?);
            Ok(())
        });
        state.count = Some(count);
        written
    }

    /// Deletes, in order; what is not there is no error.
    pub fn delete_all(&self, tags: &[NameTag]) -> Result<(), Error> {
        let mut state = self.state();
        let count = state.count.unwrap_or_else(|| self.buckets.tidy());
        let deleted = tags.iter().filter(|tag| self.buckets.delete(tag)).count();
        state.count = Some(count - deleted);
        state.resting |= deleted > 0;
        state.deleted += deleted;
        if state.deleted > state.words.len() / STALE {
            self.buckets.tidy();
            self.sweep(&mut state)?;
        }
        Ok(())
    }

    /// Makes the filter anew.
    fn sweep(&self, state: &mut State) -> Result<(), Error> {
        let mut fresh = vec![0_u64; state.words.len()];
        self.buckets.for_each(|tag, _| {
            if let Some(word) = fresh.get_mut(tag.filter_word(self.mask()) as usize) {
                *word |= tag.filter_bits();
            }
        });
        let differs = |(index, (old, new)): (usize, (&u64, &u64))| (old != new).then_some(index as u32);
        let changed = state.words.iter().zip(&fresh).enumerate().filter_map(differs).collect();
        state.words = fresh;
        state.deleted = 0;
        self.write(state, changed)
    }

    /// Writes changed words; after an error the copy is as the kernel has it.
    fn write(&self, state: &mut State, mut changed: Vec<u32>) -> Result<(), Error> {
        changed.sort_unstable();
        changed.dedup();
        let word = |index: u32| Some((index, *state.words.get(index as usize)?));
        let words: Vec<_> = changed.into_iter().filter_map(word).collect();
        self.filter.set_all(&words).or_else(|error| {
            state.words = read(&self.filter)?;
            Err(error)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(filter: &Table<u32, u64>) -> Result<Vec<u64>, Error> {
    let mut words = vec![0; filter.entries() as usize];
    filter.for_each(|index, word| {
        if let Some(place) = words.get_mut(index as usize) {
            *place = word;
        }
    })?;
    Ok(words)
}

/// The filter is made anew when one name for so many words was deleted: 1/32 of the names it is sized for.
const STALE: usize = 8;
