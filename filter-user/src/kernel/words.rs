//! An array map's memory, as this process sees it: for what is read and written so often that system calls would take
//! longer than the work.
//!
//! Trust: the map's shape was compared when it was opened, so it has as many octets as are mapped.

use std::{
    fmt, io,
    ops::Deref,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

use super::error::Error;

/// Types that may be shared with the program, and with other processes.
///
/// # Safety
/// `repr(C)` or transparent, atomic integers only, no padding.
pub unsafe trait Atomic: Sync {}

// SAFETY: an atomic integer.
unsafe impl Atomic for AtomicU64 {}

/// The elements of a map that was made with `BPF_F_MMAPABLE` (Linux 5.5), or the first of them.
pub struct Mapped<T: Atomic> {
    start: NonNull<T>,
    len: usize,
}

/// The words of a map.
pub type Words = Mapped<AtomicU64>;

// SAFETY: atomic integers, which any thread may use; the mapping ends with this value.
unsafe impl<T: Atomic> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Atomic> Sync for Mapped<T> {}

impl<T: Atomic> Mapped<T> {
    /// The first `len` elements.
    ///
    /// # Errors
    /// If the kernel does not map it.
    pub fn map(fd: BorrowedFd<'_>, name: &str, len: usize) -> Result<Self, Error> {
        let error = |source| Error::System { what: format!("mapping {name}"), source };
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, wherever the kernel puts it.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len * size_of::<T>(), access, kind, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(error(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| error(io::ErrorKind::AddrNotAvailable.into()))?;
        Ok(Self { start, len })
    }

    /// An element, if there are so many.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.deref().get(index as usize)
    }
}

impl<T: Atomic> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping, which lives as long as `self`, and is aligned as pages are.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Atomic> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our mapping, of which no reference is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

impl<T: Atomic> fmt::Debug for Mapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("len", &self.len).finish_non_exhaustive()
    }
}
