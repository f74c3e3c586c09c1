//! The benchmark object: the filter over packets from a map.

use std::os::fd::OwnedFd;

use super::{
    Capacity,
    error::Error,
    object::{self, Loaded, Object, ProgramFacts},
    run,
    table::{PerCpu, Table},
    tables::Tables,
};

/// Octets of a short packet (queries, mid-connection segments).
pub const SHORT: usize = 128;

/// Octets of a long packet (ClientHellos).
pub const LONG: usize = 1024;

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
    /// Nothing: the kernel's own cost of a run.
    Nothing,
}

impl Entry {
    const fn program(self) -> &'static str {
        match self {
            Self::ShortRun => "short_run",
            Self::ShortEmpty => "short_empty",
            Self::LongRun => "long_run",
            Self::LongEmpty => "long_empty",
            Self::Nothing => "nothing",
        }
    }
}

/// The benchmark's programs, with tables of their own, and its packets.
#[derive(Debug)]
pub struct Bench {
    programs: Vec<Loaded>,
    tables: Tables,
    short: u32,
    long: u32,
    next: PerCpu<[u32; 2]>,
}

impl Bench {
    /// Loads the programs and the packets, which runs take in this order, again and again. Packets shorter than that
    /// are padded by whoever makes them.
    ///
    /// # Errors
    /// As [`Kernel::open`](super::Kernel::open).
    pub fn new(capacity: &Capacity, short: &[[u8; SHORT]], long: &[[u8; LONG]]) -> Result<Self, Error> {
        let sizes = [(SHORT_PACKETS, entries(short)), (LONG_PACKETS, entries(long))];
        let (programs, mut maps) = object::load(Object::Bench, capacity, None, &sizes)?;
        let mut take = |name: &str| maps.remove(name).ok_or_else(|| Error::Missing(format!("map {name}")));
        fill(take(SHORT_PACKETS)?, SHORT_PACKETS, short)?;
        fill(take(LONG_PACKETS)?, LONG_PACKETS, long)?;
        let next = PerCpu::new(take(NEXT)?, NEXT, 1)?;
        Ok(Self { tables: Tables::new(maps)?, programs, short: entries(short), long: entries(long), next })
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
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
        let (count, frame): (_, &[u8]) = match entry {
            Entry::ShortRun | Entry::ShortEmpty | Entry::Nothing => (self.short, &[0; SHORT]),
            Entry::LongRun | Entry::LongEmpty => (self.long, &[0; LONG]),
        };
        self.next.set_all(0, [0, count])?;
        let program = object::find(&self.programs, entry.program())?;
        Ok(run::run(program.fd(), frame, repeat)?.ns_per_run)
    }
}

fn entries<T>(packets: &[T]) -> u32 {
    u32::try_from(packets.len()).unwrap_or(u32::MAX).max(1)
}

fn fill<const N: usize>(fd: OwnedFd, name: &'static str, packets: &[[u8; N]]) -> Result<(), Error>
where
    [u8; N]: super::sys::Plain,
{
    let table = Table::new(fd, name, entries(packets));
    (0..).zip(packets).try_for_each(|(slot, packet): (u32, _)| table.set(&slot, packet))
}

const SHORT_PACKETS: &str = "SHORT_PACKETS";
const LONG_PACKETS: &str = "LONG_PACKETS";
const NEXT: &str = "NEXT";
