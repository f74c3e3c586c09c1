//! The thread that has the compiler and the kernel. It waits for no disk.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{
        Arc, RwLock,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use filter_common::layout::Hits;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{
    addresses,
    enforcer::Enforcer,
    heap,
    held::{SHOWN, held_change},
    hold::held_at,
    keeper::{Contents, Job},
    memory::Memory,
    numbers::Numbers,
    off,
    record::Recorder,
    refusal_line,
};
use crate::{
    book::{Applied, Held, Outcome, What},
    config::Config,
    control::{
        api::{HeldChange, OutcomeLine, Submitted},
        server::{Reply, Request},
    },
    deferred::reader::Watch,
    feed::tickets::{Asked, Standings},
    kernel::{self, Behaviour, Kernel, Mode, TargetState, Targets},
    observe::{Directory, EventHub, HitTotals},
};

/// What the engine is told.
pub(super) enum Message {
    /// These orders end at once; the book learns of it afterwards.
    End(Vec<String>),
    /// The book took something in.
    Applied {
        /// What changed.
        applied: Applied,
        /// Orders that were ended before the book took it in.
        ended: Vec<String>,
        /// Who waits.
        reply: Option<Reply<Submitted>>,
    },
    /// What has become of names of orders?
    Standing {
        /// The names.
        asked: Vec<Asked>,
        /// What the book knows of them, which holds for those that the kernel does not stop.
        known: Standings,
        /// Who waits.
        reply: oneshot::Sender<Standings>,
    },
    /// A request of the control socket that needs no book.
    Request(Request),
    /// Another configuration is to hold; tells whether it does.
    Reload(Box<Config>, oneshot::Sender<bool>),
    /// The wall clock was stepped.
    ClockStep,
    /// A second went by.
    Tick,
    /// Have hits written down; tells when the keeper has been told.
    Count(oneshot::Sender<()>),
    /// End.
    Stop,
}

/// What a start begins with.
pub(super) struct Start {
    pub kernel: Kernel,
    pub contents: Contents,
    pub totals: HitTotals,
    pub directory: Arc<RwLock<Directory>>,
    pub keeper: Sender<Job>,
    pub tier: Arc<Watch>,
}

/// See the module.
pub(super) struct Engine {
    pub(super) enforcer: Enforcer,
    pub(super) config: Config,
    pub(super) numbers: Numbers,
    pub(super) directory: Arc<RwLock<Directory>>,
    pub(super) keeper: Sender<Job>,
    pub(super) tier: Arc<Watch>,
    targets: Targets,
    pub(super) target_states: Vec<TargetState>,
    /// Why configured interfaces are not attached.
    pub(super) unattached: BTreeMap<String, String>,
    /// Interfaces that were detached by hand.
    pub(super) off: BTreeSet<String>,
    /// What else is wrong, by part.
    pub(super) problems: BTreeMap<&'static str, String>,
    pub(super) started: Timestamp,
    pub(super) record: Recorder,
    slow_tick: Instant,
    /// Parts that ended with their order before the book knew, each time that it ended.
    ended_parts: BTreeMap<String, VecDeque<Vec<String>>>,
    /// When hits were last written down.
    counted: Instant,
    /// The keeper is gone.
    is_alone: bool,
}

/// How often interfaces, addresses and ended orders are looked at.
const SLOW: Duration = Duration::from_secs(5);

/// How often hits are written down.
const COUNT: Duration = Duration::from_secs(60);

