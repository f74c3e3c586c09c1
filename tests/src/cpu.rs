//! Which CPU a thread runs on.

use std::{io, mem};

use anyhow::{Result, ensure};

/// Has a thread run on a CPU alone; 0 is the calling one.
///
/// # Errors
/// There is no such thread or CPU.
pub fn run_on(thread: u32, cpu: usize) -> Result<()> {
    // SAFETY: all bits zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the index comes from a set of the same type, or from the kernel.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set lives over the call, and is as long as we say.
    let done = unsafe { libc::sched_setaffinity(thread as libc::pid_t, size_of_val(&set), &set) };
    ensure!(done == 0, "keeping thread {thread} on CPU {cpu}: {}", io::Error::last_os_error());
    Ok(())
}

/// Keeps the calling thread on the CPU that it runs on.
///
/// # Errors
/// As [`run_on`].
pub fn stay() -> Result<()> {
    // SAFETY: takes nothing.
    run_on(0, unsafe { libc::sched_getcpu() }.max(0) as usize)
}
