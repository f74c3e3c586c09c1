//! ClientHellos and DNS messages over several segments, cut everywhere.

use filter_common::{
    dns::HEADER,
    layout::{HELD, StreamReader},
    stream::{self, Place, Segment, Step, messages::QUESTION, place},
    tls::{self, Extensions, MAX_EXTENSIONS},
    verdict::Reason,
};
use proptest::prelude::*;

use crate::{
    Framed,
    tls::{handshake, hello, records, server_name},
};

const NAME: &[u8] = b"www.example.com";

/// Keeps what a step hands out, as the program does: into a buffer of [`HELD`] octets.
fn hold(held: &mut [u8; HELD], framed: &Framed, (at, len, to): (u32, u32, u32)) {
    let from = &framed.0[at as usize..][..len as usize];
    held[to as usize..][..from.len()].copy_from_slice(from);
}

/// A reader, with what it holds.
struct Hello {
    reader: StreamReader,
    held: [u8; HELD],
    /// Octets that were handed over.
    fed: u32,
}

impl Hello {
    fn new() -> Self {
        Self { reader: StreamReader::hello(), held: [0; HELD], fed: 0 }
    }

    /// Takes up a hello whose first segment is this, where the reader of single segments leaves it; or what that one
    /// came to.
    fn seeded(segment: &[u8]) -> Result<Self, Result<Vec<u8>, Reason>> {
        let framed = Framed::new(segment);
        let bytes = framed.bytes();
        let from = |reader| Self { reader, ..Self::new() };
        let mut extensions = match Extensions::begin(&bytes, &framed.payload()) {
            Ok(extensions) => extensions,
            Err(Reason::TlsIncomplete) => return Ok(Self::new()),
            Err(reason) => return Err(Err(reason)),
        };
        for _ in 0..MAX_EXTENSIONS {
            match extensions.step(&bytes) {
                tls::Step::More => {}
                tls::Step::ServerName(name) => match extensions.host_name(&bytes, &name) {
                    Ok(name) => return Err(Ok(framed.0[name.start as usize..name.end as usize].to_vec())),
                    Err(Reason::TlsIncomplete) => return Ok(from(StreamReader::at_server_name(&extensions, &name))),
                    Err(reason) => return Err(Err(reason)),
                },
                tls::Step::Stop(Reason::TlsIncomplete) => return Ok(from(StreamReader::at_extension(&extensions))),
                tls::Step::Stop(reason) => return Err(Err(reason)),
            }
        }
        Err(Err(Reason::TlsExtensions))
    }

    /// Reads a segment from where the reader is on: the name, a reason, or `None` for more.
    fn feed(&mut self, segment: &[u8]) -> Option<Result<Vec<u8>, Reason>> {
        let framed = Framed::new(segment);
        let known = self.reader.next - self.fed;
        self.fed += segment.len() as u32;
        let mut rest = Segment { at: 42 + known, end: framed.payload().end };
        for _ in 0..stream::STEPS {
            match self.reader.step_hello(&framed.bytes(), &mut rest) {
                Step::More => {}
                Step::Hold { at, len, to } => {
                    hold(&mut self.held, &framed, (at, len, to));
                    if self.reader.take_name() {
                        return Some(Ok(self.name().to_vec()));
                    }
                }
                Step::Hungry => {
                    assert_eq!(self.reader.next, self.fed, "a hungry reader has read everything");
                    return None;
                }
                Step::Stop(reason) => return Some(Err(reason)),
            }
        }
        Some(Err(Reason::TlsExtensions))
    }

    /// The name that is held, a trailing dot left out.
    fn name(&self) -> &[u8] {
        let name = &self.held[..usize::from(self.reader.name_len)];
        name.strip_suffix(b".").unwrap_or(name)
    }
}

/// Reads segments in order.
fn read<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, Reason> {
    let mut hello = Hello::new();
    segments.into_iter().find_map(|segment| hello.feed(segment)).unwrap_or(Err(Reason::TlsIncomplete))
}