impl Engine {
    /// Brings the kernel to the state of the book and of the configuration.
    pub fn start(config: &Config, start: Start) -> Result<Self> {
        let Start { kernel, contents, totals, directory, keeper, tier } = start;
        let are_tables_in_use = || Ok(!kernel.tables().in_use_slots()?.orders.is_empty());
        let numbers = Numbers::load(&config.daemon.state_dir, config, are_tables_in_use)
            .context("numbers of scopes and targets")?;
        let Contents { orders, clock_behind, ended, entry } = contents;
        // Tables that nobody has filled yet, since the machine was started or they were taken away.
        let anew = kernel.tables().hits()?.values().all(|hits| *hits == Hits::default());
        let held = clock_behind.and_then(|newest| held_at(newest, Timestamp::now()));
        if let Some(newest) = held {
            tracing::error!(
                "the clock is behind the order book, whose newest entry is of {newest}: no order starts or ends until it is right"
            );
        }
        let mut enforcer = Enforcer::new(kernel, &numbers, Arc::clone(&directory))?;
        (enforcer.totals, enforcer.held) = (totals, held);
        let mut ended_parts: BTreeMap<String, VecDeque<Vec<String>>> = BTreeMap::new();
        for (id, parts) in ended {
            for id in parts.iter().chain([&id]) {
                *enforcer.ending.entry(id.clone()).or_default() += 1;
            }
            ended_parts.entry(id).or_default().push_back(parts);
        }
        enforcer.start(config, &numbers, orders)?;
        let mut engine = Self {
            targets: Targets::new(numbers.target_specs(config)),
            enforcer,
            config: config.clone(),
            numbers,
            directory,
            keeper,
            tier,
            target_states: Vec::new(),
            unattached: BTreeMap::new(),
            off: BTreeSet::new(),
            problems: BTreeMap::new(),
            started: Timestamp::now(),
            record: Recorder::default(),
            slow_tick: Instant::now(),
            ended_parts,
            counted: Instant::now(),
            is_alone: false,
        };
        if let Some(newest) = clock_behind.filter(|_| held.is_none()) {
            let problem = anyhow!(
                "the order book's newest entry is of {newest}, more than a day ahead: it was written under a wrong \
                 clock, or the clock is wrong now; orders start and end by the clock as it is"
            );
            engine.note("order book", Err(problem));
        }
        engine.remember();
        engine.record_start(entry);
        engine.count(anew);
        engine.settings()?;
        engine.refresh_targets();
        engine.refresh_addresses();
        engine.enforcer.unconfigured(config).values().for_each(|problem| tracing::error!("{problem}"));
        tracing::info!("{} orders, {} names in the kernel", engine.enforcer.orders.len(), engine.enforcer.names());
        Ok(engine)
    }

    /// Attaches to the configured interfaces, and takes over those that an earlier daemon was attached to.
    pub fn attach_configured(&mut self) -> Result<()> {
        for attached in kernel::status(self.pin_root())? {
            if attached.mode.is_some() && self.config.mode(&attached.interface).is_none() {
                let interface = attached.interface;
                tracing::warn!(
                    "{interface} is not in the configuration, and stays attached: `cordon detach {interface}` ends that"
                );
                self.attach(&interface, attached.mode.unwrap_or(Mode::Native), false);
            }
        }
        for interface in self.config.interfaces.clone() {
            if self.is_off(&interface.name) {
                continue;
            }
            self.attach(&interface.name, interface.mode, false);
        }
        if !self.config.interfaces.is_empty() && self.unattached.len() == self.config.interfaces.len() {
            let problems: Vec<_> = self.unattached.values().cloned().collect();
            bail!("no interface takes the filter: {}", problems.join("; "));
        }
        Ok(())
    }

    /// Works until [`Message::Stop`].
    pub fn run(mut self, messages: &Receiver<Message>, events: &EventHub) {
        while let Some(message) = self.next(messages) {
            let has_changed = matches!(message, Message::End(_) | Message::Applied { .. } | Message::Reload(..));
            let why = match message {
                Message::End(ids) => {
                    self.end(&ids);
                    "orders ended"
                }
                Message::Applied { applied, ended, reply } => {
                    self.applied(applied, &ended, reply);
                    "orders changed"
                }
                Message::Standing { asked, known, reply } => {
                    let _ = reply.send(self.standing(&asked, known));
                    "orders were asked for"
                }
                Message::Request(request) => {
                    self.request(request, events);
                    "a request"
                }
                Message::Reload(config, taken) => {
                    let _ = taken.send(self.reload(*config));
                    "the configuration was read again"
                }
                Message::ClockStep => {
                    self.follow_clock();
                    "the clock was stepped"
                }
                Message::Tick => {
                    self.tick();
                    "time went by"
                }
                Message::Count(told) => {
                    self.count(false);
                    let _ = told.send(());
                    "hits were counted"
                }
                Message::Stop => return,
            };
            self.remember();
            self.record_tables(why);
            if has_changed {
                heap::give_back();
            }
            // The keeper ends before the engine does, unless something is very wrong.
            if self.is_alone {
                return;
            }
        }
    }

