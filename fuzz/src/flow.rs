//! Streams in segments: however a ClientHello or DNS messages are cut, in order they give what the whole gives; out of
//! order, or with segments lost or repeated, that or nothing.

use arbitrary::{Result as Made, Unstructured};
use filter_common::{
    layout::{HELD, StreamReader},
    stream::{Place, Segment, Step, messages::QUESTION, place},
    tls::{Extensions, MAX_EXTENSIONS, Step as Single},
    verdict::Reason,
};

use crate::Framed;

type Name = Result<Vec<u8>, Reason>;

/// Makes a stream and cuts it.
pub fn run(data: &[u8]) {
    // Octets that run out make zeros: then there is an empty case.
    let _ = case(&mut Unstructured::new(data));
}

fn case(u: &mut Unstructured) -> Made<()> {
    let base = u.arbitrary()?;
    match u.int_in_range(0..=3)? {
        0 => {
            let name = host_name(u)?;
            let octets = hello(u, &name)?;
            assert_eq!(whole(&octets), Ok(name), "the name of a good hello");
            segments(u, &octets, base)
        }
        1 => messages(u),
        // A hello with mistakes.
        2 => {
            let name = host_name(u)?;
            let mut octets = hello(u, &name)?;
            for _ in 0..u.int_in_range(1..=4)? {
                let at = u.choose_index(octets.len())?;
                octets[at] = u.arbitrary()?;
            }
            segments(u, &octets, base)
        }
        _ => {
            let len = u.int_in_range(1..=300)?;
            let octets = u.bytes(len.min(u.len()))?.to_vec();
            segments(u, &octets, base)
        }
    }
}

fn host_name(u: &mut Unstructured) -> Made<Vec<u8>> {
    let len = u.int_in_range(1..=253)?;
    (0..len).map(|_| Ok(*u.choose(b"abcdefghijklmnopqrstuvwxyz0123456789-_")?)).collect()
}

/// A hello in records of any length.
fn hello(u: &mut Unstructured, name: &[u8]) -> Made<Vec<u8>> {
    let handshake = handshake(u, name)?;
    let mut octets = Vec::new();
    for record in cut(u, &handshake)? {
        octets.extend([22, 3, 1]);
        octets.extend((record.len() as u16).to_be_bytes());
        octets.extend(record);
    }
    Ok(octets)
}

/// A hello with one server_name among other extensions.
pub(crate) fn handshake(u: &mut Unstructured, name: &[u8]) -> Made<Vec<u8>> {
    let len = name.len() as u16;
    let dot = if u.ratio(1, 8)? { &b"."[..] } else { b"" };
    let len = len + dot.len() as u16;
    let sni = [&(len + 3).to_be_bytes()[..], &[0], &len.to_be_bytes(), name, dot].concat();
    let count = u.int_in_range(0..=12)?;
    let own = u.int_in_range(0..=count)?;
    let mut block = Vec::new();
    for index in 0..=count {
        let (kind, data) = if index == own {
            (0, sni.clone())
        } else {
            let len = if u.ratio(1, 8)? { u.int_in_range(0..=1500)? } else { u.int_in_range(0..=40)? };
            (u.int_in_range(1..=u16::MAX)?, vec![u.arbitrary()?; len])
        };
        block.extend(kind.to_be_bytes());
        block.extend((data.len() as u16).to_be_bytes());
        block.extend(data);
    }
    let session = u.int_in_range(0..=32)?;
    let ciphers = 2 * u.int_in_range(0..=40_u16)?;
    let mut body = vec![3; 34];
    body.push(session);
    body.extend(vec![9; session.into()]);
    body.extend(ciphers.to_be_bytes());
    body.extend(vec![0x13; ciphers.into()]);
    body.extend([1, 0]);
    body.extend((block.len() as u16).to_be_bytes());
    body.extend(block);
    Ok([&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat())
}

/// In pieces of at least one octet.
pub(crate) fn cut<'a>(u: &mut Unstructured, mut rest: &'a [u8]) -> Made<Vec<&'a [u8]>> {
    let mut pieces = Vec::new();
    for _ in 0..u.int_in_range(0..=12)? {
        if rest.len() < 2 {
            break;
        }
        let most = if u.ratio(1, 2)? { rest.len() - 1 } else { (rest.len() - 1).min(12) };
        let (piece, after) = rest.split_at(u.int_in_range(1..=most)?);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    Ok(pieces)
}

/// A hello in segments: in order, then in any order.
fn segments(u: &mut Unstructured, octets: &[u8], base: u32) -> Made<()> {
    if octets.is_empty() {
        return Ok(());
    }
    let expected = whole(octets);
    let pieces = cut(u, octets)?;
    let mut reader = Hello::new();
    let in_order = pieces.iter().find_map(|piece| reader.feed(piece, 0));
    assert_eq!(in_order.clone().unwrap_or(Err(Reason::TlsIncomplete)), expected, "{} segments", pieces.len());
    seeded(&pieces, &expected);

    // As the program places them: what is early is not read, what is known is left out.
    let sequence = |piece: &[u8]| base.wrapping_add((piece.as_ptr() as usize - octets.as_ptr() as usize) as u32);
    let mut reader = Hello::new();
    for _ in 0..u.int_in_range(0..=24)? {
        let from = u.choose_index(octets.len())?;
        let piece = if u.ratio(1, 2)? {
            *u.choose(&pieces)?
        } else {
            &octets[from..u.int_in_range(from + 1..=octets.len())?]
        };
        let Place::Wanted(known) = place(base, reader.reader.next, sequence(piece), piece.len() as u32) else {
            continue;
        };
        if let Some(found) = reader.feed(piece, known) {
            assert_eq!(found, expected, "disorder says what the whole hello says, or nothing");
            break;
        }
    }
    Ok(())
}

