//! Redirect targets: which device, which next hop, and whether it is ready.

use std::net::IpAddr;

/// A target from the configuration. Its place in the list is its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    /// Its name.
    pub name: String,
    /// Device that sends.
    pub interface: String,
    /// Next hop whose Ethernet address is followed; none: the frame goes out as it came.
    pub next_hop: Option<IpAddr>,
    /// While it is not ready, packets pass instead of being dropped.
    pub fallback_pass: bool,
}

/// Whether a target is ready, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// The target's name.
    pub name: String,
    /// `None`: ready.
    pub problem: Option<String>,
}

/// The targets that are followed.
#[derive(Debug)]
pub struct Targets {}

impl Targets {
    /// Targets by slot.
    pub fn new(_specs: Vec<TargetSpec>) -> Self {
        todo!()
    }

    /// Looks at devices and neighbours anew and writes what changed; returns every target's state. Call it at start
    /// and each second.
    ///
    /// # Errors
    /// If a table cannot be written.
    pub fn refresh(&mut self, _tables: &super::Tables) -> Result<Vec<TargetState>, super::Error> {
        todo!()
    }
}
