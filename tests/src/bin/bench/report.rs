//! What was measured: tables of figures, printed row by row as they come, and kept for the document.

use std::fmt;

use crate::spread::Spread;

/// Everything that this run measured.
#[derive(Default)]
pub struct Report {
    tables: Vec<Table>,
    /// Parts that came to no good end, and why.
    failed: Vec<(&'static str, String)>,
}

impl Report {
    /// Begins a table, under which the next rows come.
    pub fn table(&mut self, table: Table) -> &mut Table {
        println!("\n{}", table.heading);
        if !table.columns.is_empty() {
            let columns: String = table.columns.iter().map(|column| format!(" {column:>CELL$}")).collect();
            println!("{:<TITLE$}{columns}", "");
        }
        self.tables.push(table);
        let last = self.tables.len() - 1;
        &mut self.tables[last]
    }

    /// Notes that a part came to no good end.
    pub fn fail(&mut self, part: &'static str, why: String) {
        self.failed.push((part, why));
    }

    /// In the order in which they were begun.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// See [`Report::fail`].
    pub fn failed(&self) -> &[(&'static str, String)] {
        &self.failed
    }

    /// The table of this id.
    pub fn find(&self, id: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// One figure: table, row, column.
    pub fn figure(&self, [id, row, column]: [&str; 3]) -> Option<&Spread> {
        self.find(id)?.figure(row, column)
    }
}

/// Rows of figures.
pub struct Table {
    /// By which bars and plots find it.
    pub id: String,
    /// Its title in the document.
    pub heading: String,
    /// What was measured, and how: paragraphs in Markdown, before the rows.
    pub text: String,
    /// What each column has, with its unit.
    pub columns: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// Paragraphs behind the rows.
    pub notes: Vec<String>,
}

/// Figures of one thing.
pub struct Row {
    /// Of what.
    pub title: String,
    /// Where it stands in a plot.
    pub x: Option<f64>,
    /// One for each column.
    pub cells: Vec<Cell>,
}

/// What stands in a column.
pub enum Cell {
    /// A median with its range.
    Figure(Spread),
    /// Why there is none, or what is no figure.
    Text(String),
}

impl Table {
    /// Without rows.
    pub fn new(id: impl Into<String>, heading: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        let (text, rows, notes) = (String::new(), Vec::new(), Vec::new());
        Self { id: id.into(), heading: heading.into(), text, columns, rows, notes }
    }

    /// With this text before its rows.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Adds a row, and prints it.
    pub fn row(&mut self, title: impl Into<String>, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.add(title.into(), None, cells);
    }

    /// Adds a row that stands at `x` in plots, and prints it.
    pub fn point(&mut self, title: impl Into<String>, x: f64, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.add(title.into(), Some(x), cells);
    }

    fn add(&mut self, title: String, x: Option<f64>, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        let cells: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        println!("{title:<TITLE$}{}", cells.iter().map(|cell| format!(" {cell:>CELL$}")).collect::<String>());
        self.rows.push(Row { title, x, cells });
    }

    /// Adds a paragraph behind the rows, and prints it.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("{text}");
        self.notes.push(text);
    }

    /// The figure of this row and column.
    pub fn figure(&self, row: &str, column: &str) -> Option<&Spread> {
        let column = self.columns.iter().position(|other| other == column)?;
        self.rows.iter().find(|other| other.title == row)?.figure(column)
    }
}

impl Row {
    /// The figure in this column.
    pub fn figure(&self, column: usize) -> Option<&Spread> {
        match self.cells.get(column)? {
            Cell::Figure(spread) => Some(spread),
            Cell::Text(_) => None,
        }
    }
}

impl From<Spread> for Cell {
    fn from(spread: Spread) -> Self {
        Self::Figure(spread)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Figure(spread) => spread.fmt(f),
            Self::Text(text) => f.pad(text),
        }
    }
}

/// Widths in what is printed.
const TITLE: usize = 42;
const CELL: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_table_row_and_column() {
        let mut report = Report::default();
        let table = report.table(Table::new("one", "One", &["hot", "honest"]));
        table.row("SYN", [Cell::from(Spread::of(vec![5.0])), Cell::from("absent".to_owned())]);
        assert_eq!(report.figure(["one", "SYN", "hot"]).map(Spread::median), Some(5.0));
        for place in [["one", "SYN", "honest"], ["one", "SYN", "cold"], ["one", "FIN", "hot"], ["two", "SYN", "hot"]] {
            assert_eq!(report.figure(place), None, "{place:?}");
        }
    }
}
