//! Copies of packets for the deferred tier, which decides in userspace what cannot be decided here.
//!
//! State: one ring a CPU, so that CPUs do not wait for each other, and a bucket of copies. A copy is never a condition of
//! anything: what cannot be copied is counted, and the caller says what becomes of it.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, xdp_md},
    helpers::generated::bpf_get_smp_processor_id,
};
use filter_common::{
    frame,
    layout::{Deferred, TIER_DEAD},
    verdict::{Protocol, Tally},
};

use crate::{
    clock,
    lookup::Way,
    maps::{ASLEEP, DEFERRED, SETTINGS, Scratch, TIER, tally},
    packet::Packet,
    seam,
};

/// Copies the payload; tells whether it was copied, or what was counted instead. `held` says that the packet goes nowhere
/// meanwhile.
#[inline(always)]
pub fn copy(way: &Way, protocol: Protocol, held: bool) -> Tally {
    // SAFETY: the context is the program's.
    let code = unsafe { seam::tier_copy(way.packet.raw(), protocol as u32, u32::from(held)) };
    const COPIED: u32 = Tally::Copied as u32;
    const NO_TIER: u32 = Tally::NoTier as u32;
    const OVER_BUDGET: u32 = Tally::OverBudget as u32;
    match code {
        COPIED => Tally::Copied,
        NO_TIER => Tally::NoTier,
        OVER_BUDGET => Tally::OverBudget,
        _ => Tally::RingFull,
    }
}

/// See [`seam::tier_copy`].
#[inline(always)]
pub fn copy_seam(context: *mut xdp_md, protocol: u32, held: u32) -> u32 {
    let outcome = match seam::way(context) {
        Ok(way) => try_copy(&way, protocol as u8, held as u8),
        Err(_) => Tally::NoTier,
    };
    tally(outcome);
    outcome as u32
}

#[inline(always)]
fn try_copy(way: &Way, protocol: u8, held: u8) -> Tally {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let now = clock::now(scratch);
    if TIER.get(0).is_none_or(|tier| now.saturating_sub(tier.beat) > TIER_DEAD) {
        Tally::NoTier
    } else if !scratch.copies.take(now, SETTINGS.get(0).map_or(0, |settings| settings.copies_per_second)) {
        Tally::OverBudget
    } else if write(&way.packet, scratch, now, protocol, held) {
        Tally::Copied
    } else {
        Tally::RingFull
    }
}

#[inline(always)]
fn write(packet: &Packet, scratch: &mut Scratch, now: u64, protocol: u8, held: u8) -> bool {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ring) = DEFERRED.get(cpu) else { return false };
    let [high, low] = frame::source(packet, &scratch.network).unwrap_or_default();
    let len = scratch.payload.end.wrapping_sub(scratch.payload.start);
    let Some(mut entry) = ring.reserve(0) else { return false };
    let record: *mut Deferred = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted; its fields are plain.
    let whole = unsafe {
        (*record).time = now;
        (*record).flow = scratch.flow;
        (*record).connection = scratch.connection;
        // In halves: LLVM takes octets apart. The field is aligned as a multiple of eight octets in the record.
        (&raw mut (*record).client).cast::<[u64; 2]>().write([high.to_be(), low.to_be()]);
        (*record).sequence = scratch.sequence;
        (*record).start = scratch.start;
        (*record).tag_line = scratch.spot.line;
        (*record).tag = scratch.spot.tag;
        (*record).protocol = protocol;
        (*record).held = held;
        packet.copy_payload(scratch.payload.start, len, record)
    };
    if !whole {
        entry.discard(BPF_RB_NO_WAKEUP.into());
        return false;
    }
    entry.submit(wake_up(cpu));
    true
}

/// Only a reader that sleeps is woken: that costs more than all the rest.
#[inline(always)]
fn wake_up(cpu: u32) -> u64 {
    let Some(asleep) = ASLEEP.get_ptr_mut(cpu) else { return BPF_RB_NO_WAKEUP.into() };
    // SAFETY: the map's memory.
    unsafe {
        if *asleep == 0 {
            return BPF_RB_NO_WAKEUP.into();
        }
        *asleep = 0;
    }
    BPF_RB_FORCE_WAKEUP.into()
}

const _: () = assert!(core::mem::offset_of!(Deferred, client).is_multiple_of(8));
