//! Brings the book to what files say, by what each of them says anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use rusqlite::{Transaction, TransactionBehavior::Immediate};

use super::{
    Applied, Book, BookError, What,
    absence::Absences,
    claims::{
        Claim, ClaimKind, REVOKED, claim, claims, forget, hash_events, hash_order, other_claims, said_before, set_claim,
    },
    held, rows,
    rows::OrderRow,
    writer::{Origin, Writer},
    zone,
};
use crate::{
    feed::{
        Entry, Refusal,
        fold::{Folded, Place, fold},
        native::Read,
    },
    guard::Guard,
};

/// A file as it is now.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Its path.
    pub(crate) source: Arc<str>,
    /// What it says; `None` if it is gone.
    pub(crate) read: Option<Read>,
    /// When it was looked at, at the latest.
    pub(crate) looked: Instant,
}

/// A snapshot, sorted by order.
struct Plan {
    source: Arc<str>,
    orders: BTreeMap<String, Folded>,
    held: BTreeMap<String, u64>,
    refusals: Vec<Refusal>,
    is_log: bool,
    looked: Instant,
    is_zone: bool,
}

/// An order that its source puts no longer.
struct Dropped {
    source: Arc<str>,
    id: String,
    claim: Claim,
    why: &'static str,
}

impl Book {
    /// Brings the book to what these files say, in one transaction. Also gives the sources that must be read again,
    /// since an order that another source held against them is free now, or has been put anew below their events.
    ///
    /// # Errors
    /// Nothing was changed.
    pub(crate) fn sync(&mut self, snapshots: Vec<Snapshot>) -> Result<(Applied, BTreeSet<String>), BookError> {
        self.write_notes_ahead()?;
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let mut writer = Writer::open(transaction, &self.guards, &mut self.told);
        let mut plans = Vec::new();
        let mut dropped = Vec::new();
        for snapshot in snapshots {
            plans.push(plan(&mut writer, snapshot, &mut self.absences, &mut dropped)?);
        }
        let claimed_before = dropped.iter().map(|gone| (gone.id.as_str(), gone)).collect();
        let mut again = BTreeSet::new();
        for plan in plans {
            take(&mut writer, plan, &claimed_before, &mut again)?;
        }
        writer.arrived(None);
        for gone in &dropped {
            withdraw(&mut writer, gone, &mut again)?;
        }
        let applied = writer.commit(&mut self.ahead)?;
        for gone in &dropped {
            self.absences.forget(&gone.source, &gone.id);
        }
        Ok((applied, again))
    }

    /// The files that are to be looked at again now, since an order was not in them: these and those that say
    /// something about that order, too, so that one moved between files never ends.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn due(&self) -> Result<BTreeSet<String>, BookError> {
        let mut query = self.connection.prepare_cached("SELECT source FROM claims WHERE id = ?1 AND source <> ?2")?;
        let mut due = BTreeSet::new();
        for (source, id) in self.absences.due() {
            due.insert(source.to_owned());
            let others = query.query_map([id, REVOKED], |row| row.get(0))?;
            due.extend(others.collect::<Result<Vec<String>, _>>()?);
        }
        Ok(due)
    }

    /// Whether some file lacks an order that it put, and nobody knows yet whether it is to stay away.
    pub(crate) fn is_missed(&self, id: &str) -> bool {
        self.absences.is_missed(id)
    }

    /// The files that have said something about an order.
    pub(crate) fn sources(&self) -> Result<BTreeSet<String>, BookError> {
        let mut query = self.connection.prepare_cached("SELECT DISTINCT source FROM claims WHERE source <> ?1")?;
        let sources = query.query_map([REVOKED], |row| row.get(0))?;
        Ok(sources.collect::<Result<_, _>>()?)
    }
}

