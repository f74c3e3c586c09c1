//! The thread of the deferred tier: it reads the kernel's copies of what the kernel cannot decide.
//!
//! It sleeps while there is nothing, and the kernel wakes it, which costs the packet path some 8 µs; so it stays awake
//! for a moment after each copy, and then looks often.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use filter_common::layout::{Deferred, TIER_DEAD};

use super::{priority::Priority, quic::SEARCHED_ONE_IN, tier::Counts};
use crate::{
    control::api::TierStatus,
    kernel::{Copies, Error, Tables},
};

/// What others know of the thread.
#[derive(Debug, Default)]
pub struct Watch {
    /// What has been made of the copies.
    pub counts: Counts,
    ends: AtomicBool,
    /// Milliseconds from its start to the last sign of life.
    beat: AtomicU64,
    restarts: AtomicU64,
}

/// How often the kernel gets a sign of life, at least.
const BEAT: Duration = Duration::from_millis(200);
/// Without one for so long it is dead, to the kernel as well.
const DEAD: Duration = Duration::from_nanos(TIER_DEAD);
/// How long it stays awake after a copy.
const AWAKE: Duration = Duration::from_millis(2);
/// How often it looks then.
const NAP: Duration = Duration::from_micros(100);
/// Failures are told of no more often: packets could make many.
const QUIET: Duration = Duration::from_secs(10);

/// What the reader hands on.
#[derive(Clone, Copy)]
pub enum Turn<'a> {
    /// A copy.
    Copy(&'a Deferred),
    /// There are no more, or many have come: what was found is to be written.
    Ends,
}

/// Reads copies until [`Watch::end`]. `begin` makes what takes them, with nothing known; what comes from packets must
/// not end it, so whatever happens there, it begins anew.
pub fn run<T>(copies: &mut Copies, tables: &Tables, watch: &Watch, begin: impl Fn() -> T)
where
    T: FnMut(Turn<'_>) -> Result<(), Error>,
{
    let mut priority = Priority::raise();
    while !watch.ends.load(Relaxed) {
        let works = || work(copies, tables, watch, begin(), &mut priority);
        if catch_unwind(AssertUnwindSafe(works)).is_err() {
            watch.restarts.fetch_add(1, Relaxed);
            tracing::error!("the deferred tier failed and begins anew; please report this");
            thread::sleep(BEAT);
        }
    }
}

fn work(
    copies: &mut Copies,
    tables: &Tables,
    watch: &Watch,
    mut take: impl FnMut(Turn<'_>) -> Result<(), Error>,
    priority: &mut Priority,
) {
    let (mut beaten, mut busy) = (None, Instant::now());
    let mut told = None;
    while !watch.ends.load(Relaxed) {
        let mut failure = None;
        if beaten.is_none_or(|beaten: Instant| beaten.elapsed() >= BEAT) {
            tables.beat();
            watch.beat.store(now(), Relaxed);
            beaten = Some(Instant::now());
        }
        let mut take = |turn: Turn<'_>| {
            if let Err(error) = take(turn) {
                watch.counts.failed.fetch_add(1, Relaxed);
                failure = Some(error);
            }
        };
        let mut unbounded = 0;
        let taken = copies.drain(|copy| {
            take(Turn::Copy(copy));
            unbounded += 1;
            if unbounded % TOGETHER == 0 {
                take(Turn::Ends);
            }
            if unbounded == AT_ONCE {
                // The rings of many CPUs take longer than either may wait.
                unbounded = 0;
                priority.bound();
                tables.beat();
            }
        });
        if unbounded % TOGETHER > 0 {
            take(Turn::Ends);
        }
        priority.bound();
        if taken > 0 {
            busy = Instant::now();
        } else if busy.elapsed() < AWAKE {
            thread::sleep(NAP);
        } else {
            failure = failure.or(copies.sleep(tables, BEAT).err());
        }
        if let Some(error) = failure
            && told.is_none_or(|told: Instant| told.elapsed() > QUIET)
        {
            tracing::error!("the deferred tier: {error}");
            told = Some(Instant::now());
        }
    }
}

/// Copies that are read between looks at the time: some 0.3 ms.
const AT_ONCE: u32 = 64;

/// Copies whose names are written together: more would save little, and a name waits for those behind it.
pub const TOGETHER: u32 = 16;
const _: () = assert!(AT_ONCE.is_multiple_of(TOGETHER));

/// Milliseconds of a clock that does not go back.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
}

impl Watch {
    /// Has the thread end.
    pub fn end(&self) {
        self.ends.store(true, Relaxed);
    }

    /// For reports.
    pub fn status(&self) -> TierStatus {
        let Counts { decided, listed, undecided, nameless, junk, incomplete, searched, encrypted, failed } =
            &self.counts;
        let read = |count: &AtomicU64| count.load(Relaxed);
        TierStatus {
            alive: now().saturating_sub(read(&self.beat)) < DEAD.as_millis() as u64,
            restarts: read(&self.restarts),
            decided: read(decided),
            listed: read(listed),
            undecided: read(undecided),
            nameless: read(nameless),
            junk: read(junk),
            incomplete: read(incomplete),
            searched: read(searched),
            encrypted: read(encrypted),
            searched_one_in: SEARCHED_ONE_IN,
            failed: read(failed),
        }
    }
}
