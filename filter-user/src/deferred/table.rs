//! Connections in progress, bounded for each client and in all.
//!
//! State: entries by connection; their order of birth, in all and for each client. A connection's name comes within
//! milliseconds or not at all, so the oldest gives way, and entries end at a fixed age. A client over its bounds loses
//! its own oldest ones, so that no one's flood takes another's place before the whole table is full.

use std::collections::VecDeque;

use filter_common::layout::FlowKey;
use hashbrown::HashMap;

/// Bounds of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one client whose name is not known.
    pub client_connections: usize,
    /// Octets that wait, in all.
    pub octets: usize,
    /// Octets of one client that wait.
    pub client_octets: usize,
    /// Nanoseconds after which a connection is forgotten.
    pub age: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            client_connections: 256,
            octets: 32 << 20,
            client_octets: 256 << 10,
            age: 10_000_000_000,
        }
    }
}

/// The state of connections.
#[derive(Debug)]
pub struct Table<S> {
    limits: Limits,
    entries: HashMap<FlowKey, Entry<S>>,
    /// By age. An element whose entry is gone, or is another, counts for nothing.
    order: VecDeque<(FlowKey, u64)>,
    clients: HashMap<Client, Usage>,
    octets: usize,
    next_id: u64,
    /// Entries that ended, by age or for want of room, before their name was known.
    pub incomplete: u64,
}

#[derive(Debug)]
struct Entry<S> {
    state: S,
    id: u64,
    born: u64,
    client: Client,
    octets: usize,
    is_open: bool,
}

/// What one client has open.
#[derive(Debug, Default)]
struct Usage {
    connections: usize,
    octets: usize,
    /// By age, as [`Table::order`].
    order: VecDeque<(FlowKey, u64)>,
}

/// The /32 or /64 of a client.
type Client = [u8; 16];

impl<S> Table<S> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            order: VecDeque::new(),
            clients: HashMap::new(),
            octets: 0,
            next_id: 0,
            incomplete: 0,
        }
    }

    /// Connections that are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Octets that wait.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Forgets what is too old at `now`.
    pub fn expire(&mut self, now: u64) {
        while let Some((key, id)) = self.order.front().copied() {
            match self.entries.get(&key) {
                Some(entry) if entry.id == id && now.saturating_sub(entry.born) <= self.limits.age => break,
                Some(entry) if entry.id == id => self.evict(&key, id),
                _ => {}
            }
            self.order.pop_front();
        }
    }

    pub fn get_mut(&mut self, key: &FlowKey) -> Option<&mut S> {
        self.entries.get_mut(key).map(|entry| &mut entry.state)
    }

    /// Puts a new connection in, whose name is not known.
    pub fn insert(&mut self, key: FlowKey, client: [u8; 16], now: u64, state: S) {
        self.remove(&key);
        while self.entries.len() >= self.limits.connections.max(1)
            && let Some((key, id)) = self.order.pop_front()
        {
            self.evict(&key, id);
        }
        let (client, id) = (client_of(client), self.next_id);
        self.next_id += 1;
        self.order.push_back((key, id));
        self.entries.insert(key, Entry { state, id, born: now, client, octets: 0, is_open: true });
        let usage = self.clients.entry(client).or_default();
        usage.connections += 1;
        usage.order.push_back((key, id));
        self.bound(client);
        trim(&mut self.order, self.limits.connections.max(1), &self.entries);
    }

    /// Notes how many octets wait for this connection, and whether its name is still to come.
    pub fn note(&mut self, key: &FlowKey, octets: usize, is_open: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let client = entry.client;
        let (octets_before, was_open) = (entry.octets, entry.is_open);
        entry.octets = octets;
        entry.is_open = is_open;
        if octets == octets_before && was_open == is_open {
            return;
        }
        self.octets = self.octets + octets - octets_before;
        let id = entry.id;
        let usage = self.clients.entry(client).or_default();
        usage.octets = usage.octets + octets - octets_before;
        match (was_open, is_open) {
            (true, false) => usage.connections -= 1,
            (false, true) => {
                usage.connections += 1;
                usage.order.push_back((*key, id));
            }
            _ => {}
        }
        self.bound(client);
        while self.octets > self.limits.octets
            && let Some((key, id)) = self.order.pop_front()
        {
            self.evict(&key, id);
        }
    }

    /// Keeps a client within its bounds.
    fn bound(&mut self, client: Client) {
        while let Some(usage) = self.clients.get_mut(&client) {
            let most = self.limits.client_connections.max(1);
            if usage.connections == 0 && usage.octets == 0 {
                self.clients.remove(&client);
                return;
            }
            if usage.connections <= most && usage.octets <= self.limits.client_octets {
                trim(&mut usage.order, most, &self.entries);
                return;
            }
            let Some((key, id)) = usage.order.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|entry| entry.is_open) {
                self.evict(&key, id);
            }
        }
    }

    fn evict(&mut self, key: &FlowKey, id: u64) {
        if let Some(entry) = self.entries.get(key).filter(|entry| entry.id == id) {
            self.incomplete += u64::from(entry.is_open);
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &FlowKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.octets -= entry.octets;
        if let Some(usage) = self.clients.get_mut(&entry.client) {
            usage.octets -= entry.octets;
            usage.connections -= usize::from(entry.is_open);
            if usage.connections == 0 && usage.octets == 0 {
                self.clients.remove(&entry.client);
            }
        }
    }
}

/// Drops elements that count for nothing, before they pile up.
fn trim<S>(order: &mut VecDeque<(FlowKey, u64)>, most: usize, entries: &HashMap<FlowKey, Entry<S>>) {
    if order.len() > 2 * most {
        order.retain(|(key, id)| entries.get(key).is_some_and(|entry| entry.id == *id));
    }
}

/// A subscriber has an IPv4 address or an IPv6 /64, at least.
fn client_of(mut address: [u8; 16]) -> Client {
    if !address.starts_with(&V4_MAPPED) {
        address[8..].fill(0);
    }
    address
}

const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
