//! Memory that was freed, given back to the system.

#[cfg(target_env = "gnu")]
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Has large pieces of memory given back as soon as they are freed. By itself the C library comes to keep up to 64 MiB
/// of free memory for each thread, once the daemon has read a large list.
#[cfg(target_env = "gnu")]
pub(super) fn set_up() {
    // SAFETY: neither takes pointers; before other threads have begun, as mallopt(3) asks for.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}

/// Another C library does as it pleases.
#[cfg(not(target_env = "gnu"))]
pub(super) fn set_up() {}

/// Gives back what is free, if that may be much. Reading and compiling a large list takes several times what is kept of
/// it, and the C library holds on to whatever lies below something that is still in use.
///
/// To look for that takes a while in a large heap, and what the library says of it counts what was given back before. So
/// it is done only where the process has grown by as much since the last time.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    static BEFORE: AtomicUsize = AtomicUsize::new(0);
    if has_grown(&BEFORE, resident()) {
        trim();
        BEFORE.store(resident(), Relaxed);
    }
}

/// Whether there is much more now than there was least since the last time.
#[cfg(target_env = "gnu")]
fn has_grown(before: &AtomicUsize, now: usize) -> bool {
    let least = before.fetch_min(now, Relaxed).min(now);
    now - least >= MUCH
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: neither takes or returns pointers; both lock what they look at.
    unsafe {
        if libc::mallinfo2().fordblks > MUCH {
            libc::malloc_trim(0);
        }
    }
}

/// Octets of the process that are in memory.
#[cfg(target_env = "gnu")]
fn resident() -> usize {
    let pages = || std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<usize>().ok();
    pages().unwrap_or_default() * PAGE
}

/// Another C library does as it pleases.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}

/// Octets.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Octets.
#[cfg(target_env = "gnu")]
const MUCH: usize = 16 << 20;

/// Octets of a page, on all that this is built for.
#[cfg(target_env = "gnu")]
const PAGE: usize = 4096;

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_is_given_back() {
        let mut all: Vec<Box<[u8; 1024]>> = (0..64 << 10).map(|_| Box::new([1; 1024])).collect();
        // One in 256 stays: what is in between is pages that nobody uses.
        let mut number = 0_usize;
        all.retain(|_| {
            number += 1;
            number.is_multiple_of(256)
        });
        let before = resident();
        trim();
        let after = resident();
        assert!(before - after > 32 << 20, "{before} {after}");
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn it_is_looked_for_only_where_the_process_has_grown() {
        let before = AtomicUsize::new(0);
        let has_grown = |now: usize| super::has_grown(&before, now);
        assert!(has_grown(MUCH));
        before.store(MUCH, Relaxed);
        assert!(!has_grown(MUCH) && !has_grown(2 * MUCH - 1));
        assert!(has_grown(2 * MUCH));
        // What it shrank to counts.
        assert!(!has_grown(MUCH / 2) && !has_grown(MUCH));
        assert!(has_grown(MUCH / 2 + MUCH));
    }
}
