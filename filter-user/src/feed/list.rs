//! Lists: files that carry names and nothing else. The configuration binds each to one order, of which the list gives
//! the names; reading one gives a put of that order.
//!
//! - A row never stops more than it says itself, nor more than the order's `match` says. A row that says less than
//!   `match` is refused, and so is one that says something a name cannot: a path, a content type, a client.
//! - A row that leaves something out leaves out the whole name and what is below it, in the order's `except`: of
//!   `@@||x^` all of it, as ad blockers do, and so of the configuration's `except`; of `server=/x/#` as much as no longer
//!   row stops, as dnsmasq does. If the name of such a row cannot be read, the whole list is refused, since without it
//!   the order would reach further than the list says.
//! - Other rows are refused alone, and the rest is taken. A list without a name, or of which no row is taken, changes
//!   nothing; the same holds where the file as a whole is not what it should be.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, BufRead, Read as _},
    ops::Range,
    sync::Arc,
};

use encoding_rs::Encoding;

use self::charset::Decoder;
use super::{
    Context, Entry, Event, Refusal,
    lines::{Line, Lines},
    native::Read,
};
use crate::{
    guard::Guarded,
    many,
    name::{Name, list::sorted},
    order::{Match, Order, Terms},
};

mod adblock;
mod charset;
mod csv;
mod dnsmasq;
mod format;
mod hosts;
mod plain;

pub use csv::{Column, Columns};
pub use format::Format;

/// How a list is read, and the order that its names belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The order, all but the names.
    pub terms: Arc<Terms>,
    /// What the order leaves out, whatever the list says.
    pub except: BTreeSet<Name>,
    /// `None`: recognised by the first rows of each file.
    pub format: Option<Format>,
    /// Its character set.
    pub charset: &'static Encoding,
}

/// How far a row itself says that its name reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It is a name; the order says how far.
    AsOrdered,
    /// The name alone.
    Exact,
    /// The name and what is below it.
    Subtree,
    /// What is below it.
    Below,
}

/// A reading: takes the files that make up the list, one after the other.
pub(super) struct Reader<'a> {
    list: &'a List,
    context: &'a Context,
    /// What the list as a whole is called.
    source: Arc<str>,
    rows: Rows<'a>,
}

/// What the rows came to so far.
struct Rows<'a> {
    reach: Match,
    guards: Guarded<'a>,
    names: Vec<Name>,
    /// Rows that stop something, and are not looked at yet.
    waiting: Waiting,
    except: BTreeSet<Name>,
    /// Of these, those that no longer row gets around.
    whole: BTreeSet<Name>,
    /// Rows of what is below a name, in an order whose names reach it as well: right if the name is listed, too.
    below: Vec<(Arc<str>, u64, Name)>,
    refusals: Vec<Refusal>,
    /// Refusals that are not among them.
    more_refusals: u64,
    /// The list as a whole is not taken.
    is_broken: bool,
    file: Arc<str>,
    line: u64,
    lines: u64,
}

/// Rows that stop something, one behind the other: names are parsed many at a time.
#[derive(Default)]
struct Waiting {
    text: String,
    rows: Vec<Row>,
}

/// One of them.
struct Row {
    line: u64,
    reach: Reach,
    /// Where its name lies.
    name: Range<usize>,
}

impl<'a> Reader<'a> {
    /// `source` names the list in refusals of the whole.
    pub(super) fn new(source: &str, list: &'a List, context: &'a Context) -> Self {
        let source: Arc<str> = source.into();
        let rows = Rows {
            reach: list.terms.reach,
            guards: context.guards.of(&source),
            names: Vec::new(),
            waiting: Waiting::default(),
            except: list.except.clone(),
            whole: list.except.clone(),
            below: Vec::new(),
            refusals: Vec::new(),
            more_refusals: 0,
            is_broken: false,
            file: source.clone(),
            line: 0,
            lines: 0,
        };
        Self { list, context, source, rows }
    }

