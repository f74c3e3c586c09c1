//! What a provider waits for: a large list and small changes, from their arrival to their enforcement, by the real
//! daemon with its order book; and what memory that takes.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use filter_user::control::api::Submitted;
use tempfile::TempDir;

use crate::{
    Run, Size,
    daemon::Daemon,
    names::Random,
    packets::grouped,
    poll::Server,
    report::{Cell, Report, Table},
    spread::{Spread, spread},
    zone::Primary,
};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let table = report.table(Table::new("daemon-load", "The daemon: whole lists", &WHOLE).text(WHOLE_TEXT));
    for (names, rounds) in run.size.daemons {
        let mut measured: [Vec<f64>; 5] = Default::default();
        for _ in 0..*rounds {
            let once = Enforcing::new(run, *names)?.whole;
            measured.iter_mut().zip(once).for_each(|(values, value)| values.push(value));
        }
        table.row(format!("{} names, {rounds} runs", grouped(*names)), measured.map(Spread::of));
    }

    // The daemon goes before its folder does.
    let Enforcing { folder, first, server, feeds, mut daemon, .. } = Enforcing::new(run, run.size.daemon)?;
    let (folder, size) = (folder.path(), &run.size);
    small_changes(&mut daemon, folder, &server, size, report)?;
    many_changes(&mut daemon, &server, size, report)?;
    let text = format!("From the daemon's start to {} names of its own order book in force.", grouped(size.daemon));
    let table = report.table(Table::new("daemon-start", "The daemon: starts", &START).text(text));
    for (kept, what) in [(true, "killed and started again"), (false, "without what it had pinned, as after a boot")] {
        let (mut seconds, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..size.starts {
            let generation = if kept { daemon.generation()? } else { 0 };
            let (next, begun) = daemon.again(&run.folder, folder, &feeds, kept)?;
            daemon = next;
            daemon.until(|daemon| Ok(daemon.generation()? > generation && daemon.holds(&first)?))?;
            seconds.push(begun.elapsed().as_secs_f64());
            processor.push(daemon.processor()?);
            thread::sleep(SETTLE);
        }
        table.row(what, [Spread::of(seconds), Spread::of(processor)]);
    }
    drop(daemon);
    zone_changes(run, report)
}

const WHOLE: [&str; 5] = ["s", "s of processor time", "MB resident", "octets a name", "MB at most"];
const WHOLE_TEXT: &str = "From a list's appearing in the folder of a feed to its enforcement by the daemon, with its \
    order book on the disk; then the memory of the process, without the kernel's tables: resident, the same a name \
    without what an empty daemon has, and the most that was resident at any moment.";
const START: [&str; 2] = ["s", "s of processor time"];

/// A daemon that enforces a list.
struct Enforcing {
    daemon: Daemon,
    server: Server,
    feeds: String,
    /// What its columns in the first table say.
    whole: [f64; 5],
    /// A name of the list.
    first: String,
    // Last: the daemon goes first.
    folder: TempDir,
}

