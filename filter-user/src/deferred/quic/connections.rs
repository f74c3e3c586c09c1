//! The connections whose Initials came: their keys, and what is read of their ClientHellos.
//!
//! State: for each connection the attempts that share its ids, at most [`MAX_ATTEMPTS`]; each has the destination id
//! that its keys follow from. A Retry begins a new attempt, and so does a later connection under the same ids. Trust: an
//! attempt begins with a packet whose tag is right under its own destination id, which anyone can make; it can add to
//! an attempt only what is right under that one's keys. The server's id is shown by a packet that is right under an
//! attempt's keys, or, where a client without a source id of its own sends none, guessed from a Handshake packet.

use std::sync::Arc;

use filter_common::{
    bytes::Slice,
    quic::{MAX_CONNECTION_ID, id_words},
    verdict::Reason,
};

use super::{
    super::{
        Copied, Decision, Junk, Limits, NoName,
        hello::Hello,
        reassembly::{Known, Stream},
        table::Table,
    },
    frames::{self, Crypto},
    keys::{Keys, Opened},
    packet::{Initial, handshake, initials},
};
use crate::name::Name;

/// All of them.
#[derive(Debug)]
pub struct Connections {
    table: Table<Vec<Attempt>>,
    ended: u64,
    /// Attempts that there were.
    begun: u64,
    ech: Searched,
    /// Held by each search that goes on.
    searches: Arc<()>,
    /// The packet that is being opened.
    packet: Vec<u8>,
}

/// ClientHellos that were searched for an Encrypted Client Hello (RFC 9849): one in [`SEARCHED_ONE_IN`], as far as they
/// came to the end of their extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// All of them.
    pub hellos: u64,
    /// Those that have one, genuine or GREASE.
    pub encrypted: u64,
}

/// See [`Searched`]. To search a hello takes the Initials behind the one that has the name.
pub const SEARCHED_ONE_IN: u64 = 16;

/// Searches that go on at once; what would be one more is not searched. Most end with the Initial that they begin with.
const MAX_SEARCHES: usize = 512;
/// Octets that wait for others before them, beyond which a search is given up: of all together 2 MiB.
const MAX_WAITING: usize = 4096;

#[derive(Debug)]
struct Attempt {
    ids: Ids,
    /// The server's id is from a Handshake packet, whose tag cannot be checked.
    is_guessed: bool,
    /// An older one gave way under the same ids.
    follows_forgotten: bool,
    state: State,
}

/// What a datagram made of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The decision.
    pub decision: Decision,
    /// The connection's destination ids, if the datagram is of one that is known.
    pub ids: Option<Ids>,
    /// That it is of that one is a guess: nothing in it could be opened.
    pub is_guess: bool,
}

/// The destination ids of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The one that the client chose, or was given by a Retry: the keys follow from it.
    pub origin: ConnectionId,
    /// The one that the server chose, once it is known.
    pub server: Option<ConnectionId>,
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
    /// Whether it is searched for an Encrypted Client Hello; see [`Connections::searches`].
    search: Option<Arc<()>>,
    /// What was found, while the search goes on.
    known: Option<Result<Name, NoName>>,
}

impl Connections {
    /// None.
    pub fn new(limits: Limits) -> Self {
        Self {
            table: Table::new(limits),
            ended: 0,
            begun: 0,
            ech: Searched::default(),
            searches: Arc::default(),
            packet: Vec::with_capacity(2048),
        }
    }