    /// The next message. While there is none, the tables come to rest, so that the next change is in force sooner.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        if let Ok(message) = messages.try_recv() {
            return Some(message);
        }
        let settled = self.enforcer.tables().settle();
        self.note("packets that are on their way", settled.map_err(Into::into));
        messages.recv().ok()
    }

    /// Has it written which orders the slots are, if that changed.
    fn remember(&mut self) {
        if std::mem::take(&mut self.enforcer.is_reassigned) {
            let slots = self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let memory = Memory { slots, totals: self.enforcer.totals.clone() };
            self.send(Job::Remember(Box::new(memory)));
        }
    }

    pub(super) fn send(&mut self, job: Job) {
        self.is_alone |= self.keeper.send(job).is_err();
    }

    /// Has hits written down; `anew`: the kernel's counters have begun anew.
    fn count(&mut self, anew: bool) {
        self.counted = Instant::now();
        let mut hits = match self.enforcer.tables().hits() {
            Ok(hits) => hits,
            Err(error) => return self.note("hits", Err(error.into())),
        };
        let totals = {
            let directory = self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            hits.retain(|slot, _| directory.known_order(*slot).is_some());
            self.enforcer.totals.with(&hits, &directory)
        };
        self.note("hits", Ok(()));
        self.send(Job::Count { totals, anew });
    }

    fn end(&mut self, ids: &[String]) {
        let mut all = Vec::new();
        for id in ids {
            let parts = self.enforcer.parts(id);
            all.push(id.clone());
            all.extend(parts.iter().cloned());
            self.ended_parts.entry(id.clone()).or_default().push_back(parts);
        }
        let ids = &all;
        if let Err(error) = self.enforcer.end_at_once(ids) {
            tracing::error!("ending orders: {error}");
        }
        for id in ids {
            if self.enforcer.is_compiled(id) {
                self.record.open(id, 0);
            }
            *self.enforcer.ending.entry(id.clone()).or_default() += 1;
            self.enforcer.end(id);
        }
        self.flush();
    }

    fn applied(&mut self, applied: Applied, ended: &[String], reply: Option<Reply<Submitted>>) {
        let begun = Instant::now();
        let Applied { changes, outcomes, refusals, held, entry, zones: _ } = applied;
        let changed: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.order.clone()).collect();
        self.record_outcomes(&outcomes, ended, entry);
        changes.into_iter().for_each(|change| self.enforcer.take(change));
        let mut all = Vec::new();
        for id in ended {
            all.push(id.clone());
            if let Some(parts) = self.ended_parts.get_mut(id) {
                all.extend(parts.pop_front().unwrap_or_default());
            }
        }
        self.ended_parts.retain(|_, parts| !parts.is_empty());
        for id in &all {
            if let Some(count) = self.enforcer.ending.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.enforcer.ending.remove(id);
                    // Still in the book: a later put, or another feed's.
                    self.enforcer.restore(id);
                    if self.enforcer.is_compiled(id) {
                        let entry = self.record.entry();
                        self.record.open(id, entry);
                    }
                }
            }
        }
        self.flush();
        self.log(&outcomes, begun);
        let Some(reply) = reply else { return };
        let of_these = self.enforcer.problems.iter().filter(|(id, _)| changed.contains(*id));
        let mut problems: Vec<String> = of_these.map(|(_, problem)| problem.clone()).collect();
        problems.extend(self.problems.get("tables").cloned());
        let submitted = Submitted {
            outcomes: outcomes.iter().map(outcome_line).collect(),
            refusals: refusals.iter().map(refusal_line).collect(),
            held: held.iter().map(|held| self.held_change(held)).collect(),
            problems,
        };
        // Whoever asked may have left.
        let _ = reply.send(Ok(submitted));
    }

    fn held_change(&self, held: &Held) -> HeldChange {
        let terms = self.enforcer.orders.get(&held.order).map(|order| &*order.terms);
        held_change(held, terms, SHOWN)
    }

    fn log(&self, outcomes: &[Outcome], begun: Instant) {
        let of = |what| outcomes.iter().filter(|outcome| outcome.what == what).count();
        let (new, changed, revoked) = (of(What::New), of(What::Changed), of(What::Revoked));
        if new + changed + revoked > 0 {
            let took = begun.elapsed().as_millis();
            let names = self.enforcer.names();
            tracing::info!(
                "{new} orders new, {changed} changed, {revoked} revoked; {names} names; in force after {took} ms"
            );
        }
    }

    fn flush(&mut self) {
        let result = self.enforcer.flush().map_err(Into::into);
        self.note("tables", result);
    }

    /// Keeps what is wrong with a part, and logs when that changes.
    fn note(&mut self, part: &'static str, result: Result<()>) {
        match result {
            Ok(()) => {
                if self.problems.remove(part).is_some() {
                    tracing::info!("{part}: in order again");
                }
            }
            Err(error) => {
                let problem = format!("{part}: {error:#}");
                if self.problems.get(part) != Some(&problem) {
                    tracing::error!("{problem}");
                }
                self.problems.insert(part, problem);
            }
        }
    }

    fn tick(&mut self) {
        self.refresh_targets();
        let refilled = self.enforcer.refill().map_err(Into::into);
        self.note("name filter", refilled);
        if self.enforcer.held.is_some_and(|newest| newest <= Timestamp::now()) {
            tracing::info!("the clock is right again");
            let result = self.enforcer.release_hold().map_err(Into::into);
            self.record.stepped();
            self.note("clock", result);
        }
        if self.slow_tick.elapsed() < SLOW {
            return;
        }
        self.slow_tick = Instant::now();
        // First, so that what there was no room for takes the place at once.
        self.enforcer.release();
        self.follow_clock();
        self.refresh_addresses();
        self.attach_again();
        if self.counted.elapsed() >= COUNT {
            self.count(false);
        }
        self.send(Job::Retry);
    }

    fn follow_clock(&mut self) {
        match self.enforcer.follow_clock() {
            Ok(true) => {
                tracing::warn!("the wall clock was stepped; the orders' times follow it");
                self.record.stepped();
            }
            Ok(false) => {}
            Err(error) => {
                self.record.stepped();
                self.note("clock", Err(error.into()));
            }
        }
        self.enforcer.sweep();
        self.flush();
    }

    fn refresh_targets(&mut self) {
        match self.targets.refresh(self.enforcer.kernel.tables()) {
            Ok(states) => {
                for state in states.iter().filter(|state| !self.target_states.contains(state)) {
                    match &state.problem {
                        // A number whose target is configured no longer.
                        _ if self.config.targets.iter().all(|target| target.name != state.name) => {}
                        Some(problem) => tracing::warn!("target {}: {problem}", state.name),
                        None => tracing::info!("target {}: ready", state.name),
                    }
                }
                self.target_states = states;
                self.note("targets", Ok(()));
            }
            Err(error) => self.note("targets", Err(error.into())),
        }
    }

    fn refresh_addresses(&mut self) {
        let set = || -> Result<()> { Ok(self.enforcer.tables().set_own_addresses(&addresses::own()?)?) };
        let result = set();
        self.note("own addresses", result);
    }

    fn settings(&mut self) -> Result<()> {
        let Config { ports, events, answers_per_second, quic, resolvers, .. } = &self.config;
        let tables = self.enforcer.tables();
        tables.set_ports(&ports.clone().reading());
        tables.set_resolvers(&Vec::from_iter(resolvers.iter().copied()))?;
        tables.set_behaviour(&Behaviour {
            answers_per_second: *answers_per_second,
            events_per_second: events.per_second,
            client_detail: events.client.code(),
            copies_per_second: quic.initials_per_second,
            quic_mode: quic.mode.code(),
            quic_fallback: quic.without_tier.code(),
            ..Behaviour::default()
        })?;
        Ok(())
    }

    fn reload(&mut self, new: Config) -> bool {
        // Those that name what is not configured now have been told of.
        let known = self.enforcer.unconfigured(&self.config);
        let mut unconfigured = self.enforcer.unconfigured(&new);
        unconfigured.retain(|id, problem| known.get(id) != Some(problem));
        if !unconfigured.is_empty() {
            let problems = unconfigured.into_values().collect::<Vec<_>>().join("\n");
            let problem = anyhow!("stays as it was: orders name what it would not have any more:\n{problems}");
            self.note("configuration", Err(problem));
            return false;
        }
        for key in self.config.needs_restart(&new) {
            tracing::warn!("{key} has changed, and takes effect with a restart");
        }
        let old = &self.config;
        let mut config = Config { daemon: old.daemon.clone(), interfaces: old.interfaces.clone(), ..new };
        config.capacity = old.capacity;
        let result = Ok(self.numbers.with(&config)).and_then(|numbers| {
            if numbers != self.numbers {
                numbers.save(&config.daemon.state_dir)?;
            }
            self.enforcer.reconfigure(&config, &numbers)?;
            self.targets = Targets::new(numbers.target_specs(&config));
            self.numbers = numbers;
            self.config = config;
            self.settings()
        });
        self.refresh_targets();
        self.flush();
        let is_taken = result.is_ok();
        self.note("configuration", result);
        if is_taken {
            tracing::info!("the configuration was read again");
        }
        is_taken
    }

    pub(super) fn pin_root(&self) -> &Path {
        &self.config.daemon.pin_root
    }

    fn attach(&mut self, interface: &str, mode: Mode, replace: bool) {
        match self.enforcer.kernel.attach(interface, mode, replace) {
            Ok(attached) => {
                let mode = attached.mode.map_or("gone", Mode::word);
                tracing::info!("{interface}: attached, {mode}");
                self.unattached.remove(interface);
                self.record_attached(&attached, &serde_json::Value::Null);
            }
            Err(error) => {
                let problem = error.to_string();
                if self.unattached.get(interface) != Some(&problem) {
                    tracing::error!("{problem}");
                }
                self.unattached.insert(interface.to_owned(), problem);
            }
        }
    }

    /// The interfaces that the filter is on; none if that cannot be told.
    pub(super) fn attached(&self) -> Option<BTreeSet<String>> {
        let pinned = kernel::status(self.pin_root()).ok()?;
        Some(pinned.into_iter().filter(|link| link.mode.is_some()).map(|link| link.interface).collect())
    }

    /// Whether an interface was detached by hand, through the daemon or past it.
    pub(super) fn is_off(&self, interface: &str) -> bool {
        self.off.contains(interface) || off::is_marked(&self.config.daemon.state_dir, interface)
    }

    /// Interfaces come and go.
    fn attach_again(&mut self) {
        let Some(attached) = self.attached() else { return };
        let missing = |interface: &&crate::config::Interface| {
            !attached.contains(&interface.name) && !self.is_off(&interface.name)
        };
        let missing: Vec<_> = self.config.interfaces.iter().filter(missing).cloned().collect();
        self.record_found(attached);
        missing.iter().for_each(|interface| self.attach(&interface.name, interface.mode, false));
    }
}

fn outcome_line(outcome: &Outcome) -> OutcomeLine {
    let what = match outcome.what {
        What::New => "new",
        What::Changed => "changed",
        What::Unchanged => "unchanged",
        What::Revoked => "revoked",
        What::RevokedUnknown => "revoked_unknown",
    };
    OutcomeLine { line: outcome.line, order: outcome.order.clone(), what: what.to_owned() }
}