/// Sorts a snapshot by order, and forgets what its source claims no longer.
fn plan(
    writer: &mut Writer<'_>,
    snapshot: Snapshot,
    absences: &mut Absences,
    dropped: &mut Vec<Dropped>,
) -> Result<Plan, BookError> {
    let Snapshot { source, read, looked } = snapshot;
    let gone = read.is_none();
    let why = if gone { "the file is gone" } else { "the file puts the order no longer" };
    let Read { entries, mut refusals, mut held, unidentified, lines, is_log, zone } =
        read.unwrap_or_else(|| Read { lines: 1, ..Read::default() });
    let mut by_order: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_order.entry(entry.event.order_id().to_owned()).or_default().push(entry);
    }
    let mut orders: BTreeMap<_, _> =
        by_order.into_iter().map(|(id, entries)| (id, fold(&source, entries, &mut refusals))).collect();
    if let Some(whole) = &zone {
        zone::complete(writer, &source, whole, &mut orders, &mut held)?;
    }
    let mut absent = Vec::new();
    let mut put_before = 0;
    for (id, claim) in claims(&writer.transaction, &source)? {
        let still_put = held.contains_key(&id) || orders.get(&id).is_some_and(|o| !matches!(o, Folded::Events(_)));
        put_before += u64::from(claim.puts());
        if claim.puts() && !still_put {
            absent.push((id, claim));
        } else if !held.contains_key(&id) && !orders.contains_key(&id) {
            forget(&writer.transaction, &source, &id)?;
            held::forget(&writer.transaction, &source, &id)?;
        }
    }
    if !absent.is_empty() && unidentified {
        let ids: Vec<_> = absent.iter().map(|(id, _)| id.as_str()).collect();
        let why = format!("a line cannot be read at all, so {} orders that it put before stay in force", absent.len());
        refusals.push(Refusal::new(&source, 0, &ids.join(" "), why));
        held.extend(absent.drain(..).map(|(id, _)| (id, 0)));
    }
    let ids = absent.iter().map(|(id, _)| id.clone()).collect();
    let confirmed = absences.look(&source, &ids, looked);
    held.extend(ids.difference(&confirmed).map(|id| (id.clone(), 0)));
    absent.retain(|(id, _)| confirmed.contains(id));
    let guard = if gone { None } else { too_few(writer, &source, absent.len() as u64, put_before, lines == 0) };
    if let Some((guard, why)) = guard {
        writer.hold_orders(guard, why, absent.iter().map(|(id, _)| id.clone()));
        held.extend(absent.drain(..).map(|(id, _)| (id, 0)));
    }
    // While some are yet to be confirmed, nothing is known to have changed.
    if ids == confirmed {
        writer.write_holds(&source, "", Place::default(), true)?;
    } else {
        writer.holds.clear();
    }
    for (id, claim) in absent {
        forget(&writer.transaction, &source, &id)?;
        if OrderRow::find(&writer.transaction, &id)?.is_some_and(|row| row.source == *source) {
            writer.dropped.insert(id.clone());
        }
        dropped.push(Dropped { source: source.clone(), id, claim, why });
    }
    Ok(Plan { source, orders, held, refusals, is_log, is_zone: zone.is_some(), looked })
}

/// Why the orders that a file puts no longer are not to go yet.
fn too_few(writer: &Writer<'_>, source: &str, absent: u64, put_before: u64, is_empty: bool) -> Option<(Guard, String)> {
    let policy = writer.guards.of(source).policy;
    if absent == 0 {
        return None;
    }
    if is_empty && policy.empty {
        return Some((Guard::Empty, format!("the file is empty, so {absent} orders that it put before stay in force")));
    }
    let limit = policy.shrink.filter(|limit| limit.is_exceeded(absent, put_before))?;
    let why =
        format!("{absent} of {put_before} orders are put no longer: over {} and {} percent", limit.rows, limit.percent);
    Some((Guard::Shrink, why))
}

