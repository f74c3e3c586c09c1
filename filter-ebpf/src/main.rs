//! The filter: attached where subscribers' packets come in.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the xdp macro makes a second, undocumented function of the same name")]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use filter_ebpf::{filter, packet::Packet};

/// Judges one packet.
#[xdp(frags)]
pub fn cordon(context: XdpContext) -> u32 {
    filter::judge(Packet::new(context.ctx))
}

filter_ebpf::seams!();

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
