//! Real primaries of a response policy zone, BIND and Knot, with the configuration that `examples/` shows.
//!
//! Each has a folder of its own and an address with a port of its own: on this host's loopback, or on a host of the lab.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::lab::{Host, Lab, Process, eventually, process};

/// The zone that the examples serve.
pub const ZONE: &str = "rpz.example";

/// The secret of the key `cordon`, in base64: of the examples' and of the tests.
pub const SECRET: &str = "c2VjcmV0IG9mIHRoZSBleGFtcGxlLCBtYWtlIG9uZQ==";

/// Longest that a server may take to answer, or to do as it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BIND 9.
    Bind,
    /// Knot DNS.
    Knot,
}

/// A primary, while it lives.
pub struct Server<'a> {
    kind: Kind,
    lab: Option<(&'a Lab, Host)>,
    folder: TempDir,
    address: SocketAddr,
    process: Option<Process>,
}

/// How a primary is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it tells of changes.
    pub notify: SocketAddr,
    /// Changes of the examples' configuration: what stands there, and what in its place.
    pub edits: Vec<(String, String)>,
    /// The zone: its SOA record's times, and all other records.
    pub soa: Soa,
    /// Records, in the form of a master file, below the zone.
    pub records: String,
}

/// Serial and times of an SOA record.
#[derive(Clone, Copy, Debug)]
pub struct Soa {
    /// Serial.
    pub serial: u32,
    /// In seconds.
    pub refresh: u32,
    /// In seconds.
    pub retry: u32,
    /// In seconds.
    pub expire: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            notify: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1),
            edits: Vec::new(),
            soa: Soa { serial: 1, refresh: 3600, retry: 3600, expire: 86_400 },
            records: "bad.test CNAME .\n*.bad.test CNAME .\n".to_owned(),
        }
    }
}

impl Setup {
    /// With one more change of the configuration.
    #[must_use]
    pub fn edit(mut self, from: &str, to: &str) -> Self {
        self.edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// With other records.
    #[must_use]
    pub fn records(mut self, records: &str) -> Self {
        records.clone_into(&mut self.records);
        self
    }
}

impl<'a> Server<'a> {
    /// Starts a primary on this host's loopback, at a port that is free.
    ///
    /// # Errors
    /// It does not answer; what it said is part of the error.
    pub fn start(kind: Kind, setup: &Setup) -> Result<Self> {
        Self::begin(kind, None, free_address()?, setup)
    }

    /// Starts a primary on a host of the lab.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_in(lab: &'a Lab, host: Host, address: SocketAddr, kind: Kind, setup: &Setup) -> Result<Self> {
        Self::begin(kind, Some((lab, host)), address, setup)
    }

