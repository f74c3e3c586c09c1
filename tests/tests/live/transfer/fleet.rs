//! A fleet: three border hosts, each with a daemon, follow one order book over HTTPS and one zone by transfer.
//!
//! Three labs; the first one's server has the order book and the zone, and cables to the border hosts of the others.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use cordon_tests::{
    lab::{Filter, Host, Lab, Process, eventually, order},
    primary::{Kind, Server, Setup, ZONE},
};
use serde_json::Value;

use super::{ORDER, PATIENCE, change, stopped, zone};

/// Where the order book and the zone are.
const CENTRE: &str = "100.64.0.1";

/// Port of DNS: of the primary, and of the daemons for NOTIFY.
const PORT: u16 = 5300;

/// The daemons, as the server reaches them.
const BORDERS: [&str; 3] = ["198.51.100.1", "100.64.1.2", "100.64.2.2"];

/// The order book as a web server has it.
struct Orders<'a> {
    lab: &'a Lab,
    _server: Process,
}

impl<'a> Orders<'a> {
    fn start(lab: &'a Lab) -> Result<Self> {
        let at = lab.folder().display().to_string();
        for folder in ["site", "site/since"] {
            fs::create_dir(lab.folder().join(folder))?;
        }
        // nginx reads as another user.
        fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755))?;
        let (key, certificate) = (format!("{at}/site.key"), format!("{at}/site.pem"));
        let names = format!("subjectAltName=IP:{CENTRE}");
        let request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=orders";
        let further = ["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
        let files = ["-keyout", &key, "-out", &certificate];
        lab.read(Host::Server, &[&request.split(' ').collect::<Vec<_>>()[..], &further, &files].concat())?;
        let configuration = format!(
            "daemon off; worker_processes 1; pid {at}/site.pid; error_log {at}/site.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; default_type text/plain; client_body_temp_path {at}/site.tmp;\n\
             server {{ listen {CENTRE}:8443 ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             root {at}/site; if ($arg_since) {{ rewrite ^ /since/$arg_since last; }}\n\
             location /since/ {{ try_files $uri =204; }} }} }}\n"
        );
        let path = format!("{at}/site.conf");
        fs::write(&path, configuration)?;
        Ok(Self { lab, _server: lab.spawn(Host::Server, &["nginx", "-c", &path])? })
    }

    /// Puts a file in place; `since/N` holds what happened after event N.
    fn put(&self, file: &str, lines: &[Value]) -> Result<()> {
        let site = self.lab.folder().join("site");
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(site.join("draft"), lines)?;
        Ok(fs::rename(site.join("draft"), site.join(file))?)
    }

    /// The daemon's configuration of the feed.
    fn feed(&self) -> String {
        let certificate = self.lab.folder().join("site.pem");
        format!(
            "\n[[feed]]\nname = \"book\"\nkind = \"native\"\nurl = \"https://{CENTRE}:8443/orders.jsonl\"\n\
             http = {{ interval = \"1s\", incremental = true, ca = \"{}\" }}\n",
            certificate.display()
        )
    }
}

fn event(mut event: Value, seq: u64) -> Value {
    event["seq"] = seq.into();
    event
}

/// Lays the cables between the first lab's server and the border hosts.
fn cable(labs: &[Lab; 3]) -> Result<()> {
    let [first, others @ ..] = labs;
    let run = |lab: &Lab, host, words: String| lab.read(host, &words.split(' ').collect::<Vec<_>>()).map(drop);
    run(first, Host::Server, format!("ip address add {CENTRE}/32 dev lo"))?;
    run(first, Host::Border, format!("ip route add {CENTRE} via 198.51.100.53"))?;
    for (number, other) in (1..).zip(others) {
        let name = other.folder().file_name().and_then(|name| name.to_str()).context("the lab's name")?;
        let peer = format!("peer name centre netns {name}-border");
        run(first, Host::Server, format!("ip link add fleet{number} type veth {peer}"))?;
        run(first, Host::Server, format!("ip address add 100.64.{number}.1/24 dev fleet{number}"))?;
        run(first, Host::Server, format!("ip link set fleet{number} up"))?;
        run(other, Host::Border, format!("ip address add 100.64.{number}.2/24 dev centre"))?;
        run(other, Host::Border, "ip link set centre up".to_owned())?;
        run(other, Host::Border, format!("ip route add {CENTRE} via 100.64.{number}.1"))?;
    }
    Ok(())
}

