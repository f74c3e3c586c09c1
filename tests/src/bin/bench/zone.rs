//! A primary of a response policy zone that tells of each change by NOTIFY, and answers with the difference.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype, Serial, Ttl,
        iana::{Class, Opcode, Rcode},
    },
    rdata::{Cname, Soa},
};

/// See the module. It ends with this process.
pub struct Primary {
    address: SocketAddr,
    /// Where the daemon receives NOTIFYs.
    notify: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    zone: Mutex<Zone>,
    sent: Condvar,
}

/// The zone; its rules are `NAME CNAME .`
#[derive(Default)]
struct Zone {
    serial: u32,
    /// What it held at its first serial.
    first: Vec<String>,
    /// What went with the last serial, and what came.
    last: [Vec<String>; 2],
    /// When the last difference was sent.
    sent: Option<Instant>,
}

impl Primary {
    pub fn start(names: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // The port is free for the daemon as soon as this socket is gone.
        let notify = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let address = listener.local_addr()?;
        let zone = Zone { serial: 1, first: names, ..Zone::default() };
        let shared = Arc::new(Shared { zone: Mutex::new(zone), sent: Condvar::new() });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    // Whoever asked may have left.
                    thread::spawn(move || drop(serve(stream, &shared)));
                }
            }
        });
        Ok(Self { address, notify, shared })
    }

    /// The feed in the daemon's configuration.
    pub fn feed(&self) -> String {
        format!(
            r#"
[notify]
listen = ["{}"]

[[feed]]
name = "zone"
kind = "rpz"
zone = "{ZONE}"
primaries = [{{ address = "{}" }}]

[feed.order]
id = "zone"
issuer = "bench"
basis = "bench"
reference = "bench"
issued = "2026-01-01"
not_before = "2026-01-01T00:00:00Z"
not_after = "none"
protocols = ["dns"]
actions = {{}}
scopes = ["all"]
"#,
            self.notify, self.address
        )
    }

    /// Makes a change, and tells when the difference was sent.
    pub fn change(&self, removed: Vec<String>, added: Vec<String>) -> Result<Instant> {
        let mut zone = self.shared.lock();
        zone.serial += 1;
        (zone.last, zone.sent) = ([removed, added], None);
        let begun = Instant::now();
        loop {
            self.tell()?;
            zone = self.shared.sent.wait_timeout(zone, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
            if let Some(sent) = zone.sent {
                return Ok(sent);
            }
            ensure!(begun.elapsed() < PATIENCE, "the daemon did not ask for serial {}", zone.serial);
        }
    }

    /// NOTIFY (RFC 1996).
    fn tell(&self) -> Result<()> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_opcode(Opcode::NOTIFY);
        message.header_mut().set_aa(true);
        let mut message = message.question();
        message.push((name("")?, Rtype::SOA))?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.send_to(&message.finish(), self.notify)?;
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut octets = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut octets)?;
        let query = Message::from_octets(octets).map_err(io::Error::other)?;
        let mut zone = shared.lock();
        let serial = zone.serial;
        match query.qtype().context("no question")? {
            Rtype::SOA => send(&mut stream, &query, &[Rr::Soa(serial)])?,
            Rtype::IXFR if serial > 1 => {
                let [removed, added] = &zone.last;
                let mut records = vec![Rr::Soa(serial), Rr::Soa(serial - 1)];
                records.extend(removed.iter().map(|name| Rr::Rule(name)));
                records.push(Rr::Soa(serial));
                records.extend(added.iter().map(|name| Rr::Rule(name)));
                records.push(Rr::Soa(serial));
                let sent = Instant::now();
                send(&mut stream, &query, &records)?;
                zone.sent = Some(sent);
                shared.sent.notify_all();
            }
            _ => {
                ensure!(serial == 1, "the whole zone was asked for at serial {serial}");
                let rules = zone.first.iter().map(|name| Rr::Rule(name));
                let records: Vec<Rr<'_>> = [Rr::Soa(1)].into_iter().chain(rules).chain([Rr::Soa(1)]).collect();
                send(&mut stream, &query, &records)?;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Rr<'a> {
    Soa(u32),
    Rule(&'a str),
}

/// Answers with records, in as many messages as it takes.
fn send(stream: &mut TcpStream, query: &Message<Vec<u8>>, records: &[Rr<'_>]) -> Result<()> {
    let (ttl, root) = (Ttl::from_secs(60), Name::root_vec());
    let mut octets = Vec::new();
    for records in records.chunks(MOST_RECORDS) {
        let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR)?;
        answer.header_mut().set_aa(true);
        for record in records {
            match record {
                Rr::Soa(serial) => {
                    let hour = Ttl::from_secs(3600);
                    let soa = Soa::new(root.clone(), root.clone(), Serial(*serial), hour, hour, hour, ttl);
                    answer.push((name("")?, Class::IN, ttl, soa))?;
                }
                Rr::Rule(owner) => answer.push((name(owner)?, Class::IN, ttl, Cname::new(root.clone())))?,
            }
        }
        let message = answer.finish();
        octets.extend(u16::try_from(message.len())?.to_be_bytes());
        octets.extend(message);
    }
    Ok(stream.write_all(&octets)?)
}

/// A name of the zone.
fn name(owner: &str) -> Result<Name<Vec<u8>>> {
    let dot = if owner.is_empty() { "" } else { "." };
    Ok(format!("{owner}{dot}{ZONE}").parse()?)
}

const ZONE: &str = "rpz.bench";

/// Records of names of less than 150 octets fit a message.
const MOST_RECORDS: usize = 400;

/// A NOTIFY may be lost.
const AGAIN: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_secs(60);
