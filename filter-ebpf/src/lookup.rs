//! From a name to its policy: the deepest node that the table has.

use core::arch::asm;

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    bytes::Bytes,
    dns::{Question, Starts},
    filter,
    layout::{HashKey, MAX_REACH, NameBucket, NameTag, Node, POLICY_ALLOW, POLICY_NONE},
    name::SuffixHash,
    verdict::Reason,
    walk::{Next, STEPS, Walk},
};

use crate::{
    maps::{GOING_ON, Glance, NAME_FILTER, NAMES, SETTINGS, Scratch},
    packet::{Held, Packet, Whole, anew, repeat, turns},
    seam,
    sieve::{Sifted, passes},
};

/// What the steps of a loop work on.
#[repr(C)]
pub struct Way {
    /// The packet.
    pub packet: Packet,
    /// This CPU's scratch space.
    pub scratch: *mut Scratch,
    /// The installation's hash key.
    pub key: *const HashKey,
}

/// Where a name lies.
pub trait View: Bytes + Copy {
    /// Steps through a name that the filter let through that are taken in a row, before the others cost calls.
    const STRAIGHT: u32;

    /// Of a packet's way.
    ///
    /// # Safety
    /// The way must be live.
    unsafe fn of(way: *mut Way) -> Self;
}

impl View for Packet {
    const STRAIGHT: u32 = STRAIGHT;

    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises.
        unsafe { (*way).packet }
    }
}

impl View for Whole {
    const STRAIGHT: u32 = STRAIGHT;

    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Self((*way).packet) }
    }
}

impl View for Held {
    /// The verifier goes through each of them, and few names are held.
    const STRAIGHT: u32 = 0;

    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises; it refers to this CPU's scratch space.
        unsafe { Held::of(&(*(*way).scratch).stream) }
    }
}

/// How the labels of a name are told apart.
pub trait Form {
    /// Takes the next octets of a name into a hash.
    fn step<V: View, H: SuffixHash>(
        view: &V,
        question: &Question,
        starts: &Starts,
        key: &HashKey,
        walk: &mut Walk<H>,
    ) -> Option<Next>;
}

/// Length octets, which were read before: the name of a DNS question.
pub struct Lengths;

impl Form for Lengths {
    #[inline(always)]
    fn step<V: View, H: SuffixHash>(
        view: &V,
        question: &Question,
        starts: &Starts,
        key: &HashKey,
        walk: &mut Walk<H>,
    ) -> Option<Next> {
        walk.next_dns(view, key, question.labels, starts)
    }
}

/// Dots: a host name.
pub struct Dots;

impl Form for Dots {
    #[inline(always)]
    fn step<V: View, H: SuffixHash>(
        view: &V,
        _question: &Question,
        _starts: &Starts,
        key: &HashKey,
        walk: &mut Walk<H>,
    ) -> Option<Next> {
        walk.next_sni(view, key)
    }
}

/// Takes a name through the filter step by step: `Ok`, with what is to be looked up in [`Scratch::sifted`], unless that
/// shows that it is not listed. [`Reason::TlsSniInvalid`] for an empty label.
#[inline(always)]
pub fn filtered<V: View, F: Form>(way: &mut Way, walk: &Walk) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    let [low, high] = settings.depths;
    scratch.sifted = Sifted::default();
    scratch.glance = Glance { walk: Walk::of(walk), depths: low, lines: settings.filter_lines, line: 0 };
    if !glance::<V, F>(way) {
        return Err(Reason::TlsSniInvalid);
    }
    scratch.sifted.labels = scratch.glance.walk.depth;
    scratch.sifted.deeper = high;
    if scratch.sifted.is_none() { Err(Reason::NotListed) } else { Ok(()) }
}

/// Looks up what the filter let through, in [`Scratch::sifted`]. `Ok` if it leads to orders; their policy is in
/// [`Scratch::slot`].
#[inline(always)]
pub fn exact<V: View, F: Form>(way: &mut Way, walk: Walk) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.walk = walk;
    scratch.buckets = SETTINGS.get(0).ok_or(Reason::TableBroken)?.buckets;
    scratch.node = 0;
    scratch.node_depth = 0;
    search::<V, F>(way);
    listed(scratch)
}

