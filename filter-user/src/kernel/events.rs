//! The event ring, read and checked.

use std::net::IpAddr;

use filter_common::verdict::{Protocol, Reason};

/// One packet that a rule met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Boot-time clock, nanoseconds; see [`Clock::wall`](super::Clock::wall).
    pub time: u64,
    /// Scope bits of the client.
    pub scopes: u64,
    /// Deciding order's slot.
    pub order: u32,
    /// Why.
    pub reason: Reason,
    /// Protocol.
    pub protocol: Protocol,
    /// Client address as far as the settings let it be told.
    pub client: Option<IpAddr>,
    /// Receiving interface's index.
    pub interface: u32,
    /// The name in the packet, lower-cased; octets other than letters, digits, hyphen and underscore as `\DDD`
    /// (RFC 1035 5.1).
    pub name: String,
    /// The rule's name: the last labels of `name`.
    pub rule: String,
}

/// The reader. There can be one at a time.
#[derive(Debug)]
pub struct Events {}

impl Events {
    /// What is there now, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        todo!()
    }

    /// Waits for the next one; needs a tokio runtime. Safe to cancel.
    ///
    /// # Errors
    /// If the ring cannot be polled.
    pub async fn next(&mut self) -> Result<Event, super::Error> {
        todo!()
    }

    /// Records that were not well-formed, and skipped.
    pub fn malformed(&self) -> u64 {
        todo!()
    }
}
