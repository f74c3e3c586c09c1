//! TCP segments on ports that are read: where a connection begins, and which protocol reads its data.

use filter_common::{
    bytes::Bytes,
    flow, frame,
    frame::Network,
    layout::{PORT_DNS, PORT_ENCRYPTED_DNS, PORT_TLS},
    verdict::{Reason, Tally},
};

use crate::{
    dns,
    filter::{Outcome, scratch},
    flow::{find, forget, identify, mark, may_have},
    maps::{NO_STATE, RESOLVERS, Scratch, tally},
    packet::{Packet, octets},
    tls,
};

/// Judges a segment.
#[inline(always)]
pub fn segment(packet: &Packet, network: &Network, roles: u8) -> Result<Outcome, Reason> {
    let flags = packet.be16(network.l4 + 12).ok_or(Reason::FrameMalformed)?;
    let mut sequence = packet.be32(network.l4 + 4).ok_or(Reason::FrameMalformed)?;
    let opens = flags & SYN != 0;
    if opens {
        note_opened(packet, network, roles);
        // "SYN occupies one sequence number" (RFC 9293 3.4): data starts behind it.
        sequence = sequence.wrapping_add(1);
    }
    if roles & (PORT_TLS | PORT_DNS) == 0 {
        return Err(Reason::NotWatched);
    }
    let payload = frame::tcp(packet, network);
    if flags & (SYN | FIN | RST) != 0 && (opens || payload.is_err()) {
        turn(packet, network, opens, payload.is_err(), sequence)?;
    }
    let payload = match payload {
        Err(Reason::NoPayload) if opens => return Err(Reason::TcpSyn),
        payload => payload?,
    };
    if roles & PORT_TLS != 0 {
        tls::segment(packet, network, payload, sequence)
    } else {
        dns::segment(packet, network, payload, sequence)
    }
}

/// A connection begins or ends: what is known of the flow is past. Data in a SYN (RFC 7413) needs no mark, since it is
/// where the connection's data starts.
#[inline(always)]
fn turn(packet: &Packet, network: &Network, opens: bool, is_empty: bool, start: u32) -> Result<(), Reason> {
    let scratch: &mut Scratch = scratch()?;
    scratch.network = *network;
    let identity = find(packet, scratch)?;
    if !opens && (scratch.kinds == NO_STATE || may_have(scratch, flow::REMEMBERED)) {
        return Ok(());
    }
    identify(packet, scratch, &identity)?;
    forget(scratch);
    if opens && is_empty {
        mark(scratch, start);
    }
    Ok(())
}

/// Counts what goes to encrypted resolvers.
#[inline(always)]
fn note_opened(packet: &Packet, network: &Network, roles: u8) {
    if roles & PORT_ENCRYPTED_DNS != 0 {
        tally(Tally::Dot);
    } else if roles & PORT_TLS != 0 && goes_to_resolver(packet, network) == Some(true) {
        tally(Tally::Doh);
    }
}

/// Whether the destination is a known public resolver.
#[inline(always)]
pub fn goes_to_resolver(packet: &Packet, network: &Network) -> Option<bool> {
    let at = network.l3;
    let address = if network.version == 4 {
        [0, 0xffff_0000_0000 | u64::from(packet.be32(at + 16)?)]
    } else {
        let high = packet.be64(at + 24)?;
        let low = packet.be64(at + 32)?;
        [high, low]
    };
    // SAFETY: only whether it is there counts.
    Some(unsafe { RESOLVERS.get(octets(address)) }.is_some())
}

const FIN: u16 = 1;
const SYN: u16 = 2;
const RST: u16 = 4;
