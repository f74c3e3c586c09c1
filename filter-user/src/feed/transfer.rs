//! Zones that are transferred: AXFR and IXFR over TCP, with TSIG, and NOTIFY.
//!
//! A task for each zone is its secondary (RFC 1034 4.3.5). It looks at the SOA record of a primary at the start, when the
//! zone's refresh time is over, when a primary sends a NOTIFY, and when somebody asks for it, and has the zone
//! transferred where the primary's is newer. What came whole is kept in a file ([`kept::Kept`]); whatever else happens
//! changes nothing there, so that the last good zone stays enforced.
//!
//! The primaries are trusted to know the zone, not to be well. A NOTIFY is trusted for nothing but to be a reason to look.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    base::Name,
    tsig::{Algorithm, Key, KeyName},
    utils::base64,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use self::{follow::Follower, pace::Pace};
use super::http::{Fetched, States};

mod follow;
pub mod kept;
pub mod notify;
mod pace;
mod pending;
pub mod records;
mod reply;
mod touched;
mod wire;

#[cfg(test)]
mod tests;

/// A zone's name.
pub type Apex = Name<Vec<u8>>;

/// Where a zone comes from, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The zone, in lower case.
    pub zone: Apex,
    /// Its primaries, asked in turn.
    pub primaries: Vec<Primary>,
    /// Differences are asked for where there is something that they can differ from.
    pub incremental: bool,
    /// What becomes of a zone that no primary has confirmed for its expire time.
    pub expire: Expire,
    /// Longest time until a connection is there.
    pub connect_timeout: Duration,
    /// Longest time in which nothing arrives.
    pub stall_timeout: Duration,
    /// Longest time for the whole answer.
    pub timeout: Duration,
    /// Longest answer, in octets: on the wire, and of its records as they are kept.
    pub max_size: u64,
}

/// A server that has the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Where it is.
    pub address: SocketAddr,
    /// What its answers are signed with.
    pub key: Option<KeyFile>,
}

/// What becomes of a zone that is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expire {
    /// Its rules stay, and the feed is stale.
    #[default]
    Keep,
    /// Its rules go.
    Drop,
}

/// A key that two servers share (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Its name, as both servers call it.
    pub name: KeyName,
    /// The algorithm that it is used with.
    pub algorithm: Algorithm,
    /// A file with the secret in base64.
    pub secret: PathBuf,
}

impl KeyFile {
    /// Reads the secret. It is read for each connection, so that it can be changed while the daemon runs.
    ///
    /// # Errors
    /// The file cannot be read or does not hold a secret; the error names it.
    pub fn read(&self) -> Result<Key, String> {
        let at = |why: &dyn fmt::Display| format!("key {}: {}: {why}", self.name, self.secret.display());
        let text = std::fs::read_to_string(&self.secret).map_err(|error| at(&error))?;
        let secret: String = secret(&text).split_whitespace().collect();
        let secret: Vec<u8> = base64::decode(&secret).map_err(|_| at(&"not a secret in base64"))?;
        if secret.is_empty() {
            return Err(at(&"the secret is empty"));
        }
        Key::new(self.algorithm, &secret, self.name.clone(), None, None).map_err(|error| at(&error))
    }
}

/// The secret in a key file, which holds nothing else, or is as `tsig-keygen` writes it for BIND.
fn secret(text: &str) -> &str {
    let quoted = text.split_once("secret").and_then(|(_, behind)| behind.split('"').nth(1));
    quoted.unwrap_or(text)
}

/// A zone to be followed.
#[derive(Clone, Debug)]
pub struct Task {
    /// The feed's name.
    pub feed: String,
    /// Where it comes from.
    pub upstream: Upstream,
    /// Where the copy is.
    pub path: PathBuf,
}

/// How a zone goes, besides what goes for every feed that is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneState {
    /// The zone's name.
    pub zone: String,
    /// Serial of the copy.
    pub serial: Option<u32>,
    /// When the copy expires, unless a primary confirms it before (RFC 1035 3.3.13).
    pub expires: Option<Timestamp>,
    /// It has expired.
    pub is_expired: bool,
    /// How each primary answered when it was asked last.
    pub primaries: Vec<PrimaryState>,
    /// NOTIFYs that were a reason to look.
    pub notifies: u64,
    /// NOTIFYs for the zone that came from nobody who may send them.
    pub notifies_refused: u64,
    /// Transfers of the whole zone since the daemon's start.
    pub whole: u64,
    /// Transfers of differences.
    pub incremental: u64,
}