/// Reads segments in order, the first one as the reader of single segments does.
fn read_seeded(segments: &[&[u8]]) -> Result<Vec<u8>, Reason> {
    let (first, _) = segments.split_first().expect("a segment");
    match Hello::seeded(first) {
        Ok(mut hello) => segments.iter().find_map(|segment| hello.feed(segment)).unwrap_or(Err(Reason::TlsIncomplete)),
        Err(done) => done,
    }
}

/// The hello comes to this however it is cut into segments: in two at every octet, and in pieces of equal length.
#[track_caller]
fn expect(octets: &[u8], expected: &Result<Vec<u8>, Reason>) {
    assert_eq!(read([octets]), *expected, "whole");
    for cut in 1..octets.len() {
        let (first, second) = octets.split_at(cut);
        assert_eq!(read([first, second]), *expected, "cut at {cut}");
        assert_eq!(read_seeded(&[first, second]), *expected, "cut at {cut}, seeded");
    }
    for len in [1, 2, 3, 7, 50] {
        let segments: Vec<_> = octets.chunks(len).collect();
        assert_eq!(read(segments.iter().copied()), *expected, "segments of {len}");
        assert_eq!(read_seeded(&segments), *expected, "segments of {len}, seeded");
    }
}

/// A hello with this name among other extensions.
fn named(name: &[u8]) -> Vec<u8> {
    hello(&[(16, b"\x00\x03\x02h2"), (23, b""), (0, &server_name(name)), (43, &[2, 3, 4]), (21, &[0; 40])])
}

#[test]
fn t03_t04_cut_everywhere() {
    expect(&named(NAME), &Ok(NAME.to_vec()));
    // Alone, first and last.
    let name = server_name(NAME);
    for extensions in [vec![(0, &name[..])], vec![(0, &name), (51, &[7; 1300])], vec![(51, &[7; 1300]), (0, &name)]] {
        expect(&hello(&extensions), &Ok(NAME.to_vec()));
    }
}

#[test]
fn t12_lengths_of_names() {
    for len in [1, 2, 7, 8, 9, 15, 16, 17, 63, 127, 252, 253] {
        let name = vec![b'a'; len];
        expect(&named(&name), &Ok(name.clone()));
        expect(&named(&[&name[..], b"."].concat()), &Ok(name));
    }
    expect(&named(&[b'a'; 255]), &Err(Reason::TlsSniInvalid));
    expect(&named(&[b'a'; 1000]), &Err(Reason::TlsSniInvalid));
}

#[test]
fn t10_records_cut_everywhere() {
    let whole = named(NAME);
    let message = &whole[5..];
    for record in [1, 2, 3, 4, 5, 10, 38, 39, 40, 60, 64, 65, 66, 70, 71, 75, 80, 100] {
        expect(&records(message, &[record]), &Ok(NAME.to_vec()));
        let each = vec![record; message.len() / record];
        let octets = records(message, &each);
        // The last record is not to be empty.
        let octets = octets.strip_suffix(&[22, 3, 1, 0, 0]).unwrap_or(&octets);
        for cut in 1..octets.len() {
            let (first, second) = octets.split_at(cut);
            assert_eq!(read_seeded(&[first, second]), Ok(NAME.to_vec()), "records of {record}, cut at {cut}");
        }
        for len in [1, 3, 50] {
            let segments: Vec<_> = octets.chunks(len).collect();
            assert_eq!(read_seeded(&segments), Ok(NAME.to_vec()), "records of {record}, segments of {len}");
        }
    }
}

#[test]
fn t11_what_follows_a_record_must_be_a_record() {
    let whole = named(NAME);
    let octets = records(&whole[5..], &[60]);
    for (at, octet) in [(65, 23), (65, 21), (66, 2)] {
        let mut broken = octets.clone();
        broken[at] = octet;
        for cut in 1..octets.len() {
            let (first, second) = broken.split_at(cut);
            assert_eq!(read_seeded(&[first, second]), Err(Reason::TlsNotHello), "cut at {cut}");
        }
    }
}

