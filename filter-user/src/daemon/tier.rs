//! The thread of the deferred tier: it reads the kernel's copies of what the kernel cannot decide.
//!
//! It sleeps while there is nothing, and the kernel wakes it, which costs the packet path some 8 µs; so it stays awake
//! for a moment after each copy, and then looks often.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    config::Config,
    control::api::TierStatus,
    deferred::{
        Limits,
        tier::{Counts, Tier},
    },
    kernel::{Copies, Kernel, Tables},
};

/// What the daemon knows of the thread.
#[derive(Debug, Default)]
pub(super) struct Watch {
    counts: Counts,
    ends: AtomicBool,
    /// Milliseconds from its start to the last sign of life.
    beat: AtomicU64,
    restarts: AtomicU64,
}

/// How often the kernel gets a sign of life, at least.
const BEAT: Duration = Duration::from_millis(200);
/// Without one for so long it is dead, to the kernel as well.
const DEAD: Duration = Duration::from_nanos(filter_common::layout::TIER_DEAD);
/// How long it stays awake after a copy.
const AWAKE: Duration = Duration::from_millis(2);
/// How often it looks then.
const NAP: Duration = Duration::from_micros(100);

/// Starts the thread.
///
/// # Errors
/// If the kernel's rings or tables cannot be opened.
pub(super) fn start(kernel: &Kernel, config: &Config) -> Result<(Arc<Watch>, JoinHandle<()>)> {
    let mut copies = kernel.copies().context("the deferred tier")?;
    let tables = Tables::open(&config.daemon.pin_root)?;
    let watch = Arc::new(Watch::default());
    let shared = Arc::clone(&watch);
    let thread = thread::Builder::new().name("tier".into()).spawn(move || {
        // What comes from packets must not end it: whatever happens, it begins anew with nothing.
        while !shared.ends.load(Relaxed) {
            let works = || work(&mut copies, &tables, &shared);
            if catch_unwind(AssertUnwindSafe(works)).is_err() {
                shared.restarts.fetch_add(1, Relaxed);
                tracing::error!("the deferred tier failed and begins anew; please report this");
                thread::sleep(BEAT);
            }
        }
    })?;
    Ok((watch, thread))
}

fn work(copies: &mut Copies, tables: &Tables, watch: &Watch) {
    let started = Instant::now();
    let mut tier = Tier::new(Limits::default());
    let (mut beaten, mut busy) = (None, started);
    let mut told = None;
    while !watch.ends.load(Relaxed) {
        let mut failure = None;
        if beaten.is_none_or(|beaten: Instant| beaten.elapsed() >= BEAT) {
            failure = tables.beat().err();
            watch.beat.store(now(), Relaxed);
            beaten = Some(Instant::now());
        }
        let taken = copies.drain(|copy| {
            if let Err(error) = tier.take(copy, tables, &watch.counts) {
                watch.counts.failed.fetch_add(1, Relaxed);
                failure = Some(error);
            }
        });
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

/// Failures are told of no more often: packets could make many.
const QUIET: Duration = Duration::from_secs(10);

/// Milliseconds of a clock that does not go back.
fn now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
}

impl Watch {
    /// Has the thread end.
    pub fn end(&self) {
        self.ends.store(true, Relaxed);
    }

    /// For reports.
    pub fn status(&self) -> TierStatus {
        let Counts { decided, listed, undecided, nameless, junk, incomplete, failed } = &self.counts;
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
            failed: read(failed),
        }
    }
}
