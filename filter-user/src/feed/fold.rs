//! What the events of one file make of one order.

use std::{collections::BTreeSet, sync::Arc};

use super::{Entry, Event, Refusal};
use crate::{
    name::Name,
    order::{Order, Unfit},
};

/// See [`fold`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Folded {
    /// The file puts the order, as its last put and what follows that say.
    Put {
        /// The order.
        order: Order,
        /// The last put, as if it had been empty.
        place: Place,
        /// Names that events after it took out.
        removed: BTreeSet<Name>,
    },
    /// The file puts the order and revokes it.
    Revoked {
        /// The order.
        order: Order,
        /// The revoke.
        place: Place,
        /// Its reason.
        why: String,
    },
    /// The file does not put the order: these are to be applied to the book's.
    Events(Vec<Entry>),
}

/// Where an event stood: an [`Entry`] without its event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) seq: Option<u64>,
    pub(crate) at: Option<jiff::Timestamp>,
}

impl Entry {
    pub(crate) fn place(&self) -> Place {
        Place { line: self.line, seq: self.seq, at: self.at }
    }
}

/// Folds the events about one order, in the order of the lines. What stands before the last put counts for nothing.
pub(crate) fn fold(file: &Arc<str>, mut entries: Vec<Entry>, refusals: &mut Vec<Refusal>) -> Folded {
    let last = entries.iter().rposition(|entry| matches!(entry.event, Event::Put(_)));
    let mut rest = entries.split_off(last.unwrap_or(entries.len())).into_iter();
    let (place, mut order) = match rest.next().map(|entry| (entry.place(), entry.event)) {
        Some((place, Event::Put(order))) => (place, order),
        _ => return Folded::Events(entries),
    };
    let mut revoked: Option<(Place, String)> = None;
    let mut removed = BTreeSet::new();
    for entry in rest {
        let place = entry.place();
        let result = match (entry.event, &revoked) {
            (Event::Revoke { why, .. }, None) => {
                revoked = Some((place, why));
                Ok(())
            }
            (Event::Revoke { .. }, Some(_)) => Ok(()),
            (_, Some((revoke, _))) => Err(unfit(format!("line {} revokes the order", revoke.line))),
            (event, None) => edit(&mut order, event, &mut removed),
        };
        if let Err(unfit) = result {
            refusals.push(Refusal::new(file, place.line, &order.terms.id, unfit));
        }
    }
    match revoked {
        Some((place, why)) => Folded::Revoked { order, place, why },
        None => Folded::Put { order, place, removed },
    }
}

fn edit(order: &mut Order, event: Event, removed: &mut BTreeSet<Name>) -> Result<(), Unfit> {
    match event {
        Event::Add { names, .. } => order.names.extend(names),
        Event::Remove { names, .. } => {
            names.iter().for_each(|name| _ = order.names.remove(name));
            removed.extend(names);
        }
        Event::Extend { not_after, .. } => order.terms = Arc::new(order.terms.extended(not_after)?),
        Event::Put(_) | Event::Revoke { .. } => {}
    }
    Ok(())
}

fn unfit(why: String) -> Unfit {
    Unfit { text: String::new(), why }
}
