//! `cordon replay`.

use std::{
    fs,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Global,
    output::{Output, table},
};
use crate::{
    config::Config,
    kernel::{Reading, TlsPorts},
    replay::{self, Options, Stop, Summary},
};

#[derive(Args, Debug)]
pub(super) struct Replay {
    /// Orders in the native format: files, or folders of *.jsonl
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    orders: Vec<PathBuf>,
    /// Captures
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pcap: Vec<PathBuf>,
    /// Run the deferred tier as well, which reads QUIC and segments out of order: each of its decisions takes effect
    /// before the next frame. Without it, the kernel decides alone
    #[arg(long)]
    lockstep: bool,
    /// Take names that the guards would refuse: test lists hold popular names
    #[arg(long)]
    no_guards: bool,
    /// Ports that DNS is read on [default: the configuration's, or 53]
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    dns_ports: Option<Vec<u16>>,
    /// Ports that TLS is read on, or `any` [default: the configuration's, or 443]
    #[arg(long, value_name = "PORT", value_parser = tls_ports)]
    tls_ports: Option<TlsPorts>,
    /// Ports that QUIC is read on [default: the configuration's, or 443]
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    quic_ports: Option<Vec<u16>>,
    /// Compare the orders' dates with this time, such as 2025-06-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

fn tls_ports(text: &str) -> Result<TlsPorts, String> {
    if text == "any" {
        return Ok(TlsPorts::Any);
    }
    let ports: Result<_, _> = text.split(',').map(|port| port.trim().parse()).collect();
    ports.map(TlsPorts::List).map_err(|_| "neither ports, such as 443,8443, nor `any`".to_owned())
}

impl Replay {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let config = global.config.is_some().then(|| global.config()).transpose()?;
        let known = config.as_ref().map(|config| config.ports.clone());
        let known = known.unwrap_or_else(|| Config::default().ports);
        let reading = Reading {
            dns: self.dns_ports.unwrap_or(known.dns),
            tls: self.tls_ports.unwrap_or(known.tls),
            quic: self.quic_ports.unwrap_or(known.quic),
            encrypted_dns: known.encrypted_dns,
        };
        if let Some(missing) = self.orders.iter().chain(&self.pcap).find(|path| !path.exists()) {
            bail!("{}: no such file", missing.display());
        }
        let progress = progress(&self.pcap);
        let options = Options {
            orders: self.orders,
            captures: self.pcap,
            config,
            guards: !self.no_guards,
            reading,
            lockstep: self.lockstep,
            at: self.at,
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let output = global.output;
        let report = |stop: &Stop<'_>| match output {
            Output::Json => {
                serde_json::to_writer(&mut out, stop)?;
                out.write_all(b"\n")
            }
            Output::Text | Output::Csv => progress.suspend(|| writeln!(out, "{}", stop_line(stop))),
        };
        let summary = replay::run(&options, &progress, report, |refusal| eprintln!("cordon: {refusal}"))?;
        progress.finish_and_clear();
        match output {
            Output::Json => {
                serde_json::to_writer(&mut out, &Last { summary: &summary })?;
                out.write_all(b"\n")?;
            }
            Output::Text | Output::Csv => out.write_all(summary_text(&summary).as_bytes())?,
        }
        out.flush()?;
        Ok(if summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[derive(Serialize)]
struct Last<'a> {
    summary: &'a Summary,
}

fn progress(captures: &[PathBuf]) -> ProgressBar {
    let bytes = captures.iter().filter_map(|capture| fs::metadata(capture).ok()).map(|data| data.len()).sum();
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn stop_line(stop: &Stop<'_>) -> String {
    let Stop { pcap, frame, verdict, reason, name, rule, orders } = stop;
    let name = name.as_deref().unwrap_or("-");
    let rule = rule.as_deref().unwrap_or("-");
    format!("{}:{frame}  {verdict} ({reason})  {name}  rule {rule}  {}", pcap.display(), orders.join(" "))
}

fn summary_text(summary: &Summary) -> String {
    let Summary { captures, packets, bytes, ns_per_packet, seconds, .. } = summary;
    let mut text = format!(
        "\n{packets} packets of {captures} captures, {bytes} octets, {seconds} s; {ns_per_packet} ns a packet (median of single runs)\n"
    );
    let mut rows = vec![["verdict", "reason", "packets"].map(str::to_owned).to_vec()];
    for (verdict, reasons) in &summary.verdicts {
        for (reason, count) in reasons {
            rows.push(vec![(*verdict).to_owned(), (*reason).to_owned(), count.to_string()]);
        }
    }
    text.push_str(&table(&rows));
    for (count, what) in [
        (summary.too_short, "frames are shorter than an Ethernet header, and were not run"),
        (summary.not_run, "frames were not run, because the kernel refused them"),
        (summary.refusals, "entries of the order files were not taken"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
    }
    for problem in &summary.problems {
        text.push_str(&format!("{}: after {} frames: {}\n", problem.pcap.display(), problem.frames, problem.why));
    }
    text
}
