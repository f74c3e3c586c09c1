//! Who decides about a name: once by the orders' definition, once by the kernel's tables as they are.

use std::net::IpAddr;

use filter_common::{
    layout::SCOPE_ALL,
    verdict::{Action, Asker, Protocol, Reason},
};
use ipnet::IpNet;

use super::{enforcer::Enforcer, numbers::Numbers};
use crate::{
    config::{Config, Ports},
    control::api::{Decision, Explanation, ProtocolExplanation},
    kernel::{self, Clock, Error, TlsPorts},
    name::Name,
    observe::{Directory, KernelView},
    policy::{
        image::{self, Judgement, Outcome, Tables as _},
        reference::{self, Question},
    },
};

/// What is asked.
pub(super) struct Asked<'a> {
    /// The name.
    pub name: &'a Name,
    /// The client; none: one in every scope.
    pub client: Option<IpAddr>,
    /// The configuration in force.
    pub config: &'a Config,
    /// Its numbers.
    pub numbers: &'a Numbers,
}

/// Explains.
pub(super) fn explain(enforcer: &Enforcer, directory: &Directory, asked: &Asked<'_>) -> Result<Explanation, Error> {
    let view = KernelView(enforcer.tables());
    let (by_orders, by_kernel) = match asked.client {
        Some(client) => (configured_scopes(asked, client), enforcer.tables().scopes_of(client)?),
        None => (u64::MAX, u64::MAX),
    };
    let now = enforcer.now();
    let boot = Clock::now().boot(now);
    let decide = |protocol: Protocol| {
        let question = Question { name: asked.name, scopes: by_orders, protocol, time: now };
        let orders = by_definition(enforcer, &question);
        let asker = Asker::new(by_kernel, protocol, boot);
        let kernel = by_tables(&image::judge(&view, asked.name, &asker), asked.name, protocol, directory);
        let agree = orders == kernel;
        let (read, ports) = reading(&asked.config.ports, protocol);
        ProtocolExplanation { protocol: protocol.word().to_owned(), read, ports, orders, kernel, agree }
    };
    let protocols: Vec<_> = Protocol::ALL.map(decide).into();
    let node = asked.name.suffixes().find(|suffix| view.node(suffix).is_some());
    let pinned = kernel::status(&asked.config.daemon.pin_root)?;
    let attached = pinned.into_iter().filter(|attached| attached.mode.is_some());
    Ok(Explanation {
        name: asked.name.as_str().to_owned(),
        client: asked.client,
        scopes: directory.scopes(by_kernel),
        node: node.map(|node| node.as_str().to_owned()),
        interfaces: attached.map(|attached| attached.interface).collect(),
        agree: protocols.iter().all(|line| line.agree),
        protocols,
    })
}

/// Whether the program reads a protocol, and on which ports; none: on any.
fn reading(ports: &Ports, protocol: Protocol) -> (bool, Option<Vec<u16>>) {
    let list = match protocol {
        Protocol::Dns => &ports.dns,
        Protocol::Tls => match &ports.tls {
            TlsPorts::Any => return (true, None),
            TlsPorts::List(list) => list,
        },
        Protocol::Quic => &ports.quic,
    };
    (!list.is_empty(), Some(list.clone()))
}

/// Scope bits of a client, straight from the configuration.
fn configured_scopes(asked: &Asked<'_>, client: IpAddr) -> u64 {
    let holds = |prefix: &IpNet| prefix.contains(&client);
    let bits = asked.numbers.scopes.iter().zip(1..u64::BITS).filter_map(|(name, bit)| {
        asked.config.scopes.get(name).is_some_and(|prefixes| prefixes.iter().any(holds)).then_some(1 << bit)
    });
    bits.fold(SCOPE_ALL, |all, bit| all | bit)
}

fn by_definition(enforcer: &Enforcer, question: &Question<'_>) -> Decision {
    // Orders whose end is long past are not in the tables, and could only turn `not_listed` into `other_time`.
    let orders = enforcer.speaking_of(question.name);
    let explanation = reference::explain(&orders, &enforcer.allow, &enforcer.scopes, question);
    let concerned = explanation.concerned.iter().map(|terms| terms.id.clone()).collect();
    match explanation.decision {
        Err(reason) => passes(reason),
        Ok(decided) => Decision {
            verdict: verdict(decided.action, decided.nodata, question.protocol).to_owned(),
            reason: None,
            order: Some(decided.order.id.clone()),
            rule: Some(decided.rule.as_str().to_owned()),
            concerned,
        },
    }
}

fn by_tables(judgement: &Judgement, name: &Name, protocol: Protocol, directory: &Directory) -> Decision {
    match judgement.outcome {
        Outcome::Passes(reason) => passes(reason),
        Outcome::Decided { entry, action } => {
            let rule = name.suffixes().find(|suffix| suffix.depth() == entry.depth);
            Decision {
                verdict: verdict(action, judgement.outcome.is_nodata(), protocol).to_owned(),
                reason: None,
                order: Some(directory.order(entry.order)),
                rule: rule.map(|rule| rule.as_str().to_owned()),
                concerned: judgement.concerned.iter().map(|slot| directory.order(*slot)).collect(),
            }
        }
    }
}

fn passes(reason: Reason) -> Decision {
    Decision {
        verdict: "pass".to_owned(),
        reason: Some(reason.word().to_owned()),
        order: None,
        rule: None,
        concerned: Vec::new(),
    }
}

fn verdict(action: Action, nodata: bool, protocol: Protocol) -> &'static str {
    let is_softened = nodata && action == Action::Nxdomain && protocol == Protocol::Dns;
    if is_softened { Action::Nodata.word() } else { action.word() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_does_not_read_is_told() {
        let ports = Ports { dns: vec![53, 5353], tls: TlsPorts::Any, quic: vec![443], encrypted_dns: Vec::new() };
        assert_eq!(reading(&ports, Protocol::Dns), (true, Some(vec![53, 5353])));
        assert_eq!(reading(&ports, Protocol::Tls), (true, None));
        assert_eq!(reading(&ports, Protocol::Quic), (true, Some(vec![443])));
        let ports =
            Ports { dns: Vec::new(), tls: TlsPorts::List(vec![443]), quic: Vec::new(), encrypted_dns: Vec::new() };
        assert_eq!(reading(&ports, Protocol::Dns), (false, Some(Vec::new())));
        assert_eq!(reading(&ports, Protocol::Quic), (false, Some(Vec::new())));
        assert_eq!(reading(&ports, Protocol::Tls), (true, Some(vec![443])));
    }
}
