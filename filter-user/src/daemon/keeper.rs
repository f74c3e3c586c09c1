//! The thread that has the order book, and whatever else waits for a disk: it reads the feeds' files and writes the
//! book, and tells the engine what changed, in the order of the book.
//!
//! State: where each order comes from, and ends that are in force but not yet in the book.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::oneshot;

use self::{fold::Fold, grown::Grown, zones::Zones};
use super::{
    ends::{End, Ends},
    engine::Message,
    feed_context, heap,
    held::{SHOWN, held_allow, log_held},
    memory::Memory,
    refusal_line,
};
use crate::{
    book::{Absences, Applied, Book, BookError, Change, Note, PATIENCE, Standing, Stored},
    config::{CONTROL_FEED, Config, Feed},
    control::{
        api::{FeedStatus, FetchStatus, OrderDetail, OrderHits, OrderState, Submitted, TicketCounts},
        server::{Failed, Reply, peer::User},
    },
    feed::{
        self, Context, Entry, Event, Refusal,
        file::{Files, Which},
        http::{Fetched, States},
        native,
        tickets::{Asked, Standings},
    },
    name::Name,
    order::{Order, Terms},
};

pub(super) use crate::config::CONTROL_SOURCE;

/// What the keeper is asked to do.
pub(super) enum Job {
    /// Read files.
    Sync(Which),
    /// Take in what was fetched.
    Fetched(Fetched),
    /// Tell what has become of names of orders, once what was read before is in force.
    Standing(Vec<Asked>, oneshot::Sender<Standings>),
    /// These are all orders of a source that have ended, though the source cannot say so.
    End {
        /// The source.
        source: PathBuf,
        /// Their ids.
        orders: BTreeSet<String>,
    },
    /// Tell when everything before is done.
    Reach(oneshot::Sender<()>),
    /// Take in events of the control socket. Those that end orders are in force already.
    Take {
        /// The events.
        entries: Vec<Entry>,
        /// What was not taken of the request.
        refusals: Vec<Refusal>,
        /// Who sent it.
        user: User,
        /// Orders that were ended before.
        ended: Vec<String>,
        /// Who waits.
        reply: Reply<Submitted>,
    },
    /// Tell of one order.
    Order(String, Reply<OrderDetail>),
    /// Write all orders.
    Export(Reply<Vec<u8>>),
    /// Tell of the feeds.
    Feeds {
        /// With every name that is held.
        whole: bool,
        /// Who waits.
        reply: Reply<Vec<FeedStatus>>,
    },
    /// Read a feed, or all of them, and tell.
    SyncNow(Option<String>, Reply<Vec<FeedStatus>>),
    /// Approve or reject held changes.
    Decide {
        /// The feed's name.
        feed: String,
        /// Their ids.
        changes: Vec<String>,
        /// Approve; else reject.
        approve: bool,
        /// Who decides.
        user: User,
        /// Who waits.
        reply: Reply<Submitted>,
    },
    /// Another configuration holds.
    Reconfigure(Box<Config>),
    /// Write down what the slots of the kernel's tables stand for.
    Remember(Box<Memory>),
    /// Write to the history what the daemon did.
    Notes(Vec<Note>),
    /// The same of a start, after which the tables hold these orders.
    Started {
        /// To be written.
        notes: Vec<Note>,
        /// How orders stand in the tables; those that they do not hold as they should be are not here.
        standing: BTreeMap<String, Standing>,
        /// Interfaces that the filter was on before this start; none: that could not be told.
        attached: Option<BTreeSet<String>>,
        /// Generation of the tables.
        generation: u64,
        /// When it was looked.
        at: Timestamp,
    },
    /// Write down what orders have met.
    Count {
        /// What the counters say of each order.
        totals: Vec<OrderHits>,
        /// The kernel's have begun anew.
        anew: bool,
    },
    /// Tell the journal how the history ends.
    TellHead,
    /// Try again what failed.
    Retry,
    /// End.
    Stop,
}

/// What the book holds at a start.
pub(super) struct Contents {
    /// Orders that are not revoked.
    pub orders: BTreeMap<String, Order>,
    /// Time of the newest entry, if the clock is behind it.
    pub clock_behind: Option<Timestamp>,
    /// Ends among them that the book does not have yet: of which order, and the parts that it is made of.
    pub ended: Vec<(String, Vec<String>)>,
    /// Number of the newest entry of the history; 0 if there is none.
    pub entry: i64,
}

