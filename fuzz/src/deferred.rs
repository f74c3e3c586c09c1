//! The deferred tier's engine: Initials whose tag is right, with any frames in them; hellos over Initials and segments in
//! any order give their name; what is held is bounded.

use arbitrary::{Result as Made, Unstructured};
use cordon_tests::packet::quic::{Client, crypto};
use filter_common::{layout::FlowKey, stream::PUT_IN_ORDER};
use filter_user::deferred::{Copied, Decision, Limits, NoName, quic::Connections, tcp::Segments};

use crate::flow::{cut, handshake};

/// Makes packets, and reads them.
pub fn run(data: &[u8]) {
    // Octets that run out make zeros: then there is an empty case.
    let _ = case(&mut Unstructured::new(data));
}

fn case(u: &mut Unstructured) -> Made<()> {
    match u.int_in_range(0..=3)? {
        0 => initials(u),
        1 => segments(u),
        2 => changed(u),
        _ => anything(u),
    }
}

/// Of a client that is the only one.
fn copied(payload: &[u8]) -> Copied<'_> {
    Copied { time: 0, connection: FlowKey { lanes: [1; 4] }, client: [0; 16], payload }
}

fn client(u: &mut Unstructured) -> Made<Client> {
    let id = |u: &mut Unstructured, least| {
        let len = u.int_in_range(least..=20)?;
        (0..len).map(|_| u.arbitrary()).collect::<Made<Vec<u8>>>()
    };
    let mut client = Client::new(&id(u, 8)?, &id(u, 0)?);
    client.number_len = u.int_in_range(1..=4)?;
    client.token = vec![7; u.int_in_range(0..=70)?];
    Ok(if u.arbitrary()? { client.v2() } else { client })
}

fn name(u: &mut Unstructured) -> Made<String> {
    let label = |u: &mut Unstructured| {
        let len = u.int_in_range(1..=40)?;
        (0..len).map(|_| Ok(char::from(*u.choose(b"abcXYZ019-_")?))).collect::<Made<String>>()
    };
    let labels = (0..u.int_in_range(1..=6)?).map(|_| label(u)).collect::<Made<Vec<_>>>()?;
    Ok(labels.join("."))
}

/// Its pieces in any order, some of them twice.
fn shuffled<'a>(u: &mut Unstructured, octets: &'a [u8]) -> Made<Vec<(usize, &'a [u8])>> {
    let at = |piece: &[u8]| piece.as_ptr() as usize - octets.as_ptr() as usize;
    let pieces = cut(u, octets)?.into_iter().flat_map(|piece| piece.chunks(MOST));
    let mut pieces: Vec<_> = pieces.map(|piece| (at(piece), piece)).collect();
    for _ in 0..u.int_in_range(0..=4)? {
        pieces.push(*u.choose(&pieces)?);
    }
    for index in 1..pieces.len() {
        pieces.swap(index, u.int_in_range(0..=index)?);
    }
    Ok(pieces)
}

fn is_named(decision: &Decision, name: &str) -> bool {
    matches!(decision, Decision::Name(found) if found.as_str() == name.to_ascii_lowercase())
}

/// A hello over Initials, each with one CRYPTO frame or more.
fn initials(u: &mut Unstructured) -> Made<()> {
    let name = name(u)?;
    let hello = handshake(u, name.as_bytes())?;
    let mut client = client(u)?;
    let mut connections = Connections::new(Limits::default());
    let mut last = Decision::Undecided;
    let mut frames = Vec::new();
    let pieces = shuffled(u, &hello)?;
    for (index, (at, piece)) in pieces.iter().enumerate() {
        frames.extend(vec![u.int_in_range(0..=1)?; u.int_in_range(0..=20)?]);
        frames.extend(crypto(*at, piece));
        if index + 1 < pieces.len() && frames.len() < MOST && u.arbitrary()? {
            continue;
        }
        let datagram = client.initial(&std::mem::take(&mut frames));
        last = connections.read(&copied(&datagram)).decision;
        assert!(last == Decision::Undecided || is_named(&last, &name), "{last:?}");
        // Once the server has answered, its id takes the place of the client's choice (RFC 9000 7.2).
        if u.ratio(1, 6)? {
            client.dcid = vec![u.arbitrary()?; u.int_in_range(0..=20)?];
        }
    }
    assert!(is_named(&last, &name), "all of it came: {last:?}");
    Ok(())
}

/// A hello over TCP segments.
fn segments(u: &mut Unstructured) -> Made<()> {
    let name = name(u)?;
    let hello = handshake(u, name.as_bytes())?;
    let mut stream = Vec::new();
    for record in cut(u, &hello)? {
        stream.extend([22, 3, 1]);
        stream.extend((record.len() as u16).to_be_bytes());
        stream.extend(record);
    }
    if stream.len() > PUT_IN_ORDER as usize {
        return Ok(());
    }
    let start: u32 = u.arbitrary()?;
    let mut segments = Segments::new(Limits::default());
    let mut last = Decision::Undecided;
    for (at, piece) in shuffled(u, &stream)? {
        last = segments.read(&copied(piece), start, start.wrapping_add(at as u32), None);
        assert!(last == Decision::Undecided || is_named(&last, &name), "{last:?}");
    }
    assert!(is_named(&last, &name), "all of it came: {last:?}");
    Ok(())
}

/// An Initial with an octet changed has no name: its tag is wrong. But its first Initial may be another's, whose version
/// or ids were changed, with a tag that fits by no chance.
fn changed(u: &mut Unstructured) -> Made<()> {
    let hello = handshake(u, b"www.example.com")?;
    let mut client = client(u)?;
    let mut datagram = client.initial_packet(&crypto(0, &hello));
    let at = u.choose_index(datagram.len())?;
    datagram[at] ^= u.int_in_range(1..=255_u8)?;
    let found = Connections::new(Limits::default()).read(&copied(&datagram)).decision;
    // As a Handshake packet it belongs to no connection that is known.
    let is_none = matches!(found, Decision::Junk(_) | Decision::NoName(NoName::Ambiguous));
    assert!(is_none, "octet {at}: {found:?}");
    Ok(())
}

/// Any frames, in Initials of several clients and connections.
fn anything(u: &mut Unstructured) -> Made<()> {
    let limits = Limits { connections: 6, client_connections: 3, octets: 6000, client_octets: 3000, age: 1000 };
    let mut connections = Connections::new(limits);
    let mut clients = [client(u)?, client(u)?, client(u)?];
    let mut time = 0;
    for _ in 0..u.int_in_range(0..=40)? {
        time += u.int_in_range(0..=200)?;
        let frames = match u.int_in_range(0..=2)? {
            0 => {
                let len = u.int_in_range(0..=60)?;
                u.bytes(len.min(u.len()))?.to_vec()
            }
            _ => crypto(u.int_in_range(0..=70_000)?, &vec![u.arbitrary()?; u.int_in_range(0..=1300)?]),
        };
        let client = u.choose_index(clients.len())?;
        let datagram = clients[client].initial(&frames);
        let connection = FlowKey { lanes: [u.int_in_range(0..=9)?; 4] };
        let copied = Copied { time, connection, client: [client as u8; 16], payload: &datagram };
        let _ = connections.read(&copied);
        assert!(connections.len() <= limits.connections, "{} connections", connections.len());
        assert!(connections.waiting() <= limits.octets, "{} octets wait", connections.waiting());
    }
    Ok(())
}

/// Octets of a piece.
const MOST: usize = 1200;
