//! Hits by order id. The kernel counts by slot; an order may have one slot after another, and another order may get
//! its slot later.

use std::collections::{BTreeMap, HashMap};

use filter_common::layout::Hits;
use serde::{Deserialize, Serialize};

use super::Directory;
use crate::control::api::OrderHits;

/// Hits of slots that were given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitTotals {
    /// Decided and concerned, by order.
    earlier: BTreeMap<String, (u64, u64)>,
}

impl HitTotals {
    /// Keeps what a slot counted for its order, before the slot is given to another.
    pub fn keep(&mut self, order: &str, hits: Hits) {
        if hits != Hits::default() {
            add(self.earlier.entry(order.to_owned()).or_default(), hits);
        }
    }

    /// All hits by order, with what the kernel's slots count now.
    pub fn with(&self, slots: &HashMap<u32, Hits>, directory: &Directory) -> Vec<OrderHits> {
        let mut totals = self.earlier.clone();
        for (slot, hits) in slots {
            add(totals.entry(directory.order(*slot)).or_default(), *hits);
        }
        let line = |(order, (decided, concerned))| OrderHits { order, decided, concerned };
        totals.into_iter().map(line).collect()
    }
}

fn add((decided, concerned): &mut (u64, u64), hits: Hits) {
    *decided = decided.saturating_add(hits.decided);
    *concerned = concerned.saturating_add(hits.concerned);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_keeps_its_hits_when_its_slot_goes_to_another() {
        let mut directory = Directory::default();
        let mut totals = HitTotals::default();
        totals.keep("a", Hits { decided: 2, concerned: 3 });
        directory.set_order(1, "b");
        directory.set_order(2, "a");
        let slots = [(1, Hits { decided: 5, concerned: 5 }), (2, Hits { decided: 0, concerned: 1 })].into();
        let line = |order: &str, decided, concerned| OrderHits { order: order.to_owned(), decided, concerned };
        assert_eq!(totals.with(&slots, &directory), [line("a", 2, 4), line("b", 5, 5)]);
    }
}
