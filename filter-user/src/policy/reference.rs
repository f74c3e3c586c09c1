//! The decision straight from the definition: order by order and rule by rule, slow and plain.

use filter_common::verdict::{Action, Protocol, Reason};
use jiff::Timestamp;

use super::ScopeTable;
use crate::{
    name::Name,
    order::{Match, Order, Terms},
};

/// Who asks for what, how and when.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name.
    pub name: &'a Name,
    /// Scope bits of the client.
    pub scopes: u64,
    /// Protocol of the packet.
    pub protocol: Protocol,
    /// Time of the packet.
    pub time: Timestamp,
}

/// What decides, and why.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// The deciding rule, or why the name passes.
    pub decision: Result<Decision<'a>, Reason>,
    /// All orders that hold for this question, oldest first.
    pub concerned: Vec<&'a Terms>,
}

/// The deciding rule.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Its order.
    pub order: &'a Terms,
    /// Its name.
    pub rule: &'a Name,
    /// What is done.
    pub action: Action,
    /// NXDOMAIN goes out as NODATA, because not everything below the name is stopped.
    pub nodata: bool,
}

/// Decides by the definition.
///
/// - A rule covers its name, what lies below it, or both, as the order's `match` says. An exception takes out its name
///   and what lies below. Where one order's rules and exceptions contradict each other, the longer name wins, and of
///   equal names the exception.
/// - The allow list beats every order.
/// - Of the orders that cover the name for this protocol, client and time, the stronger action decides, then the
///   earlier `issued`, then the smaller id.
/// - NXDOMAIN tells caches that nothing exists below the name either (RFC 8020). So it is NODATA for an exact rule,
///   unless the order insists, and always where an exception of the order or the allow list frees a name below.
pub fn explain<'a>(
    orders: impl IntoIterator<Item = &'a Order>,
    allow: &[(Name, Match)],
    scopes: &ScopeTable,
    question: &Question<'_>,
) -> Explanation<'a> {
    let passes = |reason| Explanation { decision: Err(reason), concerned: Vec::new() };
    let Question { name, protocol, time, .. } = *question;
    if allow.iter().any(|(allowed, reach)| covers(allowed, *reach, name)) {
        return passes(Reason::Allowed);
    }
    let mut listed: Vec<_> =
        orders.into_iter().filter_map(|order| Some((order, covering_rule(order, name)?))).collect();
    if listed.is_empty() {
        return passes(Reason::NotListed);
    }
    listed.retain(|(order, _)| order.terms.actions.contains_key(&protocol));
    if listed.is_empty() {
        return passes(Reason::OtherProtocol);
    }
    listed.retain(|(order, _)| {
        order.terms.scopes.iter().any(|scope| scopes.bit(scope).is_some_and(|bit| bit & question.scopes != 0))
    });
    if listed.is_empty() {
        return passes(Reason::OtherClient);
    }
    listed.retain(|(order, _)| order.terms.not_before <= time && order.terms.not_after.is_none_or(|end| time < end));
    listed.sort_by_key(|(order, _)| (order.terms.issued, &order.terms.id));

    let action = |order: &Order| order.terms.actions.get(&protocol).copied();
    // Of equals, `max_by_key` takes the last.
    let Some((order, rule, action)) = listed
        .iter()
        .rev()
        .filter_map(|(order, rule)| Some((*order, *rule, action(order)?)))
        .max_by_key(|(_, _, action)| *action)
    else {
        return passes(Reason::OtherTime);
    };
    let nodata = order.terms.actions.get(&Protocol::Dns) == Some(&Action::Nxdomain)
        && (order.terms.reach == Match::Exact && !order.terms.insist_nxdomain || has_hole_below(order, allow, name));
    Explanation {
        decision: Ok(Decision { order: &order.terms, rule, action, nodata }),
        concerned: listed.into_iter().map(|(order, _)| &*order.terms).collect(),
    }
}

/// The order's rule that covers a name: the longest.
fn covering_rule<'a>(order: &'a Order, name: &Name) -> Option<&'a Name> {
    let rule =
        order.names.iter().filter(|rule| covers(rule, order.terms.reach, name)).max_by_key(|rule| rule.depth())?;
    let is_excepted =
        order.except.iter().any(|except| covers(except, Match::Subtree, name) && except.depth() >= rule.depth());
    (!is_excepted).then_some(rule)
}

/// Whether the order or the allow list frees some name strictly below this one.
fn has_hole_below(order: &Order, allow: &[(Name, Match)], name: &Name) -> bool {
    let frees_below = |freed: &Name, reach| freed.is_below(name) || (reach == Match::Below && (freed == name));
    order.except.iter().any(|except| except.is_below(name))
        || allow.iter().any(|(allowed, reach)| frees_below(allowed, *reach))
}

fn covers(rule: &Name, reach: Match, name: &Name) -> bool {
    match reach {
        Match::Exact => name == rule,
        Match::Subtree => name == rule || name.is_below(rule),
        Match::Below => name.is_below(rule),
    }
}
