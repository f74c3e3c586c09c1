//! Response policy zones: a zone's names, and what is done with DNS queries for them. The configuration binds each zone
//! to one order; reading one gives a put of each part of that order.
//!
//! - Triggers on the query's name are taken, with the actions NXDOMAIN, NODATA, DROP, PASSTHRU and A or AAAA records.
//!   Wildcards stand for what RFC 4592 says, as in BIND.
//! - Everything else is told with its owner and line and not enforced; its owner still bounds the wildcards above it.
//! - A record with mistakes is refused alone, as long as its owner is known. A PASSTHRU whose owner is not, a file that
//!   cannot be told apart into records, one without the zone's SOA, or with an older one than the last, refuses the
//!   zone: its order stays as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufRead},
    sync::Arc,
};

use filter_common::verdict::{Action, Protocol};

use self::{
    master::{Master, Next, Record},
    rows::{Rows, Stop, Verdict},
    rules::{Names, Rules, Shape},
};
use super::{Context, Entry, Event, Refusal, native::Read, transfer::Apex};
use crate::{
    guard::Guarded,
    name::{Name, list::sorted},
    order::{Address, Match, Order, Terms},
};

mod master;
mod owner;
mod rows;
mod rules;
mod serial;
pub(super) mod wire;

pub use serial::Serial;

/// How a zone is read, and the order that its rules belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Key of the zone's apex.
    apex: Vec<u8>,
    /// The order, without what the zone says of it: reach, address, and the action for DNS.
    terms: Arc<Terms>,
    /// What the order leaves out, whatever the zone says.
    except: BTreeSet<Name>,
    /// Where the serial of the last zone that was taken is noted, if an older one is not to be taken.
    newest: Option<Serial>,
}

/// What a reading of a zone is about as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Of the order that its parts belong to.
    pub terms: Arc<Terms>,
    /// The zone's serial, if it was taken; if not, its parts stay as they are.
    pub serial: Option<u32>,
}

/// A reading.
pub(super) struct Reader<'a> {
    zone: &'a Zone,
    context: &'a Context,
    guards: Guarded<'a>,
    source: Arc<str>,
    rows: Rows,
    /// Serials of its SOA records.
    serials: BTreeSet<u32>,
    /// The zone's own name servers, whose addresses are no rules.
    servers: BTreeSet<Vec<u8>>,
    /// Unsupported records by kind.
    unsupported: BTreeMap<&'static str, u64>,
    refusals: Vec<Refusal>,
    more_refusals: u64,
    records: u64,
    /// A record that stands for a rule was refused.
    is_rule_refused: bool,
    is_broken: bool,
}

impl Zone {
    /// `apex` is the zone's name, such as `rpz.example`.
    ///
    /// # Errors
    /// It is no domain name.
    pub fn new(apex: &str, terms: Arc<Terms>, except: BTreeSet<Name>, newest: Option<Serial>) -> Result<Self, String> {
        let mut key = Vec::new();
        owner::read(apex.as_bytes(), &[], &mut key).map_err(|error| error.to_string())?;
        if key.is_empty() {
            return Err("is the root, which is no response policy zone".to_owned());
        }
        Ok(Self { apex: key, terms, except, newest })
    }

    /// The zone's name, without a dot at its end.
    pub fn name(&self) -> String {
        owner::text(&self.apex)
    }

    /// The zone's name, in lower case, as DNS messages have it.
    pub(crate) fn apex(&self) -> Apex {
        self.name().parse().unwrap_or_else(|_| Apex::root_vec())
    }

    /// Where the serial of the last zone that was taken is noted.
    pub(crate) fn newest(&self) -> Option<&Serial> {
        self.newest.as_ref()
    }

    /// The id of its order.
    pub fn order_id(&self) -> &str {
        &self.terms.id
    }
}

impl<'a> Reader<'a> {
    /// `source` names the zone in refusals.
    pub(super) fn new(source: &str, zone: &'a Zone, context: &'a Context) -> Self {
        let source: Arc<str> = source.into();
        Self {
            zone,
            context,
            guards: context.guards.of(&source),
            source,
            rows: Rows::default(),
            serials: BTreeSet::new(),
            servers: BTreeSet::new(),
            unsupported: BTreeMap::new(),
            refusals: Vec::new(),
            more_refusals: 0,
            records: 0,
            is_rule_refused: false,
            is_broken: false,
        }
    }

