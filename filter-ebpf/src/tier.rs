//! Copies of packets for the deferred tier, which decides in userspace what cannot be decided here.
//!
//! State: one ring a CPU, so that CPUs do not wait for each other, and a bucket of copies. A copy is never a condition of
//! anything: what cannot be copied is counted, and the caller says what becomes of it.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
};
use filter_common::{
    frame,
    layout::{Deferred, TIER_DEAD},
    verdict::{Protocol, Tally},
};

use crate::{
    lookup::Way,
    maps::{ASLEEP, DEFERRED, SETTINGS, Scratch, TIER, tally},
    packet::{Packet, octets},
};

/// Copies the payload; tells what was counted. `held` says that the packet goes nowhere meanwhile.
#[inline(always)]
pub fn copy(way: &mut Way, protocol: Protocol, held: bool) -> Tally {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let outcome = if TIER.get(0).is_none_or(|tier| now.saturating_sub(tier.beat) > TIER_DEAD) {
        Tally::NoTier
    } else if !scratch.copies.take(now, SETTINGS.get(0).map_or(0, |settings| settings.copies_per_second)) {
        Tally::OverBudget
    } else if write(&way.packet, scratch, now, protocol as u8, held) {
        Tally::Copied
    } else {
        Tally::RingFull
    };
    tally(outcome);
    outcome
}

#[inline(always)]
fn write(packet: &Packet, scratch: &mut Scratch, now: u64, protocol: u8, held: bool) -> bool {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ring) = DEFERRED.get(cpu) else { return false };
    let client = frame_source(packet, scratch);
    let len = scratch.payload.end.wrapping_sub(scratch.payload.start);
    let Some(mut entry) = ring.reserve(0) else { return false };
    let record: *mut Deferred = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted; its fields are plain.
    let whole = unsafe {
        (*record).time = now;
        (*record).flow = scratch.flow;
        (*record).connection = scratch.connection;
        (*record).client = client;
        (*record).sequence = scratch.sequence;
        (*record).start = scratch.start;
        (*record).tag_line = scratch.spot.line;
        (*record).tag = scratch.spot.tag;
        (*record).protocol = protocol;
        (*record).held = u8::from(held);
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

#[inline(always)]
fn frame_source(packet: &Packet, scratch: &Scratch) -> [u8; 16] {
    frame::source(packet, &scratch.network).map_or([0; 16], octets)
}
