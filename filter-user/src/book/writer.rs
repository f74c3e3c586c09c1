//! One transaction on the book.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use rusqlite::Transaction;
use serde_json::{Map, Value, json};

use super::{
    Ahead, Applied, BookError, Change, Delta, Outcome, What,
    chain::{self, Head, Link, listed},
    guarded::{Admitted, Hold, widens},
    held::Held,
    refused::Told,
    rows::{self, Kind, OrderRow},
    zone::Group,
};
use crate::{
    feed::{Event, Refusal, fold::Place},
    guard::Guards,
    name::Name,
    order::{Order, Terms},
};

/// Writes to the book, and notes what came of it.
pub(super) struct Writer<'a> {
    pub(super) transaction: Transaction<'a>,
    /// Orders that the source that put them puts no longer.
    pub(super) dropped: HashSet<String>,
    pub(super) guards: &'a Guards,
    /// Orders to which this reading adds more than the growth limit lets in: how many names, and how many there were.
    pub(super) overgrown: HashMap<String, (u64, u64)>,
    /// The zone whose parts are being put.
    pub(super) group: Option<Group>,
    /// What the guards have held and [`Writer::write_holds`] is to write.
    pub(super) holds: Vec<Hold>,
    pub(super) now: Timestamp,
    /// What each entry says of who gave the events, or when they arrived, as fields.
    by: Map<String, Value>,
    applied: Applied,
    /// What was told of refused rows.
    pub(super) told: &'a mut Told,
    /// The last entry of the history, once this has written one: nobody else writes in the meantime.
    last: Option<Head>,
}

/// Who gave an event, and where it stood.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) source: Arc<str>,
    pub(super) place: Place,
}

impl<'a> Writer<'a> {
    /// Begins.
    pub(super) fn open(transaction: Transaction<'a>, guards: &'a Guards, told: &'a mut Told) -> Self {
        Self {
            transaction,
            dropped: HashSet::new(),
            guards,
            overgrown: HashMap::new(),
            group: None,
            holds: Vec::new(),
            now: Timestamp::now(),
            by: Map::new(),
            applied: Applied::default(),
            told,
            last: None,
        }
    }

    /// Has each entry say who gave the events.
    pub(super) fn by(mut self, by: &Value) -> Self {
        self.by = by.as_object().cloned().unwrap_or_default();
        self
    }

    /// Has each entry say when what it is about was looked at: to read much takes time.
    pub(super) fn arrived(&mut self, looked: Option<Instant>) {
        self.by.clear();
        if let Some(arrived) = looked.and_then(|looked| Timestamp::now().checked_sub(looked.elapsed()).ok()) {
            self.by.insert("arrived".to_owned(), json!(format!("{arrived:.6}")));
        }
    }

    /// Makes it last.
    pub(super) fn commit(self, ahead: &mut Ahead) -> Result<Applied, BookError> {
        if let Ahead(Some(tell)) = ahead {
            let mut ended = BTreeMap::new();
            for change in &self.applied.changes {
                match change {
                    Change::Revoke { id } => _ = ended.insert(id, true),
                    // It is back in the same breath.
                    Change::Put(order) => _ = ended.insert(&order.terms.id, false),
                    Change::Edit { .. } => {}
                }
            }
            tell(ended.into_iter().filter(|(_, ends)| *ends).map(|(id, _)| id.clone()).collect());
        }
        self.transaction.commit()?;
        Ok(self.applied)
    }

    /// Applies an event. `false`: it was refused.
    pub(super) fn event(&mut self, origin: &Origin, event: Event) -> Result<bool, BookError> {
        match event {
            Event::Put(order) => self.put(origin, order, &BTreeSet::new()),
            Event::Add { order, names } => self.names(origin, "add", &order, &names, &BTreeSet::new()),
            Event::Remove { order, names } => self.names(origin, "remove", &order, &BTreeSet::new(), &names),
            Event::Extend { order, not_after } => {
                self.each_part(&order, |writer, id| writer.extend(origin, id, not_after))
            }
            Event::Revoke { order, why } => self.each_part(&order, |writer, id| writer.revoke(origin, id, &why)),
        }
    }

