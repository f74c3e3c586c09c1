//! What becomes of ends that cannot be written to the book, because its disk is full or broken: they are in force at
//! once, noted where they outlive the daemon, and written as soon as that is possible.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::PoisonError,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{Keeper, Unwritten, ends, last_words};
use crate::{
    book::Applied,
    daemon::{ends::End, engine::Message},
    feed::{Entry, native},
};

impl Keeper {
    /// Takes over what an earlier daemon has noted. Gives the orders that have ended by it.
    pub(super) fn take_noted(&mut self, noted: Vec<End>, received: &HashMap<String, Timestamp>) -> Vec<String> {
        let mut ended = BTreeSet::new();
        for end in noted {
            // What the book has revoked is done; what was put since is another order.
            let holds = received.get(&end.order).is_some_and(|received| *received <= end.time);
            if !holds || !ended.insert(end.order.clone()) {
                continue;
            }
            match end.entry() {
                Some((source, entry, by)) => self.unwritten.push(Unwritten { source: source.to_owned(), entry, by }),
                None => {
                    self.noted.insert(end.order.clone());
                    self.ended_early.lock().unwrap_or_else(PoisonError::into_inner).push(end.order);
                }
            }
        }
        ended.into_iter().collect()
    }

    /// Events of a feed that could not be written where it is kept.
    pub(super) fn unwritten_news(&mut self, source: &str, lines: &[u8]) {
        let Ok(read) = native::read_log(source, lines, &self.context) else { return };
        let error = match self.book.apply(source, read.entries.clone()) {
            // They come again, and are the same then.
            Ok(applied) => return self.applied(applied, Vec::new(), None),
            Err(error) => error,
        };
        let mut ended = ends(&read.entries);
        ended.retain(|id| self.unwritten.iter().all(|end| end.entry.event.order_id() != id));
        if ended.is_empty() {
            return;
        }
        let unwritten = last_words(&read.entries, &ended);
        // Some may have ended when the book was about to write it.
        let early: Vec<String> = {
            let mut early = self.ended_early.lock().unwrap_or_else(PoisonError::into_inner);
            early.extract_if(.., |id| ended.contains(id)).collect()
        };
        let now: Vec<String> = ended.iter().filter(|id| !early.contains(id)).cloned().collect();
        if !now.is_empty() {
            self.tell(Message::End(now));
        }
        tracing::error!("{source}: ended: {}; but it could not be written: {error}", ended.join(" "));
        if let Err(error) = self.note_unwritten(source, unwritten, &Value::Null) {
            tracing::error!("a restart before that is possible would undo the ends: {error}");
        }
    }

    /// All orders that have ended by now, of a source that cannot say so since its disk is full: they end here, and stay
    /// ended until it has them no longer in this list. Then the book has the last word, which was told before.
    pub(super) fn ended_unsaid(&mut self, source: PathBuf, orders: BTreeSet<String>) {
        let known = self.unsaid.remove(&source).unwrap_or_default();
        let fresh: Vec<String> = orders.difference(&known).cloned().collect();
        if !fresh.is_empty() {
            tracing::error!("{}: ended: {}; but that could not be put down", source.display(), fresh.join(" "));
            self.tell(Message::End(fresh));
        }
        let ended: Vec<String> = known.difference(&orders).cloned().collect();
        if !ended.is_empty() {
            self.tell(Message::Applied { applied: Applied::default(), ended, reply: None });
        }
        if !orders.is_empty() {
            self.unsaid.insert(source, orders);
        }
    }

    /// Feeds that are configured no longer say nothing more.
    pub(super) fn forget_unsaid(&mut self) {
        let is_over = |source: &PathBuf| self.feeds.iter().all(|feed| feed.path != *source);
        let over: Vec<PathBuf> = self.unsaid.keys().filter(|source| is_over(source)).cloned().collect();
        for source in over {
            self.ended_unsaid(source, BTreeSet::new());
        }
    }

    /// Keeps ends by events that are in force, until they can be written.
    pub(super) fn note_unwritten(&mut self, source: &str, entries: Vec<Entry>, by: &Value) -> io::Result<()> {
        let now = Timestamp::now();
        let ends: Vec<End> = entries.iter().filter_map(|entry| End::by(source, entry, by, now)).collect();
        let unwritten = |entry| Unwritten { source: source.to_owned(), entry, by: by.clone() };
        self.unwritten.extend(entries.into_iter().map(unwritten));
        self.ends.note(&ends)
    }

    /// Notes ends by files.
    pub(super) fn note_ended_early(&mut self) {
        let now = Timestamp::now();
        let early = self.ended_early.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh: Vec<String> = early.into_iter().filter(|id| !self.noted.contains(id)).collect();
        if fresh.is_empty() {
            return;
        }
        let ends: Vec<End> = fresh.iter().map(|id| End::by_absence(id.clone(), now)).collect();
        match self.ends.note(&ends) {
            Ok(()) => self.noted.extend(fresh),
            Err(error) => {
                tracing::error!("ends cannot be noted, and a restart would undo them for a moment: {error}");
            }
        }
    }

    /// Writes the ends that could not be written.
    pub(super) fn write_ends(&mut self) {
        while let Some(Unwritten { source, entry, by }) = self.unwritten.first() {
            let Ok(applied) = self.book.apply_by(source, vec![entry.clone()], by) else { return };
            let ended = self.unwritten.remove(0).entry.event.order_id().to_owned();
            self.applied(applied, vec![ended], None);
        }
        self.forget_ends();
    }

    /// Once the book has them all, nothing is noted.
    pub(super) fn forget_ends(&mut self) {
        let is_early = !self.ended_early.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if self.unwritten.is_empty() && !is_early {
            self.noted.clear();
            self.ends.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path, sync::mpsc::channel};

    use super::*;
    use crate::{
        book::Book,
        config::Config,
        daemon::ends::Ends,
        feed::{file::Which, http::States},
    };

    #[test]
    fn what_a_source_cannot_say_stays_ended_until_it_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, messages) = channel();
        let (ends, _) = Ends::open(folder.path(), folder.path());
        let book = Book::open(&folder.path().join("book")).unwrap();
        let mut keeper = Keeper::new(book, &Config::default(), engine, States::default(), ends);
        let told = || {
            let message = |message| match message {
                Message::End(ids) => Some(format!("end {}", ids.join(" "))),
                Message::Applied { ended, .. } if !ended.is_empty() => Some(format!("written {}", ended.join(" "))),
                _ => None,
            };
            messages.try_iter().filter_map(message).collect::<Vec<String>>()
        };
        let ids = |ids: &[&str]| -> BTreeSet<String> { ids.iter().map(|id| (*id).to_owned()).collect() };
        let source = Path::new("/feeds/shield.tickets.jsonl").to_owned();
        keeper.ended_unsaid(source.clone(), ids(&["shield:1", "shield:2"]));
        assert_eq!(told(), ["end shield:1 shield:2"]);
        // Whatever else is read says nothing about them.
        keeper.sync(&Which::Only(BTreeSet::new()));
        keeper.sync(&Which::All);
        assert_eq!(told(), [""; 0]);
        keeper.ended_unsaid(source.clone(), ids(&["shield:2", "shield:3"]));
        assert_eq!(told(), ["end shield:3", "written shield:1"]);
        keeper.ended_unsaid("/feeds/other.tickets.jsonl".into(), BTreeSet::new());
        assert_eq!(told(), [""; 0]);
        // No feed has this source any more.
        keeper.forget_unsaid();
        assert_eq!(told(), ["written shield:2 shield:3"]);
    }
}
