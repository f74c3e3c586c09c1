//! What the book does when nothing comes: changes of many names go into the rows of names.

use std::time::{Duration, Instant};

use super::Keeper;

/// When that is to be.
#[derive(Default)]
pub(super) struct Fold {
    /// Changes have waited since then.
    since: Option<Instant>,
    /// They could not be brought there.
    is_stuck: bool,
}

impl Keeper {
    /// Time up to the next one that changes go into the rows, unless something comes before.
    pub(super) fn next_fold(&mut self) -> Option<Duration> {
        if !self.book.has_changes_waiting().unwrap_or(false) {
            self.fold.since = None;
            return None;
        }
        if self.fold.is_stuck {
            return Some(AGAIN);
        }
        let since = self.fold.since.get_or_insert_with(Instant::now);
        Some(if since.elapsed() > LONGEST { Duration::ZERO } else { QUIET })
    }

    /// Brings some of them there. They are in the book in any case.
    pub(super) fn fold(&mut self) {
        let folded = self.book.fold_changes();
        if let Err(error) = &folded
            && !self.fold.is_stuck
        {
            tracing::warn!("changes of names stay where they are until the order book can be written: {error}");
        }
        self.fold.is_stuck = folded.is_err();
    }
}

/// Events rarely come alone, and one that comes while names are written waits for that.
const QUIET: Duration = Duration::from_millis(250);

/// For events that come all the time: then each moment between them will do.
const LONGEST: Duration = Duration::from_secs(60);

/// Time after which what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    use crate::{
        book::Book,
        daemon::keeper::{Job, tests::entries, unwritten::tests::keeper},
        feed::{Entry, Event},
        name::Name,
        order::Order,
    };

    #[test]
    fn what_waits_goes_into_the_rows_when_nothing_comes() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, _, _told) = keeper(folder.path());
        let event = |event| vec![Entry { line: 1, seq: None, at: None, event }];
        let names = |numbers: std::ops::Range<u32>| -> BTreeSet<Name> {
            numbers.map(|number| Name::parse(&format!("name{number:08}.example")).unwrap()).collect()
        };
        let Event::Put(order) = entries(&["put a"]).remove(0).event else { panic!() };
        keeper.book.apply("cli", event(Event::Put(Order { names: names(0..5000), ..order }))).unwrap();
        let add = Event::Add { order: "a".to_owned(), names: names(5000..6000) };
        keeper.book.apply("cli", event(add)).unwrap();
        let remove = Event::Remove { order: "a".to_owned(), names: names(0..100) };
        keeper.book.apply("cli", event(remove)).unwrap();
        assert!(keeper.book.has_changes_waiting().unwrap());

        let (jobs, taken) = mpsc::channel();
        let running = thread::spawn(move || keeper.run(&taken));
        let book = Book::open(folder.path()).unwrap();
        let begun = Instant::now();
        while book.has_changes_waiting().unwrap() {
            assert!(begun.elapsed() < Duration::from_secs(30), "changes still wait");
            thread::sleep(super::QUIET);
        }
        jobs.send(Job::Stop).unwrap();
        running.join().unwrap();
        let orders = book.load().unwrap();
        assert_eq!(orders.iter().map(|stored| &stored.order.names).collect::<Vec<_>>(), [&names(100..6000)]);
    }
}
