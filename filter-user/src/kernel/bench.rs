//! The benchmark object: the filter over packets from a map.

use std::{
    os::fd::OwnedFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use filter_common::layout::map;

use super::{
    Capacity,
    copies::Copies,
    error::Error,
    object::{self, Loaded, Object, ProgramFacts},
    plain_names::PlainNames,
    run::{self, RunOutcome},
    table::{PerCpu, Table},
    tables::Tables,
};

/// Octets of a short packet (queries, mid-connection segments).
pub const SHORT: usize = 128;

/// Octets of a long packet (ClientHellos, QUIC Initials).
pub const LONG: usize = 1280;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Fetches the next short packet, and judges it.
    ShortRun,
    /// Only fetches the next short packet.
    ShortEmpty,
    /// Fetches the next long packet, and judges it.
    LongRun,
    /// Only fetches the next long packet.
    LongEmpty,
    /// Fetches the next short packet, and compares its port: of what is done with a packet, the least.
    ShortPort,
    /// Fetches the next short packet, and looks its name up in a BPF hash map, and each name above it: as it is written,
    /// in IPv4 without options only.
    ShortNames,
    /// Fetches the next short packet, and reads a line of the filter at random.
    ShortLine,
    /// The same, and then a bucket of names.
    ShortBucket,
    /// Fetches the next long packet, and copies its payload to a ring.
    LongCopy,
    /// Nothing: the kernel's own cost of a run.
    Nothing,
}

impl Entry {
    const fn is_long(self) -> bool {
        matches!(self, Self::LongRun | Self::LongEmpty | Self::LongCopy)
    }

    const fn program(self) -> &'static str {
        match self {
            Self::ShortRun => "short_run",
            Self::ShortEmpty => "short_empty",
            Self::LongRun => "long_run",
            Self::LongEmpty => "long_empty",
            Self::LongCopy => "long_copy",
            Self::ShortPort => "short_port",
            Self::ShortNames => "short_names",
            Self::ShortLine => "short_line",
            Self::ShortBucket => "short_bucket",
            Self::Nothing => "nothing",
        }
    }
}

/// The benchmark's programs, with tables of their own, and its packets.
#[derive(Debug)]
pub struct Bench {
    programs: Vec<Loaded>,
    tables: Tables,
    short: Packets<SHORT>,
    long: Packets<LONG>,
    plain: PlainNames,
    next: PerCpu<[u32; 2]>,
    rings: Mutex<Option<OwnedFd>>,
}

/// A map of packets, which runs take in order, again and again.
#[derive(Debug)]
pub struct Packets<const N: usize> {
    map: Table<u32, [u8; N]>,
    count: AtomicU32,
}

impl<const N: usize> Packets<N> {
    /// Puts these packets in place of the ones before. What a frame lacks is zeros: octets behind the IP packet.
    ///
    /// # Errors
    /// [`Error::Full`] for more than there is room for.
    pub fn set(&self, frames: impl Iterator<Item = Vec<u8>>) -> Result<(), Error> {
        let padded = |frame: Vec<u8>| {
            let mut packet = [0; N];
            packet.iter_mut().zip(frame).for_each(|(to, from)| *to = from);
            packet
        };
        let packets: Vec<_> = (0..).zip(frames.map(padded)).collect();
        self.map.set_all(&packets)?;
        self.count.store(packets.len() as u32, Ordering::Relaxed);
        Ok(())
    }
}

impl Bench {
    /// Loads the programs, with room for so many packets of each size, and for so many names of [`Entry::ShortNames`].
    ///
    /// # Errors
    /// As [`Kernel::open`](super::Kernel::open).
    pub fn new(capacity: &Capacity, short: u32, long: u32, plain: u32) -> Result<Self, Error> {
        let sizes = [(SHORT_PACKETS, short), (LONG_PACKETS, long), (PlainNames::MAP, plain)];
        let (programs, mut maps) = object::load(Object::Bench, capacity, None, &sizes)?;
        let plain = PlainNames::take(&mut maps, plain)?;
        let mut take = |name: &str| maps.remove(name).ok_or_else(|| Error::Missing(format!("map {name}")));
        let short = Packets { map: Table::new(take(SHORT_PACKETS)?, SHORT_PACKETS, short), count: AtomicU32::new(0) };
        let long = Packets { map: Table::new(take(LONG_PACKETS)?, LONG_PACKETS, long), count: AtomicU32::new(0) };
        let next = PerCpu::new(take(NEXT)?, NEXT, 1)?;
        let rings = Mutex::new(Some(take(map::DEFERRED)?));
        Ok(Self { tables: Tables::new(maps)?, programs, short, long, plain, next, rings })
    }

    /// Packets of the short entries.
    pub fn short(&self) -> &Packets<SHORT> {
        &self.short
    }

    /// Packets of the long entries.
    pub fn long(&self) -> &Packets<LONG> {
        &self.long
    }

    /// Names that [`Entry::ShortNames`] drops.
    pub fn plain(&self) -> &PlainNames {
        &self.plain
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The reader of copies.
    ///
    /// # Errors
    /// As [`Kernel::copies`](super::Kernel::copies).
    pub fn copies(&self) -> Result<Copies, Error> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).take();
        Copies::new(rings.ok_or_else(|| Error::Missing("rings for copies without a reader".into()))?)
    }

    /// Each program with its verified-instruction count.
    pub fn programs(&self) -> impl Iterator<Item = &ProgramFacts> {
        self.programs.iter().map(|program| &program.facts)
    }

    /// Mean nanoseconds of `repeat` runs, beginning with the first packet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn run(&self, entry: Entry, repeat: u32) -> Result<u32, Error> {
        self.rewind(entry)?;
        self.go_on(entry, repeat)
    }

    /// Has the next run begin with the first packet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn rewind(&self, entry: Entry) -> Result<(), Error> {
        let count = if entry.is_long() { &self.long.count } else { &self.short.count };
        self.next.set_all(0, [0, count.load(Ordering::Relaxed)])
    }

    /// As [`Bench::run`], but goes on behind the packet of the last run on this CPU.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn go_on(&self, entry: Entry, repeat: u32) -> Result<u32, Error> {
        Ok(self.outcome(entry, repeat)?.ns_per_run)
    }

    /// As [`Bench::go_on`], and what the last packet met.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn outcome(&self, entry: Entry, repeat: u32) -> Result<RunOutcome, Error> {
        let frame: &[u8] = if entry.is_long() { &[0; LONG] } else { &[0; SHORT] };
        let program = object::find(&self.programs, entry.program())?;
        run::run(program.fd(), frame, repeat)
    }
}

const SHORT_PACKETS: &str = "SHORT_PACKETS";
const LONG_PACKETS: &str = "LONG_PACKETS";
const NEXT: &str = "NEXT";
