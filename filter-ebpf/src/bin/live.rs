//! Programs for the benchmark of a live border only: a generator of packets, and what the filter is compared with.
//!
//! The generator runs by BPF_PROG_TEST_RUN with live frames. The kernel takes the same pages again and again without
//! setting up what is in them, and a router has changed their headers, so each frame is written whole.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the xdp macro makes a second, undocumented function of the same name")]

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::generated::{bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use filter_common::traffic::{Frame, LONG, SHORT, Sender};
use filter_ebpf::{
    packet::Packet,
    plain::{PlainNames, is_dns, is_listed},
};

/// Queries and mid-connection segments.
#[map]
static SHORT_FRAMES: Array<Frame<SHORT>> = Array::with_max_entries(1, 0);
/// ClientHellos, and frames of captures.
#[map]
static LONG_FRAMES: Array<Frame<LONG>> = Array::with_max_entries(1, 0);
/// What is sent.
#[map]
static SENDER: PerCpuArray<Sender> = PerCpuArray::with_max_entries(1, 0);
/// Names that `look_up` drops.
#[map]
static PLAIN_NAMES: PlainNames = PlainNames::with_max_entries(1, 0);

/// Sends the next short frame.
#[xdp]
pub fn send_short(context: XdpContext) -> u32 {
    send(&SHORT_FRAMES, context.ctx)
}

/// Sends the next long frame.
#[xdp]
pub fn send_long(context: XdpContext) -> u32 {
    send(&LONG_FRAMES, context.ctx)
}

/// Lets everything pass: the empty program.
#[xdp]
pub fn pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Drops everything: where packets end that came through the border.
#[xdp]
pub fn sink(_context: XdpContext) -> u32 {
    XDP_DROP
}

/// Reads as far as the UDP header, and drops what goes to port 53.
#[xdp]
pub fn drop_dns(context: XdpContext) -> u32 {
    if is_dns(Packet::new(context.ctx)) == Some(true) { XDP_DROP } else { XDP_PASS }
}

/// The least that a look-up of a query's name can be: one name, whole and as it is written, in a hash map.
#[xdp]
pub fn look_up(context: XdpContext) -> u32 {
    if is_listed(Packet::new(context.ctx), &PLAIN_NAMES) == Some(true) { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn send<const N: usize>(frames: &Array<Frame<N>>, context: *mut xdp_md) -> u32 {
    let Some(sender) = SENDER.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: this CPU's value.
    let sender = unsafe { &mut *sender };
    if sender.left == 0 {
        if sender.interval != 0 {
            // SAFETY: takes nothing.
            let now = unsafe { bpf_ktime_get_ns() };
            if now < sender.due {
                return XDP_DROP;
            }
            // What is long overdue, because this CPU did something else, is not sent in one go.
            let due = if now - sender.due > LATE { now } else { sender.due };
            sender.due = due + sender.interval;
        }
        sender.left = sender.burst;
    }
    sender.left -= 1;
    let now = sender.next;
    sender.next = if now + 1 < sender.end { now + 1 } else { sender.start };
    let Some(frame) = frames.get_ptr_mut(now) else { return XDP_ABORTED };
    // SAFETY: the value lies in the map, and the helpers check what they are given. Each frame begins with a room of `N`.
    let written = unsafe {
        let octets = (&raw mut (*frame).octets).cast();
        bpf_xdp_store_bytes(context, 0, octets, N as u32) == 0
            && bpf_xdp_adjust_tail(context, (*frame).len as i32 - N as i32) == 0
    };
    if !written {
        return XDP_ABORTED;
    }
    sender.sent += 1;
    // SAFETY: takes two numbers.
    unsafe { bpf_redirect(sender.interface, 0) as u32 }
}

/// Nanoseconds.
const LATE: u64 = 1_000_000;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
