//! What the platform is asked for: the allow list, then the tickets, of which none is enforced that a newer allow list
//! has.

use std::sync::Arc;

use tokio::task::block_in_place;

use super::{
    Done, Poller,
    listing::{self, Listing},
};
use crate::feed::http::Failure;

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
        let policy = self.task.guards.of(&self.source()).policy.clone();
        let ledger = self.ledger()?;
        let known = ledger.allow().cloned().unwrap_or_default();
        let gone = known.difference(&names).count() as u64;
        let is_over = policy.shrink.is_some_and(|limit| limit.is_exceeded(gone, known.len() as u64));
        if gone > 0 && (is_over || policy.empty && names.is_empty()) {
            done.problems.push(format!(
                "{gone} of {} names left the allow list at once; they are still not stopped (guards `shrink`, `empty`)",
                known.len()
            ));
            names.extend(known.iter().cloned());
        }
        if let Some(first) = wrong.first() {
            done.problems.push(format!(
                "the allow list: {first}; nothing that it had before is stopped, and no name that is new, since this \
                 entry may be about it"
            ));
            names.extend(known);
        }
        if block_in_place(|| ledger.take_allow(names)).map_err(Failure::new)? {
            self.has_changed = true;
            self.unwritten.get_or_insert_default();
        }
        Ok(wrong.is_empty())
    }
}

/// Pages of a listing.
const MOST_PAGES: usize = 10_000;
