//! Redirect targets: which device, which next hop, and whether it is ready.
//!
//! A target is looked at anew each second: the device may come and go, its driver may begin or cease to send
//! redirected frames (veth does with its peer's state), the next hop's address may change.

use std::{collections::HashMap, net::IpAddr};

use filter_common::layout::Target;

use super::{
    device,
    error::Error,
    neighbours::{self, Neighbour},
    tables::Tables,
};

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
pub struct Targets {
    specs: Vec<TargetSpec>,
    /// What the tables hold, by slot: the interface index (0 for none) and the target; nothing is known at first.
    written: HashMap<u32, (u32, Target)>,
}

impl Targets {
    /// Targets by slot.
    pub fn new(specs: Vec<TargetSpec>) -> Self {
        Self { specs, written: HashMap::new() }
    }

    /// Looks at devices and neighbours anew and writes what changed; returns every target's state. Call it at start
    /// and each second.
    ///
    /// # Errors
    /// If the kernel does not answer, a table cannot be written, or there are more targets than slots
    /// ([`Error::Full`]).
    pub fn refresh(&mut self, tables: &Tables) -> Result<Vec<TargetState>, Error> {
        if self.specs.len() > tables.targets.entries() as usize {
            return Err(Error::full(filter_common::layout::map::TARGETS, tables.targets.entries()));
        }
        let neighbours = if self.specs.iter().any(|spec| spec.next_hop.is_some()) {
            neighbours::all().map_err(Error::system("reading the neighbour table"))?
        } else {
            HashMap::new()
        };
        let mut states = Vec::new();
        for slot in 0..tables.targets.entries() {
            let mut target = Target::default();
            let mut index = 0;
            if let Some(spec) = self.specs.get(slot as usize) {
                target.fallback_pass = spec.fallback_pass.into();
                let found = find(spec, &neighbours, &mut target);
                let problem = match found {
                    Ok(found) => {
                        index = found;
                        target.ready = 1;
                        None
                    }
                    Err(problem) => Some(problem),
                };
                states.push(TargetState { name: spec.name.clone(), problem });
            }
            if self.written.get(&slot) != Some(&(index, target)) {
                // Until it is written, nothing is known of it.
                self.written.remove(&slot);
                write(tables, slot, index, &target)?;
                self.written.insert(slot, (index, target));
            }
        }
        Ok(states)
    }
}

/// Finds the device, and the Ethernet addresses if they are to be rewritten; or says what is not ready.
fn find(spec: &TargetSpec, neighbours: &HashMap<(u32, IpAddr), Neighbour>, target: &mut Target) -> Result<u32, String> {
    let TargetSpec { interface, next_hop, .. } = spec;
    let index = device::index(interface).ok_or_else(|| format!("{interface}: no such interface"))?;
    match device::can_transmit(index) {
        Ok(Some(false)) => return Err(format!("{interface}: its driver does not send redirected frames")),
        // Kernels before 6.3 do not tell; there the redirect itself fails, and the frame is dropped.
        Ok(Some(true) | None) => {}
        Err(error) => return Err(format!("{interface}: asking for its abilities: {error}")),
    }
    if let Some(next_hop) = next_hop {
        let neighbour = neighbours.get(&(index, *next_hop));
        if !neighbour.is_some_and(|neighbour| neighbour.fresh) {
            neighbours::nudge(index, *next_hop)
                .map_err(|error| format!("{interface}: asking for {next_hop}: {error}"))?;
        }
        let neighbour = neighbour.ok_or_else(|| format!("{interface}: no answer from {next_hop}"))?;
        let link = device::link(index).map_err(|error| format!("{interface}: {error}"))?;
        target.rewrite = 1;
        target.destination = neighbour.address;
        target.source = link.address.ok_or_else(|| format!("{interface}: not an Ethernet device"))?;
    }
    Ok(index)
}

/// The device is there before the target is ready, and goes after it.
fn write(tables: &Tables, slot: u32, index: u32, target: &Target) -> Result<(), Error> {
    let _writing = tables.lock();
    if index == 0 {
        tables.targets.set(&slot, target)?;
        return tables.target_devices.delete(&slot);
    }
    // struct bpf_devmap_val: no program for the redirected frame.
    tables.target_devices.set(&slot, &[index, 0])?;
    tables.targets.set(&slot, target)
}
