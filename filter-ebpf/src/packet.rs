//! All reads and writes of packet memory, and the helpers on it.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{
        bpf_csum_diff, bpf_loop, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
        bpf_xdp_store_bytes,
    },
};
use filter_common::{
    answer::Buffer,
    bytes::{BUFFER, Bytes},
    layout::{COPY, Deferred, HELD, Stream},
    sieve::Place,
};

use crate::seam;

/// The integers of [`Bytes`], by the `read` of a type.
macro_rules! in_network_order {
    () => {
        #[inline(always)]
        fn be16(&self, at: u32) -> Option<u16> {
            self.read(at).map(u16::from_be)
        }

        #[inline(always)]
        fn be32(&self, at: u32) -> Option<u32> {
            self.read(at).map(u32::from_be)
        }

        #[inline(always)]
        fn be64(&self, at: u32) -> Option<u64> {
            self.read(at).map(u64::from_be)
        }
    };
}

/// The packet that the program runs for.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Packet {
    context: *mut xdp_md,
}

impl Packet {
    /// Of a program's context.
    #[inline(always)]
    pub fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }

    /// For a seam.
    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.context
    }

    /// For logging.
    #[cfg(feature = "log")]
    pub fn context(&self) -> aya_ebpf::programs::XdpContext {
        aya_ebpf::programs::XdpContext::new(self.context)
    }

    /// Index of the interface that it came in at.
    #[inline(always)]
    pub fn interface(&self) -> u32 {
        // SAFETY: the context is the program's.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// Reads an integer, without regard to alignment or byte order, from the first buffer.
    #[inline(always)]
    fn read<T: Integer>(&self, at: u32) -> Option<T> {
        if at > LAST {
            return None;
        }
        let mut at = at as usize;
        // SAFETY: the mask is arithmetic only. It stands in assembly because LLVM would drop it where it has seen a
        // comparison, and the verifier would then not know the bound. It touches no memory: LLVM need not fetch the
        // packet's ends anew behind it.
        unsafe { asm!("{0} &= 16383", inout(reg) at, options(pure, nomem, nostack, preserves_flags)) };
        // SAFETY: the context is the program's, and the verifier checks the comparison against the packet's end.
        unsafe {
            let start = (*self.context).data as usize + at;
            if start + size_of::<T>() > (*self.context).data_end as usize {
                return None;
            }
            Some(*(start as *const T))
        }
    }

    /// Writes octets at `at`; false if they do not lie in the frame.
    #[inline(always)]
    pub fn store<T>(&self, at: u32, octets: &mut T) -> bool {
        // SAFETY: the helper checks the range.
        unsafe { bpf_xdp_store_bytes(self.context, at, (octets as *mut T).cast(), size_of::<T>() as u32) == 0 }
    }

    /// Copies a name of up to 255 octets; false if it does not lie in the frame.
    #[inline(always)]
    pub fn copy_name(&self, at: u32, len: u32, name: &mut [u8; 256]) -> bool {
        if len == 0 {
            return false;
        }
        let mut last = u64::from(len) - 1;
        // SAFETY: arithmetic only; see `Packet::read` and `length`.
        unsafe { asm!("{0} &= 255", inout(reg) last) };
        let len = last + 1;
        // SAFETY: `len` is within the name, and the helper checks the packet's side.
        unsafe { bpf_xdp_load_bytes(self.context, at, name.as_mut_ptr().cast(), len as u32) == 0 }
    }

    /// Copies a payload of `len` octets, or the first [`COPY`] of them, to a record; false if they do not lie in the frame.
    ///
    /// # Safety
    /// The record must be writable.
    #[inline(always)]
    pub unsafe fn copy_payload(&self, at: u32, len: u32, record: *mut Deferred) -> bool {
        let cut = len > COPY as u32;
        let len = if cut { COPY as u32 } else { len };
        let mut last = u64::from(len.wrapping_sub(1));
        // SAFETY: arithmetic only; see `Packet::read`.
        unsafe { asm!("{0} &= 2047", inout(reg) last) };
        if last >= COPY as u64 {
            return false;
        }
        // SAFETY: `last + 1` octets lie in the record's payload, and the helper checks the packet's side.
        unsafe {
            (*record).len = len as u16;
            (*record).cut = u8::from(cut);
            let to = (&raw mut (*record).payload).cast();
            bpf_xdp_load_bytes(self.context, at, to, (last + 1) as u32) == 0
        }
    }

    /// Copies octets to `to` in what a stream holds; false if they do not lie in the frame or have no room there.
    #[inline(always)]
    pub fn hold(&self, at: u32, len: u32, held: &mut [u8; HELD], to: u32) -> bool {
        let Some(len) = length(len) else { return false };
        let to = bounded(to);
        if to + len > HELD as u64 {
            return false;
        }
        // SAFETY: `to` and `len` lie in what is held, and the helper checks the packet's side.
        unsafe {
            let to = held.as_mut_ptr().add(to as usize);
            bpf_xdp_load_bytes(self.context, at, to.cast(), len as u32) == 0
        }
    }

    /// Puts the octets `start..end` of the buffer in place of everything from `at` on.
    #[inline(always)]
    pub fn replace(&self, at: u32, buffer: &mut Buffer, start: u32, end: u32) -> bool {
        let grow = (at + end).wrapping_sub(start).wrapping_sub(self.len()) as i32;
        // SAFETY: the helper checks what it can do; the packet is as it was where it can not.
        if unsafe { bpf_xdp_adjust_tail(self.context, grow) } != 0 && !self.grow_head(grow) {
            return false;
        }
        self.put(at, buffer, start, end)
    }

    /// Writes the octets `start..end` of the buffer at `at`; false if they do not lie in the frame.
    #[inline(always)]
    pub fn put(&self, at: u32, buffer: &mut Buffer, start: u32, end: u32) -> bool {
        let Some(len) = length(end.wrapping_sub(start)) else { return false };
        let start = bounded(start);
        if start + len > BUFFER as u64 {
            return false;
        }
        // SAFETY: `start` and `len` lie in the buffer, and the helper checks the packet's side.
        unsafe {
            let from = buffer.as_mut_ptr().add(start as usize);
            bpf_xdp_store_bytes(self.context, at, from.cast(), len as u32) == 0
        }
    }

    /// Grows the packet in front, for where there is no room behind (on a veth pair there is next to none). Of what it
    /// held, the octets 6 to 22 are moved along: Ethernet source, tags and type. What comes behind is written anew.
    #[inline(always)]
    fn grow_head(&self, grow: i32) -> bool {
        let mut kept = [0u8; 16];
        // SAFETY: the helpers check the packet's side, and get the array with its length.
        unsafe {
            let array = kept.as_mut_ptr().cast();
            bpf_xdp_load_bytes(self.context, 6, array, 16) == 0
                && bpf_xdp_adjust_head(self.context, -grow) == 0
                && bpf_xdp_store_bytes(self.context, 6, array, 16) == 0
        }
    }
}