/// As one segment.
fn whole(octets: &[u8]) -> Name {
    Hello::new().feed(octets, 0).unwrap_or(Err(Reason::TlsIncomplete))
}

/// Where the reader of single segments begins, and this one takes over, the name is the same.
fn seeded(pieces: &[&[u8]], expected: &Name) {
    let (first, rest) = pieces.split_first().expect("a piece");
    let framed = Framed::new(first);
    let bytes = framed.bytes();
    let take_over = |reader: StreamReader| {
        let mut hello = Hello { reader, ..Hello::new() };
        let known = hello.reader.next;
        let found = hello.feed(first, known).or_else(|| rest.iter().find_map(|piece| hello.feed(piece, 0)));
        found.unwrap_or(Err(Reason::TlsIncomplete))
    };
    // What may come before a hello is read by the reader of single segments only.
    if first.first() != Some(&22) {
        return;
    }
    let found = match Extensions::begin(&bytes, &framed.payload()) {
        Err(Reason::TlsIncomplete) => take_over(StreamReader::hello()),
        Err(reason) => Err(reason),
        Ok(mut extensions) => (0..MAX_EXTENSIONS)
            .find_map(|_| match extensions.step(&bytes) {
                Single::More => None,
                Single::ServerName(name) => Some(match extensions.host_name(&bytes, &name) {
                    Ok(name) => Ok(framed.octets(name).to_vec()),
                    Err(Reason::TlsIncomplete) => take_over(StreamReader::at_server_name(&extensions, &name)),
                    Err(reason) => Err(reason),
                }),
                Single::Stop(Reason::TlsIncomplete) => Some(take_over(StreamReader::at_extension(&extensions))),
                Single::Stop(reason) => Some(Err(reason)),
            })
            .unwrap_or(Err(Reason::TlsExtensions)),
    };
    // Of what is malformed in several ways, each may see another one first.
    if found != Err(Reason::TlsExtensions) && (found.is_ok() || expected.is_ok()) {
        assert_eq!(found, *expected, "taken over after the first of {} segments", pieces.len());
    }
}

/// A reader, with what it holds.
struct Hello {
    reader: StreamReader,
    held: [u8; HELD],
}

impl Hello {
    fn new() -> Self {
        Self { reader: StreamReader::hello(), held: [0; HELD] }
    }

    /// Reads a segment of which so many octets are known: the name, a reason, or `None` for more.
    fn feed(&mut self, segment: &[u8], known: u32) -> Option<Name> {
        let framed = Framed::new(segment);
        let begin = self.reader.next;
        let start = framed.payload().start + known;
        let mut rest = Segment { at: start, end: framed.payload().end };
        loop {
            let before = (self.reader, rest);
            match self.reader.step_hello(&framed.bytes(), &mut rest) {
                Step::More => assert_ne!((self.reader, rest), before, "each step reads or skips"),
                Step::Hold { at, len, to } => {
                    hold(&mut self.held, &framed, (at, len, to));
                    if self.reader.take_name() {
                        let name = &self.held[..usize::from(self.reader.name_len)];
                        return Some(Ok(name.strip_suffix(b".").unwrap_or(name).to_vec()));
                    }
                }
                Step::Hungry => {
                    assert_eq!(self.reader.next, begin + (framed.payload().end - start), "everything is read");
                    return None;
                }
                Step::Stop(reason) => return Some(Err(reason)),
            }
        }
    }
}

fn hold(held: &mut [u8; HELD], framed: &Framed, (at, len, to): (u32, u32, u32)) {
    let from = &framed.0[at as usize..][..len as usize];
    assert!(at >= framed.payload().start && len > 0);
    held[to as usize..][..from.len()].copy_from_slice(from);
}

/// DNS messages: each question is held as it was sent, however they are cut.
fn messages(u: &mut Unstructured) -> Made<()> {
    let mut octets = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        let len = if u.ratio(1, 4)? { u.int_in_range(17..=1200)? } else { u.int_in_range(17..=60)? };
        let message: Vec<u8> = (0..len).map(|_| u.arbitrary()).collect::<Made<_>>()?;
        octets.extend((len as u16).to_be_bytes());
        octets.extend(&message);
        expected.push(message[..len.min(QUESTION as usize)].to_vec());
    }
    let mut reader = StreamReader::messages();
    let mut held = [0; HELD];
    let mut found = Vec::new();
    for piece in cut(u, &octets)? {
        let framed = Framed::new(piece);
        let mut rest = Segment { at: framed.payload().start, end: framed.payload().end };
        loop {
            match reader.step_messages(&framed.bytes(), &mut rest) {
                Step::More => {}
                Step::Hold { at, len, to } => {
                    hold(&mut held, &framed, (at, len, to));
                    if reader.take_query() {
                        found.push(held[..usize::from(reader.name_len)].to_vec());
                    }
                }
                Step::Hungry => break,
                Step::Stop(reason) => panic!("{reason:?}"),
            }
        }
    }
    assert_eq!(found, expected);
    assert!(reader.is_between_messages());
    Ok(())
}
