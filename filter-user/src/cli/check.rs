//! `cordon check`.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde::Serialize;

use super::Global;
use crate::{
    config::{Config, Mistake, Mistakes},
    control::api::RefusalLine,
    daemon::{feed_context, refusal_line},
    feed::file::Files,
};

#[derive(Default, Serialize)]
struct Report {
    /// In the configuration. Without one that is right, order files are not read.
    mistakes: Vec<Mistake>,
    /// In the order files.
    refusals: Vec<RefusalLine>,
    orders: usize,
    names: usize,
}

/// Reads the configuration and every feed's files as the daemon would.
pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let report = match Config::read(global.file()) {
        Ok(config) => orders(&config)?,
        Err(Mistakes(mistakes)) => Report { mistakes, ..Report::default() },
    };
    global.output.print(&report, |report| text(report, global.file()))?;
    let is_right = report.mistakes.is_empty() && report.refusals.is_empty();
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn orders(config: &Config) -> Result<Report> {
    let paths: Vec<_> = config.feeds.iter().map(|feed| feed.path.clone()).collect();
    let (orders, refusals) = Files::new(&paths).orders(&feed_context(config))?;
    Ok(Report {
        mistakes: Vec::new(),
        refusals: refusals.iter().map(refusal_line).collect(),
        orders: orders.len(),
        names: orders.iter().map(|order| order.names.len()).sum(),
    })
}

fn text(report: &Report, file: &Path) -> String {
    let Report { mistakes, refusals, orders, names } = report;
    let mut text: String = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
    text.extend(refusals.iter().map(|refusal| format!("{refusal}\n")));
    if mistakes.is_empty() {
        let refused = refusals.len();
        text.push_str(&format!("{}: {orders} orders, {names} names, {refused} refusals", file.display()));
    }
    text
}
