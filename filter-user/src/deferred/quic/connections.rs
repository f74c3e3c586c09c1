//! The connections whose Initials came: their keys, and what is read of their ClientHellos.
//!
//! State: for each connection the attempts that share its ids, at most [`MAX_ATTEMPTS`]; each has the destination id
//! that its keys follow from. A Retry begins a new attempt, and so does a later connection under the same ids. Trust: an
//! attempt begins with a packet whose tag is right under its own destination id, which anyone can make; it can add to
//! an attempt only what is right under that one's keys.

use filter_common::quic::MAX_CONNECTION_ID;

use super::{
    super::{
        Copied, Decision, Junk, Limits, NoName,
        hello::Hello,
        reassembly::{Known, Stream},
        table::Table,
    },
    frames,
    keys::{Keys, Opened},
    packet::{Initial, initials},
};
use crate::name::Name;

/// All of them.
#[derive(Debug)]
pub struct Connections {
    table: Table<Vec<Attempt>>,
    /// The packet that is being opened.
    packet: Vec<u8>,
}

#[derive(Debug)]
struct Attempt {
    dcid: ConnectionId,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(Box<Reading>),
    Done(Result<Name, NoName>),
}

#[derive(Debug)]
struct Reading {
    /// Of the version that came first, and of another one (RFC 9368).
    keys: Vec<(u32, Keys)>,
    /// The largest packet number.
    largest: Option<u64>,
    stream: Stream,
}

impl Connections {
    /// None.
    pub fn new(limits: Limits) -> Self {
        Self { table: Table::new(limits), packet: Vec::with_capacity(2048) }
    }

    /// Reads a datagram.
    pub fn read(&mut self, copied: &Copied<'_>) -> Decision {
        self.table.expire(copied.time);
        let mut decision = Decision::Junk(Junk::NoInitial);
        let mut scid = None;
        for initial in initials(copied.payload) {
            let next = match initial {
                Err(reason) => Decision::Junk(Junk::Header(reason)),
                // "Receivers SHOULD ignore any subsequent packets with a different" id (RFC 9000 12.2).
                Ok(initial) if *scid.get_or_insert(initial.scid) != initial.scid => continue,
                Ok(initial) => self.initial(copied, &initial),
            };
            if matches!(next, Decision::Name(_) | Decision::NoName(_)) {
                return next;
            }
            if next == Decision::Undecided || decision == Decision::Junk(Junk::NoInitial) {
                decision = next;
            }
        }
        decision
    }

    /// Connections that are held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets that wait for others before them.
    pub fn waiting(&self) -> usize {
        self.table.octets()
    }

    /// Connections that were forgotten, for want of room, before their name was known.
    pub fn evicted(&self) -> u64 {
        self.table.evicted
    }

    fn initial(&mut self, copied: &Copied<'_>, initial: &Initial<'_>) -> Decision {
        let key = copied.connection;
        let attempts = self.table.get_mut(&key);
        if let Some(attempts) = attempts {
            let known = attempts.iter_mut().rev().find_map(|attempt| attempt.read(initial, &mut self.packet));
            if let Some(decision) = known {
                let weight = attempts.iter().map(Attempt::weight).sum();
                let is_open = attempts.iter().any(Attempt::is_open);
                self.table.note(&key, weight, is_open);
                return decision;
            }
        }
        let Some((attempt, decision)) = Attempt::begin(initial, &mut self.packet) else {
            return Decision::Junk(Junk::Tag);
        };
        self.add(copied, attempt);
        decision
    }

    fn add(&mut self, copied: &Copied<'_>, attempt: Attempt) {
        let key = copied.connection;
        match self.table.get_mut(&key) {
            None => self.table.insert(key, copied.client, copied.time, vec![attempt]),
            Some(attempts) => {
                if attempts.len() >= MAX_ATTEMPTS {
                    attempts.remove(0);
                }
                attempts.push(attempt);
            }
        }
        if let Some(attempts) = self.table.get_mut(&key) {
            let weight = attempts.iter().map(Attempt::weight).sum();
            let is_open = attempts.iter().any(Attempt::is_open);
            self.table.note(&key, weight, is_open);
        }
    }
}

