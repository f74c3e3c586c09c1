//! Feeds that say what nobody can mean: refused or held, with the reason, while all else is enforced.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{Filter, Lab, eventually, order};
use serde_json::{Value, json};

use super::support::{assert_reached, assert_stopped};

/// Longest that a change of an order file may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(60);

const DNS: [(&str, &str); 1] = [("dns", "nxdomain")];

#[test]
fn f1_bad_rows_are_refused_each_with_its_reason_and_the_rest_is_enforced() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[order("good", &["good.example"], &DNS)])?;
    let rows = [
        ("https://url.example/live", "is a URL"),
        ("com", "is a top-level domain"),
        ("co.uk", "is a public suffix"),
        ("*", "is a wildcard"),
        ("192.0.2.7", "is an IP address"),
        ("2001:db8::7", "is an IP address"),
        ("\"quoted.example\"", "holds the character '\"'"),
        ("nul\u{0}.example", "holds the character '\\0'"),
        ("xn--a.example", "is not a valid internationalised name (UTS 46)"),
    ];
    let mut names: Vec<&str> = rows.iter().map(|(row, _)| *row).collect();
    let long = "a".repeat(64) + ".example";
    names.extend(["row.example", &long]);
    let mixed = order("mixed", &names, &DNS);
    let last = order("last", &["last.example"], &DNS);
    // A line of 10 MB that is no JSON, one with a byte order mark, one in another code page, and lines that end in CRLF.
    let mut text = format!("{mixed}\r\n").into_bytes();
    text.extend(vec![b'x'; 10 << 20]);
    text.extend(b"\n");
    text.extend(format!("\u{feff}{}\n", order("marked", &["marked.example"], &DNS)).into_bytes());
    text.extend(b"{\"op\":\"revoke\",\"order\":\"caf\xe9\"}\n");
    text.extend(format!("{last}\r\n").into_bytes());
    write(&lab, "bad.jsonl", &text)?;

    eventually(PATIENCE, || assert_stopped(&lab, "row.example"))?;
    ["good.example", "last.example"].iter().try_for_each(|name| assert_stopped(&lab, name))?;
    ["url.example", "marked.example", "quoted.example", "other.example"]
        .iter()
        .try_for_each(|name| assert_reached(&lab, name))?;
    let status = filter.cordon(&["feed", "status", "--output", "json"])?;
    assert_eq!(status.code(), 1, "{status}");
    let feeds: Value = serde_json::from_str(&status.stdout)?;
    let refusals = feeds[0]["refusals"].as_array().context("refusals")?;
    let told = |line: u64, text: &str, why: &str| {
        let is_it = |refusal: &&Value| {
            refusal["line"] == line
                && refusal["text"].as_str().is_some_and(|told| told.starts_with(text))
                && refusal["why"].as_str().is_some_and(|told| told.contains(why))
                && refusal["file"].as_str().is_some_and(|file| file.ends_with("/bad.jsonl"))
        };
        ensure!(refusals.iter().filter(is_it).count() == 1, "line {line}, {text}, {why}: {feeds:#}");
        Ok(())
    };
    rows.iter().try_for_each(|(row, why)| told(1, &row.replace('\0', "\\0"), why))?;
    told(1, &long, "has a label of 64 octets")?;
    told(2, "xxx", "expected value")?;
    told(3, "\\u{feff}", "byte order mark")?;
    told(4, "", "not UTF-8")?;
    assert_eq!(refusals.len(), rows.len() + 4, "{feeds:#}");
    assert_eq!(feeds[0]["held"], json!([]));
    Ok(())
}

#[test]
fn f1_a_million_rows_are_taken() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::prepare(&lab, &[order("good", &["good.example"], &DNS)])?;
    configure(&lab, "names = 65536", "names = 2097152")?;
    filter.run()?;
    let rows: Vec<String> = (0..1 << 20).map(|row| format!("r{row}.rows.example")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).chain(["com"]).collect();
    filter.write_orders("many.jsonl", &[order("many", &rows, &DNS)])?;
    for name in ["good.example", "r0.rows.example", "r524288.rows.example", "r1048575.rows.example"] {
        eventually(Duration::from_secs(300), || assert_stopped(&lab, name))?;
    }
    assert_reached(&lab, "r1048576.rows.example")?;
    let listed = filter.json(&["order", "list"])?;
    assert_eq!(listed[1]["names"], 1 << 20);
    Ok(())
}

