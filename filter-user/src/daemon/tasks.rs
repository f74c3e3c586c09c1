//! What brings messages to the keeper and the engine, until the daemon is to end.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, mpsc as blocking},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::body::Bytes;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    engine::Message,
    feed_context,
    keeper::{self, CONTROL_SOURCE, Job},
};
use crate::{
    book::Note,
    config::{Config, Feed},
    control::{
        api::Submitted,
        server::{Failed, Reply, Request, Socket, peer::User},
    },
    feed::{
        Context, Entry, Event,
        file::Which,
        http, native,
        tickets::{self, Told},
        transfer, watch,
    },
    kernel::{Clock, ClockWatch, Events, Tables},
    observe::{self, Directory, EventHub},
};

/// What the tasks work with.
pub(super) struct Parts {
    /// The configuration file, for SIGHUP.
    pub file: PathBuf,
    /// The configuration.
    pub config: Config,
    /// The control socket.
    pub socket: Socket,
    /// Where events go.
    pub events: EventHub,
    /// Where they come from.
    pub reader: Events,
    /// What slots stand for.
    pub directory: Arc<RwLock<Directory>>,
    /// The kernel's tables.
    pub tables: Arc<Tables>,
    /// How fetching goes.
    pub fetching: http::States,
    /// The engine.
    pub to_engine: blocking::Sender<Message>,
    /// The keeper.
    pub to_keeper: blocking::Sender<Job>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(parts: Parts) -> Result<()> {
    let Parts { file, mut config, socket, events, reader, directory, tables, fetching, to_engine, to_keeper } = parts;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (requests, arriving) = mpsc::channel(64);
    tokio::spawn(read_events(reader, directory, events.clone()));
    let mut ticking = tokio::spawn(tick(to_engine.clone()));
    tokio::spawn(watch_clock(to_engine.clone()));
    tokio::spawn(tell_head(to_keeper.clone()));
    tokio::spawn(sweep(tables));
    let context = Arc::new(RwLock::new(feed_context(&config)));
    tokio::spawn(dispatch(arriving, Arc::clone(&context), to_engine.clone(), to_keeper.clone()));

    // Watched first, so that no change falls between.
    let mut watched = watch_files(&config, &to_keeper);
    let _ = to_keeper.send(Job::Sync(Which::All));
    let mut fetchers = fetch_feeds(&config, &fetching, &to_keeper);
    let (reach, reached) = oneshot::channel();
    let _ = to_keeper.send(Job::Reach(reach));
    // So that whoever gets an answer finds the files' orders in force; but a disk that hangs must not hold up control.
    let _ = timeout(LONGEST_START, reached).await;
    let served = tokio::spawn(socket.serve(requests, events, async { drop(stopped.await) }));
    loop {
        tokio::select! {
            _ = arrives(&mut terminate) => break,
            _ = arrives(&mut interrupt) => break,
            _ = &mut ticking => bail!("a thread of the daemon ended"),
            () = arrives(&mut hang_up) => match Config::read(&file) {
                Err(mistakes) => tracing::error!("the configuration stays as it was:\n{mistakes}"),
                // The engine first: it must know a scope before an order names it, and knows what orders name.
                Ok(new) if is_taken(&new, &to_engine).await => {
                    *context.write().unwrap_or_else(PoisonError::into_inner) = feed_context(&new);
                    if let Some(watched) = watched.take() {
                        watched.abort();
                    }
                    watched = watch_files(&new, &to_keeper);
                    // To its end: two fetchers of one feed would write the same file.
                    fetchers.shutdown().await;
                    let _ = to_keeper.send(Job::Reconfigure(Box::new(new.clone())));
                    fetchers = fetch_feeds(&new, &fetching, &to_keeper);
                    config = new;
                }
                // The engine has told why.
                Ok(_) => {}
            },
        }
    }
    let root = config.daemon.pin_root.display();
    tracing::info!("stopping; what is attached goes on enforcing what is pinned under {root}");
    let _ = stop.send(());
    served.await?.context("control socket")?;
    // A machine that goes down takes the counters with it.
    let (told, counted) = oneshot::channel();
    let _ = to_engine.send(Message::Count(told));
    let _ = timeout(LONGEST_COUNT, counted).await;
    // The keeper first: what it has begun still goes to the engine.
    let _ = to_keeper.send(Job::Stop);
    let _ = to_engine.send(Message::Stop);
    Ok(())
}

const LONGEST_START: Duration = Duration::from_secs(60);

const LONGEST_COUNT: Duration = Duration::from_secs(5);

async fn arrives(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending().await
    }
}

/// Has the engine take a configuration over; tells whether it does.
async fn is_taken(config: &Config, engine: &blocking::Sender<Message>) -> bool {
    let (taken, answer) = oneshot::channel();
    let _ = engine.send(Message::Reload(Box::new(config.clone()), taken));
    answer.await.unwrap_or(false)
}

