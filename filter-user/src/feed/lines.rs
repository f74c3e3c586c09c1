//! Lines of bounded length. What is over the bound is never held in memory.

use std::io::{self, BufRead, Read};

/// Reads lines into one buffer.
pub(super) struct Lines<R> {
    input: R,
    limit: usize,
    number: u64,
    buffer: Vec<u8>,
}

/// One line.
pub(super) enum Line<'a> {
    /// Without its LF or CRLF.
    Whole(&'a [u8]),
    /// It was longer than this limit, and is passed over.
    TooLong(usize),
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, limit: usize) -> Self {
        Self { input, limit, number: 0, buffer: Vec::new() }
    }

    /// The next line and its number, from 1.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        // Room for CRLF, which does not count.
        let most = self.limit as u64 + 2;
        if self.input.by_ref().take(most).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.len() as u64 == most && !self.buffer.ends_with(b"\n") {
            self.skip()?;
            return Ok(Some((self.number, Line::TooLong(self.limit))));
        }
        let whole = match self.buffer.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => &self.buffer,
        };
        let line = if whole.len() > self.limit { Line::TooLong(self.limit) } else { Line::Whole(whole) };
        Ok(Some((self.number, line)))
    }

    /// To behind the next LF.
    fn skip(&mut self) -> io::Result<()> {
        loop {
            let octets = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                octets => octets?,
            };
            if octets.is_empty() {
                return Ok(());
            }
            let (used, found) = match octets.iter().position(|octet| *octet == b'\n') {
                Some(position) => (position + 1, true),
                None => (octets.len(), false),
            };
            self.input.consume(used);
            if found {
                return Ok(());
            }
        }
    }
}