#[test]
fn a_fleet_follows_one_order_book_and_one_zone() -> Result<()> {
    let labs = [Lab::new()?, Lab::new()?, Lab::new()?];
    cable(&labs)?;
    let orders = Orders::start(&labs[0])?;
    orders.put("orders.jsonl", &[event(order("first", &["first.test"], &[("dns", "nxdomain")]), 1)])?;
    let also = BORDERS.map(|border| format!("{border} port {PORT} key \"cordon\";")).join(" ");
    let notify: SocketAddr = format!("{}:{PORT}", BORDERS[0]).parse()?;
    let setup =
        Setup { notify, ..Setup::default() }.edit(&format!("{} port {PORT} key \"cordon\";", BORDERS[0]), &also);
    let centre: SocketAddr = format!("{CENTRE}:{PORT}").parse()?;
    let server = Server::start_in(&labs[0], Host::Server, centre, Kind::Bind, &setup)?;

    let mut filters = Vec::new();
    for (lab, border) in labs.iter().zip(BORDERS) {
        fs::write(lab.folder().join("secret"), cordon_tests::primary::SECRET)?;
        let secret = lab.folder().join("secret");
        let zone = format!(
            "\n[[tsig]]\nname = \"cordon\"\nalgorithm = \"hmac-sha256\"\nsecret_file = \"{}\"\n\
             [notify]\nlisten = [\"{border}:{PORT}\"]\n\
             [[feed]]\nname = \"zone\"\nkind = \"rpz\"\nzone = \"{ZONE}\"\n\
             primaries = [{{ address = \"{centre}\", tsig = \"cordon\" }}]\n{ORDER}",
            secret.display()
        );
        filters.push(Filter::start_with(lab, &[], &format!("{}{zone}", orders.feed()))?);
    }
    let everywhere = |check: &dyn Fn(&Lab) -> Result<()>| -> Result<()> {
        for (number, (lab, filter)) in labs.iter().zip(&filters).enumerate() {
            eventually(PATIENCE, || check(lab)).with_context(|| format!("border {number}: {}", filter.log()))?;
        }
        Ok(())
    };

    // All enforce the same.
    everywhere(&|lab| {
        stopped(lab, &["first.test", "bad.test", "www.bad.test"])?;
        lab.passes(&["second.test", "fresh.test"])
    })?;

    // A change of either reaches all.
    let names = serde_json::json!({"op": "add", "order": "first", "names": ["second.test"]});
    orders.put("since/1", &[event(names, 2)])?;
    change(&server, Kind::Bind, "fresh.test", "*.bad.test")?;
    everywhere(&|lab| {
        stopped(lab, &["first.test", "second.test", "bad.test", "fresh.test"])?;
        lab.passes(&["www.bad.test"])
    })?;

    // One is down while more changes, and catches up by differences.
    filters[2].stop(libc::SIGKILL)?;
    let revoke = serde_json::json!({"op": "remove", "order": "first", "names": ["first.test"]});
    orders.put("since/2", &[event(revoke, 3)])?;
    orders.put("orders.jsonl", &[])?;
    change(&server, Kind::Bind, "later.test", "bad.test")?;
    for lab in &labs[..2] {
        eventually(PATIENCE, || {
            stopped(lab, &["second.test", "fresh.test", "later.test"])?;
            lab.passes(&["first.test", "bad.test"])
        })?;
    }
    // What is pinned goes on meanwhile.
    stopped(&labs[2], &["first.test", "second.test", "bad.test", "fresh.test"])?;
    filters[2].run()?;
    eventually(PATIENCE, || {
        stopped(&labs[2], &["second.test", "fresh.test", "later.test"])?;
        labs[2].passes(&["first.test", "bad.test"])
    })
    .with_context(|| filters[2].log())?;
    let status = zone(&filters[2])?;
    ensure!(status["fetch"]["zone"]["whole"] == 0 && status["fetch"]["zone"]["incremental"] == 1, "{status}");

    // The books are the same, order by order.
    let mut exports = Vec::new();
    for filter in &filters {
        let exported = filter.cordon(&["order", "export"])?;
        ensure!(exported.success() && exported.stdout.contains("later.test"), "{exported}");
        exports.push(exported.stdout);
    }
    ensure!(exports[0] == exports[1] && exports[1] == exports[2], "{exports:?}");
    Ok(())
}
