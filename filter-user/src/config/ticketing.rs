//! `kind = "tickets"`: `[feed.tickets]`, and what its `[feed.order]` says.

use std::collections::BTreeMap;

use filter_common::verdict::Action;
use toml::Spanned;

use super::{Check, raw};
use crate::{
    feed::tickets::{Platform, Reason, TicketState},
    order::{Unfit, json::RawOrder},
};

impl Check<'_> {
    /// How a platform is spoken with.
    pub(super) fn tickets(
        &mut self,
        name: &Spanned<String>,
        raw: Option<Spanned<raw::Tickets>>,
        order: Option<Spanned<RawOrder>>,
    ) -> Option<Platform> {
        let (Some(raw), Some(order)) = (raw, order) else {
            self.wrong(
                name,
                "tickets need [feed.tickets], which says how to log in, and [feed.order], which says what a ticket orders",
            );
            return None;
        };
        let span = order.span();
        let mut order = order.into_inner();
        if !order.id().is_empty() {
            let why = "each ticket is an order of its own: its id comes from the feed's name and the ticket's id";
            let unfit = Unfit { text: order.id().to_owned(), why: why.to_owned() };
            self.unfit(&span, unfit);
        }
        order.set_id(format!("{}:", name.get_ref()));
        let names = "the names come from the tickets";
        let (terms, except) = self.order_of_feed(order, &span, names, Vec::new(), |raw| raw.terms())?;
        if terms.actions.values().any(|action| *action == Action::Observe) {
            let why = "a platform is told what is stopped, and `observe` stops nothing";
            self.unfit(&span, Unfit { text: "observe".to_owned(), why: why.to_owned() });
        }
        let raw = raw.into_inner();
        let at_once = raw.at_once.map_or(AT_ONCE, |at_once| {
            if !(1..=MOST_AT_ONCE).contains(at_once.get_ref()) {
                self.wrong(&at_once, format!("not between 1 and {MOST_AT_ONCE}"));
            }
            at_once.into_inner()
        });
        for (path, word) in [(&raw.paths.login, "login"), (&raw.paths.list, "list")] {
            if path.is_empty() {
                self.wrong(name, format!("[feed.tickets.paths] `{word}` is empty"));
            }
        }
        let states = self.states(raw.states);
        let mut reasons = Reason::default_words();
        reasons.extend(raw.reasons);
        Some(Platform {
            terms,
            except,
            user: self.folder.join(raw.user),
            password: self.folder.join(raw.password),
            paths: raw.paths,
            fields: raw.fields,
            states,
            reasons,
            enforces_pending: matches!(raw.pending, raw::Pending::Enforce),
            absent_is_over: matches!(raw.absent, raw::Absent::Revoke),
            at_once,
        })
    }

    fn states(&mut self, raw: BTreeMap<TicketState, Spanned<Vec<String>>>) -> BTreeMap<String, TicketState> {
        let mut states = TicketState::default_words();
        states.retain(|_, state| !raw.contains_key(state));
        for (state, words) in raw {
            for word in words.get_ref() {
                if states.insert(word.clone(), state).is_some_and(|known| known != state) {
                    self.wrong(&words, format!("`{word}` stands for another state, too"));
                }
            }
        }
        states
    }
}

/// Answers that are under way at once.
const AT_ONCE: usize = 8;

const MOST_AT_ONCE: usize = 256;