/// Applies what a source says anew.
fn take(
    writer: &mut Writer<'_>,
    plan: Plan,
    dropped: &HashMap<&str, &Dropped>,
    again: &mut BTreeSet<String>,
) -> Result<(), BookError> {
    let Plan { source, orders, held, mut refusals, is_log, is_zone, looked } = plan;
    writer.arrived(Some(looked));
    let before = writer.refusals().len();
    let said: BTreeMap<String, Claim> =
        orders.iter().map(|(id, folded)| Ok((id.clone(), claim_of(folded)?))).collect::<Result<_, BookError>>()?;
    if is_zone {
        writer.look_at_zone(&source, &orders, &said)?;
    }
    for (id, folded) in orders {
        let Some(said @ Claim { kind, hash }) = said.get(&id).copied() else { continue };
        let mut origin = Origin { source: source.clone(), place: Place::default() };
        // What follows a refused put is not a claim of its own, and takes the place of none.
        let held = held.contains_key(&id);
        let moved = dropped.get(id.as_str()).filter(|gone| gone.claim == said);
        if let Some(gone) = moved {
            inherit(&writer.transaction, &id, &gone.source, &source)?;
            set_claim(&writer.transaction, &source, &id, said)?;
        }
        let last = claim(&writer.transaction, &source, &id)?;
        let is_back = is_log && is_put_again(&writer.transaction, &source, &id, &folded)?;
        let repeated = !is_back && (moved.is_some() || !held && last == Some(said));
        // A zone is one list: if it says anything anew, it says all of it anew.
        let is_revived = writer.group.as_ref().is_some_and(|group| group.says_anew)
            && OrderRow::find(&writer.transaction, &id)?.is_some_and(|row| row.revoked.is_some());
        let repeated = repeated && !is_revived;
        let stays_revoked = !repeated
            && !is_revived
            && !is_back
            && kind == ClaimKind::Put
            && (writer.stays_revoked_with_zone(&id)? || stays_revoked(&writer.transaction, last, &id, said)?);
        if stays_revoked && !held {
            set_claim(&writer.transaction, &source, &id, said)?;
        }
        if repeated || stays_revoked {
            match &folded {
                Folded::Put { place, .. } | Folded::Revoked { place, .. } => origin.place = *place,
                Folded::Events(entries) => origin.place = entries.last().map(Entry::place).unwrap_or_default(),
            }
            writer.tell(&origin, &id, What::Unchanged);
            continue;
        }
        let mut whole = !held;
        let taken = match folded {
            Folded::Put { order, place, removed } => {
                origin.place = place;
                let taken = writer.put(&origin, order, &removed)?;
                if taken && writer.has_changed(&id) {
                    forget(&writer.transaction, REVOKED, &id)?;
                    repeat_events(&writer.transaction, &source, &id, again)?;
                }
                taken
            }
            Folded::Revoked { place, why, .. } => {
                origin.place = place;
                writer.revoke(&origin, &id, &why)?
            }
            Folded::Events(mut entries) => {
                let mut all = true;
                let before = last.map_or(0, |last| said_before(&entries, last.hash));
                // What follows what the book has taken is all that a log says anew.
                let taken = last.filter(|last| is_log && last.kind == ClaimKind::Events).map_or(0, |_| before);
                whole &= taken == 0;
                let entries = entries.split_off(taken);
                writer.note_growth_by(&source, &entries)?;
                for (at, entry) in (taken..).zip(entries) {
                    // A put that came later than a revoke of another source has the last word.
                    if at < before && entry.event.op() == "revoke" {
                        continue;
                    }
                    origin.place = entry.place();
                    all &= writer.event(&origin, entry.event)?;
                }
                all
            }
        };
        writer.write_holds(&source, &id, origin.place, whole)?;
        if !held {
            let kind = if taken { kind } else { ClaimKind::Refused };
            set_claim(&writer.transaction, &source, &id, Claim { kind, hash })?;
        }
    }
    writer.finish_moves(&Origin { source: source.clone(), place: Place::default() })?;
    refusals.extend(writer.refusals().drain(before..));
    refusals.sort_by_key(|refusal| refusal.line);
    let new = rows::write_refusals(&writer.transaction, &source, &refusals)?;
    writer.record_refusals(&source, new)?;
    writer.refusals().extend(refusals);
    Ok(())
}

/// What a source claims by what it says about one order.
fn claim_of(folded: &Folded) -> Result<Claim, BookError> {
    let (kind, hash) = match folded {
        Folded::Put { order, .. } => (ClaimKind::Put, hash_order(order, b'p')?),
        Folded::Revoked { order, .. } => (ClaimKind::Put, hash_order(order, b'r')?),
        Folded::Events(entries) => (ClaimKind::Events, hash_events(entries)),
    };
    Ok(Claim { kind, hash })
}

