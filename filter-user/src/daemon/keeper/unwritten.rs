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
    book::{Applied, BookError, Stored},
    daemon::{ends::End, engine::Message},
    feed::{Entry, native},
};

impl Keeper {
    /// Takes over what an earlier daemon has noted. Gives the ends that hold, with the parts of each order: the book
    /// has none of the order itself if a zone gives its names.
    pub(super) fn take_noted(&mut self, noted: Vec<End>, stored: &[Stored]) -> Vec<(String, Vec<String>)> {
        let mut received = HashMap::new();
        let mut parts: HashMap<&str, Vec<String>> = HashMap::new();
        for Stored { order, received: time, .. } in stored {
            received.insert(order.terms.id.as_str(), *time);
            if let Some(whole) = &order.terms.part_of {
                parts.entry(whole).or_default().push(order.terms.id.clone());
            }
        }
        let mut ended = Vec::new();
        for end in noted {
            let parts = parts.get(end.order.as_str()).cloned().unwrap_or_default();
            // What the book has revoked is done; what was put since is another order.
            let is_older = |id: &str, received: &Timestamp| match end.entry {
                // What cannot be read was not put.
                Some(entry) => !self.book.is_put_since(id, entry).unwrap_or_default(),
                None => *received <= end.time,
            };
            let stood = |id: &String| received.get(id.as_str()).is_some_and(|received| is_older(id, received));
            if !stood(&end.order) && !parts.iter().any(stood) {
                continue;
            }
            match end.event() {
                // Also of an order that a file lacked before: the file may put it again.
                Some((source, entry, by)) => self.unwritten.push(Unwritten { source: source.to_owned(), entry, by }),
                None if self.noted.insert(end.order.clone()) => {
                    self.ended_early.lock().unwrap_or_else(PoisonError::into_inner).push(end.order.clone());
                    self.absent.insert(end.order.clone());
                }
                None => continue,
            }
            ended.push((end.order, parts));
        }
        ended
    }

