//! What the platform is asked for: the allow list, then the tickets, of which none is enforced that a newer allow list
//! has.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use ring::digest;
use tokio::task::block_in_place;

use super::{
    Done, HeldAllow, Poller,
    listing::{self, Listing},
};
use crate::{feed::http::Failure, guard::Guard, name::Name};

impl Poller {
    /// Asks for both. The allow list is put down.
    pub(super) async fn ask(&mut self, done: &mut Done) -> Result<Listing, Failure> {
        let is_allow_whole = match self.ask_allowed(done).await {
            Ok(is_whole) => is_whole,
            Err(failure) => {
                let failure = failure.of("the allow list");
                // Without any, nothing is known of what must not be stopped.
                if self.allow().is_none() {
                    return Err(failure);
                }
                done.problems.push(format!("{failure}; the last one holds"));
                true
            }
        };
        let mut listing = self.listing().await.map_err(|failure| failure.of("the tickets"))?;
        if let Some(first) = listing.wrong.first() {
            let more = listing.wrong.len() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            done.problems.push(format!("{first}{more}; what was there before stays"));
        }
        if !is_allow_whole {
            let platform = Arc::clone(&self.task.platform);
            self.ledger()?.leave_known(&mut listing, &platform);
        }
        Ok(listing)
    }

    async fn listing(&mut self) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        let mut url = self.session.url(&self.task.platform.paths.list)?;
        let mut left = self.task.remote.max_size;
        for _ in 0..MOST_PAGES {
            let page = self.session.get(&url, left).await?;
            left = left.saturating_sub(page.len() as u64);
            match listing.page(&page, &self.task.platform).map_err(Failure::new)? {
                None => return Ok(listing.finish()),
                Some(next) => {
                    let next = url.join(&next).map_err(|error| Failure::new(format_args!("the next page: {error}")))?;
                    url = self.session.url(next.as_str())?;
                }
            }
        }
        Err(Failure::new(format_args!("more than {MOST_PAGES} pages")))
    }

    /// What of a change of the allow list is held, and is not approved.
    fn held(&self, known: &BTreeSet<Name>, names: &BTreeSet<Name>) -> Option<HeldAllow> {
        let policy = self.task.guards.of(&self.source()).policy;
        let gone: BTreeSet<Name> = known.difference(names).cloned().collect();
        let before = known.len() as u64;
        let guard = if gone.is_empty() {
            return None;
        } else if policy.empty && names.is_empty() {
            Guard::Empty
        } else if policy.shrink.is_some_and(|limit| limit.is_exceeded(gone.len() as u64, before)) {
            Guard::Shrink
        } else {
            return None;
        };
        let id = hash([known, names]);
        if self.approved.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(&id) {
            return None;
        }
        let since =
            self.held_allow.as_ref().filter(|held| held.id == id).map_or_else(Timestamp::now, |held| held.since);
        Some(HeldAllow { id, guard, since, gone, before })
    }

    /// Asks for the allow list, if there is one. One that shrank at a stroke may be half of one: what it had stays.
    /// Tells whether all of it can be read.
    async fn ask_allowed(&mut self, done: &mut Done) -> Result<bool, Failure> {
        let platform = Arc::clone(&self.task.platform);
        if platform.paths.allow_list.is_empty() {
            return Ok(true);
        }
        let url = self.session.url(&platform.paths.allow_list)?;
        let list = self.session.get(&url, self.task.remote.max_size).await?;
        let (mut names, wrong) = listing::allowed(&list, &platform.fields).map_err(Failure::new)?;
        let known = self.ledger()?.allow().cloned().unwrap_or_default();
        let held = self.held(&known, &names);
        if let Some(HeldAllow { id, gone, before, .. }) = &held {
            let (gone, why) = (gone.len(), "they are still not stopped (guards `shrink`, `empty`)");
            // While some of it cannot be read, nobody knows what it lacks.
            let until = if wrong.is_empty() { format!(", until that is approved: {id}") } else { String::new() };
            done.problems.push(format!("{gone} of {before} names left the allow list at once; {why}{until}"));
            names.extend(known.iter().cloned());
        }
        if let Some(first) = wrong.first() {
            done.problems.push(format!(
                "the allow list: {first}; nothing that it had before is stopped, and no name that is new, since this \
                 entry may be about it"
            ));
            names.extend(known);
        }
        if block_in_place(|| self.ledger()?.take_allow(names).map_err(Failure::new))? {
            self.has_changed = true;
            self.unwritten.get_or_insert_default();
        }
        // An approval is of what was held then; with what is there now, it may be of something else.
        if held.is_none() {
            self.approved.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        self.held_allow = held.filter(|_| wrong.is_empty());
        Ok(wrong.is_empty())
    }
}

fn hash(lists: [&BTreeSet<Name>; 2]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for list in lists {
        list.iter().for_each(|name| hash.update(format!("{name}\n").as_bytes()));
        hash.update(b"\n");
    }
    hash.finish().as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}

/// Pages of a listing.
const MOST_PAGES: usize = 10_000;