/// Ends orders whose absence was held.
pub(super) fn withdraw_held(
    writer: &mut Writer<'_>,
    source: &str,
    ids: &[&str],
    again: &mut BTreeSet<String>,
) -> Result<(), BookError> {
    for id in ids {
        let Some(claim) = claim(&writer.transaction, source, id)? else { continue };
        forget(&writer.transaction, source, id)?;
        let why = "the file puts the order no longer";
        withdraw(writer, &Dropped { source: source.into(), id: (*id).to_owned(), claim, why }, again)?;
    }
    Ok(())
}

/// Ends an order that its source puts no longer, unless another source has taken it over or puts the same.
fn withdraw(writer: &mut Writer<'_>, gone: &Dropped, again: &mut BTreeSet<String>) -> Result<(), BookError> {
    let Dropped { source, id, claim, why } = gone;
    let Some(row) = OrderRow::find(&writer.transaction, id)? else { return Ok(()) };
    if row.source != **source {
        return Ok(());
    }
    let others = other_claims(&writer.transaction, source, id)?;
    if let Some((heir, _)) = others.iter().find(|(_, other)| other == claim) {
        return inherit(&writer.transaction, id, source, heir);
    }
    if row.revoked.is_some() {
        return if rows::revoked_by_operator(&writer.transaction, id)? {
            set_claim(&writer.transaction, REVOKED, id, *claim)
        } else {
            Ok(())
        };
    }
    writer.revoke(&Origin { source: source.clone(), place: Place::default() }, id, why)?;
    for (other, claim) in others {
        if claim.kind != ClaimKind::Events {
            forget(&writer.transaction, &other, id)?;
            again.insert(other);
        }
    }
    Ok(())
}

/// Whether an order is revoked in spite of what a source now says: so it said already, or so said the one that the
/// order belongs to, or so the one that it belonged to when the operator revoked it.
fn stays_revoked(transaction: &Transaction<'_>, last: Option<Claim>, id: &str, said: Claim) -> Result<bool, BookError> {
    let Some(row) = OrderRow::find(transaction, id)?.filter(|row| row.revoked.is_some()) else { return Ok(false) };
    if claim(transaction, &row.source, id)? == Some(said) {
        return Ok(true);
    }
    let known = [last, claim(transaction, REVOKED, id)?];
    Ok(known.into_iter().flatten().any(|known| known.hash == said.hash) && rows::revoked_by_operator(transaction, id)?)
}

/// Whether a log puts an order behind a revoke of it that the book already has from that log: a revoke does not wait until
/// the log can be put down.
fn is_put_again(transaction: &Transaction<'_>, source: &str, id: &str, folded: &Folded) -> Result<bool, BookError> {
    let Folded::Put { place: Place { seq: Some(seq), .. }, .. } = folded else { return Ok(false) };
    if !rows::is_revoked(transaction, id)? {
        return Ok(false);
    }
    let revoke = rows::last_revoke(transaction, id)?;
    Ok(revoke.is_some_and(|revoke| revoke.source == source && revoke.seq.is_some_and(|revoke| revoke < *seq)))
}

/// Has the events of other sources about an order apply again, since a put has undone them.
fn repeat_events(
    transaction: &Transaction<'_>,
    source: &str,
    id: &str,
    again: &mut BTreeSet<String>,
) -> Result<(), BookError> {
    for (other, claim) in other_claims(transaction, source, id)? {
        if !claim.puts() {
            set_claim(transaction, &other, id, Claim { kind: ClaimKind::Refused, ..claim })?;
            again.insert(other);
        }
    }
    Ok(())
}

/// An order that belongs to one source belongs to another from now on.
fn inherit(transaction: &Transaction<'_>, id: &str, from: &str, to: &str) -> Result<(), BookError> {
    transaction.execute("UPDATE orders SET source = ?3 WHERE id = ?1 AND source = ?2", [id, from, to])?;
    transaction.execute("UPDATE held SET source = ?3 WHERE id = ?1 AND source = ?2", [id, from, to])?;
    Ok(())
}
