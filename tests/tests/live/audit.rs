//! The history of what a daemon did, and its proof.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{ACCESS_INTERFACE, Family, Filter, Lab, address, eventually, order};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_was_done_is_in_the_history_and_can_be_proven() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[])?;
    filter.write_orders("first.jsonl", &[order("first", &["first.example"], &[("dns", "nxdomain")])])?;
    let of_first = eventually(PATIENCE, || {
        let entries = of_order(&filter, "first")?;
        ensure!(entries.len() == 2, "{entries:?}");
        Ok(entries)
    })?;
    let [put, enforce] = &of_first[..] else { unreachable!("there are two") };
    assert_eq!(
        (&put["op"], &enforce["op"], &enforce["detail"]["names"]),
        (&json!("put"), &json!("enforce"), &json!(1))
    );
    let generation = filter.json(&["status"])?["generation"].as_u64().context("generation")?;
    assert_eq!(enforce["detail"]["generation"], generation);
    let times = [&put["time"], &enforce["detail"]["at"]].map(|time| time.as_str()?.parse::<jiff::Timestamp>().ok());
    assert!(times[0].is_some() && times[0] <= times[1], "{times:?}");

    // Who ends an order, and who takes the filter off and puts it on, is the user at the socket.
    filter.json(&["order", "revoke", "first", "--why", "settled"])?;
    filter.json(&["detach", ACCESS_INTERFACE])?;
    filter.json(&["attach", ACCESS_INTERFACE])?;
    let entries = eventually(PATIENCE, || {
        let entries = entries(&filter)?;
        ensure!(entries.iter().filter(|entry| entry["op"] == "attach").count() == 2, "{entries:?}");
        Ok(entries)
    })?;
    let ops: Vec<&str> = entries.iter().filter_map(|entry| entry["op"].as_str()).collect();
    assert_eq!(ops[0], "start", "{ops:?}");
    for (op, source) in [("revoke", "cli"), ("detach", "cli"), ("attach", "cli")] {
        let found = entries.iter().rfind(|entry| entry["op"] == op).with_context(|| format!("no {op} in {ops:?}"))?;
        let by = (&found["source"], &found["detail"]["user"], &found["detail"]["uid"]);
        assert_eq!(by, (&json!(source), &json!("root"), &json!(0)), "{found}");
    }
    let lift = entries.iter().find(|entry| entry["op"] == "lift").with_context(|| format!("{ops:?}"))?;
    assert_eq!(lift["order"], "first");
    assert!(lift["detail"]["generation"].as_u64() > Some(generation), "{lift}");

    // A killed daemon, none at all, and the next one: the history is whole, and the head that the log had is in it.
    let head = filter.cordon(&["audit", "head"])?.stdout.trim().to_owned();
    let log = filter.log();
    let told = log.lines().find(|line| line.contains("audit head ")).context("no head in the log")?.to_owned();
    let journal = lab.folder().join("journal");
    fs::write(&journal, format!("{told}\n"))?;
    let journal = journal.to_str().context("the temporary folder's name is not UTF-8")?.to_owned();
    let is_proven = |filter: &Filter<'_>| -> Result<u64> {
        let verified = filter.json(&["audit", "verify", "--head", &head, "--head", &journal])?;
        assert_eq!((&verified["problems"], &verified["chained_from"]), (&json!([]), &json!(1)), "{verified}");
        verified["entries"].as_u64().context("entries")
    };
    let running = is_proven(&filter)?;
    filter.stop(libc::SIGKILL)?;
    let killed = is_proven(&filter)?;
    assert_eq!(killed, running);

    // The off switch without a daemon is in the history, too.
    let detached = filter.cordon(&["detach", ACCESS_INTERFACE])?;
    assert!(detached.success() && detached.stderr.is_empty(), "{detached}");
    assert_eq!(is_proven(&filter)?, killed + 1);
    filter.run()?;
    eventually(PATIENCE, || {
        let now = is_proven(&filter)?;
        ensure!(now > killed + 2, "{now} entries");
        Ok(())
    })?;
    filter.stop(libc::SIGTERM)?;
    let entries = self::entries(&filter)?;
    assert_eq!(entries.last().map(|entry| &entry["op"]), Some(&json!("stop")));

    // A cut end is told by the head alone, and makes the exit code.
    let book = filter.state().join("book.sqlite");
    cut(&book, head.split(':').next().context("a head")?)?;
    let verified = filter.cordon(&["audit", "verify"])?;
    assert!(verified.code() == 0 && verified.stdout.contains("without --head, nothing is known"), "{verified}");
    let verified = filter.cordon(&["audit", "verify", "--head", &head])?;
    assert!(verified.code() == 1 && verified.stdout.contains("the end of the history was cut off"), "{verified}");
    Ok(())
}

