//! From a name to its policy: the deepest node that the table has.

use core::arch::asm;

use filter_common::{
    bytes::Bytes,
    dns::{Question, Starts},
    filter,
    layout::{HashKey, MAX_REACH, NameBucket, NameKey, NameTag, Node, POLICY_ALLOW, POLICY_NONE},
    name::SuffixHash,
    verdict::Reason,
    walk::{Next, STEPS, Walk},
};

use crate::{
    maps::{GOING_ON, Glance, NAME_FILTER, NAMES, SETTINGS, Scratch, Search},
    packet::{Held, Packet, Whole, anew, repeat, turns},
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
    /// Steps through a name that are taken in a row, before the others cost calls.
    const STRAIGHT: u32;
    /// Steps in each of these calls.
    const TURN: u32;

    /// Of a packet's way.
    ///
    /// # Safety
    /// The way must be live.
    unsafe fn of(way: *mut Way) -> Self;
}

impl View for Packet {
    const STRAIGHT: u32 = STRAIGHT;
    const TURN: u32 = 1;

    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises.
        unsafe { (*way).packet }
    }
}

impl View for Whole {
    const STRAIGHT: u32 = STRAIGHT;
    const TURN: u32 = 1;

    #[inline(always)]
    unsafe fn of(way: *mut Way) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Self((*way).packet) }
    }
}

impl View for Held {
    /// The verifier goes through each of them, and few names are held.
    const STRAIGHT: u32 = 0;
    const TURN: u32 = 4;

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

/// Looks a name up. `Ok` if it leads to orders; their policy is in [`Scratch::slot`]. [`Reason::TlsSniInvalid`] for an
/// empty label.
#[inline(always)]
pub fn name<V: View, F: Form>(way: &mut Way, walk: Walk) -> Result<(), Reason> {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.walk = walk;
    let settings = SETTINGS.get(0).ok_or(Reason::TableBroken)?;
    scratch.depths = settings.depths;
    scratch.filter_lines = settings.filter_lines;
    scratch.buckets = settings.buckets;
    if !glance::<V, F>(way) {
        return Err(Reason::TlsSniInvalid);
    }
    let Glance { walk: Walk { depth, .. }, hits, deepest, .. } = scratch.glance;
    let [_, high] = scratch.depths;
    if deepest == 0 && high == 0 {
        return Err(Reason::NotListed);
    }
    scratch.labels = depth;
    scratch.depths = [hits, high];
    scratch.deepest = if high == 0 { deepest } else { u32::MAX };
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
    repeat(STEPS / V::TURN, exactly::<V, F>, way);
}

/// See [`exact_step`].
unsafe extern "C" fn exactly<V: View, F: Form>(_index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    turns(V::TURN.into(), way, |way| unsafe { exact_step::<V, F>(way) }).into()
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

/// Takes a name through the filter; false if it has an empty label.
#[inline(always)]
fn glance<V: View, F: Form>(way: &mut Way) -> bool {
    // SAFETY: `Way` refers to this CPU's scratch space.
    let scratch = unsafe { &mut *way.scratch };
    scratch.glance = Glance { walk: Walk::of(&scratch.walk), hits: 0, deepest: 0, line: 0 };
    for _ in 0..V::STRAIGHT {
        // SAFETY: it is live.
        let end = unsafe { glance_step::<V, F>(anew(way)) };
        if end != GOING_ON {
            return end == LOOKED;
        }
    }
    scratch.end = INVALID;
    repeat(STEPS / V::TURN, glance_on::<V, F>, way);
    scratch.end == LOOKED
}

/// Enough for most names.
const STRAIGHT: u32 = 12;

/// How a way through the filter ends: with the first label.
const LOOKED: u32 = 0;
/// With an empty label, or octets that are not there.
const INVALID: u32 = 1;

/// See [`glance_step`].
unsafe extern "C" fn glance_on<V: View, F: Form>(_index: u64, way: *mut Way) -> i64 {
    turns(V::TURN.into(), way, |way| {
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
    let [depths, _] = scratch.depths;
    glanced(&mut scratch.glance, next, key, depths, scratch.filter_lines)
}

/// What a step showed. Depths of 64 labels and more are not filtered.
#[inline(always)]
fn glanced(glance: &mut Glance, next: Option<Next>, key: &HashKey, depths: u64, lines: u32) -> u32 {
    let is_last = match next {
        Some(Next::More) => return GOING_ON,
        Some(Next::Label) => false,
        Some(Next::Last) => true,
        Some(Next::Empty) | None => return INVALID,
    };
    let hash = glance.walk.hash(key);
    let depth = glance.walk.depth;
    if depth <= filter::ANCHOR {
        glance.line = filter::line(hash, lines);
    }
    let bit = if depth < 64 { 1 << depth } else { 0 };
    if depths & bit != 0 && may_be_listed(glance.line, hash, lines) {
        glance.hits |= bit;
        glance.deepest = depth;
    }
    if is_last { LOOKED } else { GOING_ON }
}

/// Whether the filter lets a suffix through whose anchor has this line.
#[inline(always)]
fn may_be_listed(anchor: u32, hash: u32, lines: u32) -> bool {
    let (at, bits) = filter::place(hash);
    match word(anchor, at).map(|word| filter::may_hold(word, bits)) {
        Some(Some(may)) => may,
        Some(None) => word(filter::line(hash, lines), at).is_none_or(|word| word & bits == bits),
        // There is no such line; the table knows.
        None => true,
    }
}

/// A word of the filter.
#[inline(always)]
fn word(line: u32, at: usize) -> Option<u64> {
    NAME_FILTER.get(line)?.get(at).copied()
}

/// Looks up one suffix of the name, the last one found being the deepest. Whether it was the last to be looked up.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn probe(way: *mut Way, key: &NameKey, depth: u32) -> bool {
    // SAFETY: as the caller promises.
    let scratch = unsafe { &mut *(*way).scratch };
    let [low, high] = scratch.depths;
    let bits = if depth & 64 == 0 { low } else { high };
    if bits >> (depth & 63) & 1 != 0 {
        // SAFETY: as the caller promises.
        let found = unsafe { find(way, &key.tag()) };
        if found != 0 {
            scratch.node = found;
            scratch.node_depth = depth;
        }
    }
    depth >= scratch.deepest
}

/// A name's node as it stands in `NAMES`, or 0.
///
/// # Safety
/// For a live [`Way`] only.
#[inline(always)]
unsafe fn find(way: *mut Way, tag: &NameTag) -> u64 {
    // SAFETY: as the caller promises.
    let scratch = unsafe { &mut *(*way).scratch };
    let after = after(scratch.node);
    let home = tag.home(scratch.buckets).wrapping_add(after);
    let Some(bucket) = NAMES.get_ptr(home) else { return 0 };
    // SAFETY: the map's memory.
    let (found, reach) = unsafe { (node_in(bucket, tag), (&raw const (*bucket).reach).read_volatile()) };
    if found != 0 || reach == 0 {
        return found;
    }
    scratch.search = Search { tag: *tag, at: home, found: 0 };
    // SAFETY: as the caller promises.
    repeat(if reach < MAX_REACH { reach } else { MAX_REACH }, next_bucket, unsafe { &mut *way });
    scratch.search.found
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
    scratch.slot = if scratch.node_depth == scratch.labels { node.at } else { node.below };
    match scratch.slot {
        POLICY_NONE => Err(Reason::NotListed),
        POLICY_ALLOW => Err(Reason::Allowed),
        _ => Ok(()),
    }
}
