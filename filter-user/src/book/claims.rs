//! What each source said last about each order, so that only what it says anew is applied.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{BookError, rows};
use crate::{feed::Entry, order::Order};

/// What a source said last about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) kind: ClaimKind,
    pub(super) hash: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimKind {
    /// It puts the order.
    Put = 0,
    /// It has events about the order.
    Events = 1,
    /// The book refused what it says, or another source's put has undone its events: they apply again.
    Refused = 2,
    /// It puts the order, and that applies again: not all of it has come to be.
    Again = 3,
}

impl Claim {
    /// It puts the order.
    pub(super) fn puts(self) -> bool {
        matches!(self.kind, ClaimKind::Put | ClaimKind::Again)
    }
}

pub(super) fn claim(transaction: &Transaction<'_>, source: &str, id: &str) -> Result<Option<Claim>, BookError> {
    let mut query = transaction.prepare_cached("SELECT kind, hash FROM claims WHERE source = ?1 AND id = ?2")?;
    Ok(query.query_row([source, id], |row| read_claim(row, 0)).optional()?)
}

pub(super) fn claims(transaction: &Transaction<'_>, source: &str) -> Result<Vec<(String, Claim)>, BookError> {
    let mut query = transaction.prepare_cached("SELECT id, kind, hash FROM claims WHERE source = ?1 ORDER BY id")?;
    let claims = query.query_map([source], |row| Ok((row.get(0)?, read_claim(row, 1)?)))?;
    Ok(claims.collect::<Result<_, _>>()?)
}

pub(super) fn other_claims(
    transaction: &Transaction<'_>,
    source: &str,
    id: &str,
) -> Result<Vec<(String, Claim)>, BookError> {
    let mut query = transaction.prepare_cached(
        "SELECT source, kind, hash FROM claims WHERE id = ?1 AND source NOT IN (?2, ?3) ORDER BY source",
    )?;
    let claims = query.query_map([id, source, REVOKED], |row| Ok((row.get(0)?, read_claim(row, 1)?)))?;
    Ok(claims.collect::<Result<_, _>>()?)
}

fn read_claim(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Claim> {
    let kind = match row.get::<_, i64>(first)? {
        0 => ClaimKind::Put,
        1 => ClaimKind::Events,
        3 => ClaimKind::Again,
        _ => ClaimKind::Refused,
    };
    Ok(Claim { kind, hash: row.get(first + 1)? })
}

pub(super) fn set_claim(transaction: &Transaction<'_>, source: &str, id: &str, claim: Claim) -> Result<(), BookError> {
    let mut write =
        transaction.prepare_cached("INSERT OR REPLACE INTO claims (source, id, kind, hash) VALUES (?1, ?2, ?3, ?4)")?;
    write.execute(params![source, id, claim.kind as i64, claim.hash])?;
    Ok(())
}

pub(super) fn forget(transaction: &Transaction<'_>, source: &str, id: &str) -> Result<(), BookError> {
    transaction.prepare_cached("DELETE FROM claims WHERE source = ?1 AND id = ?2")?.execute([source, id])?;
    Ok(())
}

/// In the place of a source among the claims: what the file said last that had put an order which the operator
/// revoked. So the order stays revoked if that file goes and comes back.
pub(super) const REVOKED: &str = "revoked";

pub(super) fn hash_order(order: &Order, state: u8) -> Result<[u8; 16], BookError> {
    let mut hash = Fnv::new();
    hash.octets(&[state]);
    hash.octets(rows::terms_json(&order.terms)?.as_bytes());
    for names in [&order.names, &order.except] {
        hash.word(names.len() as u64);
        names.iter().for_each(|name| hash.octets(name.as_str().as_bytes()));
    }
    Ok(hash.finish())
}

pub(super) fn hash_events(entries: &[Entry]) -> [u8; 16] {
    hashes(entries).last().unwrap_or_else(|| Fnv::new().finish())
}

/// How many of these events, from the first on, a source had said when it said what has this hash.
pub(super) fn said_before(entries: &[Entry], hash: [u8; 16]) -> usize {
    hashes(entries).position(|known| known == hash).map_or(0, |last| last + 1)
}

/// Hash up to each event.
fn hashes(entries: &[Entry]) -> impl Iterator<Item = [u8; 16]> {
    let mut hash = Fnv::new();
    entries.iter().map(move |entry| {
        hash.octets(format!("{:?}", entry.event).as_bytes());
        hash.finish()
    })
}

/// FNV-1a with 128 bits, but over words of eight octets, the last of which holds the length. It tells whether a
/// source says something else than before; nobody gains by fooling it but the one who writes that source.
struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn octets(&mut self, octets: &[u8]) {
        let (words, rest) = octets.as_chunks();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(word));
        }
        self.word(octets.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ u128::from(word)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }

    fn finish(&self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}
