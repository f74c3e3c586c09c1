//! What the engine answers to requests of the control socket.

use std::{net::IpAddr, sync::PoisonError};

use filter_common::layout::LAYOUT_VERSION;
use jiff::Timestamp;
use serde_json::json;

use super::{
    enforcer::Kept,
    engine::Engine,
    explain::{self, Asked},
    interface_status,
    keeper::{self, Job},
    off,
};
use crate::{
    control::{
        api::{
            AttachRequest, Detached, Explanation, InterfaceStatus, OrderCounts, OrderState, OrderSummary, Stats,
            Status, TargetStatus,
        },
        server::{Failed, Request, peer::User},
    },
    kernel::{self, Mode, TargetState},
    name::Name,
    observe::{EventHub, flow_uses, hidden, reason_counts, tallies},
};

impl Engine {
    /// Answers one request.
    pub(super) fn request(&mut self, request: Request, events: &EventHub) {
        // Whoever asked may have left.
        match request {
            Request::Status(reply) => drop(reply.send(self.status())),
            Request::Orders(reply) => drop(reply.send(Ok(self.orders()))),
            Request::Stats(reply) => drop(reply.send(self.stats(events))),
            Request::Explain { name, client, reply } => drop(reply.send(self.explain(&name, client))),
            Request::Attach(request, user, reply) => drop(reply.send(self.attach_request(&request, &user))),
            Request::Detach(request, user, reply) => drop(reply.send(self.detach(&request.interface, &user))),
            Request::Order(id, reply) => drop(self.keeper.send(Job::Order(id, reply))),
            Request::Export(reply) => drop(self.keeper.send(Job::Export(reply))),
            Request::Feeds { whole, reply } => drop(self.keeper.send(Job::Feeds { whole, reply })),
            Request::Sync(request, reply) => drop(self.keeper.send(Job::SyncNow(request.feed, reply))),
            Request::Decide { feed, changes, approve, user, reply } => {
                drop(self.keeper.send(Job::Decide { feed, changes, approve, user, reply }));
            }
            Request::Submit(..) | Request::Revoke { .. } => {}
        }
    }

