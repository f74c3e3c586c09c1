//! BPF file systems of the tests' own: a machine need not have one at `/sys/fs/bpf`.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// One that ends with this value.
#[derive(Debug)]
pub struct Bpffs(PathBuf);

impl Bpffs {
    /// In a new folder.
    ///
    /// # Errors
    /// If it cannot be made or mounted: that takes root.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cordon-bpffs-{}-{number}", std::process::id()));
        mount("bpf", &path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let gone = unmount(&self.0).and_then(|()| fs::remove_dir(&self.0));
        if let Err(error) = gone {
            eprintln!("warning: {}: {error}", self.0.display());
        }
    }
}

/// Mounts a file system of this kind on a folder, which is made.
///
/// # Errors
/// As mount(2).
pub fn mount(kind: &str, folder: &Path) -> Result<()> {
    let shown = || format!("mounting {kind} on {} (this needs root)", folder.display());
    fs::create_dir_all(folder).with_context(shown)?;
    let (kind, folder) = (CString::new(kind)?, CString::new(folder.as_os_str().as_bytes())?);
    // SAFETY: the strings end in NUL and live until the call is over; none of these file systems takes data.
    let mounted = unsafe { libc::mount(kind.as_ptr(), folder.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()).with_context(shown) }
}

/// Detaches what is mounted on a folder: it is gone for everyone at once, and for good when the last process that holds
/// it ends.
///
/// # Errors
/// As umount(2).
pub fn unmount(folder: &Path) -> io::Result<()> {
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the string ends in NUL and lives until the call is over.
    if unsafe { libc::umount2(folder.as_ptr(), libc::MNT_DETACH) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