    /// Events of a feed that could not be written where it is kept.
    pub(super) fn unwritten_news(&mut self, source: &str, lines: &[u8]) {
        let Ok(read) = native::read_log(source, lines, &self.context) else { return };
        let error = match self.write_ends().and_then(|()| self.book.apply(source, read.entries.clone())) {
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
        let now = self.now();
        let ends: Vec<End> = entries.iter().filter_map(|entry| End::by(source, entry, by, now)).collect();
        let unwritten = |entry| Unwritten { source: source.to_owned(), entry, by: by.clone() };
        self.unwritten.extend(entries.into_iter().map(unwritten));
        self.ends.note(&ends)
    }

    /// Notes ends by files.
    pub(super) fn note_ended_early(&mut self) {
        let now = self.now();
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

    /// The time, and the entry that the history ends with.
    fn now(&self) -> (Timestamp, Option<i64>) {
        let head = self.book.head().map(|head| head.map_or(0, |head| head.number));
        (Timestamp::now(), head.ok())
    }

    /// Writes the ends that could not be written. Whatever else is to be written comes after them, and not before they
    /// are: else an older end would take what was put since.
    ///
    /// # Errors
    /// The book still cannot be written.
    pub(super) fn write_ends(&mut self) -> Result<(), BookError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        while let Some(Unwritten { source, entry, by }) = self.unwritten.first() {
            let applied = self.book.apply_by(source, vec![entry.clone()], by)?;
            let ended = self.unwritten.remove(0).entry.event.order_id().to_owned();
            self.applied(applied, vec![ended], None);
        }
        self.forget_ends();
        Ok(())
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
pub(super) mod tests {
    use std::{collections::BTreeSet, path::Path, sync::mpsc};

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        book::{Book, What},
        config::Config,
        control::server::peer::User,
        daemon::{
            ends::Ends,
            keeper::{CONTROL_SOURCE, tests::entries},
        },
        feed::{Event, file::Which, http::States},
        order::{Order, Terms},
    };

    /// A daemon's keeper, what an earlier one has noted, and what the engine is told.
    pub(in super::super) fn keeper(folder: &Path) -> (Keeper, Vec<End>, mpsc::Receiver<Message>) {
        let text = format!("[daemon]\nstate_dir = \"{}\"\n", folder.display());
        let config = Config::parse(&text, Path::new("cordon.toml")).unwrap();
        let (ends, noted) = Ends::open(folder, &folder.join("run"));
        let (engine, told) = mpsc::channel();
        (Keeper::new(Book::open(folder).unwrap(), &config, engine, States::default(), ends), noted, told)
    }

    fn in_force(keeper: &Keeper) -> Vec<String> {
        keeper.book.load().unwrap().into_iter().map(|stored| stored.order.terms.id.clone()).collect()
    }

    /// What was ended before the book had it, as the engine is told that the book has it.
    fn written(told: &mpsc::Receiver<Message>) -> Vec<Vec<String>> {
        let ended = |message| match message {
            Message::Applied { ended, .. } => Some(ended),
            _ => None,
        };
        told.try_iter().filter_map(ended).collect()
    }

    #[test]
    fn f4_a_noted_end_of_an_order_that_is_made_of_parts_ends_them_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (mut keeper, _, _told) = keeper(folder.path());
            for id in ["o#drop", "o#nxdomain"] {
                let Event::Put(Order { terms, names, except }) = entries(&["put o"]).remove(0).event else { panic!() };
                let part_of = Some("o".to_owned());
                let terms = Terms { id: id.to_owned(), part_of, ..(*terms).clone() }.into();
                let event = Event::Put(Order { terms, names, except });
                keeper.book.apply("zone", vec![Entry { line: 1, seq: None, at: None, event }]).unwrap();
            }
            keeper.book.apply("cli", entries(&["put p"])).unwrap();
            // As with a full disk.
            keeper.note_unwritten("cli", entries(&["revoke o"]), &Value::Null).unwrap();
        }
        let (mut keeper, noted, told) = keeper(folder.path());
        let before: Vec<End> = noted.iter().map(|end| End { entry: Some(0), ..end.clone() }).collect();
        assert_eq!(keeper.contents(before).unwrap().ended, [], "all was put since");
        let contents = keeper.contents(noted).unwrap();
        let parts = ["o#drop", "o#nxdomain"].map(str::to_owned);
        assert_eq!(contents.ended, [("o".to_owned(), parts.to_vec())]);
        keeper.write_ends().unwrap();
        assert_eq!(in_force(&keeper), ["p"]);
        let ended: Vec<_> = written(&told).concat();
        assert!(ended.contains(&"o".to_owned()), "{ended:?}");
        assert_eq!(Ends::open(folder.path(), &folder.path().join("run")).1, [], "the book has it");
    }

