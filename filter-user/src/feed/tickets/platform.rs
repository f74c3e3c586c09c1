//! What is known of a platform: its paths, the names of its fields, its words.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{name::Name, order::Terms};

/// How a platform is spoken with, and what its tickets mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// What each ticket's order says, but for its id; `{ticket}` in the reference stands for the ticket's id.
    pub terms: Arc<Terms>,
    /// What each ticket's order leaves out, each with everything below it.
    pub except: BTreeSet<Name>,
    /// A file with the user's name.
    pub user: PathBuf,
    /// A file with the password.
    pub password: PathBuf,
    /// Where what is asked.
    pub paths: Paths,
    /// What fields are called.
    pub fields: Fields,
    /// Which words stand for which state.
    pub states: BTreeMap<String, State>,
    /// Which words stand for which reason.
    pub reasons: BTreeMap<Reason, String>,
    /// Tickets that may still be revoked are enforced at once; else they wait until they are active.
    pub enforces_pending: bool,
    /// A ticket that a whole listing lacks is over; else it stays as it was.
    pub absent_is_over: bool,
    /// Answers that are under way at once.
    pub at_once: usize,
}

/// Paths, relative to the feed's address. An empty one: there is no such thing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Gives tokens for a name and a password.
    pub login: String,
    /// Gives another access token for a refresh token; may be empty.
    pub refresh: String,
    /// The tickets.
    pub list: String,
    /// Names that are not to be stopped; may be empty.
    pub allow_list: String,
    /// Takes what is enforced.
    pub processed: String,
    /// Takes what is not, and why.
    pub unprocessed: String,
}

/// Names of fields. Those that are read are JSON pointers (RFC 6901), those that are sent are names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// Sent: the user's name.
    pub user: String,
    /// Sent: the password.
    pub password: String,
    /// Sent: the refresh token.
    pub refresh: String,
    /// Read: the access token.
    pub access_token: String,
    /// Read: the refresh token.
    pub refresh_token: String,
    /// Read: the array of tickets in a page of the listing.
    pub tickets: String,
    /// Read: the address of the next page; empty: there is one page.
    pub next: String,
    /// Read, in a ticket: its id, a text or a number.
    pub ticket: String,
    /// Read, in a ticket: its state; empty: every ticket is active.
    pub state: String,
    /// Read, in a ticket: the array of names; empty: there are none. So for the next two.
    pub domains: String,
    /// Read, in a ticket: the array of IPv4 addresses.
    pub ipv4: String,
    /// Read, in a ticket: the array of IPv6 addresses.
    pub ipv6: String,
    /// Read, in an item that is an object: what is to be stopped.
    pub item: String,
    /// Read, in an item that is an object: its state; may be absent.
    pub item_state: String,
    /// Read: the array in the allow list.
    pub allowed: String,
    /// Sent: the ticket's id; empty: it is not sent.
    pub answer_ticket: String,
    /// Sent: the item, as the platform wrote it.
    pub answer_item: String,
    /// Sent: the reason's word.
    pub answer_reason: String,
    /// Sent: the reason for people; empty: it is not sent.
    pub answer_text: String,
}

/// Where a ticket or an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may still be revoked without further ado.
    Pending,
    /// It is to be enforced and answered.
    Active,
    /// It is to be enforced, and takes no answers any more.
    Closed,
    /// It is over.
    Revoked,
}

/// Why an item is not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Another order has it stopped already. This one is kept, too.
    AlreadyBlocked,
    /// The platform's allow list or the provider's has it.
    AllowListed,
    /// It is no name.
    Malformed,
    /// A guard refuses it, or holds it.
    Guard,
    /// It is an address.
    Unsupported,
    /// The provider has revoked the order.
    Withdrawn,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Active, Self::Closed, Self::Revoked];

    /// The word for ledger and configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
        }
    }

    /// The states, by the words that stand for them by default.
    pub fn default_words() -> BTreeMap<String, Self> {
        let words =
            [("created", Self::Pending), ("open", Self::Active), ("closed", Self::Closed), ("revoked", Self::Revoked)];
        words.map(|(word, state)| (word.to_owned(), state)).into()
    }
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::AlreadyBlocked, Self::AllowListed, Self::Malformed, Self::Guard, Self::Unsupported, Self::Withdrawn];

    /// The word for ledger and configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AlreadyBlocked => "already_blocked",
            Self::AllowListed => "allow_listed",
            Self::Malformed => "malformed",
            Self::Guard => "guard",
            Self::Unsupported => "unsupported",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The words that platforms get by default.
    pub fn default_words() -> BTreeMap<Self, String> {
        Self::ALL.map(|reason| (reason, reason.word().to_ascii_uppercase())).into()
    }
}

impl Platform {
    /// The id of a ticket's order. No feed's name has a colon.
    pub fn order_id(&self, ticket: &str) -> String {
        format!("{}{ticket}", self.terms.id)
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            login: "authentication/login".to_owned(),
            refresh: "authentication/refresh".to_owned(),
            list: "ticket/get/all".to_owned(),
            allow_list: String::new(),
            processed: "ticket/item/set/processed".to_owned(),
            unprocessed: "ticket/item/set/unprocessed".to_owned(),
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        let of = str::to_owned;
        Self {
            user: of("email"),
            password: of("password"),
            refresh: of("refresh_token"),
            access_token: of("/data/access_token"),
            refresh_token: of("/data/refresh_token"),
            tickets: of("/data"),
            next: String::new(),
            ticket: of("/ticket_id"),
            state: of("/status"),
            domains: of("/fqdn"),
            ipv4: of("/ipv4"),
            ipv6: of("/ipv6"),
            item: of("/value"),
            item_state: of("/status"),
            allowed: of("/data"),
            answer_ticket: of("ticket_id"),
            answer_item: of("value"),
            answer_reason: of("reason"),
            answer_text: of("note"),
        }
    }
}

/// What a pointer points to; the empty one, which is all of it by RFC 6901, stands for nothing here.
pub(super) fn at<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    if pointer.is_empty() { None } else { value.pointer(pointer).filter(|value| !value.is_null()) }
}
