//! NOTIFY (RFC 1996), over UDP and TCP.
//!
//! One counts if it comes from the address of one of the zone's primaries, or is signed by the key of one, and then it
//! has the zone looked at and nothing else; what it says of the zone's serial is passed over. Any other is counted and
//! refused. Answers are no longer than questions.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    base::{
        Message, MessageBuilder, Rtype,
        iana::{Class, Opcode, Rcode},
        message_builder::AnswerBuilder,
    },
    rdata::tsig::Time48,
    tsig::{Algorithm, Key, KeyName, ServerTransaction},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Apex, Inbox, KeyFile, Task};
use crate::feed::http::States;

/// A zone that is followed, and who may notify of it.
#[derive(Debug)]
pub struct Zone {
    feed: String,
    apex: Apex,
    primaries: Vec<IpAddr>,
    keys: Vec<KeyFile>,
    inbox: Arc<Inbox>,
    refusals: Seldom,
}

/// What anybody can bring about, told once in a while and with the number of those that were not told.
#[derive(Debug, Default)]
struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether it is to be told at this time, and how many were not before.
    fn tells(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, untold) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < TOLD_EVERY) {
            *untold += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(untold))
    }
}

impl Zone {
    /// What a task follows.
    pub(super) fn of(task: &Task, inbox: Arc<Inbox>) -> Self {
        let primaries = &task.upstream.primaries;
        Self {
            feed: task.feed.clone(),
            apex: task.upstream.zone.clone(),
            primaries: primaries.iter().map(|primary| primary.address.ip().to_canonical()).collect(),
            keys: primaries.iter().filter_map(|primary| primary.key.clone()).collect(),
            inbox,
            refusals: Seldom::default(),
        }
    }

    fn is_primary(&self, from: IpAddr) -> bool {
        self.primaries.contains(&from)
    }

    /// The keys whose files can be read.
    fn read_keys(&self) -> HashMap<(KeyName, Algorithm), Key> {
        let key = |key: &KeyFile| Some(((key.name.clone(), key.algorithm), key.read().ok()?));
        self.keys.iter().filter_map(key).collect()
    }
}

/// Receives NOTIFYs at an address, over UDP and TCP, for ever. While that cannot be, it is told and tried again.
pub(super) async fn listen(address: SocketAddr, zones: Arc<[Zone]>, states: States) {
    let mut told = None;
    loop {
        let bound = match UdpSocket::bind(address).await {
            Ok(udp) => TcpListener::bind(address).await.map(|tcp| (udp, tcp)),
            Err(error) => Err(error),
        };
        match bound {
            Ok((udp, tcp)) => {
                states.set_deaf(address, None);
                tracing::info!("NOTIFY: listening at {address}");
                tokio::join!(serve_udp(udp, &zones, &states), serve_tcp(tcp, &zones, &states));
            }
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::error!("NOTIFY: {address}: {why}");
                }
                states.set_deaf(address, Some(why.clone()));
                told = Some(why);
            }
        }
        sleep(AGAIN).await;
    }
}

async fn serve_udp(socket: UdpSocket, zones: &[Zone], states: &States) {
    let mut buffer = vec![0; LONGEST];
    loop {
        // An error here is of one datagram (a port that was closed): the next one may be well.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(PAUSE).await;
            continue;
        };
        let octets = buffer.get(..length).unwrap_or_default().to_vec();
        if let Some(answer) = answer(octets, from.ip().to_canonical(), zones, states) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zones: &Arc<[Zone]>, states: &States) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // Who is turned away comes again: a primary repeats what is not answered.
                Ok(_) if connections.len() >= MOST_CONNECTIONS => {}
                Ok((stream, from)) => {
                    let served = serve_connection(stream, from.ip().to_canonical(), Arc::clone(zones), states.clone());
                    connections.spawn(timeout(LONGEST_CONNECTION, served));
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(mut stream: TcpStream, from: IpAddr, zones: Arc<[Zone]>, states: States) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        if usize::from(length) > LONGEST {
            return Ok(());
        }
        let mut octets = vec![0; length.into()];
        stream.read_exact(&mut octets).await?;
        let Some(answer) = answer(octets, from, &zones, &states) else { return Ok(()) };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        stream.write_all(&framed).await?;
    }
}

