//! The XDP program's judgement of a frame, on the host: the same parsers, composed by hand, over tables in memory.
//!
//! What the program and this must agree on is the reason. Left out: the rate of answers, and whether a packet can grow.

mod connection;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use filter_common::{
    answer::{self, Reply},
    bytes::{BUFFER, Slice},
    dns::{self, Question, Starts},
    edns::{self, Records},
    frame::{self, Network, Payload, Source, TCP, UDP},
    layout::{HashKey, NameTag, Node, Order, POLICY_ALLOW, POLICY_NONE, Policy, PolicyEntry, SCOPE_ALL, Target},
    quic::{Header, kind},
    verdict::{Action, Asker, Choice, Protocol, Reason},
    walk::{self, STEPS, Walk},
};
use filter_user::kernel::TlsPorts;
use ipnet::IpNet;

/// The tables, in memory.
#[derive(Clone)]
pub struct Image {
    /// Key of the name hash.
    pub key: Box<HashKey>,
    /// Nodes.
    pub nodes: HashMap<NameTag, Node>,
    /// Bit d: some node has d labels.
    pub depths: [u64; 2],
    /// Policy slots.
    pub policies: HashMap<u32, Policy>,
    /// Order slots.
    pub orders: HashMap<u32, Order>,
    /// Client prefixes by scope bit.
    pub scopes: Vec<(u8, Vec<IpNet>)>,
    /// Ports that DNS is read on.
    pub dns_ports: HashSet<u16>,
    /// Ports that TLS is read on.
    pub tls_ports: TlsPorts,
    /// Ports that QUIC is read on.
    pub quic_ports: HashSet<u16>,
    /// The host's own addresses.
    pub own: HashSet<IpAddr>,
    /// Redirect targets.
    pub targets: HashMap<u32, Target>,
}

/// Judges a frame at a time of the boot-time clock, in nanoseconds.
pub fn judge(frame: &[u8], image: &Image, now: u64) -> Reason {
    inspect(&Slice(frame), image, now).unwrap_or_else(|reason| reason)
}

/// Either way a reason; `Err` where no order holds.
type Judged = Result<Reason, Reason>;

fn inspect(bytes: &Slice, image: &Image, now: u64) -> Judged {
    let network = frame::read(bytes)?;
    let port = u16::from_be_bytes(array(bytes, network.l4 + 2).ok_or(Reason::FrameMalformed)?);
    match network.transport {
        UDP if image.dns_ports.contains(&port) => query(bytes, &network, image, now),
        UDP if image.quic_ports.contains(&port) => Err(datagram(bytes, &network)),
        TCP => connection::segment(bytes, &network, port, image, now),
        _ => Err(Reason::NotWatched),
    }
}

/// A datagram of a connection that nothing is known of, while no deferred tier runs.
fn datagram(bytes: &Slice, network: &Network) -> Reason {
    let read = || {
        let payload = frame::udp(bytes, network)?;
        let header = Header::read(bytes, &payload)?;
        Ok(match header.kind {
            kind::SHORT => Reason::QuicShort,
            _ if header.initial(bytes, payload.end).is_some() => Reason::QuicNoTier,
            _ => Reason::QuicOther,
        })
    };
    read().unwrap_or_else(|reason| reason)
}

fn query(bytes: &Slice, network: &Network, image: &Image, now: u64) -> Judged {
    let payload = frame::udp(bytes, network)?;
    let mut starts = [0; 128];
    let (question, qtype, slot) = question(bytes, &payload, &mut starts, image)?;
    let (entry, action) = image.decide(bytes, network, slot, Protocol::Dns, now)?;
    let order = image.orders.get(&entry.order).ok_or(Reason::TableBroken)?;
    if let Some(reason) = image.plain(action, order) {
        return Ok(reason);
    }

    let mut records = Records::begin(bytes, payload.start, &question, payload.end).ok_or(Reason::TableBroken)?;
    for _ in 0..edns::STEPS {
        if records.step(bytes).is_none() {
            break;
        }
    }
    if records.edns.tsig != 0 {
        return Err(Reason::DroppedTsig);
    }
    image.may_answer(bytes, network)?;
    let reply = Reply { order, entry, action, qtype, ttl: 60 };
    let mut buffer = [0; BUFFER];
    let (_, reason) = answer::message(bytes, &payload, &question, &starts, &records.edns, &reply, &mut buffer)?;
    Ok(reason)
}

