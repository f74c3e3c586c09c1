//! docs/benchmarks.md: what this run measured, as a page.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::{
    bars::BARS,
    machine::Facts,
    plots,
    report::{Report, Row, Table},
    spread::Spread,
};

/// Writes `benchmarks.md` and the plots in `benchmarks/` into a folder.
pub fn write(folder: &Path, revision: &str, machine: &Facts, report: &Report) -> Result<()> {
    let pictures = folder.join("benchmarks");
    fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
    let plots = plots::of(report);
    for plot in &plots {
        let path = pictures.join(plot.file);
        fs::write(&path, plot.svg()).with_context(|| path.display().to_string())?;
    }
    let mut page = String::new();
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let source = if revision.is_empty() { String::new() } else { format!(", of revision {revision}") };
    writeln!(
        page,
        "# Benchmarks\n\nWritten by `cargo xtask bench` on {date}{source}; changes by hand are lost. {HOW}\n"
    )?;
    writeln!(page, "## The machine\n\n| | |\n|---|---|")?;
    for (what, how) in machine {
        writeln!(page, "| {what} | {} |", escaped(how))?;
    }
    page.push('\n');
    for (part, why) in report.failed() {
        writeln!(
            page,
            "**The part `{part}` came to no good end, and what it had still to measure is missing:** {why}\n"
        )?;
    }
    bars(&mut page, report)?;
    writeln!(page, "## Plots\n\nMedians of *honest* packets; the thin lines are the range of the runs.\n")?;
    for plot in &plots {
        writeln!(page, "![{}](benchmarks/{})\n", plot.title, plot.file)?;
    }
    report.tables().iter().try_for_each(|part| table(&mut page, part))?;
    let path = folder.join("benchmarks.md");
    fs::write(&path, page.trim_end().to_owned() + "\n").with_context(|| path.display().to_string())
}

const HOW: &str = "Every figure is the median of its runs, with the least and the most of them; costs are those above an \
    empty program of the same run. `cargo xtask bench --quick` measures less, and prints; `cargo xtask bench --compare \
    REV` shows what changed since a revision.";

const PLAIN: &str = "The last column is what a program takes in the same run that does the least that the row needs, and \
    nothing of what decides: it compares a port, reads one line of memory at random (of a listed name two), or copies an \
    Initial unseen. See *Plain programs, for scale*.";

fn bars(page: &mut String, report: &Report) -> Result<()> {
    writeln!(page, "## Bars\n\n{PLAIN}\n\n| what | bar | measured | | plain program |\n|---|---|---|---|---|")?;
    for bar in &BARS {
        let [figure, plain] =
            [bar.figure(report), bar.plain(report)].map(|found| found.map_or_else(String::new, Spread::to_string));
        writeln!(page, "| {} | ≤ {} {} | {figure} | {} | {plain} |", bar.what, bar.limit, bar.unit, bar.word(report))?;
    }
    page.push('\n');
    Ok(())
}

fn table(page: &mut String, table: &Table) -> Result<()> {
    writeln!(page, "## {}\n", table.heading)?;
    if !table.text.is_empty() {
        writeln!(page, "{}\n", table.text)?;
    }
    if !table.rows.is_empty() {
        let columns = table.columns.iter().map(|column| format!(" {} |", escaped(column))).collect::<String>();
        writeln!(page, "| |{columns}\n|---|{}", "---|".repeat(table.columns.len()))?;
        table.rows.iter().try_for_each(|one| row(page, one))?;
        page.push('\n');
    }
    table.notes.iter().try_for_each(|note| writeln!(page, "{note}\n"))?;
    Ok(())
}

fn row(page: &mut String, row: &Row) -> Result<()> {
    let cells = row.cells.iter().map(|cell| format!(" {} |", escaped(&cell.to_string()))).collect::<String>();
    writeln!(page, "| {} |{cells}", escaped(&row.title))?;
    Ok(())
}

/// As it may stand in a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cell;

    #[test]
    fn a_page_has_machine_failures_bars_plots_and_tables() {
        let mut report = Report::default();
        let table = report.table(Table::new("packets-1000000", "Per packet", &["hot", "honest"]).text("How."));
        let data = |values: [f64; 3]| Cell::from(Spread::of(values.into()));
        table.row("mid-connection data", [data([9.0, 8.0, 12.0]), data([18.0, 25.0, 17.0])]);
        table.row("a | b", [Cell::from("absent".to_owned())]);
        table.note("Behind.");
        let sweep = report.table(Table::new("labels", "Labels", &[crate::sweeps::HONEST]));
        sweep.point("1 labels", 1.0, [data([50.0, 40.0, 60.0])]);
        sweep.point("8 labels", 8.0, [data([70.0, 65.0, 90.0])]);
        report.fail("live", "no veth".to_owned());

        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "abc1234", &vec![("Kernel", "Linux 6 | 1".to_owned())], &report).unwrap();
        let page = fs::read_to_string(folder.path().join("benchmarks.md")).unwrap();
        for part in [
            "of revision abc1234; ",
            "| Kernel | Linux 6 \\| 1 |\n",
            "**The part `live` came to no good end, and what it had still to measure is missing:** no veth\n",
            "| data packet of a connection, no state, one flow | ≤ 10 ns | 9.00 (8.00 to 12.00) | met |  |\n",
            "| live: forwarding of data | ≤ 1.03 times |  | not measured |  |\n",
            "(benchmarks/labels.svg)\n",
            "## Per packet\n\nHow.\n\n| | hot | honest |\n|---|---|---|\n| mid-connection data | 9.00 (8.00 to 12.00) | 18 (17 to 25) |\n| a \\| b | absent |\n\nBehind.\n",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        let picture = fs::read_to_string(folder.path().join("benchmarks/labels.svg")).unwrap();
        assert!(picture.starts_with("<svg "), "{picture}");
        assert!(!folder.path().join("benchmarks/shares.svg").exists(), "a plot of nothing");
    }
}
