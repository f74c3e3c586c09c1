//! The maps: reading them, and writing all but the orders (`apply`).
//!
//! Every write keeps the packet path in a state that is the old or the new one for each packet by itself. Writers
//! exclude each other within this process; only one process writes (the daemon).

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::{
        Mutex,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, Release},
        },
    },
};

use filter_common::{
    flow::LINES,
    layout::{
        Counter, FlowKey, Flows, HashKey, Hits, NameTag, Node, Order, PORT_DNS, PORT_ENCRYPTED_DNS, PORT_QUIC,
        PORT_TLS, Policy, PrefixV4, PrefixV6, Remembered, SCOPE_ALL, Settings, SpotKey, Stream, SynMark, Target, Tier,
        client_detail, map, quic_mode,
    },
    verdict::{Reason, Tally},
};
use ipnet::IpNet;

use super::{
    Capacity,
    error::Error,
    events::Events,
    names::NameTable,
    pins,
    plain::{self, Plain},
    scopes::{self, Entries, Prefix},
    shape,
    table::{PerCpu, Table},
    words::Words,
};
use crate::name::Name;

/// Which ports TLS is looked for on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsPorts {
    /// These.
    List(Vec<u16>),
    /// Every one that DNS is not read on.
    Any,
}

/// Which ports are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// DNS, over UDP and TCP.
    pub dns: Vec<u16>,
    /// TLS over TCP.
    pub tls: TlsPorts,
    /// QUIC.
    pub quic: Vec<u16>,
    /// DNS over TLS and over QUIC, which is only counted.
    pub encrypted_dns: Vec<u16>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { dns: vec![53], tls: TlsPorts::List(vec![443]), quic: vec![443], encrypted_dns: vec![853] }
    }
}

/// One in so many ClientHellos without a listed name is searched for ECH: enough for a share, and a search, which may
/// keep the hello over several segments, costs the others next to nothing.
pub const ECH_SAMPLE: u32 = 256;

/// What the program does beside what orders say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Answers, and resets, a second on each CPU.
    pub answers_per_second: u32,
    /// Events a second on each CPU.
    pub events_per_second: u32,
    /// Code of [`client_detail`].
    pub client_detail: u32,
    /// Copies for the deferred tier a second on each CPU.
    pub copies_per_second: u32,
    /// One in so many ClientHellos without a listed name is searched for ECH; 0 for none.
    pub ech_sample: u32,
    /// Code of [`quic_mode`].
    pub quic_mode: u8,
    /// Code of [`quic_mode`] while the deferred tier is dead or over its budget.
    pub quic_fallback: u8,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            answers_per_second: 10_000,
            events_per_second: 1000,
            client_detail: client_detail::NONE,
            copies_per_second: 20_000,
            ech_sample: ECH_SAMPLE,
            quic_mode: quic_mode::PASS,
            quic_fallback: quic_mode::PASS,
        }
    }
}

/// What is shared with the program without system calls.
#[derive(Debug)]
pub(super) struct Shared {
    /// Of `SETTINGS`, those at its beginning: the depths.
    pub depths: Words,
    /// As [`Flows`] has them.
    flows: Words,
    pub tier: Words,
    pub asleep: Words,
}

impl Shared {
    /// A line of tags, if there are so many.
    pub fn tags(&self, line: u32) -> Option<&AtomicU64> {
        if line < LINES { self.flows.get(TAGS + line) } else { None }
    }
}

/// The maps. All methods take `&self`, and may be called from several threads.
pub struct Tables {
    pub(super) names: NameTable,
    pub(super) policies: Table<u32, Policy>,
    pub(super) orders: Table<u32, Order>,
    hits: PerCpu<Hits>,
    scopes_v4: Table<PrefixV4, u64>,
    scopes_v6: Table<PrefixV6, u64>,
    settings: Table<u32, Settings>,
    counters: PerCpu<Counter>,
    tallies: PerCpu<u64>,
    pub(super) flows: Table<u32, Flows>,
    pub(super) marks: Table<FlowKey, SynMark>,
    pub(super) streams: Table<FlowKey, Stream>,
    pub(super) remembered: Table<FlowKey, Remembered>,
    pub(super) resolvers: Table<[u8; 16], u8>,
    pub(super) cleared: Table<FlowKey, u64>,
    pub(super) targets: Table<u32, Target>,
    pub(super) target_devices: Table<u32, [u32; 2]>,
    pub(super) own_addresses: Table<[u8; 16], u8>,
    events: (OwnedFd, u32),
    pub(super) shared: Shared,
    pub(super) key: Box<HashKey>,
    /// Held while writing.
    pub(super) writing: Mutex<()>,
}