/// An end by an event that could not be written yet.
struct Unwritten {
    source: String,
    entry: Entry,
    /// Who gave it, for the history.
    by: serde_json::Value,
}

/// See the module.
pub(super) struct Keeper {
    book: Book,
    /// Where the book is.
    folder: PathBuf,
    feeds: Vec<Feed>,
    files: Files,
    context: Context,
    engine: Sender<Message>,
    fetching: States,
    /// When files were read last.
    read: Option<Timestamp>,
    /// Files could not be taken in.
    unread: bool,
    /// How far the book is in zones that are transferred.
    zones: Zones,
    /// Ends by events that are in force and not in the book yet.
    unwritten: Vec<Unwritten>,
    /// The same, and other ends, where they outlive the daemon.
    ends: Ends,
    /// Orders of [`Keeper::ended_early`] that are noted there.
    noted: BTreeSet<String>,
    /// Orders that were ended before the book had it, because it is slow or could not be written.
    ended_early: Arc<Mutex<Vec<String>>>,
    /// Those of [`Keeper::ended_early`] that have ended because files lacked them.
    absent: BTreeSet<String>,
    /// Orders that files lack while the book cannot be written.
    absences: Absences,
    /// Orders that have ended and of which their source cannot say so yet: what it says does not bring them back.
    unsaid: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Held changes whose deadline has passed, as far as that was told.
    missed: BTreeSet<String>,
    /// What was to be let through could not be.
    unreleased: bool,
    /// The history could not be written.
    unnoted: bool,
    /// When changes of names go into the rows of names.
    fold: Fold,
    /// Files of which only the last events were taken in.
    grown: Grown,
}

impl Keeper {
    pub fn new(mut book: Book, config: &Config, engine: Sender<Message>, fetching: States, ends: Ends) -> Self {
        let context = feed_context(config);
        book.set_guards(context.guards.clone());
        let ended_early = Arc::new(Mutex::new(Vec::new()));
        book.tell_ends_ahead({
            let (ended_early, engine) = (Arc::clone(&ended_early), engine.clone());
            move |ids| end_early(ids, &ended_early, &engine)
        });
        Self {
            book,
            folder: config.daemon.state_dir.clone(),
            files: files(config),
            feeds: config.feeds.clone(),
            context,
            engine,
            fetching,
            read: None,
            unread: false,
            zones: Zones::default(),
            unwritten: Vec::new(),
            ends,
            noted: BTreeSet::new(),
            ended_early,
            absent: BTreeSet::new(),
            absences: Absences::new(PATIENCE),
            unsaid: BTreeMap::new(),
            missed: BTreeSet::new(),
            unreleased: false,
            unnoted: false,
            fold: Fold::default(),
            grown: Grown::default(),
        }
    }

    /// What the book holds, of which an earlier daemon has noted that this has ended.
    pub fn contents(&mut self, noted: Vec<End>) -> Result<Contents, BookError> {
        let stored = self.book.load()?;
        let ended = self.take_noted(noted, &stored);
        let orders = stored.into_iter().map(|Stored { order, .. }| (order.terms.id.clone(), order)).collect();
        let entry = self.book.head()?.map_or(0, |head| head.number);
        Ok(Contents { orders, clock_behind: self.book.clock_behind(), ended, entry })
    }

