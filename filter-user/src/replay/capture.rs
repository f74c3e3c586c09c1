//! Reading of captures: classic pcap of either byte order, and pcapng.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html>,
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>

use std::io::{self, Read};

/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

/// No capture holds longer packets; a greater length is damage.
const LONGEST_PACKET: u32 = 1 << 20;

/// pcapng blocks also hold options, comments, and secrets.
const LONGEST_BLOCK: u32 = 1 << 26;

/// Why a capture cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else.
    #[error("neither pcap nor pcapng")]
    Unknown,
    /// Frames do not begin with an Ethernet header.
    #[error("link type {0}; only Ethernet (1) can be replayed")]
    LinkType(u32),
    /// Lengths that no capture has.
    #[error("damaged: a length of {0}")]
    Damaged(u32),
    /// It ends within a record.
    #[error("cut short")]
    Cut,
}

/// A capture that is read frame by frame.
#[derive(Debug)]
pub struct Capture<R> {
    input: R,
    format: Format,
    big_endian: bool,
    /// pcapng: link types by interface of the section.
    links: Vec<u32>,
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Classic,
    Blocks,
}

const CLASSIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const CLASSIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

impl<R: Read> Capture<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// If it is not a capture of Ethernet frames.
    pub fn open(mut input: R) -> Result<Self, CaptureError> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic).map_err(|error| if_cut(error, CaptureError::Unknown))?;
        let big_endian = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (CLASSIC_MICROSECONDS | CLASSIC_NANOSECONDS, _) => false,
            (_, CLASSIC_MICROSECONDS | CLASSIC_NANOSECONDS) => true,
            (SECTION_HEADER, _) => {
                let mut capture =
                    Self { input, format: Format::Blocks, big_endian: false, links: Vec::new(), block: Vec::new() };
                capture.section()?;
                return Ok(capture);
            }
            _ => return Err(CaptureError::Unknown),
        };
        let mut capture = Self { input, format: Format::Classic, big_endian, links: Vec::new(), block: Vec::new() };
        let mut header = [0; 20];
        capture.fill(&mut header)?;
        // The upper bits tell of an FCS.
        let link = capture.word(&header, 16) & 0xffff;
        if link == ETHERNET { Ok(capture) } else { Err(CaptureError::LinkType(link)) }
    }

    /// The next frame as far as it was captured, or `None` at the end.
    ///
    /// # Errors
    /// If the file is damaged, cut short or cannot be read; the frames before were whole.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, CaptureError> {
        match self.format {
            Format::Classic => self.next_record(),
            Format::Blocks => self.next_block(),
        }
    }

    fn next_record(&mut self) -> Result<Option<&[u8]>, CaptureError> {
        let mut header = [0; 16];
        if !self.fill_or_end(&mut header)? {
            return Ok(None);
        }
        let length = self.word(&header, 8);
        if length > LONGEST_PACKET {
            return Err(CaptureError::Damaged(length));
        }
        self.read_block(length)?;
        Ok(Some(&self.block))
    }

    fn next_block(&mut self) -> Result<Option<&[u8]>, CaptureError> {
        loop {
            let mut kind = [0; 4];
            if !self.fill_or_end(&mut kind)? {
                return Ok(None);
            }
            let kind = self.word(&kind, 0);
            if kind == SECTION_HEADER {
                self.section()?;
                continue;
            }
            let mut length = [0; 4];
            self.fill(&mut length)?;
            let total = self.word(&length, 0);
            // Type, length, and the length again at the end.
            if total < 12 || !total.is_multiple_of(4) || total > LONGEST_BLOCK {
                return Err(CaptureError::Damaged(total));
            }
            self.read_block(total - 8)?;
            self.block.truncate(self.block.len() - 4);
            let packet = match kind {
                INTERFACE => {
                    let link = self.half(0);
                    self.links.push(link);
                    continue;
                }
                ENHANCED_PACKET => {
                    self.only_ethernet(self.word(&self.block, 0))?;
                    (20, self.word(&self.block, 12))
                }
                SIMPLE_PACKET => {
                    self.only_ethernet(0)?;
                    (4, self.word(&self.block, 0).min(self.block.len().saturating_sub(4) as u32))
                }
                _ => continue,
            };
            let (start, length) = packet;
            let end = start + length as usize;
            return self.block.get(start..end).map(Some).ok_or(CaptureError::Damaged(length));
        }
    }

    /// A section header after its type: the byte order may change, and interfaces are counted anew.
    fn section(&mut self) -> Result<(), CaptureError> {
        let mut header = [0; 8];
        self.fill(&mut header)?;
        self.big_endian = match u32::from_be_bytes([header[4], header[5], header[6], header[7]]) {
            BYTE_ORDER => true,
            order if order.swap_bytes() == BYTE_ORDER => false,
            order => return Err(CaptureError::Damaged(order)),
        };
        let total = self.word(&header, 0);
        if total < 28 || !total.is_multiple_of(4) || total > LONGEST_BLOCK {
            return Err(CaptureError::Damaged(total));
        }
        self.read_block(total - 12)?;
        self.links.clear();
        Ok(())
    }

    fn only_ethernet(&self, interface: u32) -> Result<(), CaptureError> {
        match self.links.get(interface as usize) {
            Some(&ETHERNET) => Ok(()),
            Some(&link) => Err(CaptureError::LinkType(link)),
            None => Err(CaptureError::Damaged(interface)),
        }
    }

    fn read_block(&mut self, length: u32) -> Result<(), CaptureError> {
        self.block.resize(length as usize, 0);
        self.input.read_exact(&mut self.block).map_err(|error| if_cut(error, CaptureError::Cut))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), CaptureError> {
        self.input.read_exact(buffer).map_err(|error| if_cut(error, CaptureError::Cut))
    }

    /// False if the file ends before the first octet.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, CaptureError> {
        let mut have = 0;
        while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if have == 0 => return Ok(false),
                Ok(0) => return Err(CaptureError::Cut),
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// 32 bits in the file's byte order; 0 beyond the end, where the caller's length check fails.
    fn word(&self, octets: &[u8], at: usize) -> u32 {
        let Some(&word) = octets.get(at..).and_then(|rest| rest.first_chunk()) else { return 0 };
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }

    fn half(&self, at: usize) -> u32 {
        let Some(&half) = self.block.get(at..).and_then(|rest| rest.first_chunk()) else { return 0 };
        u32::from(if self.big_endian { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) })
    }
}