    /// Does something with an order, and with each part of it that is not revoked.
    fn each_part(
        &mut self,
        id: &str,
        mut each: impl FnMut(&mut Self, &str) -> Result<bool, BookError>,
    ) -> Result<bool, BookError> {
        let mut ids = Vec::new();
        for part in rows::parts(&self.transaction, id)? {
            ids.extend(self.part(&part)?.map(|row| row.terms.id.clone()));
        }
        if ids.is_empty() || self.part(id)?.is_some() {
            ids.push(id.to_owned());
        }
        ids.iter().try_fold(true, |all, id| Ok(each(self, id)? && all))
    }

    /// The order becomes this, as far as the guards let it. They do not hold that names go which were `removed` by an
    /// event.
    pub(super) fn put(&mut self, origin: &Origin, order: Order, removed: &BTreeSet<Name>) -> Result<bool, BookError> {
        match OrderRow::find(&self.transaction, &order.terms.id)? {
            Some(known) if known.revoked.is_none() => self.change(origin, &known, &order, removed),
            known => self.begin(origin, known, order),
        }
    }

    /// Puts an order that is new, or was revoked.
    fn begin(&mut self, origin: &Origin, known: Option<OrderRow>, mut order: Order) -> Result<bool, BookError> {
        let terms = order.terms.clone();
        let id = terms.id.as_str();
        if !self.screen_new(origin, &mut order) {
            return self.refuse(origin, id, "no name is left");
        }
        if let Some(known) = known {
            let names = self.difference(known.number, Kind::Listed, &order.names)?;
            let except = self.difference(known.number, Kind::Except, &order.except)?;
            let other_terms = (known.terms != terms).then(|| terms.clone());
            let stops_more = !names.added.is_empty() || !except.removed.is_empty() || widens(&known.terms, &terms);
            let is_anew = self.group.as_ref().is_some_and(|group| group.says_anew);
            let is_of_file = origin.source.starts_with('/');
            if !stops_more && !is_anew && is_of_file && rows::revoked_by_operator(&self.transaction, id)? {
                // A file may say another time what the operator revoked, or less; to revive it, it must say more.
                self.holds.clear();
                self.tell(origin, id, What::Unchanged);
                return Ok(true);
            }
            self.write_change(origin, &known, &terms, &Admitted { terms: other_terms, names, except })?;
        } else {
            let number = rows::write_order(&self.transaction, &origin.source, &terms, self.now, None)?;
            rows::write_names(&self.transaction, number, Kind::Listed, &order.names, [])?;
            rows::write_names(&self.transaction, number, Kind::Except, &order.except, [])?;
            let (names, except) = (listed(order.names.iter()), listed(order.except.iter()));
            let detail = json!({"terms": order.terms, "names": {"added": names}, "except": {"added": except}});
            self.record(origin, "put", id, detail)?;
        }
        self.tell(origin, id, What::New);
        self.applied.changes.push(Change::Put(order));
        Ok(true)
    }

    /// Changes an order that is in force or waits for its time.
    fn change(
        &mut self,
        origin: &Origin,
        known: &OrderRow,
        order: &Order,
        removed: &BTreeSet<Name>,
    ) -> Result<bool, BookError> {
        let id = order.terms.id.as_str();
        let Some(admitted) = self.screen_change(origin, known, order, removed)? else {
            self.holds.clear();
            return self.refuse(origin, id, "no name is left");
        };
        self.admit(origin, known, admitted)
    }

