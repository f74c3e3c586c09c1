//! TCP segments on ports that are read: where a connection begins, and which protocol reads its data.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    bytes::Bytes,
    flow, frame,
    frame::Network,
    layout::{Flows, PORT_DNS, PORT_ENCRYPTED_DNS, PORT_TLS},
    resolver,
    tls::may_begin,
    verdict::{Reason, Tally},
};

use crate::{
    dns,
    filter::Outcome,
    flow::{find, forget, identify, is_unknown, mark, may_have},
    lookup::Way,
    maps::{NO_STATE, RESOLVERS, SETTINGS, Scratch, tally},
    packet::{Packet, octets},
    seam, tls,
};

/// See [`seam::tcp_segment`].
#[inline(always)]
pub fn segment_seam(context: *mut xdp_md, roles: u32) -> u32 {
    seam::encode_outcome(seam::way(context).and_then(|mut way| segment(&mut way, roles as u8)))
}

/// What a segment on a port with these roles comes to that opens and ends nothing, begins no hello, and of whose flow
/// nothing is known: most are such. `None` for others, and where that cannot be told here.
#[inline(always)]
pub fn passing<H: Bytes>(head: &H, packet: &Packet, network: &Network, roles: u8, flows: &Flows) -> Option<Reason> {
    let flags = head.be16(network.l4 + 12)?;
    if roles & PORT_TLS == 0 || flags & (SYN | FIN | RST) != 0 {
        return None;
    }
    let payload = match frame::tcp(head, network) {
        Ok(payload) => payload,
        Err(reason) => return Some(reason),
    };
    if may_begin(packet, &payload)? || !is_unknown(head, network, flows) { None } else { Some(Reason::TlsNotHello) }
}

/// Judges a segment.
#[inline(always)]
fn segment(way: &mut Way, roles: u8) -> Result<Outcome, Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let (packet, scratch) = unsafe { (&way.packet, &mut *way.scratch) };
    let at = scratch.network.l4;
    let flags = packet.be16(at + 12).ok_or(Reason::FrameMalformed)?;
    let sequence = packet.be32(at + 4).ok_or(Reason::FrameMalformed)?;
    let opens = flags & SYN != 0;
    // "SYN occupies one sequence number" (RFC 9293 3.4): data starts behind it.
    scratch.sequence = if opens { sequence.wrapping_add(1) } else { sequence };
    if opens {
        note_opened(packet, scratch, roles);
    }
    if roles & (PORT_TLS | PORT_DNS) == 0 {
        return Err(Reason::NotWatched);
    }
    // Into its place at once: in registers, a payload that is not there would hold what the verifier minds.
    let lack = match frame::tcp(packet, &scratch.network) {
        Ok(payload) => {
            scratch.payload = payload;
            None
        }
        Err(reason) => Some(reason),
    };
    if flags & (SYN | FIN | RST) != 0 && (opens || lack.is_some()) {
        turn(packet, scratch, opens, lack.is_some())?;
    }
    match lack {
        Some(Reason::NoPayload) if opens => return Err(Reason::TcpSyn),
        Some(reason) => return Err(reason),
        None => {}
    }
    if roles & PORT_TLS != 0 { tls::segment(way) } else { dns::segment(way) }
}

/// A connection begins or ends: what is known of the flow is past. Data in a SYN (RFC 7413) needs no mark, since it is
/// where the connection's data starts.
#[inline(always)]
fn turn(packet: &Packet, scratch: &mut Scratch, opens: bool, is_empty: bool) -> Result<(), Reason> {
    find(packet, scratch)?;
    if !opens && (scratch.kinds == NO_STATE || may_have(scratch, flow::REMEMBERED)) {
        return Ok(());
    }
    identify(packet, scratch)?;
    forget(scratch);
    if opens && is_empty {
        mark(scratch);
    }
    Ok(())
}

/// Counts what goes to encrypted resolvers.
#[inline(always)]
fn note_opened(packet: &Packet, scratch: &Scratch, roles: u8) {
    if roles & PORT_ENCRYPTED_DNS != 0 {
        tally(Tally::Dot);
    } else if roles & PORT_TLS != 0 && goes_to_resolver(packet, &scratch.network) == Some(true) {
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
    // The look-up costs a call.
    if !resolver::may_be_known(&SETTINGS.get(0)?.resolvers, address) {
        return Some(false);
    }
    // SAFETY: only whether it is there counts.
    Some(unsafe { RESOLVERS.get(octets(address)) }.is_some())
}

const FIN: u16 = 1;
const SYN: u16 = 2;
const RST: u16 = 4;