    /// Works until [`Job::Stop`].
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let _ = self.write_ends();
        self.forget_ends();
        // The configuration may hold less than the last daemon's did.
        self.release();
        loop {
            let (release, notes, fold) = (self.next_release(), self.next_notes(), self.next_fold());
            let next = [release, notes, fold, self.grown.wait()].into_iter().flatten().min();
            let job = match next {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => jobs.recv_timeout(wait),
            };
            let job = match job {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.write_notes();
                    if self.grown.wait() == Some(Duration::ZERO) {
                        self.read_grown(None);
                    }
                    if release.is_some() && release == next {
                        self.release();
                    }
                    if fold.is_some() && fold == next {
                        self.fold();
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match job {
                Job::Sync(which) => self.sync(&which),
                Job::Fetched(fetched) => self.fetched(fetched),
                Job::Standing(asked, reply) => self.standing(asked, reply),
                Job::End { source, orders } => self.ended_unsaid(source, orders),
                Job::Reach(reached) => drop(reached.send(())),
                Job::Take { entries, refusals, user, ended, reply } => {
                    self.take(entries, refusals, &user, ended, reply);
                }
                Job::Order(id, reply) => drop(reply.send(self.order(&id))),
                Job::Export(reply) => drop(reply.send(self.export())),
                Job::Feeds { whole, reply } => drop(reply.send(self.feeds(whole))),
                Job::SyncNow(feed, reply) => {
                    let read = self.sync_now(feed.as_deref());
                    // Who asked finds in force what was read: the engine has it first.
                    drop(reply.send(read.and_then(|()| self.feeds(false))));
                }
                Job::Decide { feed, changes, approve, user, reply } => {
                    self.decide(&feed, &changes, approve, &user, reply);
                }
                Job::Reconfigure(config) => {
                    (self.files, self.context) = (files(&config), feed_context(&config));
                    self.book.set_guards(self.context.guards.clone());
                    self.feeds = config.feeds;
                    self.forget_unsaid();
                    self.zones = Zones::default();
                    self.sync(&Which::All);
                    self.release();
                }
                Job::Remember(memory) => {
                    if let Err(error) = memory.save(&self.folder) {
                        tracing::warn!("hits of orders: {}: {error}", self.folder.display());
                    }
                }
                Job::Notes(notes) => notes.into_iter().for_each(|note| self.book.note(note)),
                Job::Started { notes, standing, attached, generation, at } => {
                    self.started(notes, &standing, attached.as_ref(), (generation, at));
                }
                Job::Count { totals, anew } => {
                    if let Err(error) = self.book.count(&totals, anew, Timestamp::now()) {
                        tracing::warn!("hits are not written down: {error}");
                    }
                }
                Job::TellHead => self.tell_head(),
                Job::Retry => self.retry(),
                Job::Stop => {
                    self.read_grown(None);
                    self.stopped();
                    return;
                }
            }
        }
    }

    fn sync(&mut self, which: &Which) {
        // What could not be taken in before is still to be read.
        let which = &match which {
            _ if self.unread => Which::All,
            // In one step, so that what one says of another's orders comes behind what that has said.
            Which::Only(paths) if !paths.is_empty() => Which::Only(paths | &self.grown.take()),
            which => which.clone(),
        };
        if *which == Which::All {
            self.grown.take();
        }
        let synced = self.write_ends().and_then(|()| self.files.sync(&mut self.book, &self.context, which));
        match synced {
            Ok(applied) => {
                self.unread = false;
                self.zones.read(&applied.zones);
                self.read = Some(Timestamp::now());
                for refusal in &applied.refusals {
                    tracing::warn!("refused: {refusal}");
                }
                applied.held.iter().for_each(log_held);
                // Those whose absence is yet to be confirmed stay ended meanwhile.
                let is_settled = |id: &mut String| !self.book.is_missed(id);
                let mut early = self.ended_early.lock().unwrap_or_else(PoisonError::into_inner);
                let ended: Vec<String> = early.extract_if(.., is_settled).collect();
                drop(early);
                self.absent.retain(|id| !ended.contains(id));
                self.absences = Absences::new(PATIENCE);
                self.tell(Message::Applied { applied, ended, reply: None });
                self.forget_ends();
            }
            Err(error) => {
                tracing::error!("files were not taken in: {error}");
                self.unread = true;
                self.end_what_files_end();
                self.note_ended_early();
            }
        }
        heap::give_back();
    }

    fn fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::File(path) => self.sync(&Which::Only([path].into())),
            Fetched::Zone { path, since, to, changes, arrived } => {
                self.zone_changed(path, (since, to), &changes, arrived);
            }
            Fetched::Later => self.sync(&Which::Only(BTreeSet::new())),
            Fetched::Record { path, what } => self.book.note_fetch(&path.to_string_lossy(), what),
            Fetched::Events { path, lines } => {
                // Beside a large file a few events would wait for all of it to be read. Reading it then finds that the
                // book has them; it also tells what is refused.
                self.read_grown(Some(&path));
                let source = path.to_string_lossy();
                if let Ok(read) = native::read_log(&source, &lines[..], &self.context)
                    && self.write_ends().is_ok()
                    && let is_clean = read.refusals.is_empty()
                    && let Ok(applied) = self.book.apply(&source, read.entries)
                {
                    let is_clean = is_clean && applied.refusals.is_empty() && applied.held.is_empty();
                    self.applied(applied, Vec::new(), None);
                    if is_clean {
                        return self.grown.has_grown(path);
                    }
                }
                self.sync(&Which::Only([path].into()));
            }
            Fetched::Unwritten { path, lines } => self.unwritten_news(&path.to_string_lossy(), &lines),
        }
    }

    /// Has the book know how far it is in files that have grown: what others say from now on comes later.
    fn read_grown(&mut self, but: Option<&Path>) {
        if !self.grown.is_only(but) {
            self.sync(&Which::Only(self.grown.paths()));
        }
    }

    /// Tells the engine what the book has of the control socket.
    fn applied(&self, applied: Applied, mut ended: Vec<String>, reply: Option<Reply<Submitted>>) {
        let is_revoked = |id: &mut String| applied.changes.contains(&Change::Revoke { id: id.clone() });
        ended.extend(self.ended_early.lock().unwrap_or_else(PoisonError::into_inner).extract_if(.., is_revoked));
        self.tell(Message::Applied { applied, ended, reply });
    }

    fn tell(&self, message: Message) {
        // Fails only while the daemon stops.
        let _ = self.engine.send(message);
    }

    fn take(
        &mut self,
        entries: Vec<Entry>,
        refusals: Vec<Refusal>,
        user: &User,
        ended: Vec<String>,
        reply: Reply<Submitted>,
    ) {
        self.read_grown(None);
        let ends = last_words(&entries, &ended);
        let by = json!(user);
        match self.write_ends().and_then(|()| self.book.apply_by(CONTROL_SOURCE, entries, &by)) {
            Ok(mut applied) => {
                self.book.note_refusals_by(CONTROL_SOURCE, &refusals, &by);
                applied.refusals.splice(0..0, refusals);
                applied.held.iter().for_each(log_held);
                self.applied(applied, ended, Some(reply));
            }
            Err(error) if ended.is_empty() => drop(reply.send(Err(Failed::Impossible(error.to_string())))),
            Err(error) => {
                self.book.note_refusals_by(CONTROL_SOURCE, &refusals, &by);
                let noted = match self.note_unwritten(CONTROL_SOURCE, ends, &by) {
                    Ok(()) => "the ends are noted, and written as soon as that is possible".to_owned(),
                    Err(error) => format!("a restart before that is possible would undo the ends: {error}"),
                };
                let problem = format!("ended: {}; but nothing could be written: {error}; {noted}", ended.join(" "));
                tracing::error!("{problem}");
                let submitted = Submitted {
                    refusals: refusals.iter().map(refusal_line).collect(),
                    problems: vec![problem],
                    ..Submitted::default()
                };
                drop(reply.send(Ok(submitted)));
            }
        }
    }

    fn retry(&mut self) {
        let _ = self.write_ends();
        self.forget_ends();
        if self.unread {
            self.sync(&Which::All);
        }
        let zones = self.zones.due();
        if !zones.is_empty() {
            self.sync(&Which::Only(zones));
        }
        // After the events, which have the room first; and where other jobs leave no time in between.
        self.book.note_omitted_refusals(false);
        if self.book.has_notes() {
            self.write_notes();
        }
        self.watch_deadlines();
    }

    fn export(&self) -> Result<Vec<u8>, Failed> {
        export(&self.book)
    }

    fn feeds(&self, whole: bool) -> Result<Vec<FeedStatus>, Failed> {
        let mut refusals = self.book.refusals().map_err(impossible)?;
        // The book keeps those of a file that is gone and never had an order.
        refusals.retain(|refusal| feed::input::named(Path::new(&*refusal.file)).exists());
        let most = if whole { usize::MAX } else { SHOWN };
        let mut held = self.held(most)?;
        let mut status = |feed: &Feed| {
            let allow = self.fetching.get(&feed.name).and_then(|state| state.allow);
            let allow = allow.map(|allow| held_allow(&allow, &feed.name, &feed.path, most));
            let held = held.extract_if(.., |held| held.feed == feed.name).chain(allow).collect();
            FeedStatus { held, ..self.feed(feed, &refusals) }
        };
        let mut feeds: Vec<FeedStatus> = self.feeds.iter().map(&mut status).collect();
        held.retain(|held| held.feed == CONTROL_FEED);
        if !held.is_empty() {
            let (name, path) = (CONTROL_FEED.to_owned(), PathBuf::new());
            let (url, fetch, read, problem, refusals) = (None, None, None, None, Vec::new());
            feeds.push(FeedStatus { name, path, url, fetch, tickets: None, read, problem, refusals, held });
        }
        Ok(feeds)
    }

    /// Why NOTIFYs cannot be received, if they are to be.
    fn deaf(&self) -> Option<String> {
        let (address, why) = self.fetching.deaf().into_iter().next()?;
        Some(format!("NOTIFY cannot be received at {address}: {why}"))
    }

    fn feed(&self, feed: &Feed, refusals: &[Refusal]) -> FeedStatus {
        let is_fetched = feed.remote.is_some() || feed.upstream.is_some();
        let fetching = is_fetched.then(|| self.fetching.get(&feed.name).unwrap_or_default());
        let of_feed = |refusal: &&Refusal| Path::new(&*refusal.file).starts_with(&feed.path);
        let problem = match &fetching {
            Some(state) => state.problem.clone().or_else(|| feed.upstream.as_ref().and_then(|_| self.deaf())),
            None => std::fs::metadata(&feed.path).err().map(|error| error.to_string()),
        };
        FeedStatus {
            name: feed.name.clone(),
            path: feed.path.clone(),
            url: feed.remote.as_ref().map(|remote| remote.address()),
            tickets: fetching.as_ref().and_then(|state| state.tickets).map(|counts| TicketCounts {
                tickets: counts.tickets,
                processed: counts.processed,
                unprocessed: counts.unprocessed,
                open: counts.open,
            }),
            fetch: fetching.map(|state| FetchStatus {
                checked: state.checked,
                // A clock that went back makes nothing newer than new.
                age: state.checked.map(|checked| Timestamp::now().duration_since(checked).as_secs().max(0) as u64),
                changed: state.changed,
                stale_since: state.failing.map(|failing| state.checked.unwrap_or(failing)),
                seq: state.seq,
                zone: state.zone,
            }),
            read: self.read,
            problem: problem.or_else(|| self.unread.then(|| "could not be taken into the book".to_owned())),
            refusals: refusals.iter().filter(of_feed).map(refusal_line).collect(),
            held: Vec::new(),
        }
    }
}

