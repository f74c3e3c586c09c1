//! The native format: JSON Lines, an event a line.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Write},
};

use super::{Context, Entry, Refusal};
use crate::order::Order;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Its events, in the order of the lines.
    pub entries: Vec<Entry>,
    /// What was not taken.
    pub refusals: Vec<Refusal>,
    /// Orders of which a put was refused: their last good version stays.
    pub held: BTreeSet<String>,
    /// Some line was so broken that it could have put any order: that an order is absent means nothing.
    pub unidentified: bool,
    /// Lines that are not blank.
    pub lines: u64,
}

/// Reads a file of events. `file` names it in the refusals.
///
/// # Errors
/// Only those of `input`; what is wrong with the content is in [`Read::refusals`].
pub fn read(_file: &str, _input: impl BufRead, _context: &Context) -> io::Result<Read> {
    todo!()
}

/// Writes an order as the line that puts it.
///
/// # Errors
/// Those of `output`.
pub fn write(_output: &mut impl Write, _order: &Order) -> io::Result<()> {
    todo!()
}
