//! The filter under test: the real XDP program with compiled orders, one frame at a time by BPF_PROG_TEST_RUN.
//!
//! Every frame that goes through [`Filter::run`] is judged by [`host::judge`] as well, and both must agree.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use filter_common::{
    layout::{Counter, Hits},
    verdict::{Reason, Tally, Verdict},
};
use filter_user::{
    kernel::{Behaviour, Capacity, Clock, Kernel, Reading, TargetState, Targets, TlsPorts},
    name::Name,
    order::Match,
    policy::{Compiler, Limits, ScopeTable},
};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    host::{self, Image},
    order::TestOrder,
    packet::{Packet, answer::Answer, received::Received},
};

/// XDP action codes.
pub mod xdp {
    /// Goes nowhere.
    pub const DROP: u32 = 1;
    /// Goes on.
    pub const PASS: u32 = 2;
    /// Goes back.
    pub const TX: u32 = 3;
    /// Goes to another interface.
    pub const REDIRECT: u32 = 4;
}

/// What the filter is set to, beside orders.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Ports that DNS is read on.
    pub dns_ports: Vec<u16>,
    /// Ports that TLS is read on.
    pub tls_ports: TlsPorts,
    /// Ports that QUIC is read on.
    pub quic_ports: Vec<u16>,
    /// Scopes with their client prefixes.
    pub scopes: Vec<(&'static str, Vec<IpNet>)>,
    /// Names of redirect targets.
    pub targets: Vec<&'static str>,
    /// The host's own addresses.
    pub own: Vec<IpAddr>,
    /// Answers a second on each CPU.
    pub answers_per_second: u32,
    /// One in so many ClientHellos without a listed name is searched for ECH; 0 for none.
    pub ech_sample: u32,
    /// Sizes of the maps.
    pub capacity: Capacity,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            dns_ports: vec![53],
            tls_ports: TlsPorts::List(vec![443]),
            quic_ports: vec![443],
            scopes: Vec::new(),
            targets: Vec::new(),
            own: Vec::new(),
            answers_per_second: 1_000_000,
            ech_sample: 0,
            capacity: Capacity {
                names: 65_536,
                orders: 1024,
                policies: 4096,
                prefixes: 1024,
                targets: 4,
                own_addresses: 16,
                connections: 1024,
                messages: 1024,
                remembered: 1024,
                event_bytes: 4096,
            },
        }
    }
}

/// The loaded program with its tables.
pub struct Filter {
    kernel: Kernel,
    compiler: Compiler,
    clock: Clock,
    image: Image,
    /// Order slots by id.
    slots: HashMap<String, u32>,
    /// A frame may have left something behind for its flow.
    is_flow_known: AtomicBool,
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Run {
    /// Why: the one counter that moved.
    pub reason: Reason,
    /// XDP action code.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What else was counted, and how often.
    pub tallies: Vec<(Tally, u64)>,
}

impl Filter {
    /// With these orders, and else as by default.
    pub fn new<'a>(orders: impl IntoIterator<Item = &'a TestOrder>) -> Self {
        Self::with(Setup::default(), orders)
    }

