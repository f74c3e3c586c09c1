//! Headers of QUIC packets: they lie in the datagram, one behind the other.

use filter_common::{
    frame::Payload,
    quic::{Header, MAX_CONNECTION_ID, kind},
};

use crate::Framed;

/// Reads a datagram.
pub fn run(data: &[u8]) {
    if data.len() > usize::from(u16::MAX) {
        return;
    }
    let framed = Framed::new(data);
    let (bytes, payload) = (framed.bytes(), framed.payload());
    let mut rest = Some(payload);
    let mut first = None;
    while let Some(Ok(header)) = rest.map(|rest| Header::read(&bytes, &rest)) {
        check(&header, &payload);
        first.get_or_insert(header);
        let next = header.rest(payload.end);
        if let Some(next) = next {
            assert!(next.start > header.start && next.end == payload.end, "packets lie one behind the other");
        }
        rest = next;
    }
    if let Some(initial) = first.and_then(|header| header.initial(&bytes, payload.end)) {
        assert_eq!(initial.kind, kind::INITIAL);
        check(&initial, &payload);
    }
}

fn check(header: &Header, payload: &Payload) {
    assert!(header.start >= payload.start && header.next <= payload.end && header.start < header.next, "{header:?}");
    assert!(header.number <= header.next, "{header:?}");
    for (id, len) in [(header.dcid, header.dcid_len), (header.scid, header.scid_len)] {
        assert!(len <= MAX_CONNECTION_ID && id + len <= header.next, "{header:?}");
    }
}