/// How a primary answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryState {
    /// Where it is.
    pub address: SocketAddr,
    /// When it was asked last.
    pub asked: Timestamp,
    /// The serial that it has.
    pub serial: Option<u32>,
    /// Why it could not be used.
    pub problem: Option<String>,
}

/// Who wants a zone to be looked at.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The primaries that say there is something new. Each of them is asked.
    from: Mutex<BTreeSet<IpAddr>>,
    arrived: Notify,
}

impl Inbox {
    /// Has the zone looked at, at these primaries first.
    pub fn put(&self, from: impl IntoIterator<Item = IpAddr>) {
        self.from.lock().unwrap_or_else(PoisonError::into_inner).extend(from);
        self.arrived.notify_one();
    }

    /// Waits for some.
    async fn wait(&self) {
        while self.from.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut *self.from.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Follows zones, and listens for NOTIFY at these addresses, by tasks of the set. `tell` is called for whatever is new,
/// and does not wait.
pub fn start(
    tasks: Vec<Task>,
    listen: Vec<SocketAddr>,
    states: &States,
    tell: impl Fn(Fetched) + Clone + Send + 'static,
    set: &mut JoinSet<()>,
) {
    let mut zones = Vec::new();
    for task in tasks {
        let inbox = Arc::new(Inbox::default());
        zones.push(notify::Zone::of(&task, Arc::clone(&inbox)));
        set.spawn(run(task, states.clone(), inbox, tell.clone()));
    }
    let zones: Arc<[notify::Zone]> = zones.into();
    for address in listen {
        set.spawn(notify::listen(address, Arc::clone(&zones), states.clone()));
    }
}

async fn run(task: Task, states: States, inbox: Arc<Inbox>, tell: impl Fn(Fetched) + Clone + Send + 'static) {
    let (feed, path, expire) = (task.feed.clone(), task.path.clone(), task.upstream.expire);
    let wanted = states.wanted(&feed);
    let mut follower = Follower::new(task);
    follower.load().await;
    if let Some(found) = follower.found() {
        tell(found);
    }
    let mut pace = Pace::new(follower.version());
    follower.show(&states, &pace, None);
    let mut prefer = BTreeSet::new();
    loop {
        let outcome = follower.look(&mut prefer).await;
        let problem = outcome.as_ref().err().map(|why| pace.told(why, follower.is_dropped()));
        let wait = match outcome {
            Ok(news) => {
                let is_new = news.is_some();
                if let Some(news) = news {
                    tell(news.fetched);
                    tell(news.record);
                }
                pace.after_answer(follower.version(), is_new)
            }
            Err(_) => pace.after_failure(),
        };
        follower.show(&states, &pace, problem.as_deref());
        if let Some(problem) = problem {
            tracing::warn!("feed {feed}: {problem}");
        }
        if !prefer.is_empty() {
            // One was newer; others that say that they are were not asked.
            continue;
        }
        let until = Instant::now() + wait;
        prefer = loop {
            tokio::select! {
                () = sleep(until.saturating_duration_since(Instant::now())) => break BTreeSet::new(),
                () = wanted.notified() => break BTreeSet::new(),
                () = sleep(follower.until_tidy().unwrap_or_default()), if follower.until_tidy().is_some() => {
                    follower.tidy().await;
                }
                () = inbox.wait() => {
                    sleep(pace.after_notify()).await;
                    break inbox.take();
                }
                () = sleep(pace.until_expiry()) => {
                    let dropped = if expire == Expire::Drop { follower.drop_expired().await } else { Ok(false) };
                    if dropped == Ok(true) {
                        tell(Fetched::File(path.clone()));
                        tokio::spawn(super::http::look_again(tell.clone()));
                    }
                    let why = match dropped {
                        Ok(_) => {
                            pace.told_expiry();
                            "no primary has confirmed the zone".to_owned()
                        }
                        Err(why) => {
                            pace.put_off_expiry();
                            format!("they cannot be dropped: {why}")
                        }
                    };
                    let problem = pace.told(&why, follower.is_dropped());
                    tracing::error!("feed {feed}: {problem}");
                    follower.show(&states, &pace, Some(&problem));
                }
            }
        };
    }
}

/// Where the copy of a feed's zone is.
pub fn path(state_dir: &Path, feed: &str) -> PathBuf {
    state_dir.join("feeds").join(format!("{feed}.zone"))
}
