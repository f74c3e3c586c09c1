//! The order: what a court or regulator wants stopped, how, for whom and how long.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use filter_common::verdict::{Action, Protocol};
use jiff::{Timestamp, civil::Date};
use thiserror::Error;

use crate::name::Name;

pub(crate) mod json;

/// How far a rule reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// The name alone.
    Exact,
    /// The name and everything below it.
    Subtree,
    /// Everything below it, not itself.
    Below,
}

/// What the action `address` answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// For A queries.
    pub a: Option<Ipv4Addr>,
    /// For AAAA queries.
    pub aaaa: Option<Ipv6Addr>,
}

/// Everything of an order but its names: small, cheap to keep and to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Identity, stable over versions.
    pub id: String,
    /// Who ordered.
    pub issuer: String,
    /// Legal basis.
    pub basis: String,
    /// Public reference; goes out as EDE text.
    pub reference: String,
    /// Date of the judgment or decision. Of two orders the earlier issued is the older; then the smaller id.
    pub issued: Date,
    /// In force from here on, inclusive.
    pub not_before: Timestamp,
    /// In force up to here, exclusive; `None` only where the order says `"none"`.
    pub not_after: Option<Timestamp>,
    /// What is stopped, and how. A protocol that is not here is not covered.
    pub actions: BTreeMap<Protocol, Action>,
    /// Names of scopes from the configuration, or `all`.
    pub scopes: BTreeSet<String>,
    /// How far each name reaches.
    pub reach: Match,
    /// EDE info-code: 15, 16 or 17 (RFC 8914); 4 is used for forged addresses whatever this says.
    pub ede: u16,
    /// For the action `address`.
    pub address: Address,
    /// For the action `redirect`: a target's name from the configuration.
    pub redirect: Option<String>,
    /// The order insists on NXDOMAIN for an exact rule, too.
    pub insist_nxdomain: bool,
    /// The order that this is a part of: a response policy zone has several actions and an order has one, so each
    /// action of a zone is a part of the zone's order, with an id of its own.
    pub part_of: Option<String>,
}

/// A whole order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// All but the names.
    pub terms: Arc<Terms>,
    /// The names to stop.
    pub names: BTreeSet<Name>,
    /// The names that the order leaves out, each with everything below it.
    pub except: BTreeSet<Name>,
}

impl Terms {
    /// The id of the order as its issuer knows it: of the whole order, if this is a part of one.
    pub fn whole(&self) -> &str {
        self.part_of.as_deref().unwrap_or(&self.id)
    }

    /// The same with another end.
    ///
    /// # Errors
    /// The order would end before it starts.
    pub fn extended(&self, not_after: Option<Timestamp>) -> Result<Self, Unfit> {
        match not_after {
            Some(end) if end <= self.not_before => Err(Unfit {
                text: end.to_string(),
                why: format!("`not_after` is not after `not_before`, {}", self.not_before),
            }),
            _ => Ok(Self { not_after, ..self.clone() }),
        }
    }
}

/// An order that does not hold together, or does not fit the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct Unfit {
    /// The offending text; may be empty.
    pub text: String,
    /// Why.
    pub why: String,
}
