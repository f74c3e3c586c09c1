//! One packet, one reason, one verdict.

use core::arch::asm;

use aya_ebpf::bindings::{
    xdp_action::{XDP_DROP, XDP_PASS},
    xdp_md,
};
use filter_common::{
    bytes::Bytes,
    frame::{self, Network, TCP, UDP, plain},
    layout::{Flows, PORT_DNS, PORT_ENCRYPTED_DNS, PORT_QUIC},
    verdict::{Reason, Verdict},
};

use crate::{
    maps::{COUNTERS, FLOWS, SCRATCH, Scratch},
    packet::{Head, Near, Packet},
    seam, tcp,
};

/// What a protocol's path came to: a reason, and the XDP action where the verdict alone does not say it.
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// The XDP action of an answer or a redirect; or what is [`next`].
    pub action: u32,
}

/// What is still to be done where a seam could not come to the end: the next seam is called from the top, where more of
/// the stack is free.
pub mod next {
    /// [`seam::act_connection`](crate::seam::act_connection).
    pub const ACT: u32 = 0x100;
    /// [`seam::tls_connected`](crate::seam::tls_connected), with the reason.
    pub const CONNECTED: u32 = 0x101;
    /// [`seam::dns_segment`](crate::seam::dns_segment).
    pub const MESSAGES: u32 = 0x102;
    /// [`seam::tls_search`](crate::seam::tls_search); the reason stands, and lets the packet pass.
    pub const SEARCH: u32 = 0x103;
    /// [`seam::dns_question`](crate::seam::dns_question).
    pub const QUESTION: u32 = 0x104;
    /// [`seam::tls_name`](crate::seam::tls_name).
    pub const NAME: u32 = 0x105;
    /// [`seam::tls_sifted`](crate::seam::tls_sifted).
    pub const SIFTED: u32 = 0x106;
    /// Nothing: the XDP action is that of the reason's verdict.
    pub const VERDICT: u32 = 0x107;
}

impl Outcome {
    /// An order holds for this packet of a connection.
    pub const ACT: Self = Self { reason: Reason::TableBroken, action: next::ACT };
    /// A query that the filter lets through, or did not read.
    pub const QUESTION: Self = Self { reason: Reason::TableBroken, action: next::QUESTION };
    /// A ClientHello whose name was found.
    pub const NAME: Self = Self { reason: Reason::TableBroken, action: next::NAME };
    /// One whose name the filter lets through, or did not read.
    pub const SIFTED: Self = Self { reason: Reason::TableBroken, action: next::SIFTED };
    /// A segment of DNS over TCP.
    pub const MESSAGES: Self = Self { reason: Reason::TableBroken, action: next::MESSAGES };

    /// A pass or a drop.
    #[inline(always)]
    pub fn of(reason: Reason) -> Self {
        Self { reason, action: next::VERDICT }
    }

    /// The XDP action.
    #[inline(always)]
    fn action(&self) -> u32 {
        match self.action {
            next::VERDICT => XDP_PASS - (DROPS >> (self.reason as u32 & 63)) as u32 % 2,
            action => action,
        }
    }
}

/// A bit for each reason whose verdict is to drop. To ask the table for each packet would be a call, or several branches,
/// each of which the verifier follows.
const DROPS: u64 = {
    let mut drops = 0;
    let mut code = 0;
    while code < Reason::ALL.len() {
        if matches!(Reason::ALL[code].verdict(), Verdict::Drop) {
            drops |= 1 << code;
        }
        code += 1;
    }
    drops
};
const _: () = assert!(Reason::ALL.len() <= 64 && XDP_DROP + 1 == XDP_PASS);

/// The reason of a code.
#[inline(always)]
pub fn reason(code: u32) -> Reason {
    if code as usize >= Reason::ALL.len() {
        return Reason::TableBroken;
    }
    // SAFETY: reasons are numbered from zero on without gaps.
    unsafe { core::mem::transmute::<u32, Reason>(code) }
}

/// Judges, counts, and gives the XDP action.
#[inline(always)]
pub fn judge(packet: Packet) -> u32 {
    // Before anything else, since a look-up takes the registers from what is at hand.
    let Some(flows) = FLOWS.get(0) else { return end(&packet, &Outcome::of(Reason::TableBroken), packet.len()) };
    let near = Near(packet);
    // Its octets before anything is answered in its place.
    let (read, len) = match plainly(&packet, flows) {
        Some(read) => (read, near.len()),
        None => read_any(&packet, &near, flows),
    };
    let judged = read.and_then(|read| dispatch(&packet, read));
    end(&packet, &judged.unwrap_or_else(Outcome::of), len)
}

/// What any frame comes to so far, and its octets.
#[inline(always)]
fn read_any(packet: &Packet, near: &Near, flows: &Flows) -> (Result<Read, Reason>, u32) {
    let network = match frame::network(near) {
        // There is more around it, or it may go on behind the first buffer.
        Err(Reason::Encapsulated | Reason::FrameMalformed) => unwrapped(packet),
        network => network,
    };
    let len = match &network {
        Ok(network) if network.end <= near.len() => near.len(),
        _ => packet.len(),
    };
    (network.and_then(|network| to_be_read(packet, packet, network, flows)), len)
}

/// What is to be read further, its network header being in [`Scratch::network`].
struct Read {
    transport: u8,
    /// Of the destination port.
    roles: u8,
}

