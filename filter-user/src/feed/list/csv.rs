//! CSV (RFC 4180): one column has the names, in the forms of a plain list. A field in quotes may go over several lines.

use std::{borrow::Cow, collections::VecDeque, io, io::BufRead};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::{Rows, charset::Decoder, plain};
use crate::feed::lines::Lines;

/// Where the names stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The column of the names.
    pub name: Column,
    /// Between fields.
    pub delimiter: u8,
    /// The first record has the columns' titles.
    pub header: bool,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its title.
    Title(String),
    /// By its number, from 1.
    Number(usize),
}

/// Reads all records of a file.
pub(super) fn read<R: BufRead>(
    lines: &mut Lines<R>,
    decoder: &mut Decoder,
    columns: &Columns,
    rows: &mut Rows<'_>,
) -> io::Result<()> {
    let reader = ReaderBuilder::new().delimiter(columns.delimiter).build();
    let mut parser = Parser { reader, fields: Vec::new(), ends: Vec::new() };
    let mut column = match columns.name {
        Column::Number(number) => Some(number - 1),
        Column::Title(_) => None,
    };
    let mut title_is_due = columns.header;
    // Lines that were read ahead in search of the end of a quote.
    let mut ahead: VecDeque<(u64, String)> = VecDeque::new();
    while let Some((number, mut record)) = next(lines, decoder, rows, &mut ahead)? {
        if record.trim().is_empty() {
            continue;
        }
        let mut joined: Vec<(u64, usize)> = Vec::new();
        let fields = loop {
            match parser.record(&record) {
                Some(fields) => break Some(fields),
                None if joined.len() >= MOST_LINES || record.len() > MOST_OCTETS => break None,
                None => {}
            }
            let Some((number, line)) = next(lines, decoder, rows, &mut ahead)? else { break None };
            record.push('\n');
            joined.push((number, record.len()));
            record.push_str(&line);
        };
        (rows.line, rows.lines) = (number, rows.lines + 1);
        let Some(fields) = fields else {
            for (number, at) in joined.iter().rev() {
                ahead.push_front((*number, record.split_off(*at)));
                record.pop();
            }
            rows.refuse(&record, "a quote begins and does not end");
            continue;
        };
        if std::mem::take(&mut title_is_due) {
            rows.lines -= 1;
            if let Column::Title(title) = &columns.name {
                column = parser.fields(fields).position(|field| field.trim() == title);
                if column.is_none() {
                    rows.broken(format_args!("no column has the title {title:?}"));
                    return Ok(());
                }
            }
            continue;
        }
        match column.and_then(|column| parser.fields(fields).nth(column)) {
            Some(field) => plain::name(field.trim(), rows),
            None => rows.refuse(&record, "has too few columns"),
        }
    }
    Ok(())
}

/// The next line and its number; those read ahead first.
fn next<R: BufRead>(
    lines: &mut Lines<R>,
    decoder: &mut Decoder,
    rows: &mut Rows<'_>,
    ahead: &mut VecDeque<(u64, String)>,
) -> io::Result<Option<(u64, String)>> {
    if let Some(line) = ahead.pop_front() {
        return Ok(Some(line));
    }
    while let Some((number, line)) = lines.next()? {
        rows.line = number;
        if let Some(text) = rows.decoded(line, decoder) {
            return Ok(Some((number, text.into_owned())));
        }
    }
    Ok(None)
}

/// Splits one record into fields, in one buffer.
struct Parser {
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

impl Parser {
    /// How many fields a record has; nothing if a quote is open at its end.
    fn record(&mut self, text: &str) -> Option<usize> {
        let Self { reader, fields, ends } = self;
        // No field and no end is longer than the text and the LF that ends it.
        fields.resize(fields.len().max(text.len() + 1), 0);
        ends.resize(ends.len().max(text.len() + 1), 0);
        reader.reset();
        let (result, _, written, count) = reader.read_record(text.as_bytes(), fields, ends);
        if result == ReadRecordResult::Record {
            return Some(count);
        }
        let (fields, ends) = (fields.get_mut(written..)?, ends.get_mut(count..)?);
        let (result, _, _, more) = reader.read_record(b"\n", fields, ends);
        (result == ReadRecordResult::Record).then_some(count + more)
    }

    /// The first fields of the last record.
    fn fields(&self, count: usize) -> impl Iterator<Item = Cow<'_, str>> {
        let ends = self.ends.get(..count).unwrap_or_default();
        let starts = [0].into_iter().chain(ends.iter().copied());
        starts.zip(ends).map(|(start, end)| String::from_utf8_lossy(self.fields.get(start..*end).unwrap_or_default()))
    }
}

/// Lines that one record may take, and octets.
const MOST_LINES: usize = 64;
const MOST_OCTETS: usize = 1 << 16;
