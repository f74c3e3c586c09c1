//! The JSON of an order, in and out. Whatever is wrong is collected, so that one reading tells every mistake.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use filter_common::verdict::{Action, Protocol};
use jiff::{Timestamp, civil::Date};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{Address, Match, Order, Terms, Unfit};
use crate::name::{Name, list::NameList};

/// An order as the JSON has it: the shape is checked, the content is not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOrder {
    /// Where it is missing it is refused with the other mistakes.
    #[serde(default)]
    id: String,
    issuer: String,
    basis: String,
    reference: String,
    issued: String,
    not_before: String,
    not_after: String,
    protocols: Vec<String>,
    actions: RawActions,
    scopes: Vec<String>,
    #[serde(rename = "match")]
    reach: Option<String>,
    pub(crate) names: Option<NameList>,
    pub(crate) except: Option<NameList>,
    ede: Option<u16>,
    address: Option<RawAddress>,
    redirect: Option<String>,
    insist_nxdomain: Option<bool>,
    part_of: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAddress {
    a: Option<String>,
    aaaa: Option<String>,
}

/// Pairs of protocol and action; no protocol twice.
struct RawActions(Vec<(String, String)>);

/// An order to be written. Without names it is what the book keeps as terms.
#[derive(Serialize)]
struct OrderOut<'a> {
    id: &'a str,
    issuer: &'a str,
    basis: &'a str,
    reference: &'a str,
    issued: Date,
    not_before: Timestamp,
    not_after: String,
    protocols: Vec<&'static str>,
    actions: BTreeMap<&'static str, &'static str>,
    scopes: &'a BTreeSet<String>,
    #[serde(rename = "match")]
    reach: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a BTreeSet<Name>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    except: Option<&'a BTreeSet<Name>>,
    ede: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<AddressOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insist_nxdomain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_of: Option<&'a str>,
}

#[derive(Serialize)]
struct AddressOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aaaa: Option<Ipv6Addr>,
}

impl RawOrder {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn set_id(&mut self, id: String) {
        self.id = id;
    }