/// What a frame comes to that is what nearly all are.
#[inline(always)]
fn plainly(packet: &Packet, flows: &Flows) -> Option<Result<Read, Reason>> {
    let head = Head::<{ plain::IPV4_HEAD }>::of(packet)?;
    if let Some(network) = plain::ipv4(&head) {
        return Some(to_be_read(&head, packet, network, flows));
    }
    let head = Head::<{ plain::IPV6_HEAD }>::of(packet)?;
    Some(to_be_read(&head, packet, plain::ipv6(&head)?, flows))
}

/// Whether a packet is read further; else why it passes, which shows before its name or flow is looked up. `head` holds
/// the packet's headers.
#[inline(always)]
fn to_be_read<H: Bytes>(head: &H, packet: &Packet, network: Network, flows: &Flows) -> Result<Read, Reason> {
    let port = head.be16(network.l4 + 2).ok_or(Reason::FrameMalformed)?;
    let roles = roles(flows, port);
    if roles == 0 {
        return Err(Reason::NotWatched);
    }
    if network.transport == TCP
        && let Some(reason) = tcp::passing(head, packet, &network, roles, flows)
    {
        return Err(reason);
    }
    scratch()?.network = network;
    Ok(Read { transport: network.transport, roles })
}

/// Counts, and gives the XDP action.
#[inline(always)]
#[cfg_attr(not(feature = "log"), expect(unused_variables, reason = "the packet is for the log"))]
fn end(packet: &Packet, outcome: &Outcome, len: u32) -> u32 {
    count(outcome.reason, len);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&packet.context(), "{} octets: reason {}", len, outcome.reason as u32);
    outcome.action()
}

/// Has the part of the program read it that its port is for.
#[inline(always)]
fn dispatch(packet: &Packet, Read { transport, roles }: Read) -> Result<Outcome, Reason> {
    let context = packet.raw();
    // SAFETY: the context is the program's.
    let code = unsafe {
        match transport {
            UDP if roles & PORT_DNS != 0 => seam::dns_query(context),
            UDP if roles & (PORT_QUIC | PORT_ENCRYPTED_DNS) != 0 => seam::quic_datagram(context, roles.into()),
            TCP => seam::tcp_segment(context, roles.into()),
            _ => return Err(Reason::NotWatched),
        }
    };
    let mut outcome = seam::decode_outcome(code);
    // SAFETY: as above.
    unsafe {
        if outcome.action == next::NAME {
            outcome = seam::decode_outcome(seam::tls_name(context));
            if outcome.action == next::SIFTED {
                outcome = seam::decode_outcome(seam::tls_sifted(context));
            }
        }
        if outcome.action == next::CONNECTED {
            outcome = seam::decode_outcome(seam::tls_connected(context, outcome.reason as u32));
        } else if outcome.action == next::MESSAGES {
            outcome = seam::decode_outcome(seam::dns_segment(context));
        }
        if outcome.action == next::ACT {
            outcome = seam::decode_outcome(seam::act_connection(context));
        } else if outcome.action == next::QUESTION {
            outcome = seam::decode_outcome(seam::dns_question(context));
        } else if outcome.action == next::SEARCH {
            seam::tls_search(context);
            outcome = Outcome::of(outcome.reason);
        }
    }
    Ok(outcome)
}

/// Of a frame that holds PPPoE, MPLS or a tunnel, or has several buffers. Few do, and what follows is not followed twice.
#[inline(always)]
fn unwrapped(packet: &Packet) -> Result<Network, Reason> {
    // SAFETY: the context is the program's.
    seam::decode(unsafe { seam::unwrap_frame(packet.raw()) })?;
    Ok(scratch()?.network)
}

/// See [`seam::unwrap_frame`].
#[inline(always)]
pub fn unwrap_seam(context: *mut xdp_md) -> u32 {
    seam::encode(seam::way(context).and_then(|way| {
        let mut network = Network::default();
        frame::unwrap(&way.packet, &mut network, |network| {
            // SAFETY: `Way` refers to this CPU's scratch space, and the context is the program's.
            unsafe {
                (*way.scratch).network = *network;
                seam::decode(seam::ip_header(context))?;
                *network = (*way.scratch).network;
            }
            Ok(())
        })?;
        // SAFETY: as above.
        unsafe { (*way.scratch).network = network };
        Ok(())
    }))
}

/// See [`seam::ip_header`].
#[inline(always)]
pub fn header_seam(context: *mut xdp_md) -> u32 {
    // SAFETY: `Way` refers to this CPU's scratch space.
    seam::encode(seam::way(context).and_then(|way| unsafe { frame::header(&way.packet, &mut (*way.scratch).network) }))
}

#[inline(always)]
fn roles(flows: &Flows, port: u16) -> u8 {
    let mut port = usize::from(port);
    // SAFETY: arithmetic only. LLVM leaves the bound of 16 bits out, and the verifier of Linux 6.1 takes a value whose
    // octets were swapped for any.
    unsafe { asm!("{0} &= 65535", inout(reg) port, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: there are as many.
    unsafe { *flows.roles.get_unchecked(port) }
}

/// This CPU's scratch space. XDP programs do not run within each other on one CPU.
#[inline(always)]
pub fn scratch() -> Result<&'static mut Scratch, Reason> {
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::TableBroken)?;
    // SAFETY: the map's only value, which nothing else refers to while this packet is judged.
    Ok(unsafe { &mut *scratch })
}

#[inline(always)]
fn count(reason: Reason, len: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's counter.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(len);
        }
    }
}
