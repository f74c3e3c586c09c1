//! A name a line. `*.x` is what is below x, `.x` is x and what is below it, `^x` is x alone, `x^` is x. Comments stand
//! after `#`, `!` or `;` at the start of a line, and after a space and `#`.

use super::{Reach, Rows};

pub(super) fn row(line: &str, rows: &mut Rows<'_>) {
    let text = without_comment(line);
    if text.is_empty() || text.starts_with(['!', ';']) {
        return;
    }
    rows.lines += 1;
    name(text, rows);
}

/// A name in one of its forms.
pub(super) fn name(text: &str, rows: &mut Rows<'_>) {
    let (reach, name) = if let Some(name) = text.strip_prefix("*.") {
        (Reach::Below, name)
    } else if let Some(name) = text.strip_prefix('^') {
        (Reach::Exact, name)
    } else if let Some(name) = text.strip_prefix('.') {
        (Reach::Subtree, name)
    } else {
        (Reach::AsOrdered, text)
    };
    rows.stop(reach, name.strip_suffix('^').unwrap_or(name));
}

/// The line without spaces around it and without a comment that begins with `#`.
pub(super) fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if !line.contains('#') {
        return line;
    }
    let is_comment =
        |at: usize| line.get(..at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']));
    let end = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    end.and_then(|end| line.get(..end)).unwrap_or(line).trim_end()
}
