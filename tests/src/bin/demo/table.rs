//! A table for the terminal.

/// Prints a table whose columns are as wide as their contents.
pub fn print<const N: usize>(head: [&str; N], rows: &[[String; N]]) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head);
    println!("{}", widths.map(|width| "-".repeat(width)).join("  "));
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
}