/// Looks up what the filter let through.
#[inline(always)]
fn search<V: View, F: Form>(way: &mut Way) {
    for _ in 0..V::STRAIGHT {
        // SAFETY: it is live.
        if unsafe { exact_step::<V, F>(anew(way)) } {
            return;
        }
    }
    repeat(STEPS / TURN, exactly::<V, F>, way);
}

/// See [`exact_step`].
unsafe extern "C" fn exactly<V: View, F: Form>(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    turns(TURN.into(), way, |way| unsafe { exact_step::<V, F>(way) }).into()
}

/// One step through the hash by which names are known. It looks up each suffix that the filter let through; whether that
/// was the last.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn exact_step<V: View, F: Form>(way: *mut Way) -> bool {
    // SAFETY: as the caller promises.
    let (view, scratch, key) = unsafe { (V::of(way), &mut *(*way).scratch, &*(*way).key) };
    match F::step(&view, &scratch.question, &scratch.starts, key, &mut scratch.walk) {
        Some(Next::More) => false,
        Some(next @ (Next::Label | Next::Last)) => {
            // SAFETY: as the caller promises.
            let is_deepest = unsafe { probe(way, &scratch.walk.hash(key), scratch.walk.depth) };
            is_deepest || next == Next::Last
        }
        // The name was read before; this does not happen.
        Some(Next::Empty) | None => true,
    }
}

/// Takes a name through the filter; false if it has an empty label. Most names take a shorter way: [`sieve`](crate::sieve).
#[inline(always)]
fn glance<V: View, F: Form>(way: &mut Way) -> bool {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.end = INVALID;
    repeat(STEPS / TURN, glance_on::<V, F>, way);
    scratch.end == LOOKED
}

/// Steps in each call of a loop.
pub const TURN: u32 = 4;

/// Enough for most names.
const STRAIGHT: u32 = 12;

/// How a way through the filter ends: with the first label.
const LOOKED: u32 = 0;
/// With an empty label, or octets that are not there.
const INVALID: u32 = 1;

/// See [`glance_step`].
unsafe extern "C" fn glance_on<V: View, F: Form>(_index: u64, way: *mut Way) -> i64 {
    turns(TURN.into(), way, |way| {
        // SAFETY: as in `exactly`.
        let end = unsafe { glance_step::<V, F>(way) };
        if end != GOING_ON {
            // SAFETY: as above.
            unsafe { (*(*way).scratch).end = end };
        }
        end != GOING_ON
    })
    .into()
}

/// One step through the filter.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn glance_step<V: View, F: Form>(way: *mut Way) -> u32 {
    // SAFETY: as the caller promises.
    let (view, scratch, key) = unsafe { (V::of(way), &mut *(*way).scratch, &*(*way).key) };
    let next = F::step(&view, &scratch.question, &scratch.starts, key, &mut scratch.glance.walk);
    glanced(scratch, next, key)
}

/// What a step showed. Depths of 64 labels and more are not filtered.
#[inline(always)]
fn glanced(scratch: &mut Scratch, next: Option<Next>, key: &HashKey) -> u32 {
    let is_last = match next {
        Some(Next::More) => return GOING_ON,
        Some(Next::Label) => false,
        Some(Next::Last) => true,
        Some(Next::Empty) | None => return INVALID,
    };
    let glance = &mut scratch.glance;
    let (hash, depth) = (glance.walk.hash(key), glance.walk.depth);
    if depth <= filter::ANCHOR {
        glance.line = filter::line(hash, glance.lines);
    }
    let bit = if depth < 64 { 1 << depth } else { 0 };
    if glance.depths & bit != 0 && may_be_listed(glance.line, hash, glance.lines) {
        scratch.sifted.depths |= bit;
        scratch.sifted.deepest = depth;
    }
    if is_last { LOOKED } else { GOING_ON }
}

/// Whether the filter lets a suffix through whose anchor has this line.
#[inline(always)]
fn may_be_listed(anchor: u32, hash: u32, lines: u32) -> bool {
    // If there is no such line, the table knows.
    NAME_FILTER.get(anchor).is_none_or(|anchor| passes(anchor, hash, lines))
}

