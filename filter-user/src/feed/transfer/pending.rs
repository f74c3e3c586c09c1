//! Differences that the copy's records do not have yet.
//!
//! A thousand records of a million stand on a thousand pages, and to write all of these takes longer than a difference may
//! wait: so it is written one record behind the other, and comes to the others when it has been told. Whatever reads the
//! copy reads it, too.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Transaction, params};

use super::{
    kept::{self, KeptError},
    records::{Record, Records},
    reply::Step,
};

/// By record, whether it comes or goes: what came last of each.
#[derive(Default)]
pub(super) struct Pending(BTreeMap<(Vec<u8>, u16, Vec<u8>), bool>);

impl Pending {
    /// What there is.
    pub(super) fn read(connection: &Connection) -> Result<Self, KeptError> {
        let mut pending = Self::default();
        let mut query = connection.prepare_cached("SELECT owner, type, data, comes FROM pending ORDER BY id")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let Record { owner, rtype, data } = kept::record(row)?;
            pending.0.insert((owner.to_vec(), rtype, data.to_vec()), row.get(3)?);
        }
        Ok(pending)
    }

    /// Calls `each` for what comes before a record, and tells whether that record itself stays. To be asked of records in
    /// order.
    pub(super) fn up_to(&mut self, record: Record<'_>, mut each: impl FnMut(Record<'_>)) -> bool {
        while let Some(first) = self.0.first_entry() {
            let (owner, rtype, data) = first.key();
            let next = Record { owner, rtype: *rtype, data };
            if next > record {
                break;
            }
            let comes = *first.get();
            if next == record {
                first.remove();
                return comes;
            }
            if comes {
                each(next);
            }
            first.remove();
        }
        true
    }

    /// Calls `each` for what comes after all records.
    pub(super) fn rest(self, mut each: impl FnMut(Record<'_>)) {
        for ((owner, rtype, data), _) in self.0.iter().filter(|(_, comes)| **comes) {
            each(Record { owner, rtype: *rtype, data });
        }
    }
}

/// What records come to by steps; `before` has all of them that the steps touch.
pub(super) fn after(before: &Records, steps: &[Step]) -> Result<Records, KeptError> {
    let mut records: BTreeSet<Record<'_>> = before.iter().collect();
    for step in steps {
        for record in step.removed.iter() {
            if !records.remove(&record) {
                return Err(KeptError::ABSENT);
            }
        }
        for record in step.added.iter() {
            if !records.insert(record) {
                return Err(KeptError::PRESENT);
            }
        }
    }
    let mut after = Records::default();
    records.into_iter().for_each(|record| after.push(record));
    Ok(after)
}

/// Writes steps behind what there is.
pub(super) fn append(transaction: &Transaction<'_>, steps: &[Step]) -> Result<(), KeptError> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO pending (owner, type, data, comes) VALUES (?1, ?2, ?3, ?4)")?;
    for step in steps {
        for (records, comes) in [(&step.removed, false), (&step.added, true)] {
            for Record { owner, rtype, data } in records.iter() {
                insert.execute(params![owner, rtype, data, comes])?;
            }
        }
    }
    Ok(())
}

/// Brings it all to the other records.
pub(super) fn fold(transaction: &Transaction<'_>) -> Result<(), KeptError> {
    let Pending(pending) = Pending::read(transaction)?;
    if pending.is_empty() {
        return Ok(());
    }
    let mut delete = transaction.prepare_cached(kept::DELETE)?;
    let mut insert = transaction.prepare_cached(kept::INSERT)?;
    for ((owner, rtype, data), comes) in &pending {
        let change = if *comes { &mut insert } else { &mut delete };
        change.execute(params![owner, rtype, data])?;
    }
    transaction.execute("DELETE FROM pending", [])?;
    Ok(())
}