    fn begin(kind: Kind, lab: Option<(&'a Lab, Host)>, address: SocketAddr, setup: &Setup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cordon-primary-").tempdir()?;
        let mut server = Self { kind, lab, folder, address, process: None };
        let zone = server.zone_text(setup.soa, &setup.records);
        fs::write(server.folder.path().join("rpz.example.zone"), zone)?;
        server.configure(setup)?;
        server.run()?;
        Ok(server)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn zone_text(&self, soa: Soa, records: &str) -> String {
        let Soa { serial, refresh, retry, expire } = soa;
        format!(
            "$ORIGIN {ZONE}.\n$TTL 60\n@ SOA ns.{ZONE}. host.{ZONE}. {serial} {refresh} {retry} {expire} 60\n\
             @ NS localhost.\n{records}"
        )
    }

    fn configure(&self, setup: &Setup) -> Result<()> {
        let folder = self.folder.path();
        let at = folder.display();
        let (ip, port) = (self.address.ip(), self.address.port());
        let (notify_ip, notify_port) = (setup.notify.ip(), setup.notify.port());
        let (example, around, edits) = match self.kind {
            Kind::Bind => {
                let key = format!("key \"cordon\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n");
                fs::write(folder.join("cordon.key"), key)?;
                let around = format!(
                    "options {{ directory \"{at}\"; pid-file none; session-keyfile none; empty-zones-enable no;\n\
                     recursion no; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; notify-rate 1000;\n\
                     max-ixfr-ratio unlimited; dnssec-validation no; }};\n\
                     controls {{ }};\n"
                );
                let edits = vec![
                    ("/etc/bind/cordon.key", format!("{at}/cordon.key")),
                    ("/var/lib/bind/", format!("{at}/")),
                    ("192.0.2.10 port 53", format!("{notify_ip} port {notify_port}")),
                ];
                ("bind", around, edits)
            }
            Kind::Knot => {
                fs::create_dir_all(folder.join("db"))?;
                let around = format!(
                    "server:\n  rundir: {at}\n  listen: {ip}@{port}\n  user: root\n  tcp-workers: 2\n  udp-workers: 1\n  \
                     background-workers: 1\ncontrol:\n  listen: {at}/control\ndatabase:\n  storage: {at}/db\n\
                     log:\n  - target: stderr\n    any: info\n"
                );
                let edits =
                    vec![("/var/lib/knot", at.to_string()), ("192.0.2.10@53", format!("{notify_ip}@{notify_port}"))];
                ("knot", around, edits)
            }
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example).join("rpz.conf");
        let mut text = fs::read_to_string(&example).with_context(|| example.display().to_string())?;
        let given = setup.edits.iter().map(|(from, to)| (from.as_str(), to.clone()));
        for (from, to) in edits.into_iter().chain(given) {
            ensure!(text.contains(from), "{} does not hold {from:?}", example.display());
            text = text.replace(from, &to);
        }
        Ok(fs::write(self.configuration(), around + &text)?)
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("server.conf")
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// It does not; what it said is part of the error.
    pub fn run(&mut self) -> Result<()> {
        let configuration = self.configuration();
        let configuration = configuration.to_str().context("the temporary folder's name is not UTF-8")?;
        let mut command = match self.kind {
            Kind::Bind => {
                // A copy, because AppArmor, where it is on, lets Debian's own read /etc/bind alone.
                let copy = self.folder.path().join("named");
                if !copy.exists() {
                    let original = process::find("named").context("named is not installed")?;
                    process::done(Command::new("cp").arg(original).arg(&copy))?;
                }
                let copy = copy.to_str().context("the temporary folder's name is not UTF-8")?.to_owned();
                self.command(&[&copy, "-g", "-n", "1", "-c", configuration])
            }
            Kind::Knot => {
                let knotd = process::find("knotd").context("knotd is not installed")?;
                self.command(&[&knotd.to_string_lossy(), "-c", configuration])
            }
        };
        let mut process = Process::start(&mut command, self.folder.path())?;
        let up = eventually(PATIENCE, || {
            if let Err(error) = process.still_runs() {
                return Ok(Err(error));
            }
            self.serial().map(|_| Ok(()))
        });
        let log = process.log();
        self.process = Some(process);
        up.and_then(|up| up).with_context(|| format!("{:?}: {log}", self.kind))
    }

    /// Ends it.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.stop(libc::SIGTERM)?;
        Ok(())
    }

    /// What it has said since it was started last.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The serial that it serves.
    ///
    /// # Errors
    /// It does not answer.
    pub fn serial(&self) -> Result<u32> {
        let (at, port) = (format!("@{}", self.address.ip()), self.address.port().to_string());
        let words = ["dig", &at, "-p", &port, ZONE, "SOA", "+short", "+tries=1", "+time=1", "+norec"];
        let finished = process::finish(&mut self.command(&words), PATIENCE)?;
        let serial = finished.stdout.split(' ').nth(2).and_then(|serial| serial.parse().ok());
        serial.with_context(|| format!("no SOA record: {finished}"))
    }

    /// Changes the zone by nsupdate, in one update: lines such as `add x.rpz.example. 60 CNAME .` and `del x.rpz.example.`
    ///
    /// # Errors
    /// It does not take it.
    pub fn update(&self, lines: &str) -> Result<()> {
        let (ip, port) = (self.address.ip(), self.address.port());
        let script = self.folder.path().join("update");
        fs::write(&script, format!("server {ip} {port}\nzone {ZONE}\n{lines}\nsend\n"))?;
        let key = format!("hmac-sha256:cordon:{SECRET}");
        // Over TCP, for an update may be long.
        self.read(&["nsupdate", "-v", "-y", &key, &script.to_string_lossy()]).map(drop)
    }

    /// Puts another zone in the place of the file, and has it read, as an operator does who edits it.
    ///
    /// # Errors
    /// It does not take it.
    pub fn rewrite(&self, soa: Soa, records: &str) -> Result<()> {
        fs::write(self.folder.path().join("rpz.example.zone"), self.zone_text(soa, records))?;
        match self.kind {
            Kind::Bind => {
                self.process.as_ref().context("it does not run")?.signal(libc::SIGHUP);
                Ok(())
            }
            Kind::Knot => self.knotc(&["zone-reload", ZONE]),
        }
    }

    /// Tells Knot something by its control socket.
    ///
    /// # Errors
    /// It does not do it.
    pub fn knotc(&self, words: &[&str]) -> Result<()> {
        let socket = self.folder.path().join("control");
        self.read(&[&["knotc", "-b", "-s", &socket.to_string_lossy()], words].concat()).map(drop)
    }

    fn read(&self, words: &[&str]) -> Result<String> {
        let finished = process::finish(&mut self.command(words), PATIENCE)?;
        ensure!(finished.success(), "{}: {finished}", words.join(" "));
        Ok(finished.stdout)
    }

    fn command(&self, words: &[&str]) -> Command {
        let (program, arguments) = words.split_first().map_or(("false", words), |(program, rest)| (*program, rest));
        let program = process::find(program).unwrap_or_else(|| program.into());
        let mut command = match self.lab {
            Some((lab, host)) => lab.command(host, program),
            None => Command::new(program),
        };
        command.args(arguments).current_dir(self.folder.path());
        command
    }
}

/// A port of the loopback that nobody has.
///
/// # Errors
/// There is none.
pub fn free_address() -> Result<SocketAddr> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Ok(TcpListener::bind((address, 0))?.local_addr()?)
}
