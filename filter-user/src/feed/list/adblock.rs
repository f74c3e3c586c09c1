//! Domain rules of ad blockers: `||x^` stops x and what is below it, `||*.x^` what is below it, `|x^` x alone;
//! `@@||x^` leaves x out. What else such lists hold says something about addresses of pages, their elements or the
//! pages that they stand in, which a name cannot carry: it is refused, and a rule of that kind that leaves something
//! out leaves out the whole name.

use super::{Reach, Rows};

pub(super) fn row(line: &str, rows: &mut Rows<'_>) {
    let text = line.trim();
    let is_comment = text.starts_with('!') || text == "#" || text.starts_with("# ");
    if text.is_empty() || is_comment || text.starts_with('[') && text.ends_with(']') {
        return;
    }
    rows.lines += 1;
    if ELEMENTS.iter().any(|mark| text.contains(mark)) {
        return rows.refuse(text, "hides elements of a page");
    }
    match text.strip_prefix("@@") {
        Some(rule) => exception(rule, rows),
        None => block(text, rows),
    }
}

fn block(text: &str, rows: &mut Rows<'_>) {
    let (pattern, options) = split(text);
    let narrowing = options.split(',').find(|option| !is_wide(option));
    let (reach, anchored) = if let Some(rest) = pattern.strip_prefix("||*.") {
        (Reach::Below, Some(rest))
    } else if let Some(rest) = pattern.strip_prefix("||") {
        (Reach::Subtree, Some(rest))
    } else {
        (Reach::Exact, pattern.strip_prefix('|'))
    };
    let name = anchored.and_then(|rest| rest.strip_suffix('^')).filter(|name| !name.contains(['/', '^', '*', '|']));
    match (name, narrowing) {
        // It takes another rule back; without it that one would stand.
        (_, Some("badfilter")) => rows.leave(host(pattern), Some("a rule for it is taken back")),
        (Some(_), Some(option)) => {
            rows.refuse(text, format_args!("holds only for `{option}`, which a name cannot carry"));
        }
        (Some(name), None) => rows.stop(reach, name),
        (None, _) if pattern.starts_with('/') && pattern.len() > 1 && pattern.ends_with('/') => {
            rows.refuse(text, "is a regular expression");
        }
        (None, _) if anchored.is_some_and(|rest| rest.contains('/')) => {
            rows.refuse(text, "has a path, which a name cannot carry");
        }
        (None, _) => rows.refuse(text, "is a pattern, and not ||NAME^"),
    }
}

fn exception(rule: &str, rows: &mut Rows<'_>) {
    let (pattern, options) = split(rule);
    let name = host(pattern);
    let is_whole = pattern.strip_suffix('^').is_some_and(|rest| rest.trim_start_matches('|') == name)
        && options.split(',').all(is_wide);
    rows.leave(name, (!is_whole).then_some("an exception for a part of it"));
}

/// Pattern and options.
fn split(rule: &str) -> (&str, &str) {
    rule.rsplit_once('$').unwrap_or((rule, ""))
}

/// Whether an option leaves a rule as wide as it is.
fn is_wide(option: &str) -> bool {
    matches!(option.trim(), "" | "important" | "all")
}

/// The host of a pattern.
fn host(pattern: &str) -> &str {
    let rest = pattern.trim_start_matches('|');
    let rest = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")).unwrap_or(rest);
    let rest = rest.strip_prefix("*.").unwrap_or(rest);
    rest.split(['/', '^', '?', ':', '|']).next().unwrap_or_default()
}

/// What begins the part of a rule that is about elements of a page, scripts or texts in it.
const ELEMENTS: [&str; 9] = ["##", "#@#", "#?#", "#@?#", "#$#", "#@$#", "#%#", "#@%#", "$$"];