    /// The terms, if they hold together; else every mistake in them.
    pub(crate) fn terms(&self) -> Result<Terms, Vec<Unfit>> {
        let mut wrong = Vec::new();
        check_id(&self.id, &mut wrong);
        for (field, text) in [("issuer", &self.issuer), ("basis", &self.basis), ("reference", &self.reference)] {
            check_text(field, text, &mut wrong);
        }
        if self.issuer.is_empty() {
            wrong.push(unfit("", "`issuer` is empty"));
        }
        let issued = date(&self.issued).unwrap_or_else(|error| default(error, &mut wrong));
        let not_before = timestamp(&self.not_before);
        let not_after = end(&self.not_after);
        if let (Ok(start), Ok(Some(end))) = (&not_before, &not_after)
            && end <= start
        {
            wrong.push(unfit(&self.not_after, &format!("`not_after` is not after `not_before`, {start}")));
        }
        let actions = self.actions(&mut wrong);
        let scopes: BTreeSet<String> = self.scopes.iter().cloned().collect();
        if scopes.is_empty() {
            wrong.push(unfit("", "`scopes` is empty; \"all\" is every client"));
        }
        scopes.iter().for_each(|scope| check_text("scopes", scope, &mut wrong));
        let reach = match self.reach.as_deref().map(|word| (word, Match::from_word(word))) {
            Some((_, Some(reach))) => reach,
            Some((word, None)) => {
                wrong.push(unfit(word, "unknown `match`; known: exact subtree below"));
                Match::Exact
            }
            None => {
                wrong.push(unfit("", "missing field `match`"));
                Match::Exact
            }
        };
        let ede = self.ede.unwrap_or(DEFAULT_EDE);
        if !(15..=17).contains(&ede) {
            wrong.push(unfit(&ede.to_string(), "`ede` is not 15, 16 or 17 (RFC 8914)"));
        }
        let address = self.address(&actions, &mut wrong);
        let redirect = self.redirect(&actions, &mut wrong);
        if let Some(whole) = &self.part_of
            && !self.id.strip_prefix(whole.as_str()).is_some_and(|rest| rest.len() > 1 && rest.starts_with('#'))
        {
            wrong.push(unfit(whole, "`part_of` is not what stands before a # in the order's id"));
        }
        let not_before = not_before.unwrap_or_else(|error| default(error, &mut wrong));
        let not_after = not_after.unwrap_or_else(|error| default(error, &mut wrong));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Terms {
            id: self.id.clone(),
            issuer: self.issuer.clone(),
            basis: self.basis.clone(),
            reference: self.reference.clone(),
            issued,
            not_before,
            not_after,
            actions,
            scopes,
            reach,
            ede,
            address,
            redirect,
            insist_nxdomain: self.insist_nxdomain.unwrap_or(false),
            part_of: self.part_of.clone(),
        })
    }

    /// The terms of an order whose names, and what is done with DNS queries for them, come from a response policy
    /// zone: DNS has the action drop in them, until the zone says another.
    pub(crate) fn zone_terms(mut self) -> Result<Terms, Vec<Unfit>> {
        let mut wrong = Vec::new();
        let dns = Protocol::Dns.word();
        if self.reach.is_some() {
            wrong.push(unfit("match", "the zone says how far each of its rules reaches"));
        }
        if self.address.is_some() {
            wrong.push(unfit("address", "the zone gives the addresses"));
        }
        if self.part_of.is_some() {
            wrong.push(unfit("part_of", "the parts of the order are made from the zone"));
        }
        if self.actions.0.iter().any(|(protocol, _)| protocol == dns) {
            wrong.push(unfit(
                dns,
                "the zone says what is done with DNS queries: `actions` has the other protocols only",
            ));
        }
        if !self.protocols.iter().any(|protocol| protocol == dns) {
            wrong.push(unfit("protocols", "the zone says what is done with DNS queries, so `protocols` holds dns"));
        }
        self.reach = Some(Match::Exact.word().to_owned());
        self.actions.0.push((dns.to_owned(), Action::Drop.word().to_owned()));
        match self.terms() {
            Ok(terms) if wrong.is_empty() => Ok(terms),
            Ok(_) => Err(wrong),
            Err(more) => {
                // Without these, what is filled in here would be reported as the operator's.
                if wrong.is_empty() { Err(more) } else { Err(wrong) }
            }
        }
    }

    /// Every protocol has an action, and every action a protocol.
    fn actions(&self, wrong: &mut Vec<Unfit>) -> BTreeMap<Protocol, Action> {
        let mut actions = BTreeMap::new();
        if self.protocols.is_empty() {
            wrong.push(unfit("", "`protocols` is empty"));
        }
        for word in &self.protocols {
            if protocol(word).is_none() {
                wrong.push(unfit(word, "unknown protocol; known: dns tls quic"));
            } else if !self.actions.0.iter().any(|(protocol, _)| protocol == word) {
                wrong.push(unfit(word, "this protocol has no action in `actions`"));
            }
        }
        for (protocol_word, action_word) in &self.actions.0 {
            let action = Action::ALL.into_iter().find(|action| action.word() == action_word);
            match (protocol(protocol_word), action) {
                (None, _) => wrong.push(unfit(protocol_word, "unknown protocol in `actions`; known: dns tls quic")),
                (_, None) => wrong.push(unfit(
                    action_word,
                    "unknown action; known: observe redirect address refused nodata nxdomain reset drop",
                )),
                (Some(_), Some(_)) if !self.protocols.contains(protocol_word) => {
                    wrong.push(unfit(protocol_word, "this protocol has an action, but is not in `protocols`"));
                }
                (Some(protocol), Some(action)) => _ = actions.insert(protocol, action),
            }
        }
        actions
    }

    fn address(&self, actions: &BTreeMap<Protocol, Action>, wrong: &mut Vec<Unfit>) -> Address {
        let needed = actions.values().any(|action| *action == Action::Address);
        let Some(raw) = &self.address else {
            if needed {
                wrong.push(unfit("address", "the action `address` needs \"address\":{\"a\":...,\"aaaa\":...}"));
            }
            return Address::default();
        };
        if !needed {
            wrong.push(unfit("address", "`address` is given, but no action is `address`"));
        }
        if raw.a.is_none() && raw.aaaa.is_none() {
            wrong.push(unfit("address", "`address` has neither `a` nor `aaaa`"));
        }
        Address {
            a: parsed(raw.a.as_deref(), "`a` is not an IPv4 address", wrong),
            aaaa: parsed(raw.aaaa.as_deref(), "`aaaa` is not an IPv6 address", wrong),
        }
    }

    fn redirect(&self, actions: &BTreeMap<Protocol, Action>, wrong: &mut Vec<Unfit>) -> Option<String> {
        let needed = actions.values().any(|action| *action == Action::Redirect);
        match &self.redirect {
            None if needed => wrong.push(unfit("redirect", "the action `redirect` needs \"redirect\":\"NAME\"")),
            Some(target) if !needed => {
                wrong.push(unfit(target, "`redirect` is given, but no action is `redirect`"));
            }
            _ => {}
        }
        self.redirect.clone()
    }
}

