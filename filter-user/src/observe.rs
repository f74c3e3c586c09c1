//! What the filter did: counters, hits by order, and events.

mod directory;
mod events;
mod hits;
mod view;

pub use directory::Directory;
pub use events::{EventHub, EventStream, line};
pub use hits::HitTotals;
pub use view::KernelView;

use filter_common::{
    layout::Counter,
    verdict::{Reason, Tally},
};

use crate::control::api::{ReasonCount, TallyCount};

/// Counters for reports: reasons without packets are left out.
pub fn reason_counts(counters: &[(Reason, Counter)]) -> Vec<ReasonCount> {
    counters
        .iter()
        .filter(|(_, counter)| counter.packets > 0)
        .map(|(reason, counter)| ReasonCount {
            verdict: reason.verdict().word().to_owned(),
            reason: reason.word().to_owned(),
            packets: counter.packets,
            bytes: counter.bytes,
        })
        .collect()
}

/// What else is counted, for reports: what did not happen is left out.
pub fn tallies(tallies: &[(Tally, u64)]) -> Vec<TallyCount> {
    let counted = tallies.iter().filter(|(_, count)| *count > 0);
    counted.map(|(tally, count)| TallyCount { what: tally.word().to_owned(), count: *count }).collect()
}
