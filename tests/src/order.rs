//! Orders for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use filter_common::verdict::{Action, Protocol};
use filter_user::{
    name::Name,
    order::{Match, Order, Terms},
};
use jiff::Timestamp;

/// An order: subtree rules for every client without end, DNS answered NXDOMAIN and TLS reset, unless said otherwise.
#[derive(Clone, Debug)]
pub struct TestOrder {
    terms: Terms,
    names: BTreeSet<Name>,
    except: BTreeSet<Name>,
}

/// An order on names.
pub fn order<'a>(id: &str, names: impl IntoIterator<Item = &'a str>) -> TestOrder {
    TestOrder {
        terms: Terms {
            id: id.to_owned(),
            issuer: "Court".to_owned(),
            basis: "Act".to_owned(),
            reference: String::new(),
            issued: "2025-03-28".parse().expect("a date"),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: None,
            actions: BTreeMap::from([(Protocol::Dns, Action::Nxdomain), (Protocol::Tls, Action::Reset)]),
            scopes: BTreeSet::from(["all".to_owned()]),
            reach: Match::Subtree,
            ede: 16,
            address: Default::default(),
            redirect: None,
            insist_nxdomain: false,
            part_of: None,
        },
        names: parse(names),
        except: BTreeSet::new(),
    }
}

impl TestOrder {
    /// An order of a feed.
    pub fn of(order: Order) -> Self {
        let Order { terms, names, except } = order;
        Self { terms: (*terms).clone(), names, except }
    }

    /// How far its rules reach.
    pub fn reach(mut self, reach: Match) -> Self {
        self.terms.reach = reach;
        self
    }

    /// The names alone.
    pub fn exact(self) -> Self {
        self.reach(Match::Exact)
    }

    /// The names that it leaves out.
    pub fn except<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.except = parse(names);
        self
    }

    /// Action for DNS, or none.
    pub fn dns(self, action: impl Into<Option<Action>>) -> Self {
        self.action(Protocol::Dns, action.into())
    }

    /// Action for TLS, or none.
    pub fn tls(self, action: impl Into<Option<Action>>) -> Self {
        self.action(Protocol::Tls, action.into())
    }

    /// Action for QUIC, or none.
    pub fn quic(self, action: impl Into<Option<Action>>) -> Self {
        self.action(Protocol::Quic, action.into())
    }

    fn action(mut self, protocol: Protocol, action: Option<Action>) -> Self {
        match action {
            Some(action) => self.terms.actions.insert(protocol, action),
            None => self.terms.actions.remove(&protocol),
        };
        self
    }

    /// One action for DNS and TLS.
    pub fn both(self, action: Action) -> Self {
        self.dns(action).tls(action)
    }

    /// One action for every protocol.
    pub fn all(self, action: Action) -> Self {
        self.both(action).quic(action)
    }

    /// For these scopes only.
    pub fn scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.terms.scopes = scopes.into_iter().map(str::to_owned).collect();
        self
    }

    /// Date of issue: earlier is older.
    pub fn issued(mut self, date: &str) -> Self {
        self.terms.issued = date.parse().expect("a date");
        self
    }

    /// In force from here on.
    pub fn from(mut self, start: Timestamp) -> Self {
        self.terms.not_before = start;
        self
    }

    /// In force up to here.
    pub fn until(mut self, end: Timestamp) -> Self {
        self.terms.not_after = Some(end);
        self
    }

    /// EDE info-code and text.
    pub fn ede(mut self, code: u16, text: &str) -> Self {
        self.terms.ede = code;
        self.terms.reference = text.to_owned();
        self
    }

    /// Addresses for the action `address`.
    pub fn address(mut self, a: Option<Ipv4Addr>, aaaa: Option<Ipv6Addr>) -> Self {
        self.terms.address.a = a;
        self.terms.address.aaaa = aaaa;
        self
    }

    /// Target for the action `redirect`.
    pub fn redirect(mut self, target: &str) -> Self {
        self.terms.redirect = Some(target.to_owned());
        self
    }

    /// Insists on NXDOMAIN for an exact rule, too.
    pub fn insist_nxdomain(mut self) -> Self {
        self.terms.insist_nxdomain = true;
        self
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.terms.id
    }

    /// As the compiler takes it.
    pub fn build(&self) -> Order {
        Order { terms: Arc::new(self.terms.clone()), names: self.names.clone(), except: self.except.clone() }
    }
}

fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<Name> {
    names.into_iter().map(|name| Name::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}
