//! QUIC in the lab: a server that speaks HTTP/3 at the web server's addresses, and a client that resumes with 0-RTT.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Family, Host, Lab, Process, Source, address, clients::bracketed, eventually, filter::beside, servers};

/// Longest that the server may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server, which goes when this is dropped.
pub struct QuicServer {
    process: Process,
}

/// What the client got for one name.
#[derive(Debug)]
pub struct Asked {
    /// The page; `None` where it never came.
    pub page: Option<String>,
    /// Whether the server took early data.
    pub early_accepted: bool,
    /// From the first packet to the page, or to giving up.
    pub took: Duration,
}

/// What came to the server for one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// ClientHellos.
    pub hellos: u64,
    /// Bytes on streams, early data and other: which is which, a server that is slow to read cannot tell.
    pub bytes: u64,
    /// Pages over HTTP/3 that were asked for.
    pub pages: u64,
}

impl Lab {
    /// Starts the QUIC server at the web server's addresses, IPv4 and IPv6, port 443.
    ///
    /// # Errors
    /// The program was not built, or does not begin.
    pub fn quic_server(&self) -> Result<QuicServer> {
        let program = program()?;
        let addresses = [format!("{}:443", address::WEB[0]), format!("[{}]:443", address::WEB[1])];
        let [v4, v6] = &addresses;
        let mut process = self.spawn(Host::Server, &[&program, "serve", servers::CERTIFICATE, servers::KEY, v4, v6])?;
        eventually(PATIENCE, || {
            process.still_runs()?;
            ensure!(process.log().contains("listening"), "the QUIC server has not begun: {}", process.log());
            Ok(())
        })?;
        Ok(QuicServer { process })
    }

    /// Asks for the names one after the other, all from one socket, by a QUIC client in Rust.
    ///
    /// # Errors
    /// The client cannot be started or fails.
    pub fn ask_quic(&self, family: Family, source: Source, names: &[&str]) -> Result<Vec<Asked>> {
        let (program, to) = (program()?, format!("{}:443", bracketed(family.of(address::WEB))?));
        let words = [&[program.as_str(), "ask", family.of(source), &to], names].concat();
        let answers = self.read(Host::Client, &words)?;
        answers.lines().map(Asked::read).collect()
    }

    /// Connects from one source, then again from another with 0-RTT and much early data.
    ///
    /// # Errors
    /// The first connection fails, or the client.
    pub fn resume_quic(&self, family: Family, first: Source, then: Source, name: &str) -> Result<Asked> {
        let (program, to) = (program()?, format!("{}:443", bracketed(family.of(address::WEB))?));
        let words = [&program, "resume", family.of(first), family.of(then), &to, name];
        Asked::read(self.read(Host::Client, &words)?.trim())
    }

    /// Sends forged Initials to the web server for so many seconds.
    ///
    /// # Errors
    /// The client was not built.
    pub fn flood_quic(&self, family: Family, source: Source, seconds: u64) -> Result<Process> {
        let (program, to) = (program()?, format!("{}:443", bracketed(family.of(address::WEB))?));
        self.spawn(Host::Client, &[&program, "flood", family.of(source), &to, &seconds.to_string()])
    }

    /// The hash of the server's public key, as browsers take it: SHA-256 in base64.
    ///
    /// # Errors
    /// openssl fails.
    pub fn public_key_hash(&self) -> Result<String> {
        let script = format!(
            "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary \
             | openssl base64",
            servers::CERTIFICATE
        );
        Ok(self.read(Host::Server, &["sh", "-c", &script])?.trim().to_owned())
    }
}

impl QuicServer {
    /// What has come for a name so far.
    ///
    /// # Errors
    /// The server said something that is not JSON.
    pub fn arrived(&self, name: &str) -> Result<Arrived> {
        let mut arrived = Arrived::default();
        for line in self.process.log().lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            if event["name"] == name {
                let bytes = event["bytes"].as_u64().unwrap_or(0);
                match event["event"].as_str() {
                    Some("hello") => arrived.hellos += 1,
                    Some("page") => arrived.pages += 1,
                    Some("data") => arrived.bytes += bytes,
                    _ => {}
                }
            }
        }
        Ok(arrived)
    }
}

impl Asked {
    fn read(line: &str) -> Result<Self> {
        let answer: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        Ok(Self {
            page: answer["page"].as_str().map(str::to_owned),
            early_accepted: answer["early_accepted"] == true,
            took: Duration::from_secs_f64(answer["milliseconds"].as_f64().unwrap_or(0.0) / 1e3),
        })
    }
}

fn program() -> Result<String> {
    let path: PathBuf = beside("quic")?;
    path.to_str().map(str::to_owned).context("the build folder's name is not UTF-8")
}