#[test]
fn an_order_is_enforced_and_lifted_in_the_history_when_its_dates_come() -> Result<()> {
    let lab = Lab::new()?;
    let now = jiff::Timestamp::now();
    let after = |seconds| now + jiff::SignedDuration::from_secs(seconds);
    let dated = |id: &str, from: i64, until: i64| {
        let mut order = order(id, &[&format!("{id}.example")], &[("dns", "nxdomain")]);
        order["order"]["not_before"] = json!(after(from));
        order["order"]["not_after"] = json!(after(until));
        order
    };
    let orders = [dated("short", 15, 20), dated("later", 34, 3600), dated("never", 3600, 7200)];
    let mut filter = Filter::start(&lab, &orders)?;
    let ops = |filter: &Filter<'_>, id: &str| -> Result<Vec<String>> {
        Ok(of_order(filter, id)?.iter().filter_map(|entry| entry["op"].as_str().map(str::to_owned)).collect())
    };
    let of_short = eventually(PATIENCE, || {
        let entries = of_order(&filter, "short")?;
        ensure!(entries.iter().any(|entry| entry["op"] == "lift"), "{entries:?}");
        Ok(entries)
    })?;
    let at = |entry: &Value| entry["detail"]["at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let [put, ready, enforce, lift] = &of_short[..] else { panic!("{of_short:?}") };
    assert_eq!([put, ready, enforce, lift].map(|entry| &entry["op"]), ["put", "ready", "enforce", "lift"]);
    assert!(at(ready) < Some(after(15)), "{ready}");
    assert_eq!((at(enforce), at(lift)), (Some(after(15)), Some(after(20))));
    assert!([ready, enforce, lift].iter().all(|entry| entry["detail"]["entry"].as_i64() >= put["number"].as_i64()));
    assert_eq!((ops(&filter, "later")?, ops(&filter, "never")?), (words("put ready"), words("put ready")));

    // A daemon that is away when an order begins tells it when it is back, once.
    filter.stop(libc::SIGTERM)?;
    std::thread::sleep(Duration::try_from(after(36).duration_since(jiff::Timestamp::now())).unwrap_or_default());
    filter.run()?;
    filter.stop(libc::SIGTERM)?;
    let of_later = of_order(&filter, "later")?;
    assert_eq!((ops(&filter, "later")?, ops(&filter, "never")?), (words("put ready enforce"), words("put ready")));
    assert_eq!(of_later[2]["detail"]["found"], "at the start");
    filter.run()?;
    filter.json(&["order", "revoke", "never", "--why", "settled"])?;
    filter.stop(libc::SIGTERM)?;
    assert_eq!(ops(&filter, "short")?, words("put ready enforce lift"));
    assert_eq!(ops(&filter, "later")?, words("put ready enforce"));
    assert_eq!(ops(&filter, "never")?, words("put ready revoke lift"), "the tables hold it no more");
    let report = filter.json(&["report", "--order", "short"])?;
    let term = &report["orders"][0]["terms"][0];
    let told = ["enforced", "ended"].map(|field| term[field].as_str().and_then(|at| at.parse().ok()));
    assert_eq!((told, &term["why"]), ([Some(after(15)), Some(after(20))], &json!("its end")), "{term}");
    ensure!(term["seconds"].as_f64().is_some_and(|seconds| seconds < 15.0), "until the tables had it: {term}");
    assert_eq!(filter.json(&["audit", "verify"])?["problems"], json!([]));
    Ok(())
}