impl Attempt {
    /// The attempt that a packet begins, under the keys of its own destination id (RFC 9001 5.2).
    fn begin(initial: &Initial<'_>, packet: &mut Vec<u8>) -> Option<(Self, Decision)> {
        let keys = Keys::new(initial.version, initial.dcid)?;
        let opened = open(&keys, initial, None, packet)?;
        let dcid = ConnectionId::new(initial.dcid)?;
        let reading = Reading {
            keys: vec![(initial.version, keys)],
            largest: None,
            stream: Stream::new(Hello::bare(), MAX_CRYPTO),
        };
        let mut attempt = Self { dcid, state: State::Reading(Box::new(reading)) };
        let decision = attempt.take(&opened, packet);
        Some((attempt, decision))
    }

    /// Reads a packet if it belongs to this attempt.
    fn read(&mut self, initial: &Initial<'_>, packet: &mut Vec<u8>) -> Option<Decision> {
        let is_same = self.dcid.octets() == initial.dcid;
        let reading = match &mut self.state {
            State::Done(known) if is_same => return Some(done(known)),
            // Under another destination id: the server's, or that of another attempt.
            State::Done(known) => {
                let keys = Keys::new(initial.version, self.dcid.octets())?;
                open(&keys, initial, None, packet)?;
                return Some(done(known));
            }
            State::Reading(reading) => reading,
        };
        let largest = reading.largest;
        let opened = match reading.keys_of(initial.version, &self.dcid) {
            Some(keys) => open(keys, initial, largest, packet),
            None => None,
        };
        match opened {
            Some(opened) => Some(self.take(&opened, packet)),
            // Its own keys would be the same.
            None if is_same => Some(Decision::Junk(Junk::Tag)),
            None => None,
        }
    }

    /// Takes in the frames of an opened packet.
    fn take(&mut self, opened: &Opened, packet: &[u8]) -> Decision {
        let State::Reading(reading) = &mut self.state else { return Decision::Undecided };
        reading.largest = reading.largest.max(Some(opened.number));
        for crypto in frames::crypto(packet.get(opened.head..opened.end).unwrap_or_default()) {
            let at = u32::try_from(crypto.offset).unwrap_or(u32::MAX);
            let known = match reading.stream.put(at, crypto.octets) {
                Known::Nothing => continue,
                Known::Name(name) => Ok(name),
                Known::NoName(why) => Err(why),
            };
            let decision = done(&known);
            self.state = State::Done(known);
            return decision;
        }
        Decision::Undecided
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    fn weight(&self) -> usize {
        match &self.state {
            State::Reading(reading) => reading.stream.weight(),
            State::Done(_) => 0,
        }
    }
}

impl Reading {
    /// Keys for packets of this version, which follow from the same destination id in all of them (RFC 9369 4.1).
    fn keys_of(&mut self, version: u32, dcid: &ConnectionId) -> Option<&Keys> {
        if !self.keys.iter().any(|(known, _)| *known == version) {
            self.keys.push((version, Keys::new(version, dcid.octets())?));
        }
        self.keys.iter().find(|(known, _)| *known == version).map(|(_, keys)| keys)
    }
}

fn done(known: &Result<Name, NoName>) -> Decision {
    match known {
        Ok(name) => Decision::Name(name.clone()),
        Err(why) => Decision::NoName(*why),
    }
}

/// Opens a copy of the packet, in `buffer`.
fn open(keys: &Keys, initial: &Initial<'_>, largest: Option<u64>, buffer: &mut Vec<u8>) -> Option<Opened> {
    buffer.clear();
    buffer.extend_from_slice(initial.packet);
    keys.open(buffer, initial.number, largest)
}

#[derive(Clone, Copy, Debug)]
struct ConnectionId {
    octets: [u8; MAX_CONNECTION_ID as usize],
    len: u8,
}

impl ConnectionId {
    fn new(id: &[u8]) -> Option<Self> {
        let mut octets = [0; MAX_CONNECTION_ID as usize];
        octets.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { octets, len: id.len() as u8 })
    }

    fn octets(&self) -> &[u8] {
        self.octets.get(..self.len.into()).unwrap_or_default()
    }
}

/// Attempts under the same ids.
const MAX_ATTEMPTS: usize = 3;
/// Octets of the handshake that are read.
const MAX_CRYPTO: u32 = 1 << 16;
