//! What is new of zones that are transferred.

use std::{path::PathBuf, time::Instant};

use jiff::Timestamp;

use super::Keeper;
use crate::{
    config::Feed,
    daemon::held::log_held,
    feed::{file::Which, transfer::kept::Changes},
};

impl Keeper {
    /// Takes in what a transfer changed: looking at all of a large zone would take seconds.
    pub(super) fn zone_changed(&mut self, path: PathBuf, changes: &Changes, arrived: Instant) {
        let input = self.feeds.iter().find(|feed| feed.path == path).map(Feed::input);
        let read = input.filter(|_| !self.unread).and_then(|input| input.changes(changes, &self.context));
        let Some((parts, refusals)) = read else { return self.sync(&Which::Only([path].into())) };
        let source = path.to_string_lossy();
        self.book.note_refusals(&source, &refusals);
        for refusal in &refusals {
            tracing::warn!("refused: {refusal}");
        }
        if parts.is_empty() {
            return;
        }
        match self.write_ends().and_then(|()| self.book.change_zone(&source, parts, arrived)) {
            Ok(None) => self.sync(&Which::Only([path].into())),
            Ok(Some(applied)) => {
                self.read = Some(Timestamp::now());
                for refusal in &applied.refusals {
                    tracing::warn!("refused: {refusal}");
                }
                applied.held.iter().for_each(log_held);
                self.applied(applied, Vec::new(), None);
            }
            Err(error) => {
                tracing::error!("a zone's changes were not taken in: {error}");
                self.unread = true;
            }
        }
    }
}