/// Records without a part of the hello: empty ones, a change_cipher_spec, an alert of level warning.
const IDLE: [&[u8]; 5] =
    [&[22, 3, 1, 0, 0], &[20, 3, 3, 0, 0], &[20, 3, 3, 0, 1, 1], &[21, 3, 1, 0, 2, 1, 90], &[22, 3, 9, 0, 0]];

#[test]
fn t10_records_without_a_part_of_the_hello_are_read_past() {
    let whole = named(NAME);
    for idle in IDLE {
        for times in [1, 2, 32] {
            let before = [&idle.repeat(times), &whole[..]].concat();
            for cut in 1..before.len() {
                let (first, second) = before.split_at(cut);
                assert_eq!(read([first, second]), Ok(NAME.to_vec()), "{idle:?} {times} times, cut at {cut}");
            }
            assert_eq!(read([&before[..]]), Ok(NAME.to_vec()));
        }
        let octets = records(&whole[5..], &[60]);
        let between = [&octets[..65], &idle.repeat(7), &octets[65..]].concat();
        expect(&between, &Ok(NAME.to_vec()));
        // A record of the hello between them begins the count anew.
        let octets = records(&whole[5..], &[20, 20, 20]);
        let portions: Vec<_> = octets[..75].chunks(25).chain([&octets[75..]]).collect();
        let often =
            portions.iter().flat_map(|portion| [idle.repeat(32), portion.to_vec()]).collect::<Vec<_>>().concat();
        assert_eq!(read(often.chunks(1000)), Ok(NAME.to_vec()));
    }
}

#[test]
fn t10_what_no_server_reads_past() {
    let whole = named(NAME);
    let before = |idle: &[u8]| read([&[idle, &whole[..]].concat()[..]]);
    for idle in IDLE {
        assert_eq!(before(&idle.repeat(33)), Err(Reason::TlsNotHello), "{idle:?}");
    }
    for other in [
        // Empty application data; alerts: fatal, close_notify, of one octet.
        &[23, 3, 1, 0, 0][..],
        &[21, 3, 1, 0, 2, 2, 90],
        &[21, 3, 1, 0, 2, 1, 0],
        &[21, 3, 1, 0, 1, 1],
        &[21, 3, 1, 0, 0],
        &[20, 3, 3, 0, 1, 2],
        &[20, 3, 3, 0, 2, 1, 1],
        // Another major version.
        &[22, 2, 1, 0, 0],
    ] {
        assert_eq!(before(other), Err(Reason::TlsNotHello), "{other:?}");
    }
}

#[test]
fn t16_ech_is_found_on_the_way() {
    let hellos = [
        (hello(&[(0, &server_name(NAME)), (0xfe0d, &[7; 100])]), true),
        (hello(&[(0xfe0d, &[7; 100]), (0, &server_name(NAME)), (43, &[2, 3, 4])]), true),
        (hello(&[(16, b"\x00\x03\x02h2"), (0xfe0d, b"")]), true),
        (hello(&[(0, &server_name(NAME)), (0xfe0c, &[7; 100]), (21, &[0xfe, 0x0d, 0, 0])]), false),
        (hello(&[(43, &[2, 3, 4])]), false),
        (hello(&[]), false),
    ];
    for (octets, has_ech) in hellos {
        for cut in 1..octets.len() {
            let (first, second) = octets.split_at(cut);
            let mut hello = Hello { reader: StreamReader::hello().searched(), ..Hello::new() };
            hello.reader.search();
            let end = [first, second].into_iter().find_map(|segment| hello.feed(segment));
            assert_eq!(end, Some(Err(Reason::TlsNoSni)));
            assert_eq!(hello.reader.has_ech(), has_ech, "cut at {cut}");
        }
    }
}

