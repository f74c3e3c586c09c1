//! One line of the native format, to one event.

use std::{collections::BTreeSet, fmt, str, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::super::{Context, Entry, Event};
use crate::{
    guard::Guarded,
    name::{
        Name,
        list::{NameList, sorted},
    },
    order::{
        Order, Unfit,
        json::{RawOrder, end, timestamp},
    },
};

/// What a line came to.
pub(super) struct Parsed {
    /// The event, or what is known of it.
    pub(super) subject: Subject,
    /// What was not taken: names, or all of it.
    pub(super) refused: Vec<Unfit>,
}

/// See [`Parsed`].
pub(super) enum Subject {
    /// A whole event; its line number is not set.
    Event(Entry),
    /// It would have put this order.
    RefusedPut(String),
    /// It would not have put an order.
    RefusedOther,
    /// It cannot be told what it would have done.
    Unknown,
}

/// A line as the JSON has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLine {
    op: String,
    order: RawSubject,
    names: Option<NameList>,
    not_after: Option<String>,
    why: Option<String>,
    seq: Option<u64>,
    at: Option<String>,
}

/// The order of a put, or the id of an order.
enum RawSubject {
    Order(Box<RawOrder>),
    Id(String),
}

/// As much of a refused line as tells which order it would have put.
#[derive(Deserialize)]
struct Probe {
    order: ProbeSubject,
}

enum ProbeSubject {
    Order(Option<String>),
    Id,
}

/// Parses one line, which is not blank.
pub(super) fn parse(octets: &[u8], context: &Context, guarded: Guarded<'_>) -> Parsed {
    let text = match str::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let why = format!("not UTF-8 at octet {} of the line", at + 1);
            return Parsed {
                subject: Subject::Unknown,
                refused: vec![Unfit { text: excerpt_around(octets, at), why }],
            };
        }
    };
    let (text, marked) = text.strip_prefix('\u{feff}').map_or((text, false), |rest| (rest, true));
    let mut refused = Vec::new();
    let event = if marked {
        Err(vec![unfit("\u{feff}", "begins with a byte order mark; write UTF-8 without one")])
    } else {
        event(text, context, guarded, &mut refused)
    };
    let subject = match event {
        Ok(entry) => Subject::Event(entry),
        Err(why) => {
            refused.extend(why);
            probe(text)
        }
    };
    Parsed { subject, refused }
}

/// The event, or why it is refused as a whole. Rows that are refused alone go to `rows`.
fn event(text: &str, context: &Context, guarded: Guarded<'_>, rows: &mut Vec<Unfit>) -> Result<Entry, Vec<Unfit>> {
    let raw: RawLine = serde_json::from_str(text).map_err(|error| vec![not_a_line(text, &error)])?;
    raw.check_fields()?;
    let RawLine { op, order, names, not_after, why, seq, at } = raw;
    let at = at.as_deref().map(timestamp).transpose().map_err(|error| vec![error])?;
    let event = match (op.as_str(), order) {
        ("put", RawSubject::Order(order)) => Event::Put(put(*order, context, guarded, rows)?),
        ("add", RawSubject::Id(order)) => Event::Add { order, names: admitted(names, Some(guarded), rows)? },
        ("remove", RawSubject::Id(order)) => Event::Remove { order, names: admitted(names, None, rows)? },
        ("extend", RawSubject::Id(order)) => {
            let not_after = not_after.ok_or_else(|| vec![unfit("", "`not_after` is missing")])?;
            Event::Extend { order, not_after: end(&not_after).map_err(|error| vec![error])? }
        }
        ("revoke", RawSubject::Id(order)) => Event::Revoke { order, why: why.unwrap_or_default() },
        (_, RawSubject::Id(id)) => return Err(vec![unfit(&id, "`put` needs the whole order, not its id")]),
        (_, RawSubject::Order(order)) => {
            return Err(vec![unfit(order.id(), &format!("`{op}` needs the id of the order, not the order"))]);
        }
    };
    Ok(Entry { line: 0, seq, at, event })
}

impl RawLine {
    /// Refuses an unknown `op`, and fields that belong to another one.
    fn check_fields(&self) -> Result<(), Vec<Unfit>> {
        if !["put", "add", "remove", "extend", "revoke"].contains(&self.op.as_str()) {
            return Err(vec![unfit(&self.op, "unknown `op`; known: put add remove extend revoke")]);
        }
        let fields = [
            ("names", self.names.is_some(), matches!(self.op.as_str(), "add" | "remove")),
            ("not_after", self.not_after.is_some(), self.op == "extend"),
            ("why", self.why.is_some(), self.op == "revoke"),
        ];
        let strange: Vec<_> = fields
            .into_iter()
            .filter(|(_, given, belongs)| *given && !belongs)
            .map(|(field, ..)| unfit(field, &format!("unknown field of `{}`", self.op)))
            .collect();
        if strange.is_empty() { Ok(()) } else { Err(strange) }
    }
}

