//! The name table: a hash map from keys to nodes, and a filter in front that spares most names the look-up.
//!
//! State: a copy of the filter's words. A word's bits are set before the first name that needs them is inserted, and
//! cleared only after it is gone; a bit too many costs a look-up, a bit too few would miss an order. Deletions leave
//! their bits until enough of them have gathered; then the filter is made anew from the names that are there.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed};

use filter_common::layout::{NameKey, Node, map};

use super::{error::Error, table::Table, words::Words};

/// Words of the filter for so many names: 16 bits a name.
pub const fn filter_words(names: u32) -> u32 {
    (names / 4).next_power_of_two()
}

/// The map of names and its filter.
pub struct NameTable {
    names: Table<NameKey, Node>,
    filter: Table<u32, u64>,
    /// The filter as it lies in the map.
    mapped: Words,
    state: Mutex<State>,
}

struct State {
    words: Vec<u64>,
    /// Names that were deleted since the filter was made.
    deleted: usize,
}

impl NameTable {
    /// Over two maps, which may have content.
    pub fn new(names: Table<NameKey, Node>, filter: Table<u32, u64>) -> Result<Self, Error> {
        let words = read(&filter)?;
        let mapped = Words::map(filter.fd(), map::NAME_FILTER, filter.entries() as usize)?;
        Ok(Self { names, filter, mapped, state: Mutex::new(State { words, deleted: 0 }) })
    }

    /// What `Settings::filter_mask` must be.
    pub fn mask(&self) -> u32 {
        self.filter.entries().saturating_sub(1)
    }

    /// Most names.
    pub fn entries(&self) -> u32 {
        self.names.entries()
    }

    /// A node as the program finds it: not behind a filter that does not let its name through.
    pub fn get(&self, key: &NameKey) -> Result<Option<Node>, Error> {
        let (index, bits) = (key.filter_word(self.mask()), key.filter_bits());
        // From the map: what matters is what the program reads, not what the copy says.
        if self.mapped.get(index).is_some_and(|word| word.load(Relaxed) & bits != bits) {
            return Ok(None);
        }
        self.names.get(key)
    }

    /// Every node, in no order.
    pub fn for_each(&self, visit: impl FnMut(NameKey, Node)) -> Result<(), Error> {
        self.names.for_each(visit)
    }

    /// Inserts or updates, in order.
    pub fn set_all(&self, nodes: &[(NameKey, Node)]) -> Result<(), Error> {
        let mut state = self.state();
        let mut changed = Vec::new();
        for (key, _) in nodes {
            let (index, bits) = (key.filter_word(self.mask()), key.filter_bits());
            if let Some(word) = state.words.get_mut(index as usize)
                && *word & bits != bits
            {
                *word |= bits;
                changed.push(index);
            }
        }
        self.write(&mut state, changed)?;
        self.names.set_all(nodes)
    }

    /// Deletes, in order; what is not there is no error.
    pub fn delete_all(&self, keys: &[NameKey]) -> Result<(), Error> {
        self.names.delete_all(keys)?;
        let mut state = self.state();
        state.deleted += keys.len();
        if state.deleted > state.words.len() / STALE {
            self.sweep(&mut state)?;
        }
        Ok(())
    }

    /// Makes the filter anew.
    fn sweep(&self, state: &mut State) -> Result<(), Error> {
        let mut fresh = vec![0_u64; state.words.len()];
        self.names.for_each(|key, _| {
            if let Some(word) = fresh.get_mut(key.filter_word(self.mask()) as usize) {
                *word |= key.filter_bits();
            }
        })?;
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
