//! Master files (RFC 1035 5.1): from octets to records, one after the other.
//!
//! A record may go over several lines within parentheses; `;` begins a comment; `\` takes the meaning from the
//! character behind it. What cannot be told apart any more (a quote or parenthesis that nobody closes) makes the file
//! no master file; a record with mistakes is given as it is.

use std::io::{self, BufRead};

use super::owner::{self, OwnerError};
use crate::feed::lines::{Line, Lines};

/// Reads records.
pub(super) struct Master<R> {
    lines: Lines<R>,
    /// Key of what is appended to relative names.
    origin: Vec<u8>,
    /// Of the last record, for those that begin with a blank.
    owner: Result<Vec<u8>, (String, OwnerError)>,
    words: Words,
}

/// The words of one record.
#[derive(Default)]
pub(super) struct Words {
    octets: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// The first line begins with a blank.
    is_indented: bool,
    /// Line of the first word.
    line: u64,
}

/// One record, as it stands in the file.
pub(super) struct Record<'a> {
    /// Line of its first word, from 1.
    pub line: u64,
    /// Key of its owner, or its text and what is wrong with that.
    pub owner: &'a Result<Vec<u8>, (String, OwnerError)>,
    /// Its class, if it is not IN.
    pub class: Option<&'a [u8]>,
    /// Its type as it is written; empty where none is.
    pub rtype: &'a [u8],
    /// The words of its data.
    pub data: Data<'a>,
    /// What is appended to relative names in its data.
    pub origin: &'a [u8],
}

/// Words of a record.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    words: &'a Words,
    first: usize,
}

/// Why a file is not a zone, and where.
#[derive(Debug)]
pub(super) struct Broken {
    pub line: u64,
    pub text: String,
    pub why: String,
}

/// The next thing in a file.
pub(super) enum Next<'a> {
    Record(Record<'a>),
    End,
    Broken(Broken),
}

impl Words {
    /// One word.
    pub(super) fn one(word: &[u8]) -> Self {
        Self { octets: word.to_vec(), ends: vec![word.len()], ..Self::default() }
    }
}

impl<'a> Data<'a> {
    /// All of the words.
    pub(super) fn of(words: &'a Words) -> Self {
        Self { words, first: 0 }
    }
}

impl<R: BufRead> Master<R> {
    /// `origin` is the key of the origin that holds until the file gives another.
    pub(super) fn new(input: R, origin: &[u8]) -> Self {
        Self {
            lines: Lines::new(input, MAX_LINE),
            origin: origin.to_vec(),
            owner: Ok(origin.to_vec()),
            words: Words::default(),
        }
    }

    /// The next record.
    ///
    /// # Errors
    /// Those of the input.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        loop {
            if let Some(broken) = self.words.read(&mut self.lines)? {
                return Ok(Next::Broken(broken));
            }
            if self.words.ends.is_empty() {
                return Ok(Next::End);
            }
            if self.words.is_indented || !self.words.word(0).starts_with(b"$") {
                break;
            }
            if let Err(why) = self.directive() {
                let text = self.words.text();
                return Ok(Next::Broken(Broken { line: self.words.line, text, why }));
            }
        }
        let words = &self.words;
        let mut at = 0;
        if !words.is_indented {
            let mut key = match &mut self.owner {
                Ok(key) => std::mem::take(key),
                Err(_) => Vec::new(),
            };
            key.clear();
            let text = words.word(0);
            self.owner = owner::read(text, &self.origin, &mut key)
                .map(|()| key)
                .map_err(|error| (String::from_utf8_lossy(text).into_owned(), error));
            at = 1;
        }
        // TTL and class stand before the type, in either order, or not at all.
        let (mut class, mut has_ttl, mut has_class) = (None, false, false);
        loop {
            let word = words.word(at);
            if !has_class && is_class(word) {
                (class, has_class) = (Some(word).filter(|word| !word.eq_ignore_ascii_case(b"IN")), true);
            } else if !has_ttl && is_ttl(word) {
                has_ttl = true;
            } else {
                break;
            }
            at += 1;
        }
        let data = Data { words, first: at + 1 };
        let (line, owner, rtype) = (words.line, &self.owner, words.word(at));
        Ok(Next::Record(Record { line, owner, class, rtype, data, origin: &self.origin }))
    }

    fn directive(&mut self) -> Result<(), String> {
        let word = self.words.word(0).to_ascii_uppercase();
        let count = self.words.ends.len();
        match &word[..] {
            b"$ORIGIN" if count == 2 => {
                let mut key = Vec::new();
                owner::read(self.words.word(1), &self.origin, &mut key).map_err(|error| format!("$ORIGIN {error}"))?;
                self.origin = key;
                Ok(())
            }
            b"$TTL" if count == 2 && is_ttl(self.words.word(1)) => Ok(()),
            b"$ORIGIN" => Err("$ORIGIN has one name behind it".to_owned()),
            b"$TTL" => Err("$TTL has one time behind it".to_owned()),
            b"$INCLUDE" => Err("$INCLUDE is not followed: a zone is one file".to_owned()),
            _ => Err(format!("{} is none of $ORIGIN and $TTL", String::from_utf8_lossy(&word))),
        }
    }
}

