//! What stops names where queries are answered: resolvers, which every query has to come to.

use std::{fmt::Write as _, fs, net::UdpSocket, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use cordon_tests::{
    lab::{self, ACCESS_INTERFACE, CLIENT_INTERFACE, Host, Lab, Process, eventually},
    packet::Query,
};
use filter_user::kernel::{Frames, Pace};

use super::{
    LISTED, Names,
    path::{absent, installed, order_of},
    queries,
};
use crate::{
    Run,
    live::{border::Border, cordon::Cordon, first, threads},
    load,
    packets::grouped,
    report::{Cell, Report, Table},
    spread::Spread,
};

/// Measures.
pub fn run(border: &mut Border, names: &Names, run: &Run, report: &mut Report) -> Result<()> {
    let orders = run.folder.path().join("peers-nxdomain.jsonl");
    fs::write(&orders, format!("{}\n", order_of(names, "nxdomain")))?;
    let cordon = Cordon::new(border.lab(), "peers-nxdomain", &orders, &load::capacity(LISTED))?;
    write_lists(border.lab(), names)?;
    let mut peers =
        vec![Peer::new("Cordon, NXDOMAIN from the border", queries(border, &names.listed, None)?, Ok(None))];
    for (title, host, start) in RESOLVERS {
        let frames = queries(border, &names.listed, Some([192, 0, 2, host]))?;
        let address = format!("192.0.2.{host}");
        let started = ready(border, &address, start, names);
        peers.push(Peer::new(title, frames, started.map(Some)));
    }
    for round in 0..run.size.rounds {
        for peer in &mut peers {
            let program = peer.process.as_ref().is_ok_and(Option::is_none).then_some(cordon.program.as_path());
            border.install(program)?;
            peer.measure(border, round);
        }
    }
    border.install(None)?;
    table(&peers, run, report);
    Ok(())
}

fn table(peers: &[Peer], run: &Run, report: &mut Report) {
    let Pace::Rows { burst, rate } = PACE else { return };
    let text = format!(
        "Queries for listed names, {} a second, {burst} at a time, which resolvers on the border host answer by themselves \
         (NXDOMAIN; {} names), and Cordon from the XDP program. Nanoseconds of processor time for each answer: of the thread \
         that takes packets in, of the resolver's threads, and of both. Medians of {} runs of {} ms, in turn. The process \
         also does what the kernel does for it: system calls, and sending.",
        grouped(rate as usize),
        grouped(LISTED),
        run.size.rounds,
        TIME.as_millis(),
    );
    let table = report.table(Table::new("peers-resolvers", "Peers: answers instead of packets", &COLUMNS).text(text));
    for peer in peers {
        match &peer.process {
            Err(why) => absent(table, peer.title, why),
            Ok(_) => table.row(peer.title, (0..COLUMNS.len()).map(|at| peer.column(at))),
        }
    }
}

/// One that answers.
struct Peer {
    title: &'static str,
    frames: Frames,
    /// Its process, if it has one, or why it is absent.
    process: Result<Option<Process>, String>,
    /// What [`COLUMNS`] has, of each round.
    runs: Vec<[f64; COLUMNS.len()]>,
}

impl Peer {
    fn new(title: &'static str, frames: Frames, process: Result<Option<Process>>) -> Self {
        Self { title, frames, process: process.map_err(|error| format!("{error:#}")), runs: Vec::new() }
    }

    /// One round. What does not do what it should is absent from then on.
    fn measure(&mut self, border: &Border, round: usize) {
        let Ok(process) = &self.process else { return };
        match measure(border, &self.frames, process.as_ref().map(Process::id), round) {
            Ok(figures) => self.runs.push(figures),
            Err(error) => self.process = Err(format!("{error:#}")),
        }
    }

    fn column(&self, at: usize) -> Cell {
        Spread::of(self.runs.iter().filter_map(|figures| figures.get(at).copied()).collect()).into()
    }
}

fn measure(border: &Border, frames: &Frames, process: Option<u32>, round: usize) -> Result<[f64; COLUMNS.len()]> {
    let used = || process.map_or(Ok(Duration::ZERO), threads::time_of_all);
    let answers = || border.received(Host::Client, CLIENT_INTERFACE);
    let (time_before, answers_before) = (used()?, answers()?);
    let passage = border.pass(frames, first(round), PACE, TIME)?;
    let answered = (answers()? - answers_before) as f64;
    ensure!(answered > 0.0, "it gave no answer");
    let [network, process] = [passage.time, used()? - time_before].map(|time| time.as_nanos() as f64 / answered);
    Ok([network + process, network, process, 100.0 * answered / passage.arrived as f64])
}

/// Starts a resolver and waits until it answers for a listed name as it should.
fn ready(border: &Border, address: &str, start: Start, names: &Names) -> Result<Process> {
    let lab = border.lab();
    lab.read(Host::Border, &["ip", "address", "add", &format!("{address}/24"), "dev", ACCESS_INTERFACE])?;
    let mut process = start(lab, address)?;
    let name = names.listed.last().context("no names")?;
    eventually(PATIENCE, || {
        if let Err(error) = process.still_runs() {
            return Ok(Err(error));
        }
        let code = lab.within(Host::Border, || ask(address, name))?;
        ensure!(code == NXDOMAIN, "it answered {code} instead of NXDOMAIN");
        Ok(Ok(()))
    })??;
    threads::all_run_on(process.id(), border.cpu())?;
    Ok(process)
}

/// The response code for a query.
fn ask(address: &str, name: &str) -> Result<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect((address, 53))?;
    socket.send(&Query::new(name).build())?;
    let mut answer = [0; 512];
    let octets = socket.recv(&mut answer)?;
    ensure!(octets >= 12, "an answer of {octets} octets");
    Ok(answer[3] & 0xf)
}