/// A packet with all its buffers (XDP frags): where a name may lie. Headers and DNS questions lie in the first.
#[derive(Clone, Copy)]
pub struct Whole(pub Packet);

impl Whole {
    #[inline(always)]
    fn read<T: Integer>(&self, at: u32) -> Option<T> {
        let near = self.0.read(at);
        if near.is_some() || at > LAST || at + size_of::<T>() as u32 > self.len() {
            return near;
        }
        // SAFETY: the context is the program's.
        Some(T::first_of(unsafe { seam::read_far(self.0.context, at) }))
    }
}

impl Bytes for Whole {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len()
    }

    in_network_order!();

    #[inline(always)]
    fn copy(&self, at: u32, len: u32, buffer: &mut Buffer, to: u32) -> bool {
        self.0.copy(at, len, buffer, to)
    }
}

/// See [`seam::read_far`].
#[inline(always)]
pub fn far_seam(context: *mut xdp_md, at: u32) -> u64 {
    let mut octets = 0_u64;
    let packet = Packet::new(context);
    let left = packet.len().wrapping_sub(at);
    // SAFETY: the helper writes as many octets as it is told, which is at most eight, and checks the packet's side.
    unsafe {
        let to = (&raw mut octets).cast();
        match left {
            0..2 => 0,
            2..4 => bpf_xdp_load_bytes(context, at, to, 2),
            4..8 => bpf_xdp_load_bytes(context, at, to, 4),
            _ => bpf_xdp_load_bytes(context, at, to, 8),
        };
    }
    octets
}

