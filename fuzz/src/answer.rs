//! Answers and resets: whatever the packet, they stay within their limits and their checksums are right.

use domain::base::Message;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use filter_common::{
    answer::{self, Buffer, Composed, MAX_TTL, MESSAGE, Reply, TRANSPORT},
    bytes::{BUFFER, Slice},
    frame::{self, Network, Payload, TCP, UDP},
    layout::{ENTRY_NODATA, MAX_TEXT, ORDER_A, ORDER_AAAA, Order, PolicyEntry},
    verdict::Action,
};

use crate::{
    Framed,
    dns::{Asked, ask},
};

/// The first four octets choose the order, the others are the query.
pub fn run(data: &[u8]) {
    let Some((choice, data)) = data.split_first_chunk::<4>() else { return };
    if data.len() > 1400 {
        return;
    }
    let framed = Framed::new(data);
    reset(&framed.0[HEADERLESS..]);
    if let Ok(asked) = ask(&framed) {
        reply(*choice, &framed, &asked, data.len());
    }
}

/// A frame is read at the payload, too: resets answer any segment.
const HEADERLESS: usize = crate::HEADERS;

fn reply([action, flags, text, depth]: [u8; 4], framed: &Framed, asked: &Asked, query: usize) {
    let actions = [Action::Nxdomain, Action::Nodata, Action::Refused, Action::Address];
    let order = Order {
        start: 0,
        end: u64::MAX,
        scopes: 1,
        actions: [0; 4],
        target: 0,
        ede: 16,
        text_len: text % (MAX_TEXT as u8 + 1),
        flags: flags & (ORDER_A | ORDER_AAAA),
        a: [203, 0, 113, 80],
        aaaa: [0xaa; 16],
        text: [b'x'; MAX_TEXT],
    };
    let labels = asked.question.labels as u8;
    let entry = PolicyEntry { order: 0, depth: depth % (labels + 1), flags: flags >> 2 & ENTRY_NODATA, pad: [0; 2] };
    let action = actions[usize::from(action) % actions.len()] as u8;
    let reply = Reply { order: &order, entry, action, qtype: asked.qtype, ttl: u32::from(flags).min(MAX_TTL) };
    let mut buffer = [0xee; BUFFER];
    let Asked { question, starts, edns, .. } = asked;
    let composed = answer::message(&framed.bytes(), &framed.payload(), question, starts, edns, &reply, &mut buffer);
    let Ok((len, _)) = composed else { return };

    let limit = if edns.present == 1 { edns.size.max(512) } else { 512 };
    assert!(len <= limit, "{len} octets, more than the client takes");
    assert!(len as usize <= 3 * query, "{len} octets for a query of {query}");
    let octets = &buffer[MESSAGE as usize..(MESSAGE + len) as usize];
    expect_message(octets, framed);

    for version in [4, 6] {
        let (bytes, network) = headers(version);
        let mut buffer = buffer;
        let composed = answer::datagram(&Slice(&bytes), &network, len, &mut buffer).expect("the headers are whole");
        seal(&composed, &mut buffer);
        expect_packet(&composed, &buffer, version, octets);
    }
}

/// A response to this query, all of whose records are whole, and nothing behind them.
fn expect_message(octets: &[u8], framed: &Framed) {
    let query = framed.octets(framed.payload());
    let message = Message::from_octets(octets).expect("a header");
    assert!(message.header().qr() && octets[..2] == query[..2]);
    let mut section = message.answer().expect("the question");
    loop {
        for record in section.by_ref() {
            record.expect("whole records");
        }
        match section.next_section().expect("whole sections") {
            Some(next) => section = next,
            None => break,
        }
    }
}

/// Headers of a query, before which nothing stands.
fn headers(version: u8) -> (Vec<u8>, Network) {
    let l4 = if version == 4 { 20 } else { 40 };
    let mut bytes = vec![7; 60];
    bytes[l4..l4 + 4].copy_from_slice(&[0x30, 0x39, 0, 53]);
    let network = Network { l3: 0, l4: l4 as u32, end: 60, version, transport: UDP, ..Network::default() };
    (bytes, network)
}

/// As the caller does it: the sum of the words, the checksum's own being zero.
fn seal(composed: &Composed, buffer: &mut Buffer) {
    let octets = &buffer[TRANSPORT as usize..composed.end as usize];
    let words = octets.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).copied().map_or(0, u32::from));
    composed.seal(buffer, answer::fold(words.sum()));
}

fn expect_packet(composed: &Composed, buffer: &Buffer, version: u8, message: &[u8]) {
    let packet = SlicedPacket::from_ip(&buffer[composed.start as usize..composed.end as usize]).expect("a packet");
    let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP") };
    assert_eq!((udp.source_port(), udp.destination_port(), udp.payload()), (53, 12345, message));
    let header = udp.to_header();
    let expected = match packet.net {
        Some(NetSlice::Ipv4(ip)) if version == 4 => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            header.calc_checksum_ipv4(&ip, message)
        }
        Some(NetSlice::Ipv6(ip)) if version == 6 => header.calc_checksum_ipv6(&ip.header().to_header(), message),
        other => panic!("{other:?}"),
    };
    assert_eq!(header.checksum, expected.expect("it is short"));
}

/// The RST to whatever this frame is.
fn reset(data: &[u8]) {
    let bytes = Slice(data);
    let Ok(network) = frame::read(&bytes) else { return };
    if network.transport != TCP {
        return;
    }
    let Ok(payload) = frame::tcp(&bytes, &network) else { return };
    let Payload { start, end } = payload;
    let mut buffer = [0xee; BUFFER];
    let Ok(composed) = answer::reset(&bytes, &network, &payload, &mut buffer) else { return };
    seal(&composed, &mut buffer);
    let packet = SlicedPacket::from_ip(&buffer[composed.start as usize..composed.end as usize]).expect("a packet");
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
    assert!(tcp.rst() && tcp.payload().is_empty() && start < end);
    let header = tcp.to_header();
    let expected = match packet.net {
        Some(NetSlice::Ipv4(ip)) => header.calc_checksum_ipv4(&ip.header().to_header(), &[]),
        Some(NetSlice::Ipv6(ip)) => header.calc_checksum_ipv6(&ip.header().to_header(), &[]),
        other => panic!("{other:?}"),
    };
    assert_eq!(header.checksum, expected.expect("it is short"));
}