    #[test]
    fn f4_what_a_noted_end_ends_is_told_by_the_history_and_not_by_clocks() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, ..) = keeper(folder.path());
        keeper.book.apply("cli", entries(&["put a"])).unwrap();
        keeper.note_unwritten("cli", entries(&["revoke a"]), &Value::Null).unwrap();
        let [end] = &Ends::open(folder.path(), &folder.path().join("run")).1[..] else { panic!() };
        assert_eq!(end.entry, Some(1));
        // The clock was ahead when the order was put, or it is when what comes later is.
        let [past, future] = [-3600, 3600].map(|seconds| Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
        let mut ends = |end: &End| keeper.contents(vec![end.clone()]).unwrap().ended.len();
        assert_eq!(ends(&End { time: past, ..end.clone() }), 1);
        // As an earlier version has noted it.
        assert_eq!([past, future].map(|time| ends(&End { time, entry: None, ..end.clone() })), [0, 1]);
        keeper.book.apply("cli", entries(&["revoke a", "put a"])).unwrap();
        assert_eq!(keeper.contents(vec![End { time: future, ..end.clone() }]).unwrap().ended, []);
    }

    #[test]
    fn f4_a_noted_revoke_counts_though_a_file_lacked_the_order_before() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (mut keeper, _, _told) = keeper(folder.path());
            keeper.book.apply("cli", entries(&["put a"])).unwrap();
            keeper.ended_early.lock().unwrap().push("a".to_owned());
            keeper.note_ended_early();
            keeper.note_unwritten("cli", entries(&["revoke a"]), &Value::Null).unwrap();
        }
        let (mut keeper, noted, told) = keeper(folder.path());
        // Each of the two ends is taken back by itself, when the book has it.
        let end = ("a".to_owned(), Vec::new());
        assert_eq!(keeper.contents(noted).unwrap().ended, [end.clone(), end]);
        keeper.write_ends().unwrap();
        assert_eq!(in_force(&keeper), [""; 0]);
        assert_eq!(written(&told), [["a", "a"]]);
    }

    #[test]
    fn f4_what_is_put_once_there_is_room_comes_after_an_older_revoke() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, _, told) = keeper(folder.path());
        keeper.book.apply("cli", entries(&["put a", "put b"])).unwrap();
        keeper.note_unwritten("cli", entries(&["revoke a"]), &Value::Null).unwrap();
        let user = User { user: "root".to_owned(), uid: Some(0), claimed: None };
        let (reply, _answer) = oneshot::channel();
        keeper.take(entries(&["put a"]), Vec::new(), &user, Vec::new(), reply);
        let applied: Vec<_> = told
            .try_iter()
            .filter_map(|message| match message {
                Message::Applied { applied, .. } => Some(applied.outcomes.iter().map(|o| o.what).collect::<Vec<_>>()),
                _ => None,
            })
            .collect();
        assert_eq!(applied, [[What::Revoked], [What::New]]);
        keeper.write_ends().unwrap();
        assert_eq!(in_force(&keeper), ["a", "b"]);

        // The same for what files say, and for what is let through.
        type Step = fn(&mut Keeper);
        for step in [(|keeper| keeper.sync(&Which::All)) as Step, Keeper::release] {
            keeper.note_unwritten("cli", entries(&["revoke a"]), &Value::Null).unwrap();
            step(&mut keeper);
            assert!(keeper.unwritten.is_empty());
            assert_eq!(in_force(&keeper), ["b"]);
            keeper.book.apply("cli", entries(&["put a"])).unwrap();
        }
    }

    #[test]
    fn what_is_refused_of_a_request_is_told_with_its_user_once_the_rest_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, ..) = keeper(folder.path());
        let user = User { user: "root".to_owned(), uid: Some(0), claimed: Some("alice".to_owned()) };
        let take = |keeper: &mut Keeper, lines: &[&str]| {
            let refusals = vec![crate::feed::Refusal::new(&CONTROL_SOURCE.into(), 2, "x", "no such field")];
            let (reply, _answer) = oneshot::channel();
            let (entries, ended) = (entries(lines), ends(&entries(lines)));
            keeper.take(entries, refusals, &user, ended, reply);
            // As there was room for notes all the time.
            keeper.book.set_full(false);
            keeper.book.write_notes().unwrap();
            let mut told = Vec::new();
            let audit = crate::book::audit::Audit::open(folder.path()).unwrap();
            audit
                .entries(|entry| {
                    let detail = entry.detail()?;
                    told.push(format!("{} {} {}", entry.op, detail["user"], detail["claimed"]));
                    Ok(())
                })
                .unwrap();
            told
        };
        let by = |op: &str| format!("{op} \"root\" \"alice\"");
        assert_eq!(take(&mut keeper, &["put a"]), [by("put"), by("refuse")]);
        keeper.book.set_full(true);
        // All of it is refused, and asked for again.
        assert_eq!(take(&mut keeper, &["put b"]), [by("put"), by("refuse")]);
        keeper.book.set_full(true);
        // The end was taken.
        assert_eq!(take(&mut keeper, &["revoke a"]), [by("put"), by("refuse"), by("refuse")]);
    }

    #[test]
    fn what_a_source_cannot_say_stays_ended_until_it_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, messages) = mpsc::channel();
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
