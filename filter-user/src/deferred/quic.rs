//! QUIC: the ClientHello in the Initial packets of a client (RFC 9000, RFC 9001, RFC 9369).

mod connections;
mod frames;
mod keys;
mod packet;

pub use connections::{ConnectionId, Connections, Found, Ids, SEARCHED_ONE_IN, Searched};