#[test]
fn that_the_filter_was_taken_off_past_cordon_is_in_the_history() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[order("first", &["first.example"], &[("dns", "nxdomain")])])?;
    let ops = |filter: &Filter<'_>| -> Result<Vec<(String, String)>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = entries(filter)?;
        let told = entries.iter().filter(|entry| entry["op"] == "attach" || entry["op"] == "detach");
        Ok(told.map(|entry| (text(&entry["op"]), text(&entry["detail"]["found"]))).collect())
    };
    let told = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        expected.iter().map(|(op, found)| ((*op).to_owned(), (*found).to_owned())).collect()
    };
    // As another program does, which removes what is pinned.
    let links = lab.bpffs().join("cordon");
    let take_off = || -> Result<()> {
        let mut taken = 0;
        for version in fs::read_dir(&links)?.flatten() {
            for link in fs::read_dir(version.path().join("links")).into_iter().flatten().flatten() {
                fs::remove_file(link.path())?;
                taken += 1;
            }
        }
        ensure!(taken == 1, "{taken} links");
        Ok(())
    };
    take_off()?;
    let expected = told(&[("attach", ""), ("detach", "on a look"), ("attach", "")]);
    eventually(PATIENCE, || {
        let ops = ops(&filter)?;
        ensure!(ops == expected, "{ops:?}");
        Ok(())
    })?;
    is_stopped(&lab, "first.example")?;
    filter.stop(libc::SIGTERM)?;
    take_off()?;
    filter.run()?;
    filter.stop(libc::SIGTERM)?;
    let expected = [expected, told(&[("detach", "at the start"), ("attach", "")])].concat();
    assert_eq!(ops(&filter)?, expected);
    // By its own command it is told once.
    filter.cordon(&["detach", ACCESS_INTERFACE])?;
    filter.run()?;
    filter.stop(libc::SIGTERM)?;
    assert_eq!(ops(&filter)?, [expected, told(&[("detach", ""), ("attach", "")])].concat());
    Ok(())
}

#[test]
fn what_a_killed_daemon_did_not_tell_the_next_one_tells() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[order("first", &["first.example"], &[("dns", "nxdomain")])])?;
    filter.stop(libc::SIGKILL)?;
    // As if it had been killed before it told that the order is enforced.
    let book = filter.state().join("book.sqlite");
    let put = of_order(&filter, "first")?[0]["number"].as_i64().context("number")?;
    cut(&book, &(put + 1).to_string())?;
    filter.run()?;
    let entries = eventually(PATIENCE, || {
        let entries = of_order(&filter, "first")?;
        ensure!(entries.len() == 2, "{entries:?}");
        Ok(entries)
    })?;
    assert_eq!((&entries[1]["op"], &entries[1]["detail"]["found"]), (&json!("enforce"), &json!("at the start")));
    is_stopped(&lab, "first.example")?;
    // What is told once is not told again.
    filter.stop(libc::SIGTERM)?;
    filter.run()?;
    filter.stop(libc::SIGTERM)?;
    assert_eq!(of_order(&filter, "first")?.len(), 2);
    assert_eq!(filter.json(&["audit", "verify"])?["problems"], json!([]));
    Ok(())
}

