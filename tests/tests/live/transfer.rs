//! Zones that are transferred, from a real primary to a real client: what changes there is stopped here.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::{
    lab::{Family, Filter, Host, Lab, address, eventually},
    primary::{Kind, SECRET, Server, Setup, Soa, ZONE},
};
use serde_json::Value;

mod fleet;

/// Longest that a change may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the primaries are, on the host of the servers.
const PRIMARY: &str = "198.51.100.53:5300";

/// Where the daemon receives NOTIFYs, on the border host.
const NOTIFY: &str = "198.51.100.1:5300";

const ORDER: &str = r#"
[feed.order]
id = "rpz"
issuer = "Regulator"
basis = "Law"
reference = "Z 1"
issued = "2025-03-28"
not_before = "2025-03-28T00:00:00Z"
not_after = "none"
protocols = ["dns"]
actions = {}
scopes = ["all"]
"#;

fn setup() -> Result<Setup> {
    Ok(Setup { notify: NOTIFY.parse()?, ..Setup::default() })
}

fn primary<'a>(lab: &'a Lab, kind: Kind, setup: &Setup) -> Result<Server<'a>> {
    let address: SocketAddr = PRIMARY.parse()?;
    Server::start_in(lab, Host::Server, address, kind, setup)
}

/// The daemon's configuration of the zone; `further` stands in the feed.
fn feed(lab: &Lab, further: &str) -> Result<String> {
    let secret = lab.folder().join("secret");
    fs::write(&secret, SECRET)?;
    let secret = secret.display();
    Ok(format!(
        "\n[[tsig]]\nname = \"cordon\"\nalgorithm = \"hmac-sha256\"\nsecret_file = \"{secret}\"\n\
         [notify]\nlisten = [\"{NOTIFY}\"]\n\
         [[feed]]\nname = \"zone\"\nkind = \"rpz\"\nzone = \"{ZONE}\"\n\
         primaries = [{{ address = \"{PRIMARY}\", tsig = \"cordon\" }}]\n{further}\n{ORDER}"
    ))
}

#[test]
fn what_changes_at_the_primary_is_stopped() -> Result<()> {
    for kind in [Kind::Bind, Kind::Knot] {
        let lab = Lab::new()?;
        let server = primary(&lab, kind, &setup()?)?;
        let mut filter = Filter::start_with(&lab, &[], &feed(&lab, "")?)?;
        eventually(PATIENCE, || stopped(&lab, &["bad.test", "www.bad.test"])).with_context(|| filter.log())?;
        lab.passes(&["fresh.test", "other.test"])?;
        let status = zone(&filter)?;
        ensure!(status["fetch"]["zone"]["serial"] == 1 && status["problem"].is_null(), "{status}");

        // nsupdate or knotc, then NOTIFY, then IXFR.
        change(&server, kind, "fresh.test", "*.bad.test")?;
        let serial = server.serial()?;
        eventually(PATIENCE, || {
            stopped(&lab, &["fresh.test", "bad.test"])?;
            lab.passes(&["www.bad.test", "www.fresh.test"])
        })
        .with_context(|| filter.log())?;
        let status = zone(&filter)?;
        let details = &status["fetch"]["zone"];
        ensure!(details["serial"] == serial && details["incremental"] == 1 && details["whole"] == 1, "{status}");
        ensure!(details["notifies"].as_u64() > Some(0), "{status}");
        let text = filter.cordon(&["feed", "status"])?;
        ensure!(text.success() && text.stdout.contains(&format!("serial {serial}, expires ")), "{text}");
        ensure!(text.stdout.contains(&format!("primary {PRIMARY}: has serial {serial}")), "{text}");

        // A start without the primary begins with the copy, and goes on by differences when it is back.
        filter.stop(libc::SIGKILL)?;
        change(&server, kind, "later.test", "bad.test")?;
        filter.run()?;
        eventually(PATIENCE, || {
            stopped(&lab, &["fresh.test", "later.test"])?;
            lab.passes(&["bad.test"])
        })
        .with_context(|| filter.log())?;
        let status = zone(&filter)?;
        ensure!(status["fetch"]["zone"]["whole"] == 0 && status["fetch"]["zone"]["incremental"] == 1, "{status}");
    }
    Ok(())
}

#[test]
fn a_primary_that_is_gone_changes_nothing_and_is_told() -> Result<()> {
    let lab = Lab::new()?;
    let soa = Soa { serial: 1, refresh: 1, retry: 1, expire: 1 };
    let mut server = primary(&lab, Kind::Bind, &Setup { soa, ..setup()? })?;
    let mut filter = Filter::start_with(&lab, &[], &feed(&lab, "")?)?;
    eventually(PATIENCE, || stopped(&lab, &["bad.test"])).with_context(|| filter.log())?;
    ensure!(filter.cordon(&["status"])?.success());
    server.stop()?;
    let is_stale = || {
        let status = filter.cordon(&["status"])?;
        let told = "the zone has expired; its rules stay in force";
        ensure!(status.code() == 1 && status.stdout.contains(told) && status.stdout.contains("expired "), "{status}");
        Ok(())
    };
    eventually(PATIENCE, is_stale)?;
    stopped(&lab, &["bad.test", "www.bad.test"])?;
    filter.stop(libc::SIGTERM)?;
    filter.run()?;
    stopped(&lab, &["bad.test", "www.bad.test"])?;
    server.run()?;
    eventually(PATIENCE, || {
        let status = filter.cordon(&["status"])?;
        ensure!(status.success(), "{status}");
        Ok(())
    })?;
    stopped(&lab, &["bad.test"])
}

