//! An order as it is shown.

use jiff::Timestamp;
use serde_json::Value;

use super::{Keeper, actions, impossible, state};
use crate::{
    book::{Record, Stored},
    control::{
        api::{HistoryEntry, OrderDetail, OrderPart, OrderState},
        server::Failed,
    },
    feed::native,
    order::Order,
};

impl Keeper {
    /// One order with its history; of an order that is made of parts, what they have in common, and all their history.
    pub(super) fn order(&self, id: &str) -> Result<OrderDetail, Failed> {
        if let Some(stored) = self.book.order(id).map_err(impossible)? {
            return self.detail(stored);
        }
        let mut parts = Vec::new();
        for part in self.book.parts(id).map_err(impossible)? {
            parts.extend(self.book.order(&part).map_err(impossible)?);
        }
        // One in force tells more than one that is revoked.
        let Some(first) = parts.iter().find(|part| part.revoked.is_none()).or(parts.first()) else {
            return Err(Failed::NotFound(format!("the book has no order {id}")));
        };
        let mut whole = self.detail(first.clone())?;
        if let Some(order) = whole.order.as_object_mut() {
            for of_part in ["match", "names", "except", "address", "part_of"] {
                order.remove(of_part);
            }
            order.insert("id".to_owned(), id.into());
            if let Some(actions) = order.get_mut("actions").and_then(Value::as_object_mut) {
                actions.remove("dns");
            }
        }
        whole.history.clear();
        for part in &parts {
            let history = self.book.history(&part.order.terms.id).map_err(impossible)?;
            let entry = |record| HistoryEntry { part: Some(part.order.terms.id.clone()), ..history_entry(record) };
            whole.history.extend(history.into_iter().map(entry));
        }
        whole.history.sort_by_key(|entry| entry.number);
        whole.received = parts.iter().map(|part| part.received).max().unwrap_or(whole.received);
        whole.parts = parts.iter().map(part).collect();
        Ok(whole)
    }

    fn detail(&self, stored: Stored) -> Result<OrderDetail, Failed> {
        let history = self.book.history(&stored.order.terms.id).map_err(impossible)?;
        let state = state_of(&stored);
        let Stored { order, source, received, revoked } = stored;
        let order = json_of(&order)?;
        let history = history.into_iter().map(history_entry).collect();
        Ok(OrderDetail { order, state, source, received, revoked, history, parts: Vec::new() })
    }
}

/// The order as the native format has it.
fn json_of(order: &Order) -> Result<Value, Failed> {
    let mut line = Vec::new();
    native::write(&mut line, order).map_err(|error| Failed::Impossible(error.to_string()))?;
    let mut event: Value = serde_json::from_slice(&line).map_err(|error| Failed::Impossible(error.to_string()))?;
    Ok(event["order"].take())
}

fn part(stored: &Stored) -> OrderPart {
    let Order { terms, names, except } = &stored.order;
    OrderPart {
        id: terms.id.clone(),
        state: state_of(stored),
        actions: actions(terms),
        reach: terms.reach.word().to_owned(),
        names: names.len(),
        except: except.len(),
    }
}

fn state_of(stored: &Stored) -> OrderState {
    if stored.revoked.is_some() { OrderState::Revoked } else { state(&stored.order.terms, Timestamp::now()) }
}

fn history_entry(record: Record) -> HistoryEntry {
    let Record { number, time, source, line, op, detail, .. } = record;
    HistoryEntry { number, part: None, time, source, line, op, detail }
}