fn put(mut raw: RawOrder, context: &Context, guarded: Guarded<'_>, rows: &mut Vec<Unfit>) -> Result<Order, Vec<Unfit>> {
    let mut wrong = Vec::new();
    let terms = raw.terms().map_err(|errors| wrong.extend(errors)).ok();
    wrong.extend(terms.iter().flat_map(|terms| context.check(terms)));
    let names = admitted(raw.names.take(), Some(guarded), rows).map_err(|errors| wrong.extend(errors)).ok();
    let except = raw.except.take().unwrap_or_default();
    for row in except.refused {
        let why = row.error.map_or_else(|| "is not a string".to_owned(), |error| error.to_string());
        let why = format!("in `except`: {why}; the order is refused, since it would reach further without it");
        wrong.push(Unfit { text: row.text, why });
    }
    match (terms, names) {
        (Some(terms), Some(names)) if wrong.is_empty() => {
            Ok(Order { terms: Arc::new(terms), names, except: except.names.into_iter().collect() })
        }
        _ => Err(wrong),
    }
}

/// The names of a list that may be taken, at least one. `guarded` is `None` where names are taken out of an order.
fn admitted(
    list: Option<NameList>,
    guarded: Option<Guarded<'_>>,
    rows: &mut Vec<Unfit>,
) -> Result<BTreeSet<Name>, Vec<Unfit>> {
    let NameList { mut names, refused } = list.ok_or_else(|| vec![unfit("", "`names` is missing")])?;
    if names.is_empty() && refused.is_empty() {
        return Err(vec![unfit("", "`names` is empty")]);
    }
    for row in refused {
        let why = row.error.map_or_else(|| "is not a string".to_owned(), |error| error.to_string());
        rows.push(Unfit { text: row.text, why });
    }
    if let Some(guarded) = guarded {
        names.retain(|name| match guarded.check(name) {
            Ok(()) => true,
            Err(why) => {
                rows.push(unfit(name.as_str(), &why.to_string()));
                false
            }
        });
    }
    if names.is_empty() {
        return Err(vec![unfit("", "no name is left")]);
    }
    Ok(sorted(names))
}

fn probe(text: &str) -> Subject {
    match serde_json::from_str(text) {
        Ok(Probe { order: ProbeSubject::Order(Some(id)) }) => Subject::RefusedPut(id),
        Ok(Probe { order: ProbeSubject::Id }) => Subject::RefusedOther,
        Ok(Probe { order: ProbeSubject::Order(None) }) | Err(_) => Subject::Unknown,
    }
}

impl<'de> Deserialize<'de> for RawSubject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Subject;
        impl<'de> Visitor<'de> for Subject {
            type Value = RawSubject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an order or the id of one")
            }

            fn visit_str<E>(self, id: &str) -> Result<RawSubject, E> {
                Ok(RawSubject::Id(id.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSubject, A::Error> {
                RawOrder::deserialize(MapAccessDeserializer::new(map)).map(|order| RawSubject::Order(Box::new(order)))
            }
        }
        deserializer.deserialize_any(Subject)
    }
}

impl<'de> Deserialize<'de> for ProbeSubject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Subject;
        impl<'de> Visitor<'de> for Subject {
            type Value = ProbeSubject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an order or the id of one")
            }

            fn visit_str<E>(self, _: &str) -> Result<ProbeSubject, E> {
                Ok(ProbeSubject::Id)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProbeSubject, A::Error> {
                let mut id = None;
                let mut doubled = false;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "id" {
                        doubled |= id.is_some();
                        id = Some(map.next_value::<String>()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(ProbeSubject::Order(id.filter(|_| !doubled)))
            }
        }
        deserializer.deserialize_any(Subject)
    }
}

/// What serde says, with its place in the line.
fn not_a_line(text: &str, error: &serde_json::Error) -> Unfit {
    // serde ends its message in its own line number, which is always 1 here.
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    let column = error.column();
    Unfit {
        text: excerpt_around(text.as_bytes(), column.saturating_sub(1)),
        why: format!("{message} at octet {column} of the line"),
    }
}

/// What stands around an octet.
fn excerpt_around(octets: &[u8], at: usize) -> String {
    let from = at.saturating_sub(AROUND).min(octets.len());
    let to = at.saturating_add(AROUND).min(octets.len());
    let text = String::from_utf8_lossy(octets.get(from..to).unwrap_or_default());
    // A character that the cut went through.
    if from > 0 { text.trim_start_matches('\u{fffd}').to_owned() } else { text.into_owned() }
}

fn unfit(text: &str, why: &str) -> Unfit {
    Unfit { text: text.to_owned(), why: why.to_owned() }
}

/// Octets before and after a mistake that its report shows.
const AROUND: usize = 30;
