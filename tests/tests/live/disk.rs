//! The state's disk is full or broken: the last good state stays enforced, what ends still ends, and nothing that has
//! ended comes back.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cordon_tests::lab::{Disk, Expected, Filter, Lab, Prober, Reply, Server, eventually, order};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Longest that a change may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn o5_orders_end_at_their_time_with_a_full_disk_and_with_the_daemon_dead() -> Result<()> {
    let lab = Lab::new()?;
    let now = Timestamp::now();
    let mut ending = ["first", "second"].map(|id| order(id, &[&format!("{id}.example")], &[("dns", "nxdomain")]));
    for (order, seconds) in ending.iter_mut().zip([20, 35]) {
        order["order"]["not_after"] = (now + Duration::from_secs(seconds)).to_string().into();
    }
    let [first, second] = ending;
    let mut filter = Filter::prepare(&lab, &[first, second, listed("staying")])?;
    let disk = lab.disk("state", &filter.state(), 32)?;
    filter.run()?;
    disk.fill()?;
    let prober = prober(&lab, &["first", "second", "staying"])?;
    // Three seconds before its time it is in force, three seconds after it is not; the clocks differ by less.
    let pass = |name: &str, seconds: u64| {
        let end = now + Duration::from_secs(seconds);
        wait_until(end - Duration::from_secs(3));
        prober.expect_nothing(&format!("{name}.example"));
        wait_until(end + Duration::from_secs(3));
        prober.expect(&format!("{name}.example"), Expected::Reached);
    };
    pass("first", 20);
    filter.stop(libc::SIGKILL)?;
    pass("second", 35);
    thread::sleep(Duration::from_secs(1));
    let tally = prober.finish()?;
    ensure!(tally.stopped > 0 && tally.reached > 0, "{tally:?}");
    drop(disk);
    Ok(())
}

#[test]
fn f4_with_a_full_disk_the_last_good_state_stays_and_ends_end() -> Result<()> {
    let lab = Lab::new()?;
    let Started { mut filter, disk, server, mut prober } = start(&lab)?;
    // So that what the log has room for already is no help.
    let book = rusqlite::Connection::open(filter.state().join("book.sqlite"))?;
    book.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    drop(book);
    disk.fill()?;

    ends_are_taken(&filter, &server, &prober, "No space left on device", "database or disk is full")?;
    prober.is_well()?;

    // The next daemon finds the disk as full as it was, and the server silent.
    server.answer(Reply::Stall);
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    thread::sleep(Duration::from_secs(1));
    prober.is_well()?;

    // With room again, all is written, and the daemon after that knows it from the book.
    disk.empty()?;
    let is_written = |filter: &Filter<'_>| {
        for id in ["ended", "fed", "filed"] {
            let shown = filter.json(&["order", "show", id])?;
            ensure!(shown["state"] == "revoked", "{shown}");
        }
        Ok(())
    };
    eventually(PATIENCE, || is_written(&filter)).with_context(|| filter.log())?;
    prober.expect_nothing("new.example");
    let submitted = filter.submit(&[listed("new")])?;
    ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 1, "{submitted:?}");
    prober.expect("new.example", Expected::Stopped);
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    is_written(&filter)?;
    // What the server gave meanwhile is asked for again, and taken now.
    server.answer(Reply::Increments(numbered("fed", 1), format!("{}{}", revoke_fed(), numbered("more", 3))));
    prober.expect_nothing("more.example");
    eventually(PATIENCE, || {
        let status = feed(&filter, "fed")?;
        ensure!(status["problem"].is_null() && status["fetch"]["seq"] == 3, "{status}");
        Ok(())
    })?;
    eventually(PATIENCE, || is_judged(&filter, "more.example", "nxdomain"))?;
    prober.expect("more.example", Expected::Stopped);
    thread::sleep(Duration::from_secs(1));
    let tally = prober.finish().with_context(|| filter.log())?;
    ensure!(tally.stopped > 0 && tally.reached > 0, "{tally:?}");
    filter.stop(libc::SIGTERM)?;
    drop(disk);
    Ok(())
}

#[test]
fn f4_with_a_broken_disk_the_last_good_state_stays_and_ends_end() -> Result<()> {
    let lab = Lab::new()?;
    let Started { mut filter, disk, server, mut prober } = start(&lab)?;
    disk.fail()?;
    ends_are_taken(&filter, &server, &prober, "Read-only file system", "disk I/O error")?;
    prober.is_well()?;

    // Without a disk for the book no daemon starts, and says why; the kernel goes on.
    server.answer(Reply::Stall);
    filter.stop(libc::SIGKILL)?;
    thread::sleep(Duration::from_secs(1));
    prober.is_well()?;
    let disk = disk.repair()?;
    filter.run()?;
    eventually(PATIENCE, || {
        for id in ["ended", "fed", "filed"] {
            let shown = filter.json(&["order", "show", id])?;
            ensure!(shown["state"] == "revoked", "{shown}");
        }
        Ok(())
    })
    .with_context(|| filter.log())?;
    let tally = prober.finish().with_context(|| filter.log())?;
    ensure!(tally.stopped > 0 && tally.reached > 0, "{tally:?}");
    filter.stop(libc::SIGTERM)?;
    drop(disk);
    Ok(())
}