/// All orders that are not revoked, as events that put them.
fn export(book: &Book) -> Result<Vec<u8>, Failed> {
    let mut lines = Vec::new();
    for Stored { mut order, .. } in book.load().map_err(impossible)? {
        let id = serde_json::Value::from(order.terms.id.as_str());
        let is_empty = order.names.is_empty();
        if is_empty {
            // No put is without a name. This one comes and goes in one step.
            order.names.extend(Name::parse(NOTHING));
        }
        native::write(&mut lines, &order).map_err(|error| Failed::Impossible(error.to_string()))?;
        if is_empty {
            lines.extend(format!("{}\n", serde_json::json!({"op": "remove", "order": id, "names": [NOTHING]})).bytes());
        }
    }
    Ok(lines)
}

/// A name that never exists (RFC 6761 6.4).
const NOTHING: &str = "nothing.invalid";

/// Ends orders that the book still has.
fn end_early(mut ids: Vec<String>, ended_early: &Mutex<Vec<String>>, engine: &Sender<Message>) {
    let mut ended = ended_early.lock().unwrap_or_else(PoisonError::into_inner);
    ids.retain(|id| !ended.contains(id));
    if !ids.is_empty() {
        ended.extend(ids.iter().cloned());
        let _ = engine.send(Message::End(ids));
    }
}

