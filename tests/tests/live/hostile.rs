//! A feed server that is ill: the last good state stays, the feed's state says what is wrong, and the daemon serves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cordon_tests::lab::{Expected, Filter, Host, Lab, Reply, eventually, order};
use serde_json::Value;

/// Longest that a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn f4_whatever_a_feed_server_does_the_last_good_state_stays() -> Result<()> {
    let lab = Lab::new()?;
    let good = format!("{}\n", listed("fed"));
    let server = lab.feed_server(Reply::Content(good.clone()))?;
    let feed_table = format!(
        "\n[[feed]]\nname = \"fed\"\nkind = \"native\"\nurl = \"{}\"\nhttp = {{ interval = \"1s\", stall_timeout = \"1s\" }}\n",
        server.url()
    );
    let filter = Filter::start_with(&lab, &[listed("kept")], &feed_table)?;
    is_in_force(&filter, "fed")?;
    let mut prober = lab.prober([
        ("kept.example".to_owned(), Expected::Stopped),
        ("fed.example".to_owned(), Expected::Stopped),
        ("other.example".to_owned(), Expected::Reached),
        ("bad.example".to_owned(), Expected::Reached),
    ])?;
    let half = format!("{}\n", listed("bad"));
    for (number, (ill, why)) in [
        (Reply::Stall, "nothing came from the server for 1 s"),
        (Reply::Truncate(half), "the answer is not whole"),
        (Reply::Redirect, "more than 5 redirects"),
        (Reply::Huge, "over the limit of 268435456"),
        (Reply::Endless, "the answer is longer than 268435456 octets"),
    ]
    .into_iter()
    .enumerate()
    {
        server.answer(ill.clone());
        is_told(&filter, why).with_context(|| format!("{ill:?}"))?;
        // It serves meanwhile.
        let id = format!("meanwhile-{number}");
        let submitted = filter.submit(&[listed(&id)])?;
        ensure!(submitted.problems.is_empty() && submitted.outcomes.len() == 1, "{submitted:?}");
        prober.expect(&format!("{id}.example"), Expected::Stopped);
        ensure!(filter.cordon(&["status"])?.code() == 1, "the exit code says nothing");
        prober.is_well()?;
    }
    // Well again, with another state.
    server.answer(Reply::Content(format!("{good}{}\n", listed("more"))));
    is_in_force(&filter, "more")?;
    prober.expect("more.example", Expected::Stopped);
    let tally = prober.finish()?;
    ensure!(tally.stopped > 0 && tally.reached > 0, "{tally:?}");
    Ok(())
}

#[test]
fn f4_a_server_with_a_wrong_certificate_is_not_believed() -> Result<()> {
    let lab = Lab::new()?;
    lab.read(Host::Border, &["ip", "link", "set", "lo", "up"])?;
    let site = lab.folder().join("site");
    std::fs::create_dir(&site)?;
    std::fs::write(site.join("orders.jsonl"), format!("{}\n", listed("bad")))?;
    let at = |name: &str| lab.folder().join(name).display().to_string();
    for name in ["right", "wrong"] {
        let (key, certificate) = (at(&format!("{name}.key")), at(&format!("{name}.pem")));
        let words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.extend(["-keyout", &key, "-out", &certificate]);
        lab.read(Host::Border, &words)?;
    }
    // Files of its folder, by the certificate that nobody trusts.
    let script = format!(
        "cd {} && exec openssl s_server -accept 127.0.0.1:8443 -cert {} -key {} -WWW",
        site.display(),
        at("wrong.pem"),
        at("wrong.key")
    );
    let _server = lab.spawn(Host::Border, &["sh", "-c", &script])?;
    let feed_table = format!(
        "\n[[feed]]\nname = \"fed\"\nkind = \"native\"\nurl = \"https://localhost:8443/orders.jsonl\"\n\
         http = {{ interval = \"1s\", ca = \"{}\" }}\n",
        at("right.pem")
    );
    let filter = Filter::start_with(&lab, &[listed("kept")], &feed_table)?;
    let mut prober =
        lab.prober([("kept.example".to_owned(), Expected::Stopped), ("bad.example".to_owned(), Expected::Reached)])?;
    is_told(&filter, "certificate")?;
    prober.is_well()?;
    let tally = prober.finish()?;
    ensure!(tally.stopped > 0 && tally.reached > 0, "{tally:?}");
    Ok(())
}

fn listed(id: &str) -> Value {
    order(id, &[&format!("{id}.example")], &[("dns", "nxdomain")])
}

fn is_in_force(filter: &Filter<'_>, id: &str) -> Result<()> {
    // The book may know of it before the kernel does.
    eventually(PATIENCE, || {
        let verdict = filter.kernel_verdict(&format!("{id}.example"))?;
        ensure!(verdict == "nxdomain", "{id}.example: {verdict}");
        Ok(())
    })
    .with_context(|| filter.log())
}

/// `cordon feed status` says what is wrong, and since when.
fn is_told(filter: &Filter<'_>, why: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let shown = filter.cordon(&["feed", "status", "--output", "json"])?;
        ensure!(shown.code() == 1, "{shown}");
        let feeds: Value = serde_json::from_str(&shown.stdout).with_context(|| shown.to_string())?;
        let fed = feeds.as_array().into_iter().flatten().find(|feed| feed["name"] == "fed").context("no feed")?;
        let problem = fed["problem"].as_str().unwrap_or_default();
        ensure!(problem.contains(why) && fed["fetch"]["stale_since"].is_string(), "{fed}");
        Ok(())
    })
}
