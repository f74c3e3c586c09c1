//! Feeds: where orders come from. A feed gives events and refusals; the book applies the events.
//!
//! What is wrong in a feed is refused with file, line, the offending text and why; nothing else of it is lost.

use std::{collections::BTreeSet, fmt, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    guard::Guards,
    name::Name,
    order::{Order, Terms, Unfit},
};

mod content;
pub mod file;
pub(crate) mod fold;
pub mod http;
pub(crate) mod input;
mod lines;
pub(crate) mod list;
pub mod native;
pub mod rpz;
pub(crate) mod signature;
mod spool;
pub mod tickets;
pub mod transfer;
pub mod watch;

pub use input::{Input, Kind};
pub use list::{Column, Columns, Format, List};
pub use signature::{Key, Seal};

/// What an order is checked against, besides itself.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration's scopes, without `all`, which always is one. `None`: any name is taken for a scope.
    pub scopes: Option<BTreeSet<String>>,
    /// The configuration's redirect targets. `None`: any name is taken for a target.
    pub targets: Option<BTreeSet<String>>,
    /// Which names may be stopped.
    pub guards: Guards,
}

/// One instruction about one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This is the order, whatever it was before, revoked included.
    Put(Order),
    /// These names, too.
    Add {
        /// Order id.
        order: String,
        /// Names to stop.
        names: BTreeSet<Name>,
    },
    /// These names no longer. An order that has no name left stays, and stops nothing.
    Remove {
        /// Order id.
        order: String,
        /// Names to stop no longer.
        names: BTreeSet<Name>,
    },
    /// Another end, later or earlier.
    Extend {
        /// Order id.
        order: String,
        /// In force up to here, exclusive; `None` for no end.
        not_after: Option<Timestamp>,
    },
    /// Ends the order at once.
    Revoke {
        /// Order id.
        order: String,
        /// The feed's reason; may be empty.
        why: String,
    },
}

/// An event and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Line in the file, from 1.
    pub line: u64,
    /// The feed's own number for it. Kept in the history; the order of the lines decides.
    pub seq: Option<u64>,
    /// When it happened, by the feed. Kept in the history.
    pub at: Option<Timestamp>,
    /// The event.
    pub event: Event,
}

/// Something of a feed that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// File, or the feed's name.
    pub file: Arc<str>,
    /// Line in the file, from 1; 0 where it concerns the file as a whole.
    pub line: u64,
    /// The offending text, escaped and cut to 80 characters; may be empty.
    pub text: String,
    /// Why.
    pub why: String,
}

impl Event {
    /// The id of the order that it is about.
    pub fn order_id(&self) -> &str {
        match self {
            Self::Put(order) => &order.terms.id,
            Self::Add { order, .. }
            | Self::Remove { order, .. }
            | Self::Extend { order, .. }
            | Self::Revoke { order, .. } => order,
        }
    }

    /// The word that the native format uses.
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Add { .. } => "add",
            Self::Remove { .. } => "remove",
            Self::Extend { .. } => "extend",
            Self::Revoke { .. } => "revoke",
        }
    }
}

impl Context {
    /// What an order names that the configuration does not have: scopes, a redirect target.
    pub fn check(&self, terms: &Terms) -> Vec<Unfit> {
        let mut wrong = Vec::new();
        if let Some(known) = &self.scopes {
            for scope in terms.scopes.iter().filter(|scope| *scope != "all" && !known.contains(*scope)) {
                wrong.push(Unfit { text: scope.clone(), why: format!("unknown scope; known: all{}", listed(known)) });
            }
        }
        if let (Some(known), Some(target)) = (&self.targets, &terms.redirect)
            && !known.contains(target)
        {
            let why = format!("unknown redirect target; known:{}", listed(known));
            wrong.push(Unfit { text: target.clone(), why });
        }
        wrong
    }
}

impl Refusal {
    /// Refuses `text`, of which the report gets an excerpt.
    pub fn new(file: &Arc<str>, line: u64, text: &str, why: impl fmt::Display) -> Self {
        Self { file: file.clone(), line, text: excerpt(text, EXCERPT), why: excerpt(&why.to_string(), LONGEST_WHY) }
    }
}

/// `text` with what cannot be printed escaped, cut to so many characters.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let mut excerpt = String::new();
    let mut length = 0;
    for character in text.chars() {
        let plain = matches!(character, '"' | '\'' | '\\');
        let escaped = if plain { character.to_string() } else { character.escape_debug().collect() };
        length += escaped.chars().count();
        if length > most {
            excerpt.push('…');
            break;
        }
        excerpt.push_str(&escaped);
    }
    excerpt
}

fn listed(words: &BTreeSet<String>) -> String {
    words.iter().map(|word| format!(" {word}")).collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Characters of the offending text in a refusal.
const EXCERPT: usize = 80;

/// Characters of the reason, which may quote the text, too.
const LONGEST_WHY: usize = 400;
