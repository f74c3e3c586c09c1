//! What becomes of held changes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Keeper, impossible};
use crate::{
    book::{Applied, Held, Note, listed},
    config::CONTROL_FEED,
    control::{
        api::{HeldChange, Submitted},
        server::{Failed, Reply, peer::User},
    },
    daemon::{engine::Message, held::held_change},
    feed::{Kind, file::Which, rpz::Serial, tickets::HeldAllow},
    order::Terms,
};

impl Keeper {
    /// What is held, with so many names of each kind.
    pub(super) fn held(&self, most: usize) -> Result<Vec<HeldChange>, Failed> {
        let mut changes = Vec::new();
        for held in self.book.held(most).map_err(impossible)? {
            let terms = self.book.terms(&held.order).map_err(impossible)?;
            // What is held of an order that has ended concerns nobody, unless its end is moved.
            let has_ended = |terms: &Terms| terms.not_after.is_some_and(|end| end <= Timestamp::now());
            if !terms.as_deref().is_some_and(has_ended) {
                changes.push(held_change(&held, terms.as_deref(), most));
            }
        }
        Ok(changes)
    }

    /// Reads a feed, or all of them.
    pub(super) fn sync_now(&mut self, feed: Option<&str>) -> Result<(), Failed> {
        // What a server gives is read as it arrives.
        self.fetching.fetch_now(feed);
        let Some(name) = feed else {
            self.sync(&Which::All);
            return self.is_read();
        };
        let Some(feed) = self.feeds.iter().find(|feed| feed.name == name) else {
            return Err(Failed::NotFound(format!("no feed {name} is configured")));
        };
        // Who asks for a feed by its name takes a zone that is older than the last, too.
        if let Kind::Rpz(zone) = &feed.kind
            && let Some(Err(error)) = zone.newest().map(Serial::forget)
        {
            return Err(Failed::Impossible(format!("the serial of the last zone cannot be forgotten: {error}")));
        }
        let path = std::path::absolute(&feed.path).unwrap_or_else(|_| feed.path.clone());
        let mut paths: BTreeSet<PathBuf> = BTreeSet::from([path.clone()]);
        paths.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        let known = self.book.sources().map_err(impossible)?;
        paths.extend(known.into_iter().map(PathBuf::from).filter(|known| Path::starts_with(known, &path)));
        self.sync(&Which::Only(paths));
        self.is_read()
    }

    fn is_read(&self) -> Result<(), Failed> {
        if self.unread { Err(Failed::Impossible("the order book cannot be written".to_owned())) } else { Ok(()) }
    }

    /// Approves or rejects held changes, all of them or none.
    pub(super) fn decide(&mut self, feed: &str, ids: &[String], approve: bool, user: &User, reply: Reply<Submitted>) {
        match self.decided(feed, ids, approve, user) {
            // Answered when it is in force.
            Ok(applied) => self.tell(Message::Applied { applied, ended: Vec::new(), reply: Some(reply) }),
            Err(failed) => drop(reply.send(Err(failed))),
        }
    }

