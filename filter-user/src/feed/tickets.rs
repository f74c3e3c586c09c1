//! Feeds of tickets: a platform whose tickets each order names to be stopped, and that wants to be told of each.
//!
//! A question goes through four steps, each of which the next start takes up where it was cut short:
//! 1. The platform's tickets and allow list are put down in the [`ledger`].
//! 2. The ledger's tickets are written as [`orders`], each an order of its own, where they are read like a file.
//! 3. The order book and the kernel are asked what became of each item without an answer.
//! 4. The platform is told, and the ledger, what it was told.
//!
//! The platform is trusted to know its tickets, not to be well, nor to be right: the guards hold for it as for others.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ring::digest;
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};

use self::{ledger::Ledger, listing::Listing, orders::Judge, session::Session};
use super::{
    http::{Failure, Fetched, Remote, State, States, look_again, pace::Pace},
    spool,
};
use crate::{
    guard::{Guard, Guards},
    name::Name,
};

mod answers;
mod ask;
mod ledger;
mod listing;
mod orders;
mod platform;
mod session;

/// Where a ticket stands.
pub use platform::State as TicketState;
pub use platform::{Fields, Paths, Platform, Reason};

/// A platform to be asked.
#[derive(Clone, Debug)]
pub struct Task {
    /// The feed's name.
    pub feed: String,
    /// Where the platform is, and how it is asked.
    pub remote: Remote,
    /// What is known of it.
    pub platform: Arc<Platform>,
    /// Where the tickets are put as orders. The ledger is beside it.
    pub path: PathBuf,
    /// What may not be stopped.
    pub guards: Guards,
}

/// What a task has for the order book and the kernel.
#[derive(Debug)]
pub enum Told {
    /// There is something to read.
    Read(Fetched),
    /// What has become of these? Answered when everything that was told before is in force, as far as it will be.
    Ask(Vec<Asked>, oneshot::Sender<Standings>),
    /// What the platform was answered, for the history.
    Answered {
        /// The path of the feed's orders.
        source: PathBuf,
        /// The feed, and each answer with its ticket, order and item.
        what: serde_json::Value,
    },
    /// All orders of a feed that have ended, as long as that cannot be put down. One that is there no longer is put
    /// down as over by now, or is not over after all.
    End {
        /// The path of the feed's orders.
        source: PathBuf,
        /// Their ids.
        orders: BTreeSet<String>,
    },
}

/// Names of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub order: String,
    /// The names.
    pub names: BTreeSet<Name>,
}

/// Where names stand, by order and name.
pub type Standings = HashMap<(String, Name), Standing>;

/// Where a name of an order stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The kernel's tables stop it, by this order.
    Enforced {
        /// Other orders that stop it for all clients and protocols of this one.
        also: Vec<String>,
    },
    /// The operator's allow list has it.
    Allowed,
    /// A guard holds it, and why.
    Held(Guard, String),
    /// The operator has revoked the order.
    Revoked,
    /// It is not enforced yet.
    Waits,
}

/// How it goes with the tickets of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tickets that are to be enforced.
    pub tickets: u64,
    /// Items of these that the platform was told are enforced.
    pub processed: u64,
    /// Items of these that it was told are not.
    pub unprocessed: u64,
    /// Items of these about which it was told nothing yet.
    pub open: u64,
}

/// An allow list that lacks much of what it had: what it had stays free, until that is approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAllow {
    /// Hash of the list as it was and as it would be, as 32 hexadecimal digits.
    pub id: String,
    /// What holds it.
    pub guard: Guard,
    /// When it was first so.
    pub since: Timestamp,
    /// The names that it lacks.
    pub gone: BTreeSet<Name>,
    /// How many names it had.
    pub before: u64,
}

/// Asks platforms until the set is dropped. `tell` does not wait.
pub fn start(set: &mut JoinSet<()>, tasks: Vec<Task>, states: &States, tell: impl Fn(Told) + Send + Sync + 'static) {
    let tell: Tell = Arc::new(tell);
    for task in tasks {
        set.spawn(run(task, states.clone(), Arc::clone(&tell)));
    }
}

