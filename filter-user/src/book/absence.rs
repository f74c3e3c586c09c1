//! Orders that the files that put them put no longer, as far as that is not confirmed yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// A file that is written in place, or taken away and put back, is without an order for a moment. So an absence counts
/// only if a second look, [`PATIENCE`] later, finds it still.
#[derive(Debug)]
pub(crate) struct Absences {
    /// By source and order: when it was first looked for in vain.
    since: BTreeMap<(Arc<str>, String), Instant>,
    patience: Duration,
}

impl Absences {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { since: BTreeMap::new(), patience }
    }

    /// Notes all orders that a look at a source did not find. Gives those whose absence is confirmed.
    pub(crate) fn look(&mut self, source: &Arc<str>, absent: &BTreeSet<String>, looked: Instant) -> BTreeSet<String> {
        self.since.retain(|(of, id), _| of != source || absent.contains(id));
        let patience = self.patience;
        let confirmed = absent.iter().filter(|id| {
            let since = *self.since.entry((source.clone(), (*id).clone())).or_insert(looked);
            looked.saturating_duration_since(since) >= patience
        });
        confirmed.cloned().collect()
    }

    /// What is over: the order was withdrawn.
    pub(super) fn forget(&mut self, source: &Arc<str>, id: &str) {
        self.since.remove(&(source.clone(), id.to_owned()));
    }

    /// Whether an absence of this order is not confirmed yet.
    pub(super) fn is_missed(&self, id: &str) -> bool {
        self.since.keys().any(|(_, missed)| missed == id)
    }

    /// Source and order of the absences that a look would confirm now.
    pub(super) fn due(&self) -> impl Iterator<Item = (&str, &str)> {
        let due = self.since.iter().filter(|(_, since)| since.elapsed() >= self.patience);
        due.map(|((source, id), _)| (&**source, id.as_str()))
    }
}

/// Time after which an absence is confirmed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
