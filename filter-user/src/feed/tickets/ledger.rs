//! The ledger: which tickets there are, what was answered about their items, and the platform's allow list.
//!
//! One SQLite file beside what the feed's orders are read from. Whatever is told is on the disk before. All of it is in
//! memory, too; that changes when the disk has it. Of items, what was answered last stands with the item, and each
//! answer with its time in a table that only grows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::{
    Counts,
    answers::PROCESSED,
    listing::{Item, Kind, Listed, Listing},
    platform::{Platform, State},
};
use crate::name::Name;

/// See the module.
pub(super) struct Ledger {
    connection: Connection,
    tickets: BTreeMap<String, Ticket>,
    /// By the platform; nothing until there was one.
    allow: Option<BTreeSet<Name>>,
}

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Number in the ledger: earlier ones came earlier.
    pub(super) number: i64,
    /// Where it stands.
    pub(super) state: State,
    /// The last whole listing lacked it.
    pub(super) is_absent: bool,
    /// What it wants stopped, or wanted.
    pub(super) items: BTreeMap<Item, Entry>,
}

/// An item of a ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The platform has revoked it alone.
    pub(super) is_revoked: bool,
    /// The ticket lists it no longer.
    pub(super) is_gone: bool,
    /// What the platform has been answered: `processed`, or the word of a reason.
    pub(super) answer: Option<String>,
}

/// An answer that the platform has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) ticket: String,
    pub(super) item: Item,
    /// As in [`Entry::answer`].
    pub(super) answer: &'static str,
    /// The reason for people; may be empty.
    pub(super) why: String,
}