impl Tables {
    /// The pinned maps, without loading a program: for `explain` and `stats` while no daemon runs.
    ///
    /// # Errors
    /// [`Error::Missing`] if not all of them are pinned, [`Error::Shape`] if one does not fit.
    pub fn open(pin_root: &Path) -> Result<Self, Error> {
        let maps = shape::open_pinned(&pins::folder(pin_root))?;
        // The key is made by whoever holds the folder's lock, so that there is never a second one.
        Self::from_maps(maps, |_| Err(Error::Missing("hash key".into())))
    }

    /// From an object's maps by name, which no other process is opening. Makes the hash key if there is none yet.
    pub(super) fn new(maps: HashMap<String, OwnedFd>) -> Result<Self, Error> {
        Self::from_maps(maps, make_hash_key)
    }

    fn from_maps(
        mut maps: HashMap<String, OwnedFd>,
        make_key: impl FnOnce(&Table<u32, HashKey>) -> Result<HashKey, Error>,
    ) -> Result<Self, Error> {
        let shapes = shape::check(&maps)?;
        let mut take = |name: &'static str| {
            let fd = maps.remove(name).ok_or_else(|| Error::Missing(format!("map {name}")))?;
            Ok::<_, Error>((fd, name, shapes.get(name).copied().unwrap_or(0)))
        };
        fn table<K: Plain, V: Plain>((fd, name, entries): (OwnedFd, &'static str, u32)) -> Table<K, V> {
            Table::new(fd, name, entries)
        }
        let (events, _, event_bytes) = take(map::EVENTS)?;
        let (hits, hits_name, orders) = take(map::HITS)?;
        let (counters, counters_name, reasons) = take(map::COUNTERS)?;
        let (tallies, tallies_name, tally_count) = take(map::TALLIES)?;
        let settings: Table<u32, Settings> = table(take(map::SETTINGS)?);
        let flows: Table<u32, Flows> = table(take(map::FLOWS)?);
        let (key, is_new) = hash_key(&table(take(map::HASH_KEY)?), make_key)?;
        let words = |(fd, name, entries): (OwnedFd, &str, u32)| Words::map(fd.as_fd(), name, entries as usize);
        let shared = Shared {
            depths: Words::map(settings.fd(), map::SETTINGS, DEPTHS)?,
            flows: Words::map(flows.fd(), map::FLOWS, size_of::<Flows>() / size_of::<u64>())?,
            tier: words(take(map::TIER)?)?,
            asleep: words(take(map::ASLEEP)?)?,
        };
        Ok(Self {
            names: NameTable::new(table(take(map::NAMES)?), &table(take(map::NAME_FILTER)?), is_new)?,
            policies: table(take(map::POLICIES)?),
            orders: table(take(map::ORDERS)?),
            hits: PerCpu::new(hits, hits_name, orders)?,
            scopes_v4: table(take(map::SCOPES_V4)?),
            scopes_v6: table(take(map::SCOPES_V6)?),
            settings,
            counters: PerCpu::new(counters, counters_name, reasons)?,
            tallies: PerCpu::new(tallies, tallies_name, tally_count)?,
            flows,
            shared,
            marks: table(take(map::SYN_MARKS)?),
            streams: table(take(map::STREAMS)?),
            remembered: table(take(map::REMEMBERED)?),
            resolvers: table(take(map::RESOLVERS)?),
            cleared: table(take(map::CLEARED)?),
            targets: table(take(map::TARGETS)?),
            target_devices: table(take(map::TARGET_DEVICES)?),
            own_addresses: table(take(map::OWN_ADDRESSES)?),
            events: (events, event_bytes),
            key: Box::new(key),
            writing: Mutex::new(()),
        })
    }

