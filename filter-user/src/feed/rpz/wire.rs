//! Records as zone transfer has them: keys below the zone's apex, and data as it goes over the wire, names whole and in
//! lower case.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use domain::base::Rtype;

use super::{
    Reader,
    master::{Data, Record, Words},
    owner,
};
use crate::{
    book::{Delta, PartChange},
    feed::Refusal,
    name::Name,
    order::Order,
};

impl Reader<'_> {
    /// Takes a record; `line` is 0 in what is told of it.
    pub(in crate::feed) fn wire(&mut self, relative: &[u8], rtype: u16, data: &[u8]) {
        let mut key = self.zone.apex.clone();
        key.extend_from_slice(relative);
        let rtype = Rtype::from_int(rtype);
        let word = match rtype {
            Rtype::CNAME | Rtype::NS => name(data),
            Rtype::A => <[u8; 4]>::try_from(data).map(|octets| Ipv4Addr::from(octets).to_string()).unwrap_or_default(),
            Rtype::AAAA => {
                <[u8; 16]>::try_from(data).map(|octets| Ipv6Addr::from(octets).to_string()).unwrap_or_default()
            }
            _ => String::new(),
        };
        let words = Words::one(word.as_bytes());
        let rtype = rtype.to_string();
        let owner = Ok(key);
        let data = Data::of(&words);
        self.record(&Record { line: 0, owner: &owner, class: None, rtype: rtype.as_bytes(), data, origin: &[] });
    }

    /// The zone has this serial.
    pub(in crate::feed) fn serial(&mut self, serial: u32) {
        self.serials.insert(serial);
    }
}

/// What a transfer of differences comes to: `before` and `after` are readers that were given all records of the parts of
/// the zone that changed.
pub(in crate::feed) fn changes(before: Reader<'_>, after: Reader<'_>) -> (Vec<PartChange>, Vec<Refusal>) {
    let zone = after.zone;
    let (before, _) = parts(before);
    let (after, refusals) = parts(after);
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |id: &String| {
        let (before, after) = (before.get(id), after.get(id));
        let terms = Arc::clone(&after.or(before)?.terms);
        let names = delta(before.map(|order| &order.names), after.map(|order| &order.names));
        let mut except = delta(before.map(|order| &order.except), after.map(|order| &order.except));
        // What the configuration leaves out, it leaves out of every part.
        except.removed.retain(|name| !zone.except.contains(name));
        (!names.is_empty() || !except.is_empty()).then_some(PartChange { terms, names, except })
    };
    (ids.into_iter().filter_map(change).collect(), refusals)
}

fn parts(mut reader: Reader<'_>) -> (BTreeMap<String, Order>, Vec<Refusal>) {
    let parts = reader.parts();
    (parts.into_iter().map(|order| (order.terms.id.clone(), order)).collect(), reader.refusals)
}

fn delta(before: Option<&BTreeSet<Name>>, after: Option<&BTreeSet<Name>>) -> Delta {
    let none = BTreeSet::new();
    let (before, after) = (before.unwrap_or(&none), after.unwrap_or(&none));
    Delta { added: after.difference(before).cloned().collect(), removed: before.difference(after).cloned().collect() }
}

/// A name as a master file has it, with its dot.
fn name(data: &[u8]) -> String {
    let (mut labels, mut rest) = (Vec::new(), data);
    while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let Some((label, below)) = after.split_at_checked(usize::from(*length)) else { break };
        labels.push((length, label));
        rest = below;
    }
    let key: Vec<u8> = labels.iter().rev().flat_map(|(length, label)| [&[**length], *label].concat()).collect();
    if key.is_empty() { ".".to_owned() } else { format!("{}.", owner::text(&key)) }
}