/// A daemon with its state on a disk of its own; orders from a file, by control, and of a feed that has increments.
struct Started<'a> {
    filter: Filter<'a>,
    server: Server,
    prober: Prober,
    disk: Disk,
}

fn start(lab: &Lab) -> Result<Started<'_>> {
    let mut filter = Filter::prepare(lab, &[listed("kept"), listed("filed")])?;
    let disk = lab.disk("state", &filter.state(), 32)?;
    let server = lab.feed_server(Reply::Increments(numbered("fed", 1), String::new()))?;
    filter.configure(&format!(
        "\n[[feed]]\nname = \"fed\"\nkind = \"native\"\nurl = \"{}\"\nhttp = {{ interval = \"1s\", incremental = true, \
         stall_timeout = \"2s\" }}\n",
        server.url()
    ))?;
    filter.run()?;
    filter.submit(&[listed("ended"), listed("held")])?;
    eventually(PATIENCE, || is_judged(&filter, "fed.example", "nxdomain"))?;
    let prober = prober(lab, &["kept", "filed", "ended", "held", "fed"])?;
    prober.expect("new.example", Expected::Reached);
    Ok(Started { filter, server, prober, disk })
}

/// Nothing new is taken, which is said; what ends ends at once: by control, by a file and by a feed.
fn ends_are_taken(filter: &Filter<'_>, server: &Server, prober: &Prober, by_disk: &str, by_book: &str) -> Result<()> {
    let refused = filter
        .submit(&[listed("new")])
        .map(|submitted| format!("{submitted:?}"))
        .unwrap_or_else(|error| format!("{error:#}"));
    ensure!(refused.contains(by_book), "{refused}");

    prober.expect_nothing("ended.example");
    let revoked = filter.submit(&[json!({"op": "revoke", "order": "ended", "why": "settled"})])?;
    ensure!(revoked.problems.len() == 1, "{revoked:?}");
    let problem = &revoked.problems[0];
    ensure!(problem.starts_with("ended: ended; but nothing could be written: order book: "), "{problem}");
    ensure!(problem.ends_with("; the ends are noted, and written as soon as that is possible"), "{problem}");
    prober.expect("ended.example", Expected::Reached);

    prober.expect_nothing("fed.example");
    server.answer(Reply::Increments(numbered("fed", 1), revoke_fed()));
    eventually(PATIENCE, || {
        let status = feed(filter, "fed")?;
        let problem = status["problem"].as_str().unwrap_or_default();
        ensure!(problem.contains(by_disk) && status["fetch"]["stale_since"].is_string(), "{status}");
        ensure!(filter.log().contains("ended: fed; but it could not be written"), "{}", filter.log());
        is_judged(filter, "fed.example", "pass")
    })?;
    prober.expect("fed.example", Expected::Reached);

    prober.expect_nothing("filed.example");
    filter.write_orders("orders.jsonl", &[listed("kept")])?;
    eventually(PATIENCE, || is_judged(filter, "filed.example", "pass"))?;
    prober.expect("filed.example", Expected::Reached);
    thread::sleep(Duration::from_secs(1));
    let status = filter.cordon(&["status"])?;
    ensure!(status.code() == 1, "{status}");
    Ok(())
}

/// What the kernel does with a name, by its tables. The book may know of an order before they do.
fn is_judged(filter: &Filter<'_>, name: &str, expected: &str) -> Result<()> {
    let verdict = filter.kernel_verdict(name)?;
    ensure!(verdict == expected, "{name}: {verdict}, not {expected}");
    Ok(())
}

fn listed(id: &str) -> Value {
    order(id, &[&format!("{id}.example")], &[("dns", "nxdomain")])
}

fn numbered(id: &str, seq: u64) -> String {
    let mut line = listed(id);
    line["seq"] = seq.into();
    format!("{line}\n")
}

fn revoke_fed() -> String {
    format!("{}\n", json!({"op": "revoke", "order": "fed", "why": "appeal", "seq": 2}))
}

fn prober(lab: &Lab, stopped: &[&str]) -> Result<Prober> {
    let names = stopped.iter().map(|id| (format!("{id}.example"), Expected::Stopped));
    lab.prober(names.chain([("other.example".to_owned(), Expected::Reached)]))
}

fn feed(filter: &Filter<'_>, name: &str) -> Result<Value> {
    let feeds = filter.cordon(&["feed", "status", "--output", "json"])?;
    let feeds: Value = serde_json::from_str(&feeds.stdout).with_context(|| feeds.to_string())?;
    let found = feeds.as_array().into_iter().flatten().find(|feed| feed["name"] == name);
    found.cloned().with_context(|| format!("no feed {name}: {feeds}"))
}

fn wait_until(time: Timestamp) {
    thread::sleep(Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default());
}