#[test]
fn t12b_t20_malformed_hellos() {
    let name = server_name(NAME);
    let with = |data: &[u8]| hello(&[(0, data), (43, &[2, 3, 4])]);
    // No name in the server name, or lengths that do not fit each other.
    for data in
        [&b""[..], b"\0", b"\0\0", b"\0\x03\0\0\0", b"\0\x04\0\0\x02a", b"\0\x05\0\0\x01a", b"\0\x04\x01\0\x01a"]
    {
        expect(&with(data), &Err(Reason::TlsSniInvalid));
        expect(&hello(&[(0, data)]), &Err(Reason::TlsSniInvalid));
    }
    expect(&hello(&[]), &Err(Reason::TlsNoSni));
    expect(&hello(&[(43, &[2, 3, 4]), (21, &[0; 30])]), &Err(Reason::TlsNoSni));
    // Without an extensions block.
    let bare = [&[3, 3][..], &[0x5a; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    expect(&records(&handshake(&bare), &[]), &Err(Reason::TlsNoSni));
    // A session id that is too long.
    let session = [&[3, 3][..], &[0x5a; 32], &[33], &[9; 33], &[0, 2, 0x13, 1, 1, 0, 0, 0]].concat();
    expect(&records(&handshake(&session), &[]), &Err(Reason::TlsMalformed));
    // Longer than what holds it: the extensions, an extension.
    let good = hello(&[(0, &name)]);
    let block = good.len() - name.len() - 6;
    for (at, octet) in [(block + 1, good[block + 1] + 1), (block, 1), (block + 5, good[block + 5] + 1), (block + 4, 1)]
    {
        let mut broken = good.clone();
        broken[at] = octet;
        expect(&broken, &Err(Reason::TlsMalformed));
    }
    // Another handshake message.
    let mut other = good;
    other[5] = 2;
    expect(&other, &Err(Reason::TlsNotHello));
}

#[test]
fn t12b_a_second_server_name_is_seen_behind_the_first() {
    let octets = hello(&[(0, &server_name(NAME)), (23, b""), (0, &server_name(b"other.net"))]);
    for cut in 1..octets.len() {
        let (first, second) = octets.split_at(cut);
        let mut reader = StreamReader::hello();
        let mut names = 0;
        let mut last = Step::Hungry;
        'read: for segment in [first, second] {
            let framed = Framed::new(segment);
            let mut rest = Segment { at: 42, end: framed.payload().end };
            loop {
                last = reader.step_hello(&framed.bytes(), &mut rest);
                match last {
                    Step::More => {}
                    Step::Hold { .. } => names += u32::from(reader.take_name()),
                    Step::Hungry => break,
                    Step::Stop(_) => break 'read,
                }
            }
        }
        assert_eq!((names, last), (1, Step::Stop(Reason::TlsSniDuplicate)), "cut at {cut}");
    }
}

#[test]
fn places_of_segments() {
    // The first octet is at 1000, and 300 are known.
    for (sequence, len, expected) in [
        (1300, 1, Place::Wanted(0)),
        (1300, 1460, Place::Wanted(0)),
        (1000, 301, Place::Wanted(300)),
        (900, 500, Place::Wanted(400)),
        (1299, 2, Place::Wanted(1)),
        (1000, 300, Place::Known),
        (1299, 1, Place::Known),
        (1301, 1, Place::Gap),
        (1300 + 0x1_ffff, 100, Place::Gap),
        (1300 + 0x2_0000, 100, Place::Elsewhere),
        (1300_u32.wrapping_sub(0x2_0000), 100, Place::Elsewhere),
        (0x8000_0000, 100, Place::Elsewhere),
    ] {
        // Wherever sequence numbers wrap (RFC 9293 3.4).
        for shift in [0, 0_u32.wrapping_sub(1000), 0_u32.wrapping_sub(1300), 0x7fff_ff00, 0x8000_0000] {
            let placed = place(shift.wrapping_add(1000), 300, shift.wrapping_add(sequence), len);
            assert_eq!(placed, expected, "{sequence}, {len} octets, shifted by {shift}");
        }
    }
}

/// A DNS message over TCP: its length, a header, and these octets.
fn message(rest: &[u8]) -> Vec<u8> {
    let len = HEADER as u16 + rest.len() as u16;
    [&len.to_be_bytes()[..], &[0x1d, 0xea, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], rest].concat()
}

/// The messages in these segments as far as they are held, and how reading ended.
fn messages<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Step, bool) {
    let mut reader = StreamReader::messages();
    let mut held = [0; HELD];
    let mut found = Vec::new();
    let mut fed = 0;
    for segment in segments {
        let framed = Framed::new(segment);
        let mut rest = Segment { at: 42, end: framed.payload().end };
        fed += segment.len() as u32;
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
                stop @ Step::Stop(_) => return (found, stop, false),
            }
        }
        assert_eq!(reader.next, fed, "a hungry reader has read everything");
    }
    (found, Step::Hungry, reader.is_between_messages())
}

