//! The daemon under control: orders by the command line, the configuration read again, counters and events.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{ACCESS_INTERFACE, Family, Filter, Host, Lab, address, eventually, order};
use serde_json::{Value, json};

use super::support::assert_reached_by;

/// Longest that a change may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_order_comes_and_goes_by_the_command_line() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[])?;
    let add = "order add --id added --issuer Court --basis Law --issued 2025-03-28 --not-after none \
               --action dns=drop,tls=reset --scope fr --match subtree added.example";
    let added = filter.json(&add.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>())?;
    assert_eq!(added["outcomes"], json!([{"line": 1, "order": "added", "what": "new"}]));
    assert_dropped(&lab, address::CLIENT, "www.added.example")?;
    assert_reached_by(&lab, address::OTHER_CLIENT, "www.added.example")?;

    // It is in the book: a daemon that was killed knows it.
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    assert_dropped(&lab, address::CLIENT, "www.added.example")?;
    let shown = filter.json(&["order", "show", "added"])?;
    assert_eq!((&shown["state"], &shown["source"]), (&"in_force".into(), &"cli".into()));
    let listed = filter.json(&["order", "list"])?;
    assert_eq!((&listed[0]["id"], &listed[0]["names"]), (&"added".into(), &1.into()));

    // Another one of this id takes its place only where that is said.
    let other = add.replace("dns=drop", "dns=nxdomain");
    let other: Vec<_> = other.split(' ').filter(|word| !word.is_empty()).collect();
    let refused = filter.cordon(&other)?;
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("another order added is there"), "{refused}");
    let replaced = filter.json(&[&other[..], &["--replace"]].concat())?;
    assert_eq!(replaced["outcomes"][0]["what"], "changed");
    filter.json(&[&add.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>()[..], &["--replace"]].concat())?;

    let exported = filter.cordon(&["order", "export"])?;
    let revoked = filter.json(&["order", "revoke", "added", "--why", "settled"])?;
    assert_eq!(revoked["outcomes"][0]["what"], "revoked");
    assert_reached_by(&lab, address::CLIENT, "www.added.example")?;
    assert_eq!(filter.json(&["order", "list"])?, json!([]));
    let shown = filter.json(&["order", "show", "added"])?;
    let history = shown["history"].as_array().context("history")?;
    let revoke = &history.iter().find(|entry| entry["op"] == "revoke").context("no revoke")?["detail"];
    assert_eq!((&revoke["why"], &revoke["user"], &revoke["uid"]), (&json!("settled"), &json!("root"), &json!(0)));

    // What was exported can be imported again.
    let file = lab.folder().join("exported.jsonl");
    std::fs::write(&file, exported.stdout)?;
    filter.json(&["order", "import", file.to_str().context("the temporary folder's name is not UTF-8")?])?;
    assert_dropped(&lab, address::CLIENT, "www.added.example")?;

    // Mistakes are told, and change nothing.
    let wrong = filter.cordon(&["order", "revoke", "no-such-order", "--why", "x"])?;
    assert_eq!(wrong.code(), 1, "{wrong}");
    file_with(&file, r#"{"op":"add","order":"added","names":["co.uk"],"x":1}"#)?;
    let wrong = filter.cordon(&["order", "import", file.to_str().unwrap_or_default()])?;
    assert_eq!(wrong.code(), 1, "{wrong}");
    assert!(wrong.stdout.contains("unknown field `x`"), "{wrong}");
    Ok(())
}

#[test]
fn o5_an_order_ends_while_the_book_cannot_be_written() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[])?;
    filter.json(&[
        "order",
        "add",
        "--id",
        "ending",
        "--issuer",
        "Court",
        "--basis",
        "Law",
        "--issued",
        "2025-03-28",
        "--not-after",
        "none",
        "--action",
        "dns=drop",
        "--scope",
        "all",
        "--match",
        "subtree",
        "ending.example",
    ])?;
    assert_dropped(&lab, address::CLIENT, "ending.example")?;

    let mut book = rusqlite::Connection::open(filter.state().join("book.sqlite"))?;
    let lock = book.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    thread::scope(|scope| -> Result<()> {
        let begun = Instant::now();
        let revoked = scope.spawn(|| filter.cordon(&["order", "revoke", "ending", "--why", "settled"]));
        // A query before it has arrived would wait for its answer as long as the daemon waits for the book.
        thread::sleep(Duration::from_secs(1));
        eventually(PATIENCE, || assert_reached_by(&lab, address::CLIENT, "ending.example"))?;
        ensure!(!revoked.is_finished(), "the book was not locked: the order ended after {:?}", begun.elapsed());
        let revoked = revoked.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        assert_eq!(revoked.code(), 1, "{revoked}");
        assert!(revoked.stdout.contains("ended: ending; but nothing could be written"), "{revoked}");
        Ok(())
    })?;
    assert_reached_by(&lab, address::CLIENT, "ending.example")?;

    // As soon as it can be written, it is.
    lock.rollback()?;
    revoked(&filter, "ending")?;
    assert_reached_by(&lab, address::CLIENT, "ending.example")
}

