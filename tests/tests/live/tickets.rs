//! A platform's tickets, from its answer to the kernel and back: what is told to be enforced is.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{Filter, Host, Lab, Process, beside, eventually, order};
use serde_json::{Value, json};

/// Longest that a ticket may take to be enforced and answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// The platform, on the border host.
struct Platform<'a> {
    lab: &'a Lab,
    folder: PathBuf,
    server: Option<Process>,
}

impl<'a> Platform<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let folder = lab.folder().join("platform");
        fs::create_dir(&folder)?;
        fs::write(folder.join("user"), "isp\n")?;
        fs::write(folder.join("password"), "secret\n")?;
        lab.read(Host::Border, &["ip", "link", "set", "lo", "up"])?;
        let mut platform = Self { lab, folder, server: None };
        platform.list(&[])?;
        platform.start()?;
        Ok(platform)
    }

    fn start(&mut self) -> Result<()> {
        let program = beside("platform")?.display().to_string();
        let folder = self.folder.display().to_string();
        let mut server = self.lab.spawn(Host::Border, &[&program, "127.0.0.1:8080", &folder])?;
        eventually(PATIENCE, || {
            server.still_runs()?;
            ensure!(server.log().contains("listening"), "{}", server.log());
            Ok(())
        })?;
        self.server = Some(server);
        Ok(())
    }

    fn stop(&mut self) {
        self.server = None;
    }

    /// What it lists from now on.
    fn list(&self, tickets: &[Value]) -> Result<()> {
        let draft = self.folder.join("draft");
        fs::write(&draft, json!(tickets).to_string())?;
        Ok(fs::rename(draft, self.folder.join("tickets.json"))?)
    }

    /// What it was answered, in the order of ticket and item.
    fn answers(&self) -> Result<Vec<(String, String, String)>> {
        let text = fs::read_to_string(self.folder.join("answers.jsonl")).unwrap_or_default();
        let mut answers = Vec::new();
        for line in text.lines() {
            let answer: Value = serde_json::from_str(line)?;
            let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            let what = if answer["reason"].is_null() { field("what") } else { field("reason") };
            answers.push((field("ticket_id"), field("value"), what));
        }
        answers.sort();
        Ok(answers)
    }

    fn expect(&self, answers: &[(&str, &str, &str)]) -> Result<()> {
        let told = self.answers()?;
        let is_so = told
            .iter()
            .map(|(ticket, item, what)| (ticket.as_str(), item.as_str(), what.as_str()))
            .eq(answers.iter().copied());
        ensure!(is_so, "{told:?}");
        Ok(())
    }

    fn feed(&self) -> String {
        format!(
            r#"
[[feed]]
name = "shield"
kind = "tickets"
url = "http://127.0.0.1:8080/"
http = {{ interval = "1s" }}
tickets = {{ user = "{0}/user", password = "{0}/password", pending = "enforce" }}

[feed.order]
issuer = "Regulator"
basis = "Law"
reference = "Ticket {{ticket}}"
issued = "2025-03-28"
not_before = "2025-03-28T00:00:00Z"
not_after = "none"
protocols = ["dns", "tls"]
actions = {{ dns = "nxdomain", tls = "reset" }}
scopes = ["all"]
match = "subtree"
"#,
            self.folder.display()
        )
    }
}

fn ticket(id: &str, status: &str, names: &[&str]) -> Value {
    json!({"ticket_id": id, "status": status, "fqdn": names, "ipv4": [], "ipv6": []})
}

