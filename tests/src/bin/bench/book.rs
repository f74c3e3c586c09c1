//! What a provider waits for: a large list and small changes, from their arrival to their enforcement, by the real
//! daemon with its order book; and what memory that takes.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use filter_user::control::api::Submitted;

use crate::{
    Run, Size,
    daemon::Daemon,
    names::Random,
    packets::grouped,
    poll::Server,
    report::{Cell, Report, Table},
    spread::spread,
};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let folder = run.folder.path().join("daemon");
    fs::create_dir(&folder)?;
    let (folder, size) = (folder.as_path(), &run.size);
    let server = Server::start()?;
    for name in ["lists", "orders"] {
        fs::create_dir(folder.join(name))?;
    }
    let feeds = feeds(folder, &server);
    let mut daemon = Daemon::start(&run.folder, folder, &feeds)?;
    daemon.until(|_| Ok(server.is_asked()))?;
    let mut memory = vec![Memory::of("empty", &daemon)?];

    let names = list(&folder.join("many.txt"), size.daemon)?;
    let table = report.table(Table::new("daemon-load", "The daemon: whole lists", &WHOLE).text(WHOLE_TEXT));
    let (first, generation) = (names.first().context("no names")?, daemon.generation()?);
    let (before, begun) = (daemon.processor()?, Instant::now());
    fs::rename(folder.join("many.txt"), folder.join("lists/many.txt"))?;
    daemon.until(|daemon| Ok(daemon.generation()? > generation))?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(daemon.holds(first)?, "{first} is not enforced");
    let count = grouped(size.daemon);
    once(table, &format!("{count} names from a list to their enforcement"), took, daemon.processor()? - before);
    let settle = Duration::from_secs(size.settle);
    thread::sleep(settle);
    memory.push(Memory::of(&format!("{count} names"), &daemon)?);

    small_changes(&mut daemon, folder, &server, size, report)?;
    many_changes(&mut daemon, &server, size, report)?;
    memory.push(Memory::of("after the changes", &daemon)?);

    let table = report.table(Table::new("daemon-start", "The daemon: starts", &WHOLE).text(START_TEXT));
    for (kept, what) in [(true, "killed and started again"), (false, "without what it had pinned, as after a boot")] {
        let generation = if kept { daemon.generation()? } else { 0 };
        let (next, begun) = daemon.again(&run.folder, folder, &feeds, kept)?;
        daemon = next;
        daemon.until(|daemon| Ok(daemon.generation()? > generation))?;
        let took = begun.elapsed().as_secs_f64();
        ensure!(daemon.holds(first)?, "{first} is not enforced");
        once(table, what, took, daemon.processor()?);
        thread::sleep(settle);
    }
    memory.push(Memory::of("after a start", &daemon)?);
    let table = report.table(Table::new("daemon-memory", "The daemon's memory", &MEMORY).text(MEMORY_TEXT));
    memory.iter().for_each(|memory| table.row(memory.when.clone(), memory.cells(size.daemon)));
    Ok(())
}

const WHOLE: [&str; 2] = ["s", "s of processor time"];
const WHOLE_TEXT: &str = "From a list's appearing in the folder of a feed to its enforcement by the daemon, with its \
    order book on the disk. One run.";
const START_TEXT: &str = "From the daemon's start to the state of its own order book in force. One run each.";
const MEMORY: [&str; 4] = ["MB resident", "MB of its own", "MB at most", "octets resident a name"];
const MEMORY_TEXT: &str = "Of the process; the kernel's tables are not in it.";

fn once(table: &mut Table, what: &str, took: f64, processor: f64) {
    table.row(what, [format!("{took:.2}"), format!("{processor:.2}")]);
}

/// One-name changes by each way.
fn small_changes(
    daemon: &mut Daemon,
    folder: &Path,
    server: &Server,
    size: &Size,
    report: &mut Report,
) -> Result<()> {
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
    each("by the control socket", &mut |daemon, name| {
        let (client, line) = (daemon.control(), put("control", name));
        let begun = Instant::now();
        let submitted: Submitted = client.post_raw("/v1/orders", line.into())?;
        ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 1, "{submitted:?}");
        Ok(begun)
    })?;
    each("by a file", &mut |_, name| {
        let fresh = folder.join("orders/small.fresh");
        fs::write(&fresh, put("file", name))?;
        let begun = Instant::now();
        fs::rename(&fresh, folder.join("orders/small.jsonl"))?;
        Ok(begun)
    })?;
    each("by a long poll over HTTP", &mut |_, name| server.send(&[put("http", name)]))
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
         enforcement, in a list of {}.",
        grouped(size.daemon)
    );
    let heading = "The daemon: a change of many names";
    let table = report.table(Table::new("daemon-changes", heading, &CHANGES).text(text));
    let mut each = |what: &str, send: &mut dyn FnMut(&Daemon, [String; 2]) -> Result<Instant>| -> Result<()> {
        let change = spread((size.changes / 4).max(7), || {
            let (generation, next) = (daemon.generation()?, names());
            let begun = send(daemon, [event("add", &next), event("remove", &known)])?;
            daemon.until(|daemon| Ok(daemon.generation()? > generation))?;
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            for (names, comes) in [(&next, true), (&known, false)] {
                for name in names {
                    ensure!(daemon.holds(name)? == comes, "{name}: to be there: {comes}");
                }
            }
            known = next;
            thread::sleep(PAUSE);
            Ok(took)
        })?;
        let most = format!("{:.1}", change.part(0.99));
        table.row(what, [Cell::from(change), most.into()]);
        Ok(())
    };
    each("by the control socket", &mut |daemon, lines| {
        let client = daemon.control();
        let begun = Instant::now();
        let submitted: Submitted = client.post_raw("/v1/orders", lines.concat().into())?;
        ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 2, "{submitted:?}");
        Ok(begun)
    })?;
    each("by a long poll over HTTP", &mut |_, lines| server.send(&lines))
}

/// The daemon's, in MB.
struct Memory {
    when: String,
    resident: f64,
    own: f64,
    peak: f64,
}

impl Memory {
    fn of(when: &str, daemon: &Daemon) -> Result<Self> {
        let (resident, own) = (daemon.memory("VmRSS")?, daemon.memory("RssAnon")?);
        Ok(Self { when: when.to_owned(), resident, own, peak: daemon.memory("VmHWM")? })
    }

    fn cells(&self, names: usize) -> [String; 4] {
        let each = if self.when == "empty" { String::new() } else { format!("{:.0}", self.resident * 1e6 / names as f64) };
        [format!("{:.0}", self.resident), format!("{:.0}", self.own), format!("{:.0}", self.peak), each]
    }
}

/// Writes names of two, three and four labels, a row each.
fn list(path: &Path, names: usize) -> Result<Vec<String>> {
    let mut random = Random::new(0x0dd5);
    let names: Vec<String> = (0..names).map(|index| random.name(2 + index % 3)).collect();
    let mut out = BufWriter::new(File::create(path)?);
    names.iter().try_for_each(|name| writeln!(out, "{name}"))?;
    out.flush()?;
    Ok(names)
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
