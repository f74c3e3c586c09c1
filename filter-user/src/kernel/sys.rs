//! The system call bpf(2), as far as aya does not offer it: batches over maps, pins, links, test runs.
//!
//! Each command's argument is the part of `union bpf_attr` (include/uapi/linux/bpf.h) that it reads; the kernel takes
//! what lies beyond it as zero.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::plain::{Plain, zeroed};

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct Id {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    retval: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// `struct bpf_map_info`, up to and with the name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapInfo {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Id.
    pub id: u32,
    /// Octets of a key.
    pub key_size: u32,
    /// Octets of a value, on one CPU.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    name: [u8; 16],
}

impl MapInfo {
    /// The first 15 octets of its name.
    pub fn name(&self) -> String {
        text(&self.name)
    }
}

/// `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramInfo {
    kind: u32,
    /// Id.
    pub id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    pointers: [u64; 2],
    loaded: u64,
    uid: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
}

impl ProgramInfo {
    /// The first 15 octets of its name.
    pub fn name(&self) -> String {
        text(&self.name)
    }
}

/// A name that ends with its first zero.
fn text(name: &[u8]) -> String {
    let end = name.iter().position(|octet| *octet == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned()
}

/// `struct bpf_link_info`, as far as XDP links go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkInfo {
    /// `BPF_LINK_TYPE_*`.
    pub kind: u32,
    /// Id.
    pub id: u32,
    /// Its program's id.
    pub program: u32,
    pad: u32,
    /// Interface index; 0 once the device is gone.
    pub interface: u32,
    rest: [u32; 3],
}

// SAFETY: `repr(C)`, integers only, without padding.
unsafe impl Plain for MapInfo {}
// SAFETY: as above.
unsafe impl Plain for ProgramInfo {}
// SAFETY: as above.
unsafe impl Plain for LinkInfo {}

/// Calls bpf(2) and returns what it returned.
fn call<A>(command: libc::c_int, argument: &mut A) -> io::Result<i32> {
    // SAFETY: `argument` lives over the call and is as long as we say. The pointers in it are made by the functions
    // below from references that live over the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(argument), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn call_fd<A>(command: libc::c_int, argument: &mut A) -> io::Result<OwnedFd> {
    let fd = call(command, argument)?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn address<T>(data: &[T]) -> u64 {
    data.as_ptr() as u64
}

fn address_mut<T>(data: &mut [T]) -> u64 {
    data.as_mut_ptr() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Reads an element; `value` is as long as the map's values (for each CPU, in per-CPU maps).
pub fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &mut [V]) -> io::Result<()> {
    let key = std::slice::from_ref(key);
    let mut element = Element { map: raw(map), pad: 0, key: address(key), value: address_mut(value), flags: 0 };
    call(LOOKUP_ELEM, &mut element).map(drop)
}

/// Writes an element; `value` as for [`lookup`].
pub fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &[V]) -> io::Result<()> {
    let key = std::slice::from_ref(key);
    let mut element = Element { map: raw(map), pad: 0, key: address(key), value: address(value), flags: 0 };
    call(UPDATE_ELEM, &mut element).map(drop)
}

/// Deletes an element.
pub fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let key = std::slice::from_ref(key);
    call(DELETE_ELEM, &mut Element { map: raw(map), pad: 0, key: address(key), value: 0, flags: 0 }).map(drop)
}

/// The key after `key`, or the first one.
pub fn next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = [zeroed::<K>()];
    let key = key.map_or(0, |key| address(std::slice::from_ref(key)));
    match call(GET_NEXT_KEY, &mut Element { map: raw(map), pad: 0, key, value: address_mut(&mut next), flags: 0 }) {
        Ok(_) => Ok(next.first().copied()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes elements in order; also says how many were written. Of keys and values the shorter counts.
pub fn update_batch<K: Plain, V: Plain>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> (usize, io::Result<()>) {
    let count = keys.len().min(values.len());
    batch(UPDATE_BATCH, map, address(keys), address(values), count)
}

/// Deletes elements in order; also says how many were deleted.
pub fn delete_batch<K: Plain>(map: BorrowedFd<'_>, keys: &[K]) -> (usize, io::Result<()>) {
    batch(DELETE_BATCH, map, address(keys), 0, keys.len())
}

fn batch(command: libc::c_int, map: BorrowedFd<'_>, keys: u64, values: u64, count: usize) -> (usize, io::Result<()>) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut argument =
        Batch { in_batch: 0, out_batch: 0, keys, values, count, map: raw(map), element_flags: 0, flags: 0 };
    match call(command, &mut argument) {
        Ok(_) => (count as usize, Ok(())),
        // The kernel writes the count only once it has begun.
        Err(error) if argument.count == count => (0, Err(error)),
        Err(error) => (argument.count as usize, Err(error)),
    }
}

/// Where a look-up in batches goes on. The kernel writes 4 octets for a hash map, else a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor(Option<[u8; CURSOR]>);

const CURSOR: usize = 32;

/// Reads the next elements: how many, and whether these were the last. `values` has room for as many as `keys` (for
/// each CPU, in per-CPU maps). ENOSPC: one hash bucket has more elements than there is room for.
pub fn lookup_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool)> {
    const { assert!(size_of::<K>() <= CURSOR) };
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let mut out = [0u8; CURSOR];
    let mut argument = Batch {
        in_batch: cursor.0.as_ref().map_or(0, |key| address(key)),
        out_batch: address_mut(&mut out),
        keys: address_mut(keys),
        values: address_mut(values),
        count,
        map: raw(map),
        element_flags: 0,
        flags: 0,
    };
    let last = match call(LOOKUP_BATCH, &mut argument) {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    cursor.0 = Some(out);
    Ok((argument.count as usize, last))
}

/// What the kernel says of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// What the kernel says of a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    info(program)
}

/// What the kernel says of a link.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

fn info<T: Plain>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut value = [zeroed::<T>()];
    call(INFO_BY_FD, &mut Info { fd: raw(fd), len: size_of::<T>() as u32, info: address_mut(&mut value) })?;
    let [value] = value;
    Ok(value)
}

