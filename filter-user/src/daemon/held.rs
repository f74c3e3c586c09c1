//! What guards hold, for reports.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{
    book::{Held, ItemKind},
    control::api::{HeldChange, HeldName, HeldNames},
    feed::tickets::HeldAllow,
    order::Terms,
};

/// Names of each kind that a report shows where not all are asked for.
pub(super) const SHOWN: usize = 20;

/// A held change for reports, with so many names of each kind; `now` is the order as it is.
pub(super) fn held_change(held: &Held, now: Option<&Terms>, most: usize) -> HeldChange {
    let names = |kind: ItemKind| HeldNames {
        count: held.counts.get(kind as usize).copied().unwrap_or_default(),
        first: held
            .items
            .iter()
            .filter(|item| item.kind == kind)
            .take(most)
            .map(|item| HeldName { name: item.name.clone(), why: item.why.clone() })
            .collect(),
    };
    HeldChange {
        id: held.id.clone(),
        feed: held.feed.clone(),
        source: held.source.clone(),
        line: held.line,
        order: held.order.clone(),
        guard: held.guard.word().to_owned(),
        why: held.why.clone(),
        since: held.since,
        until: held.until,
        deadline: held.deadline,
        late: held.is_late(),
        rejected: held.rejected.as_ref().map(|(time, _)| *time),
        rejected_by: held.rejected.as_ref().map(|(_, by)| by.clone()),
        added: names(ItemKind::Added),
        removed: names(ItemKind::Removed),
        except_removed: names(ItemKind::ExceptRemoved),
        orders: names(ItemKind::Order),
        terms: held.terms.as_deref().map(|terms| changed_terms(now, terms)).unwrap_or_default(),
    }
}

/// What is held of a platform's allow list, for reports: names go from it.
pub(super) fn held_allow(allow: &HeldAllow, feed: &str, source: &Path, most: usize) -> HeldChange {
    let HeldAllow { id, guard, since, gone, before } = allow;
    let count = gone.len() as u64;
    let first = gone.iter().take(most).map(|name| HeldName { name: name.to_string(), why: String::new() });
    HeldChange {
        id: id.clone(),
        feed: feed.to_owned(),
        source: source.to_string_lossy().into_owned(),
        line: 0,
        order: String::new(),
        guard: guard.word().to_owned(),
        why: format!("{count} of {before} names left the platform's allow list at once; they are still not stopped"),
        since: *since,
        until: None,
        deadline: None,
        late: false,
        rejected: None,
        rejected_by: None,
        added: HeldNames::default(),
        removed: HeldNames { count, first: first.collect() },
        except_removed: HeldNames::default(),
        orders: HeldNames::default(),
        terms: BTreeMap::new(),
    }
}

/// What changes, by field. The end of an order is never held.
fn changed_terms(now: Option<&Terms>, then: &Terms) -> BTreeMap<String, (Value, Value)> {
    let fields = |terms: &Terms| match serde_json::to_value(terms) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (now, then) = (now.map(fields).unwrap_or_default(), fields(then));
    let mut changed = BTreeMap::new();
    for field in now.keys().chain(then.keys()).filter(|field| *field != "not_after") {
        let (before, after) = (now.get(field), then.get(field));
        if before != after {
            let value = |value: Option<&Value>| value.cloned().unwrap_or(Value::Null);
            changed.insert(field.clone(), (value(before), value(after)));
        }
    }
    changed
}

/// Logs what is held since now.
pub(super) fn log_held(held: &Held) {
    tracing::warn!("held: {}", held_change(held, None, 0).summary());
    if let Some(deadline) = held.deadline.filter(|_| held.is_late()) {
        tracing::error!("held change {} misses its deadline of {deadline} unless it is approved before", held.id);
    }
}