    /// Reads one file.
    ///
    /// # Errors
    /// Those of `input`. Then nothing that was read so far is to be used.
    pub(super) fn file(&mut self, file: &str, input: impl BufRead) -> io::Result<()> {
        self.rows.file = file.into();
        self.rows.line = 0;
        let mut input = input;
        let start = charset::start(&mut input)?;
        if let Some(why) = charset::is_other(&start, self.list.charset) {
            self.rows.broken(why);
            return Ok(());
        }
        let (mut decoder, input) = Decoder::new(self.list.charset, io::Cursor::new(start.clone()).chain(input));
        let format = match &self.list.format {
            Some(format) => format.clone(),
            None => match format::recognise(&decoder.beginning(&start)) {
                Ok(format) => format,
                Err(why) => {
                    self.rows.broken(why);
                    return Ok(());
                }
            },
        };
        let mut lines = Lines::new(input, MAX_LINE);
        let each = match &format {
            Format::Csv(columns) => {
                csv::read(&mut lines, &mut decoder, columns, &mut self.rows)?;
                self.rows.take_waiting();
                return Ok(());
            }
            Format::Plain => plain::row,
            Format::Hosts => hosts::row,
            Format::Dnsmasq => dnsmasq::row,
            Format::Adblock => adblock::row,
        };
        while let Some((number, line)) = lines.next()? {
            self.rows.line = number;
            if let Some(text) = self.rows.decoded(line, &mut decoder) {
                each(&text, &mut self.rows);
            }
        }
        self.rows.take_waiting();
        Ok(())
    }

    /// What the files say.
    pub(super) fn finish(self) -> Read {
        let Self { list, context, source, mut rows } = self;
        let mut names = sorted(std::mem::take(&mut rows.names));
        rows.check_below(&names);
        let is_empty = names.is_empty();
        // In an order the longer of a name and an exception decides. Taken out by name, they are held by no guard.
        let is_out = |name: &Name| name.suffixes().any(|suffix| rows.whole.contains(&suffix));
        let out: BTreeSet<Name> =
            if rows.whole.is_empty() { BTreeSet::new() } else { names.extract_if(.., is_out).collect() };
        (rows.file, rows.line) = (source.clone(), 0);
        let unfit = context.check(&list.terms);
        rows.is_broken |= !unfit.is_empty();
        for unfit in &unfit {
            rows.refuse(&unfit.text, &unfit.why);
        }
        if is_empty && rows.lines > 0 && !rows.is_broken {
            rows.broken("no name is left");
        }
        if rows.more_refusals > 0 {
            let why = format!("{} more rows are refused, and not told one by one", rows.more_refusals);
            rows.refusals.push(Refusal::new(&source, 0, "", why));
        }
        let mut read = Read { refusals: rows.refusals, lines: rows.lines, ..Read::default() };
        let id = list.terms.id.clone();
        if rows.is_broken {
            read.held.insert(id, 0);
        } else if !is_empty {
            let entry = |event| Entry { line: 0, seq: None, at: None, event };
            read.entries.push(entry(Event::Put(Order { terms: list.terms.clone(), names, except: rows.except })));
            if !out.is_empty() {
                read.entries.push(entry(Event::Remove { order: id, names: out }));
            }
        }
        read
    }
}

