//! An array map's memory, as this process sees it: for what the deferred tier reads and writes at each copy, for which
//! system calls would take longer than the work.
//!
//! Trust: the map's shape was compared when it was opened, so each element is of eight octets, or begins with as many
//! words as are read.

use std::{
    fmt, io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

use super::error::Error;

/// The words of a map that was made with `BPF_F_MMAPABLE` (Linux 5.5).
pub struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: atomic words, which any thread may use; the mapping ends with this value.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// The first `len` words.
    ///
    /// # Errors
    /// If the kernel does not map it.
    pub fn map(fd: BorrowedFd<'_>, name: &str, len: usize) -> Result<Self, Error> {
        let error = |source| Error::System { what: format!("mapping {name}"), source };
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, wherever the kernel puts it.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len * size_of::<u64>(), access, kind, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(error(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| error(io::ErrorKind::AddrNotAvailable.into()))?;
        Ok(Self { start, len })
    }

    /// A word, if there are so many.
    pub fn get(&self, index: u32) -> Option<&AtomicU64> {
        let index = index as usize;
        // SAFETY: within the mapping, which lives as long as `self`, and aligned as pages are.
        (index < self.len).then(|| unsafe { self.start.add(index).as_ref() })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: our mapping, of which no reference is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<u64>()) };
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("len", &self.len).finish_non_exhaustive()
    }
}
