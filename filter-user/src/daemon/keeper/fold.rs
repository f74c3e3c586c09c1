//! What the book does when nothing comes: changes of many names go into the rows of names.

use std::time::Duration;

use super::Keeper;

impl Keeper {
    /// Time up to the next one that changes go into the rows, unless something comes before.
    pub(super) fn next_fold(&self) -> Option<Duration> {
        let waits = self.book.has_changes_waiting().unwrap_or(false);
        waits.then_some(if self.unfolded { AGAIN } else { QUIET })
    }

    /// Brings some of them there. They are in the book in any case.
    pub(super) fn fold(&mut self) {
        let folded = self.book.fold_changes();
        if let Err(error) = &folded
            && !self.unfolded
        {
            tracing::warn!("changes of names stay where they are until the order book can be written: {error}");
        }
        self.unfolded = folded.is_err();
    }
}

/// Events rarely come alone, and one that comes while names are written waits for that.
const QUIET: Duration = Duration::from_millis(250);

/// Time after which what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
