//! TCP: the ClientHello of a connection whose segments did not come in order.

use filter_common::{
    layout::{self, FlowKey},
    stream::PUT_IN_ORDER,
};

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
    ended: u64,
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
        Self { table: Table::new(limits), ended: 0 }
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
        if at >= PUT_IN_ORDER || copied.payload.is_empty() {
            return Decision::Junk(Junk::Place);
        }
        // Another start: another connection, with the same addresses and ports.
        if self.table.get_mut(&key).is_none_or(|connection| connection.start != start) {
            let stream = match begun {
                Some(begun) => Stream::at(begun.reader.next, Hello::resumed(begun), PUT_IN_ORDER),
                None => Stream::new(Hello::in_records(), PUT_IN_ORDER),
            };
            let state = State::Reading(stream);
            self.table.insert(key, copied.client, copied.time, Connection { start, state });
        }
        let Some(connection) = self.table.get_mut(&key) else { return Decision::Undecided };
        let stream = match &mut connection.state {
            State::Done(decision) => return decision.clone(),
            State::Reading(stream) => stream,
        };
        let room = (PUT_IN_ORDER - at) as usize;
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
            self.ended += 1;
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

    /// Connections that were read to their name, or until it was clear that they have none.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Connections that were forgotten before their name was known: for want of room, or because it did not come.
    pub fn incomplete(&self) -> u64 {
        self.table.incomplete
    }
}
