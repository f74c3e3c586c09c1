//! Seams: functions that the verifier goes through once, whatever led there (global functions, Linux 5.6).
//!
//! Without them each way through one part is followed through all later parts. What a seam works on lies in the scratch
//! space; what it comes to is a code. They are defined in each binary, by [`seams`](crate::seams), because only a
//! binary's own symbols stay global.

use aya_ebpf::bindings::xdp_md;
use filter_common::verdict::Reason;

use crate::{
    filter::{Outcome, reason, scratch},
    lookup::Way,
    maps::HASH_KEY,
    packet::Packet,
};

unsafe extern "C" {
    /// Up to eight octets from `at` on, which lie in the packet, but not all in its first buffer.
    pub fn read_far(context: *mut xdp_md, at: u32) -> u64;
    /// Reads any frame, into the scratch space: one that holds PPPoE, MPLS or a tunnel, or has several buffers.
    pub fn unwrap_frame(context: *mut xdp_md) -> u32;
    /// Reads the IP header where the scratch space says.
    pub fn ip_header(context: *mut xdp_md) -> u32;
    /// Reads what tags, PPPoE, MPLS and a tunnel say of the flow, into the scratch space.
    pub fn link_words(context: *mut xdp_md) -> u32;
    /// Computes the key of a flow with these words, into the scratch space.
    pub fn flow_key(context: *mut xdp_md) -> u32;
    /// Judges a DNS query over UDP, as far as the filter goes.
    pub fn dns_query(context: *mut xdp_md) -> u32;
    /// Judges a DNS query over UDP that the filter lets through, or did not read.
    pub fn dns_question(context: *mut xdp_md) -> u32;
    /// Judges a TCP segment to a port with these roles.
    pub fn tcp_segment(context: *mut xdp_md, roles: u32) -> u32;
    /// Judges a datagram to a port with these roles, QUIC among them.
    pub fn quic_datagram(context: *mut xdp_md, roles: u32) -> u32;
    /// Finds a name's node in `NAMES`, into the scratch space.
    pub fn find_node(context: *mut xdp_md) -> u32;
    /// Weighs the orders at the name that was found, for a protocol's code.
    pub fn choose_order(context: *mut xdp_md, protocol: u32) -> u32;
    /// Looks up a host name that is held.
    pub fn held_name(context: *mut xdp_md) -> u32;
    /// Copies a packet for the deferred tier; a tally.
    pub fn tier_copy(context: *mut xdp_md, protocol: u32, held: u32) -> u32;
    /// Judges a ClientHello whose name was found, as far as the filter goes.
    pub fn tls_name(context: *mut xdp_md) -> u32;
    /// Judges a ClientHello whose name the filter lets through, or did not read.
    pub fn tls_sifted(context: *mut xdp_md) -> u32;
    /// Judges a segment by what is known of its flow, `alone` being what it came to by itself.
    pub fn tls_connected(context: *mut xdp_md, alone: u32) -> u32;
    /// Searches a ClientHello for ECH.
    pub fn tls_search(context: *mut xdp_md) -> u32;
    /// Judges a segment of DNS over TCP.
    pub fn dns_segment(context: *mut xdp_md) -> u32;
    /// Whether an answer may go to the tunnel's other end.
    pub fn may_enter(context: *mut xdp_md) -> u32;
    /// Composes what goes around an answer of `len` octets, in the scratch space.
    pub fn wrap_answer(context: *mut xdp_md, len: u32) -> u32;
    /// Acts on a packet of a connection.
    pub fn act_connection(context: *mut xdp_md) -> u32;
}

/// Defines the seams in a binary.
#[macro_export]
macro_rules! seams {
    ($($name:ident($($argument:ident),*) -> $result:ty = $path:path;)+) => { $(
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(context: *mut aya_ebpf::bindings::xdp_md, $($argument: u32),*) -> $result {
            $path(context, $($argument),*)
        }
    )+ };
    () => {
        $crate::seams! {
            read_far(at) -> u64 = $crate::packet::far_seam;
            unwrap_frame() -> u32 = $crate::filter::unwrap_seam;
            ip_header() -> u32 = $crate::filter::header_seam;
            link_words() -> u32 = $crate::flow::link_seam;
            flow_key() -> u32 = $crate::flow::key_seam;
            dns_query() -> u32 = $crate::dns::query_seam;
            dns_question() -> u32 = $crate::dns::question_seam;
            tcp_segment(roles) -> u32 = $crate::tcp::segment_seam;
            quic_datagram(roles) -> u32 = $crate::quic::datagram_seam;
            find_node() -> u32 = $crate::lookup::find_seam;
            choose_order(protocol) -> u32 = $crate::choose::choose_seam;
            held_name() -> u32 = $crate::tls::held_seam;
            tier_copy(protocol, held) -> u32 = $crate::tier::copy_seam;
            tls_name() -> u32 = $crate::tls::name_seam;
            tls_sifted() -> u32 = $crate::tls::sifted_seam;
            tls_connected(alone) -> u32 = $crate::hello::connected_seam;
            tls_search() -> u32 = $crate::hello::search_seam;
            dns_segment() -> u32 = $crate::dns::segment_seam;
            may_enter() -> u32 = $crate::act::enter_seam;
            wrap_answer(len) -> u32 = $crate::act::wrap_seam;
            act_connection() -> u32 = $crate::act::connection_seam;
        }
    };
}

/// The way through this CPU's scratch space, as a seam finds it.
#[inline(always)]
pub fn way(context: *mut xdp_md) -> Result<Way, Reason> {
    let key = HASH_KEY.get_ptr(0).ok_or(Reason::TableBroken)?;
    Ok(Way { packet: Packet::new(context), scratch: scratch()?, key })
}

/// Nothing stops it, or what does is in the scratch space: a code.
#[inline(always)]
pub fn encode(judged: Result<(), Reason>) -> u32 {
    match judged {
        Ok(()) => 0,
        Err(reason) => reason as u32 + 1,
    }
}

/// What a code says.
#[inline(always)]
pub fn decode(code: u32) -> Result<(), Reason> {
    if code == 0 { Ok(()) } else { Err(reason(code.wrapping_sub(1))) }
}

/// An outcome as a code.
#[inline(always)]
pub fn encode_outcome(outcome: Result<Outcome, Reason>) -> u32 {
    let outcome = outcome.unwrap_or_else(Outcome::of);
    outcome.action << 16 | outcome.reason as u32
}

/// What such a code says.
#[inline(always)]
pub fn decode_outcome(code: u32) -> Outcome {
    Outcome { reason: reason(code & 0xffff), action: code >> 16 }
}