#[test]
fn o5_a_files_order_ends_while_the_book_cannot_be_written() -> Result<()> {
    let lab = Lab::new()?;
    let staying = order("staying", &["staying.example"], &[("dns", "drop")]);
    let ending = order("ending", &["ending.example"], &[("dns", "drop")]);
    let filter = Filter::start(&lab, &[staying.clone(), ending])?;
    assert_dropped(&lab, address::CLIENT, "ending.example")?;

    let mut book = rusqlite::Connection::open(filter.state().join("book.sqlite"))?;
    let lock = book.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let new = order("new", &["new.example"], &[("dns", "drop")]);
    filter.write_orders("orders.jsonl", &[staying, new])?;
    eventually(PATIENCE, || assert_reached_by(&lab, address::CLIENT, "ending.example"))?;
    // What is not in the book is not enforced.
    assert_reached_by(&lab, address::CLIENT, "new.example")?;
    assert_dropped(&lab, address::CLIENT, "staying.example")?;

    lock.rollback()?;
    eventually(PATIENCE, || assert_dropped(&lab, address::CLIENT, "new.example"))?;
    assert_reached_by(&lab, address::CLIENT, "ending.example")?;
    // The book has it from the second look at the file on.
    revoked(&filter, "ending")?;
    assert_reached_by(&lab, address::CLIENT, "ending.example")
}

/// Waits until the book has an order as revoked.
fn revoked(filter: &Filter<'_>, order: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let shown = filter.json(&["order", "show", order])?;
        ensure!(shown["state"] == "revoked", "{shown}");
        Ok(())
    })
}

#[test]
fn the_off_switch_works_past_a_daemon_that_hangs() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[order("hung", &["hung.example"], &[("dns", "drop")])])?;
    assert_dropped(&lab, address::CLIENT, "hung.example")?;
    filter.signal(libc::SIGSTOP)?;
    let begun = Instant::now();
    let status = filter.cordon(&["status"])?;
    assert_eq!(status.code(), 1, "{status}");
    assert!(status.stdout.contains("does not answer"), "{status}");
    let detached = filter.cordon(&["detach", ACCESS_INTERFACE])?;
    ensure!(detached.success() && begun.elapsed() < Duration::from_secs(8), "{:?}: {detached}", begun.elapsed());
    assert!(detached.stderr.contains("does not answer; detaching past it"), "{detached}");
    assert_reached_by(&lab, address::CLIENT, "hung.example")?;

    // The daemon looks after its interfaces every five seconds; this one it leaves alone.
    filter.signal(libc::SIGCONT)?;
    thread::sleep(Duration::from_secs(7));
    assert_reached_by(&lab, address::CLIENT, "hung.example")?;
    let attached = filter.cordon(&["attach", ACCESS_INTERFACE])?;
    assert!(attached.success(), "{attached}");
    assert_dropped(&lab, address::CLIENT, "hung.example")
}

#[test]
fn status_tells_what_is_wrong() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[order("kept", &["kept.example"], &[("dns", "drop")])])?;
    let well = filter.cordon(&["status"])?;
    assert_eq!(well.code(), 0, "{well}");

    let file = filter.orders_file().with_file_name("broken.jsonl");
    file_with(&file, "no JSON")?;
    eventually(PATIENCE, || {
        let status = filter.cordon(&["status"])?;
        ensure!(status.code() == 1 && status.stdout.contains("broken.jsonl:1: "), "{status}");
        Ok(())
    })?;
    std::fs::remove_file(&file)?;
    eventually(PATIENCE, || {
        let status = filter.cordon(&["status"])?;
        ensure!(status.code() == 0, "{status}");
        Ok(())
    })?;
    std::fs::remove_dir_all(filter.orders_file().parent().context("no folder")?)?;
    let status = filter.cordon(&["status"])?;
    assert_eq!(status.code(), 1, "{status}");
    assert!(status.stdout.contains("problem: feed orders: "), "{status}");
    Ok(())
}

#[test]
fn there_is_one_daemon() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[])?;
    let second = filter.cordon(&["run"])?;
    assert_eq!(second.code(), 1, "{second}");
    assert!(second.stderr.contains("another daemon runs: it holds the lock on"), "{second}");
    // Another socket and another book do not make it another filter.
    let configuration = std::fs::read_to_string(lab.folder().join("cordon.toml"))?;
    let other = configuration.replace("/cordon.sock\"", "/other.sock\"").replace("/state\"", "/other\"");
    let file = lab.folder().join("other.toml");
    std::fs::write(&file, other)?;
    let second = filter.cordon(&["run", "--config", file.to_str().unwrap_or_default()])?;
    assert_eq!(second.code(), 1, "{second}");
    assert!(second.stderr.contains("bpf/cordon"), "{second}");
    Ok(())
}

