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

use crate::{Size, daemon::Daemon, names::Random, poll::Server, spread::spread};

/// Measures.
pub fn run(size: &Size) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let server = Server::start()?;
    for name in ["lists", "orders"] {
        fs::create_dir(folder.join(name))?;
    }
    let feeds = feeds(folder, &server);
    let mut daemon = Daemon::start(folder, &feeds)?;
    daemon.until(|_| Ok(server.is_asked()))?;
    let empty = [daemon.memory("VmRSS")?, daemon.memory("RssAnon")?];

    let names = list(&folder.join("many.txt"), size.names)?;
    let (first, generation) = (names.first().context("no names")?, daemon.generation()?);
    let (before, begun) = (daemon.processor()?, Instant::now());
    fs::rename(folder.join("many.txt"), folder.join("lists/many.txt"))?;
    daemon.until(|daemon| Ok(daemon.generation()? > generation))?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(daemon.holds(first)?, "{first} is not enforced");
    println!(
        "{} names from a list to their enforcement, by the daemon: {took:.2} s, {:.0} names/s ({:.2} s of processor time)",
        names.len(),
        names.len() as f64 / took,
        daemon.processor()? - before,
    );
    thread::sleep(SETTLE);
    memory(&daemon, "after that", empty, &names)?;

    small_changes(&mut daemon, folder, &server, size)?;
    many_changes(&mut daemon, &server, size)?;
    memory(&daemon, "after all changes", empty, &names)?;

    for (kept, what) in
        [(true, "killed and started again"), (false, "the same without what it had pinned, as after a boot")]
    {
        let generation = if kept { daemon.generation()? } else { 0 };
        let (next, begun) = daemon.again(folder, &feeds, kept)?;
        daemon = next;
        daemon.until(|daemon| Ok(daemon.generation()? > generation))?;
        let took = begun.elapsed().as_secs_f64();
        ensure!(daemon.holds(first)?, "{first} is not enforced");
        println!("{what}, to its own state in force: {took:.2} s ({:.2} s of processor time)", daemon.processor()?);
        thread::sleep(SETTLE);
    }
    memory(&daemon, "after a start", empty, &names)
}

/// One-name changes by each way.
fn small_changes(daemon: &mut Daemon, folder: &Path, server: &Server, size: &Size) -> Result<()> {
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
        let (half, most) = (change.part(0.5), change.part(0.99));
        println!(
            "ms from a one-name change {what} to its enforcement, beside {} names: median {half:.1}, 99th percentile {most:.1} of {}",
            size.names, size.changes
        );
        Ok(())
    };
    each("by the control socket", &mut |daemon, name| {
        let (client, line) = (daemon.control(), put("control", name));
        let begun = Instant::now();
        let submitted: Submitted = client.post_raw("/v1/orders", line.into())?;
        ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 1, "{submitted:?}");
        Ok(begun)
    })?;
    each("of a file", &mut |_, name| {
        let fresh = folder.join("orders/small.fresh");
        fs::write(&fresh, put("file", name))?;
        let begun = Instant::now();
        fs::rename(&fresh, folder.join("orders/small.jsonl"))?;
        Ok(begun)
    })?;
    each("by a long poll over HTTP", &mut |_, name| server.send(&[put("http", name)]))
}

/// A thousand names of the large order change at once, half of them coming, half going, from all over it.
fn many_changes(daemon: &mut Daemon, server: &Server, size: &Size) -> Result<()> {
    let mut random = Random::new(0xc0de);
    let mut names = || -> Vec<String> { (0..CHANGED / 2).map(|index| random.name(2 + index % 3)).collect() };
    let event =
        |op: &str, names: &[String]| format!("{}\n", serde_json::json!({"op": op, "order": "bench", "names": names}));
    let mut known = names();
    let first: Submitted = daemon.control().post_raw("/v1/orders", event("add", &known).into())?;
    ensure!(first.problems.is_empty(), "{first:?}");
    let mut each = |what: &str, send: &mut dyn FnMut(&Daemon, [String; 2]) -> Result<Instant>| -> Result<()> {
        let change = spread(size.changes / 4, || {
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
        let (half, most) = (change.part(0.5), change.part(0.99));
        println!(
            "ms from {CHANGED} changed names {what} to their enforcement, in {}: median {half:.1}, 99th percentile {most:.1} of {}",
            size.names,
            size.changes / 4
        );
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

fn memory(daemon: &Daemon, when: &str, [empty, empty_own]: [f64; 2], names: &[String]) -> Result<()> {
    let (peak, resident, own) = (daemon.memory("VmHWM")?, daemon.memory("VmRSS")?, daemon.memory("RssAnon")?);
    println!(
        "memory {when}: {resident:.0} MB resident ({own:.0} of its own), {:.0} octets a name; {empty:.0} MB ({empty_own:.0}) when it was empty; peak {peak:.0} MB",
        resident * 1e6 / names.len() as f64,
    );
    Ok(())
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

/// Time after which the daemon is at rest.
const SETTLE: Duration = Duration::from_secs(15);

const PAUSE: Duration = Duration::from_millis(30);