#[test]
fn d05_messages_cut_everywhere() {
    let short = message(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
    let root = message(b"\x00\x00\x02\x00\x01");
    let longest = message(&[&b"\x01a".repeat(127)[..], b"\x00\x00\x01\x00\x01"].concat());
    let with_records = message(&[&longest[14..], &[0; 300]].concat());
    let held = |message: &[u8]| message[2..message.len().min(2 + QUESTION as usize)].to_vec();
    let streams = [
        vec![&short],
        vec![&root],
        vec![&longest],
        vec![&with_records],
        vec![&short, &root, &short],
        vec![&with_records, &root, &longest, &short],
    ];
    for stream in streams {
        let octets = stream.iter().flat_map(|message| message.iter().copied()).collect::<Vec<_>>();
        let expected = (stream.iter().map(|message| held(message)).collect::<Vec<_>>(), Step::Hungry, true);
        for cut in 1..octets.len() {
            let (first, second) = octets.split_at(cut);
            assert_eq!(messages([first, second]), expected, "cut at {cut}");
        }
        for len in [1, 2, 3, 50] {
            assert_eq!(messages(octets.chunks(len)), expected, "segments of {len}");
        }
        // What is not whole is waited for.
        assert!(!messages([&octets[..octets.len() - 1]]).2);
    }
}

#[test]
fn d05_messages_without_room_for_a_question() {
    for len in 0..HEADER as u16 + 5 {
        let octets = [&len.to_be_bytes()[..], &[0; 40]].concat();
        assert_eq!(messages([&octets[..]]), (vec![], Step::Stop(Reason::DnsMalformed), false));
        assert_eq!(messages(octets.chunks(1)), (vec![], Step::Stop(Reason::DnsMalformed), false));
    }
}

proptest! {
    /// However a hello is cut into records and segments, the name is the same.
    #[test]
    fn t10_records_and_segments_at_random(
        name in "[a-z0-9.]{1,253}",
        lengths in prop::collection::vec(1_usize..200, 0..8),
        cuts in prop::collection::vec(1_usize..300, 1..12),
    ) {
        let octets = records(&named(name.as_bytes())[5..], &lengths);
        let octets = octets.strip_suffix(&[22, 3, 1, 0, 0]).unwrap_or(&octets);
        let mut rest = octets;
        let mut segments = Vec::new();
        for cut in cuts {
            if cut < rest.len() {
                let (segment, after) = rest.split_at(cut);
                segments.push(segment);
                rest = after;
            }
        }
        segments.push(rest);
        let expected = name.strip_suffix('.').unwrap_or(&name).as_bytes().to_vec();
        prop_assert_eq!(read(segments.iter().copied()), Ok(expected));
    }

    /// Any octets come to an end, hold nothing outside of the buffer, and ask for nothing outside of the segment.
    #[test]
    fn t20_any_octets(segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 1..6),
                      seed in any::<bool>(), at in 0_usize..80, octet in any::<u8>()) {
        let _ = messages(segments.iter().map(Vec::as_slice));
        let mut octets = named(NAME);
        if seed {
            octets[at] = octet;
        } else {
            octets.splice(at..at + 1, segments.concat());
        }
        let _ = read(octets.chunks(37));
        let _ = read(segments.iter().map(Vec::as_slice));
    }
}