fn if_cut(error: io::Error, meaning: CaptureError) -> CaptureError {
    if error.kind() == io::ErrorKind::UnexpectedEof { meaning } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(big_endian: bool, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() }).collect()
    }

    fn classic(big_endian: bool, magic: u32, link: u32, frames: &[&[u8]]) -> Vec<u8> {
        let mut file = words(big_endian, &[magic, 0x0004_0002, 0, 0, 65535, link]);
        for frame in frames {
            let length = frame.len() as u32;
            file.extend(words(big_endian, &[1, 2, length, length + 7]));
            file.extend_from_slice(frame);
        }
        file
    }

    fn block(big_endian: bool, kind: u32, fixed: &[u32], data: &[u8]) -> Vec<u8> {
        let padding = data.len().next_multiple_of(4) - data.len();
        let total = (12 + 4 * fixed.len() + data.len() + padding) as u32;
        let mut block = words(big_endian, &[kind, total]);
        block.extend(words(big_endian, fixed));
        block.extend_from_slice(data);
        block.extend(vec![0; padding]);
        block.extend(words(big_endian, &[total]));
        block
    }

    fn frames(file: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let mut frames = Vec::new();
        let mut capture = match Capture::open(file) {
            Ok(capture) => capture,
            Err(error) => return (frames, Some(error.to_string())),
        };
        loop {
            match capture.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn classic_captures_of_both_byte_orders_and_resolutions() {
        for big_endian in [false, true] {
            for magic in [CLASSIC_MICROSECONDS, CLASSIC_NANOSECONDS] {
                let file = classic(big_endian, magic, 1, &[b"one", b"", b"three"]);
                assert_eq!(frames(&file), (vec![b"one".to_vec(), vec![], b"three".to_vec()], None));
            }
        }
    }

    #[test]
    fn pcapng_with_two_sections_of_unlike_byte_order() {
        let mut file = Vec::new();
        for big_endian in [false, true] {
            let link = if big_endian { 1 << 16 } else { 1 };
            file.extend(block(big_endian, SECTION_HEADER, &[BYTE_ORDER, 1, u32::MAX, u32::MAX], b""));
            file.extend(block(big_endian, INTERFACE, &[link, 65535], b""));
            file.extend(block(big_endian, 5, &[0, 0, 0], b"statistics"));
            file.extend(block(big_endian, ENHANCED_PACKET, &[0, 0, 0, 5, 5], b"hello"));
            file.extend(block(big_endian, SIMPLE_PACKET, &[4], b"four"));
        }
        let expected = [&b"hello"[..], b"four", b"hello", b"four"].map(<[u8]>::to_vec).to_vec();
        assert_eq!(frames(&file), (expected, None));
    }

    #[test]
    fn what_cannot_be_replayed_is_told() {
        let told = |file: &[u8]| frames(file).1.unwrap();
        assert_eq!(told(b""), "neither pcap nor pcapng");
        assert_eq!(told(b"GET / HTTP/1.1\r\n"), "neither pcap nor pcapng");
        assert_eq!(
            told(&classic(false, CLASSIC_MICROSECONDS, 113, &[])),
            "link type 113; only Ethernet (1) can be replayed"
        );
        let mut damaged = classic(true, CLASSIC_MICROSECONDS, 1, &[]);
        damaged.extend(words(true, &[0, 0, u32::MAX, 0]));
        assert_eq!(told(&damaged), "damaged: a length of 4294967295");
    }

    #[test]
    fn a_capture_cut_anywhere_gives_its_whole_frames_and_never_panics() {
        let mut pcapng = block(false, SECTION_HEADER, &[BYTE_ORDER, 1, u32::MAX, u32::MAX], b"");
        pcapng.extend(block(false, INTERFACE, &[1, 65535], b""));
        pcapng.extend(block(false, ENHANCED_PACKET, &[0, 0, 0, 3, 3], b"one"));
        for file in [classic(false, CLASSIC_MICROSECONDS, 1, &[b"one", b"two"]), pcapng] {
            let whole = frames(&file).0;
            for length in 0..file.len() {
                let (some, _) = frames(&file[..length]);
                assert_eq!(some, whole[..some.len()]);
                assert!(some.len() < whole.len(), "cut at {length}");
            }
            for at in 0..file.len() {
                let mut damaged = file.clone();
                damaged[at] ^= 0xff;
                frames(&damaged);
            }
        }
    }
}