#[test]
fn an_expired_zone_is_dropped_where_the_operator_wants_that() -> Result<()> {
    let lab = Lab::new()?;
    let soa = Soa { serial: 1, refresh: 1, retry: 1, expire: 1 };
    let mut server = primary(&lab, Kind::Knot, &Setup { soa, ..setup()? })?;
    let filter = Filter::start_with(&lab, &[], &feed(&lab, "expire = \"drop\"")?)?;
    eventually(PATIENCE, || stopped(&lab, &["bad.test"])).with_context(|| filter.log())?;
    server.stop()?;
    eventually(PATIENCE, || lab.passes(&["bad.test", "www.bad.test"])).with_context(|| filter.log())?;
    let status = filter.cordon(&["status"])?;
    ensure!(status.code() == 1 && status.stdout.contains("its rules are dropped"), "{status}");
    server.run()?;
    eventually(PATIENCE, || stopped(&lab, &["bad.test", "www.bad.test"])).with_context(|| filter.log())
}

/// 1,000 changed names: 500 come and 500 go, each with its wildcard. What is printed is the time from the arrival of the
/// difference's last message to where the kernel has all of it; with `CORDON_TEST_FULL` the zone has a million names.
#[test]
fn a_thousand_changes_of_a_large_zone_do_not_wait_for_the_rest() -> Result<()> {
    const CHANGED: u32 = 500;
    let count = cordon_tests::cases(20_000);
    let lab = Lab::new()?;
    let records: String =
        (0..count).map(|number| format!("n{number}.test CNAME .\n*.n{number}.test CNAME .\n")).collect();
    let server = primary(&lab, Kind::Bind, &setup()?.records(&records))?;
    let filter = Filter::start_with(&lab, &[], &feed(&lab, "")?)?;
    let patience = PATIENCE + Duration::from_millis(u64::from(count) / 5);
    let last = format!("www.n{}.test", count - 1);
    eventually(patience, || stopped(&lab, &["n0.test", &last])).with_context(|| filter.log())?;

    let lines: String = (0..CHANGED)
        .map(|number| {
            format!(
                "del n{number}.test.{ZONE}.\ndel *.n{number}.test.{ZONE}.\n\
                 add f{number}.test.{ZONE}. 60 CNAME .\nadd *.f{number}.test.{ZONE}. 60 CNAME .\n"
            )
        })
        .collect();
    server.update(&lines)?;
    eventually(patience, || {
        lab.passes(&["n0.test", "www.n499.test"])?;
        stopped(&lab, &["f0.test", "www.f499.test", "n500.test", &last])
    })
    .with_context(|| filter.log())?;
    let status = zone(&filter)?;
    let details = &status["fetch"]["zone"];
    ensure!((&details["whole"], &details["incremental"]) == (&1.into(), &1.into()), "{status}");
    // The history says when the last message arrived, and when the kernel had all of it.
    let (changes, enforced) = eventually(PATIENCE, || {
        let shown = filter.json(&["order", "show", "rpz#nxdomain-subtree"])?;
        let history = shown["history"].as_array().cloned().unwrap_or_default();
        let changes = history.iter().rfind(|entry| entry["op"] == "put").context("no change")?.clone();
        let of_it = |entry: &&Value| entry["op"] == "enforce" && entry["detail"]["entry"] == changes["number"];
        let enforced = history.iter().rfind(of_it).with_context(|| format!("not enforced: {history:?}"))?.clone();
        Ok((changes, enforced))
    })?;
    let names = &changes["detail"]["names"];
    let count_of = |word: &str| names[word].as_array().map_or(0, Vec::len);
    ensure!((count_of("added"), count_of("removed")) == (500, 500), "{changes}");
    let time = |entry: &Value, word: &str| -> Result<jiff::Timestamp> {
        Ok(entry["detail"][word].as_str().with_context(|| entry.to_string())?.parse()?)
    };
    let took = (time(&enforced, "at")? - time(&changes, "arrived")?).total(jiff::Unit::Millisecond)?;
    println!("1,000 changed names of {count}: in force {took:.1} ms after they arrived");
    Ok(())
}

fn change(server: &Server<'_>, kind: Kind, add: &str, remove: &str) -> Result<()> {
    match kind {
        Kind::Bind => server.update(&format!("add {add}.{ZONE}. 60 CNAME .\ndel {remove}.{ZONE}.\n")),
        Kind::Knot => {
            server.knotc(&["zone-begin", ZONE])?;
            server.knotc(&["zone-set", ZONE, add, "60", "CNAME", "."])?;
            server.knotc(&["zone-unset", ZONE, remove])?;
            server.knotc(&["zone-commit", ZONE])
        }
    }
}

fn zone(filter: &Filter<'_>) -> Result<Value> {
    let finished = filter.cordon(&["feed", "status", "--output", "json"])?;
    let feeds: Value = serde_json::from_str(&finished.stdout)?;
    let feeds = feeds.as_array().cloned().unwrap_or_default();
    feeds.into_iter().find(|feed| feed["name"] == "zone").context("no feed `zone`")
}

fn stopped(lab: &Lab, names: &[&str]) -> Result<()> {
    for name in names {
        let answer = lab.dig(Family::V4, address::CLIENT, name, "A", &[])?;
        ensure!(
            matches!(answer.status.as_deref(), Some("NXDOMAIN" | "NOERROR")) && answer.answer.is_empty(),
            "{name}: {answer}"
        );
    }
    Ok(())
}