#[test]
fn a_configuration_is_read_again() -> Result<()> {
    let lab = Lab::new()?;
    let mut bound = order("bound", &["bound.example"], &[("dns", "drop")]);
    bound["order"]["scopes"] = json!(["fr"]);
    let filter = Filter::start(&lab, &[bound])?;
    assert_dropped(&lab, address::CLIENT, "a.bound.example")?;

    filter.reconfigure("[allow]\nsubtree = [\"a.bound.example\"]\n")?;
    eventually(PATIENCE, || assert_reached_by(&lab, address::CLIENT, "a.bound.example"))?;
    assert_dropped(&lab, address::CLIENT, "b.bound.example")?;
    let decision = filter.explain("x.a.bound.example", address::CLIENT[0], "dns")?;
    assert_eq!(decision["reason"], "allowed");

    // A mistake leaves all as it was, and is told with its line.
    filter.reconfigure("[no.such]\nsection = 1\n")?;
    eventually(PATIENCE, || {
        ensure!(filter.log().contains("unknown field `no`"), "{}", filter.log());
        Ok(())
    })?;
    assert_dropped(&lab, address::CLIENT, "b.bound.example")?;
    assert_reached_by(&lab, address::CLIENT, "a.bound.example")
}

#[test]
fn a_scope_that_an_order_names_stays() -> Result<()> {
    let lab = Lab::new()?;
    let mut bound = order("bound", &["bound.example"], &[("dns", "drop")]);
    bound["order"]["scopes"] = json!(["fr"]);
    let mut filter = Filter::start(&lab, &[bound])?;
    assert_dropped(&lab, address::CLIENT, "bound.example")?;

    // A configuration that says nothing new writes nothing.
    let generation = filter.json(&["status"])?["generation"].clone();
    filter.reconfigure("[answers]\nper_second = 4321\n")?;
    eventually(PATIENCE, || {
        ensure!(filter.log().contains("the configuration was read again"), "{}", filter.log());
        Ok(())
    })?;
    assert_eq!(filter.json(&["status"])?["generation"], generation);

    // While the daemon runs, the scope cannot go.
    let file = lab.folder().join("cordon.toml");
    let renamed = std::fs::read_to_string(&file)?.replace("fr = [", "gone = [");
    std::fs::write(&file, renamed)?;
    filter.reconfigure("")?;
    let problem = "order bound: not enforced for clients of fr: no such scope is configured";
    let is_told = || {
        let status = filter.cordon(&["status", "--output", "json"])?;
        ensure!(status.stdout.contains(problem), "{status}");
        Ok(())
    };
    eventually(PATIENCE, is_told)?;
    assert_dropped(&lab, address::CLIENT, "bound.example")?;

    // A start under it binds nobody by that scope, and tells.
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    let status = filter.cordon(&["status", "--output", "json"])?;
    ensure!(status.stdout.contains(problem), "{status}");
    assert!(filter.log().contains(problem), "{}", filter.log());
    assert_reached_by(&lab, address::CLIENT, "bound.example")
}

#[test]
fn counters_and_events_tell_what_was_stopped() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[order("counted", &["counted.example"], &[("dns", "drop")])])?;
    assert_dropped(&lab, address::CLIENT, "WWW.counted.example")?;
    let events = eventually(PATIENCE, || {
        let events = filter.cordon(&["events", "--output", "json"])?;
        ensure!(!events.stdout.is_empty(), "no event yet");
        Ok(events)
    })?;
    let mut event: Value = serde_json::from_str(events.stdout.lines().next().context("no event")?)?;
    ensure!(event["time"].take().is_string(), "{event}");
    // The order is for all clients; this one is in a scope. No address.
    let expected = json!({
        "time": null, "name": "www.counted.example", "rule": "counted.example", "order": "counted", "protocol": "dns",
        "verdict": "drop", "reason": "dropped", "scopes": ["fr"],
    });
    assert_eq!(event, expected);

    // Hits belong to the order, whichever slot it has: they outlive a killed daemon.
    let hits = json!([{"order": "counted", "decided": 1, "concerned": 1}]);
    assert_eq!(filter.json(&["stats"])?["orders"], hits);
    filter.stop(libc::SIGKILL)?;
    let without_daemon = filter.counters()?;
    assert_eq!(without_daemon.get("dropped"), Some(&1));
    filter.run()?;
    assert_eq!(filter.json(&["stats"])?["orders"], hits);

    let socket = lab.folder().join("cordon.sock");
    let socket = socket.to_str().context("the temporary folder's name is not UTF-8")?;
    let fetched = lab.read(Host::Border, &["curl", "-s", "--unix-socket", socket, "http://cordon/v1/stats"])?;
    assert_eq!(serde_json::from_str::<Value>(&fetched)?["orders"], hits);
    Ok(())
}

fn file_with(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, format!("{text}\n")).with_context(|| file.display().to_string())
}

fn assert_dropped(lab: &Lab, client: [&'static str; 2], name: &str) -> Result<()> {
    let answer = lab.dig(Family::V4, client, name, "A", &["+tries=1", "+time=1"])?;
    ensure!(answer.status.is_none(), "{name}: {answer}");
    Ok(())
}
