//! The rings of copies for the deferred tier, one for each CPU, and what the tier writes back.

use std::{
    fmt,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::Ordering::{Relaxed, Release, SeqCst},
    time::Duration,
};

use aya::maps::{Map, MapData, RingBuf};
use filter_common::{
    flow::{self, REMEMBERED},
    layout::{Deferred, FlowKey, MAX_CPUS, POLICY_ALLOW, POLICY_NONE, Remembered, Stream},
    verdict::Protocol,
};

use super::{
    error::Error,
    plain,
    sys::{self, boot_time},
    table::Table,
    tables::Tables,
};
use crate::{
    deferred::quic::Ids,
    name::{Lister, Name},
};

/// Octets of one CPU's ring: some 680 copies.
const RING: u32 = 1 << 20;

/// The reader. A program has one at a time: its rings are new.
pub struct Copies {
    rings: Vec<RingBuf<MapData>>,
}

impl Copies {
    /// Puts new rings into a program's map of rings.
    pub(super) fn new(outer: OwnedFd) -> Result<Self, Error> {
        let outer = Table::<u32, u32>::new(outer, "DEFERRED", MAX_CPUS);
        let cpus = aya::util::nr_cpus().map_err(|(what, source)| Error::System { what: what.into(), source })?;
        let mut rings = Vec::new();
        for cpu in 0..(cpus as u32).min(MAX_CPUS) {
            let ring = sys::create_ring(RING).map_err(Error::system("making a ring for copies"))?;
            outer.set(&cpu, &(ring.as_raw_fd() as u32))?;
            let open = || RingBuf::try_from(Map::from_map_data(MapData::from_fd(ring)?)?);
            rings.push(open().map_err(|error| Error::System {
                what: "opening a ring for copies".into(),
                source: std::io::Error::other(error),
            })?);
        }
        Ok(Self { rings })
    }

    /// Hands over what is there now; tells how many that were.
    pub fn drain(&mut self, mut take: impl FnMut(&Deferred)) -> usize {
        let mut taken = 0;
        for ring in &mut self.rings {
            // A ring that fills up as fast as it is read must not keep the others waiting.
            for _ in 0..TURN {
                let Some(record) = ring.next() else { break };
                if let Some(copy) = plain::read::<Deferred>(&record) {
                    take(&copy);
                }
                taken += 1;
            }
        }
        taken
    }

