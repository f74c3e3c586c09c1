//! What came by on a host: packet counts of an interface, and captures.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Host, Lab, Process, eventually};

/// Longest that tcpdump may take to begin, or to write out what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running capture.
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Lab {
    /// Packets that an interface has received.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn received(&self, host: Host, interface: &str) -> Result<u64> {
        let shown = self.read(host, &["ip", "-json", "-stats", "link", "show", "dev", interface])?;
        let shown: Value = serde_json::from_str(&shown).context("ip -json")?;
        shown[0]["stats64"]["rx"]["packets"].as_u64().with_context(|| format!("no packet count in {shown}"))
    }

    /// Begins to capture what an interface sends and receives, to a file in the lab's folder; `filter` is tcpdump's.
    ///
    /// # Errors
    /// tcpdump does not begin.
    pub fn capture(&self, host: Host, interface: &str, name: &str, filter: &str) -> Result<Capture> {
        let file = self.folder().join(name).with_extension("pcap");
        let path = file.to_str().context("the temporary folder's name is not UTF-8")?;
        let words = ["tcpdump", "--immediate-mode", "-U", "-Z", "root", "-i", interface, "-w", path, filter];
        let mut tcpdump = self.spawn(host, &words)?;
        eventually(PATIENCE, || {
            tcpdump.still_runs()?;
            ensure!(tcpdump.log().contains("listening on"), "tcpdump has not begun: {}", tcpdump.log());
            Ok(())
        })?;
        Ok(Capture { tcpdump, file })
    }
}

impl Capture {
    /// Ends the capture; returns its file, in the classic pcap format.
    ///
    /// # Errors
    /// tcpdump does not end well.
    pub fn end(mut self) -> Result<PathBuf> {
        let status = self.tcpdump.stop(libc::SIGINT)?;
        ensure!(status.success(), "tcpdump: {status}: {}", self.tcpdump.log());
        Ok(self.file)
    }
}
