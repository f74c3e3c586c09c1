//! Which names the kernel stops, for those who must answer for it.

use std::sync::PoisonError;

use filter_common::verdict::{Action, Asker, Reason};

use super::engine::Engine;
use crate::{
    feed::tickets::{Asked, Standing, Standings},
    kernel::{self, Clock},
    name::Name,
    observe::KernelView,
    order::{Match, Terms},
    policy::image::{self, Outcome},
};

impl Engine {
    /// What has become of names, by the kernel's tables as they are. `known` is what the book says of those that these
    /// do not stop.
    pub(super) fn standing(&self, asked: &[Asked], mut known: Standings) -> Standings {
        // Tables that no packet comes to stop nothing.
        let is_attached =
            kernel::status(self.pin_root()).is_ok_and(|pinned| pinned.iter().any(|attached| attached.mode.is_some()));
        if !is_attached || self.problems.contains_key("tables") {
            return known;
        }
        for Asked { order, names } in asked {
            let Some(terms) = self.enforcer.orders.get(order).map(|order| &*order.terms) else { continue };
            for name in names {
                if let Some(standing) = self.of_kernel(terms, name) {
                    known.insert((order.clone(), name.clone()), standing);
                }
            }
        }
        known
    }

    /// Where a name of an order stands by the tables: stopped for each of its protocols, or allowed.
    fn of_kernel(&self, terms: &Terms, name: &Name) -> Option<Standing> {
        let name = match terms.reach {
            Match::Exact | Match::Subtree => name.clone(),
            Match::Below => Name::parse(&format!("below.{name}")).ok()?,
        };
        let view = KernelView(self.enforcer.tables());
        let boot = Clock::now().boot(self.enforcer.now());
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let mut also: Option<Vec<String>> = None;
        for protocol in terms.actions.keys() {
            let judgement = image::judge(&view, &name, &Asker::new(u64::MAX, *protocol, boot));
            match judgement.outcome {
                Outcome::Passes(Reason::Allowed) => return Some(Standing::Allowed),
                Outcome::Decided { action, .. } if action != Action::Observe => {}
                _ => return None,
            }
            let mut concerned: Vec<String> = judgement.concerned.iter().map(|slot| directory.order(*slot)).collect();
            if !concerned.contains(&terms.id) {
                return None;
            }
            concerned.retain(|id| *id != terms.id && self.has_clients_of(id, terms));
            also = Some(match also {
                None => concerned,
                Some(also) => also.into_iter().filter(|id| concerned.contains(id)).collect(),
            });
        }
        also.map(|also| Standing::Enforced { also })
    }

    /// Whether an order binds every client that these terms do, and does more than look on.
    fn has_clients_of(&self, id: &str, terms: &Terms) -> bool {
        let Some(other) = self.enforcer.orders.get(id).map(|order| &*order.terms) else { return false };
        let stops = |protocol| other.actions.get(protocol).is_some_and(|action| *action != Action::Observe);
        let has_clients = other.scopes.contains("all") || terms.scopes.is_subset(&other.scopes);
        has_clients && terms.actions.keys().all(stops)
    }
}
