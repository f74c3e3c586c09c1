//! What a platform answers: tickets and an allow list.
//!
//! A ticket that cannot be read says nothing: it stays as it was. A page that cannot be read is none.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    fmt,
    net::IpAddr,
};

use serde_json::Value;

use super::platform::{Fields, Platform, State, at};
use crate::{feed::excerpt, name::Name};

/// All tickets that the platform has told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Those that can be read, by id.
    pub(super) tickets: BTreeMap<String, Listed>,
    /// What cannot be read.
    pub(super) wrong: Vec<String>,
    /// Tickets that are there and cannot be read.
    pub(super) unreadable: BTreeSet<String>,
    /// Some ticket has no id that can be read: that one is absent says nothing.
    pub(super) unidentified: bool,
}

/// A ticket as the platform has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Where it stands.
    pub(super) state: State,
    /// What it wants stopped, and whether that is revoked.
    pub(super) items: BTreeMap<Item, bool>,
}

/// What a ticket wants stopped, as the platform wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    /// Under which of the three headings it stood.
    pub(super) kind: Kind,
    /// What stood there.
    pub(super) value: String,
}

/// See [`Item`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Domain = 0,
    V4 = 1,
    V6 = 2,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Domain, Self::V4, Self::V6];
}

impl Listing {
    /// Takes in a page, and gives the address of the next one.
    ///
    /// # Errors
    /// It is not a page of tickets.
    pub(super) fn page(&mut self, octets: &[u8], platform: &Platform) -> Result<Option<String>, String> {
        let page = json(octets)?;
        let fields = &platform.fields;
        let tickets = array(&page, &fields.tickets)?;
        for ticket in tickets {
            let id = match id(ticket, fields) {
                Ok(id) => id,
                Err(why) => {
                    self.unidentified = true;
                    self.wrong(format_args!("a ticket: {why}"));
                    continue;
                }
            };
            match listed(ticket, platform) {
                Ok(listed) => self.ticket(id, listed),
                Err(why) => {
                    self.wrong(format_args!("ticket {id}: {why}"));
                    self.unreadable.insert(id);
                }
            }
        }
        match at(&page, &fields.next) {
            None => Ok(None),
            Some(Value::String(next)) if next.is_empty() => Ok(None),
            Some(Value::String(next)) => Ok(Some(next.clone())),
            Some(_) => Err(format!("`{}` is not an address", fields.next)),
        }
    }

    fn ticket(&mut self, id: String, listed: Listed) {
        match self.tickets.entry(id) {
            btree_map::Entry::Vacant(free) => _ = free.insert(listed),
            btree_map::Entry::Occupied(known) if *known.get() == listed => {}
            btree_map::Entry::Occupied(known) => {
                let id = known.remove_entry().0;
                self.wrong(format_args!("ticket {id}: is listed twice, and differs"));
                self.unreadable.insert(id);
            }
        }
    }

    fn wrong(&mut self, why: impl fmt::Display) {
        self.wrong.push(why.to_string());
    }

    /// What is to be believed once all pages are there.
    pub(super) fn finish(mut self) -> Self {
        // One of two that differ may have stood between two readings of the other.
        self.tickets.retain(|id, _| !self.unreadable.contains(id));
        self
    }
}

/// The names of an allow list, and what in it cannot be read. Addresses are passed over: none is ever stopped.
///
/// # Errors
/// It is not an allow list.
pub(super) fn allowed(octets: &[u8], fields: &Fields) -> Result<(BTreeSet<Name>, Vec<String>), String> {
    let list = json(octets)?;
    let (mut names, mut wrong) = (BTreeSet::new(), Vec::new());
    for entry in array(&list, &fields.allowed)? {
        let Some(text) = text_of(entry, fields) else {
            wrong.push(format!("{} is no name", excerpt(&entry.to_string(), LONGEST)));
            continue;
        };
        if is_address(text) {
            continue;
        }
        // An entry is about everything below its name as well.
        match Name::parse(text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text)) {
            Ok(name) => _ = names.insert(name),
            Err(why) => wrong.push(format!("{}: {why}", excerpt(text, LONGEST))),
        }
    }
    Ok((names, wrong))
}

/// Whether it is an address or a prefix.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok()
}

pub(super) fn json(octets: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(octets).map_err(|error| format!("not JSON: {error}"))
}

fn array<'v>(value: &'v Value, pointer: &str) -> Result<&'v Vec<Value>, String> {
    at(value, pointer).and_then(Value::as_array).ok_or_else(|| format!("`{pointer}` is not an array"))
}

fn id(ticket: &Value, fields: &Fields) -> Result<String, String> {
    let id = match at(ticket, &fields.ticket) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => id.to_string(),
        _ => return Err(format!("`{}` is neither a text nor a whole number", fields.ticket)),
    };
    let is_fit = !id.is_empty() && id.len() <= LONGEST_ID && id.trim() == id && !id.contains(char::is_control);
    if is_fit { Ok(id) } else { Err(format!("{} is no id of a ticket", excerpt(&id, LONGEST))) }
}

fn listed(ticket: &Value, platform: &Platform) -> Result<Listed, String> {
    let fields = &platform.fields;
    let state = |value: &Value, pointer: &str| {
        let word = value.as_str().ok_or_else(|| format!("`{pointer}` is not a text"))?;
        let state = platform.states.get(word).copied();
        state.ok_or_else(|| format!("`{pointer}` is {}, which is no known state", excerpt(word, LONGEST)))
    };
    let own = match at(ticket, &fields.state) {
        Some(value) => state(value, &fields.state)?,
        None if fields.state.is_empty() => State::Active,
        None => return Err(format!("`{}` is missing", fields.state)),
    };
    let mut items = BTreeMap::new();
    for (kind, pointer) in Kind::ALL.into_iter().zip([&fields.domains, &fields.ipv4, &fields.ipv6]) {
        let Some(list) = at(ticket, pointer) else { continue };
        for entry in list.as_array().ok_or_else(|| format!("`{pointer}` is not an array"))? {
            let value = text_of(entry, fields).ok_or_else(|| {
                format!("`{pointer}` holds {}, which is no item", excerpt(&entry.to_string(), LONGEST))
            })?;
            // Items may have words of their own, about which nothing is known.
            let state = match at(entry, &fields.item_state) {
                Some(value) => value.as_str().and_then(|word| platform.states.get(word)).copied(),
                None => Some(own),
            };
            let is_revoked = state == Some(State::Revoked);
            // Listed twice, it stands as long as one of both does.
            items
                .entry(Item { kind, value: value.to_owned() })
                .and_modify(|known| *known &= is_revoked)
                .or_insert(is_revoked);
        }
    }
    Ok(Listed { state: own, items })
}

/// An item or an entry of the allow list: a text, or an object that has it.
fn text_of<'v>(entry: &'v Value, fields: &Fields) -> Option<&'v str> {
    match entry {
        Value::String(text) => Some(text),
        Value::Object(_) => at(entry, &fields.item)?.as_str(),
        _ => None,
    }
}

/// Octets of a ticket's id: with the feed's name it is an order's id.
const LONGEST_ID: usize = 128;

/// Characters of what a message quotes.
const LONGEST: usize = 80;
