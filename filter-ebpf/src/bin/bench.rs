//! Entries for benchmarks only: each run gets the next packet of a map, so that millions of distinct packets can be
//! timed by BPF_PROG_TEST_RUN, which would hand one run's packet to the next. The `empty` entries do the same work
//! and nothing else: they are what to compare with.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the xdp macro makes a second, undocumented function of the same name")]

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use filter_ebpf::{
    filter,
    packet::Packet,
    plain::{self, PlainNames, is_below_listed, is_https},
};

/// Queries and mid-connection segments.
#[map]
static SHORT_PACKETS: Array<[u8; 128]> = Array::with_max_entries(1, 0);
/// ClientHellos and QUIC Initials.
#[map]
static LONG_PACKETS: Array<[u8; 1280]> = Array::with_max_entries(1, 0);
/// Index of the next packet, and the number of packets.
#[map]
static NEXT: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(1, 0);
/// Names that `short_names` drops.
#[map]
static PLAIN_NAMES: PlainNames = PlainNames::with_max_entries(1, 0);

/// Judges the next short packet.
#[xdp]
pub fn short_run(context: XdpContext) -> u32 {
    if next(&SHORT_PACKETS, context.ctx) { filter::judge(Packet::new(context.ctx)) } else { XDP_PASS }
}

/// Only fetches the next short packet.
#[xdp]
pub fn short_empty(context: XdpContext) -> u32 {
    next(&SHORT_PACKETS, context.ctx);
    XDP_PASS
}

/// Of the next short packet, only compares the port.
#[xdp]
pub fn short_port(context: XdpContext) -> u32 {
    if next(&SHORT_PACKETS, context.ctx) && is_https(Packet::new(context.ctx)) == Some(true) {
        XDP_DROP
    } else {
        XDP_PASS
    }
}

/// Looks the name in the next short packet up in a BPF hash map, and those above it.
#[xdp]
pub fn short_names(context: XdpContext) -> u32 {
    if next(&SHORT_PACKETS, context.ctx) && is_below_listed(Packet::new(context.ctx), &PLAIN_NAMES) == Some(true) {
        XDP_DROP
    } else {
        XDP_PASS
    }
}

/// Reads the memory that the next short packet's name chooses: a line of the filter.
#[xdp]
pub fn short_line(context: XdpContext) -> u32 {
    let is_set = next(&SHORT_PACKETS, context.ctx) && plain::touch(Packet::new(context.ctx), false) == Some(true);
    if is_set { XDP_DROP } else { XDP_PASS }
}

/// The same, and a bucket of names.
#[xdp]
pub fn short_bucket(context: XdpContext) -> u32 {
    let is_set = next(&SHORT_PACKETS, context.ctx) && plain::touch(Packet::new(context.ctx), true) == Some(true);
    if is_set { XDP_DROP } else { XDP_PASS }
}

/// Judges the next long packet.
#[xdp]
pub fn long_run(context: XdpContext) -> u32 {
    if next(&LONG_PACKETS, context.ctx) { filter::judge(Packet::new(context.ctx)) } else { XDP_PASS }
}

/// Only fetches the next long packet.
#[xdp]
pub fn long_empty(context: XdpContext) -> u32 {
    next(&LONG_PACKETS, context.ctx);
    XDP_PASS
}

/// Only copies the next long packet's payload to a ring.
#[xdp]
pub fn long_copy(context: XdpContext) -> u32 {
    if next(&LONG_PACKETS, context.ctx) && plain::copy(Packet::new(context.ctx)) { XDP_DROP } else { XDP_PASS }
}

/// Does nothing at all: the kernel's own cost of a run.
#[xdp]
pub fn nothing(_context: XdpContext) -> u32 {
    XDP_PASS
}

#[inline(always)]
fn next<const N: usize>(packets: &Array<[u8; N]>, context: *mut xdp_md) -> bool {
    let Some(next) = NEXT.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value.
    let [index, count] = unsafe { &mut *next };
    let now = *index;
    *index = if now + 1 < *count { now + 1 } else { 0 };
    let Some(packet) = packets.get_ptr_mut(now) else { return false };
    // SAFETY: the helpers check what they are given; a run before may have changed the length.
    unsafe {
        let grow = N as i32 - bpf_xdp_get_buff_len(context) as i32;
        (grow == 0 || bpf_xdp_adjust_tail(context, grow) == 0)
            && bpf_xdp_store_bytes(context, 0, packet.cast(), N as u32) == 0
    }
}

filter_ebpf::seams!();

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
