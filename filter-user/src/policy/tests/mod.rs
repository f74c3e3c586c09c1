use std::{collections::BTreeMap, sync::Arc};

use filter_common::{
    layout::SCOPE_ALL,
    verdict::{Action, Asker, Protocol, Reason},
};
use jiff::{Timestamp, civil::date};

use super::{
    Changes, Compiler, Limits, ScopeTable,
    image::{self, Image, Outcome, judge},
    reference::{Question, explain},
};
use crate::{
    name::Name,
    order::{Address, Match, Order, Terms},
};

mod capacity;
mod cases;
mod changes;
mod many;
mod property;

const LIMITS: Limits = Limits { orders: 64, policies: 4096, names: 1 << 20 };

fn name(text: &str) -> Name {
    Name::from_canonical(text.to_owned())
}

fn day(day: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap()
}

fn scopes() -> ScopeTable {
    ScopeTable::new(["fr", "de"]).unwrap()
}

fn compiler() -> Compiler {
    Compiler::new(scopes(), [("dpi".to_owned(), 3)], LIMITS)
}

/// A subtree order on some names: all protocols, all clients, day 0 to 100, nxdomain, reset, drop.
fn order(id: &str, names: &[&str]) -> Order {
    let terms = Terms {
        id: id.to_owned(),
        issuer: "court".to_owned(),
        basis: "law".to_owned(),
        reference: String::new(),
        issued: date(2025, 1, 1),
        not_before: day(0),
        not_after: Some(day(100)),
        actions: BTreeMap::from([
            (Protocol::Dns, Action::Nxdomain),
            (Protocol::Tls, Action::Reset),
            (Protocol::Quic, Action::Drop),
        ]),
        scopes: ["all".to_owned()].into(),
        reach: Match::Subtree,
        ede: 16,
        address: Address::default(),
        redirect: None,
        insist_nxdomain: false,
        part_of: None,
    };
    Order { terms: Arc::new(terms), names: names.iter().copied().map(name).collect(), except: [].into() }
}

impl Order {
    fn terms(mut self, change: impl FnOnce(&mut Terms)) -> Self {
        change(Arc::make_mut(&mut self.terms));
        self
    }

    fn reach(self, reach: Match) -> Self {
        self.terms(|terms| terms.reach = reach)
    }

    fn only(self, protocol: Protocol, action: Action) -> Self {
        self.terms(|terms| terms.actions = BTreeMap::from([(protocol, action)]))
    }

    fn scope(self, scope: &str) -> Self {
        self.terms(|terms| terms.scopes = [scope.to_owned()].into())
    }

    fn except(mut self, names: &[&str]) -> Self {
        self.except = names.iter().copied().map(name).collect();
        self
    }
}

/// One question, without the name.
#[derive(Clone, Copy, Debug)]
struct Asks {
    scopes: u64,
    protocol: Protocol,
    time: Timestamp,
}

const ANYONE: Asks = Asks { scopes: SCOPE_ALL, protocol: Protocol::Dns, time: Timestamp::UNIX_EPOCH };

fn asks(protocol: Protocol) -> Asks {
    Asks { protocol, time: day(1), ..ANYONE }
}

/// A judgement by order ids, to compare those of tables with those of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    decision: Result<Decided, Reason>,
    concerned: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Decided {
    order: String,
    rule_depth: u8,
    action: Action,
    nodata: bool,
}

fn by_tables(image: &Image, name: &Name, asks: Asks) -> Seen {
    let asker = Asker::new(asks.scopes, asks.protocol, image::clock(asks.time));
    let judgement = judge(image, name, &asker);
    let id = |slot| image.order_slot(slot).unwrap().id.clone();
    let decision = match judgement.outcome {
        Outcome::Passes(reason) => Err(reason),
        Outcome::Decided { entry, action } => Ok(Decided {
            order: id(entry.order),
            rule_depth: entry.depth,
            action,
            nodata: judgement.outcome.is_nodata(),
        }),
    };
    Seen { decision, concerned: judgement.concerned.into_iter().map(id).collect() }
}

fn by_definition<'a>(
    orders: impl IntoIterator<Item = &'a Order>,
    allow: &[(Name, Match)],
    name: &Name,
    asks: Asks,
) -> Seen {
    let question = Question { name, scopes: asks.scopes, protocol: asks.protocol, time: asks.time };
    let explanation = explain(orders, allow, &scopes(), &question);
    Seen {
        decision: explanation.decision.map(|decision| Decided {
            order: decision.order.id.clone(),
            rule_depth: decision.rule.depth(),
            action: decision.action,
            nodata: decision.nodata,
        }),
        concerned: explanation.concerned.into_iter().map(|terms| terms.id.clone()).collect(),
    }
}

/// A compiler and the tables that its commits were written to.
struct Bench {
    compiler: Compiler,
    image: Image,
    orders: Vec<Order>,
    allow: Vec<(Name, Match)>,
}

impl Bench {
    fn new(orders: impl IntoIterator<Item = Order>) -> Self {
        Self::with_allow(orders, &[])
    }

    fn with_allow(orders: impl IntoIterator<Item = Order>, allow: &[(&str, Match)]) -> Self {
        let orders: Vec<_> = orders.into_iter().collect();
        let allow: Vec<_> = allow.iter().map(|(text, reach)| (name(text), *reach)).collect();
        let mut bench = Self { compiler: compiler(), image: Image::default(), orders, allow };
        bench.compiler.set_allow(bench.allow.clone()).unwrap();
        for order in &bench.orders {
            bench.compiler.put(order).unwrap();
        }
        bench.commit();
        bench
    }

    fn commit(&mut self) -> Changes {
        let changes = self.compiler.commit().unwrap();
        self.image.apply(&changes);
        changes
    }

    /// The judgement by the tables, which must be the definition's.
    #[track_caller]
    fn see(&self, text: &str, asks: Asks) -> Seen {
        let seen = by_tables(&self.image, &name(text), asks);
        assert_eq!(seen, by_definition(&self.orders, &self.allow, &name(text), asks), "{text}");
        seen
    }

    /// Deciding order, rule depth, action and whether NXDOMAIN becomes NODATA, for a DNS query on day 1.
    #[track_caller]
    fn dns(&self, text: &str) -> Result<(String, u8, Action, bool), Reason> {
        self.see(text, asks(Protocol::Dns)).decision.map(|it| (it.order, it.rule_depth, it.action, it.nodata))
    }
}
