//! Guards: what an order may not stop, or not before somebody has looked at it.
//!
//! Top-level domains and public suffixes are refused: nobody means them, and no approval makes them right. Everything
//! else is held, and the last good state stays enforced: names on which too much hangs, private suffixes (an order may
//! name them, knowing what it does), lists that grow or shrink at a stroke. The book keeps what is held until it is
//! approved or rejected; here it is only judged.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use psl::Type;
use thiserror::Error;

use crate::{
    many,
    name::Name,
    order::{Match, Order},
};

pub use protected::{Protected, ProtectedError};

mod protected;

/// The guards of every feed.
#[derive(Clone, Debug)]
pub struct Guards {
    /// By what a feed's sources begin with.
    feeds: Vec<(PathBuf, Arc<Policy>)>,
    /// Of sources that belong to no feed.
    otherwise: Arc<Policy>,
    protected: Arc<Protected>,
}

/// Which guards a feed has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The feed's name; empty where there is none.
    pub feed: String,
    /// Top-level domains and public suffixes are refused.
    pub public_suffixes: bool,
    /// Private suffixes are held.
    pub private_suffixes: bool,
    /// Rules that would stop protected names are held.
    pub protected: bool,
    /// What a reading may add to an order that the book has.
    pub growth: Option<Limit>,
    /// A new order grows from nothing; else its size is meant.
    pub is_new_growth: bool,
    /// What may leave an order, or how many orders a source, since it is listed no longer.
    pub shrink: Option<Limit>,
    /// That a list is empty now is held.
    pub empty: bool,
    /// Time that additions wait.
    pub hold: Duration,
    /// Time from arrival after which an addition should be enforced.
    pub deadline: Option<Duration>,
}

/// A change is over the limit if it is over both parts of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So many names, or orders.
    pub rows: u64,
    /// So many percent of what was there.
    pub percent: u64,
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum GuardError {
    /// One label.
    #[error("is a top-level domain")]
    TopLevel,
    /// On the ICANN part of the public suffix list.
    #[error("is a public suffix, under which others register their names")]
    PublicSuffix,
}

/// What holds a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// A rule would stop a protected name.
    Protected,
    /// A rule is a private suffix, as `github.io` is.
    PrivateSuffix,
    /// An order's terms or exceptions change, so that its names reach what they did not.
    Reach,
    /// More names come than the limit lets in.
    Growth,
    /// More go than the limit lets out.
    Shrink,
    /// The list is empty.
    Empty,
    /// The feed's hold window.
    Window,
}

/// The guards of one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guarded<'a> {
    pub(crate) policy: &'a Policy,
    protected: &'a Protected,
}

/// What is thought of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It may be enforced.
    Free,
    /// Never.
    Refused(GuardError),
    /// Once it is approved.
    Held(Guard, String),
}

impl Guards {
    /// Every guard, as feeds have them that set none.
    pub fn all() -> Self {
        Self::new(Protected::shipped(), Vec::new())
    }

    /// No guard: test lists hold popular names.
    pub fn none() -> Self {
        let otherwise = Arc::new(Policy::none());
        Self { feeds: Vec::new(), otherwise, protected: Arc::new(Protected::default()) }
    }

    /// These protected names, and a policy by what the sources of its feed begin with.
    pub fn new(protected: Protected, feeds: Vec<(PathBuf, Policy)>) -> Self {
        let feeds = feeds.into_iter().map(|(root, policy)| (root, Arc::new(policy))).collect();
        Self { feeds, otherwise: Arc::new(Policy::default()), protected: Arc::new(protected) }
    }

    /// Those of a source: of the feed whose root is the longest that it lies under.
    pub(crate) fn of(&self, source: &str) -> Guarded<'_> {
        let under = self.feeds.iter().filter(|(root, _)| Path::new(source).starts_with(root));
        let policy = under.max_by_key(|(root, _)| root.as_os_str().len()).map_or(&self.otherwise, |(_, policy)| policy);
        Guarded { policy, protected: &self.protected }
    }
}

impl Policy {
    /// No guard at all.
    pub fn none() -> Self {
        Self {
            feed: String::new(),
            public_suffixes: false,
            private_suffixes: false,
            protected: false,
            growth: None,
            is_new_growth: false,
            shrink: None,
            empty: false,
            hold: Duration::ZERO,
            deadline: None,
        }
    }

    /// What holds for the operator's own orders: a name may be a slip, their number is meant.
    pub fn control(feed: &str) -> Self {
        Self { feed: feed.to_owned(), growth: None, shrink: None, empty: false, ..Self::default() }
    }
}