/// The revokes of these orders, the last of each.
fn last_words(entries: &[Entry], orders: &[String]) -> Vec<Entry> {
    let revoke = |id: &String| {
        let is_it = |entry: &&Entry| matches!(&entry.event, Event::Revoke { order, .. } if order == id);
        entries.iter().rfind(is_it).cloned()
    };
    orders.iter().filter_map(revoke).collect()
}

/// Orders that events end, if they have the last word about them.
pub(super) fn ends(entries: &[Entry]) -> Vec<String> {
    let mut last = BTreeMap::new();
    for entry in entries {
        match &entry.event {
            Event::Revoke { order, .. } => drop(last.insert(order.as_str(), true)),
            Event::Put(order) => drop(last.insert(order.terms.id.as_str(), false)),
            _ => {}
        }
    }
    last.into_iter().filter(|(_, ends)| *ends).map(|(id, _)| id.to_owned()).collect()
}

/// Where an order that is not revoked stands.
pub(super) fn state(terms: &Terms, now: Timestamp) -> OrderState {
    if now < terms.not_before {
        OrderState::Waiting
    } else if terms.not_after.is_none_or(|end| now < end) {
        OrderState::InForce
    } else {
        OrderState::Ended
    }
}

/// Actions by protocol, in words.
pub(super) fn actions(terms: &Terms) -> BTreeMap<String, String> {
    terms.actions.iter().map(|(protocol, action)| (protocol.word().to_owned(), action.word().to_owned())).collect()
}