    /// Makes a change of an order that the guards let through.
    pub(super) fn admit(&mut self, origin: &Origin, known: &OrderRow, admitted: Admitted) -> Result<bool, BookError> {
        let id = known.terms.id.as_str();
        let Admitted { terms, names, except } = &admitted;
        let same = names.is_empty() && except.is_empty() && terms.is_none();
        if known.source != *origin.source && !self.dropped.contains(id) {
            let same = same && self.is_held_of(&known.source, id)?;
            self.holds.clear();
            if !same {
                let why = format_args!("the order belongs to {}, and differs there", known.source);
                return self.refuse(origin, id, why);
            }
        }
        if same {
            self.tell(origin, id, What::Unchanged);
            return Ok(true);
        }
        self.write_change(origin, known, terms.as_ref().unwrap_or(&known.terms), &admitted)?;
        self.prune(id, known.number)?;
        self.tell(origin, id, What::Changed);
        let Admitted { terms, names, except } = admitted;
        self.push(Change::Edit { id: id.to_owned(), terms, names, except });
        Ok(true)
    }

    fn write_change(
        &mut self,
        origin: &Origin,
        known: &OrderRow,
        terms: &Terms,
        admitted: &Admitted,
    ) -> Result<(), BookError> {
        let Admitted { terms: other_terms, names, except } = admitted;
        rows::write_order(&self.transaction, &origin.source, terms, self.now, None)?;
        rows::write_names(&self.transaction, known.number, Kind::Listed, &names.added, &names.removed)?;
        rows::write_names(&self.transaction, known.number, Kind::Except, &except.added, &except.removed)?;
        let mut detail = json!({"names": changed(names), "except": changed(except)});
        if let (Some(terms), Some(detail)) = (other_terms, detail.as_object_mut()) {
            detail.insert("terms".to_owned(), json!(terms));
        }
        self.record(origin, "put", &terms.id, detail)
    }

    fn names(
        &mut self,
        origin: &Origin,
        op: &str,
        id: &str,
        added: &BTreeSet<Name>,
        removed: &BTreeSet<Name>,
    ) -> Result<bool, BookError> {
        let Some(known) = self.in_force(origin, id)? else { return Ok(false) };
        let mut names = rows::fresh(&self.transaction, known.number, added, removed)?;
        self.screen_added(origin, &known, &mut names)?;
        self.hold_no_longer(id, removed)?;
        if names.is_empty() {
            self.tell(origin, id, What::Unchanged);
            return Ok(true);
        }
        rows::write_names(&self.transaction, known.number, Kind::Listed, &names.added, &names.removed)?;
        self.record(origin, op, id, json!({"names": changed(&names)}))?;
        self.tell(origin, id, What::Changed);
        let edit = Change::Edit { id: id.to_owned(), terms: None, names, except: Delta::default() };
        self.push(edit);
        self.prune(id, known.number)?;
        Ok(true)
    }

    fn extend(&mut self, origin: &Origin, id: &str, not_after: Option<Timestamp>) -> Result<bool, BookError> {
        let Some(known) = self.in_force(origin, id)? else { return Ok(false) };
        let before = known.terms.not_after;
        if before == not_after {
            self.tell(origin, id, What::Unchanged);
            return Ok(true);
        }
        let terms = match known.terms.extended(not_after) {
            Ok(terms) => Arc::new(terms),
            Err(unfit) => return self.refuse(origin, id, unfit),
        };
        rows::write_order(&self.transaction, &known.source, &terms, known.received, None)?;
        let word = |end: Option<Timestamp>| end.map_or_else(|| "none".to_owned(), |end| end.to_string());
        self.record(origin, "extend", id, json!({"from": word(before), "not_after": word(not_after)}))?;
        self.tell(origin, id, What::Changed);
        let (names, except) = (Delta::default(), Delta::default());
        self.applied.changes.push(Change::Edit { id: id.to_owned(), terms: Some(terms), names, except });
        Ok(true)
    }

    /// Ends an order.
    pub(super) fn revoke(&mut self, origin: &Origin, id: &str, why: &str) -> Result<bool, BookError> {
        let Some(known) = OrderRow::find(&self.transaction, id)? else {
            self.tell(origin, id, What::RevokedUnknown);
            return Ok(true);
        };
        if known.revoked.is_some() {
            self.tell(origin, id, What::Unchanged);
            return Ok(true);
        }
        if known.source != *origin.source {
            self.forget_zone(&known)?;
        }
        rows::write_order(&self.transaction, &known.source, &known.terms, known.received, Some(self.now))?;
        rows::forget_held(&self.transaction, id)?;
        self.record(origin, "revoke", id, json!({"why": why}))?;
        self.tell(origin, id, What::Revoked);
        self.applied.changes.push(Change::Revoke { id: id.to_owned() });
        Ok(true)
    }

