//! The filter together with the deferred tier, one after the other: what the tier finds in a frame has taken effect
//! before the next one.

use filter_common::{
    layout::quic_mode,
    verdict::{Action, Reason},
};
use filter_user::{
    deferred::{
        Limits,
        tier::{Counts, Tier},
    },
    kernel::{Behaviour, Copies},
    name::Name,
};

use crate::{
    harness::Filter,
    order::{TestOrder, order},
    packet::{Ip, Packet, Transport},
};

/// A filter and its tier.
pub struct Tiered {
    /// The filter.
    pub filter: Filter,
    /// What the tier counted.
    pub counts: Counts,
    /// Names that orders cover, as the tier found them.
    pub found: Vec<Name>,
    copies: Copies,
    tier: Tier,
}

impl Tiered {
    /// One order, `o`, drops QUIC to `example.com` and what is below it.
    pub fn new() -> Self {
        Self::with([&order("o", ["example.com"]).quic(Action::Drop)])
    }

    /// With these orders.
    pub fn with<'a>(orders: impl IntoIterator<Item = &'a TestOrder>) -> Self {
        Self::over(Filter::new(orders))
    }

    /// Over a filter that is there.
    pub fn over(filter: Filter) -> Self {
        let copies = filter.kernel().copies().expect("rings");
        Self { filter, counts: Counts::default(), found: Vec::new(), copies, tier: Tier::new(Limits::default()) }
    }

    /// Sets what becomes of undecided Initials: codes of [`quic_mode`].
    pub fn mode(self, mode: u8, fallback: u8) -> Self {
        self.behaviour(&Behaviour { quic_mode: mode, quic_fallback: fallback, ..Behaviour::default() });
        self
    }

    /// Sets all of it.
    pub fn behaviour(&self, behaviour: &Behaviour) {
        self.filter.kernel().tables().set_behaviour(behaviour).expect("behaviour");
    }

    /// Holds undecided Initials.
    pub fn holding(self) -> Self {
        self.mode(quic_mode::HOLD, quic_mode::PASS)
    }

    /// Judges a frame by the kernel alone; the tier has just given a sign of life.
    pub fn kernel(&mut self, frame: &[u8]) -> Reason {
        self.filter.kernel().tables().beat();
        self.filter.run_in_kernel(frame).reason
    }

    /// Judges a frame by the kernel alone, without a look at the counters; tells the XDP action.
    pub fn action(&self, frame: &[u8]) -> u32 {
        let kernel = self.filter.kernel();
        kernel.tables().beat();
        kernel.run(frame, 1).expect("the kernel takes the frame").xdp_action
    }

    /// Forgets all connections.
    pub fn forget(&mut self) {
        self.filter.forget_flows();
        self.tier = Tier::new(Limits::default());
    }

    /// Lets the tier read what was copied.
    pub fn settle(&mut self) -> usize {
        let (tier, counts, found) = (&mut self.tier, &self.counts, &mut self.found);
        let tables = self.filter.kernel().tables();
        self.copies.drain(|copy| found.extend(tier.take(copy, tables, counts).expect("tables")))
    }

    /// Judges a frame, and lets the tier read what was copied.
    pub fn run(&mut self, frame: &[u8]) -> Reason {
        let reason = self.kernel(frame);
        self.settle();
        reason
    }

    /// [`Tiered::run`] with a datagram to port 443 over IPv4.
    pub fn datagram(&mut self, datagram: &[u8]) -> Reason {
        self.run(&datagram_over(Ip::v4(), datagram))
    }
}

impl Default for Tiered {
    fn default() -> Self {
        Self::new()
    }
}

/// A frame with a datagram to port 443.
pub fn datagram_over(ip: Ip, datagram: &[u8]) -> Vec<u8> {
    Packet::new(ip, Transport::udp(443), datagram.to_vec()).build()
}
