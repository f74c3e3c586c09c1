//! `cordon check`.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::Global;
use crate::{
    config::Config,
    control::api::RefusalLine,
    daemon::{feed_context, refusal_line},
    feed::file::Files,
};

#[derive(Serialize)]
struct Report {
    orders: usize,
    names: usize,
    refusals: Vec<RefusalLine>,
}

/// Reads the configuration and every feed's files as the daemon would.
pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let config = match Config::read(global.file()) {
        Ok(config) => config,
        Err(mistakes) => {
            global.output.print(&mistakes.0, |_| mistakes.to_string())?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut report = Report { orders: 0, names: 0, refusals: Vec::new() };
    let files = Files::new(&config.feeds.iter().map(|feed| feed.path.clone()).collect::<Vec<_>>());
    let (orders, refusals) = files.orders(&feed_context(&config))?;
    report.orders = orders.len();
    report.names = orders.iter().map(|order| order.names.len()).sum();
    report.refusals = refusals.iter().map(refusal_line).collect();
    global.output.print(&report, |report| {
        let mut text: String = refusals.iter().map(|refusal| format!("{refusal}\n")).collect();
        text.push_str(&format!(
            "{}: {} orders, {} names, {} refusals",
            global.file().display(),
            report.orders,
            report.names,
            report.refusals.len()
        ));
        text
    })?;
    Ok(if report.refusals.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