impl Enforcing {
    fn new(run: &Run, names: usize) -> Result<Self> {
        let folder = tempfile::tempdir_in(run.folder.path())?;
        let server = Server::start()?;
        for name in ["lists", "orders"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let feeds = feeds(folder.path(), &server);
        let mut daemon = Daemon::start(&run.folder, folder.path(), &feeds)?;
        daemon.until(|_| Ok(server.is_asked()))?;
        let empty = daemon.memory("VmRSS")?;
        let (fresh, list) = (folder.path().join("many.txt"), folder.path().join("lists/many.txt"));
        let first = write_list(&fresh, names)?;
        let (generation, before, begun) = (daemon.generation()?, daemon.processor()?, Instant::now());
        fs::rename(fresh, list)?;
        daemon.until(|daemon| Ok(daemon.generation()? > generation && daemon.holds(&first)?))?;
        let (took, processor) = (begun.elapsed().as_secs_f64(), daemon.processor()? - before);
        thread::sleep(SETTLE);
        let resident = daemon.memory("VmRSS")?;
        let each = (resident - empty) * 1e6 / names as f64;
        let whole = [took, processor, resident, each, daemon.memory("VmHWM")?];
        Ok(Self { daemon, server, feeds, whole, first, folder })
    }
}

/// After this a daemon is at rest.
const SETTLE: Duration = Duration::from_secs(2);

/// One-name changes by each way.
fn small_changes(daemon: &mut Daemon, folder: &Path, server: &Server, size: &Size, report: &mut Report) -> Result<()> {
    let text = format!("Milliseconds from the change to its enforcement, beside {} names.", grouped(size.daemon));
    let heading = "The daemon: a change of one name";
    let table = report.table(Table::new("daemon-change", heading, &CHANGES).text(text));
    let mut number = 0;
    let mut each = |what: &str, send: &mut dyn FnMut(&Daemon, &str) -> Result<Instant>| -> Result<()> {
        let change = spread(size.changes, || {
            number += 1;
            let name = format!("change{number}.example.net");
            let begun = send(daemon, &name)?;
            daemon.until(|daemon| daemon.holds(&name))?;
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            // Whatever follows the enforcement is not to meet the next change: that is another measurement.
            thread::sleep(PAUSE);
            Ok(took)
        })?;
        let most = format!("{:.1}", change.part(0.99));
        table.row(what, [Cell::from(change), most.into()]);
        Ok(())
    };
    each("one name by the control socket", &mut |daemon, name| {
        let (client, line) = (daemon.control(), put("control", name));
        let begun = Instant::now();
        let submitted: Submitted = client.post_raw("/v1/orders", line.into())?;
        ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 1, "{submitted:?}");
        Ok(begun)
    })?;
    each("one name by a file", &mut |_, name| {
        let fresh = folder.join("orders/small.fresh");
        fs::write(&fresh, put("file", name))?;
        let begun = Instant::now();
        fs::rename(&fresh, folder.join("orders/small.jsonl"))?;
        Ok(begun)
    })?;
    each("one name by a long poll over HTTP", &mut |_, name| server.send(&[put("http", name)]))
}

const CHANGES: [&str; 2] = ["ms", "99th percentile"];

/// A thousand names of the large order change at once, half of them coming, half going, from all over it.
fn many_changes(daemon: &mut Daemon, server: &Server, size: &Size, report: &mut Report) -> Result<()> {
    let mut random = Random::new(0xc0de);
    let mut names = || -> Vec<String> { (0..CHANGED / 2).map(|index| random.name(2 + index % 3)).collect() };
    let event =
        |op: &str, names: &[String]| format!("{}\n", serde_json::json!({"op": op, "order": "bench", "names": names}));
    let mut known = names();
    let first: Submitted = daemon.control().post_raw("/v1/orders", event("add", &known).into())?;
    ensure!(first.problems.is_empty(), "{first:?}");
    let text = format!(
        "Milliseconds from a change of {CHANGED} names at once, half of them coming and half going, to their \
         enforcement, in a list of {}; the daemon has come to rest before.",
        grouped(size.daemon)
    );
    let heading = "The daemon: a change of many names";
    let table = report.table(Table::new("daemon-changes", heading, &CHANGES).text(text));
    let mut each = |what: &str, send: &mut dyn FnMut(&Daemon, [String; 2]) -> Result<Instant>| -> Result<()> {
        let change = spread((size.changes / 8).max(7), || {
            let (mut generation, next) = (daemon.generation()?, names());
            let begun = send(daemon, [event("add", &next), event("remove", &known)])?;
            let mut took = 0.0;
            // The tables may come to another generation for other reasons, too.
            daemon.until(|daemon| {
                let now = daemon.generation()?;
                let is_new = std::mem::replace(&mut generation, now) != now;
                took = begun.elapsed().as_secs_f64() * 1000.0;
                Ok(is_new && all(daemon, &next, true)? && all(daemon, &known, false)?)
            })?;
            known = next;
            thread::sleep(REST);
            Ok(took)
        })?;
        let most = format!("{:.1}", change.part(0.99));
        table.row(what, [Cell::from(change), most.into()]);
        Ok(())
    };
    each("1,000 names by the control socket", &mut |daemon, lines| {
        let client = daemon.control();
        let begun = Instant::now();
        let submitted: Submitted = client.post_raw("/v1/orders", lines.concat().into())?;
        ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 2, "{submitted:?}");
        Ok(begun)
    })?;
    each("1,000 names by a long poll over HTTP", &mut |_, lines| server.send(&lines))
}

