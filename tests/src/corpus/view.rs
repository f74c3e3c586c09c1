//! What becomes of every frame of a capture, with the deferred tier in lockstep.

use std::collections::BTreeSet;

use filter_common::{
    bytes::Slice,
    frame::{self, Network, TCP},
    verdict::{Action, Reason, Verdict},
};
use filter_user::{
    kernel::{Capacity, TlsPorts},
    name::Name,
};

use super::{DNS_PORTS, QUIC_PORTS};
use crate::{
    harness::{Filter, Setup, xdp},
    order::order,
    tiered::Tiered,
};

/// A filter that drops names, each exactly and whatever the protocol.
pub fn filter(names: &BTreeSet<&Name>) -> Filter {
    let order = order("corpus", names.iter().map(|name| name.as_str())).exact().all(Action::Drop);
    let setup = Setup {
        tls_ports: TlsPorts::Any,
        dns_ports: DNS_PORTS.to_vec(),
        quic_ports: QUIC_PORTS.to_vec(),
        capacity: Capacity { names: 65_536, ..Setup::default().capacity },
        ..Setup::default()
    };
    Filter::with(setup, if names.is_empty() { None } else { Some(&order) })
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// It was stopped.
    pub is_stopped: bool,
    /// Listed names that the deferred tier found in it.
    pub found: Vec<Name>,
}

/// The filter and its tier, for captures one after the other.
pub struct Viewer(Tiered);

impl Viewer {
    /// With these names dropped.
    pub fn new(names: &BTreeSet<&Name>) -> Self {
        Self(Tiered::over(filter(names)))
    }

    /// Judges the frames of a capture. Nothing stops a frame but an order, or the wait for the name of a connection that
    /// may be one that an order stops: the counters say so.
    pub fn judge(&mut self, frames: &[(u32, Vec<u8>)]) -> Vec<Met> {
        self.0.forget();
        let before = self.0.filter.counters();
        let met: Vec<_> = frames.iter().map(|(_, frame)| self.frame(frame)).collect();
        let mut stopped = met.iter().filter(|met| met.is_stopped).count() as u64;
        for ((reason, before), (_, after)) in before.iter().zip(self.0.filter.counters()) {
            let packets = after.packets - before.packets;
            match reason {
                Reason::Dropped | Reason::QuicHeld => stopped -= packets,
                _ => assert!(matches!(reason.verdict(), Verdict::Pass) || packets == 0, "{packets} {reason:?}"),
            }
        }
        assert_eq!(stopped, 0, "frames that are stopped but not counted so");
        met
    }

    /// The kernel refuses frames without a whole Ethernet header.
    fn frame(&mut self, frame: &[u8]) -> Met {
        if frame.len() < 14 {
            return Met { is_stopped: false, found: Vec::new() };
        }
        let action = self.0.action(frame);
        self.0.found.clear();
        self.0.settle();
        Met { is_stopped: action != xdp::PASS, found: std::mem::take(&mut self.0.found) }
    }
}

/// The client's side of a connection: addresses, transport and ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    octets: Vec<u8>,
}

impl Side {
    /// Of a frame with data; `None` for frames without.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let bytes = Slice(frame);
        let mut network = Network::default();
        match frame::network(&bytes) {
            Ok(known) => network = known,
            Err(Reason::Encapsulated) => {
                frame::unwrap(&bytes, &mut network, |network| frame::header(&bytes, network)).ok()?;
            }
            Err(_) => return None,
        }
        let read = if network.transport == TCP { frame::tcp } else { frame::udp };
        let payload = read(&bytes, &network).ok()?;
        let (addresses, octets) = if network.version == 4 { (network.l3 + 12, 8) } else { (network.l3 + 8, 32) };
        let mut side = vec![network.transport];
        side.extend(frame.get(addresses as usize..)?.get(..octets)?);
        side.extend(frame.get(network.l4 as usize..)?.get(..4)?);
        (payload.start < payload.end).then_some(Self { octets: side })
    }
}