    /// With this set-up and these orders.
    pub fn with<'a>(setup: Setup, orders: impl IntoIterator<Item = &'a TestOrder>) -> Self {
        let Setup { dns_ports, tls_ports, quic_ports, scopes, targets, own, answers_per_second, ech_sample, capacity } =
            setup;
        let kernel = Kernel::ephemeral(&capacity).expect("the program loads (as root)");
        let scope_table = ScopeTable::new(scopes.iter().map(|(name, _)| *name)).expect("at most 63 scopes");
        let bits: Vec<_> = scopes
            .into_iter()
            .map(|(name, prefixes)| (scope_table.bit(name).expect("a scope").trailing_zeros() as u8, prefixes))
            .collect();
        let tables = kernel.tables();
        let reading =
            Reading { dns: dns_ports.clone(), tls: tls_ports.clone(), quic: quic_ports.clone(), ..Reading::default() };
        tables.set_ports(&reading);
        let behaviour = Behaviour { answers_per_second, events_per_second: 0, ech_sample, ..Behaviour::default() };
        tables.set_behaviour(&behaviour).expect("behaviour");
        tables.set_scopes(&bits).expect("scopes");
        tables.set_own_addresses(&own).expect("own addresses");
        let limits = Limits { orders: capacity.orders, policies: capacity.policies, names: capacity.names };
        let slots = targets.into_iter().map(str::to_owned).zip(0..);
        let image = Image {
            key: Box::new(*tables.hash_key()),
            nodes: HashMap::new(),
            depths: [0; 2],
            policies: HashMap::new(),
            orders: HashMap::new(),
            scopes: bits,
            dns_ports: HashSet::from_iter(dns_ports),
            tls_ports,
            quic_ports: HashSet::from_iter(quic_ports),
            own: HashSet::from_iter(own),
            targets: HashMap::new(),
        };
        let compiler = Compiler::new(scope_table, slots, limits);
        let mut filter = Self {
            kernel,
            compiler,
            clock: Clock::now(),
            image,
            slots: HashMap::new(),
            is_flow_known: AtomicBool::new(false),
        };
        filter.change(|compiler| orders.into_iter().for_each(|order| put(compiler, order)));
        filter
    }

    /// Changes orders, and writes the changes to the tables.
    pub fn change(&mut self, change: impl FnOnce(&mut Compiler)) {
        change(&mut self.compiler);
        let changes = self.compiler.commit().expect("the orders fit");
        let tables = self.kernel.tables();
        tables.apply(&changes, &self.clock).expect("the tables take the changes");
        for (slot, order) in &changes.orders {
            self.slots.insert(order.id.clone(), *slot);
            self.image.orders.insert(*slot, tables.order(*slot).expect("order slot"));
        }
        for slot in &changes.retired_orders {
            self.image.orders.remove(slot);
        }
        self.image.policies.extend(changes.policies.iter().copied());
        for (name, node) in changes.insert.iter().chain(&changes.update) {
            self.image.nodes.insert(name.tag(&self.image.key), *node);
        }
        for name in &changes.delete {
            self.image.nodes.remove(&name.tag(&self.image.key));
        }
        self.image.depths = changes.depths;
    }

    /// Adds orders, or replaces those with their ids.
    pub fn put<'a>(&mut self, orders: impl IntoIterator<Item = &'a TestOrder>) {
        self.change(|compiler| orders.into_iter().for_each(|order| put(compiler, order)));
    }

    /// Sets the operator's allow list to these subtrees.
    pub fn allow<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let names: Vec<_> =
            names.into_iter().map(|name| (Name::parse(name).expect("a name"), Match::Subtree)).collect();
        self.change(|compiler| compiler.set_allow(names).expect("an allow list"));
    }

    /// Brings redirect targets up to date.
    pub fn refresh(&mut self, targets: &mut Targets) -> Vec<TargetState> {
        let states = targets.refresh(self.kernel.tables()).expect("targets");
        for (slot, _) in (0..).zip(&states) {
            self.image.targets.insert(slot, self.kernel.tables().target(slot).expect("target slot"));
        }
        states
    }

    /// The kernel side.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The tables as the host sees them.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Judges a frame by itself, whatever went before: exactly one counter moves, by one packet and the frame's length; the XDP action is the one of
    /// that reason's verdict; what passes or is dropped is unchanged; and the host comes to the same reason.
    pub fn run(&self, frame: &[u8]) -> Run {
        if self.is_flow_known.swap(false, Ordering::Relaxed) {
            self.forget_flows();
        }
        let run = self.run_in_kernel(frame);
        let now = self.clock.boot(Timestamp::now());
        let host = host::judge(frame, &self.image, now);
        assert_eq!(run.reason, host, "kernel and host disagree (kernel left, host right) over {}", hex(frame));
        run
    }

    /// [`Filter::run`] with what is known of the flow, and without the host's judgement, which knows nothing.
    pub fn run_in_kernel(&self, frame: &[u8]) -> Run {
        let tallied = self.tallies();
        let before = self.counters();
        let outcome = self.kernel.run(frame, 1).expect("the kernel takes the frame");
        let mut moved = before.iter().zip(self.counters()).filter(|(before, after)| *before != after);
        let ((reason, before), (_, after)) = moved.next().unwrap_or_else(|| panic!("no counter moved: {}", hex(frame)));
        let reason = *reason;
        assert_eq!(moved.map(|((reason, _), _)| *reason).next(), None, "two counters moved: {reason:?} and another");
        assert_eq!(after.packets, before.packets + 1, "packets of {reason:?}");
        assert_eq!(after.bytes, before.bytes + frame.len() as u64, "octets of {reason:?}");
        let expected = match reason.verdict() {
            Verdict::Pass => xdp::PASS,
            Verdict::Drop => xdp::DROP,
            Verdict::Answer => xdp::TX,
            Verdict::Redirect => xdp::REDIRECT,
        };
        assert_eq!(outcome.xdp_action, expected, "XDP action of {reason:?}");
        if matches!(reason.verdict(), Verdict::Pass) {
            assert_eq!(hex(&outcome.data_out), hex(frame), "{reason:?} changed the frame");
        }
        let tallies = tallied.iter().zip(self.tallies()).filter(|(before, after)| *before != after);
        let tallies = tallies.map(|((tally, before), (_, after))| (*tally, after - before)).collect();
        let tallies: Vec<_> = tallies;
        if !tallies.is_empty() {
            self.is_flow_known.store(true, Ordering::Relaxed);
        }
        Run { reason, action: outcome.xdp_action, frame: outcome.data_out, tallies }
    }

    /// Judges the frames of one or more connections in order, what is known of these included.
    pub fn run_all<'f>(&self, frames: impl IntoIterator<Item = &'f Vec<u8>>) -> Vec<Reason> {
        frames.into_iter().map(|frame| self.run_in_kernel(frame).reason).collect()
    }

    /// Forgets what is known of flows.
    pub fn forget_flows(&self) {
        self.kernel.tables().forget_flows();
    }

    /// What is counted beside the reasons.
    pub fn tallies(&self) -> Vec<(Tally, u64)> {
        self.kernel.tables().tallies().expect("tallies")
    }

    /// Judges a packet, and checks the reason.
    #[track_caller]
    pub fn expect(&self, packet: &Packet, reason: Reason) -> Run {
        self.expect_frame(&packet.build(), reason)
    }

    /// Judges a frame, and checks the reason.
    #[track_caller]
    pub fn expect_frame(&self, frame: &[u8], reason: Reason) -> Run {
        let run = self.run(frame);
        assert_eq!(run.reason, reason, "{}", hex(frame));
        run
    }

    /// Judges a packet, checks the reason and takes apart what comes back.
    #[track_caller]
    pub fn expect_back(&self, packet: &Packet, reason: Reason) -> Received {
        let run = self.expect(packet, reason);
        Received::parse(&run.frame).unwrap_or_else(|error| panic!("{error:#}: {}", hex(&run.frame)))
    }

    /// Judges a DNS query, checks the reason and reads the answer.
    #[track_caller]
    pub fn expect_answer(&self, packet: &Packet, reason: Reason) -> Answer {
        let back = self.expect_back(packet, reason);
        let message = back.message().expect("a datagram");
        Answer::parse(message).unwrap_or_else(|error| panic!("{error:#}: {}", hex(message)))
    }

    /// Counters by reason.
    pub fn counters(&self) -> Vec<(Reason, Counter)> {
        self.kernel.tables().counters().expect("counters")
    }

    /// Hits of an order, by id.
    pub fn hits(&self, id: &str) -> Hits {
        let slot = self.slots.get(id).expect("an order in the tables");
        self.kernel.tables().hits().expect("hits").get(slot).copied().unwrap_or_default()
    }
}

fn put(compiler: &mut Compiler, order: &TestOrder) {
    compiler.put(&order.build()).unwrap_or_else(|error| panic!("{error}"));
}

/// Octets as text.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
