//! A response policy zone in a file, to real clients.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cordon_tests::lab::{Family, Filter, Lab, address, eventually};
use serde_json::Value;

/// Longest that a change may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(60);

const ORDER: &str = r#"
[feed.order]
id = "police"
issuer = "Police"
basis = "Law"
reference = "P 1"
issued = "2025-03-28"
not_before = "2025-03-28T00:00:00Z"
not_after = "none"
protocols = ["dns", "tls"]
actions = { tls = "reset" }
scopes = ["all"]
"#;

fn feed(lab: &Lab) -> String {
    let path = lab.folder().join("rpz.zone");
    format!(
        "\n[[feed]]\nname = \"zone\"\nkind = \"rpz\"\nzone = \"rpz.example\"\npath = \"{}\"\n{ORDER}",
        path.display()
    )
}

/// Puts a zone in the place of the last, as one file.
fn write(lab: &Lab, serial: u32, rows: &[&str]) -> Result<()> {
    let text = format!("$TTL 60\n@ SOA ns. host. {serial} 60 60 60 60\n@ NS ns.\n{}\n", rows.join("\n"));
    let draft = lab.folder().join("rpz.draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, lab.folder().join("rpz.zone"))?)
}

/// How a query for A records ends: its status, or the address that is answered.
fn asked(lab: &Lab, name: &str) -> Result<String> {
    let options = ["+tries=1", "+time=1"];
    let Ok(answer) = lab.dig(Family::V4, address::CLIENT, name, "A", &options) else { return Ok("none".to_owned()) };
    let address = (!answer.answer.is_empty()).then(|| answer.answer.join(" "));
    Ok(address.or(answer.status).unwrap_or_else(|| "none".to_owned()))
}

fn all(lab: &Lab, expected: &[(&str, &str)]) -> Result<()> {
    for (name, outcome) in expected {
        let found = asked(lab, name)?;
        ensure!(found == *outcome, "{name}: {found}, not {outcome}");
    }
    Ok(())
}

fn refusals(filter: &Filter<'_>) -> Result<Vec<(u64, String, String)>> {
    let status = filter.cordon(&["feed", "status", "zone", "--output", "json"])?;
    let feeds: Value = serde_json::from_str(&status.stdout)?;
    let refusals = feeds[0]["refusals"].as_array().context("refusals")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(refusals
        .iter()
        .map(|refusal| (refusal["line"].as_u64().unwrap_or(0), text(&refusal["text"]), text(&refusal["why"])))
        .collect())
}

#[test]
fn a_zone_file_is_enforced_and_its_changes_are() -> Result<()> {
    let lab = Lab::new()?;
    let passes = address::WEB[0];
    write(
        &lab,
        5,
        &[
            "www.nx.example CNAME .",
            "nx.example CNAME .",
            "*.nx.example CNAME .",
            "ok.nx.example CNAME rpz-passthru.",
            "empty.example CNAME *.",
            "*.gone.example CNAME rpz-drop.",
            "a.b.gone.example CNAME rpz-passthru.",
            "page.example A 203.0.113.80",
        ],
    )?;
    let mut filter = Filter::start_with(&lab, &[], &feed(&lab))?;
    let first = [
        ("sub.nx.example", "NXDOMAIN"),
        ("ok.nx.example", passes),
        ("empty.example", "NOERROR"),
        ("x.gone.example", "none"),
        ("gone.example", passes),
        ("b.gone.example", passes),
        ("c.b.gone.example", passes),
        ("page.example", "203.0.113.80"),
        ("x.page.example", passes),
        ("other.example", passes),
    ];
    eventually(PATIENCE, || all(&lab, &first)).with_context(|| filter.log())?;
    ensure!(refusals(&filter)?.is_empty(), "{:?}", refusals(&filter)?);
    let status = filter.cordon(&["feed", "status", "zone"])?;
    ensure!(status.success(), "{status}");

    // TLS has the order's action, whatever the zone does with DNS.
    for (name, is_reset) in [("x.gone.example", true), ("page.example", true), ("ok.nx.example", false)] {
        let handshake = lab.handshake(Family::V4, name)?;
        ensure!(handshake.reset == is_reset, "{name}: {}", handshake.finished);
    }

    // By a rename: one changes its action, one goes, one comes, and what Cordon does not have is told by its line.
    write(
        &lab,
        6,
        &[
            "nx.example CNAME rpz-drop.",
            "*.nx.example CNAME rpz-drop.",
            "garden.nx.example CNAME garden.example.",
            "32.1.0.0.127.rpz-ip CNAME .",
            "new.example CNAME *.",
            "page.example A 203.0.113.80",
        ],
    )?;
    let second = [
        ("sub.nx.example", "none"),
        ("garden.nx.example", passes),
        ("new.example", "NOERROR"),
        ("page.example", "203.0.113.80"),
    ];
    eventually(PATIENCE, || all(&lab, &second)).with_context(|| filter.log())?;
    all(&lab, &[("empty.example", passes), ("x.gone.example", passes)])?;
    let told = refusals(&filter)?;
    let told: Vec<_> = told.iter().map(|(line, text, why)| (*line, text.as_str(), why.as_str())).collect();
    assert_eq!(
        told,
        [
            (0, "", "records that Cordon does not enforce: 1 CNAME to another name, 1 rpz-ip"),
            (
                6,
                "garden.nx.example.rpz.example",
                "CNAME to garden.example., another name, which Cordon does not answer with"
            ),
            (
                7,
                "32.1.0.0.127.rpz-ip.rpz.example",
                "a trigger of another kind than the query's name, rpz-ip, which Cordon does not have"
            ),
        ]
    );

    // An older one, and one that is none, change nothing.
    write(&lab, 4, &["other.example CNAME ."])?;
    eventually(PATIENCE, || {
        let told = refusals(&filter)?;
        ensure!(told.len() == 1 && told[0].2.starts_with("its serial 4 is older (RFC 1982) than 6"), "{told:?}");
        Ok(())
    })?;
    all(&lab, &second)?;
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    all(&lab, &second)?;
    ensure!(refusals(&filter)?.len() == 1, "{:?}", refusals(&filter)?);
    let synced = filter.cordon(&["feed", "sync", "zone"])?;
    eventually(PATIENCE, || all(&lab, &[("other.example", "NOERROR")])).with_context(|| synced.to_string())?;

    // The order is shown, explained and ended as a whole.
    write(&lab, 7, &["a.example CNAME .", "*.a.example CNAME .", "b.example CNAME *."])?;
    eventually(PATIENCE, || all(&lab, &[("a.example", "NXDOMAIN"), ("b.example", "NOERROR")]))?;
    let shown = filter.json(&["order", "show", "police"])?;
    let parts: Vec<_> = shown["parts"].as_array().context("parts")?.iter().filter(|part| part["names"] != 0).collect();
    ensure!(parts.len() == 2 && parts[0]["id"] == "police#nodata-exact" && parts[0]["names"] == 1, "{shown:#}");
    ensure!(parts[1]["id"] == "police#nxdomain-subtree" && shown["order"]["id"] == "police", "{shown:#}");
    let listed = filter.json(&["order", "list"])?;
    let ids: Vec<&str> = listed.as_array().context("orders")?.iter().filter_map(|order| order["id"].as_str()).collect();
    assert_eq!(ids, ["police#nodata-exact", "police#nxdomain-subtree"]);
    let explained = filter.json(&["explain", "x.a.example"])?;
    ensure!(explained["agree"] == true, "{explained:#}");
    ensure!(explained["protocols"][0]["kernel"]["order"] == "police#nxdomain-subtree", "{explained:#}");
    let revoked = filter.cordon(&["order", "revoke", "police", "--why", "appeal"])?;
    ensure!(revoked.success() && revoked.stdout.contains("police#nxdomain-subtree: revoked"), "{revoked}");
    all(&lab, &[("a.example", passes), ("b.example", passes)])
}
