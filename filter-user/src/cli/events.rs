//! `cordon events`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;

use super::{Global, output::Output};
use crate::control::{api::EventLine, client::ClientError};

#[derive(Args, Debug)]
pub(super) struct Events {
    /// Tell what happens from now on, until interrupted, instead of the latest events
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let mut out = io::stdout().lock();
        let ended = global.client()?.lines(&format!("/v1/events?follow={}", self.follow), |line| {
            match global.output {
                Output::Json => writeln!(out, "{line}")?,
                Output::Text | Output::Csv => writeln!(out, "{}", text(&serde_json::from_str(line)?))?,
            }
            out.flush()
        });
        match ended {
            // Whoever reads our output has left.
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            ended => Ok(ended.map(|()| ExitCode::SUCCESS)?),
        }
    }
}

fn text(event: &EventLine) -> String {
    let EventLine { time, name, rule, order, protocol, verdict, reason, scopes, client } = event;
    let client = client.map_or(String::new(), |client| format!("  client {client}"));
    let scopes = if scopes.is_empty() { String::new() } else { format!("  scopes {}", scopes.join(",")) };
    format!("{time:.3}  {protocol}  {name}  {verdict} ({reason})  rule {rule} of {order}{scopes}{client}")
}
