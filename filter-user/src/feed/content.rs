//! What a file holds: unpacked where it is packed, and of a size that was asked for.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

use super::signature::Seal;

/// A file that is open.
pub(super) struct Content {
    /// What it holds, unpacked.
    pub(super) input: Box<dyn BufRead>,
    /// When it was signed, in seconds since 1970.
    pub(super) signed: Option<u64>,
}

/// Opens a file. gzip and zstd are recognised by their first octets, whatever the file is called.
///
/// # Errors
/// It is not there, or not a regular file, or is not signed as `seal` wants it. What is read fails where it is cut off
/// or damaged, and where it unpacks to more than [`MAX_UNPACKED`].
pub(super) fn open(path: &Path, seal: Option<&Seal>) -> io::Result<Content> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    match seal {
        None => {
            let input = unpacked(BufReader::with_capacity(BUFFER, File::open(path)?), MAX_UNPACKED)?;
            Ok(Content { input, signed: None })
        }
        Some(seal) => {
            // What is read must be what was checked, also if the file changes meanwhile.
            let (content, signed) = seal.checked(path)?;
            Ok(Content { input: unpacked(io::Cursor::new(content), MAX_UNPACKED)?, signed })
        }
    }
}

/// What `input` holds, unpacked to at most `limit` octets.
///
/// # Errors
/// As [`open`].
pub(super) fn unpacked(mut input: impl BufRead + 'static, limit: u64) -> io::Result<Box<dyn BufRead>> {
    let start = input.fill_buf()?;
    let unpacker: Box<dyn Read> = if start.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(input))
    } else if start.starts_with(&ZSTD) {
        Box::new(zstd::stream::read::Decoder::with_buffer(input)?)
    } else {
        return Ok(Box::new(input));
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, Limited { input: unpacker, left: limit })))
}

/// Fails after so many octets: a small file can unpack to more than any disk holds.
struct Limited<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::FileTooLarge, "unpacks to more than the limit")),
        }
        Ok(read)
    }
}

/// RFC 1952 2.3.1, with the one method there is.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// RFC 8878 3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Octets read at a time.
const BUFFER: usize = 1 << 20;

/// Octets that a packed file may hold.
pub(super) const MAX_UNPACKED: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn read(packed: Vec<u8>, limit: u64) -> io::Result<String> {
        let mut text = String::new();
        unpacked(io::Cursor::new(packed), limit)?.read_to_string(&mut text).map(|_| text)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn f1_what_is_packed_is_unpacked_whole_or_not_at_all() {
        let text = "a.example\n".repeat(100_000);
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        assert_eq!(read(text.clone().into_bytes(), 1).unwrap(), text, "what is not packed has no limit here");
        for packed in [gzip(&text), zstd] {
            assert!(packed.len() * 100 < text.len());
            assert_eq!(read(packed.clone(), text.len() as u64).unwrap(), text);
            let error = read(packed.clone(), text.len() as u64 - 1).unwrap_err();
            assert_eq!(error.to_string(), "unpacks to more than the limit");
            for cut in [5, packed.len() / 2, packed.len() - 1] {
                assert!(read(packed[..cut].to_vec(), 1 << 30).is_err(), "cut at {cut}");
            }
        }
        // As `cat a.gz b.gz` makes it.
        let two = [gzip("a\n"), gzip("b\n")].concat();
        assert_eq!(read(two, 100).unwrap(), "a\nb\n");
    }
}
