//! An XDP program that is not Cordon's: two instructions that let every packet pass.

use std::{
    ffi::{CString, c_long},
    io,
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::Path,
};

use anyhow::{Context, Result};

/// `bpf(2)` commands (include/uapi/linux/bpf.h).
const BPF_PROG_LOAD: c_long = 5;
const BPF_OBJ_PIN: c_long = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// `r0 = 2 (XDP_PASS); exit`: code, registers, offset, immediate of each.
const PASS: [u64; 2] = [0xb7 | (2 << 32), 0x95];

/// As `union bpf_attr` begins for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// As `union bpf_attr` begins for BPF_OBJ_PIN.
#[repr(C)]
struct ObjectPin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Loads the program and pins it; unpinned and detached, it is gone.
///
/// # Errors
/// The kernel refuses it, or the path is not on a BPF file system.
pub fn pin(path: &Path) -> Result<()> {
    let license = c"GPL";
    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        instructions: PASS.len() as u32,
        code: PASS.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("loading an XDP program")?;
    let name = CString::new(path.as_os_str().as_bytes())?;
    let pin = ObjectPin { path: name.as_ptr() as u64, descriptor: program as u32, flags: 0 };
    let pinned = bpf(BPF_OBJ_PIN, &pin);
    // SAFETY: the descriptor was just opened by us and is used nowhere else.
    unsafe { libc::close(program) };
    pinned.with_context(|| path.display().to_string())?;
    Ok(())
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size that is handed over, and what they point to
    // outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
