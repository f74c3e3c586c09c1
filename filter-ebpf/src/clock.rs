//! The time, as far as packets need it.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};

use crate::maps::Scratch;

/// The boot-time clock at this CPU's first look at it since the kernel's last tick, nanoseconds: some milliseconds late
/// at most. To read the clock takes longer than to find the order.
#[inline(always)]
pub fn now(scratch: &mut Scratch) -> u64 {
    // SAFETY: helpers without arguments.
    unsafe {
        let tick = bpf_jiffies64();
        if scratch.tick != tick || scratch.now == 0 {
            scratch.tick = tick;
            scratch.now = bpf_ktime_get_boot_ns();
        }
    }
    scratch.now
}
