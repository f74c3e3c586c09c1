//! What the ledger's tickets order, as events in the native format: each ticket is an order of its own.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::{
    ledger::{Ledger, Ticket},
    listing::{Item, Kind, is_address},
    platform::{Platform, Reason, State},
};
use crate::{
    feed::{excerpt, native},
    guard::{Guarded, Ruling},
    name::{Name, NameError},
    order::{Match, Order, Terms},
};

/// What tickets are judged by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) platform: &'a Platform,
    pub(super) guarded: Guarded<'a>,
    /// The platform's allow list.
    pub(super) allow: &'a BTreeSet<Name>,
}

/// What becomes of an item before the order book is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is part of the ticket's order.
    Ordered(Name),
    /// It is not, and why.
    Not(Reason, String),
}

impl Judge<'_> {
    /// What becomes of an item.
    pub(super) fn fate(&self, item: &Item) -> Fate {
        let unsupported = || Fate::Not(Reason::Unsupported, "addresses are not blocked here, only names".to_owned());
        if item.kind != Kind::Domain || is_address(&item.value) {
            return unsupported();
        }
        let name = match Name::parse(&item.value) {
            Ok(name) => name,
            Err(NameError::Address) => return unsupported(),
            Err(why) => return Fate::Not(Reason::Malformed, format!("{}: {why}", excerpt(&item.value, LONGEST))),
        };
        if let Some(entry) = self.allowing(&name) {
            return Fate::Not(Reason::AllowListed, format!("the allow list has {entry}"));
        }
        match self.guarded.rule(&name, self.platform.terms.reach, &BTreeSet::new()) {
            Ruling::Refused(why) => Fate::Not(Reason::Guard, format!("{name} {why}")),
            Ruling::Free | Ruling::Held(..) => Fate::Ordered(name),
        }
    }

    /// The entry of an allow list that a name is, or is below of.
    fn allowing(&self, name: &Name) -> Option<Name> {
        let Platform { except, .. } = self.platform;
        name.suffixes().find(|suffix| self.allow.contains(suffix) || except.contains(suffix))
    }

    /// The events of a ticket; none if nothing ever came of it.
    pub(super) fn events(&self, id: &str, ticket: &Ticket) -> Option<Events> {
        let is_over = ticket.state == State::Revoked && !(ticket.is_absent && self.platform.absent_is_over);
        if !is_over && !ticket.is_in_force(self.platform) {
            return None;
        }
        let order_id = self.platform.order_id(id);
        let (mut names, mut out) = (BTreeSet::new(), BTreeSet::new());
        for (item, entry) in ticket.items.iter().filter(|(_, entry)| !entry.is_gone) {
            match self.fate(item) {
                Fate::Ordered(name) if !entry.is_revoked => _ = names.insert(name),
                Fate::Ordered(name) => _ = out.insert(name),
                Fate::Not(Reason::AllowListed, _) => out.extend(Name::parse(&item.value)),
                Fate::Not(..) => {}
            }
        }
        // A name of which one spelling is revoked and another is not.
        out.retain(|name| !names.contains(name));
        // An order that is not there yet has no name to lose.
        let listed: BTreeSet<Name> = names.union(&out).cloned().collect();
        if listed.is_empty() {
            return None;
        }
        let mut events = Events { put: Vec::new(), remove: Vec::new(), revoke: Vec::new() };
        let except = self.except(&names);
        let order = Order { terms: Arc::new(self.terms(id, order_id.clone())), names: listed, except };
        // Writing to memory does not fail.
        let _ = native::write(&mut events.put, &order);
        if !out.is_empty() {
            let out: Vec<&str> = out.iter().map(Name::as_str).collect();
            events.remove = line(&json!({"op": "remove", "order": order_id, "names": out}));
        }
        if is_over {
            events.revoke = line(&json!({"op": "revoke", "order": order_id, "why": REVOKED}));
        }
        Some(events)
    }

    /// What of the allow lists lies below names that are ordered.
    fn except(&self, names: &BTreeSet<Name>) -> BTreeSet<Name> {
        if self.platform.terms.reach == Match::Exact {
            return BTreeSet::new();
        }
        let lies_below = |allowed: &&Name| allowed.suffixes().skip(1).any(|suffix| names.contains(&suffix));
        self.allow.iter().chain(&self.platform.except).filter(lies_below).cloned().collect()
    }

    fn terms(&self, ticket: &str, id: String) -> Terms {
        let terms = &*self.platform.terms;
        Terms { id, reference: terms.reference.replace(TICKET, ticket), ..terms.clone() }
    }
}

/// The events of one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Events {
    /// Puts the order.
    put: Vec<u8>,
    /// Takes names out that are revoked or allowed: that needs nobody's approval.
    remove: Vec<u8>,
    /// Ends it.
    revoke: Vec<u8>,
}

impl Events {
    /// As they stand among those of all tickets.
    pub(super) fn whole(&self) -> impl Iterator<Item = u8> {
        [&self.put, &self.remove, &self.revoke].into_iter().flatten().copied()
    }

    /// What is to be done to an order that is there.
    pub(super) fn anew(&self) -> impl Iterator<Item = u8> {
        let is_over = !self.revoke.is_empty();
        let lines = if is_over { [&self.revoke, NONE] } else { [&self.put, &self.remove] };
        lines.into_iter().flatten().copied()
    }
}

/// The file that the feed's orders are read from.
pub(super) fn file(ledger: &Ledger, judge: &Judge<'_>) -> Vec<u8> {
    let events = ledger.tickets().iter().filter_map(|(id, ticket)| judge.events(id, ticket));
    events.flat_map(|events| events.whole().collect::<Vec<u8>>()).collect()
}

fn line(event: &serde_json::Value) -> Vec<u8> {
    format!("{event}\n").into_bytes()
}

const NONE: &Vec<u8> = &Vec::new();

/// In the reference of an order's terms: the ticket's id.
const TICKET: &str = "{ticket}";

/// Why the order of a revoked ticket ends.
const REVOKED: &str = "the platform has revoked the ticket";

/// Characters of what a message quotes.
const LONGEST: usize = 80;
