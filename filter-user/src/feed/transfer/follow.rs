//! One zone: a look at its primaries, and a transfer where there is something newer.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use domain::base::Serial;
use jiff::Timestamp;
use ring::digest;
use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{
    Primary, PrimaryState, Task, Upstream, ZoneState,
    kept::{Kept, KeptError, Version},
    pace::{self, Pace},
    records::{self, Parsed, Records, Soa},
    reply::{Reply, Transfer},
    wire::{Answer, Connection, Question, Refused},
};
use crate::feed::http::{Fetched, States};

/// A zone that is followed.
pub(super) struct Follower {
    task: Task,
    /// Open, but while it is worked with.
    kept: Option<Kept>,
    /// When what was transferred is to be written to where it stays, if it is not there.
    tidy_at: Option<Instant>,
    version: Option<Version>,
    primaries: Vec<PrimaryState>,
    whole: u64,
    incremental: u64,
}

/// What is new.
pub(super) struct News {
    /// For who reads the copy.
    pub(super) fetched: Fetched,
    /// For the history.
    pub(super) record: Fetched,
}

/// What a primary has.
enum Found {
    /// What is here.
    Same,
    /// An older version.
    Older(u32),
    /// A newer one, which is here now.
    Taken(Box<News>),
}

impl Follower {
    pub(super) fn new(task: Task) -> Self {
        Self {
            task,
            kept: None,
            tidy_at: Some(Instant::now() + REST),
            version: None,
            primaries: Vec::new(),
            whole: 0,
            incremental: 0,
        }
    }

    /// How far the copy is.
    pub(super) fn version(&self) -> Option<Version> {
        self.version
    }

    /// Begins with the copy that is there.
    pub(super) async fn load(&mut self) {
        let found = self.with_kept(|kept| kept.version()).await;
        match found {
            Ok(version) => self.version = version,
            Err(why) => tracing::warn!("feed {}: {why}", self.task.feed),
        }
    }

    /// What there is at the start, for who reads the copy and may have missed what an earlier task put there.
    pub(super) fn found(&self) -> Option<Fetched> {
        let (path, version) = (self.task.path.clone(), self.version?);
        let (since, to) = (version.soa.serial, version.soa.serial);
        Some(if version.is_dropped {
            Fetched::File(path)
        } else {
            Fetched::Zone { path, since, to, changes: Box::default(), arrived: Instant::now() }
        })
    }

    /// Asks the primaries in turn, those of `prefer` first, and takes out of that which were asked. One that sends
    /// something newer ends that; so does one that has what is here, if it is the last of those that were to be asked.
    ///
    /// # Errors
    /// None of them has the zone as it should be; why, for each.
    pub(super) async fn look(&mut self, prefer: &mut BTreeSet<IpAddr>) -> Result<Option<News>, String> {
        let mut order: Vec<usize> = (0..self.task.upstream.primaries.len()).collect();
        let is_wanted = |number: usize, prefer: &BTreeSet<IpAddr>| {
            address_of(&self.task.upstream, number).is_some_and(|address| prefer.contains(&address))
        };
        order.sort_by_key(|number| !is_wanted(*number, prefer));
        // Several primaries may be at one address.
        let mut wanted = order.iter().filter(|number| is_wanted(**number, prefer)).count();
        let mut problems = Vec::new();
        let mut is_confirmed = false;
        for number in order {
            let is_last_wanted = wanted == 1;
            wanted = wanted.saturating_sub(1);
            if let Some(address) = address_of(&self.task.upstream, number) {
                prefer.remove(&address);
            }
            let found = self.ask(number).await;
            let now = Timestamp::now();
            let Some(primary) = self.task.upstream.primaries.get(number) else { continue };
            let address = primary.address;
            let mut state = PrimaryState { address, asked: now, serial: None, problem: None };
            let mut news = None;
            match found {
                Ok(Found::Taken(taken)) => {
                    state.serial = self.version.map(|version| version.soa.serial);
                    news = Some(taken);
                }
                Ok(Found::Same) => {
                    state.serial = self.version.map(|version| version.soa.serial);
                    is_confirmed = true;
                }
                Ok(Found::Older(serial)) => {
                    let here = self.version.map_or(0, |version| version.soa.serial);
                    let why = format!("has serial {serial}, which is older than {here}, which is here");
                    state.serial = Some(serial);
                    state.problem = Some(why.clone());
                    problems.push(format!("{address} {why}"));
                }
                Err(why) => {
                    problems.push(format!("{address}: {why}"));
                    state.problem = Some(why);
                }
            }
            self.note(state);
            if news.is_some() || is_confirmed && is_last_wanted {
                self.confirm(now, news.is_some()).await?;
                return Ok(news.map(|news| *news));
            }
        }
        if is_confirmed {
            self.confirm(Timestamp::now(), false).await?;
            return Ok(None);
        }
        Err(problems.join("; "))
    }

