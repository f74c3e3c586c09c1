//! TCP: the ClientHello of a connection whose segments did not come in order.

use super::{
    Copied, Decision, Junk, Limits,
    hello::Hello,
    reassembly::{Known, Stream},
    table::Table,
};

/// Connections whose first segments are put in order.
#[derive(Debug)]
pub struct Segments {
    table: Table<Connection>,
}

#[derive(Debug)]
struct Connection {
    start: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(Stream),
    Done(Found),
}

/// What a segment made of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The decision.
    pub decision: Decision,
    /// Octets of the ClientHello with its records, as far as they are known.
    pub hello_len: u32,
}

impl Segments {
    /// None.
    pub fn new(limits: Limits) -> Self {
        Self { table: Table::new(limits) }
    }

    /// Reads a segment whose first octet has this sequence number, of a connection whose first octet has `start`.
    pub fn read(&mut self, copied: &Copied<'_>, start: u32, sequence: u32) -> Found {
        self.table.expire(copied.time);
        let key = copied.connection;
        let at = sequence.wrapping_sub(start);
        if at >= MAX_OCTETS || copied.payload.is_empty() {
            return Found { decision: Decision::Junk(Junk::Place), hello_len: 0 };
        }
        // Another start: another connection, with the same addresses and ports.
        if self.table.get_mut(&key).is_none_or(|connection| connection.start != start) {
            let state = State::Reading(Stream::new(Hello::in_records(), MAX_OCTETS));
            self.table.insert(key, copied.client, copied.time, Connection { start, state });
        }
        let Some(connection) = self.table.get_mut(&key) else {
            return Found { decision: Decision::Undecided, hello_len: 0 };
        };
        let stream = match &mut connection.state {
            State::Done(found) => return found.clone(),
            State::Reading(stream) => stream,
        };
        let room = (MAX_OCTETS - at) as usize;
        let decision = match stream.put(at, copied.payload.get(..room).unwrap_or(copied.payload)) {
            Known::Nothing => Decision::Undecided,
            Known::Name(name) => Decision::Name(name),
            Known::NoName(why) => Decision::NoName(why),
        };
        let found = Found { decision, hello_len: stream.hello_end() };
        let weight = stream.weight();
        if found.decision == Decision::Undecided {
            self.table.note(&key, weight, true);
        } else {
            connection.state = State::Done(found.clone());
            self.table.note(&key, 0, false);
        }
        found
    }

    /// Connections that are held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that were forgotten, for want of room, before their name was known.
    pub fn evicted(&self) -> u64 {
        self.table.evicted
    }
}

/// Octets of a connection that are read: a TLS record, or many small ones.
const MAX_OCTETS: u32 = 16 << 10;