/// Reads a question and looks its name up: the question, QTYPE, and the policy slot of orders that name it.
fn question(
    bytes: &Slice,
    message: &Payload,
    starts: &mut Starts,
    image: &Image,
) -> Result<(Question, u16, u32), Reason> {
    let mut question = Question::begin(bytes, message)?;
    loop {
        match question.step(bytes, starts) {
            dns::Step::More => {}
            dns::Step::Root => break,
            dns::Step::Stop(reason) => return Err(reason),
        }
    }
    let qtype = question.finish(bytes)?;
    if question.labels == 0 {
        return Err(Reason::NotListed);
    }
    let mut walk = Walk::dns(question.name, question.after() - 5);
    let slot = image.find(|| walk.step_dns(bytes, &image.key, question.labels, starts)).ok_or(Reason::TableBroken)?;
    listed(slot)?;
    Ok((question, qtype, slot))
}

impl Image {
    /// The policy slot that decides; `None` for a name with an empty label.
    fn find(&self, mut step: impl FnMut() -> Option<walk::Step>) -> Option<u32> {
        let mut slot = POLICY_NONE;
        let mut depth = 0;
        for _ in 0..STEPS {
            match step()? {
                walk::Step::More => {}
                walk::Step::Empty => return None,
                walk::Step::Label { key, last } => {
                    depth += 1;
                    let in_use = self.depths[usize::from(depth > 63)] >> (depth & 63) & 1 == 1;
                    if let (true, Some(node)) = (in_use, self.nodes.get(&key)) {
                        slot = if last { node.at } else { node.below };
                    }
                    if last {
                        return Some(slot);
                    }
                }
            }
        }
        None
    }

    fn decide(
        &self,
        bytes: &Slice,
        network: &Network,
        mut slot: u32,
        protocol: Protocol,
        now: u64,
    ) -> Result<(PolicyEntry, u8), Reason> {
        let asker = Asker::new(self.scopes_of(source(bytes, frame::scope_source(network))), protocol, now);
        let mut choice = Choice::NONE;
        while let (true, Some(policy)) = (slot != POLICY_NONE, self.policies.get(&slot)) {
            for entry in policy.entries.iter().take(policy.len as usize) {
                if let Some(order) = self.orders.get(&entry.order) {
                    choice.consider(*entry, order, &asker);
                }
            }
            slot = policy.next;
        }
        if choice.action == 0 { Err(choice.passed()) } else { Ok((choice.entry, choice.action)) }
    }

    /// The union of all scopes that hold the client.
    fn scopes_of(&self, client: Option<IpAddr>) -> u64 {
        let holds = |prefixes: &[IpNet]| client.is_some_and(|client| prefixes.iter().any(|net| net.contains(&client)));
        self.scopes.iter().filter(|(_, prefixes)| holds(prefixes)).fold(SCOPE_ALL, |bits, (bit, _)| bits | 1 << bit)
    }

    fn plain(&self, action: u8, order: &Order) -> Option<Reason> {
        match Action::from_code(action)? {
            Action::Observe => Some(Reason::Observed),
            Action::Drop => Some(Reason::Dropped),
            Action::Redirect => {
                let target = self.targets.get(&order.target).copied().unwrap_or_default();
                Some(match (target.ready, target.fallback_pass) {
                    (1, _) => Reason::Redirected,
                    (_, 1) => Reason::PassedNoTarget,
                    _ => Reason::DroppedNoTarget,
                })
            }
            _ => None,
        }
    }

    fn may_answer(&self, bytes: &Slice, network: &Network) -> Result<(), Reason> {
        let is_own = |at| source(bytes, at).is_none_or(|source| self.own.contains(&source));
        let client = Source { at: network.l3, version: network.version };
        let tunnel_end = Source { at: network.outer, version: network.outer_version };
        let refused = network.fragment != 0
            || frame::client(bytes, network).is_none()
            || is_own(client)
            || network.outer != 0 && (frame::tunnel_end(bytes, network).is_none() || is_own(tunnel_end));
        if refused { Err(Reason::DroppedUnanswerable) } else { Ok(()) }
    }
}

/// Whether a policy slot leads to orders.
fn listed(slot: u32) -> Result<(), Reason> {
    match slot {
        POLICY_NONE => Err(Reason::NotListed),
        POLICY_ALLOW => Err(Reason::Allowed),
        _ => Ok(()),
    }
}

fn source(bytes: &Slice, Source { at, version }: Source) -> Option<IpAddr> {
    if version == 4 {
        array::<4>(bytes, at + 12).map(IpAddr::from)
    } else {
        array::<16>(bytes, at + 8).map(IpAddr::from)
    }
}

fn array<const N: usize>(bytes: &Slice, at: u32) -> Option<[u8; N]> {
    bytes.0.get(at as usize..)?.first_chunk().copied()
}