    async fn ask(&mut self, number: usize) -> Result<Found, String> {
        let upstream = self.task.upstream.clone();
        let primary = upstream.primaries.get(number).ok_or("no such primary")?;
        let mut connection = Connection::open(primary, &upstream).await?;
        let soa = ask_soa(&mut connection, &upstream).await?;
        // A zone that has gone may come back with any serial.
        let here = self.version.filter(|version| !version.is_dropped);
        if let Some(here) = here.filter(|here| !is_newer(soa.serial, here.soa.serial)) {
            return Ok(if soa.serial == here.soa.serial { Found::Same } else { Found::Older(soa.serial) });
        }
        if let Some(here) = here.filter(|_| upstream.incremental) {
            let question = Question::Ixfr(here.soa.serial);
            let taken = match transfer(&mut connection, primary, &upstream, question).await {
                Ok(transfer) => self.take(transfer, Some(here), primary.address).await,
                Err(why) => Err(why.to_string()),
            };
            match taken {
                Ok(taken) => return Ok(taken),
                Err(why) => {
                    tracing::info!("feed {}: {}: {why}; the whole zone is asked for", self.task.feed, primary.address)
                }
            }
            // What is left of the answer would be taken for that to the next question.
            connection = Connection::open(primary, &upstream).await?;
        }
        let whole = transfer(&mut connection, primary, &upstream, Question::Axfr).await;
        let whole = whole.map_err(|why| format!("AXFR: {why}"))?;
        self.take(whole, here, primary.address).await
    }

    /// Keeps what came.
    async fn take(&mut self, transfer: Transfer, here: Option<Version>, from: SocketAddr) -> Result<Found, String> {
        let (now, arrived) = (Timestamp::now(), Instant::now());
        let path = self.task.path.clone();
        let (soa, digest, fetched, kind) = match transfer {
            Transfer::Same => return Err("it has nothing newer, and says that its serial is".into()),
            Transfer::Whole { soa, records } => {
                check_serial(soa, here)?;
                let digest = self
                    .with_kept(move |kept| {
                        kept.replace(soa, &records, now)?;
                        Ok(digest(soa, [&records]))
                    })
                    .await?;
                self.whole += 1;
                (soa, digest, Fetched::File(path), "AXFR")
            }
            Transfer::Steps { soa, steps } => {
                check_serial(soa, here)?;
                let (changes, digest) = self
                    .with_kept(move |kept| {
                        let changes = kept.apply(soa, &steps, now)?;
                        let parts = steps.iter().flat_map(|step| [&step.removed, &step.added]);
                        Ok((changes, digest(soa, parts)))
                    })
                    .await?;
                self.incremental += 1;
                let fetched = match changes {
                    Some(changes) => {
                        let since = here.map_or(soa.serial, |here| here.soa.serial);
                        Fetched::Zone { path, since, to: soa.serial, changes: Box::new(changes), arrived }
                    }
                    None => Fetched::File(path),
                };
                (soa, digest, fetched, "IXFR")
            }
        };
        self.version = Some(Version { soa, changed: now, checked: now, is_dropped: false });
        self.tidy_at = Some(Instant::now() + REST);
        tracing::info!("feed {}: {kind} from {from} to serial {}", self.task.feed, soa.serial);
        let (feed, zone) = (&self.task.feed, self.task.upstream.zone.to_string());
        let since = here.filter(|_| kind == "IXFR").map(|here| here.soa.serial);
        let what = json!({
            "feed": feed, "zone": zone, "primary": from, "transfer": kind, "since": since, "serial": soa.serial,
            "sha256": digest,
        });
        Ok(Found::Taken(Box::new(News { fetched, record: Fetched::Record { path: self.task.path.clone(), what } })))
    }

