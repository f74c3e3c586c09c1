//! What a zone takes from one part and gives to another: the first stops it until the other does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{CHANGED, Group};
use crate::{
    book::{
        BookError, Change, Delta, What,
        claims::{Claim, ClaimKind, claim, set_claim},
        rows::{self, Kind},
        writer::{Origin, Writer, changed},
    },
    name::Name,
};

/// Names, each with the parts that are to have it.
pub(super) type Moving = BTreeMap<Name, Vec<String>>;

impl Writer<'_> {
    /// Exceptions that come to a part since others list those names now, and do not have them yet. Without them the
    /// part stops what it stopped before: what it is to stop from now on is not among them.
    pub(super) fn waiting<'n>(
        &self,
        group: &Group,
        names: &Delta,
        except: &'n Delta,
        listing: impl Fn(&Name) -> Vec<&'n str>,
    ) -> Result<Moving, BookError> {
        let wider: BTreeSet<&Name> = names.added.iter().chain(&except.removed).collect();
        let mut by_other: BTreeMap<&str, BTreeSet<&Name>> = BTreeMap::new();
        for name in &except.added {
            if !name.suffixes().any(|above| wider.contains(&above)) {
                for other in listing(name) {
                    by_other.entry(other).or_default().insert(name);
                }
            }
        }
        let mut waiting = Moving::new();
        for (other, mut names) in by_other {
            if let Some((number, _)) = group.numbers.get(other) {
                for listed in rows::listed_of(&self.transaction, *number, names.iter().copied())? {
                    names.remove(listed);
                }
            }
            for name in names {
                waiting.entry(name.clone()).or_default().push(other.to_owned());
            }
        }
        Ok(waiting)
    }

    /// Takes names out of the parts that had them before, and gives those parts their exceptions, where those that
    /// have the names now are in force. The others stay as they were, with the exceptions that these parts had below
    /// them, and the zone is looked at again when something is let through.
    pub(in crate::book) fn finish_moves(&mut self, origin: &Origin) -> Result<(), BookError> {
        let Some(Group { mut moving, mut waiting, mut leaving, idle, .. }) = self.group.take() else { return Ok(()) };
        let ids: BTreeSet<String> = moving.keys().chain(waiting.keys()).cloned().collect();
        for id in ids {
            let Some(row) = self.part(&id)? else { continue };
            let (removed, stay) = self.arrived_elsewhere(moving.remove(&id).unwrap_or_default())?;
            let (added, wait) = self.arrived_elsewhere(waiting.remove(&id).unwrap_or_default())?;
            let mut gone = leaving.remove(&id).unwrap_or_default();
            gone.retain(|except| !except.suffixes().any(|above| stay.contains(&above)));
            if !stay.is_empty() || !wait.is_empty() {
                // So that it is applied again.
                let last = claim(&self.transaction, &origin.source, &id)?.unwrap_or(CHANGED);
                set_claim(&self.transaction, &origin.source, &id, Claim { kind: ClaimKind::Again, ..last })?;
            }
            let names = Delta { removed, ..Delta::default() };
            let except = Delta { added, removed: gone };
            if names.is_empty() && except.is_empty() {
                continue;
            }
            rows::write_names(&self.transaction, row.number, Kind::Listed, [], &names.removed)?;
            rows::write_names(&self.transaction, row.number, Kind::Except, &except.added, &except.removed)?;
            let why = "other parts of the order have them";
            let detail = json!({"names": changed(&names), "except": changed(&except), "why": why});
            self.record(origin, "put", &id, detail)?;
            self.tell(origin, &id, What::Changed);
            self.push(Change::Edit { id, terms: None, names, except });
        }
        self.end_idle(origin, idle)
    }

    /// Those of the names that all the parts have which are to have them, and the others.
    fn arrived_elsewhere(&self, mut names: Moving) -> Result<(Vec<Name>, BTreeSet<Name>), BookError> {
        let mut by_other: BTreeMap<&str, Vec<&Name>> = BTreeMap::new();
        for (name, others) in &names {
            others.iter().for_each(|other| by_other.entry(other).or_default().push(name));
        }
        let mut missing: BTreeSet<Name> = BTreeSet::new();
        for (other, names) in by_other {
            let there = match self.part(other)? {
                Some(other) => rows::listed_of(&self.transaction, other.number, names.iter().copied())?,
                None => BTreeSet::new(),
            };
            missing.extend(names.into_iter().filter(|name| !there.contains(name)).cloned());
        }
        names.retain(|name, _| !missing.contains(name));
        Ok((names.into_keys().collect(), missing))
    }
}