/// What is read in one piece.
trait Integer: Copy {
    /// The first octets in memory of these eight.
    fn first_of(octets: u64) -> Self;
}

impl Integer for u16 {
    #[inline(always)]
    fn first_of(octets: u64) -> Self {
        octets as Self
    }
}

impl Integer for u32 {
    #[inline(always)]
    fn first_of(octets: u64) -> Self {
        octets as Self
    }
}

impl Integer for u64 {
    #[inline(always)]
    fn first_of(octets: u64) -> Self {
        octets
    }
}

impl Bytes for Packet {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the helper reads the context only. It counts further buffers (XDP frags), too, which
        // [`Whole`] reads.
        unsafe { bpf_xdp_get_buff_len(self.context) as u32 }
    }

    in_network_order!();

    #[inline(always)]
    fn copy(&self, at: u32, len: u32, buffer: &mut Buffer, to: u32) -> bool {
        let Some(len) = length(len) else { return false };
        let to = bounded(to);
        if to + len > BUFFER as u64 {
            return false;
        }
        // SAFETY: `to` and `len` lie in the buffer, and the helper checks the packet's side.
        unsafe {
            let to = buffer.as_mut_ptr().add(to as usize);
            bpf_xdp_load_bytes(self.context, at, to.cast(), len as u32) == 0
        }
    }
}

/// A packet's first buffer, whose length is at hand: to ask for that of all is a call.
#[derive(Clone, Copy)]
pub struct Near(pub Packet);

impl Near {
    #[inline(always)]
    fn read<T: Integer>(&self, at: u32) -> Option<T> {
        self.0.read(at)
    }
}

impl Bytes for Near {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the program's.
        unsafe { ((*self.0.context).data_end as usize).wrapping_sub((*self.0.context).data as usize) as u32 }
    }

    in_network_order!();

    #[inline(always)]
    fn copy(&self, at: u32, len: u32, buffer: &mut Buffer, to: u32) -> bool {
        self.0.copy(at, len, buffer, to)
    }
}

/// A frame's first `N` octets, which are there: where the position is known when this is compiled, they are read without
/// a look at the frame's end.
#[derive(Clone, Copy)]
pub struct Head<const N: u32> {
    start: *const u8,
    len: u32,
}

impl<const N: u32> Head<N> {
    /// Of a packet whose first buffer holds as many.
    #[inline(always)]
    pub fn of(packet: &Packet) -> Option<Self> {
        // SAFETY: the context is the program's.
        let (start, end) = unsafe { ((*packet.context).data as usize, (*packet.context).data_end as usize) };
        if start + N as usize > end {
            return None;
        }
        Some(Self { start: start as *const u8, len: end.wrapping_sub(start) as u32 })
    }

    #[inline(always)]
    fn read<T: Copy>(&self, at: u32) -> Option<T> {
        if at + size_of::<T>() as u32 > N {
            return None;
        }
        // SAFETY: so many octets are there; processors read across words.
        Some(unsafe { *self.start.add(at as usize).cast::<T>() })
    }
}

impl<const N: u32> Bytes for Head<N> {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    in_network_order!();

    /// Nothing is answered from here.
    #[inline(always)]
    fn copy(&self, _at: u32, _len: u32, _buffer: &mut Buffer, _to: u32) -> bool {
        false
    }
}

/// What a stream holds, read like a packet. Its first octet is at [`Held::START`].
#[derive(Clone, Copy)]
pub struct Held(*const [u8; HELD]);

impl Held {
    /// Position of the first octet: a walk looks at eight octets before a name's first.
    pub const START: u32 = 8;

    /// Of a stream in the scratch space.
    #[inline(always)]
    pub fn of(stream: &Stream) -> Self {
        Self(&raw const stream.held)
    }