impl Rows<'_> {
    /// The text of a line, if it has one.
    fn decoded<'a>(&mut self, line: Line<'a>, decoder: &mut Decoder) -> Option<std::borrow::Cow<'a, str>> {
        match line {
            Line::Whole(octets) => match decoder.decode(octets) {
                Ok(text) => Some(text),
                Err((text, why)) => {
                    self.lines += 1;
                    self.refuse(&text, why);
                    None
                }
            },
            Line::TooLong(limit) => {
                self.lines += 1;
                self.refuse("", format_args!("the line is longer than {limit} octets"));
                None
            }
        }
    }

    /// A row says that a name is to be stopped.
    fn stop(&mut self, reach: Reach, text: &str) {
        let Waiting { text: all, rows } = &mut self.waiting;
        let start = all.len();
        all.push_str(text);
        rows.push(Row { line: self.line, reach, name: start..all.len() });
        if rows.len() == WAITING || all.len() >= WAITING_OCTETS {
            self.take_waiting();
        }
    }

    /// Looks at the rows that wait.
    fn take_waiting(&mut self) {
        let Waiting { text, rows } = std::mem::take(&mut self.waiting);
        let guards = self.guards;
        let names = many::map(&rows, |row| {
            let name = Name::parse(&text[row.name.clone()]).map_err(|error| error.to_string())?;
            guards.check(&name).map_err(|error| error.to_string())?;
            Ok::<_, String>(name)
        });
        let line = self.line;
        for (row, name) in rows.into_iter().zip(names) {
            self.line = row.line;
            self.take(row.reach, &text[row.name], name);
        }
        self.line = line;
    }

    /// Of a row that says that a name is to be stopped, what its name came to.
    fn take(&mut self, reach: Reach, text: &str, name: Result<Name, String>) {
        let name = match name {
            Ok(name) => name,
            Err(why) => return self.refuse(text, why),
        };
        match (reach, self.reach) {
            (Reach::AsOrdered | Reach::Subtree, _) | (Reach::Exact, Match::Exact) | (Reach::Below, Match::Below) => {
                self.names.push(name);
            }
            (Reach::Below, Match::Subtree) => self.below.push((self.file.clone(), self.line, name)),
            (Reach::Exact, Match::Subtree | Match::Below) => {
                self.refuse(
                    text,
                    format_args!("means the name alone, and the order's `match` is {}", self.reach.word()),
                );
            }
            (Reach::Below, Match::Exact) => {
                self.refuse(text, "means what is below the name, and the order's `match` is exact");
            }
        }
    }

    /// A row says that a name, and what is below it, is not to be stopped, whatever other rows say. `part`: it says so
    /// of a part of it only.
    fn leave(&mut self, text: &str, part: Option<&str>) {
        let name = self.leave_unless_longer(text, part);
        self.whole.extend(name);
    }

    /// The same, but for what longer rows stop.
    fn leave_unless_longer(&mut self, text: &str, part: Option<&str>) -> Option<Name> {
        match Name::parse(text) {
            Ok(name) => {
                if let Some(part) = part {
                    self.refuse(text, format_args!("{part}: the name is left out as a whole"));
                }
                self.except.insert(name.clone());
                Some(name)
            }
            Err(error) => {
                let why = format!(
                    "an exception, but its name {error}; the list is refused, since it would reach further without it"
                );
                self.refuse(text, why);
                self.is_broken = true;
                None
            }
        }
    }

    /// `*.x` in an order whose names reach x as well.
    fn check_below(&mut self, names: &BTreeSet<Name>) {
        for (file, line, name) in std::mem::take(&mut self.below) {
            if !name.suffixes().any(|suffix| names.contains(&suffix)) {
                (self.file, self.line) = (file, line);
                let why = "means what is below the name; the order's `match` is subtree, which stops the name itself, \
                           too; list the name beside it, or let `match` be below";
                self.refuse(&format!("*.{name}"), why);
            }
        }
    }

    /// Refuses a row, behind those before it.
    fn refuse(&mut self, text: &str, why: impl fmt::Display) {
        self.take_waiting();
        if self.refusals.len() < MOST_REFUSALS {
            self.refusals.push(Refusal::new(&self.file, self.line, text, why));
        } else {
            self.more_refusals += 1;
        }
    }

    /// Refuses the list as a whole.
    fn broken(&mut self, why: impl fmt::Display) {
        self.take_waiting();
        self.is_broken = true;
        self.line = 0;
        self.refusals.push(Refusal::new(&self.file, 0, "", format_args!("{why}; the order stays as it was")));
        self.lines += 1;
    }
}

/// Longest row, in octets.
const MAX_LINE: usize = 1 << 16;

/// Rows that are looked at together.
const WAITING: usize = 1 << 16;
/// Octets of them: rows that are no names may be long.
const WAITING_OCTETS: usize = 4 << 20;

/// Refusals that are told one by one. A page of an error in the place of a list has a row that is none in each line.
const MOST_REFUSALS: usize = 1000;

#[cfg(test)]
mod tests;