    /// Reads a datagram.
    pub fn read(&mut self, copied: &Copied<'_>) -> Found {
        self.table.expire(copied.time);
        let mut found = Found::junk(Junk::NoInitial);
        let mut scid = None;
        for initial in initials(copied.payload) {
            let next = match initial {
                Err(reason) => Found::junk(Junk::Header(reason)),
                // "Receivers SHOULD ignore any subsequent packets with a different" id (RFC 9000 12.2).
                Ok(initial) if *scid.get_or_insert(initial.scid) != initial.scid => continue,
                Ok(initial) => self.initial(copied, &initial),
            };
            if matches!(next.decision, Decision::Name(_) | Decision::NoName(_)) {
                return next;
            }
            if next.decision == Decision::Undecided || found.decision == Decision::Junk(Junk::NoInitial) {
                found = next;
            }
        }
        match handshake(copied.payload) {
            Some(server) if found.decision == Decision::Junk(Junk::NoInitial) => self.handshake(copied, server),
            _ => found,
        }
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

    /// Connections that were read to their name, or until it was clear that they have none. An attempt counts as one.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// What was found of encrypted hellos.
    pub fn searched(&self) -> Searched {
        self.ech
    }

    /// Connections that were forgotten before their name was known: for want of room, or because it did not come.
    pub fn incomplete(&self) -> u64 {
        self.table.incomplete
    }

    fn initial(&mut self, copied: &Copied<'_>, initial: &Initial<'_>) -> Found {
        let key = copied.connection;
        let attempts = self.table.get_mut(&key);
        if let Some(attempts) = attempts {
            let known = attempts.iter_mut().rev().find_map(|attempt| {
                let was_open = attempt.is_open();
                let found = attempt.read(initial, &mut self.packet, &mut self.ech)?;
                Some((found, was_open && !attempt.is_open()))
            });
            if let Some((found, ends)) = known {
                self.ended += u64::from(ends);
                let weight = attempts.iter().map(Attempt::weight).sum();
                let is_open = attempts.iter().any(Attempt::is_open);
                self.table.note(&key, weight, is_open);
                return found;
            }
        }
        let is_chosen = self.begun.is_multiple_of(SEARCHED_ONE_IN) && Arc::strong_count(&self.searches) <= MAX_SEARCHES;
        let search = is_chosen.then(|| Arc::clone(&self.searches));
        let begun = Attempt::begin(initial, search, &mut self.packet, &mut self.ech);
        let Some((attempt, found)) = begun else { return Found::junk(Junk::Tag) };
        self.begun += 1;
        self.ended += u64::from(!attempt.is_open());
        self.add(copied, attempt);
        found
    }

    /// A Handshake packet to a server's connection id: of which attempt? It is believed only where that can be but one,
    /// or ones of the same name, because the packets of another connection must not be stopped with it.
    fn handshake(&mut self, copied: &Copied<'_>, server: &[u8]) -> Found {
        let ambiguous = Found { decision: Decision::NoName(NoName::Ambiguous), ids: None, is_guess: true };
        let (Some(attempts), Some(server)) = (self.table.get_mut(&copied.connection), ConnectionId::new(server)) else {
            return ambiguous;
        };
        // A connection has one id of its server until its handshake is done (RFC 9000 7.2).
        let is_other = |attempt: &Attempt| !attempt.is_guessed && attempt.ids.server.is_some_and(|id| id != server);
        let shown = attempts.iter().rposition(|attempt| !attempt.is_guessed && attempt.ids.server == Some(server));
        let last = attempts.iter().rposition(|attempt| !is_other(attempt));
        let Some(attempt) = shown.or(last) else { return ambiguous };
        let decision = attempts.get(attempt).map(Attempt::decision);
        let agree = |other: &Attempt| is_other(other) || Some(other.decision()) == decision;
        // One that is forgotten may have had another name.
        let is_forgotten = attempts.iter().any(|attempt| attempt.follows_forgotten);
        if shown.is_none() && (is_forgotten || !attempts.iter().all(agree)) {
            return ambiguous;
        }
        let Some((attempt, decision)) = attempts.get_mut(attempt).zip(decision) else { return ambiguous };
        match attempt.ids.server {
            None => (attempt.ids.server, attempt.is_guessed) = (Some(server), true),
            Some(known) if known != server => return ambiguous,
            Some(_) => {}
        }
        Found { decision, ids: Some(attempt.ids), is_guess: true }
    }

    fn add(&mut self, copied: &Copied<'_>, attempt: Attempt) {
        let key = copied.connection;
        match self.table.get_mut(&key) {
            None => self.table.insert(key, copied.client, copied.time, vec![attempt]),
            Some(attempts) => {
                if attempts.len() >= MAX_ATTEMPTS {
                    attempts.remove(0);
                    attempts.iter_mut().for_each(|attempt| attempt.follows_forgotten = true);
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
    fn begin(
        initial: &Initial<'_>,
        search: Option<Arc<()>>,
        packet: &mut Vec<u8>,
        ech: &mut Searched,
    ) -> Option<(Self, Found)> {
        let keys = Keys::new(initial.version, initial.dcid)?;
        let opened = open(&keys, initial, None, packet)?;
        let ids = Ids { origin: ConnectionId::new(initial.dcid)?, server: None };
        let reading = Reading {
            keys: vec![(initial.version, keys)],
            largest: None,
            stream: Stream::new(if search.is_some() { Hello::bare().searched() } else { Hello::bare() }, MAX_CRYPTO),
            search,
            known: None,
        };
        let mut attempt =
            Self { ids, is_guessed: false, follows_forgotten: false, state: State::Reading(Box::new(reading)) };
        let decision = attempt.take(&opened, packet, ech);
        Some((attempt, Found::sure(decision, ids)))
    }

    /// Reads a packet if it belongs to this attempt.
    fn read(&mut self, initial: &Initial<'_>, packet: &mut Vec<u8>, ech: &mut Searched) -> Option<Found> {
        let origin = self.ids.origin;
        let is_same = origin.octets() == initial.dcid;
        let opened = match &mut self.state {
            State::Done(_) if is_same => return Some(Found::sure(self.decision(), self.ids)),
            // Under another destination id: the server's, or that of another attempt.
            State::Done(_) => open(&Keys::new(initial.version, origin.octets())?, initial, None, packet),
            State::Reading(reading) => {
                let largest = reading.largest;
                let keys = reading.keys_of(initial.version, &origin);
                keys.and_then(|keys| open(keys, initial, largest, packet))
            }
        };
        match opened {
            Some(opened) => {
                if !is_same {
                    (self.ids.server, self.is_guessed) = (ConnectionId::new(initial.dcid), false);
                }
                Some(Found::sure(self.take(&opened, packet, ech), self.ids))
            }
            // Its own keys would be the same.
            None if is_same => Some(Found::junk(Junk::Tag)),
            None => None,
        }
    }

    /// Takes in the frames of an opened packet.
    fn take(&mut self, opened: &Opened, packet: &[u8], ech: &mut Searched) -> Decision {
        let State::Reading(reading) = &mut self.state else { return self.decision() };
        reading.largest = reading.largest.max(Some(opened.number));
        for crypto in frames::crypto(packet.get(opened.head..opened.end).unwrap_or_default()) {
            if let Some(known) = reading.take(&crypto, ech) {
                self.state = State::Done(known);
                return self.decision();
            }
        }
        // What waits for the rest of a search counts as nobody's, so that no one's connection is forgotten for it.
        if let State::Reading(reading) = &mut self.state
            && reading.stream.weight() > MAX_WAITING
            && let Some(known) = reading.known.take()
        {
            self.state = State::Done(known);
        }
        self.decision()
    }

    fn decision(&self) -> Decision {
        match self.known() {
            None => Decision::Undecided,
            Some(Ok(name)) => Decision::Name(name.clone()),
            Some(Err(why)) => Decision::NoName(*why),
        }
    }

    fn known(&self) -> Option<&Result<Name, NoName>> {
        match &self.state {
            State::Reading(reading) => reading.known.as_ref(),
            State::Done(known) => Some(known),
        }
    }

    fn is_open(&self) -> bool {
        self.known().is_none()
    }

    fn weight(&self) -> usize {
        match &self.state {
            State::Reading(reading) if reading.known.is_none() => reading.stream.weight(),
            State::Reading(_) | State::Done(_) => 0,
        }
    }
}

impl Reading {
    /// Takes in a frame; tells what the connection has for a name once nothing more is to be read.
    fn take(&mut self, crypto: &Crypto<'_>, ech: &mut Searched) -> Option<Result<Name, NoName>> {
        let at = u32::try_from(crypto.offset).unwrap_or(u32::MAX);
        loop {
            let found = match self.stream.put(at, crypto.octets) {
                Known::Nothing => return None,
                Known::Name(name) => Ok(name),
                Known::NoName(why) => Err(why),
            };
            let is_end = found.is_err();
            let is_searched = self.search.is_some();
            if is_searched && found == Err(NoName::Hello(Reason::TlsNoSni)) {
                ech.hellos += 1;
                ech.encrypted += u64::from(self.stream.has_ech());
            }
            // What comes behind a name is no other.
            let known = self.known.take().unwrap_or(found);
            if is_end || !is_searched {
                return Some(known);
            }
            self.known = Some(known);
        }
    }

    /// Keys for packets of this version, which follow from the same destination id in all of them (RFC 9369 4.1).
    fn keys_of(&mut self, version: u32, dcid: &ConnectionId) -> Option<&Keys> {
        if !self.keys.iter().any(|(known, _)| *known == version) {
            self.keys.push((version, Keys::new(version, dcid.octets())?));
        }
        self.keys.iter().find(|(known, _)| *known == version).map(|(_, keys)| keys)
    }
}

/// Opens a copy of the packet, in `buffer`.
fn open(keys: &Keys, initial: &Initial<'_>, largest: Option<u64>, buffer: &mut Vec<u8>) -> Option<Opened> {
    buffer.clear();
    buffer.extend_from_slice(initial.packet);
    keys.open(buffer, initial.number, largest)
}

/// A connection id (RFC 9000 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// Its octets, behind zeros.
    octets: [u8; ROOM],
    len: u8,
}

impl ConnectionId {
    /// `None` if it is longer than one can be.
    pub fn new(id: &[u8]) -> Option<Self> {
        if id.len() > MAX_CONNECTION_ID as usize {
            return None;
        }
        let mut octets = [0; ROOM];
        octets.get_mut(ROOM - id.len()..)?.copy_from_slice(id);
        Some(Self { octets, len: id.len() as u8 })
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        self.octets.get(ROOM - usize::from(self.len)..).unwrap_or_default()
    }

    /// As `filter_common::quic::id_words` reads it from a packet.
    pub fn words(&self) -> [u64; 3] {
        id_words(&Slice(&self.octets), ROOM as u32, self.len.into()).unwrap_or_default()
    }
}

impl Found {
    fn sure(decision: Decision, ids: Ids) -> Self {
        Self { decision, ids: Some(ids), is_guess: false }
    }

    fn junk(junk: Junk) -> Self {
        Self { decision: Decision::Junk(junk), ids: None, is_guess: false }
    }
}

/// As much as is looked at before the end of a connection id.
const ROOM: usize = 24;
/// Attempts under the same ids.
const MAX_ATTEMPTS: usize = 3;
/// Octets of the handshake that are read.
const MAX_CRYPTO: u32 = 1 << 16;