/// Takes a message in, and gives the answer to it; none to what is no request.
fn answer(octets: Vec<u8>, from: IpAddr, zones: &[Zone], states: &States) -> Option<Vec<u8>> {
    let mut message = Message::from_octets(octets).ok()?;
    if message.header().qr() {
        return None;
    }
    if message.header().opcode() != Opcode::NOTIFY {
        return answered(&message, Rcode::NOTIMP);
    }
    let Some(zone) = asked(&message, zones) else {
        let is_malformed = message.sole_question().is_err();
        tracing::debug!("NOTIFY from {from}, not of a zone that is followed");
        return answered(&message, if is_malformed { Rcode::FORMERR } else { Rcode::NOTAUTH });
    };
    // Anybody can send one without a signature: no file is read for that.
    let keys = if has_signature(&message) { zone.read_keys() } else { HashMap::new() };
    let signed = ServerTransaction::request(&Arc::new(keys), &mut message, Time48::now());
    let refused = |why: &str, code| {
        // The number of all of them is in the status.
        if let Some(untold) = zone.refusals.tells(Instant::now()) {
            let more =
                if untold > 0 { format!(" ({untold} more since the last that was told)") } else { String::new() };
            tracing::warn!("feed {}: NOTIFY from {from} refused: {why}{more}", zone.feed);
        }
        states.update(&zone.feed, |state| state.zone.get_or_insert_default().notifies_refused += 1);
        code
    };
    let code = match &signed {
        // RFC 8945 5.2: what has a signature that does not hold counts for nothing, whoever seems to send it.
        Err(error) => refused(&format!("its signature: {error}"), Rcode::NOTAUTH),
        Ok(None) if !zone.is_primary(from) => refused("not one of the zone's primaries", Rcode::REFUSED),
        Ok(_) => {
            states.update(&zone.feed, |state| state.zone.get_or_insert_default().notifies += 1);
            // One by a key that does not come from a primary's address may mean any of them.
            let is_meant = |primary: &&IpAddr| **primary == from || !zone.is_primary(from);
            zone.inbox.put(zone.primaries.iter().filter(is_meant).copied());
            Rcode::NOERROR
        }
    };
    match signed {
        Ok(Some(transaction)) => {
            let mut answer = begun(&message, code)?.additional();
            transaction.answer(&mut answer, Time48::now()).ok()?;
            Some(answer.finish())
        }
        _ => answered(&message, code),
    }
}

fn has_signature(message: &Message<Vec<u8>>) -> bool {
    message.additional().is_ok_and(|records| records.flatten().any(|record| record.rtype() == Rtype::TSIG))
}

/// The zone that a NOTIFY is about.
fn asked<'z>(message: &Message<Vec<u8>>, zones: &'z [Zone]) -> Option<&'z Zone> {
    let question = message.sole_question().ok()?;
    let is_soa = question.qtype() == Rtype::SOA && question.qclass() == Class::IN;
    zones.iter().find(|zone| is_soa && zone.apex == *question.qname())
}

fn begun(message: &Message<Vec<u8>>, code: Rcode) -> Option<AnswerBuilder<Vec<u8>>> {
    let mut builder = MessageBuilder::new_vec().start_answer(message, code).ok()?;
    builder.header_mut().set_aa(code == Rcode::NOERROR);
    Some(builder)
}

fn answered(message: &Message<Vec<u8>>, code: Rcode) -> Option<Vec<u8>> {
    begun(message, code).map(|builder| builder.finish())
}

/// Longest NOTIFY: a question, an SOA record and a signature.
const LONGEST: usize = 4096;

/// Of refused NOTIFYs for a zone one is told in this time.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Until it is tried again to listen.
const AGAIN: Duration = Duration::from_secs(5);

/// After an error that may go on.
const PAUSE: Duration = Duration::from_millis(10);

/// At one time.
const MOST_CONNECTIONS: usize = 32;

const LONGEST_CONNECTION: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_can_bring_about_is_told_once_in_a_while() {
        let (seldom, first) = (Seldom::default(), Instant::now());
        let mut told = Vec::new();
        for millisecond in 0..150_000 {
            told.extend(seldom.tells(first + Duration::from_millis(millisecond)).map(|untold| (millisecond, untold)));
        }
        assert_eq!(told, [(0, 0), (60_000, 59_999), (120_000, 59_999)]);
    }
}