/// Looks up one suffix of the name, the last one found being the deepest. Whether it was the last to be looked up.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn probe(way: *mut Way, tag: &NameTag, depth: u32) -> bool {
    // SAFETY: as the caller promises.
    let scratch = unsafe { &mut *(*way).scratch };
    let Sifted { depths, deeper, deepest, .. } = scratch.sifted;
    let bits = if depth & 64 == 0 { depths } else { deeper };
    if bits >> (depth & 63) & 1 != 0 {
        scratch.search.tag = *tag;
        // SAFETY: the context is the program's.
        if seam::decode(unsafe { seam::find_node((*way).packet.raw()) }).is_ok() {
            scratch.node = scratch.search.found;
            scratch.node_depth = depth;
        }
    }
    depth >= deepest && deeper == 0
}

/// See [`seam::find_node`].
#[inline(always)]
pub fn find_seam(context: *mut xdp_md) -> u32 {
    seam::encode(seam::way(context).and_then(|mut way| find(&mut way)))
}

/// Finds the node of the name in [`Scratch::search`] as it stands in `NAMES`.
#[inline(always)]
fn find(way: &mut Way) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    let tag = scratch.search.tag;
    scratch.search.at = tag.home(scratch.buckets).wrapping_add(after(scratch.node));
    let bucket = NAMES.get_ptr(scratch.search.at).ok_or(Reason::TableBroken)?;
    // SAFETY: the map's memory.
    let reach = unsafe {
        scratch.search.found = node_in(bucket, &tag);
        (&raw const (*bucket).reach).read_volatile()
    };
    if scratch.search.found == 0 && reach != 0 {
        repeat(if reach < MAX_REACH { reach } else { MAX_REACH }, next_bucket, way);
    }
    if scratch.search.found == 0 { Err(Reason::NotListed) } else { Ok(()) }
}

/// Looks at one bucket behind a name's home.
unsafe extern "C" fn next_bucket(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let scratch = unsafe { &mut *(*way).scratch };
    let next = scratch.search.at.wrapping_add(1);
    scratch.search.at = if next < scratch.buckets { next } else { 0 };
    let Some(bucket) = NAMES.get_ptr(scratch.search.at) else { return 1 };
    let tag = scratch.search.tag;
    // SAFETY: the map's memory.
    scratch.search.found = unsafe { node_in(bucket, &tag) };
    i64::from(scratch.search.found != 0)
}

/// A name's node, if the bucket holds it; else 0.
///
/// # Safety
/// The bucket must be live.
#[inline(always)]
unsafe fn node_in(bucket: *const NameBucket, tag: &NameTag) -> u64 {
    // SAFETY: as the caller promises; the daemon writes each of these with one store.
    let NameBucket { nodes, tags, .. } = unsafe { &*bucket };
    for (node, lanes) in nodes.iter().zip(tags) {
        if *lanes == tag.lanes {
            // SAFETY: as above.
            let node = unsafe { core::ptr::from_ref(node).read_volatile() };
            if node != 0 {
                return node;
            }
        }
    }
    0
}

/// Zero, so that what is read at a place to which it was added is read after `node` was. Names are written deepest
/// first: who has met a new one must meet those below it. A CPU that reads out of order (arm64) keeps to the
/// dependency; on x86 it costs nothing.
#[inline(always)]
fn after(node: u64) -> u32 {
    let mut zero = node;
    // SAFETY: arithmetic only. LLVM would leave it out.
    unsafe { asm!("{0} ^= {0}", inout(reg) zero) };
    zero as u32
}

/// Whether the node that was found leads to orders.
#[inline(always)]
fn listed(scratch: &mut Scratch) -> Result<(), Reason> {
    let Some(node) = Node::from_word(scratch.node) else { return Err(Reason::NotListed) };
    scratch.slot = if scratch.node_depth == scratch.sifted.labels { node.at } else { node.below };
    match scratch.slot {
        POLICY_NONE => Err(Reason::NotListed),
        POLICY_ALLOW => Err(Reason::Allowed),
        _ => Ok(()),
    }
}
