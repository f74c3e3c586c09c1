//! BIND with response policy zones, one for each client address.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cordon_tests::{
    lab::{Process, address, root_zone},
    packet::Query,
};
use domain::{
    base::{Message, iana::Rcode},
    rdata::{A, Aaaa},
};

use super::Outcome;

/// The server, on a port of the loopback interface.
pub struct Bind {
    process: Process,
    server: SocketAddr,
}

/// Name of each policy zone.
pub const ZONE: &str = "rpz.example";

impl Bind {
    /// Starts it with these zones, of which each client sees its own, and waits until it answers.
    ///
    /// # Errors
    /// BIND is not installed, or does not answer.
    pub fn start(folder: &Path, zones: &[String]) -> Result<Self> {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut configuration = format!(
            r#"options {{
    directory "{}"; pid-file none; session-keyfile none; empty-zones-enable no; notify no;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion yes; allow-recursion {{ any; }}; dnssec-validation no;
}};
controls {{ }};
"#,
            folder.display()
        );
        fs::write(folder.join("root.zone"), root_zone())?;
        for (number, zone) in zones.iter().enumerate() {
            fs::write(folder.join(format!("{number}.zone")), zone)?;
            configuration.push_str(&format!(
                r#"view v{number} {{
    match-clients {{ {}; }};
    response-policy {{ zone "{ZONE}"; }} qname-wait-recurse no;
    zone "{ZONE}" {{ type primary; file "{number}.zone"; }};
    zone "." {{ type primary; file "root.zone"; }};
}};
"#,
                client(number)
            ));
        }
        fs::write(folder.join("named.conf"), configuration)?;
        // A copy, because AppArmor lets Debian's own path read /etc/bind alone.
        let copy = folder.join("named");
        let copied = Command::new("cp").arg(named()?).arg(&copy).status()?;
        ensure!(copied.success(), "named cannot be copied");
        let mut command = Command::new(&copy);
        command.args(["-g", "-n", "1", "-c"]).arg(folder.join("named.conf"));
        let mut process = Process::start(&mut command, folder)?;
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for number in 0..zones.len() {
            let begun = Instant::now();
            while ask(server, number, &["ready.invalid"], 1, 1)?.is_empty() {
                process.still_runs()?;
                ensure!(begun.elapsed() < PATIENCE, "named does not answer: {}", process.log());
            }
        }
        // A view in which the policy zone has mistakes answers all the same.
        let log = process.log();
        let loaded = log.matches(&format!("rpz: {ZONE}: reload done: success")).count();
        ensure!(loaded == zones.len(), "{loaded} of {} zones are loaded: {log}", zones.len());
        Ok(Self { process, server })
    }

    /// What becomes of queries of zones' clients, by name. Some ask at once, since most of the time is spent in waiting
    /// for answers that do not come; not all, or the server's socket overflows.
    ///
    /// # Errors
    /// The server has ended, or answers what is no DNS message.
    pub fn ask(&mut self, asked: &[Asked]) -> Result<Vec<BTreeMap<String, Outcome>>> {
        self.process.still_runs()?;
        let server = self.server;
        let mut answers = Vec::new();
        for some in asked.chunks(4) {
            thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|asked| scope.spawn(move || outcomes(server, asked))).collect();
                for thread in threads {
                    answers.push(thread.join().expect("a thread that asks")?);
                }
                anyhow::Ok(())
            })?;
        }
        Ok(answers)
    }
}

/// Names that a zone's client asks for.
pub struct Asked {
    /// The zone's number.
    pub zone: usize,
    /// The names.
    pub names: BTreeSet<String>,
    /// QTYPE.
    pub qtype: u16,
}

fn outcomes(server: SocketAddr, asked: &Asked) -> Result<BTreeMap<String, Outcome>> {
    let Asked { zone, names, qtype } = asked;
    let mut answers: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), Outcome::Dropped)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for some in names.chunks(50) {
        answers.extend(ask(server, *zone, some, *qtype, 3)?);
    }
    Ok(answers)
}

/// The address that a zone's client asks from.
fn client(zone: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, zone as u8 + 1)
}

/// Asks for all names at once, and again for those that had no answer.
fn ask(server: SocketAddr, zone: usize, names: &[&str], qtype: u16, tries: u32) -> Result<BTreeMap<String, Outcome>> {
    let socket = UdpSocket::bind((client(zone), 0))?;
    let mut answers = BTreeMap::new();
    for _ in 0..tries {
        let open: Vec<(u16, &str)> =
            (0..).zip(names).filter(|(_, name)| !answers.contains_key(**name)).map(|(id, name)| (id, *name)).collect();
        for (id, name) in &open {
            let query = Query { id: *id, ..Query::new(name).qtype(qtype) };
            socket.send_to(&query.build(), server)?;
        }
        let mut left = open.len();
        socket.set_read_timeout(Some(QUIET))?;
        let mut message = [0; 4096];
        while left > 0
            && let Ok(length) = socket.recv(&mut message)
        {
            let (id, outcome) = outcome(message.get(..length).context("a message")?)?;
            let name = names.get(usize::from(id)).context("an answer to no query")?;
            left -= 1;
            answers.insert((*name).to_owned(), outcome);
        }
    }
    Ok(answers)
}

fn outcome(octets: &[u8]) -> Result<(u16, Outcome)> {
    let message = Message::from_octets(octets)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for record in message.answer()? {
        let record = record?;
        addresses.extend(record.to_record::<A>()?.map(|record| IpAddr::from(record.data().addr())));
        addresses.extend(record.to_record::<Aaaa>()?.map(|record| IpAddr::from(record.data().addr())));
    }
    let passes: Vec<IpAddr> = address::WEB.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let outcome = match (message.header().rcode(), &addresses[..]) {
        (Rcode::NXDOMAIN, []) => Outcome::Nxdomain,
        (Rcode::NOERROR, []) => Outcome::Nodata,
        (Rcode::NOERROR, [address]) if passes.contains(address) => Outcome::Passes,
        (Rcode::NOERROR, [address]) => Outcome::Address(*address),
        other => bail!("{other:?}"),
    };
    Ok((message.header().id(), outcome))
}

fn named() -> Result<&'static str> {
    ["/usr/sbin/named", "/usr/bin/named"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .context("named is not installed")
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Time without an answer after which none is waited for.
const QUIET: Duration = Duration::from_millis(700);