impl Ledger {
    /// Opens the ledger, and makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let open = || -> rusqlite::Result<Self> {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "full")?;
            let transaction = connection.transaction()?;
            match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
                VERSION => {}
                0 => {
                    transaction.execute_batch(TABLES)?;
                    transaction.pragma_update(None, "user_version", VERSION)?;
                }
                _ => return Err(rusqlite::Error::InvalidQuery),
            }
            let (tickets, allow) = (read_tickets(&transaction)?, read_allow(&transaction)?);
            transaction.commit()?;
            Ok(Self { connection, tickets, allow })
        };
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        open().map_err(|error| match error {
            rusqlite::Error::InvalidQuery => named(&"a ledger of another version, or damaged"),
            error => named(&error),
        })
    }

    /// From now on there is no room for another page.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self) {
        self.connection.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(())).unwrap();
    }

    /// Nothing can be written, or it can again.
    #[cfg(test)]
    pub(super) fn read_only(&mut self, is_read_only: bool) {
        self.connection.pragma_update(None, "query_only", is_read_only).unwrap();
    }

    /// All tickets, by id.
    pub(super) fn tickets(&self) -> &BTreeMap<String, Ticket> {
        &self.tickets
    }

    /// The platform's allow list, if there ever was one.
    pub(super) fn allow(&self) -> Option<&BTreeSet<Name>> {
        self.allow.as_ref()
    }

    /// Takes in a whole listing. Gives the tickets that are others now.
    pub(super) fn take(&mut self, listing: &Listing, now: Timestamp) -> Result<BTreeSet<String>, String> {
        let mut next = self.tickets.values().map(|ticket| ticket.number).max().unwrap_or(0);
        let mut changed = BTreeMap::new();
        for (id, listed) in &listing.tickets {
            let known = self.tickets.get(id);
            let ticket = match known {
                Some(known) => known.with(listed),
                None => {
                    next += 1;
                    Ticket::new(next, listed)
                }
            };
            if known != Some(&ticket) {
                changed.insert(id.clone(), ticket);
            }
        }
        for (id, known) in self.tickets.iter().filter(|(id, _)| !listing.tickets.contains_key(*id)) {
            // One that is there and cannot be read is not absent.
            let is_absent = !listing.unidentified && !listing.unreadable.contains(id);
            if is_absent != known.is_absent && (is_absent || listing.unreadable.contains(id)) {
                changed.insert(id.clone(), Ticket { is_absent, ..known.clone() });
            }
        }
        if changed.is_empty() {
            return Ok(BTreeSet::new());
        }
        let before = &self.tickets;
        write(&mut self.connection, |transaction| {
            changed.iter().try_for_each(|(id, ticket)| write_ticket(transaction, id, ticket, before.get(id), now))
        })?;
        let ids = changed.keys().cloned().collect();
        self.tickets.extend(changed);
        Ok(ids)
    }

    /// Leaves in a listing only what would stop no more than what is stopped now.
    pub(super) fn leave_known(&self, listing: &mut Listing, platform: &Platform) {
        let Listing { tickets, unreadable, .. } = listing;
        tickets.retain(|id, listed| {
            let Some(known) = self.tickets.get(id) else { return false };
            if listed.state != State::Revoked && !known.is_in_force(platform) {
                // It is there; that is all. One that was absent, and is over by that, stays so.
                if !known.is_absent {
                    unreadable.insert(id.clone());
                }
                return false;
            }
            listed.items.retain(|item, is_revoked| {
                let entry = known.items.get(item).filter(|entry| !entry.is_gone);
                *is_revoked |= entry.is_some_and(|entry| entry.is_revoked);
                entry.is_some()
            });
            true
        });
    }

    /// Takes in an allow list. Tells whether it is another.
    pub(super) fn take_allow(&mut self, allow: BTreeSet<Name>) -> Result<bool, String> {
        if self.allow.as_ref() == Some(&allow) {
            return Ok(false);
        }
        write(&mut self.connection, |transaction| {
            transaction.execute("DELETE FROM allow", [])?;
            // An empty list is one, too.
            let mut insert = transaction.prepare("INSERT INTO allow (name) VALUES (?1)")?;
            insert.execute([""])?;
            allow.iter().try_for_each(|name| insert.execute([name.as_str()]).map(drop))
        })?;
        self.allow = Some(allow);
        Ok(true)
    }

    /// How it goes with the tickets that are to be enforced.
    pub(super) fn counts(&self, platform: &Platform) -> Counts {
        let mut counts = Counts::default();
        for ticket in self.tickets.values().filter(|ticket| ticket.is_in_force(platform)) {
            counts.tickets += 1;
            for entry in ticket.items.values().filter(|entry| !entry.is_gone && !entry.is_revoked) {
                match entry.answer.as_deref() {
                    Some(PROCESSED) => counts.processed += 1,
                    Some(_) => counts.unprocessed += 1,
                    None if ticket.state == State::Closed => {}
                    None => counts.open += 1,
                }
            }
        }
        counts
    }

    /// Notes what the platform has been answered.
    pub(super) fn answered(&mut self, given: &[Given], now: Timestamp) -> Result<(), String> {
        let tickets = &self.tickets;
        write(&mut self.connection, |transaction| {
            let mut item = transaction
                .prepare_cached("UPDATE items SET answer = ?4 WHERE ticket = ?1 AND kind = ?2 AND value = ?3")?;
            let mut answer = transaction.prepare_cached(
                "INSERT INTO answers (time, ticket, kind, value, answer, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for Given { ticket, item: Item { kind, value }, answer: word, why } in given {
                let Some(number) = tickets.get(ticket).map(|ticket| ticket.number) else { continue };
                item.execute(params![number, *kind as i64, value, word])?;
                answer.execute(params![now.as_microsecond(), ticket, *kind as i64, value, word, why])?;
            }
            Ok(())
        })?;
        for Given { ticket, item, answer, .. } in given {
            if let Some(entry) = self.tickets.get_mut(ticket).and_then(|ticket| ticket.items.get_mut(item)) {
                entry.answer = Some((*answer).to_owned());
            }
        }
        Ok(())
    }
}

impl Ticket {
    fn new(number: i64, listed: &Listed) -> Self {
        let items = listed
            .items
            .iter()
            .map(|(item, is_revoked)| (item.clone(), Entry { is_revoked: *is_revoked, ..Entry::default() }));
        Self { number, state: listed.state, is_absent: false, items: items.collect() }
    }

    /// Whether it is to be enforced.
    pub(super) fn is_in_force(&self, platform: &Platform) -> bool {
        let is_away = self.is_absent && platform.absent_is_over;
        match self.state {
            State::Active | State::Closed => !is_away,
            State::Pending => platform.enforces_pending && !is_away,
            State::Revoked => false,
        }
    }

