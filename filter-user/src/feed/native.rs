//! The native format: JSON Lines, an event a line.
//!
//! - Lines end in LF or CRLF; blank lines are passed over. A byte order mark, an octet that is not UTF-8, an unknown
//!   or doubled field and a line over [`MAX_LINE`] each refuse their line and nothing else.
//! - A name that is none, or that a guard does not let through, is refused alone; the order's other names stay. A
//!   broken name in `except` refuses its line, since without the exception the order would reach further than it says.
//! - A file that puts one order twice in the same words puts it once. If the words differ, or one of the puts is
//!   refused, none of them is taken: the last good version of that order stays. What the file says about the order
//!   after the last of those lines is applied to that version; what it says before is void.
//! - In a log, which holds what happened one after the other, a later put of an order takes the place of an earlier one.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    io::{self, BufRead, Write},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Context, Entry, Event, Refusal,
    lines::{Line, Lines},
    rpz::Whole,
};
use crate::order::Order;

mod line;

/// Longest line, in octets. An order of a million names is a line of some 25 MB.
pub const MAX_LINE: usize = 256 << 20;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Its events, in the order of the lines.
    pub entries: Vec<Entry>,
    /// What was not taken, in the order of the lines.
    pub refusals: Vec<Refusal>,
    /// Orders of which a put was refused, and the line of the last such put: their last good version stays.
    pub held: BTreeMap<String, u64>,
    /// Some line was so broken that it could have put any order: that an order is absent means nothing.
    pub unidentified: bool,
    /// Lines that are not blank.
    pub lines: u64,
    /// It only ever grows: what follows what was read before is all that is new.
    pub is_log: bool,
    /// It is a response policy zone, and its puts are the parts of one order.
    pub zone: Option<Whole>,
}

/// Reads a file of events. `file` names it in the refusals.
///
/// # Errors
/// Only those of `input`; what is wrong with the content is in [`Read::refusals`].
pub fn read(file: &str, input: impl BufRead, context: &Context) -> io::Result<Read> {
    Ok(Reader::new(file, context).take_all(input, MAX_LINE)?.finish())
}

/// Reads a log of events, to which more may be written meanwhile: a last line without its LF is not read. `file` names
/// it in the refusals.
///
/// # Errors
/// As [`read`].
pub fn read_log(file: &str, input: impl BufRead, context: &Context) -> io::Result<Read> {
    let reader = Reader { is_log: true, ..Reader::new(file, context) };
    Ok(Read { is_log: true, ..reader.take_all(input, MAX_LINE)?.finish() })
}

/// Writes an order as the line that puts it. An order without names can be written, but is refused when read.
///
/// # Errors
/// Those of `output`.
pub fn write(output: &mut impl Write, order: &Order) -> io::Result<()> {
    #[derive(Serialize)]
    struct Put<'a> {
        op: &'static str,
        order: &'a Order,
    }
    serde_json::to_writer(&mut *output, &Put { op: "put", order })?;
    output.write_all(b"\n")
}

struct Reader<'a> {
    file: Arc<str>,
    context: &'a Context,
    read: Read,
    /// First put of each order: its place among the entries.
    puts: HashMap<String, usize>,
    /// Orders with puts that differ: line and id of each later one.
    conflicts: Vec<(u64, String)>,
    is_log: bool,
    /// Refusals beyond [`MOST_REFUSALS`].
    more_refusals: u64,
}

impl<'a> Reader<'a> {
    fn new(file: &str, context: &'a Context) -> Self {
        let (read, puts, conflicts) = (Read::default(), HashMap::new(), Vec::new());
        Self { file: file.into(), context, read, puts, conflicts, is_log: false, more_refusals: 0 }
    }

    fn take_all(mut self, input: impl BufRead, limit: usize) -> io::Result<Self> {
        let mut lines = if self.is_log { Lines::growing(input, limit) } else { Lines::new(input, limit) };
        while let Some((number, line)) = lines.next()? {
            self.line(number, line);
        }
        Ok(self)
    }