    fn status(&self) -> Result<Status, Failed> {
        let enforcer = &self.enforcer;
        let now = enforcer.now();
        let mut orders = OrderCounts::default();
        for (id, order) in &enforcer.orders {
            match keeper::state(&order.terms, now) {
                OrderState::InForce if enforcer.problems.contains_key(id) => orders.not_enforced += 1,
                OrderState::Waiting => orders.waiting += 1,
                OrderState::InForce => orders.in_force += 1,
                OrderState::Ended | OrderState::Revoked => orders.ended += 1,
            }
        }
        let is_configured = |state: &&TargetState| self.config.targets.iter().any(|target| target.name == state.name);
        let target = |state: &TargetState| TargetStatus { name: state.name.clone(), problem: state.problem.clone() };
        let unconfigured = enforcer.unconfigured(&self.config);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            layout: LAYOUT_VERSION,
            generation: enforcer.tables().settings().map_err(impossible)?.generation,
            interfaces: self.interfaces().map_err(impossible)?,
            orders,
            names: enforcer.names(),
            targets: self.target_states.iter().filter(is_configured).map(target).collect(),
            clock_behind: enforcer.held,
            tier: self.tier.status(),
            problems: enforcer
                .problems
                .values()
                .chain(unconfigured.values())
                .chain(self.problems.values())
                .cloned()
                .collect(),
        })
    }

    fn interfaces(&self) -> Result<Vec<InterfaceStatus>, kernel::Error> {
        let configured = |interface: &str| Some(self.config.mode(interface).is_some());
        let mut lines: Vec<InterfaceStatus> = kernel::status(self.pin_root())?
            .iter()
            .map(|attached| InterfaceStatus {
                configured: configured(&attached.interface),
                ..interface_status(attached)
            })
            .collect();
        for interface in &self.config.interfaces {
            if lines.iter().any(|line| line.interface == interface.name) {
                continue;
            }
            let why = self.unattached.get(&interface.name).cloned();
            lines.push(InterfaceStatus {
                interface: interface.name.clone(),
                mode: None,
                program: None,
                layout: None,
                configured: Some(true),
                problem: Some(why.unwrap_or_else(|| "detached by hand".to_owned())),
            });
        }
        Ok(lines)
    }

    fn orders(&self) -> Vec<OrderSummary> {
        let now = self.enforcer.now();
        let unconfigured = self.enforcer.unconfigured(&self.config);
        let problem = |id: &String| self.enforcer.problems.get(id).or_else(|| unconfigured.get(id)).cloned();
        let line = |(id, order): (&String, &Kept)| summary(order, now, problem(id));
        // A part without names is there because it had some.
        let is_shown = |(_, order): &(&String, &Kept)| order.terms.part_of.is_none() || order.names > 0;
        self.enforcer.orders.iter().filter(is_shown).map(line).collect()
    }

    fn stats(&self, events: &EventHub) -> Result<Stats, Failed> {
        let tables = self.enforcer.tables();
        let hits = tables.hits().map_err(impossible)?;
        let (counters, counted) = (tables.counters().map_err(impossible)?, tables.tallies().map_err(impossible)?);
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Stats {
            reasons: reason_counts(&counters),
            orders: self.enforcer.totals.with(&hits, &directory),
            hidden: hidden(&counters, &counted),
            tallies: tallies(&counted),
            flows: flow_uses(&tables.flow_maps().map_err(impossible)?),
            tier: Some(self.tier.status()),
            events_read: events.read(),
            events_lost: events.lost(),
        })
    }

    fn explain(&self, name: &str, client: Option<IpAddr>) -> Result<Explanation, Failed> {
        let name = Name::parse(name).map_err(|error| Failed::Invalid(format!("{name}: {error}")))?;
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let asked = Asked { name: &name, client, config: &self.config, numbers: &self.numbers };
        explain::explain(&self.enforcer, &directory, &asked).map_err(impossible)
    }

    fn attach_request(&mut self, request: &AttachRequest, user: &User) -> Result<InterfaceStatus, Failed> {
        let mode = if request.generic { Mode::Generic } else { Mode::Native };
        let attached = self.enforcer.kernel.attach(&request.interface, mode, request.replace).map_err(impossible)?;
        tracing::info!("{}: attached by hand", request.interface);
        self.record_attached(&attached, &json!(user));
        self.off.remove(&request.interface);
        if let Err(error) = off::unmark(&self.config.daemon.state_dir, &request.interface) {
            tracing::warn!("{}: the mark of being detached: {error}", request.interface);
        }
        self.unattached.remove(&request.interface);
        let configured = Some(self.config.mode(&request.interface).is_some());
        Ok(InterfaceStatus { configured, ..interface_status(&attached) })
    }

    fn detach(&mut self, interface: &str, user: &User) -> Result<Detached, Failed> {
        let was_attached = kernel::detach(self.pin_root(), interface).map_err(impossible)?;
        tracing::warn!("{interface}: detached by hand");
        if was_attached {
            self.record_detached(interface, &json!(user));
        }
        self.off.insert(interface.to_owned());
        self.unattached.remove(interface);
        Ok(Detached { was_attached })
    }
}

fn summary(order: &Kept, now: Timestamp, problem: Option<String>) -> OrderSummary {
    let terms = &order.terms;
    let state = keeper::state(terms, now);
    OrderSummary {
        id: terms.id.clone(),
        part_of: terms.part_of.clone(),
        issuer: terms.issuer.clone(),
        reference: terms.reference.clone(),
        state,
        enforced: state == OrderState::InForce && problem.is_none(),
        not_before: terms.not_before,
        not_after: terms.not_after,
        actions: keeper::actions(terms),
        scopes: terms.scopes.iter().cloned().collect(),
        names: order.names,
        problem,
    }
}

fn impossible(error: kernel::Error) -> Failed {
    Failed::Impossible(error.to_string())
}
