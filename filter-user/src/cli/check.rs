//! `cordon check`.

use std::{fs, io, path::Path, process::ExitCode};

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
    /// What guards would hold until it is approved. The order book knows what was.
    held: Vec<RefusalLine>,
    orders: usize,
    names: usize,
}

/// Reads the configuration and every feed's files as the daemon would.
pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let report = match Config::read(global.file()) {
        Ok(config) => orders(&config, global.file()),
        Err(Mistakes(mistakes)) => Report { mistakes, ..Report::default() },
    };
    global.output.print(&report, |report| text(report, global.file()))?;
    let is_right = report.mistakes.is_empty() && report.refusals.is_empty();
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn orders(config: &Config, file: &Path) -> Report {
    let mistake = |text: String, why: String| Mistake { file: file.to_owned(), line: 0, text, why };
    let (mut inputs, mut mistakes) = (Vec::new(), Vec::new());
    for feed in &config.feeds {
        if feed.remote.is_some() {
            // What was fetched last, if anything was.
            inputs.extend(feed.path.exists().then(|| feed.input()));
            continue;
        }
        match readable(&feed.path) {
            Ok(()) => inputs.push(feed.input()),
            Err(error) => {
                let why = format!("feed {}: cannot be read: {error}", feed.name);
                mistakes.push(mistake(feed.path.display().to_string(), why));
            }
        }
    }
    let (orders, refusals, held) = Files::new(inputs).orders(&feed_context(config)).unwrap_or_else(|error| {
        mistakes.push(mistake(String::new(), error.to_string()));
        Default::default()
    });
    Report {
        mistakes,
        refusals: refusals.iter().map(refusal_line).collect(),
        held: held.iter().map(refusal_line).collect(),
        orders: orders.len(),
        names: orders.iter().map(|order| order.names.len()).sum(),
    }
}

fn readable(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::read_dir(path).map(drop) } else { fs::File::open(path).map(drop) }
}

fn text(report: &Report, file: &Path) -> String {
    let Report { mistakes, refusals, held, orders, names } = report;
    let mut text: String = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
    text.extend(refusals.iter().map(|refusal| format!("{refusal}\n")));
    text.extend(held.iter().map(|held| format!("held until it is approved: {held}\n")));
    if mistakes.is_empty() {
        let refused = refusals.len();
        text.push_str(&format!("{}: {orders} orders, {names} names, {refused} refusals", file.display()));
        if !held.is_empty() {
            text.push_str(&format!(", {} names to approve", held.len()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feed_that_is_not_there_is_a_mistake_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let feed = |name: &str| format!("[[feed]]\nname = \"{name}\"\nkind = \"native\"\npath = \"{name}\"\n");
        let file = folder.path().join("cordon.toml");
        let config = Config::parse(&["a", "there", "b"].map(feed).concat(), &file).unwrap();
        fs::write(folder.path().join("there"), "no JSON\n").unwrap();

        let report = orders(&config, &file);
        let told: Vec<String> = report.mistakes.iter().map(ToString::to_string).collect();
        let expected = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            let error = "cannot be read: No such file or directory (os error 2)";
            format!("{}: feed {name}: {error}: {}", file.display(), path.display())
        });
        assert_eq!(told, expected);
        assert_eq!(report.refusals.len(), 1);
    }
}