    fn line(&mut self, number: u64, line: Line<'_>) {
        let text = match line {
            Line::Whole(octets) => octets,
            Line::TooLong(limit) => {
                self.read.lines += 1;
                self.read.unidentified = true;
                return self.refuse(number, "", format_args!("the line is longer than {limit} octets"));
            }
        };
        if text.trim_ascii().is_empty() {
            return;
        }
        self.read.lines += 1;
        let parsed = line::parse(text, self.context, self.context.guards.of(&self.file));
        for unfit in &parsed.refused {
            self.refuse(number, &unfit.text, &unfit.why);
        }
        match parsed.subject {
            line::Subject::Event(entry) => self.take(Entry { line: number, ..entry }),
            line::Subject::RefusedPut(id) => _ = self.read.held.insert(id, number),
            line::Subject::RefusedOther => {}
            line::Subject::Unknown => self.read.unidentified = true,
        }
    }

    fn take(&mut self, entry: Entry) {
        if let Event::Put(order) = &entry.event
            && !self.is_log
        {
            match self.puts.entry(order.terms.id.clone()) {
                hash_map::Entry::Vacant(first) => _ = first.insert(self.read.entries.len()),
                hash_map::Entry::Occupied(first) => {
                    let same = self.read.entries.get(*first.get()).is_some_and(|known| known.event == entry.event);
                    if !same {
                        self.conflicts.push((entry.line, order.terms.id.clone()));
                    }
                }
            }
        }
        self.read.entries.push(entry);
    }

    fn finish(mut self) -> Read {
        for (line, id) in std::mem::take(&mut self.conflicts) {
            self.read.held.entry(id).and_modify(|last| *last = line.max(*last)).or_insert(line);
        }
        if self.is_log {
            let entries = &self.read.entries;
            let is_put_later = |id: &str, line: u64| {
                let puts = entries.iter().filter(|entry| matches!(entry.event, Event::Put(_)));
                puts.rev().any(|entry| entry.event.order_id() == id && entry.line > line)
            };
            self.read.held.retain(|id, line| !is_put_later(id, *line));
        }
        if !self.read.held.is_empty() {
            self.void();
        }
        if self.more_refusals > 0 {
            let why = format!("{} more lines and names are refused, and not told one by one", self.more_refusals);
            self.read.refusals.push(Refusal::new(&self.file, 0, "", why));
        }
        self.read.refusals.sort_by_key(|refusal| refusal.line);
        self.read
    }

    /// Takes out what must not be applied to the last good versions of the orders that are held.
    fn void(&mut self) {
        let held = &mut self.read.held;
        for entry in &self.read.entries {
            if let Event::Put(order) = &entry.event
                && let Some(last) = held.get_mut(&order.terms.id)
            {
                *last = entry.line.max(*last);
            }
        }
        let mut voided = Vec::new();
        self.read.entries.retain(|entry| {
            let id = entry.event.order_id();
            let keep = held.get(id).is_none_or(|last| entry.line > *last);
            if !keep {
                voided.push((entry.line, id.to_owned(), matches!(entry.event, Event::Put(_))));
            }
            keep
        });
        for (line, id, put) in voided {
            let why = if put {
                "this file puts the order more than once, in different words or with a refusal; none of it is taken"
            } else {
                "void: a put of this order that is not taken comes later in the file"
            };
            self.refuse(line, &id, why);
        }
    }

    fn refuse(&mut self, line: u64, text: &str, why: impl std::fmt::Display) {
        if self.read.refusals.len() < MOST_REFUSALS {
            self.read.refusals.push(Refusal::new(&self.file, line, text, why));
        } else {
            self.more_refusals += 1;
        }
    }
}

/// Refusals that are told one by one. Octets that are no feed at all, of which a packed file may hold very many, have
/// one in each line.
const MOST_REFUSALS: usize = 10_000;

#[cfg(test)]
pub(crate) mod tests;