    async fn confirm(&mut self, now: Timestamp, is_new: bool) -> Result<(), String> {
        if let Some(version) = self.version.as_mut().filter(|_| !is_new) {
            version.checked = now;
            self.with_kept(move |kept| kept.checked(now)).await?;
        }
        Ok(())
    }

    /// Time up to when nobody waits any more for what was transferred, if that is not where it stays.
    pub(super) fn until_tidy(&self) -> Option<Duration> {
        Some(self.tidy_at?.saturating_duration_since(Instant::now()))
    }

    /// Writes it there.
    pub(super) async fn tidy(&mut self) {
        self.tidy_at = None;
        if self.kept.is_some()
            && let Err(why) = self.with_kept(Kept::tidy).await
        {
            tracing::warn!("feed {}: {why}", self.task.feed);
            self.tidy_at = Some(Instant::now() + AGAIN);
        }
    }

    /// Whether the rules of the zone have gone, since it was too old.
    pub(super) fn is_dropped(&self) -> bool {
        self.version.is_some_and(|version| version.is_dropped)
    }

    /// Has the rules of the zone go, since it is too old. Gives whether there were any.
    ///
    /// # Errors
    /// That cannot be noted in the copy, and the rules stay.
    pub(super) async fn drop_expired(&mut self) -> Result<bool, String> {
        if self.version.is_none() || self.is_dropped() {
            return Ok(false);
        }
        self.with_kept(|kept| kept.drop_expired()).await?;
        if let Some(version) = &mut self.version {
            version.is_dropped = true;
        }
        Ok(true)
    }

    fn note(&mut self, state: PrimaryState) {
        self.primaries.retain(|known| known.address != state.address);
        self.primaries.push(state);
        self.primaries.sort_by_key(|known| {
            self.task.upstream.primaries.iter().position(|primary| primary.address == known.address)
        });
    }

    /// Tells how it goes.
    pub(super) fn show(&self, states: &States, pace: &Pace, problem: Option<&str>) {
        states.update(&self.task.feed, |state| {
            let checked = self.version.map(|version| version.checked);
            state.checked = checked;
            state.changed = self.version.map(|version| version.changed);
            state.failing = problem.map(|_| state.failing.unwrap_or_else(|| checked.unwrap_or_else(Timestamp::now)));
            state.problem = problem.map(str::to_owned);
            let zone = state.zone.get_or_insert_default();
            let (notifies, notifies_refused) = (zone.notifies, zone.notifies_refused);
            *zone = ZoneState {
                zone: self.task.upstream.zone.to_string(),
                is_expired: pace.is_expired(),
                serial: self.version.map(|version| version.soa.serial),
                expires: self.version.as_ref().and_then(pace::expires),
                primaries: self.primaries.clone(),
                whole: self.whole,
                incremental: self.incremental,
                notifies,
                notifies_refused,
            };
        });
    }