    /// Reads a master file.
    ///
    /// # Errors
    /// Those of `input`. Then nothing that was read so far is to be used.
    pub(super) fn file(&mut self, input: impl BufRead) -> io::Result<()> {
        let mut master = Master::new(input, &self.zone.apex);
        loop {
            match master.next()? {
                Next::End => return Ok(()),
                Next::Record(record) => self.record(&record),
                Next::Broken(broken) => {
                    self.broken(broken.line, &broken.text, broken.why);
                    return Ok(());
                }
            }
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        self.records += 1;
        if record.owner.as_deref() == Ok(&self.zone.apex) && record.class.is_none() {
            self.of_apex(record);
        }
        let is_address = [&b"A"[..], b"AAAA"].iter().any(|rtype| record.rtype.eq_ignore_ascii_case(rtype));
        if is_address && record.owner.as_ref().is_ok_and(|owner| self.servers.contains(owner)) {
            return;
        }
        let text = || match record.owner {
            Ok(key) => owner::text(key),
            Err((text, _)) => text.clone(),
        };
        match self.rows.take(record, &self.zone.apex, &self.guards) {
            Verdict::Taken | Verdict::OfZone => {}
            Verdict::Unsupported(kind, why) => {
                *self.unsupported.entry(kind).or_default() += 1;
                self.refuse(record.line, &text(), why);
            }
            Verdict::Refused(why) => {
                self.is_rule_refused = true;
                self.refuse(record.line, &text(), why);
            }
            Verdict::Broken(why) => self.broken(record.line, &text(), why),
        }
    }

    fn of_apex(&mut self, record: &Record<'_>) {
        if record.rtype.eq_ignore_ascii_case(b"SOA") {
            // RFC 1035 3.3.13: two names, and the serial first of five numbers.
            let serial = std::str::from_utf8(record.data.word(2)).ok().and_then(|serial| serial.parse().ok());
            match serial.filter(|_| record.data.count() == 7) {
                Some(serial) => _ = self.serials.insert(serial),
                None => self.broken(record.line, "SOA", "has not the seven parts of an SOA record".to_owned()),
            }
        } else if record.rtype.eq_ignore_ascii_case(b"NS") {
            let mut key = Vec::new();
            if owner::read(record.data.word(0), record.origin, &mut key).is_ok() {
                self.servers.insert(key);
            }
        }
    }

    /// What the zone says.
    pub(super) fn finish(mut self) -> Read {
        let serial = self.check_whole();
        let parts = if self.is_broken { Vec::new() } else { self.parts() };
        // If it only has what is not enforced, it is an empty list.
        if parts.is_empty() && self.is_rule_refused && !self.is_broken {
            self.broken(0, "", "no rule is left".to_owned());
        }
        if !self.unsupported.is_empty() {
            let kinds: Vec<_> = self.unsupported.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let why = format!("records that Cordon does not enforce: {}", kinds.join(", "));
            self.refusals.push(Refusal::new(&self.source, 0, "", why));
        }
        if self.more_refusals > 0 {
            let why = format!("{} more records are refused, and not told one by one", self.more_refusals);
            self.refusals.push(Refusal::new(&self.source, 0, "", why));
        }
        self.refusals.sort_by_key(|refusal| refusal.line);
        let entries = parts.into_iter().map(|order| Entry { line: 0, seq: None, at: None, event: Event::Put(order) });
        let whole = Whole { terms: self.zone.terms.clone(), serial: serial.filter(|_| !self.is_broken) };
        Read {
            entries: entries.collect(),
            refusals: self.refusals,
            lines: self.records,
            zone: Some(whole),
            ..Read::default()
        }
    }

    /// The serial, if the file is a whole zone and not older than the last.
    fn check_whole(&mut self) -> Option<u32> {
        for unfit in self.context.check(&self.zone.terms) {
            self.broken(0, &unfit.text, unfit.why);
        }
        if self.is_broken {
            return None;
        }
        let serials: Vec<u32> = self.serials.iter().copied().collect();
        match serials[..] {
            [serial] => match self.zone.newest.as_ref().map_or(Ok(()), |newest| newest.check(serial)) {
                Ok(()) => return Some(serial),
                Err(why) => self.broken(0, "", why),
            },
            [] => {
                let why =
                    format!("there is no SOA record of {}: it is not the zone, or not all of it", self.zone.name());
                self.broken(0, "", why);
            }
            _ => self.broken(0, "", "there are SOA records with different serials: it is not one zone".to_owned()),
        }
        None
    }

    /// The parts of the order, each with a name at least.
    fn parts(&mut self) -> Vec<Order> {
        let mut told = Vec::new();
        let mut rows = std::mem::take(&mut self.rows);
        let owners = rows.owners(|line, key, why| told.push((line, owner::text(key), why)));
        let rules = Rules::new(&rows, &owners, |line, key, why| told.push((line, owner::text(key), why)));
        let mut parts = Vec::new();
        for (number, (stop, shape, Names { names, except })) in rules.into_parts().enumerate() {
            let mut names = sorted(names);
            if !self.zone.except.is_empty() {
                // What the operator leaves out, no rule further below brings back.
                names.retain(|name| !name.suffixes().any(|above| self.zone.except.contains(&above)));
            }
            if number >= MOST_PARTS {
                let first = names.first().map(Name::to_string).unwrap_or_default();
                let why = format!("a zone has at most {MOST_PARTS} kinds of rules, by action, address and reach");
                told.push((0, first, why));
            } else if !names.is_empty() {
                let except = sorted(except).union(&self.zone.except).cloned().collect();
                parts.push(Order { terms: Arc::new(part(&self.zone.terms, stop, shape)), names, except });
            }
        }
        self.is_rule_refused |= !told.is_empty();
        for (line, text, why) in told {
            self.refuse(u64::from(line), &text, why);
        }
        parts
    }

    fn refuse(&mut self, line: u64, text: &str, why: impl fmt::Display) {
        if self.refusals.len() < MOST_REFUSALS {
            self.refusals.push(Refusal::new(&self.source, line, text, why));
        } else {
            self.more_refusals += 1;
        }
    }

    /// Refuses the zone as a whole.
    fn broken(&mut self, line: u64, text: &str, why: String) {
        self.is_broken = true;
        self.refusals.push(Refusal::new(&self.source, line, text, format_args!("{why}; the order stays as it was")));
    }
}

/// The terms of a part.
fn part(whole: &Terms, stop: Stop, shape: Shape) -> Terms {
    let (action, address) = match stop {
        Stop::Nxdomain => (Action::Nxdomain, Address::default()),
        Stop::Nodata => (Action::Nodata, Address::default()),
        Stop::Drop => (Action::Drop, Address::default()),
        Stop::Address(address) => (Action::Address, address),
    };
    let (reach, word) = match shape {
        Shape::Exact => (Match::Exact, "exact"),
        Shape::Subtree => (Match::Subtree, "subtree"),
        Shape::Below => (Match::Below, "below"),
        Shape::BelowBelow => (Match::Below, "below-2"),
    };
    let mut id = format!("{}#{}", whole.id, action.word());
    let addresses = [address.a.map(|a| a.to_string()), address.aaaa.map(|aaaa| aaaa.to_string())];
    for address in addresses.into_iter().flatten() {
        id.push_str(&format!("-{address}"));
    }
    id.push_str(&format!("-{word}"));
    let mut actions = whole.actions.clone();
    actions.insert(Protocol::Dns, action);
    Terms { id, part_of: Some(whole.id.clone()), reach, address, actions, ..whole.clone() }
}

/// Octets that the id of a zone's order may have, so that those of its parts are none too long.
pub const MAX_ID: usize = 160;

/// Parts of a zone: each takes an order's place in the kernel's tables.
const MOST_PARTS: usize = 1024;

/// Refusals that are told one by one.
const MOST_REFUSALS: usize = 1000;

#[cfg(test)]
pub(crate) mod tests;
