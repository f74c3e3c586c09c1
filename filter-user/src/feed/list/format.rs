//! The formats of lists, and how one is recognised.

use std::net::IpAddr;

use super::csv::Columns;

/// How a list is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A name a line.
    Plain,
    /// `0.0.0.0 NAME ...`, as in /etc/hosts.
    Hosts,
    /// `address=/NAME/`, `server=/NAME/`, `local=/NAME/`.
    Dnsmasq,
    /// `||NAME^`.
    Adblock,
    /// Columns. Never recognised, since which column has the names must be said.
    Csv(Columns),
}

/// The format of a file that begins so: what its first rows have in common.
pub(super) fn recognise(beginning: &str) -> Result<Format, String> {
    let mut lines: Vec<&str> = beginning.split('\n').collect();
    if lines.len() > 1 {
        // It may be cut off.
        lines.pop();
    }
    let mut found: Option<(Format, usize)> = None;
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.starts_with("[Adblock") {
            return Ok(Format::Adblock);
        }
        let Some(format) = of_row(line) else { continue };
        match &found {
            None => found = Some((format, index + 1)),
            Some((known, at)) if *known != format => {
                let at = [*at, index + 1];
                let words = [known.word(), format.word()];
                return Err(format!(
                    "its format is not clear: line {} is {}, line {} is {}; state it by `format`",
                    at[0], words[0], at[1], words[1]
                ));
            }
            Some(_) => {}
        }
    }
    Ok(found.map_or(Format::Plain, |(format, _)| format))
}

/// What a row looks like; nothing where it could be in any list.
fn of_row(line: &str) -> Option<Format> {
    let first = line.split_ascii_whitespace().next()?;
    if line.starts_with(['#', '!', ';']) {
        return None;
    }
    let is_option = line
        .split_once('=')
        .is_some_and(|(word, _)| word.trim_end().bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-'));
    if line.starts_with("||") || line.starts_with("@@") {
        Some(Format::Adblock)
    } else if is_option {
        Some(Format::Dnsmasq)
    } else if first.parse::<IpAddr>().is_ok() {
        (line.len() > first.len()).then_some(Format::Hosts)
    } else {
        Some(Format::Plain)
    }
}

impl Format {
    /// The word of the configuration.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Hosts => "hosts",
            Self::Dnsmasq => "dnsmasq",
            Self::Adblock => "adblock",
            Self::Csv(_) => "csv",
        }
    }
}
