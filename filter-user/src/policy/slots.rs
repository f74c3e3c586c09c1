//! Numbers of table slots. A freed slot rests for a grace period before it is handed out again, so that a packet that
//! is being judged, or an event on its way, never meets another order's content under the same number.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// How long a freed slot rests.
pub const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Slots {
    next: u32,
    limit: u32,
    free: Vec<u32>,
    retired: Vec<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Slots {
    /// Slots from `first` up to `limit`, exclusive.
    pub fn new(first: u32, limit: u32) -> Self {
        Self { next: first, limit, free: Vec::new(), retired: Vec::new(), resting: VecDeque::new() }
    }

    /// Slots that the tables hold from before: they count as retired. To be called before any slot is taken.
    pub fn occupy(&mut self, slots: &BTreeSet<u32>) {
        let end = slots.last().map_or(0, |slot| slot.saturating_add(1)).min(self.limit);
        self.free.extend((self.next..end).rev().filter(|slot| !slots.contains(slot)));
        self.retired.extend(slots.iter().filter(|slot| (self.next..self.limit).contains(slot)));
        self.next = self.next.max(end);
    }

    pub fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = (self.next < self.limit).then_some(self.next)?;
        self.next += 1;
        Some(slot)
    }

    /// Takes back a slot that was never written to a table.
    pub fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Takes back a slot that the tables hold until the next changes are written.
    pub fn retire(&mut self, slot: u32) {
        self.retired.push(slot);
    }

    /// See [`Compiler::release`](super::Compiler::release).
    pub fn release(&mut self, now: Instant) -> bool {
        let before = self.free.len();
        self.resting.extend(self.retired.drain(..).map(|slot| (now, slot)));
        while let Some(&(since, slot)) = self.resting.front()
            && now.saturating_duration_since(since) >= GRACE
        {
            self.resting.pop_front();
            self.free.push(slot);
        }
        self.free.len() > before
    }
}