    fn decided(&mut self, feed: &str, ids: &[String], approve: bool, user: &User) -> Result<Applied, Failed> {
        if feed != CONTROL_FEED && self.feeds.iter().all(|known| known.name != feed) {
            return Err(Failed::NotFound(format!("no feed {feed} is configured")));
        }
        self.read_grown(None);
        let allow = self.fetching.get(feed).and_then(|state| state.allow).filter(|allow| ids.contains(&allow.id));
        if allow.is_some() && !approve {
            let why = "the names stay free, and are asked about, as long as the allow list lacks them";
            return Err(Failed::Invalid(format!("feed {feed}: what its allow list lost cannot be rejected: {why}")));
        }
        self.write_ends().map_err(impossible)?;
        let held = self.book.held(0).map_err(impossible)?;
        let find = |id: &String| {
            let found = held.iter().find(|held| held.feed == feed && held.id == *id).cloned();
            let why = "it may have changed since it was shown; see `cordon feed status`";
            found.ok_or_else(|| Failed::NotFound(format!("feed {feed} has no held change {id}: {why}")))
        };
        let others = ids.iter().filter(|id| allow.as_ref().is_none_or(|allow| allow.id != **id));
        let chosen = others.map(find).collect::<Result<Vec<Held>, _>>()?;
        let by = json!(user);
        let word = if approve { "approved" } else { "rejected" };
        let applied = if approve {
            let (mut applied, again) = self.book.approve(&chosen, &by).map_err(impossible)?;
            self.read_again(again, &mut applied);
            applied
        } else {
            self.book.reject(&chosen, &by).map_err(impossible)?;
            Applied::default()
        };
        if let Some(allow) = allow {
            self.approve_allow(feed, &allow, by.clone());
        }
        for held in &chosen {
            tracing::warn!("feed {feed}: order {}: held change {} {word} by {by}", held.order, held.id);
        }
        Ok(applied)
    }

    /// Has names that left a platform's allow list stopped again, where tickets have them.
    fn approve_allow(&mut self, feed: &str, allow: &HeldAllow, by: Value) {
        let source = self.feeds.iter().find(|known| known.name == feed).map(|feed| feed.path.clone());
        let source = source.unwrap_or_default().to_string_lossy().into_owned();
        let mut detail = by;
        let what = json!({
            "held": allow.id, "feed": feed, "guard": allow.guard.word(), "allow": {"removed": listed(allow.gone.iter())},
        });
        if let (Some(detail), Value::Object(what)) = (detail.as_object_mut(), what) {
            detail.extend(what);
        }
        tracing::warn!("feed {feed}: {} names leave its allow list, approved: {detail}", allow.gone.len());
        self.book.note(Note { source, op: "approve", order: String::new(), detail });
        self.fetching.approve(feed, &allow.id);
    }

    /// Lets through whatever is to be.
    pub(super) fn release(&mut self) {
        self.read_grown(None);
        match self.write_ends().and_then(|()| self.book.release(Timestamp::now())) {
            Ok((mut applied, again)) => {
                self.unreleased = false;
                self.read_again(again, &mut applied);
                self.tell(Message::Applied { applied, ended: Vec::new(), reply: None });
            }
            Err(error) => {
                tracing::error!("held changes whose time has come were not let through: {error}");
                self.unreleased = true;
            }
        }
    }

    /// Sources that an approval concerns, too.
    fn read_again(&mut self, again: BTreeSet<String>, applied: &mut Applied) {
        if again.is_empty() {
            return;
        }
        let which = Which::Only(again.into_iter().map(PathBuf::from).collect());
        match self.files.sync(&mut self.book, &self.context, &which) {
            Ok(more) => applied.extend(more),
            Err(error) => {
                tracing::error!("files were not taken in: {error}");
                self.unread = true;
            }
        }
    }

    /// Time up to the next one that something is to be let through at.
    pub(super) fn next_release(&self) -> Option<Duration> {
        let next = self.book.next_release().ok().flatten()?;
        let wait = Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default();
        Some(if self.unreleased { wait.max(AGAIN) } else { wait })
    }

    /// Tells, once, of each held change whose deadline has passed.
    pub(super) fn watch_deadlines(&mut self) {
        let Ok(held) = self.book.held(0) else { return };
        let now = Timestamp::now();
        let is_missed = |held: &&Held| held.rejected.is_none() && held.deadline.is_some_and(|deadline| deadline <= now);
        let missed: BTreeSet<String> = held.iter().filter(is_missed).map(|held| held.id.clone()).collect();
        for id in missed.difference(&self.missed) {
            tracing::error!("held change {id} has missed its deadline; see `cordon feed status`");
        }
        self.missed = missed;
    }
}

/// Time after which what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
