//! The nodes of many names at once. In a large tree a look-up waits for memory more than it computes.

use std::{hash::RandomState, hint::black_box};

use super::{NodeId, ROOT, Tree, hash};
use crate::{
    many,
    name::{Name, last_label},
};

impl Tree {
    /// The nodes of many names, in any order. Names that end alike come one after the other, so that their parents are in
    /// the cache; and the look-ups of a batch are begun together, label by label, for the processor to wait for them at
    /// once.
    pub fn make_all<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a Name>) -> Vec<NodeId> {
        let mut ids = Vec::with_capacity(names.len());
        let mut alike = Vec::with_capacity(names.len().min(ALIKE));
        let mut names = names.map(Name::as_str);
        let mut descents = Vec::with_capacity(BATCH);
        loop {
            alike.extend(names.by_ref().take(ALIKE).map(|name| (last_octets(name), name)));
            if alike.is_empty() {
                return ids;
            }
            many::sort(&mut alike);
            for batch in alike.chunks(BATCH) {
                descents.extend(batch.iter().map(|(_, name)| Descent::new(name)));
                self.go_down(&mut descents, &mut ids);
            }
            alike.clear();
        }
    }

    /// Goes down to the nodes of some names, which are made if there are none.
    fn go_down(&mut self, descents: &mut Vec<Descent<'_>>, ids: &mut Vec<NodeId>) {
        for descent in &*descents {
            black_box(descent.rest.as_bytes().last().copied());
        }
        while !descents.is_empty() {
            descents.iter_mut().for_each(|descent| descent.take_label(&self.hasher));
            for descent in &*descents {
                black_box(self.children.find(descent.hash, |_| false));
            }
            descents.retain_mut(|descent| {
                descent.at = self.child_or_new(descent.at, descent.label, descent.hash);
                if descent.rest.is_empty() {
                    ids.push(descent.at);
                }
                !descent.rest.is_empty()
            });
        }
    }
}

/// On the way down to the node of a name.
struct Descent<'a> {
    at: NodeId,
    /// The labels below.
    rest: &'a str,
    /// The next one, which was taken off, and its hash.
    label: &'a str,
    hash: u64,
}

impl<'a> Descent<'a> {
    fn new(name: &'a str) -> Self {
        Self { at: ROOT, rest: name, label: "", hash: 0 }
    }

    fn take_label(&mut self, hasher: &RandomState) {
        let (rest, label) = last_label(self.rest);
        (self.rest, self.label) = (rest.unwrap_or_default(), label);
        self.hash = hash(hasher, self.at, self.label);
    }
}

/// A number by which names that end alike are neighbours.
fn last_octets(name: &str) -> u64 {
    let mut last = [0; 8];
    let from = name.len().saturating_sub(last.len());
    last.iter_mut().rev().zip(name.as_bytes()[from..].iter().rev()).for_each(|(to, octet)| *to = *octet);
    u64::from_le_bytes(last)
}

/// Names that are sorted together: as many as a cache holds.
const ALIKE: usize = 1 << 17;

/// Look-ups that are begun together: what a core can wait for at once, and some more.
const BATCH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_end_alike_are_neighbours() {
        let mut names = ["a.example.net", "example.org", "b.example.net", "c.example.org", "net", ""];
        names.sort_by_key(|name| last_octets(name));
        assert_eq!(names, ["", "example.org", "c.example.org", "net", "a.example.net", "b.example.net"]);
    }
}
