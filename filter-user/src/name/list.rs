//! The names of an order, read from JSON one by one: a row that is no name is told, and loses no other.

use std::{collections::BTreeSet, fmt, hint::black_box};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Name, NameError};
use crate::many;

/// A list of names, and what in it was none.
#[derive(Debug, Default)]
pub(crate) struct NameList {
    /// The names, in their order, doubles too.
    pub(crate) names: Vec<Name>,
    /// The other rows.
    pub(crate) refused: Vec<RefusedRow>,
}

/// A row that is no name.
#[derive(Debug)]
pub(crate) struct RefusedRow {
    /// What stood there, its beginning; empty if it was no string.
    pub(crate) text: String,
    /// `None`: it was no string.
    pub(crate) error: Option<NameError>,
}

struct Row(Result<Name, RefusedRow>);

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = NameList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<NameList, A::Error> {
                let mut list = NameList::default();
                while let Some(Row(row)) = rows.next_element()? {
                    match row {
                        Ok(name) => list.names.push(name),
                        Err(refused) => list.refused.push(refused),
                    }
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(Rows)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneRow;

        const NO_STRING: Row = Row(Err(RefusedRow { text: String::new(), error: None }));

        impl<'de> Visitor<'de> for OneRow {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Row, E> {
                Ok(Row(Name::parse(text).map_err(|error| RefusedRow { text: beginning(text), error: Some(error) })))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Row, E> {
                Ok(NO_STRING)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Row, E> {
                Ok(NO_STRING)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Row, E> {
                Ok(NO_STRING)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Row, E> {
                Ok(NO_STRING)
            }

            fn visit_unit<E>(self) -> Result<Row, E> {
                Ok(NO_STRING)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Row, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(NO_STRING)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(NO_STRING)
            }
        }
        deserializer.deserialize_any(OneRow)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The names as a set. To sort them they are compared by their first octets, which lie beside each other in memory;
/// to look each name up where it lies costs a cache miss a comparison. For the same reason they are copied in order: they
/// are gone through several times, and then lie one behind the other.
pub(crate) fn sorted(names: Vec<Name>) -> BTreeSet<Name> {
    let mut keyed = many::map(&names, |name| (beginning_key(name), name));
    many::sort(&mut keyed);
    let copied = many::parts(&keyed, |part| {
        let batches = part.chunks(BATCH).flat_map(|batch| {
            // So that the processor waits for all of them at once.
            batch.iter().for_each(|(_, name)| _ = black_box(name.as_str().as_bytes().first()));
            batch.iter().map(|(_, name)| (*name).clone())
        });
        batches.collect()
    });
    copied.into_iter().flatten().collect()
}

/// Names that are fetched together.
const BATCH: usize = 32;

/// Compares as the name does, as far as it goes.
fn beginning_key(name: &Name) -> u128 {
    name.as_str().bytes().chain(std::iter::repeat(0)).take(16).fold(0, |key, octet| key << 8 | u128::from(octet))
}

/// As much of a text as a report can want.
fn beginning(text: &str) -> String {
    text.chars().take(BEGINNING).collect()
}

/// Characters that are kept of a row that is no name: more than a name has.
const BEGINNING: usize = 256;
