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

use crate::{
    control::api::{FlowUse, Hidden, ReasonCount, TallyCount},
    kernel::{ECH_SAMPLE, FlowMap},
};

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

/// Where names cannot be seen.
pub fn hidden(counters: &[(Reason, Counter)], tallies: &[(Tally, u64)]) -> Hidden {
    let packets =
        |reason| counters.iter().find(|(known, _)| *known == reason).map_or(0, |(_, counter)| counter.packets);
    let times = |tally| tallies.iter().find(|(known, _)| *known == tally).map_or(0, |(_, count)| *count);
    Hidden {
        dns_over_tls: times(Tally::Dot),
        dns_over_quic: times(Tally::Doq),
        resolver_tls: times(Tally::Doh),
        resolver_quic: times(Tally::DohQuic),
        hellos_without_name: packets(Reason::TlsNoSni),
        quic_versions: packets(Reason::QuicVersion),
        hellos_searched: times(Tally::EchSearched),
        hellos_encrypted: times(Tally::Ech),
        searched_one_in: ECH_SAMPLE,
    }
}

/// What else is counted, for reports: what did not happen is left out, and what [`hidden`] tells.
pub fn tallies(tallies: &[(Tally, u64)]) -> Vec<TallyCount> {
    const TOLD: [Tally; 6] = [Tally::Ech, Tally::EchSearched, Tally::Dot, Tally::Doq, Tally::Doh, Tally::DohQuic];
    let counted = tallies.iter().filter(|(tally, count)| *count > 0 && !TOLD.contains(tally));
    counted.map(|(tally, count)| TallyCount { what: tally.word().to_owned(), count: *count }).collect()
}

/// The maps of flows, for reports.
pub fn flow_uses(maps: &[FlowMap]) -> Vec<FlowUse> {
    let of = |map: &FlowMap| {
        let FlowMap { name, capacity, octets, set, done } = *map;
        FlowUse { map: name.to_ascii_lowercase(), capacity: capacity.into(), octets, set, done }
    };
    maps.iter().map(of).collect()
}
