//! `cordon events`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;

use super::{Global, output::Output};
use crate::control::{api::EventLine, client::ClientError};

/// Tells what rules met: name, rule, order, protocol, scopes; the client only where the configuration says so. Sampled:
/// over the configured rate, events are left out. The counters of `cordon stats` leave nothing out.
#[derive(Args, Debug)]
pub(super) struct Events {
    /// Go on until interrupted; without it, end after the first event
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let mut out = io::stdout().lock();
        let mut done = false;
        let ended = global.client()?.lines("/v1/events", |line| {
            match global.output {
                Output::Json => writeln!(out, "{line}")?,
                Output::Text => writeln!(out, "{}", text(&serde_json::from_str(line)?))?,
            }
            out.flush()?;
            done = !self.follow;
            if done { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        });
        match ended {
            Err(ClientError::Io(_)) if done => Ok(ExitCode::SUCCESS),
            // Whoever reads our output has left.
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(ExitCode::SUCCESS),
        }
    }
}

fn text(event: &EventLine) -> String {
    let EventLine { time, name, rule, order, protocol, verdict, reason, scopes, client } = event;
    let client = client.map_or(String::new(), |client| format!("  client {client}"));
    let scopes = if scopes.is_empty() { String::new() } else { format!("  scopes {}", scopes.join(",")) };
    format!("{time:.3}  {protocol}  {name}  {verdict} ({reason})  rule {rule} of {order}{scopes}{client}")
}