#[test]
fn f2_a_list_that_grew_by_thousands_of_popular_sites_waits_for_approval() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[order("list", &["first.example", "second.example"], &DNS)])?;
    let mut grown: Vec<String> = (0..8000).map(|site| format!("popular{site}.example")).collect();
    grown.extend(["first.example", "google.com", "www.wikipedia.org", "github.io"].map(str::to_owned));
    let grown: Vec<&str> = grown.iter().map(String::as_str).collect();
    let more = order("more", &["more.example"], &DNS);
    filter.write_orders("orders.jsonl", &[order("list", &grown, &DNS), more.clone()])?;

    // The rest of the feed is taken: another order comes, a name goes.
    eventually(PATIENCE, || assert_stopped(&lab, "more.example"))?;
    assert_stopped(&lab, "first.example")?;
    ["second.example", "popular0.example", "google.com"].iter().try_for_each(|name| assert_reached(&lab, name))?;
    let held = held(&filter)?;
    let told: Vec<_> =
        held.iter().map(|held| (held["guard"].as_str().unwrap_or(""), &held["added"]["count"])).collect();
    let counts = [json!(1), json!(1), json!(8001)];
    assert_eq!(told, [("protected", &counts[0]), ("private_suffix", &counts[1]), ("growth", &counts[2])]);
    assert_eq!(held[0]["added"]["first"][0]["name"], "google.com");
    // With JSON the diff is whole; for people it is short.
    assert_eq!(held[2]["added"]["first"].as_array().map(Vec::len), Some(8001));
    let status = filter.cordon(&["feed", "status", "orders"])?;
    assert_eq!(status.code(), 1, "{status}");
    assert!(status.stdout.contains("+ 7991 more") && status.stdout.contains("google.com  (is protected"), "{status}");
    let status = filter.cordon(&["status"])?;
    assert_eq!(status.code(), 1, "{status}");
    assert!(status.stdout.contains("held: feed orders: order list: 8001 names come"), "{status}");

    // What is held is in the book.
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    assert_eq!(self::held(&filter)?, held);

    // A rejected change is not asked for again, also by a daemon that starts anew.
    let id = |held: &Value| held["id"].as_str().unwrap_or_default().to_owned();
    let several = filter.cordon(&["feed", "approve", "orders"])?;
    assert!(several.code() == 1 && several.stderr.contains("several changes are held"), "{several}");
    let (protected, private, growth) = (id(&held[0]), id(&held[1]), id(&held[2]));
    assert_eq!(filter.cordon(&["feed", "reject", "orders", &growth, &private])?.code(), 0);
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    filter.cordon(&["feed", "sync", "orders"])?;
    let rejected = self::held(&filter)?;
    let by: Vec<&Value> = rejected.iter().map(|held| &held["rejected_by"]).collect();
    assert_eq!(by, [&Value::Null, &json!("root"), &json!("root")]);
    assert_reached(&lab, "popular0.example")?;

    // An approval is for what was shown, and in the history with the Unix user.
    let unknown = filter.cordon(&["feed", "approve", "orders", &protected.replace(char::is_numeric, "f")])?;
    assert!(unknown.code() == 1 && unknown.stderr.contains("it may have changed since it was shown"), "{unknown}");
    assert_reached(&lab, "google.com")?;
    let approved = filter.json(&["feed", "approve", "orders", &protected])?;
    assert_eq!(approved["outcomes"][0]["what"], "changed");
    assert_stopped(&lab, "google.com")?;
    assert_stopped(&lab, "mail.google.com")?;
    assert_reached(&lab, "popular0.example")?;
    let shown = filter.json(&["order", "show", "list"])?;
    let mut history = shown["history"].as_array().context("history")?.clone();
    history.retain(|entry| entry["source"] != "daemon");
    let ops: Vec<&str> = history.iter().filter_map(|entry| entry["op"].as_str()).collect();
    assert_eq!(ops, ["put", "put", "hold", "hold", "hold", "reject", "reject", "approve"]);
    let detail = &history[7]["detail"];
    assert_eq!((&detail["user"], &detail["uid"], &detail["held"]), (&json!("root"), &json!(0), &json!(protected)));
    let status = filter.cordon(&["status"])?;
    assert_eq!(status.code(), 0, "{status}");

    // The approved name stays through a start, and through what the feed says besides.
    let mut fewer = vec!["google.com", "first.example", "new.example"];
    filter.write_orders("orders.jsonl", &[order_at(&shown, &fewer)?, more.clone()])?;
    eventually(PATIENCE, || assert_stopped(&lab, "new.example"))?;
    assert_stopped(&lab, "google.com")?;
    fewer.remove(0);
    filter.write_orders("orders.jsonl", &[order_at(&shown, &fewer)?, more])?;
    eventually(PATIENCE, || assert_reached(&lab, "google.com"))
}

