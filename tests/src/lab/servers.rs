//! A real name server and a real web server.
//!
//! The name server (BIND) is authoritative for the root, where a wildcard gives every name the web server's
//! addresses: a name without an answer is one that the filter took. The web server (nginx) has a certificate for every
//! name that tests fetch, and says which name it was asked for.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Host, Lab, address, eventually, process, process::Process};

/// The web server's certificate, which signs itself.
pub const CERTIFICATE: &str = "certificate.pem";
/// /etc/resolv.conf of the client.
pub const RESOLVER: &str = "resolv.conf";
/// /etc/nsswitch.conf of the client: names come from DNS and nothing else.
pub const NAME_SWITCH: &str = "nsswitch.conf";

/// Its key.
pub const KEY: &str = "key.pem";

/// Longest that a server may take to answer its first question.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the client host has in place of the files of this host.
pub fn write_client_files(lab: &Lab) -> Result<()> {
    write(lab, RESOLVER, &format!("nameserver {}\nnameserver {}\n", address::DNS[0], address::DNS[1]))?;
    write(lab, NAME_SWITCH, "hosts: files dns\n")
}

/// Starts both and waits until they answer.
pub fn start(lab: &Lab) -> Result<Vec<Process>> {
    let mut servers = vec![name_server(lab)?, web_server(lab)?];
    for server in &mut servers {
        eventually(PATIENCE, || {
            // A server that has ended will not answer: no use to wait.
            if let Err(error) = server.still_runs() {
                return Ok(Err(error));
            }
            answers(lab).map(Ok)
        })??;
    }
    Ok(servers)
}

/// Both, over both protocols.
fn answers(lab: &Lab) -> Result<()> {
    for (dns, web) in address::DNS.into_iter().zip(address::WEB) {
        let at = format!("@{dns}");
        let query = ["dig", &at, "ready.example", "+short", "+tries=1", "+time=1"];
        ensure!(lab.read(Host::Server, &query)?.trim() == address::WEB[0], "no answer from {dns}");
        let url = format!("https://{}/", if web.contains(':') { format!("[{web}]") } else { web.to_owned() });
        lab.read(Host::Server, &["curl", "--silent", "--show-error", "--insecure", "--max-time", "2", &url])?;
    }
    Ok(())
}

fn name_server(lab: &Lab) -> Result<Process> {
    let [v4, v6] = address::DNS;
    write(lab, "root.zone", &root_zone())?;
    lab.name_server(
        Host::Server,
        &format!("listen-on {{ {v4}; }}; listen-on-v6 {{ {v6}; }}; recursion no;"),
        r#"zone "." { type primary; file "root.zone"; };"#,
    )
}

/// The root, in which every name has the web server's addresses.
pub fn root_zone() -> String {
    let [v4, v6] = address::DNS;
    let [web4, web6] = address::WEB;
    format!(
        r#"$TTL 60
. SOA ns.invalid. host.invalid. 1 60 60 60 60
. NS ns.invalid.
ns.invalid. A {v4}
ns.invalid. AAAA {v6}
* A {web4}
* AAAA {web6}
* TXT "reached"
* HTTPS 1 . alpn="h2"
"#
    )
}

impl Lab {
    /// Starts BIND on a host, with these options and further statements; relative paths are in the lab's folder.
    ///
    /// # Errors
    /// It cannot be started. Whether it then answers is the caller's to find out.
    pub fn name_server(&self, host: Host, options: &str, statements: &str) -> Result<Process> {
        let folder = self.folder().display();
        let configuration = format!(
            r#"options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    empty-zones-enable no;
    notify no;
    {options}
}};
controls {{ }};
{statements}
"#
        );
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let file = format!("named-{}.conf", NUMBER.fetch_add(1, Ordering::Relaxed));
        write(self, &file, &configuration)?;
        // A copy, because where AppArmor is on, its profile for Debian's own path lets the server read /etc/bind alone.
        // Made by another process: one that is forked here meanwhile would have the file open for writing, and then
        // nobody can execute it.
        let original = process::find("named").context("named is not installed")?;
        let copy = self.folder().join("named");
        if !copy.exists() {
            process::done(Command::new("cp").arg(original).arg(&copy))?;
        }
        let copy = copy.to_str().context("the temporary folder's name is not UTF-8")?;
        self.spawn(host, &[copy, "-g", "-n", "1", "-c", &file]).context("named")
    }
}

fn web_server(lab: &Lab) -> Result<Process> {
    let folder = lab.folder().display();
    let [web4, web6] = address::WEB;
    let [notice4, notice6] = address::NOTICE;
    process::done(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=lab", "-addext", "subjectAltName=DNS:lab.example"])
            .args(["-keyout", KEY, "-out", CERTIFICATE])
            .current_dir(lab.folder()),
    )?;
    write(
        lab,
        "nginx.conf",
        &format!(
            r#"daemon off;
master_process off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    default_type text/html;
    ssl_certificate {folder}/{CERTIFICATE};
    ssl_certificate_key {folder}/{KEY};
    server {{
        listen {web4}:443 ssl http2;
        listen [{web6}]:443 ssl http2;
        listen {web4}:8443 ssl http2;
        listen [{web6}]:8443 ssl http2;
        location / {{ return 200 "<p>reached $ssl_server_name</p>\n"; }}
    }}
    server {{
        listen {notice4}:443 ssl http2;
        listen [{notice6}]:443 ssl http2;
        location / {{ return 200 "<p>notice instead of $ssl_server_name</p>\n"; }}
    }}
}}
"#
        ),
    )?;
    lab.spawn(Host::Server, &["nginx", "-e", "nginx.log", "-p", ".", "-c", "nginx.conf"]).context("nginx")
}

fn write(lab: &Lab, file: &str, text: &str) -> Result<()> {
    fs::write(lab.folder().join(file), text).with_context(|| file.to_owned())
}