async fn run(task: Task, states: States, tell: Tell) {
    let feed = task.feed.clone();
    let wanted = states.wanted(&feed);
    let mut pace = Pace::new(&task.remote);
    let mut poller = Poller::new(task, tell, states.approved(&feed));
    loop {
        let outcome = poller.poll().await;
        let (now, counts) = (Timestamp::now(), poller.counts());
        let mut warned = None;
        states.update(&feed, |state| {
            let before = state.problem.take();
            let changed = if poller.has_changed { Some(now) } else { state.changed };
            *state = match &outcome {
                Ok(done) => State {
                    checked: Some(now),
                    changed,
                    problem: (!done.problems.is_empty()).then(|| done.problems.join("; ")),
                    tickets: Some(counts),
                    allow: poller.held_allow.clone(),
                    ..State::default()
                },
                Err(failure) => State {
                    changed,
                    problem: Some(failure.to_string()),
                    failing: Some(state.failing.unwrap_or(now)),
                    tickets: Some(counts),
                    allow: poller.held_allow.clone(),
                    ..state.clone()
                },
            };
            warned = state.problem.clone().filter(|problem| before.as_ref() != Some(problem));
        });
        if let Some(problem) = warned {
            tracing::warn!("feed {feed}: {problem}");
        }
        let wait = match outcome {
            Ok(Done { is_cut_short: true, .. }) => Duration::ZERO,
            Ok(_) => pace.after_answer(poller.has_changed, None),
            Err(failure) => pace.after_failure(failure.retry_after),
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = wanted.notified() => {}
        }
    }
}

type Tell = Arc<dyn Fn(Told) + Send + Sync>;

/// Asks one platform.
struct Poller {
    task: Task,
    tell: Tell,
    session: Session,
    ledger: Option<Ledger>,
    /// The orders are yet to be written as the ledger has them; what changed meanwhile are these tickets.
    unwritten: Option<BTreeSet<String>>,
    /// What was told last of orders that have ended and are not put down as over.
    ended: Option<BTreeSet<String>>,
    rounds: answers::Rounds,
    /// What is held of the allow list.
    held_allow: Option<HeldAllow>,
    /// Id of what of that is approved.
    approved: Arc<Mutex<Option<String>>>,
    /// The last question brought something new.
    has_changed: bool,
}

/// What a question came to that went well, or nearly so.
#[derive(Debug, Default)]
struct Done {
    /// What was not taken, and stays as it was.
    problems: Vec<String>,
    /// Items are left that could be answered.
    is_cut_short: bool,
}

impl Poller {
    fn new(task: Task, tell: Tell, approved: Arc<Mutex<Option<String>>>) -> Self {
        let session = Session::new(task.remote.clone(), Arc::clone(&task.platform));
        Self {
            task,
            tell,
            session,
            ledger: None,
            unwritten: None,
            ended: None,
            rounds: answers::Rounds::default(),
            held_allow: None,
            approved,
            has_changed: false,
        }
    }

    /// Asks once, and answers.
    async fn poll(&mut self) -> Result<Done, Failure> {
        self.has_changed = false;
        let mut done = Done::default();
        if self.ledger.is_none() {
            self.ledger = Some(block_in_place(|| self.open()).map_err(Failure::new)?);
            // What was put down, and perhaps not written as orders.
            self.unwritten = Some(BTreeSet::new());
            block_in_place(|| self.write())?;
        }
        match self.ask(&mut done).await {
            Ok(listing) => self.take(&listing)?,
            Err(failure) => {
                // What the allow list frees does not wait for the tickets.
                block_in_place(|| self.write())?;
                return Err(failure);
            }
        }
        self.answer(&mut done).await;
        Ok(done)
    }

    fn open(&self) -> Result<Ledger, String> {
        let folder = self.task.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ledger::open(&self.task.path.with_extension(LEDGER))
    }

    /// Takes in what the platform has, and has it read.
    fn take(&mut self, listing: &Listing) -> Result<(), Failure> {
        let taken = block_in_place(|| self.put_down(listing));
        let mut ended = BTreeSet::new();
        // What ends must end, also if that cannot be put down.
        if taken.is_err() {
            ended = self.ended.clone().unwrap_or_default();
            for (id, ticket) in &listing.tickets {
                let order = self.task.platform.order_id(id);
                match ticket.state {
                    TicketState::Revoked => _ = ended.insert(order),
                    _ => _ = ended.remove(&order),
                }
            }
        }
        if self.ended.as_ref() != Some(&ended) {
            (self.tell)(Told::End { source: self.task.path.clone(), orders: ended.clone() });
            self.ended = Some(ended);
        }
        taken
    }

    fn put_down(&mut self, listing: &Listing) -> Result<(), Failure> {
        let changed = self.ledger()?.take(listing, Timestamp::now()).map_err(Failure::new)?;
        if !changed.is_empty() {
            self.has_changed = true;
            self.unwritten.get_or_insert_default().extend(changed);
        }
        self.write()
    }

