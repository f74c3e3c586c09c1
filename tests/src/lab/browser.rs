//! Headless Chromium on the lab's client host. It resolves names by the lab's name server, as a browser does.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Family, Finished, Host, Lab, address, clients::bracketed, process};

/// What the browser showed.
#[derive(Debug)]
pub struct Page {
    /// The document; empty where the site could not be reached.
    pub document: String,
    /// The error's word, such as ERR_CONNECTION_RESET.
    pub error: Option<String>,
    /// All that Chromium said.
    pub finished: Finished,
}

/// A first start on a loaded machine takes some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a page over HTTP/3 may take.
const LOADING: Duration = Duration::from_secs(20);

const OPTIONS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--ignore-certificate-errors",
    "--dump-dom",
];

impl Lab {
    /// Opens `https://NAME/` in a browser that has never been used.
    ///
    /// # Errors
    /// Chromium is not installed, or does not end.
    pub fn browse(&self, name: &str) -> Result<Page> {
        self.open(name, &["--disable-quic"])
    }

    /// As [`Lab::browse`], but without DNS: the web server's address is given.
    ///
    /// # Errors
    /// As [`Lab::browse`].
    pub fn browse_at(&self, family: Family, name: &str) -> Result<Page> {
        let web = bracketed(family.of(address::WEB))?;
        self.open(name, &["--disable-quic", &format!("--host-resolver-rules=MAP {name} {web}")])
    }

    /// As [`Lab::browse_at`], but over QUIC alone: HTTP/3 at the first packet. A page that has not come after
    /// [`LOADING`] is given up: by itself, the browser tries for over a minute and a half.
    ///
    /// # Errors
    /// As [`Lab::browse`].
    pub fn browse_quic(&self, family: Family, name: &str) -> Result<Page> {
        let web = bracketed(family.of(address::WEB))?;
        self.open(
            name,
            &[
                "--enable-quic",
                &format!("--timeout={}", LOADING.as_millis()),
                &format!("--origin-to-force-quic-on={name}:443"),
                // For QUIC, a certificate that signs itself is taken by its key only.
                &format!("--ignore-certificate-errors-spki-list={}", self.public_key_hash()?),
                &format!("--host-resolver-rules=MAP {name} {web}"),
            ],
        )
    }

    fn open(&self, name: &str, options: &[&str]) -> Result<Page> {
        ensure!(process::find("chromium").is_some(), "chromium is not installed: run `cargo xtask setup --tests`");
        let profile = tempfile::Builder::new().prefix("browser-").tempdir_in(self.folder())?;
        let mut command = self.command(Host::Client, "chromium");
        command.args(OPTIONS).args(options).arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg(format!("https://{name}/")).env("HOME", profile.path());
        let finished = process::finish(&mut command, PATIENCE)?;
        // Where a page cannot be loaded, nothing is dumped, and Chromium says why on standard error.
        let error = finished.stderr.split("Page load failed: net::").nth(1);
        let error = error.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        let document = finished.stdout.clone();
        Ok(Page { document, error, finished })
    }
}