type Start = fn(&Lab, &str) -> Result<Process>;

/// Title, last part of its address, and how it is started.
const RESOLVERS: [(&str, u8, Start); 3] =
    [("dnsdist, a suffix match", 3, dnsdist), ("Unbound, RPZ", 4, unbound), ("BIND, RPZ", 5, bind)];

/// The same names as a list, and as a response policy zone (draft-vixie-dnsop-dns-rpz).
fn write_lists(lab: &Lab, names: &Names) -> Result<()> {
    let mut zone = String::from("$TTL 60\n@ SOA ns.invalid. host.invalid. 1 60 60 60 60\n@ NS ns.invalid.\n");
    let mut list = String::new();
    for name in &names.listed {
        writeln!(zone, "{name} CNAME .")?;
        writeln!(list, "{name}")?;
    }
    fs::write(lab.folder().join(ZONE), zone)?;
    fs::write(lab.folder().join(LIST), list)?;
    Ok(())
}

fn dnsdist(lab: &Lab, address: &str) -> Result<Process> {
    let configuration = format!(
        r#"setLocal("{address}:53")
setACL("0.0.0.0/0")
setSecurityPollSuffix("")
names = newSuffixMatchNode()
for name in io.lines("{}") do names:add(newDNSName(name)) end
addAction(SuffixMatchNodeRule(names), RCodeAction(DNSRCode.NXDOMAIN))
addAction(AllRule(), RCodeAction(DNSRCode.REFUSED))
"#,
        lab.folder().join(LIST).display()
    );
    let file = written(lab, "dnsdist.conf", &configuration)?;
    let program = copied(lab, "dnsdist", "dnsdist")?;
    lab.spawn(Host::Border, &[&program, "--supervised", "--disable-syslog", "--config", &file])
}

fn unbound(lab: &Lab, address: &str) -> Result<Process> {
    let folder = lab.folder().display();
    let configuration = format!(
        r#"server:
    interface: {address}
    access-control: 0.0.0.0/0 allow
    num-threads: 1
    module-config: "respip iterator"
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: ""
rpz:
    name: rpz.
    zonefile: "{folder}/{ZONE}"
remote-control:
    control-enable: no
"#
    );
    let file = written(lab, "unbound.conf", &configuration)?;
    let program = copied(lab, "unbound", "unbound")?;
    lab.spawn(Host::Border, &[&program, "-d", "-p", "-c", &file])
}

fn bind(lab: &Lab, address: &str) -> Result<Process> {
    installed("named", "bind9")?;
    let options = format!(
        r#"listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    dnssec-validation no;
    response-policy {{ zone "rpz"; }} qname-wait-recurse no;"#
    );
    lab.name_server(Host::Border, &options, &format!(r#"zone "rpz" {{ type primary; file "{ZONE}"; }};"#))
}

fn written(lab: &Lab, name: &str, text: &str) -> Result<String> {
    let path = lab.folder().join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path.to_str().context("the temporary folder's name is not UTF-8")?.to_owned())
}

/// A copy of a program: where AppArmor is on, its profile for Debian's own path lets it read its own folders alone.
fn copied(lab: &Lab, program: &str, package: &str) -> Result<String> {
    installed(program, package)?;
    let original = lab::find(program).context("gone")?;
    let copy = lab.folder().join(program);
    // By another process: one that is forked here meanwhile would have the file open for writing.
    let done = Command::new("cp").arg(original).arg(&copy).status()?;
    if !done.success() {
        bail!("{program} cannot be copied");
    }
    Ok(copy.to_str().context("the temporary folder's name is not UTF-8")?.to_owned())
}

const ZONE: &str = "rpz.zone";
const LIST: &str = "names.txt";

const COLUMNS: [&str; 4] =
    ["together, ns an answer", "network thread, ns an answer", "process, ns an answer", "answered, %"];

/// How many sets of queries there are.
pub const COUNT: u32 = 1 + RESOLVERS.len() as u32;

/// Slow enough for the slowest, and fewer at a time than a socket's queue takes.
const PACE: Pace = Pace::Rows { burst: 16, rate: 10_000 };

/// Of one measurement.
const TIME: Duration = Duration::from_millis(500);

const NXDOMAIN: u8 = 3;

/// Longest that a resolver may take to read its list.
const PATIENCE: Duration = Duration::from_secs(60);
