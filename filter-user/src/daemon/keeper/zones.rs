//! What is new of zones that are transferred.
//!
//! The book has a zone at some serial. Changes are taken in where they begin at that serial; where they do not, something
//! was not heard of or could not be read, and the whole copy is read, which is always the newest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use domain::base::Serial;
use jiff::Timestamp;

use super::Keeper;
use crate::{
    config::Feed,
    daemon::held::log_held,
    feed::{
        file::{CopyRead, Which},
        transfer::kept::Changes,
    },
};

/// How far the book is in each zone.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// The serial that the book has, by copy. A zone of which that is not known is not here.
    taken: HashMap<PathBuf, u32>,
    /// Copies that could not be read, and when that was.
    failed: BTreeMap<PathBuf, Instant>,
}

/// What is to be done with changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// They follow what the book has.
    Apply,
    /// The book has them.
    Skip,
    /// The whole copy is to be read.
    ReadWhole,
}

impl Zones {
    /// Notes what became of copies that were to be read.
    pub(super) fn read(&mut self, copies: &BTreeMap<PathBuf, CopyRead>) {
        for (path, copy) in copies {
            self.taken.remove(path);
            self.failed.remove(path);
            match copy {
                CopyRead::Taken(serial) => _ = self.taken.insert(path.clone(), *serial),
                CopyRead::Gone => {}
                CopyRead::Failed => _ = self.failed.insert(path.clone(), Instant::now()),
            }
        }
    }

    /// Copies that are to be read again, since they could not be a while ago.
    pub(super) fn due(&self) -> BTreeSet<PathBuf> {
        let is_due = |(path, failed): (&PathBuf, &Instant)| (failed.elapsed() >= AGAIN).then(|| path.clone());
        self.failed.iter().filter_map(is_due).collect()
    }

    /// What is to be done with changes from one serial to another.
    fn step(&self, path: &Path, since: u32, to: u32) -> Step {
        match self.taken.get(path) {
            Some(taken) if *taken == since => Step::Apply,
            // Read already with the whole copy: to apply them again would undo for a moment what came after them.
            Some(taken) if Serial(to) <= Serial(*taken) => Step::Skip,
            _ => Step::ReadWhole,
        }
    }
}

impl Keeper {
    /// Takes in what a transfer changed from one serial to another: looking at all of a large zone would take seconds.
    pub(super) fn zone_changed(&mut self, path: PathBuf, (since, to): (u32, u32), changes: &Changes, arrived: Instant) {
        let step = if self.unread { Step::ReadWhole } else { self.zones.step(&path, since, to) };
        if step == Step::Skip {
            return;
        }
        self.read_grown(None);
        let input = self.feeds.iter().find(|feed| feed.path == path).map(Feed::input);
        let read = input.filter(|_| step == Step::Apply).and_then(|input| input.changes(changes, &self.context));
        let Some((parts, refusals)) = read else { return self.sync(&Which::Only([path].into())) };
        let source = path.to_string_lossy();
        self.book.note_refusals(&source, &refusals);
        for refusal in &refusals {
            tracing::warn!("refused: {refusal}");
        }
        if parts.is_empty() {
            self.zones.taken.insert(path, to);
            return;
        }
        match self.write_ends().and_then(|()| self.book.change_zone(&source, parts, arrived)) {
            Ok(None) => self.sync(&Which::Only([path].into())),
            Ok(Some(applied)) => {
                self.zones.taken.insert(path.clone(), to);
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

/// Until a copy that could not be read is read again: it may be a large one.
const AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apply_to_the_serial_that_they_begin_at_and_to_no_other() {
        let path = PathBuf::from("/z.zone");
        let mut zones = Zones::default();
        let read = |zones: &mut Zones, copy| zones.read(&[(path.clone(), copy)].into());
        let steps = |zones: &Zones, pairs: &[(u32, u32)]| -> Vec<Step> {
            pairs.iter().map(|(since, to)| zones.step(&path, *since, *to)).collect()
        };
        assert_eq!(steps(&zones, &[(1, 2), (2, 2)]), [Step::ReadWhole, Step::ReadWhole], "nothing is known");
        read(&mut zones, CopyRead::Taken(7));
        assert_eq!(
            steps(&zones, &[(5, 6), (6, 7), (7, 7), (7, 9)]),
            [Step::Skip, Step::Skip, Step::Apply, Step::Apply]
        );
        assert_eq!(steps(&zones, &[(8, 9), (6, 8)]), [Step::ReadWhole, Step::ReadWhole], "something is missing");
        assert_eq!(zones.step(Path::new("/other.zone"), 7, 8), Step::ReadWhole);
        read(&mut zones, CopyRead::Taken(u32::MAX));
        assert_eq!(
            steps(&zones, &[(u32::MAX - 1, u32::MAX), (u32::MAX, 1), (0, 1)]),
            [Step::Skip, Step::Apply, Step::ReadWhole]
        );
        // A zone that is back after it had expired may have any serial.
        read(&mut zones, CopyRead::Gone);
        assert_eq!(steps(&zones, &[(u32::MAX, 1), (3, 4)]), [Step::ReadWhole, Step::ReadWhole]);
        assert_eq!(zones.due(), BTreeSet::new());
    }

    #[test]
    fn a_copy_that_could_not_be_read_is_read_again() {
        let path = PathBuf::from("/z.zone");
        let mut zones = Zones::default();
        zones.read(&[(path.clone(), CopyRead::Taken(7))].into());
        zones.read(&[(path.clone(), CopyRead::Failed)].into());
        assert_eq!(zones.step(&path, 7, 8), Step::ReadWhole, "the book is behind the copy");
        assert_eq!(zones.due(), BTreeSet::new());
        *zones.failed.get_mut(&path).unwrap() -= AGAIN;
        assert_eq!(zones.due(), BTreeSet::from([path.clone()]));
        zones.read(&[(path.clone(), CopyRead::Taken(8))].into());
        assert_eq!((zones.due(), zones.step(&path, 8, 9)), (BTreeSet::new(), Step::Apply));
    }
}