#[test]
fn f2_a_list_that_shrank_and_an_empty_one_wait_for_approval() -> Result<()> {
    let lab = Lab::new()?;
    let names: Vec<String> = (0..100).map(|number| format!("n{number}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let whole = order("list", &names, &DNS);
    let filter = Filter::start(&lab, std::slice::from_ref(&whole))?;
    let mut few = whole.clone();
    few["order"]["names"] = json!(["n0.example", "n1.example", "n2.example", "fresh.example"]);
    filter.write_orders("orders.jsonl", &[few])?;
    eventually(PATIENCE, || assert_stopped(&lab, "fresh.example"))?;
    assert_stopped(&lab, "n99.example")?;
    let held = held(&filter)?;
    assert_eq!((held.len(), &held[0]["guard"], &held[0]["removed"]["count"]), (1, &json!("shrink"), &json!(97)));
    let text = filter.cordon(&["feed", "approve", "orders"])?;
    assert!(text.success() && text.stdout.contains("- n10.example"), "{text}");
    assert_reached(&lab, "n99.example")?;
    assert_stopped(&lab, "n1.example")?;

    filter.write_orders("orders.jsonl", &[])?;
    eventually(PATIENCE, || {
        let held = self::held(&filter)?;
        ensure!(held.len() == 1 && held[0]["guard"] == "empty" && held[0]["orders"]["count"] == 1, "{held:?}");
        Ok(())
    })?;
    assert_stopped(&lab, "n1.example")?;
    // A revoke needs nobody's approval.
    filter.json(&["order", "revoke", "list", "--why", "settled"])?;
    assert_reached(&lab, "n1.example")
}

#[test]
fn additions_wait_for_the_hold_window_and_ends_do_not() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::prepare(&lab, &[order("o", &["first.example"], &DNS)])?;
    configure(&lab, "kind = \"native\"\n", "kind = \"native\"\nhold = \"1h\"\ndeadline = \"1h\"\n")?;
    filter.run()?;
    assert_reached(&lab, "first.example")?;
    let held = held(&filter)?;
    assert_eq!((held.len(), &held[0]["guard"], &held[0]["late"]), (1, &json!("hold"), &json!(false)));
    filter.cordon(&["feed", "approve", "orders", "--all"])?;
    assert_stopped(&lab, "first.example")?;

    // A shorter window lets through what waits, when its time has come; the kernel has it without a further reading.
    filter.write_orders("orders.jsonl", &[order("o", &["first.example", "second.example"], &DNS)])?;
    eventually(PATIENCE, || {
        ensure!(self::held(&filter)?.len() == 1);
        Ok(())
    })?;
    assert_reached(&lab, "second.example")?;
    filter.write_orders("orders.jsonl", &[order("o", &["second.example"], &DNS)])?;
    eventually(PATIENCE, || assert_reached(&lab, "first.example"))?;
    assert_reached(&lab, "second.example")?;
    configure(&lab, "hold = \"1h\"", "hold = \"2s\"")?;
    filter.signal(libc::SIGHUP)?;
    filter.write_orders("orders.jsonl", &[order("o", &["second.example", "third.example"], &DNS)])?;
    eventually(PATIENCE, || assert_stopped(&lab, "third.example"))?;

    // Held for longer than its deadline: that is a problem, and told.
    configure(&lab, "hold = \"2s\"\ndeadline = \"1h\"", "deadline = \"1s\"")?;
    filter.signal(libc::SIGHUP)?;
    eventually(PATIENCE, || assert_stopped(&lab, "second.example"))?;
    filter.write_orders("orders.jsonl", &[order("o", &["second.example", "wikipedia.org"], &DNS)])?;
    eventually(PATIENCE, || {
        let status = filter.cordon(&["status"])?;
        ensure!(status.code() == 1 && status.stdout.contains("misses its deadline of"), "{status}");
        ensure!(filter.log().contains("has missed its deadline"), "{}", filter.log());
        Ok(())
    })
}

#[test]
fn the_operators_own_slip_waits_too() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start_with(&lab, &[], "\n[protect]\nsubtree = [\"provider.example\"]\n")?;
    let add = "order add --id mine --issuer Court --basis Law --issued 2025-03-28 --not-after none --action dns=nxdomain \
               --scope all --match subtree mine.example www.provider.example";
    let added = filter.cordon(&add.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>())?;
    assert_eq!(added.code(), 1, "{added}");
    assert!(added.stdout.contains("held: feed control: order mine: 1 name comes"), "{added}");
    assert_stopped(&lab, "mine.example")?;
    assert_reached(&lab, "www.provider.example")?;
    let status = filter.cordon(&["feed", "status", "control"])?;
    let why = "www.provider.example  (is protected with all names below provider.example: by the configuration)";
    assert!(status.code() == 1 && status.stdout.contains(why), "{status}");
    filter.json(&["feed", "approve", "control"])?;
    assert_stopped(&lab, "www.provider.example")
}

/// What is held of the feed, whole.
fn held(filter: &Filter<'_>) -> Result<Vec<Value>> {
    let status = filter.cordon(&["feed", "status", "--output", "json"])?;
    let feeds: Value = serde_json::from_str(&status.stdout).with_context(|| status.to_string())?;
    Ok(feeds[0]["held"].as_array().context("held")?.clone())
}

/// The put of an order that was shown, with other names.
fn order_at(shown: &Value, names: &[&str]) -> Result<Value> {
    let mut order = shown["order"].clone();
    ensure!(order.is_object(), "{shown}");
    order["names"] = json!(names);
    Ok(json!({"op": "put", "order": order}))
}

fn configure(lab: &Lab, from: &str, to: &str) -> Result<()> {
    let file = lab.folder().join("cordon.toml");
    let configuration = fs::read_to_string(&file)?;
    ensure!(configuration.contains(from), "{configuration}");
    Ok(fs::write(&file, configuration.replace(from, to))?)
}

fn write(lab: &Lab, file: &str, text: &[u8]) -> Result<()> {
    let path = lab.folder().join("orders").join(file);
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(&draft, &path)?)
}
