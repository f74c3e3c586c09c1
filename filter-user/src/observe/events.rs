//! Events: from the kernel's ring to whoever listens.
//!
//! The ring is always read, so that what a listener gets is new. A listener that is too slow loses events, which are
//! counted; nobody waits for it.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::body::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Directory;
use crate::{
    control::api::EventLine,
    kernel::{Clock, Event},
};

/// Events that wait for a slow listener.
const WAITING: usize = 4096;

/// Latest events that are kept.
const LATEST: usize = 1000;

/// Where events come together.
#[derive(Clone, Debug)]
pub struct EventHub {
    lines: broadcast::Sender<Bytes>,
    latest: Arc<Mutex<VecDeque<Bytes>>>,
    read: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Default for EventHub {
    fn default() -> Self {
        Self {
            lines: broadcast::Sender::new(WAITING),
            latest: Arc::default(),
            read: Arc::default(),
            lost: Arc::default(),
        }
    }
}

impl EventHub {
    /// Hands an event to every listener.
    pub fn publish(&self, event: &EventLine) {
        self.read.fetch_add(1, Ordering::Relaxed);
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let line = Bytes::from(line);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= LATEST {
            latest.pop_front();
        }
        latest.push_back(line.clone());
        drop(latest);
        // Fails if nobody listens.
        let _ = self.lines.send(line);
    }

    /// The latest events, oldest first, each a line of JSON.
    pub fn latest(&self) -> Vec<Bytes> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.lines.receiver_count() > 0
    }

    /// Events from now on.
    pub fn subscribe(&self) -> EventStream {
        EventStream { lines: self.lines.subscribe(), lost: Arc::clone(&self.lost) }
    }

    /// Events published so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Events that listeners were too slow for.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Events for one listener.
#[derive(Debug)]
pub struct EventStream {
    lines: broadcast::Receiver<Bytes>,
    lost: Arc<AtomicU64>,
}

impl EventStream {
    /// The next event, as a line of JSON; `None` when the daemon stops.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.lines.recv().await {
                Ok(line) => return Some(line),
                Err(RecvError::Lagged(count)) => drop(self.lost.fetch_add(count, Ordering::Relaxed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// An event in words.
pub fn line(event: &Event, directory: &Directory, clock: &Clock) -> EventLine {
    EventLine {
        time: clock.wall(event.time),
        name: event.name.clone(),
        rule: event.rule.clone(),
        order: directory.order(event.order),
        protocol: event.protocol.word().to_owned(),
        verdict: event.reason.verdict().word().to_owned(),
        reason: event.reason.word().to_owned(),
        scopes: directory.scopes(event.scopes),
        client: event.client.map(|client: IpAddr| client.to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> EventLine {
        EventLine {
            time: "2025-03-28T00:00:00Z".parse().unwrap(),
            name: name.to_owned(),
            rule: "x.example".to_owned(),
            order: "o".to_owned(),
            protocol: "dns".to_owned(),
            verdict: "drop".to_owned(),
            reason: "dropped".to_owned(),
            scopes: vec!["fr".to_owned()],
            client: None,
        }
    }

    #[tokio::test]
    async fn a_slow_listener_loses_the_oldest_events_and_they_are_counted() {
        let hub = EventHub::default();
        hub.publish(&event("nobody.listens.example"));
        let mut stream = hub.subscribe();
        for number in 0..WAITING + 3 {
            hub.publish(&event(&number.to_string()));
        }
        let first: EventLine = serde_json::from_slice(&stream.next().await.unwrap()).unwrap();
        assert_eq!((first.name.as_str(), hub.lost()), ("3", 3));
        assert_eq!(hub.read(), WAITING as u64 + 4);
        let latest: EventLine = serde_json::from_slice(hub.latest().last().unwrap()).unwrap();
        assert_eq!((hub.latest().len(), latest.name), (LATEST, (WAITING + 2).to_string()));
    }

    #[test]
    fn without_a_client_there_is_no_client_field() {
        let line = serde_json::to_string(&event("a.x.example")).unwrap();
        assert_eq!(
            line,
            r#"{"time":"2025-03-28T00:00:00Z","name":"a.x.example","rule":"x.example","order":"o","protocol":"dns","verdict":"drop","reason":"dropped","scopes":["fr"]}"#
        );
    }
}
