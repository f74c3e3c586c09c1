//! The object of the live benchmark: a generator of packets, and programs that the filter is compared with.

use std::{
    ops::Range,
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use filter_common::traffic::{Frame, LONG, SHORT, Sender};

use super::{
    Capacity,
    error::Error,
    object::{self, Loaded, Object},
    pins,
    plain::Plain,
    plain_names::PlainNames,
    run::{self, RunOutcome},
    sys,
    table::{PerCpu, Table},
};

/// A program to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plainer {
    /// Lets everything pass.
    Pass,
    /// Drops everything.
    Sink,
    /// Reads as far as the UDP header, and drops what goes to port 53.
    DropDns,
    /// Drops queries for names that [`Traffic::list`] was given: whole, and as they are written.
    LookUp,
}

impl Plainer {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Sink => "sink",
            Self::DropDns => "drop_dns",
            Self::LookUp => "look_up",
        }
    }
}

/// Frames that are sent one after the other, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    is_long: bool,
    places: Range<u32>,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it goes.
    Full,
    /// So many frames in a row, as many rows as it takes to come to this many frames a second.
    Rows {
        /// Frames in a row.
        burst: u32,
        /// Frames a second.
        rate: u64,
    },
}

/// The generator's programs and frames.
#[derive(Debug)]
pub struct Traffic {
    programs: Vec<Loaded>,
    short: Table<u32, Frame<SHORT>>,
    long: Table<u32, Frame<LONG>>,
    sender: PerCpu<Sender>,
    names: PlainNames,
    /// Places that are taken, of short and long frames.
    used: [u32; 2],
}

impl Traffic {
    /// Loads the programs, with room for so many frames of each size, and so many names.
    ///
    /// # Errors
    /// As [`Kernel::open`](super::Kernel::open).
    pub fn new(short: u32, long: u32, names: u32) -> Result<Self, Error> {
        let sizes = [(SHORT_FRAMES, short), (LONG_FRAMES, long), (PlainNames::MAP, names)];
        let (programs, mut maps) = object::load(Object::Live, &Capacity::default(), None, &sizes)?;
        let names = PlainNames::take(&mut maps, names)?;
        let mut take = |name: &str| maps.remove(name).ok_or_else(|| Error::Missing(format!("map {name}")));
        Ok(Self {
            short: Table::new(take(SHORT_FRAMES)?, SHORT_FRAMES, short),
            long: Table::new(take(LONG_FRAMES)?, LONG_FRAMES, long),
            sender: PerCpu::new(take(SENDER)?, SENDER, 1)?,
            names,
            used: [0; 2],
            programs,
        })
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.used = [0; 2];
    }

    /// Adds frames: short ones, or of up to [`LONG`] octets.
    ///
    /// # Errors
    /// [`Error::Full`] for more than there is room for, [`Error::Missing`] for none, or one that is too long.
    pub fn add(&mut self, is_long: bool, frames: impl IntoIterator<Item = Vec<u8>>) -> Result<Frames, Error> {
        let [short, long] = &mut self.used;
        let places = if is_long { append(&self.long, long, frames) } else { append(&self.short, short, frames) }?;
        Ok(Frames { is_long, places })
    }

    /// Has [`Plainer::LookUp`] drop queries for these names, in wire form without the root's octet.
    ///
    /// # Errors
    /// [`Error::Full`] for more than there is room for, [`Error::Missing`] for one that is too long.
    pub fn list<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Error> {
        self.names.list(names)
    }

    /// Pins a program, for as long as the BPF file system lives.
    ///
    /// # Errors
    /// If the path is not on one.
    pub fn pin(&self, program: Plainer, path: &Path) -> Result<(), Error> {
        pins::replace(object::find(&self.programs, program.name())?.fd(), path)
    }

    /// Runs a frame through a program, as [`Kernel::run`](super::Kernel::run) does through the filter.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn run(&self, program: Plainer, frame: &[u8]) -> Result<RunOutcome, Error> {
        run::run(object::find(&self.programs, program.name())?.fd(), frame, 1)
    }

    /// Sends frames out of the interface of this index in this thread's network namespace until the time is over,
    /// beginning with the one at `first`; says how many. Keeps this CPU busy, also while it pauses.
    /// Each CPU begins by itself: a thread that moves to another sends the first frames once more.
    ///
    /// # Errors
    /// If the kernel refuses: live frames need Linux 5.18.
    pub fn send(&self, frames: &Frames, first: u32, interface: u32, pace: Pace, time: Duration) -> Result<u64, Error> {
        let (burst, interval) = match pace {
            Pace::Full => (1, 0),
            Pace::Rows { burst, rate } => (burst, u64::from(burst) * 1_000_000_000 / rate),
        };
        let Range { start, end } = frames.places;
        let next = start + first % (end - start);
        self.sender.set_all(0, Sender { next, start, end, interface, burst, interval, ..Sender::default() })?;
        let (program, room) = if frames.is_long { ("send_long", LONG) } else { ("send_short", SHORT) };
        let (program, frame) = (object::find(&self.programs, program)?, vec![0; room]);
        let begun = Instant::now();
        while begun.elapsed() < time {
            sys::run_live(program.fd(), &frame, RUNS).map_err(Error::system("sending frames"))?;
        }
        let mut sent = 0;
        self.sender.for_each(|_, senders| sent += senders.iter().map(|sender| sender.sent).sum::<u64>())?;
        Ok(sent)
    }
}

/// Pins a program that another process has loaded.
///
/// # Errors
/// If there is none with this id, or the path is not on a BPF file system.
pub fn pin_program(id: u32, path: &Path) -> Result<(), Error> {
    let program = sys::program_by_id(id).map_err(Error::system(format!("opening program {id}")))?;
    pins::replace(program.as_fd(), path)
}

/// Writes frames behind those that are there.
fn append<const N: usize>(
    table: &Table<u32, Frame<N>>,
    used: &mut u32,
    frames: impl IntoIterator<Item = Vec<u8>>,
) -> Result<Range<u32>, Error>
where
    Frame<N>: Plain,
{
    let framed = |frame: Vec<u8>| {
        let mut octets = [0; N];
        octets.get_mut(..frame.len()).ok_or_else(|| too_long(frame.len()))?.copy_from_slice(&frame);
        Ok(Frame { len: frame.len() as u32, octets })
    };
    let start = *used;
    let mut frames = frames.into_iter().map(framed).peekable();
    while frames.peek().is_some() {
        let some = (*used..).zip(frames.by_ref().take(AT_ONCE)).map(|(place, frame)| Ok((place, frame?)));
        let some = some.collect::<Result<Vec<_>, Error>>()?;
        table.set_all(&some)?;
        *used += some.len() as u32;
    }
    if *used == start { Err(Error::Missing("frames to send".into())) } else { Ok(start..*used) }
}

fn too_long(octets: usize) -> Error {
    Error::Missing(format!("room for a frame of {octets} octets"))
}

/// Runs in one system call: some ten milliseconds.
const RUNS: u32 = 100_000;

/// Frames that are put at once.
const AT_ONCE: usize = 16_384;

const SHORT_FRAMES: &str = "SHORT_FRAMES";
const LONG_FRAMES: &str = "LONG_FRAMES";
const SENDER: &str = "SENDER";