    /// Works with the copy where that holds up nobody else. A damaged one is made anew: the primary has the zone.
    async fn with_kept<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Kept) -> Result<T, KeptError> + Send + 'static,
    ) -> Result<T, String> {
        let (path, apex, kept) = (self.task.path.clone(), self.task.upstream.zone.clone(), self.kept.take());
        let worked = spawn_blocking(move || {
            let mut kept = match kept {
                Some(kept) => kept,
                None => Kept::open(&path, &apex)?,
            };
            let done = work(&mut kept)?;
            Ok((done, kept))
        });
        let path = &self.task.path;
        match worked.await.map_err(|error| error.to_string())? {
            Ok((done, kept)) => {
                self.kept = Some(kept);
                Ok(done)
            }
            Err(KeptError::Sqlite(error))
                if matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)) =>
            {
                self.version = None;
                let gone =
                    remove(path).map_or_else(|error| format!(" (and cannot be removed: {error})"), |()| String::new());
                Err(format!("the copy {} is damaged, and is made anew{gone}: {error}", path.display()))
            }
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

/// After this nobody waits for what was transferred.
const REST: Duration = Duration::from_secs(1);

/// Time after which what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// SHA-256 of a transfer: its serial, and its records in the form and order in which they were kept.
fn digest<'r>(soa: Soa, parts: impl IntoIterator<Item = &'r Records>) -> String {
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&soa.serial.to_be_bytes());
    parts.into_iter().for_each(|records| records.digest(&mut digest));
    digest.finish().as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

async fn ask_soa(connection: &mut Connection, upstream: &Upstream) -> Result<Soa, String> {
    let asked = |why: Refused| format!("SOA: {why}");
    let mut answer = connection.ask(&upstream.zone, Question::Soa, upstream).await.map_err(|why| why.to_string())?;
    let message = answer.next().await.map_err(asked)?;
    answer.done().map_err(asked)?;
    let mut found = None;
    for record in records::answer(&message, &upstream.zone)? {
        if let Parsed::Soa(soa, _) = record? {
            found = Some(soa);
        }
    }
    found.ok_or_else(|| format!("it does not have the zone {}", upstream.zone))
}

/// A transfer over a connection, or over a new one in its place if the primary has closed it after its last answer.
async fn transfer(
    connection: &mut Connection,
    primary: &Primary,
    upstream: &Upstream,
    question: Question,
) -> Result<Transfer, Refused> {
    match transfer_over(connection, upstream, question).await {
        Err(Refused::Closed) => {
            *connection = Connection::open(primary, upstream).await?;
            transfer_over(connection, upstream, question).await
        }
        done => done,
    }
}

async fn transfer_over(
    connection: &mut Connection,
    upstream: &Upstream,
    question: Question,
) -> Result<Transfer, Refused> {
    let since = if let Question::Ixfr(since) = question { Some(since) } else { None };
    let mut answer = connection.ask(&upstream.zone, question, upstream).await?;
    let mut reply = Reply::new(since, upstream.max_size);
    while !reply.is_closed() {
        take_message(&mut answer, &mut reply, upstream).await?;
    }
    answer.done()?;
    reply.finish().ok_or_else(|| "it has no end".to_owned().into())
}

async fn take_message(answer: &mut Answer<'_>, reply: &mut Reply, upstream: &Upstream) -> Result<(), Refused> {
    let message = answer.next().await?;
    for record in records::answer(&message, &upstream.zone)? {
        reply.record(record?)?;
    }
    reply.message_ends();
    Ok(())
}

/// RFC 1982 3.2.
fn is_newer(there: u32, here: u32) -> bool {
    Serial(there) > Serial(here)
}

fn check_serial(soa: Soa, here: Option<Version>) -> Result<(), String> {
    match here {
        Some(here) if !is_newer(soa.serial, here.soa.serial) => {
            let (there, here) = (soa.serial, here.soa.serial);
            Err(format!("it sends serial {there}, which is no newer than {here}, which is here"))
        }
        _ => Ok(()),
    }
}

fn address_of(upstream: &Upstream, number: usize) -> Option<IpAddr> {
    upstream.primaries.get(number).map(|primary| primary.address.ip().to_canonical())
}

/// Removes the copy with what SQLite keeps beside it.
fn remove(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
