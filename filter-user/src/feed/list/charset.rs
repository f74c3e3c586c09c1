//! Character sets: as the configuration states them, UTF-8 where it states none. An octet that the set does not have
//! refuses its row, and is never replaced by another one.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read},
};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use encoding_rs_io::DecodeReaderBytesBuilder;

/// Decodes rows.
pub(super) struct Decoder {
    charset: &'static Encoding,
    /// No line was decoded yet: a byte order mark may stand in front.
    is_first: bool,
}

impl Decoder {
    /// A decoder, and the input as its rows are to be split. UTF-16 is decoded before, since in it an LF has two octets.
    pub(super) fn new<'a>(charset: &'static Encoding, input: impl BufRead + 'a) -> (Self, Box<dyn BufRead + 'a>) {
        if charset == UTF_16LE || charset == UTF_16BE {
            let input = DecodeReaderBytesBuilder::new().encoding(Some(charset)).build(input);
            return (Self { charset: UTF_8, is_first: true }, Box::new(BufReader::new(input)));
        }
        (Self { charset, is_first: true }, Box::new(input))
    }

    /// The text of a row; else as much of it as can be shown, and why not.
    pub(super) fn decode<'a>(&mut self, octets: &'a [u8]) -> Result<Cow<'a, str>, (String, String)> {
        let octets = if std::mem::take(&mut self.is_first) && self.charset == UTF_8 {
            octets.strip_prefix(UTF_8_MARK).unwrap_or(octets)
        } else {
            octets
        };
        let wrong = |at: Option<usize>| {
            let text = String::from_utf8_lossy(octets.get(..octets.len().min(SHOWN)).unwrap_or_default()).into_owned();
            let at = at.map_or(String::new(), |at| format!(" at octet {}", at + 1));
            (text, format!("not {}{at}; the feed's `charset` says what the file is in", self.charset.name()))
        };
        if self.charset == UTF_8 {
            return std::str::from_utf8(octets).map(Cow::Borrowed).map_err(|error| wrong(Some(error.valid_up_to())));
        }
        self.charset.decode_without_bom_handling_and_without_replacement(octets).ok_or_else(|| wrong(None))
    }

    /// The beginning of a file, for recognising its format.
    pub(super) fn beginning(&self, start: &[u8]) -> String {
        let (text, _, _) = self.charset.decode(start);
        text.into_owned()
    }
}

/// The first octets of an input, up to [`START`], which are taken from it.
pub(super) fn start(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    input.by_ref().take(START).read_to_end(&mut start)?;
    Ok(start)
}

/// Why a file that begins so is in another character set, or no text at all.
pub(super) fn is_other(start: &[u8], charset: &'static Encoding) -> Option<String> {
    let is_utf16 = charset == UTF_16LE || charset == UTF_16BE;
    match Encoding::for_bom(start) {
        Some((found, _)) if found != charset => {
            return Some(format!("begins with the byte order mark of {}, not {}", found.name(), charset.name()));
        }
        _ => {}
    }
    let first = start.trim_ascii_start();
    let first = first.strip_prefix(UTF_8_MARK).unwrap_or(first).trim_ascii_start();
    if !is_utf16 && first.starts_with(b"<") {
        return Some("begins with `<`, as a page of HTML or XML does, and no list".to_owned());
    }
    None
}

const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Octets by which a file's format is recognised.
const START: u64 = 1 << 16;

/// Octets of a row that cannot be decoded, for its report.
const SHOWN: usize = 80;
