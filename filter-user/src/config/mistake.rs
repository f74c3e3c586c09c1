//! What is wrong in a configuration, and where.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// The offending text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, why } = self;
        write!(out, "{}:", file.display())?;
        if *line > 0 {
            write!(out, "{line}:")?;
        }
        write!(out, " {why}")?;
        if text.is_empty() { Ok(()) } else { write!(out, ": {text}") }
    }
}

/// Every mistake of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// The file cannot be read.
    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        let why = format!("cannot be read: {error}");
        Self(vec![Mistake { file: file.to_owned(), line: 0, text: String::new(), why }])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let line_break = if at == 0 { "" } else { "\n" };
            write!(out, "{line_break}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A file's text, for finding lines.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text }
    }

    /// A mistake in the octets `span`.
    pub(super) fn at(&self, span: Range<usize>, why: impl Into<String>) -> Mistake {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let offending = self.text.get(span).unwrap_or_default();
        Mistake {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            text: shortened(offending),
            why: why.into(),
        }
    }

    /// A mistake of the file as a whole.
    pub(super) fn whole(&self, why: impl Into<String>) -> Mistake {
        Mistake { file: self.file.to_owned(), line: 0, text: String::new(), why: why.into() }
    }

    /// What the toml crate found.
    pub(super) fn shape(&self, error: &toml::de::Error) -> Mistakes {
        Mistakes(vec![self.at(error.span().unwrap_or(0..0), error.message().trim().replace('\n', ", "))])
    }
}

/// The first line of a text, and not too much of it.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push_str(" ...");
    }
    short
}