/// Goes on without a watch if there can be none: SIGHUP reads the files, too.
fn watch_files(config: &Config, keeper: &blocking::Sender<Job>) -> Option<JoinHandle<()>> {
    let mut changes = match watch::watch(&keeper::files(config)) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!("order files cannot be watched, and are read on SIGHUP only: {error}");
            return None;
        }
    };
    let keeper = keeper.clone();
    Some(tokio::spawn(async move {
        while let Some(which) = changes.recv().await {
            if keeper.send(Job::Sync(which)).is_err() {
                return;
            }
        }
    }))
}

fn fetch_feeds(config: &Config, states: &http::States, keeper: &blocking::Sender<Job>) -> JoinSet<()> {
    let tasks = config.feeds.iter().filter_map(Feed::task).collect();
    let to_keeper = keeper.clone();
    let mut set = http::start(tasks, states, move |fetched| drop(to_keeper.send(Job::Fetched(fetched))));
    let guards = config.guards();
    let tasks = config.feeds.iter().filter_map(|feed| feed.platform(&guards)).collect();
    let to_keeper = keeper.clone();
    tickets::start(&mut set, tasks, states, move |told| {
        let job = match told {
            Told::Read(fetched) => Job::Fetched(fetched),
            Told::Ask(asked, reply) => Job::Standing(asked, reply),
            Told::Answered { source, what } => {
                let source = source.to_string_lossy().into_owned();
                Job::Notes(vec![Note { source, op: "answer", order: String::new(), detail: what }])
            }
            Told::End { source, orders } => Job::End { source, orders },
        };
        // Fails only while the daemon stops.
        let _ = to_keeper.send(job);
    });
    let zones = config.feeds.iter().filter_map(Feed::transfer).collect();
    let to_keeper = keeper.clone();
    let tell = move |fetched| drop(to_keeper.send(Job::Fetched(fetched)));
    transfer::start(zones, config.notify.clone(), states, tell, &mut set);
    set
}

async fn read_events(mut reader: Events, directory: Arc<RwLock<Directory>>, events: EventHub) {
    loop {
        let event = reader.next().await;
        let line = {
            let directory = directory.read().unwrap_or_else(PoisonError::into_inner);
            observe::line(&event, &directory, &Clock::now())
        };
        events.publish(&line);
    }
}

async fn tick(engine: blocking::Sender<Message>) {
    let mut interval = interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        if engine.send(Message::Tick).is_err() {
            return;
        }
    }
}

/// Has the end of the history told to the journal: whoever keeps that can show later that nothing was cut off.
async fn tell_head(keeper: blocking::Sender<Job>) {
    let mut interval = interval(HEAD);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        if keeper.send(Job::TellHead).is_err() {
            return;
        }
    }
}

const HEAD: Duration = Duration::from_secs(3600);

/// Takes names away that hold no more.
async fn sweep(tables: Arc<Tables>) {
    let mut interval = interval(SWEEP);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let tables = Arc::clone(&tables);
        match tokio::task::spawn_blocking(move || tables.sweep_names()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!("names of connections that are past stay: {error}"),
            Err(_) => return,
        }
    }
}

const SWEEP: Duration = Duration::from_secs(30);

async fn watch_clock(engine: blocking::Sender<Message>) {
    let mut watch = match ClockWatch::new() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("clock steps are seen only every few seconds: {error}");
            return;
        }
    };
    while watch.step().await.is_ok() {
        if engine.send(Message::ClockStep).is_err() {
            return;
        }
    }
}

/// Hands requests to whom they concern.
async fn dispatch(
    mut requests: mpsc::Receiver<Request>,
    context: Arc<RwLock<Context>>,
    engine: blocking::Sender<Message>,
    keeper: blocking::Sender<Job>,
) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Submit(body, user, reply) => {
                let context = context.read().unwrap_or_else(PoisonError::into_inner).clone();
                let (engine, keeper) = (engine.clone(), keeper.clone());
                tokio::task::spawn_blocking(move || submit(&body, &context, user, &engine, &keeper, reply));
            }
            Request::Revoke { id, why, user, reply } => {
                let event = Event::Revoke { order: id, why };
                let entry = Entry { line: 0, seq: None, at: None, event };
                take(vec![entry], Vec::new(), user, &engine, &keeper, reply);
            }
            request => drop(engine.send(Message::Request(request))),
        }
    }
}

fn submit(
    body: &Bytes,
    context: &Context,
    user: User,
    engine: &blocking::Sender<Message>,
    keeper: &blocking::Sender<Job>,
    reply: Reply<Submitted>,
) {
    match native::read(CONTROL_SOURCE, &body[..], context) {
        Ok(native::Read { entries, refusals, .. }) => take(entries, refusals, user, engine, keeper, reply),
        Err(error) => drop(reply.send(Err(Failed::Invalid(error.to_string())))),
    }
}

/// Ends orders in the kernel first, then has the book take everything in.
fn take(
    entries: Vec<Entry>,
    refusals: Vec<crate::feed::Refusal>,
    user: User,
    engine: &blocking::Sender<Message>,
    keeper: &blocking::Sender<Job>,
    reply: Reply<Submitted>,
) {
    let ended = keeper::ends(&entries);
    if !ended.is_empty() {
        let _ = engine.send(Message::End(ended.clone()));
    }
    let _ = keeper.send(Job::Take { entries, refusals, user, ended, reply });
}