impl Default for Policy {
    /// What suits a provider that configures nothing. National lists grow by some hundred names at a time, and a ticket
    /// or an order has dozens: over 1,000 names and 5 percent at once is a mistake more often than an instruction. A
    /// list loses half of its names when its source breaks. Nothing waits.
    fn default() -> Self {
        Self {
            feed: String::new(),
            public_suffixes: true,
            private_suffixes: true,
            protected: true,
            growth: Some(Limit { rows: 1000, percent: 5 }),
            is_new_growth: false,
            shrink: Some(Limit { rows: 5, percent: 50 }),
            empty: true,
            hold: Duration::ZERO,
            deadline: None,
        }
    }
}

impl Limit {
    /// Whether a change of so many is over the limit, where there were so many.
    pub(crate) fn is_exceeded(self, changed: u64, before: u64) -> bool {
        changed > self.rows && u128::from(changed) * 100 > u128::from(before) * u128::from(self.percent)
    }
}

impl Guarded<'_> {
    /// Whether a row may name this at all, whatever the rest of the order says. For parsers, which know the row.
    pub(crate) fn check(&self, name: &Name) -> Result<(), GuardError> {
        if self.policy.public_suffixes { check_suffix(name) } else { Ok(()) }
    }

    /// Judges one rule of an order.
    pub(crate) fn rule(&self, name: &Name, reach: Match, except: &BTreeSet<Name>) -> Ruling {
        let Policy { public_suffixes, private_suffixes, protected, .. } = *self.policy;
        let mut is_private = false;
        if public_suffixes || private_suffixes {
            match suffix(name) {
                Some(Suffix::TopLevel) if public_suffixes => return Ruling::Refused(GuardError::TopLevel),
                Some(Suffix::Public) if public_suffixes => return Ruling::Refused(GuardError::PublicSuffix),
                Some(Suffix::Private) => is_private = private_suffixes,
                _ => {}
            }
        }
        let stopped = if protected { self.protected.stopped(name, reach, except) } else { Vec::new() };
        let told = || self.protected.told(name, &stopped);
        if is_private {
            let why = "is a private suffix, under which its owner gives names to others";
            let also = if stopped.is_empty() { String::new() } else { format!("; {}", told()) };
            return Ruling::Held(Guard::PrivateSuffix, format!("{why}{also}"));
        }
        if !stopped.is_empty() {
            return Ruling::Held(Guard::Protected, told());
        }
        Ruling::Free
    }

    /// Why a rule of these terms reaches a protected name that it does not reach by those before.
    pub(crate) fn widens(
        &self,
        name: &Name,
        before: (Match, &BTreeSet<Name>),
        after: (Match, &BTreeSet<Name>),
    ) -> Option<String> {
        if !self.policy.protected {
            return None;
        }
        let stopped = self.protected.stopped(name, after.0, after.1);
        if stopped.is_empty() {
            return None;
        }
        let known = self.protected.stopped(name, before.0, before.1);
        let new: Vec<u32> = stopped.into_iter().filter(|one| !known.contains(one)).collect();
        (!new.is_empty()).then(|| self.protected.told(name, &new))
    }

    /// Takes out of an order what is not enforced as it stands. Gives each such name and why.
    pub(crate) fn screen(&self, order: &mut Order) -> Vec<(Name, Ruling)> {
        let names: Vec<&Name> = order.names.iter().collect();
        let parts = many::parts(&names, |part| {
            let ruled = part.iter().map(|name| (*name, self.rule(name, order.terms.reach, &order.except)));
            ruled.filter(|(_, ruling)| *ruling != Ruling::Free).map(|(name, ruling)| (name.clone(), ruling)).collect()
        });
        let out = parts.concat();
        for (name, _) in &out {
            order.names.remove(name);
        }
        out
    }
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Protected, Self::PrivateSuffix, Self::Reach, Self::Growth, Self::Shrink, Self::Empty, Self::Window];

    /// The word for the book and for reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::PrivateSuffix => "private_suffix",
            Self::Reach => "reach",
            Self::Growth => "growth",
            Self::Shrink => "shrink",
            Self::Empty => "empty",
            Self::Window => "hold",
        }
    }
}

/// Whether a name is one that people and companies have, and no suffix below which they register it.
pub(crate) fn check_suffix(name: &Name) -> Result<(), GuardError> {
    match suffix(name) {
        Some(Suffix::TopLevel) => Err(GuardError::TopLevel),
        Some(Suffix::Public) => Err(GuardError::PublicSuffix),
        Some(Suffix::Private) | None => Ok(()),
    }
}

enum Suffix {
    TopLevel,
    Public,
    Private,
}

/// What a name is, if others register below it.
fn suffix(name: &Name) -> Option<Suffix> {
    let name = name.as_str();
    if !name.contains('.') {
        return Some(Suffix::TopLevel);
    }
    let suffix = psl::suffix(name.as_bytes()).filter(|suffix| suffix.as_bytes().len() == name.len())?;
    Some(if suffix.typ() == Some(Type::Private) { Suffix::Private } else { Suffix::Public })
}

#[cfg(test)]
mod tests;
