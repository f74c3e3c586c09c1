//! What the compiler keeps of an order beside the rule tree, and what it makes of an order's terms.

use std::{collections::HashMap, sync::Arc};

use filter_common::{
    layout::MAX_TEXT,
    verdict::{Action, Protocol},
};

use super::{
    OrderSlot, ScopeTable,
    tree::{Kind, NodeId},
};
use crate::order::{Match, Terms};

/// Why an order cannot be taken in. The compiler is as it was before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Names a scope that is not configured.
    #[error("order {order}: scope {scope:?} is not configured")]
    UnknownScope {
        /// Order id.
        order: String,
        /// The scope's name.
        scope: String,
    },
    /// Names a redirect target that is not configured.
    #[error("order {order}: redirect target {target:?} is not configured")]
    UnknownTarget {
        /// Order id.
        order: String,
        /// The target's name.
        target: String,
    },
    /// Redirects, but nowhere.
    #[error("order {order}: its action is redirect, but it names no target")]
    NoTarget {
        /// Order id.
        order: String,
    },
    /// There is no order with this id.
    #[error("order {order} is not known")]
    UnknownOrder {
        /// Order id.
        order: String,
    },
    /// The names take more memory than the compiler's 32-bit indices reach.
    #[error("{}: too many names", order.as_ref().map_or("allow list".into(), |id| format!("order {id}")))]
    TooManyNames {
        /// Order id; `None` for the allow list.
        order: Option<String>,
    },
}

#[derive(Debug)]
pub(super) struct OrderState {
    pub terms: Arc<Terms>,
    /// What its slot should hold.
    pub wanted: OrderSlot,
    /// Its slot from this commit on.
    pub slot: Option<u32>,
    /// Its slot, and what that held at the last commit.
    pub written: Option<(u32, OrderSlot)>,
    /// Is in the list of changed orders.
    pub changed: bool,
    pub revoked: bool,
    /// Every node with a rule of this order, and some that have none any more.
    pub names: Vec<NodeId>,
    /// How many of `names` may be superfluous.
    pub stale: usize,
    /// Every node with an exception of this order.
    pub except: Vec<NodeId>,
}

impl OrderState {
    pub fn kind(&self) -> Kind {
        kind(self.terms.reach)
    }

    /// Whether its rules reach below their names.
    pub fn reaches_below(&self) -> bool {
        self.terms.reach != Match::Exact
    }

    /// Whether DNS queries are answered NXDOMAIN.
    pub fn is_nxdomain(&self) -> bool {
        self.wanted.actions[Protocol::Dns as usize] == Action::Nxdomain as u8
    }
}

/// What an order's slot should hold.
pub(super) fn slot_for(
    terms: &Terms,
    scopes: &ScopeTable,
    targets: &HashMap<String, u32>,
) -> Result<OrderSlot, OrderError> {
    let order = || terms.id.clone();
    let scopes = scopes
        .bits(terms.scopes.iter().map(String::as_str))
        .map_err(|scope| OrderError::UnknownScope { order: order(), scope: scope.to_owned() })?;
    let redirects = terms.actions.values().any(|action| *action == Action::Redirect);
    let target = match &terms.redirect {
        Some(name) => {
            *targets.get(name).ok_or_else(|| OrderError::UnknownTarget { order: order(), target: name.clone() })?
        }
        None if redirects => return Err(OrderError::NoTarget { order: order() }),
        None => 0,
    };
    let mut actions = [0; 4];
    for (protocol, action) in &terms.actions {
        actions[*protocol as usize] = *action as u8;
    }
    let text = if terms.reference.is_empty() { &terms.id } else { &terms.reference };
    Ok(OrderSlot {
        id: order(),
        start: terms.not_before,
        end: terms.not_after,
        scopes,
        actions,
        target,
        ede: terms.ede,
        text: text[..text.floor_char_boundary(MAX_TEXT)].to_owned(),
        a: terms.address.a,
        aaaa: terms.address.aaaa,
    })
}

pub(super) fn kind(reach: Match) -> Kind {
    match reach {
        Match::Exact => Kind::Exact,
        Match::Subtree => Kind::Subtree,
        Match::Below => Kind::Below,
    }
}