pub(super) fn files(config: &Config) -> Files {
    Files::new(config.feeds.iter().map(Feed::input).collect())
}

fn impossible(error: BookError) -> Failed {
    Failed::Impossible(error.to_string())
}

mod absent;
mod fold;
mod grown;
mod guards;
mod history;
mod shown;
mod standing;
mod unwritten;
mod zones;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::guard::Guards;

    /// A line of a file, which puts an order.
    pub(super) fn put_line(id: &str) -> String {
        format!(
            r#"{{"op":"put","order":{{"id":"{id}","issuer":"i","basis":"b","reference":"r","issued":"2025-01-01","not_before":"2025-02-01T00:00:00Z","not_after":"2025-03-01T00:00:00Z","protocols":["dns"],"actions":{{"dns":"drop"}},"scopes":["all"],"match":"exact","names":["a.example"]}}}}"#
        )
    }

    pub(super) fn entries(lines: &[&str]) -> Vec<Entry> {
        let line = |line: &&str| match line.split_once(' ') {
            Some(("put", id)) => put_line(id),
            Some((op, id)) => format!(r#"{{"op":"{op}","order":"{id}","why":""}}"#),
            None => panic!("{line}"),
        };
        let text = lines.iter().map(line).collect::<Vec<_>>().join("\n");
        let context = Context { scopes: None, targets: None, guards: Guards::all() };
        let read = native::read("test", text.as_bytes(), &context).unwrap();
        assert_eq!(read.refusals, []);
        read.entries
    }

    #[test]
    fn f3_the_last_word_about_an_order_counts() {
        assert_eq!(ends(&entries(&["revoke a", "put b", "revoke b", "revoke c", "put c"])), ["a", "b"]);
        assert_eq!(ends(&[]), [""; 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_exported_is_imported_whole(
            orders in vec((native::tests::any_order(), any::<bool>(), any::<bool>()), 0..6)
        ) {
            let context = Context { scopes: None, targets: None, guards: Guards::all() };
            let folder = tempfile::tempdir().unwrap();
            let book = |name: &str| Book::open(&folder.path().join(name)).unwrap();
            let event = |event| Entry { line: 1, seq: None, at: None, event };
            let mut from = book("from");
            for (order, is_emptied, is_revoked) in orders {
                let (id, names) = (order.terms.id.clone(), order.names.clone());
                let mut entries = vec![event(Event::Put(order))];
                entries.extend(is_emptied.then(|| event(Event::Remove { order: id.clone(), names })));
                entries.extend(is_revoked.then(|| event(Event::Revoke { order: id, why: String::new() })));
                from.apply("cli", entries).unwrap();
            }
            let read = native::read("export", &export(&from).unwrap()[..], &context).unwrap();
            prop_assert_eq!(&read.refusals, &[]);
            let mut to = book("to");
            to.apply("cli", read.entries).unwrap();
            let orders = |book: &Book| book.load().unwrap().into_iter().map(|stored| stored.order).collect::<Vec<_>>();
            prop_assert_eq!(orders(&to), orders(&from));
            prop_assert_eq!(export(&to).unwrap(), export(&from).unwrap());
        }
    }

    #[test]
    fn an_order_is_in_force_from_its_start_and_before_its_end() {
        let entry = entries(&["put a"]).remove(0);
        let Event::Put(order) = entry.event else { panic!("{entry:?}") };
        for (time, expected) in [
            ("2025-01-31T23:59:59Z", OrderState::Waiting),
            ("2025-02-01T00:00:00Z", OrderState::InForce),
            ("2025-02-28T23:59:59Z", OrderState::InForce),
            ("2025-03-01T00:00:00Z", OrderState::Ended),
        ] {
            assert_eq!(state(&order.terms, time.parse().unwrap()), expected, "{time}");
        }
    }
}
