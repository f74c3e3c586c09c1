//! The deferred tier's engine: from copied packets to the names of their connections. It knows nothing of the kernel.
//!
//! State: one entry a connection, oldest first, in tables that are bounded for each client and in all ([`table`]).
//! Trust: none; every octet may be forged, and what does not fit is counted and forgotten. Octets of a QUIC packet are
//! believed once its tag is checked, which shows that its sender knew the connection id, and no more.

mod hello;
mod priority;
pub mod quic;
pub mod reader;
mod reassembly;
mod table;
pub mod tcp;
pub mod tier;

use filter_common::{layout::FlowKey, verdict::Reason};
pub use table::Limits;

use crate::name::Name;

/// A copied packet.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// Boot-time clock at its arrival, nanoseconds.
    pub time: u64,
    /// Key of the connection.
    pub connection: FlowKey,
    /// The client's address, IPv4 as `::ffff:a.b.c.d`.
    pub client: [u8; 16],
    /// The transport's payload.
    pub payload: &'a [u8],
}

/// What a packet made of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The name is still to come.
    Undecided,
    /// The connection's name.
    Name(Name),
    /// There is no name, and none will come.
    NoName(NoName),
    /// The packet tells nothing, and changes nothing.
    Junk(Junk),
}

/// Why a connection has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoName {
    /// The ClientHello shows none that can be judged.
    Hello(Reason),
    /// It is longer, or in more pieces, than is read.
    TooLong,
    /// The packet may be of one of several connections, or of one that is not known.
    Ambiguous,
}

/// Why a packet tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Junk {
    /// Its header does not fit.
    Header(Reason),
    /// There is no QUIC Initial in the datagram.
    NoInitial,
    /// The tag is wrong under all keys that could be its own.
    Tag,
    /// Before the connection's first octet, or too far behind it.
    Place,
}