    /// Writes the orders if the ledger has others, and has them read: those of the tickets that changed at once, since
    /// beside many others they would wait for all of them.
    fn write(&mut self) -> Result<(), Failure> {
        let path = self.task.path.clone();
        let (Some(ledger), Some(allow), Some(changed)) = (&self.ledger, self.allow(), &self.unwritten) else {
            return Ok(());
        };
        // A ledger that is new beside orders that are not was lost: nothing is known of them before the platform tells.
        if ledger.tickets().is_empty() {
            return Ok(());
        }
        let judge = judge(&self.task, &allow);
        let content = orders::file(ledger, &judge);
        let tickets = changed.iter().filter_map(|id| judge.events(id, ledger.tickets().get(id)?));
        let lines: Vec<u8> = tickets.flat_map(|events| events.anew().collect::<Vec<u8>>()).collect();
        // They may be there, of a write that failed when they were: all the same they are to be read.
        if !fs::read(&path).is_ok_and(|known| known == content) {
            spool::replace(&path, &content)
                .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
        }
        let what = json!({
            "feed": self.task.feed, "url": self.task.remote.address(), "sha256": sha256(&content),
            "octets": content.len(), "tickets": ledger.tickets().len(), "changed": changed,
        });
        (self.tell)(Told::Read(Fetched::Record { path: path.clone(), what }));
        self.unwritten = None;
        let fetched = if lines.is_empty() { Fetched::File(path) } else { Fetched::Events { path, lines } };
        (self.tell)(Told::Read(fetched));
        let tell = Arc::clone(&self.tell);
        tokio::spawn(look_again(move |fetched| tell(Told::Read(fetched))));
        Ok(())
    }

    /// Tells the platform what has become of items, until it is time for the next question. That this fails does not
    /// make tickets wait.
    async fn answer(&mut self, done: &mut Done) {
        if let Err(failure) = self.send_answers(done).await {
            done.problems.push(failure.of("the answers").to_string());
        }
    }

    async fn send_answers(&mut self, done: &mut Done) -> Result<(), Failure> {
        let until = Instant::now() + self.task.remote.interval;
        let platform = Arc::clone(&self.task.platform);
        if let Some(ledger) = &mut self.ledger {
            let (tell, task) = (&self.tell, &self.task);
            self.rounds.note(|given| {
                block_in_place(|| ledger.answered(given, Timestamp::now()))?;
                tell(Told::Answered { source: task.path.clone(), what: answers::told(&task.feed, given, &platform) });
                Ok(())
            })?;
        }
        let open = {
            let (Some(ledger), Some(allow)) = (&self.ledger, self.allow()) else { return Ok(()) };
            answers::open(ledger, &judge(&self.task, &allow))
        };
        let mut standings = Standings::new();
        for asked in open.asked() {
            // Half the time is for sending.
            if Instant::now() + self.task.remote.interval / 2 >= until {
                done.is_cut_short = true;
                break;
            }
            let (reply, answer) = oneshot::channel();
            (self.tell)(Told::Ask(asked, reply));
            let answer = timeout(PATIENCE, answer).await;
            let answer = answer.ok().and_then(Result::ok);
            standings.extend(answer.ok_or_else(|| Failure::new("the order book is busy; nothing is answered yet"))?);
        }
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        let answers = open.answers(&standings, ledger, &platform);
        let (tell, task) = (&self.tell, &self.task);
        let taken = |given: &[ledger::Given]| {
            block_in_place(|| ledger.answered(given, Timestamp::now()))?;
            if !given.is_empty() {
                tell(Told::Answered { source: task.path.clone(), what: answers::told(&task.feed, given, &platform) });
            }
            Ok(())
        };
        let round = self.rounds.send(&mut self.session, &platform, answers, until, taken).await;
        done.is_cut_short |= round.is_cut_short;
        if let Some(first) = round.refused.first() {
            let count = round.refused.len();
            done.problems.push(format!("the platform does not take {count} answers, the first one: {first}"));
        }
        round.failure.map_or(Ok(()), Err)
    }

    fn counts(&self) -> Counts {
        self.ledger.as_ref().map(|ledger| ledger.counts(&self.task.platform)).unwrap_or_default()
    }

    fn source(&self) -> String {
        self.task.path.to_string_lossy().into_owned()
    }

    /// The platform's allow list; none: there should be one, and there never was.
    fn allow(&self) -> Option<BTreeSet<Name>> {
        if self.task.platform.paths.allow_list.is_empty() {
            Some(BTreeSet::new())
        } else {
            self.ledger.as_ref().and_then(|ledger| ledger.allow().cloned())
        }
    }

    fn ledger(&mut self) -> Result<&mut Ledger, Failure> {
        self.ledger.as_mut().ok_or_else(|| Failure::new("no ledger"))
    }
}

fn judge<'a>(task: &'a Task, allow: &'a BTreeSet<Name>) -> Judge<'a> {
    Judge { platform: &task.platform, guarded: task.guards.of(&task.path.to_string_lossy()), allow }
}

fn sha256(octets: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, octets);
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Longest that the order book may take.
const PATIENCE: Duration = Duration::from_secs(60);

const LEDGER: &str = "sqlite";

#[cfg(test)]
mod tests;