impl Words {
    /// Reads the words of the next record; none at the end.
    fn read<R: BufRead>(&mut self, lines: &mut Lines<R>) -> io::Result<Option<Broken>> {
        self.octets.clear();
        self.ends.clear();
        let mut open = 0_u32;
        let mut opened = 0;
        loop {
            let Some((number, line)) = lines.next()? else {
                let why = "a parenthesis that is opened here is never closed";
                return Ok((open > 0).then(|| broken(opened, why)));
            };
            let line = match line {
                Line::Whole(line) => line,
                Line::TooLong(limit) => {
                    return Ok(Some(broken(number, format!("the line is longer than {limit} octets"))));
                }
            };
            if self.ends.is_empty() && open == 0 {
                self.line = number;
                self.is_indented = matches!(line.first(), Some(b' ' | b'\t'));
            }
            let before = open;
            if let Err(why) = self.line(line, &mut open) {
                return Ok(Some(broken(number, why)));
            }
            if before == 0 && open > 0 {
                opened = number;
            }
            if self.octets.len() > MAX_RECORD {
                return Ok(Some(broken(self.line, format!("the record is longer than {MAX_RECORD} octets"))));
            }
            if open == 0 && !self.ends.is_empty() {
                return Ok(None);
            }
        }
    }

    fn line(&mut self, line: &[u8], open: &mut u32) -> Result<(), &'static str> {
        let mut rest = line;
        while let Some((octet, behind)) = rest.split_first() {
            match octet {
                b' ' | b'\t' => rest = behind,
                b';' => return Ok(()),
                b'(' => (*open, rest) = (*open + 1, behind),
                b')' => {
                    *open = open.checked_sub(1).ok_or("a parenthesis is closed that was not opened")?;
                    rest = behind;
                }
                b'"' => rest = self.word_until(behind, |octet| octet == b'"').split_first().ok_or(OPEN_QUOTE)?.1,
                _ => rest = self.word_until(rest, |octet| matches!(octet, b' ' | b'\t' | b';' | b'(' | b')' | b'"')),
            }
        }
        Ok(())
    }

    /// Takes a word, and gives what follows it.
    fn word_until<'a>(&mut self, text: &'a [u8], is_end: impl Fn(u8) -> bool) -> &'a [u8] {
        let mut is_escaped = false;
        let end = text.iter().position(|octet| {
            let ends = !is_escaped && is_end(*octet);
            is_escaped = !is_escaped && *octet == b'\\';
            ends
        });
        let (word, rest) = text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, &[]));
        self.octets.extend_from_slice(word);
        self.ends.push(self.octets.len());
        rest
    }

    /// All words, for reports.
    fn text(&self) -> String {
        let words = (0..self.ends.len()).map(|at| String::from_utf8_lossy(self.word(at)));
        words.collect::<Vec<_>>().join(" ")
    }

    /// A word by its number; empty behind the last.
    fn word(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends.get(at - 1).copied().unwrap_or_default() };
        self.ends.get(at).and_then(|end| self.octets.get(start..*end)).unwrap_or_default()
    }
}

impl<'a> Data<'a> {
    /// How many words there are.
    pub(super) fn count(self) -> usize {
        self.words.ends.len().saturating_sub(self.first)
    }

    /// A word by its number, from 0; empty behind the last.
    pub(super) fn word(self, at: usize) -> &'a [u8] {
        self.words.word(self.first + at)
    }
}

fn broken(line: u64, why: impl Into<String>) -> Broken {
    Broken { line, text: String::new(), why: why.into() }
}

/// A class (RFC 1035 3.2.4, RFC 3597 5).
fn is_class(word: &[u8]) -> bool {
    let is_known = [&b"IN"[..], b"CH", b"CS", b"HS"].iter().any(|class| word.eq_ignore_ascii_case(class));
    is_known
        || word.split_at_checked(5).is_some_and(|(class, number)| {
            class.eq_ignore_ascii_case(b"CLASS") && !number.is_empty() && number.iter().all(u8::is_ascii_digit)
        })
}

/// A time in seconds, or with the units that BIND and Knot know, as 1h30m.
fn is_ttl(word: &[u8]) -> bool {
    word.first().is_some_and(u8::is_ascii_digit)
        && word.iter().all(|octet| {
            octet.is_ascii_digit() || matches!(octet.to_ascii_lowercase(), b'w' | b'd' | b'h' | b'm' | b's')
        })
}

/// Longest line, in octets.
const MAX_LINE: usize = 1 << 16;

/// Longest record, in octets.
const MAX_RECORD: usize = 1 << 18;

const OPEN_QUOTE: &str = "a quote is not closed on its line";