    #[inline(always)]
    fn read<T: Copy>(&self, at: u32) -> Option<T> {
        if at as usize > HELD + Self::START as usize - size_of::<T>() {
            return None;
        }
        let at = bounded(at) as usize;
        // SAFETY: within the scratch space: before what is held lie more than eight octets, and behind it more than
        // 512, which the verifier thinks of. Processors read across words; `read_unaligned` would read each octet.
        unsafe { Some(*self.0.cast::<u8>().add(at).sub(Self::START as usize).cast::<T>()) }
    }
}

impl Bytes for Held {
    #[inline(always)]
    fn len(&self) -> u32 {
        Self::START + HELD as u32
    }

    in_network_order!();

    /// Nothing is answered from here.
    #[inline(always)]
    fn copy(&self, _at: u32, _len: u32, _buffer: &mut Buffer, _to: u32) -> bool {
        false
    }
}

/// A packet's first buffer, of which octets up to a position are known to be there: nothing is read that begins beyond.
#[derive(Clone, Copy)]
pub struct Octets {
    start: usize,
    end: usize,
    len: u32,
}

impl Octets {
    /// Up to this position.
    #[inline(always)]
    pub fn up_to(packet: &Packet, len: u32) -> Option<Self> {
        // SAFETY: the context is the program's.
        let (start, end) = unsafe { ((*packet.context).data as usize, (*packet.context).data_end as usize) };
        (len <= LAST && start + len as usize <= end).then_some(Self { start, end, len })
    }

    #[inline(always)]
    fn read<T: Integer>(&self, at: u32) -> Option<T> {
        if at >= self.len {
            return None;
        }
        let start = self.start + masked::<{ LAST as i32 }>(at as usize);
        // SAFETY: the verifier checks the comparison.
        (start + size_of::<T>() <= self.end).then(|| unsafe { *(start as *const T) })
    }
}

impl Bytes for Octets {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    in_network_order!();

    /// Nothing is answered from here.
    #[inline(always)]
    fn copy(&self, _at: u32, _len: u32, _buffer: &mut Buffer, _to: u32) -> bool {
        false
    }
}

/// A place in a packet's first buffer.
#[derive(Clone, Copy)]
pub struct Cursor {
    at: usize,
    end: usize,
}

impl Cursor {
    /// The first place: behind Ethernet, IPv4, UDP and DNS headers.
    const FIRST: u32 = 14 + 20 + 8 + 12;

    /// At a position.
    #[inline(always)]
    pub fn of(packet: &Packet, at: u32) -> Option<Self> {
        if !(Self::FIRST..=LAST).contains(&at) {
            return None;
        }
        let at = masked::<{ LAST as i32 }>((at - Self::FIRST) as usize);
        // SAFETY: the context is the program's.
        let (start, end) = unsafe { ((*packet.context).data as usize, (*packet.context).data_end as usize) };
        Self { at: start + Self::FIRST as usize, end }.ahead(at)
    }
}

impl Place for Cursor {
    #[inline(always)]
    fn octet(self) -> u8 {
        // SAFETY: it is there.
        unsafe { *(self.at as *const u8) }
    }

    #[inline(always)]
    fn be16<const AT: usize>(self) -> u16 {
        const { assert!(AT + 2 <= Self::AHEAD) };
        // SAFETY: it is there; processors read across words.
        u16::from_be(unsafe { *((self.at + AT) as *const u16) })
    }

    #[inline(always)]
    fn before<const OCTETS: usize>(self) -> u64 {
        const { assert!(3 <= OCTETS && OCTETS <= Self::BACK && Self::BACK <= Self::FIRST as usize) };
        // SAFETY: as in `be16`.
        u64::from_be(unsafe { *((self.at - OCTETS) as *const u64) })
    }

    #[inline(always)]
    fn ahead(self, octets: usize) -> Option<Self> {
        let mut at = self.at + octets;
        // SAFETY: does nothing. LLVM would compare another sum with the end than that by which it reads, and the verifier
        // does not see that both are one.
        unsafe { asm!("{0} = {0}", inout(reg) at, options(pure, nomem, nostack, preserves_flags)) };
        (at + Self::AHEAD <= self.end).then_some(Self { at, end: self.end })
    }