#[test]
fn a_ticket_is_enforced_then_answered_and_undone_when_it_is_revoked() -> Result<()> {
    let lab = Lab::new()?;
    let mut platform = Platform::new(&lab)?;
    let court = order("court", &["court.example"], &[("dns", "nxdomain"), ("tls", "reset")]);
    let mut filter =
        Filter::start_with(&lab, &[court], &format!("[allow]\nnames = [\"own.example\"]\n{}", platform.feed()))?;
    let mut first = ticket("1", "open", &["stream.example", "court.example", "own.example", "co.uk", "a b.example"]);
    first["ipv4"] = json!(["192.0.2.99"]);
    platform.list(&[first.clone(), ticket("2", "created", &["live.example"])])?;
    let answered = [
        ("1", "192.0.2.99", "UNSUPPORTED"),
        ("1", "a b.example", "MALFORMED"),
        ("1", "co.uk", "GUARD"),
        ("1", "court.example", "ALREADY_BLOCKED"),
        ("1", "own.example", "ALLOW_LISTED"),
        ("1", "stream.example", "processed"),
        ("2", "live.example", "processed"),
    ];
    eventually(PATIENCE, || platform.expect(&answered)).with_context(|| filter.log())?;
    lab.stopped(&["stream.example", "www.stream.example", "live.example", "court.example"])?;
    lab.passes(&["own.example", "other.example"])?;
    let shown = filter.json(&["order", "show", "shield:1"])?;
    ensure!(shown["order"]["reference"] == "Ticket 1", "{shown}");
    let feed = feed(&filter)?;
    let counts = json!({"tickets": 2, "processed": 2, "unprocessed": 5, "open": 0});
    ensure!(feed["tickets"] == counts && feed["problem"].is_null() && feed["refusals"] == json!([]), "{feed}");
    let status = filter.cordon(&["status"])?;
    let line = "feed shield: 2 tickets; items: 2 processed, 5 not, 0 not answered";
    ensure!(status.success() && status.stdout.contains(line), "{status}");

    // Revoked in its window: undone. The daemon is killed and the platform is down: all stays, and nothing is told twice.
    platform.list(&[first.clone(), ticket("2", "revoked", &["live.example"])])?;
    eventually(PATIENCE, || lab.passes(&["live.example"]))?;
    platform.stop();
    filter.stop(libc::SIGKILL)?;
    lab.stopped(&["stream.example"])?;
    filter.run()?;
    lab.stopped(&["stream.example"])?;
    lab.passes(&["live.example"])?;
    eventually(PATIENCE, || {
        let problem = self::feed(&filter)?["problem"].as_str().unwrap_or_default().to_owned();
        ensure!(problem.contains("login: ") && problem.contains("Connection refused"), "{problem}");
        ensure!(!filter.cordon(&["status"])?.success(), "the exit code says so");
        Ok(())
    })?;
    platform.start()?;
    platform.list(&[first, ticket("3", "open", &["third.example"])])?;
    eventually(PATIENCE, || {
        platform.expect(&[&answered[..], &[("3", "third.example", "processed")]].concat())?;
        lab.stopped(&["third.example", "stream.example"])
    })
    .with_context(|| filter.log())?;
    platform.list(&[ticket("1", "revoked", &["stream.example"])])?;
    eventually(PATIENCE, || lab.passes(&["stream.example"]))?;
    lab.stopped(&["third.example", "court.example"])
}

#[test]
fn nothing_is_told_to_be_enforced_while_no_packet_is_judged() -> Result<()> {
    let lab = Lab::new()?;
    let platform = Platform::new(&lab)?;
    let filter = Filter::start_with(&lab, &[], &platform.feed())?;
    let detached = filter.cordon(&["detach", "access"])?;
    ensure!(detached.success(), "{detached}");
    platform.list(&[ticket("1", "open", &["stream.example"])])?;
    eventually(PATIENCE, || {
        let feed = feed(&filter)?;
        ensure!(feed["tickets"]["open"] == 1, "{feed}");
        Ok(())
    })?;
    lab.passes(&["stream.example"])?;
    platform.expect(&[])?;
    let attached = filter.cordon(&["attach", "access"])?;
    ensure!(attached.success(), "{attached}");
    eventually(PATIENCE, || platform.expect(&[("1", "stream.example", "processed")]))?;
    lab.stopped(&["stream.example"])
}

fn feed(filter: &Filter<'_>) -> Result<Value> {
    let finished = filter.cordon(&["feed", "status", "shield", "--output", "json"])?;
    let feeds: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.to_string())?;
    Ok(feeds[0].clone())
}