    /// Notes that an event changed nothing, without looking.
    pub(super) fn tell(&mut self, origin: &Origin, id: &str, what: What) {
        let source = origin.source.clone();
        self.applied.outcomes.push(Outcome { source, line: origin.place.line, order: id.to_owned(), what });
    }

    /// Whether the last event that was told made an order another one.
    pub(super) fn has_changed(&self, id: &str) -> bool {
        let last = self.applied.outcomes.last();
        last.is_some_and(|last| last.order == id && matches!(last.what, What::New | What::Changed))
    }

    pub(super) fn refuse(&mut self, origin: &Origin, id: &str, why: impl std::fmt::Display) -> Result<bool, BookError> {
        self.applied.refusals.push(Refusal::new(&origin.source, origin.place.line, id, why));
        Ok(false)
    }

    pub(super) fn refusals(&mut self) -> &mut Vec<Refusal> {
        &mut self.applied.refusals
    }

    /// Notes what a guard holds since now.
    pub(super) fn note_held(&mut self, held: Held) {
        self.applied.held.push(held);
    }

    pub(super) fn push(&mut self, change: Change) {
        self.applied.changes.push(change);
    }

    /// The row of an order that can be changed; else the event is refused.
    pub(super) fn in_force(&mut self, origin: &Origin, id: &str) -> Result<Option<OrderRow>, BookError> {
        let known = OrderRow::find(&self.transaction, id)?;
        match known {
            None => _ = self.refuse(origin, id, "no such order in the book")?,
            Some(OrderRow { revoked: Some(time), .. }) => {
                self.refuse(origin, id, format_args!("the order was revoked at {time}"))?;
            }
            known => return Ok(known),
        }
        Ok(None)
    }

    /// What must come and go so that the book has these names.
    pub(super) fn difference(&self, number: i64, kind: Kind, wanted: &BTreeSet<Name>) -> Result<Delta, BookError> {
        let mut delta = Delta::default();
        let mut wanted = wanted.iter().peekable();
        rows::read_names(&self.transaction, number, kind, |known| {
            while let Some(name) = wanted.next_if(|name| name.as_str() < known) {
                delta.added.push(name.clone());
            }
            if wanted.next_if(|name| name.as_str() == known).is_none() {
                delta.removed.push(rows::name(known)?);
            }
            Ok(())
        })?;
        delta.added.extend(wanted.cloned());
        Ok(delta)
    }

    /// Appends to the history.
    pub(super) fn record(&mut self, origin: &Origin, op: &str, id: &str, mut detail: Value) -> Result<(), BookError> {
        if let Some(detail) = detail.as_object_mut() {
            detail.extend(origin.place.seq.map(|seq| ("seq".to_owned(), json!(seq))));
            detail.extend(origin.place.at.map(|at| ("at".to_owned(), json!(at))));
            detail.extend(self.by.clone());
        }
        let (source, line, detail) = (&*origin.source, origin.place.line, detail.to_string());
        let time = self.now.as_microsecond();
        let last = match self.last {
            Some(last) => Some(last),
            None => chain::head(&self.transaction)?,
        };
        let link = Link { time, source, line, op, id, detail: &detail };
        let head = chain::append_to(&self.transaction, last, &link)?;
        (self.last, self.applied.entry) = (Some(head), head.number);
        Ok(())
    }
}

pub(super) fn changed(delta: &Delta) -> Value {
    let mut changed = Map::new();
    for (word, names) in [("added", &delta.added), ("removed", &delta.removed)] {
        if !names.is_empty() {
            changed.insert(word.to_owned(), listed(names.iter()));
        }
    }
    Value::Object(changed)
}