/// The same by differences of a zone, from a primary that tells of each by NOTIFY.
fn zone_changes(run: &Run, report: &mut Report) -> Result<()> {
    let (size, count) = (&run.size, run.size.daemon);
    let mut random = Random::new(0x20e5);
    let mut names = |count: usize| -> Vec<String> { (0..count).map(|index| random.name(2 + index % 3)).collect() };
    let zone = names(count);
    let last = zone.last().cloned().unwrap_or_default();
    let primary = Primary::start(zone)?;
    let folder = tempfile::tempdir_in(run.folder.path())?;
    let mut daemon = Daemon::start(&run.folder, folder.path(), &primary.feed())?;
    daemon.until(|daemon| daemon.holds(&last))?;
    thread::sleep(SETTLE);
    let text = format!(
        "Milliseconds from when the first octet of a difference (IXFR) was sent to where it is enforced, in a response \
         policy zone of {} names.",
        grouped(count)
    );
    let table = report.table(Table::new("daemon-zone", "The daemon: a change of a zone", &CHANGES).text(text));
    for (changed, rounds, pause) in [(2, size.changes, PAUSE), (CHANGED, (size.changes / 8).max(7), REST)] {
        let mut known: Vec<String> = Vec::new();
        let change = spread(rounds, || {
            let next = names(changed / 2);
            let sent = primary.change(known.clone(), next.clone())?;
            daemon.until(|daemon| Ok(all(daemon, &next, true)? && all(daemon, &known, false)?))?;
            let took = sent.elapsed().as_secs_f64() * 1000.0;
            known = next;
            thread::sleep(pause);
            Ok(took)
        })?;
        let most = format!("{:.1}", change.part(0.99));
        let (coming, going) = (changed / 2, changed / 2);
        table.row(format!("{coming} names come, {going} go"), [Cell::from(change), most.into()]);
        // They would only be more names from now on.
        primary.change(known, Vec::new())?;
    }
    let [resident, most] = ["VmRSS", "VmHWM"].map(|line| daemon.memory(line));
    table.note(format!("The daemon then had {:.0} MB resident, and {:.0} MB at most.", resident?, most?));
    Ok(())
}

/// Whether the tables hold each of these names, or none of them.
fn all(daemon: &Daemon, names: &[String], are_there: bool) -> Result<bool> {
    for name in names {
        if daemon.holds(name)? != are_there {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes names of two, three and four labels, a row each. Returns one of them.
fn write_list(path: &Path, names: usize) -> Result<String> {
    let mut random = Random::new(0x0dd5);
    let mut out = BufWriter::new(File::create(path)?);
    let mut last = String::new();
    for index in 0..names {
        last = random.name(2 + index % 3);
        writeln!(out, "{last}")?;
    }
    out.flush()?;
    Ok(last)
}

fn put(id: &str, name: &str) -> String {
    format!(
        r#"{{"op":"put","order":{{"id":"{id}","issuer":"bench","basis":"bench","reference":"bench","issued":"2026-01-01","not_before":"2026-01-01T00:00:00Z","not_after":"none","protocols":["dns"],"actions":{{"dns":"drop"}},"scopes":["all"],"match":"subtree","names":["{name}"],"except":[]}}}}"#
    ) + "\n"
}

fn feeds(folder: &Path, server: &Server) -> String {
    format!(
        r#"
[[feed]]
name = "lists"
kind = "list"
path = {:?}

[feed.order]
id = "bench"
issuer = "bench"
basis = "bench"
reference = "bench"
issued = "2026-01-01"
not_before = "2026-01-01T00:00:00Z"
not_after = "none"
protocols = ["dns", "tls", "quic"]
actions = {{ dns = "drop", tls = "drop", quic = "drop" }}
scopes = ["all"]
match = "subtree"

[[feed]]
name = "orders"
kind = "native"
path = {:?}

[[feed]]
name = "http"
kind = "native"
url = "{}"
http = {{ interval = "1h", incremental = true, long_poll = "5m" }}
"#,
        folder.join("lists"),
        folder.join("orders"),
        server.url()
    )
}

/// Names that change at once, those that come and those that go together.
const CHANGED: usize = 1000;

const PAUSE: Duration = Duration::from_millis(30);

/// The same of many names: the order book brings them to where the others are.
const REST: Duration = Duration::from_millis(1500);