impl<'a> OrderOut<'a> {
    /// All but the names.
    fn terms(terms: &'a Terms) -> Self {
        Self {
            id: &terms.id,
            issuer: &terms.issuer,
            basis: &terms.basis,
            reference: &terms.reference,
            issued: terms.issued,
            not_before: terms.not_before,
            not_after: terms.not_after.map_or_else(|| NO_END.to_owned(), |end| end.to_string()),
            protocols: terms.actions.keys().map(|protocol| protocol.word()).collect(),
            actions: terms.actions.iter().map(|(protocol, action)| (protocol.word(), action.word())).collect(),
            scopes: &terms.scopes,
            reach: terms.reach.word(),
            names: None,
            except: None,
            ede: terms.ede,
            address: (terms.address != Address::default())
                .then_some(AddressOut { a: terms.address.a, aaaa: terms.address.aaaa }),
            redirect: terms.redirect.as_deref(),
            insist_nxdomain: terms.insist_nxdomain,
            part_of: terms.part_of.as_deref(),
        }
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OrderOut { names: Some(&self.names), except: Some(&self.except), ..OrderOut::terms(&self.terms) }
            .serialize(serializer)
    }
}

impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OrderOut::terms(self).serialize(serializer)
    }
}

impl Match {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Subtree, Self::Below];

    /// The word that orders use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Subtree => "subtree",
            Self::Below => "below",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reach| reach.word() == word)
    }
}

impl<'de> Deserialize<'de> for RawActions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = RawActions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from protocol to action")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawActions, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some((protocol, action)) = map.next_entry()? {
                    if pairs.iter().any(|(known, _)| *known == protocol) {
                        return Err(A::Error::custom(format_args!("duplicate field `{protocol}`")));
                    }
                    pairs.push((protocol, action));
                }
                Ok(RawActions(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The end of an order: a time or `"none"`.
pub(crate) fn end(text: &str) -> Result<Option<Timestamp>, Unfit> {
    if text == NO_END { Ok(None) } else { timestamp(text).map(Some) }
}

/// A time by RFC 3339 5.6, not before 1970.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, Unfit> {
    let form = |text: &str| {
        let (date, rest) = text.split_at_checked(10)?;
        let (time, rest) = rest.split_at_checked(9)?;
        let fits = has_form(date, "dddd-dd-dd") && (has_form(time, "Tdd:dd:dd") || has_form(time, "tdd:dd:dd"));
        let rest = match rest.strip_prefix('.') {
            Some(fraction) => {
                let zone = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
                (zone.len() < fraction.len()).then_some(zone)?
            }
            None => rest,
        };
        (fits && (matches!(rest, "Z" | "z") || has_form(rest, "+dd:dd") || has_form(rest, "-dd:dd"))).then_some(())
    };
    form(text)
        .and_then(|()| Timestamp::from_str(text).ok())
        .filter(|time| *time >= Timestamp::UNIX_EPOCH)
        .ok_or_else(|| unfit(text, "is not a time since 1970 by RFC 3339, as 2025-03-28T00:00:00Z is"))
}

/// A date by RFC 3339 5.6, full-date.
fn date(text: &str) -> Result<Date, Unfit> {
    has_form(text, "dddd-dd-dd")
        .then(|| Date::from_str(text).ok())
        .flatten()
        .ok_or_else(|| unfit(text, "is not a date, as 2025-03-28 is"))
}

/// Whether `text` is `form`, in which `d` stands for a digit.
fn has_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(octet, form)| match form {
            b'd' => octet.is_ascii_digit(),
            _ => octet == form,
        })
}

fn check_id(id: &str, wrong: &mut Vec<Unfit>) {
    check_text("id", id, wrong);
    if id.is_empty() || id.len() > MAX_ID {
        wrong.push(unfit(id, &format!("an order id has 1 to {MAX_ID} octets")));
    }
    if id.trim() != id {
        wrong.push(unfit(id, "an order id neither begins nor ends with a space"));
    }
}

fn check_text(field: &str, text: &str, wrong: &mut Vec<Unfit>) {
    if text.contains(char::is_control) {
        wrong.push(unfit(text, &format!("`{field}` holds a control character")));
    }
}

fn parsed<T: FromStr>(text: Option<&str>, why: &str, wrong: &mut Vec<Unfit>) -> Option<T> {
    let text = text?;
    text.parse().map_err(|_| wrong.push(unfit(text, why))).ok()
}

fn protocol(word: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.word() == word)
}

/// Notes what is wrong; the value is never used then.
fn default<T: Default>(error: Unfit, wrong: &mut Vec<Unfit>) -> T {
    wrong.push(error);
    T::default()
}

fn unfit(text: &str, why: &str) -> Unfit {
    Unfit { text: text.to_owned(), why: why.to_owned() }
}

/// Censored (RFC 8914 4.17).
const DEFAULT_EDE: u16 = 16;

const MAX_ID: usize = 255;

const NO_END: &str = "none";