    /// Sleeps until there is a copy, for `most` at the longest.
    ///
    /// # Errors
    /// If the kernel cannot be waited for.
    pub fn sleep(&self, tables: &Tables, most: Duration) -> Result<(), Error> {
        let set = |asleep: u64| {
            let cpus = 0..self.rings.len() as u32;
            cpus.filter_map(|cpu| tables.shared.asleep.get(cpu)).for_each(|word| word.store(asleep, SeqCst));
        };
        set(1);
        let mut wait: Vec<_> = self
            .rings
            .iter()
            .map(|ring| libc::pollfd { fd: ring.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // A copy that came before the program knew that we sleep is there for poll to see.
        // SAFETY: the array is ours, with its length.
        let woken =
            unsafe { libc::poll(wait.as_mut_ptr(), wait.len() as libc::nfds_t, most.as_millis() as libc::c_int) };
        let error = std::io::Error::last_os_error();
        set(0);
        if woken < 0 && error.kind() != std::io::ErrorKind::Interrupted {
            return Err(Error::System { what: "waiting for copies".into(), source: error });
        }
        Ok(())
    }
}

/// Copies that are taken from one ring before the next has its turn.
const TURN: usize = 256;

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

/// Names that the deferred tier has found and that are not in the kernel yet: a system call for each would take as long as
/// finding it.
#[derive(Debug, Default)]
pub struct Findings {
    names: Vec<(FlowKey, Remembered)>,
    /// Lines and tags that announce them.
    tags: Vec<(u32, u16)>,
}

impl Findings {
    /// Has the connection of a copy be judged by this name, from [`Tables::remember`] on.
    pub fn add(&mut self, copy: &Deferred, name: &Name, ids: Option<&Ids>) {
        let mut remembered: Remembered = plain::zeroed();
        let text = name.as_str().as_bytes();
        remembered.name.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        remembered.name_len = text.len() as u16;
        remembered.protocol = copy.protocol;
        remembered.connection = copy.connection;
        remembered.seen = boot_time();
        (remembered.tag, remembered.tag_line) = (copy.tag, copy.tag_line);
        if copy.protocol == Protocol::Quic as u8 {
            if let Some(Ids { origin, server }) = ids {
                (remembered.origin, remembered.origin_len) = (origin.words(), origin.octets().len() as u8);
                if let Some(server) = server {
                    (remembered.server, remembered.server_len) = (server.words(), server.octets().len() as u8);
                }
            }
            self.names.push((copy.connection, remembered));
        } else {
            remembered.start = copy.start;
            remembered.len = BEHIND_HELLO;
        }
        // By it packets with short headers are found, which show the server's id only.
        if remembered.protocol != Protocol::Quic as u8 || remembered.server_len > 0 {
            self.names.push((copy.flow, remembered));
        }
        self.tags.push((copy.tag_line, copy.tag));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Octets behind a hello that belong to its connection as well, where the name was found too late to stop the hello:
/// the handshake's end, and a first request.
const BEHIND_HELLO: u32 = 1 << 16;

impl Tables {
    /// Says that the deferred tier is alive.
    pub fn beat(&self) {
        if let Some(beat) = self.shared.tier.get(0) {
            beat.store(boot_time(), Relaxed);
        }
    }

    /// The ClientHello in progress that the kernel has of a connection whose hello begins at this sequence number.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn hello_in_progress(&self, flow: &FlowKey, start: u32) -> Result<Option<Stream>, Error> {
        let is_it = |stream: &Stream| stream.base == start && stream.reader.named == 0;
        Ok(self.streams.get(flow)?.filter(is_it))
    }

    /// Whether orders may cover a name: whether the node that decides has any. As the program does, but past the filter.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn is_covered(&self, name: &Name) -> Result<bool, Error> {
        let [low, high] = [0, 1].map(|word| self.shared.depths.get(word).map_or(0, |depths| depths.load(Relaxed)));
        let mut listing = Lister::default();
        let mut slot = POLICY_NONE;
        let last = usize::from(name.depth());
        for (depth, label) in (1..).zip(name.labels()) {
            let name = listing.push(self.hash_key(), label.as_bytes());
            let bits = if depth & 64 == 0 { low } else { high };
            if bits >> (depth & 63) & 1 == 0 {
                continue;
            }
            if let Some(node) = self.names.get(&name.tag) {
                slot = if depth == last { node.at } else { node.below };
            }
        }
        Ok(slot != POLICY_NONE && slot != POLICY_ALLOW)
    }

    /// Whether a name is remembered for the QUIC connection of a copy.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn remembers(&self, copy: &Deferred) -> Result<bool, Error> {
        Ok(self.remembered.get(&copy.connection)?.is_some())
    }

    /// Has the program judge connections by the names that were found for them, and forgets the findings.
    ///
    /// # Errors
    /// If a map cannot be written; the findings are forgotten nevertheless, and a further packet of such a connection
    /// shows its name again.
    pub fn remember(&self, findings: &mut Findings) -> Result<(), Error> {
        let mut written = self.remembered.set_all(&findings.names);
        if written.is_err() {
            // One that cannot be written is not to cost the others.
            let singly = findings.names.iter().map(|(key, name)| self.remembered.set(key, name));
            written = singly.fold(Ok(()), Result::and);
        }
        findings.names.clear();
        // Behind the names, so that the program finds what it looks for. One too many costs a look.
        for (line, tag) in findings.tags.drain(..) {
            if let Some(line) = self.shared.tags(line) {
                let announced = |line| flow::with(line, tag, flow::kinds(line, tag).unwrap_or(0) | REMEMBERED);
                line.update(Release, Relaxed, announced);
            }
        }
        written
    }

    /// Lets the QUIC connection of a copy pass that was held, whatever was remembered under the same ids.
    ///
    /// # Errors
    /// If a map cannot be read or written.
    pub fn clear(&self, copy: &Deferred) -> Result<(), Error> {
        self.cleared.set(&copy.connection, &boot_time())?;
        self.remembered.delete(&copy.connection)?;
        if self.remembered.get(&copy.flow)?.is_some_and(|known| known.connection == copy.connection) {
            self.remembered.delete(&copy.flow)?;
        }
        Ok(())
    }
}
