//! Response policy zones: the kernel's tables, compiled from a zone, and BIND with the same zone say the same of every
//! name.

mod bind;
mod zones;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use cordon_tests::{
    bare,
    harness::{Filter, Setup},
    order::{TestOrder, order},
    packet::{Hello, Ip, Packet, Query, answer::Answer, kind, received::Received},
};
use filter_common::verdict::{Action, Reason};
use filter_user::{
    feed::{Context, Input, Kind, file::Files, rpz::Zone},
    guard::Guards,
};

use self::{
    bind::{Asked, Bind, ZONE},
    zones::{Made, Random},
};

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is resolved.
    Passes,
    /// Nobody answers.
    Dropped,
    /// The name does not exist.
    Nxdomain,
    /// The name has no such records.
    Nodata,
    /// The zone's address.
    Address(IpAddr),
}

/// The filter with the orders that a zone file makes, read as the daemon reads it.
fn filter(folder: &Path, text: &str) -> Result<Filter> {
    let path = folder.join("cordon.zone");
    fs::write(&path, text)?;
    let terms = order("o", []).tls(Action::Reset).insist_nxdomain().build().terms;
    let zone = Zone::new(ZONE, terms, BTreeSet::new(), None).map_err(anyhow::Error::msg)?;
    let input = Input { path, kind: Kind::Rpz(Arc::new(zone)), seal: None, is_fetched: false, transferred: None };
    let context = Context { scopes: None, targets: None, guards: Guards::none() };
    let (orders, refusals, _) = Files::new(vec![input]).orders(&context)?;
    ensure!(refusals.is_empty(), "{refusals:?}");
    let orders: Vec<TestOrder> = orders.into_iter().map(TestOrder::of).collect();
    Ok(Filter::with(Setup::default(), &orders))
}

/// What the kernel does with a query.
fn judged(filter: &Filter, name: &str, qtype: u16) -> Result<Outcome> {
    let run = filter.run(&Packet::dns(Ip::v4(), &Query::new(name).qtype(qtype)).build());
    let answer = || Answer::parse(Received::parse(&run.frame)?.message()?);
    Ok(match run.reason {
        Reason::NotListed => Outcome::Passes,
        Reason::Dropped => Outcome::Dropped,
        Reason::AnsweredNxdomain => Outcome::Nxdomain,
        Reason::AnsweredNodata => Outcome::Nodata,
        Reason::AnsweredAddress => match &answer()?.addresses[..] {
            [] => Outcome::Nodata,
            [(_, _, address)] => Outcome::Address(*address),
            several => anyhow::bail!("{several:?}"),
        },
        other => anyhow::bail!("{name}: {other:?}"),
    })
}

#[test]
fn a_zone_stops_what_it_stops_in_bind() -> Result<()> {
    if bare("a_zone_stops_what_it_stops_in_bind") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut random = Random::new(0x5eed);
    let made: Vec<Made> = (0..ZONES).map(|_| Made::new(&mut random)).collect();
    let mut bind = Bind::start(folder.path(), &made.iter().map(Made::text).collect::<Vec<_>>())?;
    let mut names = 0;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut disagreements = Vec::new();
    let mut asked = Vec::new();
    for (number, zone) in made.iter().enumerate() {
        asked.extend([kind::A, kind::AAAA].map(|qtype| Asked { zone: number, names: zone.names(&mut random), qtype }));
    }
    let mut answers = bind.ask(&asked)?.into_iter().zip(&asked);
    for zone in &made {
        let text = zone.text();
        let filter = filter(folder.path(), &text).with_context(|| text.clone())?;
        for (answers, Asked { qtype, .. }) in answers.by_ref().take(2) {
            for (name, theirs) in answers {
                let ours = judged(&filter, &name, *qtype)?;
                // RFC 8020: what is below a name that does not exist does not exist either; so above names that the zone
                // treats otherwise, Cordon says that the name has no records.
                let is_softened = (theirs, ours) == (Outcome::Nxdomain, Outcome::Nodata) && zone.has_name_below(&name);
                if ours != theirs && !is_softened {
                    disagreements.push(format!("{name} type {qtype}: BIND {theirs:?}, Cordon {ours:?}\n{text}"));
                }
                let hello = filter.run(&Packet::tls(Ip::v4(), &Hello::new(&name)).build()).reason;
                let expected = if theirs == Outcome::Passes { Reason::NotListed } else { Reason::Reset };
                if hello != expected {
                    disagreements.push(format!("{name} in TLS: BIND {theirs:?}, Cordon {hello:?}\n{text}"));
                }
                let word = format!("{theirs:?}");
                *seen.entry(word.split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
                names += 1;
            }
        }
    }
    println!("{names} names, {} disagreements; BIND: {seen:?}", disagreements.len());
    assert!(disagreements.is_empty(), "{} of {names}: {}", disagreements.len(), disagreements.join("\n"));
    assert!(names >= 1000, "{names} names");
    // Each of them is among what was compared, and often.
    assert!(seen.len() == 5 && seen.values().all(|count| *count >= 50), "{seen:?}");
    Ok(())
}

/// Zones that are compared.
const ZONES: usize = 16;