    /// The same ticket as it is listed now. What comes back is to be answered anew.
    fn with(&self, listed: &Listed) -> Self {
        let fresh = Self::new(self.number, listed);
        let is_back = self.state == State::Revoked && fresh.state != State::Revoked;
        let mut items = fresh.items;
        for (item, entry) in &mut items {
            let known = self
                .items
                .get(item)
                .filter(|known| !is_back && !known.is_gone && (!known.is_revoked || entry.is_revoked));
            entry.answer = known.and_then(|known| known.answer.clone());
        }
        for (item, known) in &self.items {
            items.entry(item.clone()).or_insert_with(|| Entry { is_gone: true, ..known.clone() });
        }
        Self { items, ..fresh }
    }
}

fn write(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), String> {
    let write = || {
        let transaction = connection.transaction()?;
        change(&transaction)?;
        transaction.commit()
    };
    write().map_err(|error| format!("the ledger of tickets cannot be written: {error}"))
}

fn write_ticket(
    transaction: &Transaction<'_>,
    id: &str,
    ticket: &Ticket,
    before: Option<&Ticket>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Ticket { number, state, is_absent, items } = ticket;
    transaction
        .prepare_cached(
            "INSERT INTO tickets (number, id, state, absent, seen) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (number) DO UPDATE SET state = excluded.state, absent = excluded.absent",
        )?
        .execute(params![number, id, state.word(), is_absent, now.as_microsecond()])?;
    let mut write = transaction.prepare_cached(
        "INSERT OR REPLACE INTO items (ticket, kind, value, revoked, gone, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (item, entry) in items {
        if before.and_then(|before| before.items.get(item)) != Some(entry) {
            let Entry { is_revoked, is_gone, answer } = entry;
            write.execute(params![number, item.kind as i64, item.value, is_revoked, is_gone, answer])?;
        }
    }
    Ok(())
}

fn read_tickets(transaction: &Transaction<'_>) -> rusqlite::Result<BTreeMap<String, Ticket>> {
    let mut items: BTreeMap<i64, BTreeMap<Item, Entry>> = BTreeMap::new();
    let mut query = transaction.prepare("SELECT ticket, kind, value, revoked, gone, answer FROM items")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let kind: usize = row.get(1)?;
        let kind = *Kind::ALL.get(kind).ok_or(rusqlite::Error::InvalidQuery)?;
        let entry = Entry { is_revoked: row.get(3)?, is_gone: row.get(4)?, answer: row.get(5)? };
        items.entry(row.get(0)?).or_default().insert(Item { kind, value: row.get(2)? }, entry);
    }
    let mut tickets = BTreeMap::new();
    let mut query = transaction.prepare("SELECT number, id, state, absent FROM tickets")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (number, word): (i64, String) = (row.get(0)?, row.get(2)?);
        let state = State::ALL.into_iter().find(|state| state.word() == word).ok_or(rusqlite::Error::InvalidQuery)?;
        let items = items.remove(&number).unwrap_or_default();
        tickets.insert(row.get(1)?, Ticket { number, state, is_absent: row.get(3)?, items });
    }
    Ok(tickets)
}

fn read_allow(transaction: &Transaction<'_>) -> rusqlite::Result<Option<BTreeSet<Name>>> {
    let mut query = transaction.prepare("SELECT name FROM allow")?;
    let names: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let parse = |name: &String| Name::parse(name).map_err(|_| rusqlite::Error::InvalidQuery);
    let listed = names.iter().filter(|name| !name.is_empty()).map(parse).collect::<Result<_, _>>()?;
    Ok((!names.is_empty()).then_some(listed))
}

/// How long another program is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Version of the tables, in SQLite's `user_version`.
const VERSION: i64 = 1;

/// Times are microseconds since 1970. `kind` is 0 for names, 1 for IPv4 and 2 for IPv6 addresses. A row of `allow` with
/// an empty name says that there is such a list.
const TABLES: &str = "
CREATE TABLE tickets (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    absent INTEGER NOT NULL,
    seen INTEGER NOT NULL
) STRICT;
CREATE TABLE items (
    ticket INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    value TEXT NOT NULL,
    revoked INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    answer TEXT,
    PRIMARY KEY (ticket, kind, value)
) STRICT, WITHOUT ROWID;
CREATE TABLE allow (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    ticket TEXT NOT NULL,
    kind INTEGER NOT NULL,
    value TEXT NOT NULL,
    answer TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE TRIGGER answers_stay BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'answers are append-only'); END;
CREATE TRIGGER answers_keep BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are append-only'); END;
";