#[test]
fn a_report_tells_when_an_order_was_received_enforced_and_ended_and_what_it_met() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[order("kept", &["kept.example"], &[("dns", "nxdomain")])])?;
    let ask = |times: u32| (0..times).try_for_each(|_| is_stopped(&lab, "kept.example"));
    ask(3)?;
    filter.write_orders("more.jsonl", &[order("gone", &["gone.example"], &[("dns", "nxdomain")])])?;
    eventually(PATIENCE, || is_stopped(&lab, "gone.example"))?;
    filter.json(&["order", "revoke", "gone", "--why", "settled"])?;
    // Hits outlive a daemon that is stopped, one that is killed, and what the kernel counts meanwhile.
    filter.stop(libc::SIGTERM)?;
    ask(2)?;
    filter.run()?;
    ask(1)?;
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    filter.stop(libc::SIGTERM)?;

    let report = filter.json(&["report"])?;
    let orders = report["orders"].as_array().context("orders")?;
    let ids: Vec<&str> = orders.iter().filter_map(|order| order["id"].as_str()).collect();
    assert_eq!(ids, ["gone", "kept"]);
    let [gone, kept] = &orders[..] else { unreachable!("there are two") };
    assert_eq!((&gone["state"], &kept["state"]), (&json!("revoked"), &json!("in_force")));
    assert_eq!(kept["hits"], json!({"decided": 6, "concerned": 6}), "{report}");
    assert_eq!((&kept["issuer"], &kept["names"]), (&json!("Court of the lab"), &json!(["kept.example"])));
    for order in [gone, kept] {
        let term = &order["terms"][0];
        assert!(term["received"].is_string() && term["enforced"].is_string(), "{term}");
        ensure!(term["seconds"].as_f64().is_some_and(|seconds| (0.0..30.0).contains(&seconds)), "{term}");
        assert_eq!(term["at_the_latest"], false, "{term}");
    }
    assert_eq!(gone["terms"][0]["why"], "revoked, by root: settled");
    assert_eq!((&report["audit_problems"], &report["orders"][1]["terms"][0]["ended"]), (&json!([]), &Value::Null));

    // The head in a kept report proves the history up to it.
    let kept = lab.folder().join("report.json");
    fs::write(&kept, report.to_string())?;
    let kept = kept.to_str().context("the temporary folder's name is not UTF-8")?;
    let verified = filter.cordon(&["audit", "verify", "--head", kept])?;
    assert!(verified.success() && verified.stdout.contains("the noted head is there"), "{verified}");

    let one = filter.cordon(&["report", "--order", "gone", "--output", "csv"])?;
    assert!(one.success() && one.stdout.lines().count() == 2, "{one}");
    assert!(one.stdout.lines().nth(1).is_some_and(|line| line.starts_with("gone,Court of the lab,")), "{one}");
    let none = filter.cordon(&["report", "--order", "never"])?;
    assert!(none.code() == 1 && none.stderr.contains("the history has no order never"), "{none}");
    let past = filter.json(&["report", "--period", "2025"])?;
    assert_eq!(past["orders"], json!([]));
    let wrong = filter.cordon(&["audit", "head", "--output", "csv"])?;
    assert!(wrong.code() == 1 && wrong.stderr.contains("--output csv is for `cordon report` alone"), "{wrong}");
    Ok(())
}

#[test]
fn orders_that_end_soon_are_listed() -> Result<()> {
    let lab = Lab::new()?;
    let mut endless = order("endless", &["endless.example"], &[("dns", "nxdomain")]);
    endless["order"]["not_after"] = "none".into();
    let filter = Filter::start(&lab, &[order("soon", &["soon.example"], &[("dns", "nxdomain")]), endless])?;
    let ids = |words: &[&str]| -> Result<Vec<String>> {
        let listed = filter.json(words)?;
        let ids = listed.as_array().context("orders")?.iter().filter_map(|order| order["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    };
    assert_eq!(ids(&["order", "list"])?, ["endless", "soon"]);
    assert_eq!(ids(&["order", "list", "--ending", "24h"])?, ["soon"]);
    assert_eq!(ids(&["order", "list", "--ending", "7d"])?, ["soon"]);
    assert_eq!(ids(&["order", "list", "--ending", "10m"])?, [""; 0]);
    let wrong = filter.cordon(&["order", "list", "--ending", "soon"])?;
    assert!(wrong.code() == 2 && wrong.stderr.contains("a time is 30m, 24h, 7d or 2w, for example"), "{wrong}");
    Ok(())
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn is_stopped(lab: &Lab, name: &str) -> Result<()> {
    let answer = lab.dig(Family::V4, address::CLIENT, name, "A", &["+tries=1", "+time=5"])?;
    ensure!(answer.status.as_deref() == Some("NXDOMAIN"), "{name}: {answer}");
    Ok(())
}

/// Takes the entries from this number on away, as whoever can write the file can.
fn cut(book: &Path, from: &str) -> Result<()> {
    let book = rusqlite::Connection::open(book)?;
    book.execute_batch(&format!("DROP TRIGGER events_stay; DELETE FROM events WHERE number >= {from}"))?;
    Ok(())
}

fn of_order(filter: &Filter<'_>, id: &str) -> Result<Vec<Value>> {
    let mut entries = entries(filter)?;
    entries.retain(|entry| entry["order"] == id);
    Ok(entries)
}

fn entries(filter: &Filter<'_>) -> Result<Vec<Value>> {
    let exported = filter.cordon(&["audit", "export"])?;
    ensure!(exported.success(), "{exported}");
    exported.stdout.lines().map(|line| serde_json::from_str(line).context("a line of the history")).collect()
}
