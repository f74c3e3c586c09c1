//! Feeds that are fetched, and lists, from a real web server to real clients.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{Filter, Host, Lab, Process, eventually, order};
use serde_json::Value;

/// Longest that a change may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(30);

/// nginx on the border host: HTTPS, with files of the lab's folder.
struct Web<'a> {
    lab: &'a Lab,
    folder: PathBuf,
    server: Option<Process>,
}

impl<'a> Web<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let folder = lab.folder().join("site");
        fs::create_dir(&folder)?;
        // nginx reads as another user.
        fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755))?;
        let at = lab.folder().display();
        let request = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        let (key, certificate) = (format!("{at}/site.key"), format!("{at}/site.pem"));
        lab.read(Host::Border, &[&request[..], &["-keyout", &key, "-out", &certificate]].concat())?;
        lab.read(Host::Border, &["ip", "link", "set", "lo", "up"])?;
        fs::write(
            lab.folder().join("site.conf"),
            format!(
                "daemon off; worker_processes 1; pid {at}/site.pid; error_log {at}/site.log;\n\
                 events {{ worker_connections 64; }}\n\
                 http {{ access_log off; default_type text/plain; client_body_temp_path {at}/site.tmp;\n\
                 server {{ listen 127.0.0.1:8443 ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
                 root {at}/site; if ($arg_since) {{ rewrite ^ /since/$arg_since last; }}\n\
                 location /since/ {{ try_files $uri =204; }} }} }}\n"
            ),
        )?;
        let mut web = Self { lab, folder, server: None };
        web.start()?;
        Ok(web)
    }

    fn start(&mut self) -> Result<()> {
        let configuration = self.lab.folder().join("site.conf").display().to_string();
        self.server = Some(self.lab.spawn(Host::Border, &["nginx", "-c", &configuration])?);
        let ask = ["curl", "--silent", "--show-error", "--insecure", "--max-time", "2", "https://localhost:8443/"];
        eventually(PATIENCE, || self.lab.read(Host::Border, &ask).map(drop))
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn put(&self, file: &str, content: &str) -> Result<()> {
        let draft = self.folder.join("draft");
        fs::write(&draft, content)?;
        Ok(fs::rename(draft, self.folder.join(file))?)
    }

    /// A feed of the daemon's configuration.
    fn feed(&self, name: &str, kind: &str, file: &str, http: &str, further: &str) -> String {
        let certificate = self.lab.folder().join("site.pem");
        format!(
            "\n[[feed]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"https://localhost:8443/{file}\"\n\
             http = {{ interval = \"1s\", ca = \"{}\"{http} }}\n{further}",
            certificate.display()
        )
    }
}

const ORDER: &str = r#"
[feed.order]
id = "list"
issuer = "Regulator"
basis = "Law"
reference = "L 1"
issued = "2025-03-28"
not_before = "2025-03-28T00:00:00Z"
not_after = "none"
protocols = ["dns"]
actions = { dns = "nxdomain" }
scopes = ["all"]
match = "subtree"
"#;

#[test]
fn f4_what_is_fetched_is_enforced_and_stays_when_the_server_is_ill() -> Result<()> {
    let lab = Lab::new()?;
    let mut web = Web::new(&lab)?;
    web.put("orders.jsonl", &format!("{}\n", order("native", &["native.example"], &[("dns", "nxdomain")])))?;
    web.put("list.txt", "# names\nlisted.example\nhttps://sites.example/view/x\n")?;
    let feeds = [web.feed("native", "native", "orders.jsonl", "", ""), web.feed("list", "list", "list.txt", "", ORDER)];
    let mut filter = Filter::start_with(&lab, &[], &feeds.concat())?;
    eventually(PATIENCE, || lab.stopped(&["native.example", "www.listed.example"])).with_context(|| filter.log())?;
    lab.passes(&["sites.example", "other.example"])?;
    let list = feed(&filter, "list")?;
    ensure!(list["problem"].is_null() && list["fetch"]["checked"].is_string(), "{list}");
    let refusal = &list["refusals"][0];
    ensure!(refusal["line"] == 3 && refusal["why"] == "is a URL; give the host name alone", "{list}");

    // A change is enforced; half a list is none.
    web.put("list.txt", "listed.example\nmore.example\n")?;
    eventually(PATIENCE, || lab.stopped(&["listed.example", "more.example"]))?;
    web.put("list.txt", "<html>sign in</html>\n")?;
    eventually(PATIENCE, || {
        let list = feed(&filter, "list")?;
        let why = list["refusals"][0]["why"].as_str().unwrap_or_default();
        ensure!(why.starts_with("begins with `<`"), "{list}");
        Ok(())
    })?;
    lab.stopped(&["listed.example", "more.example", "native.example"])?;

    // The server goes; the daemon goes, too, and comes back without it.
    web.stop();
    let failing = |filter: &Filter<'_>| -> Result<()> {
        let native = feed(filter, "native")?;
        let problem = native["problem"].as_str().unwrap_or_default();
        ensure!(problem.contains("Connection refused") && native["fetch"]["stale_since"].is_string(), "{native}");
        ensure!(!filter.cordon(&["status"])?.success(), "the exit code says so");
        Ok(())
    };
    eventually(PATIENCE, || failing(&filter))?;
    lab.stopped(&["listed.example", "more.example", "native.example"])?;
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    eventually(PATIENCE, || failing(&filter))?;
    lab.stopped(&["listed.example", "more.example", "native.example"])?;

    // It comes back with another state: what is gone from it ends.
    web.put("list.txt", "more.example\n")?;
    web.put("orders.jsonl", &format!("{}\n", order("another", &["another.example"], &[("dns", "nxdomain")])))?;
    web.start()?;
    eventually(PATIENCE, || {
        lab.stopped(&["more.example", "another.example"])?;
        lab.passes(&["listed.example", "native.example"])
    })?;
    eventually(PATIENCE, || {
        let native = feed(&filter, "native")?;
        ensure!(native["problem"].is_null() && native["fetch"]["stale_since"].is_null(), "{native}");
        Ok(())
    })
}

#[test]
fn a_server_is_asked_at_once_when_the_operator_says_so() -> Result<()> {
    let lab = Lab::new()?;
    let web = Web::new(&lab)?;
    web.put("list.txt", "listed.example\n")?;
    let feed = web.feed("list", "list", "list.txt", "", ORDER).replace("\"1s\"", "\"1h\"");
    let filter = Filter::start_with(&lab, &[], &feed)?;
    eventually(PATIENCE, || lab.stopped(&["listed.example"])).with_context(|| filter.log())?;
    web.put("list.txt", "listed.example\nmore.example\n")?;
    lab.passes(&["more.example"])?;
    let synced = filter.cordon(&["feed", "sync", "list"])?;
    ensure!(synced.success(), "{synced:?}");
    eventually(PATIENCE, || lab.stopped(&["listed.example", "more.example"]))
}

#[test]
fn events_of_an_incremental_feed_are_enforced() -> Result<()> {
    let lab = Lab::new()?;
    let web = Web::new(&lab)?;
    fs::create_dir(web.folder.join("since"))?;
    let put = |id: &str, seq: u64| {
        let mut line = order(id, &[&format!("{id}.example")], &[("dns", "nxdomain")]);
        line["seq"] = seq.into();
        format!("{line}\n")
    };
    web.put("orders.jsonl", &[put("first", 3), put("second", 4)].concat())?;
    let mut filter =
        Filter::start_with(&lab, &[], &web.feed("f", "native", "orders.jsonl", ", incremental = true", ""))?;
    eventually(PATIENCE, || lab.stopped(&["first.example", "second.example"])).with_context(|| filter.log())?;

    let add = r#"{"op":"add","order":"first","names":["more.example","https://bad.example/"],"seq":5}"#;
    let revoke = r#"{"op":"revoke","order":"second","why":"appeal","seq":6}"#;
    web.put("since/4", &format!("{}{add}\n{revoke}\n{}", put("second", 4), put("third", 8)))?;
    let all_of_it = || {
        lab.stopped(&["first.example", "more.example", "third.example"])?;
        lab.passes(&["second.example"])
    };
    eventually(PATIENCE, all_of_it)?;
    eventually(PATIENCE, || {
        let feed = feed(&filter, "f")?;
        ensure!(feed["fetch"]["seq"] == 8 && feed["problem"].is_null(), "{feed}");
        let refusals = feed["refusals"].as_array().map_or(0, Vec::len);
        ensure!(refusals == 1 && feed["refusals"][0]["text"] == "https://bad.example/", "{feed}");
        Ok(())
    })?;

    // The next start goes on from there: the whole is not asked for again.
    filter.stop(libc::SIGKILL)?;
    web.put("orders.jsonl", "junk\n")?;
    filter.run()?;
    all_of_it()?;
    web.put("since/8", &put("fourth", 9))?;
    eventually(PATIENCE, || lab.stopped(&["fourth.example", "first.example"]))?;
    all_of_it()
}

#[test]
fn what_the_operator_takes_out_after_an_increment_stays_out() -> Result<()> {
    let lab = Lab::new()?;
    let web = Web::new(&lab)?;
    fs::create_dir(web.folder.join("since"))?;
    let mut line = order("first", &["first.example"], &[("dns", "nxdomain")]);
    line["seq"] = 3.into();
    web.put("orders.jsonl", &format!("{line}\n"))?;
    let mut filter =
        Filter::start_with(&lab, &[], &web.feed("f", "native", "orders.jsonl", ", incremental = true", ""))?;
    eventually(PATIENCE, || lab.stopped(&["first.example"])).with_context(|| filter.log())?;
    for (seq, name) in [(4, "fourth.example"), (5, "fifth.example")] {
        let add = format!(r#"{{"op":"add","order":"first","names":["{name}"],"seq":{seq}}}"#);
        web.put(&format!("since/{}", seq - 1), &format!("{add}\n"))?;
        eventually(PATIENCE, || lab.stopped(&[name]))?;
        let remove = lab.folder().join("remove.jsonl");
        fs::write(&remove, format!(r#"{{"op":"remove","order":"first","names":["{name}"]}}"#))?;
        let removed = filter.cordon(&["order", "import", &remove.display().to_string()])?;
        ensure!(removed.success(), "{removed:?}");
        lab.passes(&[name])?;
        // Whatever reads the feed's file again finds nothing new in it.
        if seq == 4 {
            filter.stop(libc::SIGKILL)?;
            filter.run()?;
        } else {
            let synced = filter.cordon(&["feed", "sync", "f"])?;
            ensure!(synced.success(), "{synced:?}");
        }
        lab.passes(&[name]).with_context(|| format!("after {name}: {}", filter.log()))?;
        lab.stopped(&["first.example"])?;
    }
    Ok(())
}

fn feed(filter: &Filter<'_>, name: &str) -> Result<Value> {
    let finished = filter.cordon(&["status", "--output", "json"])?;
    let status: Value = serde_json::from_str(&finished.stdout)?;
    let feeds = status["feeds"].as_array().cloned().unwrap_or_default();
    let found = feeds.into_iter().find(|feed| feed["name"] == name);
    found.ok_or_else(|| anyhow::anyhow!("no feed {name}: {status}"))
}
