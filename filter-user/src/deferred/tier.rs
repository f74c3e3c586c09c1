//! The deferred tier: what the engine finds in copies goes back to the kernel as the names of connections. The kernel
//! derives from a name what becomes of a packet, so that an order's end, or another scope, holds at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use filter_common::{layout::Deferred, verdict::Protocol};

use super::{
    Copied, Decision, Limits, NoName,
    quic::{Connections, Found, Searched},
    tcp::Segments,
};
use crate::{
    kernel::{Error, Findings, Tables},
    name::Name,
};

/// What has been made of the copies.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections whose name was found.
    pub decided: AtomicU64,
    /// Of these, connections whose name orders cover: the kernel remembers it.
    pub listed: AtomicU64,
    /// Copies after which the name is still to come.
    pub undecided: AtomicU64,
    /// Connections without a name that could be judged.
    pub nameless: AtomicU64,
    /// Copies that told nothing: forged, cut, or of another connection.
    pub junk: AtomicU64,
    /// Connections that were forgotten before their name was known.
    pub incomplete: AtomicU64,
    /// QUIC ClientHellos that were searched for an Encrypted Client Hello.
    pub searched: AtomicU64,
    /// Of these, those that have one.
    pub encrypted: AtomicU64,
    /// Times that the kernel's tables could not be read or written.
    pub failed: AtomicU64,
}

/// The engine and what it is connected to.
#[derive(Debug)]
pub struct Tier {
    connections: Connections,
    segments: Segments,
    /// What is not in the kernel yet.
    findings: Findings,
    /// Connections among them that are not counted yet.
    listed: u64,
}

impl Tier {
    /// One that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            connections: Connections::new(limits),
            segments: Segments::new(limits),
            findings: Findings::default(),
            listed: 0,
        }
    }

    /// Reads a copy, and has the kernel remember the connection's name; tells a name that orders cover.
    ///
    /// # Errors
    /// If the kernel's tables cannot be read or written.
    pub fn take(&mut self, copy: &Deferred, tables: &Tables, counts: &Counts) -> Result<Option<Name>, Error> {
        let name = self.read(copy, tables, counts)?;
        self.write(tables, counts)?;
        Ok(name)
    }

    /// Has the kernel remember the names that were read since the last time.
    ///
    /// # Errors
    /// If the kernel's tables cannot be written.
    pub fn write(&mut self, tables: &Tables, counts: &Counts) -> Result<(), Error> {
        let listed = std::mem::take(&mut self.listed);
        if !self.findings.is_empty() {
            tables.remember(&mut self.findings)?;
            counts.listed.fetch_add(listed, Relaxed);
        }
        Ok(())
    }

    /// Reads a copy; tells a name that orders cover, and that [`Tier::write`] has the kernel remember.
    ///
    /// # Errors
    /// If the kernel's tables cannot be read or written.
    pub fn read(&mut self, copy: &Deferred, tables: &Tables, counts: &Counts) -> Result<Option<Name>, Error> {
        let payload = copy.payload.get(..usize::from(copy.len)).unwrap_or_default();
        let is_quic = copy.protocol == Protocol::Quic as u8;
        let connection = if is_quic { copy.connection } else { copy.flow };
        let copied = Copied { time: copy.time, connection, client: copy.client, payload };
        let (ended, searched) = (self.ended(), self.connections.searched());
        let found = if is_quic {
            self.connections.read(&copied)
        } else {
            let begun = match self.segments.knows(&connection, copy.start) {
                true => None,
                false => tables.hello_in_progress(&connection, copy.start)?,
            };
            let decision = self.segments.read(&copied, copy.start, copy.sequence, begun.as_ref());
            Found { decision, ids: None, is_guess: false }
        };
        counts.incomplete.store(self.connections.incomplete() + self.segments.incomplete(), Relaxed);
        let Searched { hellos, encrypted } = self.connections.searched();
        counts.searched.fetch_add(hellos - searched.hellos, Relaxed);
        counts.encrypted.fetch_add(encrypted - searched.encrypted, Relaxed);
        // Further copies of a connection whose name is known are not counted again.
        let is_news = self.ended() > ended;
        match found.decision {
            Decision::Undecided => counts.undecided.fetch_add(1, Relaxed),
            Decision::Junk(_) | Decision::NoName(NoName::Ambiguous) => counts.junk.fetch_add(1, Relaxed),
            Decision::Name(_) => counts.decided.fetch_add(is_news.into(), Relaxed),
            Decision::NoName(_) => counts.nameless.fetch_add(is_news.into(), Relaxed),
        };
        match found.decision {
            Decision::Name(name)
                if tables.is_covered(&name)? && (!found.is_guess || self.remembers(copy, tables, counts)?) =>
            {
                self.findings.add(copy, &name, found.ids.as_ref());
                self.listed += u64::from(is_news);
                if found.is_guess {
                    // Before the program has time to find that it is of another connection.
                    self.write(tables, counts)?;
                }
                Ok(Some(name))
            }
            Decision::Name(_) | Decision::NoName(_) if is_quic && copy.held == 1 => {
                // What was found before must not come back; that it could not be written is no reason to hold this one.
                let written = self.write(tables, counts);
                tables.clear(copy).and(written).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    /// Whether a name is remembered for the connection of a copy. What the kernel has forgotten since, another connection
    /// has taken the place of.
    fn remembers(&mut self, copy: &Deferred, tables: &Tables, counts: &Counts) -> Result<bool, Error> {
        self.write(tables, counts)?;
        tables.remembers(copy)
    }

    fn ended(&self) -> u64 {
        self.connections.ended() + self.segments.ended()
    }
}
