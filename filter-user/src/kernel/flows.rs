//! The maps of flows as the daemon sees them: how full they are, and what in them is past.
//!
//! The program removes a flow's state as soon as it is not needed. What it cannot see the end of is a stopped
//! connection that just falls silent: its name is taken away here.

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed};

use filter_common::{
    flow::{self, REMEMBERED},
    layout::{REMEMBERED_IDLE, map},
    verdict::Tally,
};

use super::{error::Error, memory::octets, plain::Plain, sys::boot_time, table::Table, tables::Tables};

/// A map of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMap {
    /// Its name.
    pub name: &'static str,
    /// Most entries.
    pub capacity: u32,
    /// Octets of memory, which it takes at once and for good (BPF_MAP_TYPE_LRU_HASH).
    pub octets: u64,
    /// Entries that were made; of names, those that the program made itself.
    pub set: u64,
    /// Entries that were done with. What is neither done with nor there any more gave way to others.
    pub done: u64,
}

impl Tables {
    /// The maps of flows: SYN marks, messages in progress, names.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn flow_maps(&self) -> Result<[FlowMap; 3], Error> {
        let tallies = self.tallies()?;
        let count = |what| tallies.iter().find(|(tally, _)| *tally == what).map_or(0, |(_, count)| *count);
        Ok([
            flow_map(map::SYN_MARKS, &self.marks, count(Tally::MarksSet), count(Tally::MarksDone))?,
            flow_map(map::STREAMS, &self.streams, count(Tally::StreamsSet), count(Tally::StreamsDone))?,
            flow_map(map::REMEMBERED, &self.remembered, count(Tally::NamesRemembered), 0)?,
        ])
    }

    /// Entries that are in each of them now. Goes through all of them.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn flow_entries(&self) -> Result<[u64; 3], Error> {
        Ok([entries(&self.marks)?, entries(&self.streams)?, entries(&self.remembered)?])
    }

    /// The lines of tags.
    pub fn flow_tags(&self) -> Vec<u64> {
        (0..flow::LINES).map_while(|line| self.shared.tags(line)).map(|line| line.load(Relaxed)).collect()
    }

    /// Takes away the names that no packet has met for so long that they hold no more, their tags, and the tags of names
    /// that gave way to others: these would stay before the tags of other flows. Tells how many names.
    ///
    /// # Errors
    /// If a map cannot be read or written.
    pub fn sweep_names(&self) -> Result<usize, Error> {
        self.sweep_names_at(boot_time())
    }

    /// [`Tables::sweep_names`] at a time of the boot-time clock, in nanoseconds.
    ///
    /// # Errors
    /// As [`Tables::sweep_names`].
    pub fn sweep_names_at(&self, now: u64) -> Result<usize, Error> {
        // Before the names: the program writes a name first, and then its tag.
        let lines = self.flow_tags();
        let (mut past, mut spots) = (Vec::new(), HashSet::new());
        self.remembered.for_each(|key, known| {
            if now.saturating_sub(known.seen) > REMEMBERED_IDLE {
                past.push(key);
            } else {
                spots.insert((known.tag_line, known.tag));
            }
        })?;
        // Not those that have been remembered anew since they were looked at.
        let mut gone = 0;
        for key in past {
            match self.remembered.get(&key)? {
                Some(known) if now.saturating_sub(known.seen) > REMEMBERED_IDLE => {
                    self.remembered.delete(&key)?;
                    gone += 1;
                }
                Some(known) => drop(spots.insert((known.tag_line, known.tag))),
                None => {}
            }
        }
        for (at, line) in (0..).zip(lines) {
            for (tag, kinds) in flow::entries(line) {
                if kinds & REMEMBERED != 0 && !spots.contains(&(at, tag)) {
                    self.withdraw_name(at, tag, line);
                }
            }
        }
        Ok(gone)
    }

    /// Has the tags of a line no longer announce a name, if they are as they were: else it may be a new one's. A message
    /// in progress, or a mark, is left to the program.
    fn withdraw_name(&self, at: u32, tag: u16, before: u64) {
        let Some(line) = self.shared.tags(at) else { return };
        let others = |line| flow::entries(line).filter(|(other, _)| *other != tag).collect::<Vec<_>>();
        line.update(Relaxed, Relaxed, |line| match flow::kinds(line, tag) {
            // Other tags of the line were withdrawn before this one.
            _ if others(line).iter().any(|other| !others(before).contains(other)) => line,
            Some(REMEMBERED) => flow::without(line, tag),
            Some(kinds) => flow::with(line, tag, kinds & !REMEMBERED),
            None => line,
        });
    }
}

fn flow_map<K: Plain, V: Plain>(
    name: &'static str,
    table: &Table<K, V>,
    set: u64,
    done: u64,
) -> Result<FlowMap, Error> {
    let octets = octets(name, table.fd())?;
    Ok(FlowMap { name, capacity: table.entries(), octets, set, done })
}

fn entries<K: Plain, V: Plain>(table: &Table<K, V>) -> Result<u64, Error> {
    let mut entries = 0;
    table.for_each(|_, _| entries += 1)?;
    Ok(entries)
}