    #[inline(always)]
    fn below_64(number: usize) -> usize {
        masked::<63>(number)
    }
}

/// The last position that is read; the mask in [`Packet::read`] would take a later one for an earlier.
const LAST: u32 = 16383;

/// An IPv6 address in network order.
#[inline(always)]
pub fn octets([high, low]: [u64; 2]) -> [u8; 16] {
    // SAFETY: plain octets.
    unsafe { core::mem::transmute([high.to_be(), low.to_be()]) }
}

/// Below 512, in a way that the verifier sees.
#[inline(always)]
fn bounded(value: u32) -> u64 {
    let mut value = u64::from(value);
    // SAFETY: arithmetic only; see `Packet::read`.
    unsafe { asm!("{0} &= 511", inout(reg) value) };
    value
}

/// The bits of `MASK`, in a way that the verifier sees.
#[inline(always)]
pub fn masked<const MASK: i32>(mut value: usize) -> usize {
    // SAFETY: arithmetic only; see `Packet::read`.
    unsafe { asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack, preserves_flags)) };
    value
}

/// The length of a copy, from 1 to 512, in a way that the verifier sees. That it is not zero must follow from arithmetic,
/// too: the verifier of Linux 6.1 does not see it in a comparison.
#[inline(always)]
fn length(value: u32) -> Option<u64> {
    Some(bounded(value.checked_sub(1)?) + 1)
}

/// Copies a name to another place, word by word. By assignment LLVM would copy octets, and over the stack, since it takes
/// it that the two may overlap.
#[inline(always)]
pub fn copy_name(from: &[u8; 256], to: &mut [u8; 256]) {
    let (from, to) = (from.as_ptr().cast::<u64>(), to.as_mut_ptr().cast::<u64>());
    // SAFETY: references, of which one is exclusive, do not overlap; processors read across words.
    unsafe { core::ptr::copy_nonoverlapping(from, to, 256 / size_of::<u64>()) };
}

/// The sum of the 16-bit words of `start..end` of the buffer, in network order; behind `end` there are zeros up to
/// the next whole word of 32 bits.
#[inline(always)]
pub fn sum(buffer: &mut Buffer, start: u32, end: u32) -> u16 {
    let len = bounded(end.wrapping_sub(start).wrapping_add(3)) & !3;
    let start = bounded(start);
    if len == 0 {
        return 0;
    }
    // SAFETY: `start` and `len` are below 512 each, and the buffer holds 1,024.
    let sum = unsafe {
        let from = buffer.as_mut_ptr().add(start as usize);
        bpf_csum_diff(core::ptr::null_mut(), 0, from.cast(), len as u32, 0)
    };
    u16::from_be(filter_common::answer::fold(sum as u32))
}

/// Calls `step` up to `times` times, until it says `true`. The state must not lie in registers: the verifier follows
/// one call of the step only.
///
/// Where processors are kept from predicting returns (AMD's Safe RET, for one), a call costs as much as fifty
/// instructions: what takes many short steps takes some of them in each call, by [`turns`].
#[inline(always)]
pub fn repeat<T>(times: u32, step: unsafe extern "C" fn(u64, *mut T) -> i64, state: &mut T) {
    let step = step as *mut c_void;
    // SAFETY: the step gets what it expects, and returns 0 or 1.
    unsafe { bpf_loop(times, step, (state as *mut T).cast(), 0) };
}

/// Takes up to `times` steps, until one says `true`; whether one did. The verifier goes through each.
#[inline(always)]
pub fn turns<T>(times: u64, state: *mut T, step: impl Fn(*mut T) -> bool) -> bool {
    // A count that the verifier follows must fill its place on the stack.
    for _ in 0..times {
        if step(anew(state)) {
            return true;
        }
    }
    false
}

/// The same. It has LLVM keep a loop's state in memory, where it means nothing to the verifier from one step to the next:
/// in registers, it would follow each number of labels by itself.
#[inline(always)]
pub fn anew<T>(mut state: *mut T) -> *mut T {
    // SAFETY: does nothing.
    unsafe { asm!("{0} = {0}", inout(reg) state) };
    state
}
