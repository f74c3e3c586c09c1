//! Printing of results.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// One JSON object, or JSON Lines.
    Json,
    /// Lines of comma-separated values (RFC 4180).
    Csv,
}

impl Output {
    /// Prints one result.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        let printed = match self {
            Self::Text | Self::Csv => text(value),
            Self::Json => serde_json::to_string(value)?,
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{}", printed.trim_end())?;
        out.flush()
    }
}

/// Rows in columns as wide as they must be, two blanks between them.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "bcd".to_owned()], vec!["éf".to_owned(), "g".to_owned()]];
        assert_eq!(table(&rows), "a   bcd\néf  g\n");
    }
}
