//! Which part of a zone must be looked at again when some of its records change.
//!
//! What a rule on a name comes to depends on the names below it, if it has a wildcard, and on nothing beside it. So a
//! change concerns the topmost name above it that has a wildcard right below, or else the name itself, with all below.

use std::collections::{BTreeSet, HashMap};

use rusqlite::Connection;

use super::{
    kept::{self, KeptError},
    records::Records,
};

/// The names that are concerned, none below another. `owners` are those whose records change.
pub(super) fn tops(connection: &Connection, owners: &BTreeSet<&[u8]>) -> Result<BTreeSet<Vec<u8>>, KeptError> {
    let mut query = connection.prepare_cached("SELECT 1 FROM records WHERE owner = ?1 LIMIT 1")?;
    let mut known: HashMap<Vec<u8>, bool> = HashMap::new();
    let mut has_wildcard = |name: &[u8]| -> Result<bool, KeptError> {
        let wildcard = [name, WILDCARD].concat();
        if owners.contains(&wildcard[..]) {
            return Ok(true);
        }
        if let Some(known) = known.get(name) {
            return Ok(*known);
        }
        let found = query.exists([wildcard])?;
        known.insert(name.to_vec(), found);
        Ok(found)
    };
    let mut tops = BTreeSet::new();
    'owners: for owner in owners {
        let node = owner.strip_suffix(WILDCARD).filter(|node| names(node).last() == Some(*node)).unwrap_or(owner);
        for above in names(node) {
            if above.len() < node.len() && has_wildcard(above)? {
                tops.insert(above.to_vec());
                continue 'owners;
            }
        }
        tops.insert(node.to_vec());
    }
    let mut last: Option<Vec<u8>> = None;
    tops.retain(|top| {
        let is_below = last.as_ref().is_some_and(|last| top.starts_with(last));
        if !is_below {
            last = Some(top.clone());
        }
        !is_below
    });
    Ok(tops)
}

/// All records of these names and below them, and of the apex; nothing, if they are very many or the apex is concerned.
pub(super) fn records(connection: &Connection, tops: &BTreeSet<Vec<u8>>) -> Result<Option<Records>, KeptError> {
    if tops.contains(&b""[..]) {
        return Ok(None);
    }
    let columns = "SELECT owner, type, data FROM records WHERE owner";
    let mut of_apex = connection.prepare_cached(&format!("{columns} = x''"))?;
    let mut below = connection.prepare_cached(&format!("{columns} >= ?1 AND owner < ?2"))?;
    let mut found = Records::default();
    let mut rows = of_apex.query([])?;
    while let Some(row) = rows.next()? {
        found.push(kept::record(row)?);
    }
    for top in tops {
        let mut rows = below.query([top, &behind(top)])?;
        while let Some(row) = rows.next()? {
            if found.len() == MOST {
                return Ok(None);
            }
            found.push(kept::record(row)?);
        }
    }
    Ok(Some(found))
}

/// The names above an owner, from the apex down, and it itself.
fn names(owner: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut end = Some(0);
    std::iter::from_fn(move || {
        let here = end?;
        end = owner.get(here).map(|length| here + 1 + usize::from(*length)).filter(|end| *end <= owner.len());
        owner.get(..here)
    })
}

/// What comes behind all that begins like this. No label has a length of 255.
fn behind(top: &[u8]) -> Vec<u8> {
    let mut behind = top.to_vec();
    while let Some(last) = behind.pop() {
        if let Some(next) = last.checked_add(1) {
            behind.push(next);
            break;
        }
    }
    behind
}

/// The wildcard label (RFC 4592 2.1.1) behind its length.
const WILDCARD: &[u8] = b"\x01*";

/// Records that are looked at one by one; the whole zone is read in the time that more take.
pub(super) const MOST: usize = 50_000;