    /// Sizes in force: those of the pinned maps, which may not be those that were asked for.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            names: self.names.entries(),
            orders: self.orders.entries(),
            policies: self.policies.entries(),
            prefixes: self.scopes_v4.entries().min(self.scopes_v6.entries()),
            targets: self.targets.entries(),
            own_addresses: self.own_addresses.entries(),
            connections: self.marks.entries(),
            messages: self.streams.entries(),
            remembered: self.remembered.entries(),
            event_bytes: self.events.1,
        }
    }

    /// Sets the client prefixes of each scope bit, writing what differs. Bit 0 (`all`) needs none.
    ///
    /// # Errors
    /// [`Error::Full`] and others; then some clients have their old scopes, and others their new ones.
    pub fn set_scopes(&self, scopes: &[(u8, Vec<IpNet>)]) -> Result<(), Error> {
        let _writing = self.lock();
        let (v4, v6) = scopes::entries(scopes);
        write_scopes(&self.scopes_v4, &v4)?;
        write_scopes(&self.scopes_v6, &v6)
    }

    /// Sets the ports that are read.
    pub fn set_ports(&self, reading: &Reading) {
        let _writing = self.lock();
        // Before the roles: without these, it is not in use.
        let key = self.shared.flows.iter().zip(self.spot_key());
        key.for_each(|(word, key)| word.store(key, Release));
        let mut roles = vec![0_u8; PORTS];
        let mut add = |port: u16, role| {
            if let Some(roles) = roles.get_mut(usize::from(port)) {
                *roles |= role;
            }
        };
        reading.dns.iter().for_each(|port| add(*port, PORT_DNS));
        match &reading.tls {
            TlsPorts::List(list) => list.iter().for_each(|port| add(*port, PORT_TLS)),
            TlsPorts::Any => {
                (0..=u16::MAX).filter(|port| !reading.dns.contains(port)).for_each(|port| add(port, PORT_TLS));
            }
        }
        reading.quic.iter().for_each(|port| add(*port, PORT_QUIC));
        reading.encrypted_dns.iter().for_each(|port| add(*port, PORT_ENCRYPTED_DNS));
        let (words, _) = roles.as_chunks();
        for (word, roles) in self.shared.flows.iter().skip(ROLES).zip(words) {
            word.store(u64::from_ne_bytes(*roles), Release);
        }
    }

    /// Sets rates and modes; depths and generation stay as they are.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_behaviour(&self, behaviour: &Behaviour) -> Result<(), Error> {
        self.change_settings(|settings| {
            settings.answers_per_second = behaviour.answers_per_second;
            settings.events_per_second = behaviour.events_per_second;
            settings.client_detail = behaviour.client_detail;
            settings.copies_per_second = behaviour.copies_per_second;
            settings.ech_sample = behaviour.ech_sample;
            settings.quic_mode = behaviour.quic_mode;
            settings.quic_fallback = behaviour.quic_fallback;
        })
    }

    pub(super) fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        let _writing = self.lock();
        self.write_settings(change)
    }

    /// The same for who holds the lock.
    pub(super) fn write_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        let mut settings = self.settings()?;
        change(&mut settings);
        settings.filter = self.key.filter;
        settings.filter_lines = self.names.filter_lines();
        settings.buckets = self.names.buckets();
        self.settings.set(&0, &settings)
    }

    /// What is counted beside the reasons, over all CPUs.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn tallies(&self) -> Result<Vec<(Tally, u64)>, Error> {
        let mut tallies: Vec<_> = Tally::ALL.iter().map(|tally| (*tally, 0)).collect();
        self.tallies.for_each(|slot, values| {
            if let Some((_, count)) = tallies.get_mut(slot as usize) {
                *count = values.iter().sum();
            }
        })?;
        Ok(tallies)
    }

    /// Has the program look for no state of any flow that it knows now.
    pub fn forget_flows(&self) {
        (0..LINES).filter_map(|line| self.shared.tags(line)).for_each(|line| line.store(0, Relaxed));
    }

    /// Settings in force, with depths and generation.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn settings(&self) -> Result<Settings, Error> {
        Ok(self.settings.get(&0)?.unwrap_or_default())
    }

    /// The key of the name hash. Not to be told: whoever knows it can make names that collide.
    pub fn hash_key(&self) -> &HashKey {
        &self.key
    }

    /// The key of a flow's place among the tags.
    pub fn spot_key(&self) -> SpotKey {
        self.key.spot()
    }

    /// The node of exactly this name.
    pub fn node(&self, name: &Name) -> Option<Node> {
        self.names.get(&name.listing(&self.key).tag)
    }

    /// All nodes.
    pub fn snapshot(&self) -> HashMap<NameTag, Node> {
        let mut nodes = HashMap::new();
        self.names.for_each(|tag, node| {
            nodes.insert(tag, node);
        });
        nodes
    }

    /// A policy slot.
    ///
    /// # Errors
    /// If the map cannot be read; [`Error::Missing`] beyond its size.
    pub fn policy(&self, slot: u32) -> Result<Policy, Error> {
        self.policies.get(&slot)?.ok_or_else(|| Error::Missing(format!("policy slot {slot}")))
    }

    /// An order slot.
    ///
    /// # Errors
    /// As [`Tables::policy`].
    pub fn order(&self, slot: u32) -> Result<Order, Error> {
        self.orders.get(&slot)?.ok_or_else(|| Error::Missing(format!("order slot {slot}")))
    }

    /// A target slot.
    ///
    /// # Errors
    /// As [`Tables::policy`].
    pub fn target(&self, slot: u32) -> Result<Target, Error> {
        self.targets.get(&slot)?.ok_or_else(|| Error::Missing(format!("target slot {slot}")))
    }

    /// Scope bits of a client, with [`SCOPE_ALL`].
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn scopes_of(&self, client: IpAddr) -> Result<u64, Error> {
        let bits = match client {
            IpAddr::V4(client) => self.scopes_v4.get(&PrefixV4::new(client.octets(), 32))?,
            IpAddr::V6(client) => self.scopes_v6.get(&PrefixV6::new(client.octets(), 128))?,
        };
        Ok(bits.unwrap_or(0) | SCOPE_ALL)
    }

    /// Packets and octets by reason, over all CPUs, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        let mut counters = Vec::new();
        self.counters.for_each(|slot, cpus| {
            let mut sum = Counter::default();
            for cpu in cpus {
                sum.packets += cpu.packets;
                sum.bytes += cpu.bytes;
            }
            counters.extend(Reason::from_code(slot).map(|reason| (reason, sum)));
        })?;
        Ok(counters)
    }

    /// Hits by order slot, over all CPUs; slots without any are left out.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn hits(&self) -> Result<HashMap<u32, Hits>, Error> {
        let mut hits = HashMap::new();
        self.hits.for_each(|slot, cpus| {
            let mut sum = Hits::default();
            for cpu in cpus {
                sum.decided += cpu.decided;
                sum.concerned += cpu.concerned;
            }
            if sum != Hits::default() {
                hits.insert(slot, sum);
            }
        })?;
        Ok(hits)
    }

    /// Sets order slots' hits to zero: before a slot is handed to another order.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn clear_hits(&self, slots: &[u32]) -> Result<(), Error> {
        slots.iter().try_for_each(|slot| self.hits.set_all(*slot, Hits::default()))
    }

    /// The event ring's reader.
    ///
    /// # Errors
    /// If the ring cannot be mapped.
    pub fn events(&self) -> Result<Events, Error> {
        let (ring, _) = &self.events;
        Events::new(ring.try_clone().map_err(Error::system("duplicating the event ring's descriptor"))?)
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        // What the lock protects is in the kernel; a writer that panicked has left nothing half-done here.
        self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Without the hash key: whoever knows it can make names that collide.
impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

fn write_scopes<P: Prefix + Plain>(table: &Table<P, u64>, new: &Entries<P::Address>) -> Result<(), Error> {
    let mut old = Entries::new();
    table.for_each(|prefix, bits| {
        old.insert(prefix.parts(), bits);
    })?;
    let difference = scopes::difference(&old, new);
    difference.set.iter().try_for_each(|(prefix, bits)| table.set(prefix, bits))?;
    difference.delete.iter().try_for_each(|prefix| table.delete(prefix))
}

/// The installation's hash key, and whether it is new: it is all zero in a new map, and made before anything is written
/// to the others.
fn hash_key(
    table: &Table<u32, HashKey>,
    make: impl FnOnce(&Table<u32, HashKey>) -> Result<HashKey, Error>,
) -> Result<(HashKey, bool), Error> {
    let key: HashKey = table.get(&0)?.unwrap_or_else(plain::zeroed);
    let is_new = key.terms.iter().flatten().chain(key.start.iter().flatten()).all(|word| *word == 0);
    Ok((if is_new { make(table)? } else { key }, is_new))
}

fn make_hash_key(table: &Table<u32, HashKey>) -> Result<HashKey, Error> {
    let mut key: HashKey = plain::zeroed();
    plain::fill_random(&mut key).map_err(Error::system("making a hash key"))?;
    key.filter = key.filter.made_odd();
    table.set(&0, &key)?;
    Ok(key)
}

/// Words of [`Settings::depths`], which come first.
const DEPTHS: usize = 2;
/// The first word of [`Flows::tags`].
const TAGS: u32 = (std::mem::offset_of!(Flows, tags) / size_of::<u64>()) as u32;
/// The first word of [`Flows::roles`].
const ROLES: usize = std::mem::offset_of!(Flows, roles) / size_of::<u64>();
/// Ports that there are.
const PORTS: usize = 1 << 16;
const _: () = assert!(std::mem::offset_of!(Settings, depths) == 0 && size_of::<Tier>() == size_of::<u64>());
