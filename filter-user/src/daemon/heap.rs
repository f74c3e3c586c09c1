//! Memory that was freed, given back to the system.

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

/// Gives back what is free, if that is much. Reading and compiling a large list takes several times what is kept of it,
/// and the C library holds on to whatever lies below something that is still in use.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: neither takes or returns pointers; both lock what they look at.
    unsafe {
        if libc::mallinfo2().fordblks > MUCH {
            libc::malloc_trim(0);
        }
    }
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

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

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
        give_back();
        let after = resident();
        assert!(before - after > 32 << 20, "{before} {after}");
        assert_eq!(all.len(), 256);
    }
}
