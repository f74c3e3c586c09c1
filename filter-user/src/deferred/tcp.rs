//! TCP: the ClientHello of a connection whose segments did not come in order.

use filter_common::layout::{self, FlowKey};

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
    Done(Decision),
}

impl Segments {
    /// None.
    pub fn new(limits: Limits) -> Self {
        Self { table: Table::new(limits) }
    }

    /// Whether a connection is held whose first octet has this sequence number.
    pub fn knows(&mut self, connection: &FlowKey, start: u32) -> bool {
        self.table.get_mut(connection).is_some_and(|connection| connection.start == start)
    }

    /// Reads a segment whose first octet has this sequence number, of a connection whose first octet has `start`.
    /// `begun` is what the kernel has read of it, for a connection that is not known yet.
    pub fn read(&mut self, copied: &Copied<'_>, start: u32, sequence: u32, begun: Option<&layout::Stream>) -> Decision {
        self.table.expire(copied.time);
        let key = copied.connection;
        let at = sequence.wrapping_sub(start);
        if at >= MAX_OCTETS || copied.payload.is_empty() {
            return Decision::Junk(Junk::Place);
        }
        // Another start: another connection, with the same addresses and ports.
        if self.table.get_mut(&key).is_none_or(|connection| connection.start != start) {
            let stream = match begun {
                Some(begun) => Stream::at(begun.reader.next, Hello::resumed(begun), MAX_OCTETS),
                None => Stream::new(Hello::in_records(), MAX_OCTETS),
            };
            let state = State::Reading(stream);
            self.table.insert(key, copied.client, copied.time, Connection { start, state });
        }
        let Some(connection) = self.table.get_mut(&key) else { return Decision::Undecided };
        let stream = match &mut connection.state {
            State::Done(decision) => return decision.clone(),
            State::Reading(stream) => stream,
        };
        let room = (MAX_OCTETS - at) as usize;
        let decision = match stream.put(at, copied.payload.get(..room).unwrap_or(copied.payload)) {
            Known::Nothing => Decision::Undecided,
            Known::Name(name) => Decision::Name(name),
            Known::NoName(why) => Decision::NoName(why),
        };
        let weight = stream.weight();
        if decision == Decision::Undecided {
            self.table.note(&key, weight, true);
        } else {
            connection.state = State::Done(decision.clone());
            self.table.note(&key, 0, false);
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

    /// Connections that were forgotten before their name was known: for want of room, or because it did not come.
    pub fn incomplete(&self) -> u64 {
        self.table.incomplete
    }
}

/// Octets of a connection that are read: a TLS record, or many small ones.
pub const MAX_OCTETS: u32 = 16 << 10;
