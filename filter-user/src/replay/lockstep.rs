//! The deferred tier beside a replay: it has read each frame's copy before the next frame.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::Result;
use filter_common::{
    layout::Deferred,
    verdict::{Action, Asker, Protocol},
};

use crate::{
    deferred::{
        Limits,
        tier::{Counts, Tier},
    },
    kernel::{Copies, Error, Kernel, Tables},
    name::Name,
    observe::KernelView,
    policy::image::{self, Outcome},
};

/// The tier and the ring that it reads.
pub(super) struct Lockstep {
    copies: Copies,
    tier: Tier,
    counts: Counts,
    beaten: Option<Instant>,
}

/// What the copies of a frame came to.
pub(super) struct Settled {
    pub found: Vec<Found>,
    /// The frame was dropped until the tier knows.
    pub held: bool,
}

/// A name that the tier found, and what its connection's later packets meet.
pub(super) struct Found {
    pub name: String,
    /// The order's name that covers it.
    pub rule: String,
    pub action: Action,
    /// Slots of the orders that hold: the deciding one, then the others, oldest first.
    pub orders: Vec<u32>,
}

impl Lockstep {
    pub fn new(kernel: &Kernel) -> Result<Self> {
        let tier = Tier::new(Limits::default());
        Ok(Self { copies: kernel.copies()?, tier, counts: Counts::default(), beaten: None })
    }

    /// Forgets all connections.
    pub fn forget(&mut self) {
        self.tier = Tier::new(Limits::default());
    }

    /// Has the kernel know that the tier is alive.
    pub fn beat(&mut self, tables: &Tables) {
        if self.beaten.is_none_or(|beaten| beaten.elapsed() > BEAT) {
            tables.beat();
            self.beaten = Some(Instant::now());
        }
    }

    /// Reads what was copied; tells what orders hold for.
    pub fn settle(&mut self, tables: &Tables) -> Result<Settled> {
        let mut held = false;
        let mut found = Ok(Vec::new());
        let (tier, counts) = (&mut self.tier, &self.counts);
        self.copies.drain(|copy| {
            let Ok(list) = &mut found else { return };
            held |= copy.held == 1;
            match tier
                .take(copy, tables, counts)
                .and_then(|name| name.map(|name| judge(tables, copy, name)).transpose())
            {
                Ok(judged) => list.extend(judged.flatten()),
                Err(error) => found = Err(error),
            }
        });
        Ok(Settled { found: found?, held })
    }
}

/// What an order does to the connection of a copy, as of now.
fn judge(tables: &Tables, copy: &Deferred, name: Name) -> Result<Option<Found>, Error> {
    let Some(protocol) = Protocol::from_code(copy.protocol) else { return Ok(None) };
    let client = Ipv6Addr::from(copy.client).to_canonical();
    let asker = Asker::new(tables.scopes_of(client)?, protocol, copy.time);
    let judgement = image::judge(&KernelView(tables), &name, &asker);
    let Outcome::Decided { entry, action } = judgement.outcome else { return Ok(None) };
    let labels: Vec<_> = name.as_str().split('.').collect();
    let rule = labels.get(labels.len().saturating_sub(entry.depth.into())..).unwrap_or_default().join(".");
    let others = judgement.concerned.into_iter().filter(|slot| *slot != entry.order);
    let orders = [entry.order].into_iter().chain(others).collect();
    Ok(Some(Found { name: name.as_str().to_owned(), rule, action, orders }))
}

/// Well below the time after which the kernel takes the tier for dead.
const BEAT: Duration = Duration::from_millis(100);
