//! The server name of a ClientHello whose octets come in order, in portions of any size.

use filter_common::{
    bytes::{BUFFER, Bytes},
    layout::{self, StreamReader},
    stream::{Segment, Step},
    verdict::Reason,
};

use crate::name::{MAX_LABEL, MAX_NAME, Name};

/// A ClientHello in progress.
#[derive(Debug)]
pub struct Hello {
    reader: StreamReader,
    name: Vec<u8>,
    /// How it ended.
    end: Option<Reason>,
}

/// What is known after a portion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The name is still to come.
    More,
    /// The name. A second server_name may still be in what has not come.
    Name(Name),
    /// There is no name, or it cannot be judged.
    Nothing(Reason),
}

impl Hello {
    /// In TLS records.
    pub fn in_records() -> Self {
        Self::of(StreamReader::hello(), Vec::new())
    }

    /// By itself, as QUIC's CRYPTO frames carry it (RFC 9001 4.1.3).
    pub fn bare() -> Self {
        // A record that has no end.
        Self::of(StreamReader { record_left: u32::MAX, ..StreamReader::hello() }, Vec::new())
    }

    /// Looks for an Encrypted Client Hello, too.
    pub fn searched(self) -> Self {
        Self { reader: self.reader.searched(), ..self }
    }

    /// Whether there is one, as far as was read.
    pub fn has_ech(&self) -> bool {
        self.reader.has_ech()
    }

    /// From where the kernel is on.
    pub fn resumed(stream: &layout::Stream) -> Self {
        let held = usize::from(stream.reader.name_have);
        Self::of(stream.reader, stream.held.get(..held).unwrap_or_default().to_vec())
    }

    fn of(reader: StreamReader, name: Vec<u8>) -> Self {
        Self { reader, name, end: None }
    }

    /// Reads on; behind the name, to the end of the extensions, which it tells from then on.
    pub fn read(&mut self, octets: &[u8]) -> Progress {
        if let Some(reason) = self.end {
            return Progress::Nothing(reason);
        }
        let window = Window(octets);
        let mut segment = Segment { at: BEFORE as u32, end: (BEFORE + octets.len()) as u32 };
        let mut is_named = false;
        let end = loop {
            match self.reader.step_hello(&window, &mut segment) {
                Step::More => {}
                Step::Hold { at, len, .. } => {
                    let from = (at as usize).saturating_sub(BEFORE);
                    self.name.extend(octets.iter().skip(from).take(len as usize));
                    is_named |= self.reader.take_name();
                }
                Step::Hungry => break None,
                Step::Stop(reason) => break Some(reason),
            }
        };
        self.end = end;
        match end {
            Some(Reason::TlsSniDuplicate) => Progress::Nothing(Reason::TlsSniDuplicate),
            _ if is_named => host_name(&self.name).map_or(Progress::Nothing(Reason::TlsSniInvalid), Progress::Name),
            Some(reason) => Progress::Nothing(reason),
            None => Progress::More,
        }
    }
}

/// The name of an SNI (RFC 6066 3), a trailing dot left out; `None` if it is no host name.
fn host_name(sni: &[u8]) -> Option<Name> {
    let name = sni.strip_suffix(b".").unwrap_or(sni);
    let is_label = |label: &[u8]| !label.is_empty() && label.len() <= MAX_LABEL && label.iter().all(is_host_octet);
    if name.len() > MAX_NAME || !name.split(|octet| *octet == b'.').all(is_label) {
        return None;
    }
    let name = str::from_utf8(name).ok()?;
    Some(Name::from_canonical(name.to_ascii_lowercase()))
}

fn is_host_octet(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')
}

/// A portion, with as many zeros before it as a reader may look back.
struct Window<'a>(&'a [u8]);

const BEFORE: usize = 8;

impl Window<'_> {
    fn array<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = at as usize;
        if let Some(from) = at.checked_sub(BEFORE) {
            return self.0.get(from..)?.first_chunk().copied();
        }
        let mut octets = [0; N];
        let shown = octets.get_mut(BEFORE - at..)?;
        shown.copy_from_slice(self.0.get(..shown.len())?);
        Some(octets)
    }
}

impl Bytes for Window<'_> {
    fn len(&self) -> u32 {
        (BEFORE + self.0.len()) as u32
    }

    fn be16(&self, at: u32) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn be32(&self, at: u32) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn be64(&self, at: u32) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// Nothing is copied from here.
    fn copy(&self, _at: u32, _len: u32, _buffer: &mut [u8; BUFFER], _to: u32) -> bool {
        false
    }
}
