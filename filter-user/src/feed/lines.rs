//! Lines of bounded length. What is over the bound is never held in memory.

use std::io::{self, BufRead, Read};

/// Reads lines into one buffer.
pub(super) struct Lines<R> {
    input: R,
    limit: usize,
    number: u64,
    buffer: Vec<u8>,
    /// A last line without its end may be half written, and is passed over.
    grows: bool,
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
        Self { input, limit, number: 0, buffer: Vec::new(), grows: false }
    }

    /// Of something that others write to meanwhile, whole lines at its end.
    pub(super) fn growing(input: R, limit: usize) -> Self {
        Self { grows: true, ..Self::new(input, limit) }
    }

    /// The next line and its number, from 1.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        // Room for CRLF, which does not count.
        let most = self.limit as u64 + 2;
        if self.input.by_ref().take(most).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        if self.grows && !self.buffer.ends_with(b"\n") && (self.buffer.len() as u64) < most {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut lines: Lines<&[u8]>) -> Vec<Option<String>> {
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            assert_eq!(number, all.len() as u64 + 1);
            all.push(match line {
                Line::Whole(line) => Some(String::from_utf8(line.to_vec()).unwrap()),
                Line::TooLong(_) => None,
            });
        }
        all
    }

    #[test]
    fn a_last_line_without_its_end_is_read_unless_the_input_grows() {
        let line = |text: &str| Some(text.to_owned());
        for (input, whole, growing) in [
            ("a\nb\r\n", vec![line("a"), line("b")], vec![line("a"), line("b")]),
            ("a\nb", vec![line("a"), line("b")], vec![line("a")]),
            ("", vec![], vec![]),
            ("longer\nb", vec![None, line("b")], vec![None]),
            ("b\nlonger", vec![line("b"), None], vec![line("b"), None]),
        ] {
            assert_eq!(read(Lines::new(input.as_bytes(), 3)), whole, "{input:?}");
            assert_eq!(read(Lines::growing(input.as_bytes(), 3)), growing, "{input:?}");
        }
    }
}