/// Makes a ring buffer.
pub fn create_ring(octets: u32) -> io::Result<OwnedFd> {
    create(RINGBUF, [0, 0], octets, 0)
}

/// Makes an array of one word.
pub fn create_array() -> io::Result<OwnedFd> {
    create(ARRAY, [4, 4], 1, 0)
}

/// Makes an array of one map that is like this one.
pub fn create_array_of_maps(inner: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    create(ARRAY_OF_MAPS, [4, 4], 1, raw(inner))
}

fn create(kind: u32, [key_size, value_size]: [u32; 2], max_entries: u32, inner_map: u32) -> io::Result<OwnedFd> {
    call_fd(MAP_CREATE, &mut MapCreate { kind, key_size, value_size, max_entries, flags: 0, inner_map })
}

/// CLOCK_BOOTTIME, nanoseconds.
pub fn boot_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The clock is always there, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Opens a pin.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    call_fd(OBJ_GET, &mut Pin { path: path.as_ptr() as u64, fd: 0, flags: 0 })
}

/// Pins a map, program or link; the path must be free.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    call(OBJ_PIN, &mut Pin { path: path.as_ptr() as u64, fd: raw(fd), flags: 0 }).map(drop)
}

/// Opens a program by id.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    call_fd(PROG_BY_ID, &mut Id { id, next: 0, flags: 0 })
}

/// Opens a map by id.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    call_fd(MAP_BY_ID, &mut Id { id, next: 0, flags: 0 })
}

/// Opens a link by id.
pub fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    call_fd(LINK_BY_ID, &mut Id { id, next: 0, flags: 0 })
}

/// The smallest link id greater than `id`.
pub fn next_link_id(id: u32) -> io::Result<Option<u32>> {
    let mut argument = Id { id, next: 0, flags: 0 };
    match call(LINK_NEXT_ID, &mut argument) {
        Ok(_) => Ok(Some(argument.next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches an XDP program to an interface; `flags` are `XDP_FLAGS_*`.
pub fn link_create(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    call_fd(LINK_CREATE, &mut LinkCreate { program: raw(program), interface, attach_type: ATTACH_XDP, flags })
}

/// Replaces a link's program, atomically.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    call(LINK_UPDATE, &mut LinkUpdate { link: raw(link), program: raw(program), flags: 0, old_program: 0 }).map(drop)
}

/// Detaches a link for good.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(LINK_DETACH, &mut raw(link)).map(drop)
}

/// Runs a program on a frame: its action, the mean nanoseconds, and the length of what is in `out`.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], out: &mut [u8], repeat: u32) -> io::Result<(u32, u32, usize)> {
    let mut argument = TestRun {
        program: raw(program),
        size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        size_out: u32::try_from(out.len()).map_err(io::Error::other)?,
        data_in: address(frame),
        data_out: address_mut(out),
        repeat,
        ..TestRun::default()
    };
    call(PROG_TEST_RUN, &mut argument)?;
    Ok((argument.retval, argument.duration, argument.size_out as usize))
}

/// Runs a program on so many copies of a frame that are packets then: what it redirects is sent, from interfaces of this
/// thread's network namespace (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18). A signal ends it early.
pub fn run_live(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<()> {
    let mut argument = TestRun {
        program: raw(program),
        size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_in: address(frame),
        repeat,
        flags: LIVE_FRAMES,
        ..TestRun::default()
    };
    match call(PROG_TEST_RUN, &mut argument) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

const MAP_CREATE: libc::c_int = 0;
const LOOKUP_ELEM: libc::c_int = 1;
const UPDATE_ELEM: libc::c_int = 2;
const DELETE_ELEM: libc::c_int = 3;
const GET_NEXT_KEY: libc::c_int = 4;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_BY_ID: libc::c_int = 13;
const MAP_BY_ID: libc::c_int = 14;
const INFO_BY_FD: libc::c_int = 15;
const LOOKUP_BATCH: libc::c_int = 24;
const UPDATE_BATCH: libc::c_int = 26;
const DELETE_BATCH: libc::c_int = 27;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_BY_ID: libc::c_int = 30;
const LINK_NEXT_ID: libc::c_int = 31;
const LINK_DETACH: libc::c_int = 34;

/// BPF_F_TEST_XDP_LIVE_FRAMES.
const LIVE_FRAMES: u32 = 2;

// enum bpf_map_type
const ARRAY: u32 = 2;
const ARRAY_OF_MAPS: u32 = 12;
const RINGBUF: u32 = 27;

/// BPF_XDP of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;

/// BPF_LINK_TYPE_XDP of `enum bpf_link_type`.
pub const LINK_TYPE_XDP: u32 = 6;

const _: () = {
    assert!(size_of::<ProgramInfo>() == 80);
    assert!(size_of::<Batch>() == 56);
    assert!(size_of::<TestRun>() == 80);
};
