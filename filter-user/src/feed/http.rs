//! Feeds over HTTP and HTTPS.
//!
//! One task for each feed asks for it, time after time. An answer that is whole and as it should be is put in the place
//! of the last one in the state folder, where it is read like a file of the same kind; whatever else happens changes
//! nothing there. So the daemon starts with the last good state, whether the server answers or not.
//!
//! The server is trusted to know the orders, not to be well: it may stall, stop in the middle, lead elsewhere, or send
//! without end.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{StatusCode, Url};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use self::{fetch::Fetcher, pace::Pace};
use super::{
    Seal, tickets,
    transfer::{ZoneState, kept::Changes},
};

pub(super) mod answer;
pub(super) mod client;
mod events;
mod fetch;
mod growing;
mod meta;
pub(super) mod pace;

/// Where a feed is, and how it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its address; `http` or `https`.
    pub url: Url,
    /// Time from one answer to the next question.
    pub interval: Duration,
    /// The part of `interval`, in hundredths, by which it varies, so that many daemons do not ask at once.
    pub jitter: u32,
    /// How long a server may hold the question until there is something new; none: it is not asked to.
    pub long_poll: Option<Duration>,
    /// Longest time until a connection is there.
    pub connect_timeout: Duration,
    /// Longest time in which nothing arrives.
    pub stall_timeout: Duration,
    /// Longest time for the whole answer.
    pub timeout: Duration,
    /// Longest answer, in octets, and what it may unpack to.
    pub max_size: u64,
    /// See `max_size`.
    pub max_unpacked: u64,
    /// Certificates of the authorities that may have signed the server's; none: the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and key that are shown to the server.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// A file with a token that is sent to the server.
    pub token: Option<PathBuf>,
    /// After the first answer only what happened since is asked for.
    pub incremental: bool,
}

impl Remote {
    /// Its address for reports: a query may hold what is nobody's business, and so may what stands before the host.
    pub(crate) fn address(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        // Both fail only where there is no host.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.into()
    }
}

/// A feed to be fetched.
#[derive(Clone, Debug)]
pub struct Task {
    /// The feed's name.
    pub feed: String,
    /// Where it is.
    pub remote: Remote,
    /// It must be signed.
    pub seal: Option<Seal>,
    /// Where its last good state is put.
    pub path: PathBuf,
}

/// What a fetcher has for who reads the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file is another.
    File(PathBuf),
    /// These events are new; the file has them at its end.
    Events {
        /// The file.
        path: PathBuf,
        /// The events in the native format.
        lines: Vec<u8>,
    },
    /// What was fetched to a file, for the history; before the file is told of.
    Record {
        /// The file.
        path: PathBuf,
        /// Where it is from, its version, length and digest.
        what: serde_json::Value,
    },
    /// These events are new, and could not be put anywhere. They are asked for again.
    Unwritten {
        /// The file that should have them.
        path: PathBuf,
        /// The events in the native format.
        lines: Vec<u8>,
    },
    /// A zone has changed in this; the file has all of it.
    Zone {
        /// The file.
        path: PathBuf,
        /// The serial that the changes begin at.
        since: u32,
        /// The serial that they lead to.
        to: u32,
        /// What changed.
        changes: Box<Changes>,
        /// When the last of it arrived.
        arrived: Instant,
    },
    /// Time has passed in which a file that lacks an order may be looked at again.
    Later,
}

/// How fetching goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the server last gave an answer that could be used, also that nothing is new.
    pub checked: Option<Timestamp>,
    /// When it last gave something new.
    pub changed: Option<Timestamp>,
    /// Why the last question had no answer that could be used.
    pub problem: Option<String>,
    /// Since when that is so.
    pub failing: Option<Timestamp>,
    /// Number of the last event.
    pub seq: Option<u64>,
    /// How it goes with tickets, if it is a feed of these.
    pub tickets: Option<tickets::Counts>,
    /// What is held of its allow list, if it is a feed of tickets.
    pub allow: Option<tickets::HeldAllow>,
    /// Of a zone that is transferred.
    pub zone: Option<ZoneState>,
}

/// How fetching goes, by feed.
#[derive(Clone, Debug, Default)]
pub struct States {
    feeds: Arc<Mutex<BTreeMap<String, Entry>>>,
    deaf: Arc<Mutex<BTreeMap<SocketAddr, String>>>,
}

#[derive(Debug, Default)]
struct Entry {
    state: State,
    /// Somebody waits for the next question.
    wanted: Arc<Notify>,
    /// Id of what somebody has approved, until it is done.
    approved: Arc<Mutex<Option<String>>>,
}

impl States {
    /// Of one feed.
    pub fn get(&self, feed: &str) -> Option<State> {
        self.lock().get(feed).map(|entry| entry.state.clone())
    }

