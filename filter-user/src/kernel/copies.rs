//! The rings of copies for the deferred tier, one for each CPU, and what the tier writes back.

use std::{
    fmt,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use aya::maps::{Map, MapData, RingBuf};
use filter_common::{
    flow::{self, REMEMBERED},
    layout::{Deferred, FlowKey, MAX_CPUS, REMEMBERED_IDLE, Remembered, Tier},
    verdict::Protocol,
};

use super::{
    error::Error,
    plain,
    sys::{self, boot_time},
    table::Table,
    tables::Tables,
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
    /// If the kernel cannot be told, or not be waited for.
    pub fn sleep(&self, tables: &Tables, most: Duration) -> Result<(), Error> {
        let cpus = 0..self.rings.len() as u32;
        let set = |asleep: u32| cpus.clone().try_for_each(|cpu| tables.asleep.set(&cpu, &asleep));
        set(1)?;
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
        set(0)?;
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

/// Octets behind a hello that belong to its connection as well, where the name was found too late to stop the hello:
/// the handshake's end, and a first request.
const BEHIND_HELLO: u32 = 1 << 16;

impl Tables {
    /// Says that the deferred tier is alive.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn beat(&self) -> Result<(), Error> {
        self.tier.set(&0, &Tier { beat: boot_time() })
    }

    /// Has the program judge the connection of a copy by this host name, at most 255 octets, from now on.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn remember(&self, copy: &Deferred, name: &[u8]) -> Result<(), Error> {
        let mut remembered: Remembered = plain::zeroed();
        let len = name.len().min(u8::MAX.into());
        remembered.name.iter_mut().zip(name.iter().take(len)).for_each(|(to, from)| *to = *from);
        remembered.name_len = len as u16;
        remembered.protocol = copy.protocol;
        remembered.connection = copy.connection;
        remembered.seen = boot_time();
        if copy.protocol == Protocol::Quic as u8 {
            self.remembered.set(&copy.connection, &remembered)?;
        } else {
            remembered.start = copy.start;
            remembered.len = BEHIND_HELLO;
        }
        self.remembered.set(&copy.flow, &remembered)?;
        let line = self.tags.get(&copy.tag_line)?.unwrap_or(0);
        let kinds = flow::kinds(line, copy.tag).unwrap_or(0) | REMEMBERED;
        self.tags.set(&copy.tag_line, &flow::with(line, copy.tag, kinds))
    }

    /// Lets a QUIC connection's Initials pass while undecided ones are held.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn clear(&self, connection: &FlowKey) -> Result<(), Error> {
        self.cleared.set(connection, &boot_time())
    }

    /// The name that is remembered under a key, if it holds still.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn remembered(&self, key: &FlowKey) -> Result<Option<Remembered>, Error> {
        let known = self.remembered.get(key)?;
        Ok(known.filter(|known| boot_time().saturating_sub(known.seen) <= REMEMBERED_IDLE))
    }
}
