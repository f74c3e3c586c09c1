//! Policies by content: nodes with equal entries share a slot. A policy is never rewritten; the last node that leaves
//! it frees it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use filter_common::layout::{POLICY_ENTRIES, POLICY_FIRST, POLICY_NONE, Policy, PolicyEntry};

use super::slots::Slots;

#[derive(Debug)]
pub(super) struct Interner {
    slots: Slots,
    by_entries: HashMap<Arc<[PolicyEntry]>, u32>,
    /// By the first slot of each policy.
    held: Vec<Option<Held>>,
    /// First slots of the policies that came since the last [`Interner::finish`].
    fresh: Vec<u32>,
    /// First slots of policies whose last node went since then.
    left: Vec<u32>,
    recent: [Option<(Arc<[PolicyEntry]>, u32)>; 4],
    oldest_recent: usize,
}

#[derive(Debug)]
struct Held {
    entries: Arc<[PolicyEntry]>,
    /// Slots after the first, in chain order.
    chain: Vec<u32>,
    references: u32,
}

/// No policy slot is free.
#[derive(Debug)]
pub(super) struct Full;

impl Interner {
    pub fn new(limit: u32) -> Self {
        Self {
            slots: Slots::new(POLICY_FIRST, limit),
            by_entries: HashMap::new(),
            held: Vec::new(),
            fresh: Vec::new(),
            left: Vec::new(),
            recent: [const { None }; 4],
            oldest_recent: 0,
        }
    }

    pub fn occupy(&mut self, slots: &BTreeSet<u32>) {
        self.slots.occupy(slots);
    }

    pub fn release(&mut self, now: Instant) -> bool {
        self.slots.release(now)
    }

    /// First slot of the policy with these entries; a new one has no references yet.
    pub fn intern(&mut self, entries: &[PolicyEntry]) -> Result<u32, Full> {
        if entries.is_empty() {
            return Ok(POLICY_NONE);
        }
        for (recent, slot) in self.recent.iter().flatten() {
            if **recent == *entries {
                return Ok(*slot);
            }
        }
        let (entries, slot) = match self.by_entries.get_key_value(entries) {
            Some((entries, slot)) => (entries.clone(), *slot),
            None => self.add(entries)?,
        };
        self.recent[self.oldest_recent] = Some((entries, slot));
        self.oldest_recent = (self.oldest_recent + 1) % self.recent.len();
        Ok(slot)
    }

    fn add(&mut self, entries: &[PolicyEntry]) -> Result<(Arc<[PolicyEntry]>, u32), Full> {
        let mut slots = Vec::new();
        for _ in entries.chunks(POLICY_ENTRIES) {
            match self.slots.take() {
                Some(slot) => slots.push(slot),
                None => {
                    slots.into_iter().for_each(|slot| self.slots.give_back(slot));
                    return Err(Full);
                }
            }
        }
        let slot = slots.remove(0);
        let entries: Arc<[PolicyEntry]> = entries.into();
        if self.held.len() <= slot as usize {
            self.held.resize_with(slot as usize + 1, || None);
        }
        self.held[slot as usize] = Some(Held { entries: entries.clone(), chain: slots, references: 0 });
        self.by_entries.insert(entries.clone(), slot);
        self.fresh.push(slot);
        Ok((entries, slot))
    }

    fn get(&self, slot: u32) -> Option<&Held> {
        self.held.get(slot as usize)?.as_ref()
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Held> {
        self.held.get_mut(slot as usize)?.as_mut()
    }

    /// Entries of a policy, oldest order first; none for `POLICY_NONE` and `POLICY_ALLOW`.
    pub fn entries(&self, slot: u32) -> &[PolicyEntry] {
        self.get(slot).map_or(&[], |held| &held.entries)
    }

    pub fn acquire(&mut self, slot: u32) {
        if let Some(held) = self.get_mut(slot) {
            held.references += 1;
        }
    }

    /// The counterpart of [`Interner::acquire`]. A policy without references goes at [`Interner::finish`].
    pub fn drop(&mut self, slot: u32) {
        if let Some(held) = self.get_mut(slot) {
            held.references -= 1;
            if held.references == 0 {
                self.left.push(slot);
            }
        }
    }

    /// Frees the policies that no node has, and gives the slots that came since the last time, as they must be
    /// written.
    pub fn finish(&mut self) -> Vec<(u32, Policy)> {
        self.recent = [const { None }; 4];
        let fresh: HashSet<u32> = self.fresh.drain(..).collect();
        let left: HashSet<u32> = self.left.drain(..).chain(fresh.iter().copied()).collect();
        for slot in left {
            let Some(held) = self.held.get_mut(slot as usize).and_then(|held| held.take_if(|it| it.references == 0))
            else {
                continue;
            };
            self.by_entries.remove(&held.entries);
            for slot in held.chain.into_iter().chain([slot]) {
                if fresh.contains(&slot) { self.slots.give_back(slot) } else { self.slots.retire(slot) }
            }
        }
        let mut written: Vec<_> = fresh.into_iter().flat_map(|slot| self.written(slot)).collect();
        written.sort_unstable_by_key(|(slot, _)| *slot);
        written
    }

    /// All policies that some node has.
    pub fn all(&self) -> impl Iterator<Item = (u32, Policy)> {
        (0..self.held.len() as u32).flat_map(|slot| self.written(slot))
    }

    /// Entries of all policies.
    pub fn lists(&self) -> impl Iterator<Item = &[PolicyEntry]> {
        self.held.iter().flatten().map(|held| &*held.entries)
    }

    fn written(&self, slot: u32) -> Vec<(u32, Policy)> {
        let Some(held) = self.get(slot) else { return Vec::new() };
        let slots = || [slot].into_iter().chain(held.chain.iter().copied());
        let next = slots().skip(1).chain([POLICY_NONE]);
        let chunks = held.entries.chunks(POLICY_ENTRIES);
        let policy = |chunk: &[PolicyEntry], next| {
            let mut entries = [PolicyEntry::default(); POLICY_ENTRIES];
            entries[..chunk.len()].copy_from_slice(chunk);
            Policy { len: chunk.len() as u32, next, entries }
        };
        slots().zip(chunks.zip(next)).map(|(slot, (chunk, next))| (slot, policy(chunk, next))).collect()
    }
}