    /// Has this feed asked for at once, or all of them.
    pub fn fetch_now(&self, feed: Option<&str>) {
        let states = self.lock();
        let wanted = states.iter().filter(|(name, _)| feed.is_none_or(|feed| feed == *name));
        wanted.for_each(|(_, entry)| entry.wanted.notify_one());
    }

    /// Has what a feed holds of its allow list taken, under this id, and the feed asked for at once.
    pub(crate) fn approve(&self, feed: &str, id: &str) {
        *self.approved(feed).lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
        self.fetch_now(Some(feed));
    }

    /// What of a feed is approved.
    pub(super) fn approved(&self, feed: &str) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.lock().entry(feed.to_owned()).or_default().approved)
    }

    /// Where NOTIFYs cannot be received, and why.
    pub fn deaf(&self) -> BTreeMap<SocketAddr, String> {
        self.deaf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that NOTIFYs cannot be received at an address, or that they can.
    pub(super) fn set_deaf(&self, address: SocketAddr, why: Option<String>) {
        let mut deaf = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => drop(deaf.insert(address, why)),
            None => drop(deaf.remove(&address)),
        }
    }

    pub(super) fn wanted(&self, feed: &str) -> Arc<Notify> {
        Arc::clone(&self.lock().entry(feed.to_owned()).or_default().wanted)
    }

    pub(super) fn update(&self, feed: &str, change: impl FnOnce(&mut State)) {
        change(&mut self.lock().entry(feed.to_owned()).or_default().state);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches feeds until the set is dropped. `tell` is called for whatever is new, and does not wait.
pub fn start(tasks: Vec<Task>, states: &States, tell: impl Fn(Fetched) + Clone + Send + 'static) -> JoinSet<()> {
    let mut set = JoinSet::new();
    for task in tasks {
        set.spawn(run(task, states.clone(), tell.clone()));
    }
    set
}

async fn run(task: Task, states: States, tell: impl Fn(Fetched) + Clone + Send + 'static) {
    let feed = task.feed.clone();
    let wanted = states.wanted(&feed);
    let mut pace = Pace::new(&task.remote);
    let mut fetcher = Fetcher::new(task);
    states.update(&feed, |state| (state.changed, state.seq) = (fetcher.meta().changed, fetcher.meta().seq));
    // An earlier daemon may have fetched it, and not have lived to tell.
    fetcher.record().into_iter().for_each(&tell);
    loop {
        let asked = Instant::now();
        let outcome = fetcher.fetch().await;
        let now = Timestamp::now();
        states.update(&feed, |state| match &outcome {
            Ok(_) => {
                *state = State {
                    checked: Some(now),
                    changed: fetcher.meta().changed,
                    seq: fetcher.meta().seq,
                    ..State::default()
                };
            }
            Err(failure) => {
                state.problem = Some(failure.to_string());
                state.failing.get_or_insert(now);
            }
        });
        let wait = match outcome {
            Ok(outcome) => {
                let is_new = outcome.news.is_some();
                if let Some(news) = outcome.news {
                    tracing::info!("feed {feed}: something new");
                    fetcher.record().into_iter().for_each(&tell);
                    tell(news);
                    tokio::spawn(look_again(tell.clone()));
                }
                pace.after_answer(is_new, outcome.held.then(|| asked.elapsed()))
            }
            Err(failure) => {
                tracing::warn!("feed {feed}: {failure}");
                failure.news.into_iter().for_each(&tell);
                pace.after_failure(failure.retry_after)
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = wanted.notified() => {}
        }
    }
}

/// An order that is gone is believed to be so at a second look.
pub(super) async fn look_again(tell: impl Fn(Fetched)) {
    for wait in AGAIN {
        sleep(wait).await;
        tell(Fetched::Later);
    }
}

/// Why there was no answer that could be used.
#[derive(Debug)]
pub(crate) struct Failure {
    why: String,
    /// What the server answered, where that is why.
    pub(super) status: Option<StatusCode>,
    /// The server says when it may be asked again.
    pub(super) retry_after: Option<Duration>,
    /// What came nevertheless.
    pub(super) news: Option<Fetched>,
}

impl Failure {
    pub(super) fn new(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), status: None, retry_after: None, news: None }
    }

    /// The same, with what it was that failed.
    pub(super) fn of(self, what: impl fmt::Display) -> Self {
        Self { why: format!("{what}: {}", self.why), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

/// One after the other; several, since the reader may be busy at first.
const AGAIN: [Duration; 3] = [Duration::from_millis(2500), Duration::from_secs(5), Duration::from_secs(30)];

#[cfg(test)]
mod tests;
