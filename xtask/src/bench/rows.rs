//! What a benchmark prints, read again: each figure is a median with its range, `14 (12 to 19)`, behind a title. A row
//! has one of them, or one for each column of the table; a table's columns stand in a line that begins with blanks.

use std::{collections::BTreeSet, fmt};

use anyhow::{Result, ensure};

/// Titles with their medians, in the benchmark's order.
#[derive(Debug, Default, PartialEq)]
pub struct Rows(Vec<(String, f64)>);

impl Rows {
    /// Every line that has figures.
    pub fn read(output: &str) -> Self {
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for line in output.lines() {
            if line.starts_with(BLANK) {
                columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
            }
            rows.extend(row(line, &columns));
        }
        Self(rows)
    }
}

/// Before the columns; rows that are indented are so by less.
const BLANK: &str = "                    ";

fn row(line: &str, columns: &[&str]) -> Vec<(String, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let starts: Vec<(usize, f64)> =
        words.windows(4).enumerate().filter_map(|(at, words)| Some((at, median(words)?))).collect();
    let Some((first, _)) = starts.first() else { return Vec::new() };
    let title = words.iter().take(*first).copied().collect::<Vec<_>>().join(" ");
    let title = title.trim_end_matches(':');
    let named = |columns: &[&str]| {
        let each = columns.iter().zip(&starts);
        each.map(|(column, (_, median))| (format!("{title}, {column}"), *median)).collect()
    };
    match starts.len() {
        1 => starts.iter().map(|(_, median)| (title.to_owned(), *median)).collect(),
        count if count == columns.len() => named(columns),
        _ => named(&["hot", "honest"]),
    }
}

/// The median of `median (least to most)`.
fn median(words: &[&str]) -> Option<f64> {
    let [median, least, "to", most] = words else { return None };
    least.strip_prefix('(')?.parse::<f64>().ok()?;
    most.split_once(')')?.0.parse::<f64>().ok()?;
    median.parse().ok()
}

/// The rows of several runs.
#[derive(Default)]
pub struct Series(Vec<(String, Vec<f64>)>);

impl Series {
    /// Takes a run in.
    ///
    /// # Errors
    /// If its rows are not those of the runs before.
    pub fn add(&mut self, run: &Rows) -> Result<()> {
        ensure!(!run.0.is_empty(), "the benchmark printed no figures");
        if self.0.is_empty() {
            self.0 = run.0.iter().map(|(title, _)| (title.clone(), Vec::new())).collect();
        }
        ensure!(
            self.0.iter().map(|(title, _)| title).eq(run.0.iter().map(|(title, _)| title)),
            "two runs of one benchmark printed different rows"
        );
        for ((_, medians), (_, median)) in self.0.iter_mut().zip(&run.0) {
            medians.push(*median);
        }
        Ok(())
    }

    /// A table of every row that both have, the difference being that of runs side by side; then what one lacks.
    pub fn compared_with(&self, after: &Self) -> Vec<String> {
        let mut lines = vec![format!("{:<50} {:>22} {:>22} {:>22}", "", "before", "now", "difference")];
        for (title, before) in &self.0 {
            let Some((_, now)) = after.0.iter().find(|(other, _)| other == title) else { continue };
            let differences: Vec<f64> = before.iter().zip(now).map(|(before, now)| now - before).collect();
            let [before, now, difference] = [before, now, &differences].map(|values| Spread::of(values));
            lines.push(format!("{title:<50} {before:>22} {now:>22} {difference:>22}"));
        }
        for (which, one, other) in [("before", self, after), ("now", after, self)] {
            let known: BTreeSet<&String> = other.0.iter().map(|(title, _)| title).collect();
            let only: Vec<&str> = one
                .0
                .iter()
                .map(|(title, _)| title)
                .filter(|title| !known.contains(title))
                .map(String::as_str)
                .collect();
            if !only.is_empty() {
                lines.push(format!("only {which}: {}", only.join("; ")));
            }
        }
        lines
    }
}

/// A median with its range.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.most < 10.0 && self.least > -10.0 { 2 } else { 0 };
        let text = format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most);
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "cordon: 81864 verified instructions
100000 names from an order file into the kernel: 0.24 s (read 0.02, compile 0.12, write 0.09), 423000 names/s
                                                      hot                     honest
mid-connection data                               14 (12 to 19)              16 (15 to 20)
an empty program, without fetching a packet: 5.00 (5.00 to 6.00) ns
ms from writing a change, beside 1000 names: 12 (7 to 532), median (least to most) of 50
";

    #[test]
    fn rows_are_read_as_they_are_printed() {
        let expected = [
            ("mid-connection data, hot", 14.0),
            ("mid-connection data, honest", 16.0),
            ("an empty program, without fetching a packet", 5.0),
            ("ms from writing a change, beside 1000 names", 12.0),
        ];
        assert_eq!(Rows::read(RUN), Rows(expected.map(|(title, median)| (title.to_owned(), median)).into()));
    }

    #[test]
    fn figures_are_named_by_their_columns_unless_they_are_alone() {
        let output = format!(
            "The daemon: starts\n{:42} {:>24} {:>24}\n{:<42} {:>24} {:>24}\n{:<42} {:>24} {:>24}\n",
            "",
            "s",
            "s of processor time",
            "again",
            "2.10 (2.00 to 3.00)",
            "1.10 (1.00 to 1.20)",
            "copied",
            "",
            "349 (1 to 400)"
        );
        let expected = [("again, s", 2.1), ("again, s of processor time", 1.1), ("copied", 349.0)];
        assert_eq!(Rows::read(&output), Rows(expected.map(|(title, median)| (title.to_owned(), median)).into()));
    }

    #[test]
    fn differences_are_those_of_runs_side_by_side() {
        let (mut before, mut after) = (Series::default(), Series::default());
        for (was, is) in [(100.0, 103.0), (50.0, 54.0), (70.0, 75.0)] {
            before.add(&Rows(vec![("SYN".to_owned(), was), ("gone".to_owned(), 1.0)])).unwrap();
            after.add(&Rows(vec![("new".to_owned(), 1.0), ("SYN".to_owned(), is)])).unwrap();
        }
        let lines = before.compared_with(&after);
        let row: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(row.join(" "), "SYN 70 (50 to 100) 75 (54 to 103) 4.00 (3.00 to 5.00)");
        assert_eq!(lines[2..], ["only before: gone", "only now: new"]);
    }

    #[test]
    fn runs_with_other_rows_are_refused() {
        let mut series = Series::default();
        assert_eq!(series.add(&Rows::default()).unwrap_err().to_string(), "the benchmark printed no figures");
        series.add(&Rows(vec![("SYN".to_owned(), 1.0)])).unwrap();
        let other = series.add(&Rows(vec![("FIN".to_owned(), 1.0)])).unwrap_err();
        assert_eq!(other.to_string(), "two runs of one benchmark printed different rows");
    }
}
