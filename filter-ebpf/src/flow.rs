//! What is remembered of a flow between packets: that it was opened, a message in progress, a name.
//!
//! State: the tags in `FLOWS` say cheaply whether there is anything; `SYN_MARKS`, `STREAMS` and `REMEMBERED` hold it, each
//! bounded, so that what is lost to pressure lets packets pass and never stops one. Trust: anyone can make state for
//! any flow by forged packets; so a remembered name binds to sequence numbers or to a connection id.

use aya_ebpf::bindings::xdp_md;
use filter_common::{
    bytes::Bytes,
    flow::{self, Spot},
    frame::{self, Network},
    layout::{FlowKey, Flows, HashKey, REMEMBERED_IDLE, Remembered, SynMark},
    quic::{self, MAX_CONNECTION_ID, MIN_SERVER_ID},
    verdict::{Protocol, Reason, Tally},
};

use crate::{
    clock, filter,
    lookup::Way,
    maps::{FLOWS, HASH_KEY, NO_STATE, REMEMBERED, STREAMS, SYN_MARKS, Scratch, tally},
    packet::{Held, Packet, copy_name, repeat},
    seam,
};

/// Finds the flow's place, and what the tags say of it.
#[inline(always)]
pub fn find(packet: &Packet, scratch: &mut Scratch) -> Result<(), Reason> {
    let flows = FLOWS.get(0).ok_or(Reason::TableBroken)?;
    scratch.spot = flow::spot(packet, &scratch.network, &flows.spot).ok_or(Reason::FrameMalformed)?;
    let kinds = line(flows, &scratch.spot).and_then(|line| flow::kinds(line, scratch.spot.tag));
    scratch.kinds = kinds.map_or(NO_STATE, u32::from);
    Ok(())
}

/// Whether the tags say that nothing is known of the packet's flow.
#[inline(always)]
pub fn is_unknown<H: Bytes>(head: &H, network: &Network, flows: &Flows) -> bool {
    let Some(spot) = flow::spot(head, network, &flows.spot) else { return false };
    line(flows, &spot).is_some_and(|line| !flow::holds(line, spot.tag))
}

#[inline(always)]
fn line(flows: &Flows, spot: &Spot) -> Option<u64> {
    flows.tags.get(spot.line as usize).copied()
}

#[inline(always)]
fn hash_key() -> Result<&'static HashKey, Reason> {
    HASH_KEY.get(0).ok_or(Reason::TableBroken)
}

/// Computes the flow's key.
#[inline(always)]
pub fn identify(packet: &Packet, scratch: &mut Scratch) -> Result<(), Reason> {
    if scratch.network.version == 4 && !frame::has_link_words(&scratch.network) {
        // Nearly all, and the seam is a call.
        let key = hash_key()?;
        let whole = flow::begin_key(packet, &scratch.network, packet.interface(), key).ok_or(Reason::FrameMalformed)?;
        scratch.flow = FlowKey { lanes: whole.lanes(key) };
        return Ok(());
    }
    // SAFETY: the context is the program's.
    seam::decode(unsafe { seam::flow_key(packet.raw()) })?;
    // Of a pointer of its own: what a seam wrote is not to be taken for what lay there before.
    scratch.flow = filter::scratch()?.flow;
    Ok(())
}

/// See [`seam::flow_key`].
#[inline(always)]
pub fn key_seam(context: *mut xdp_md) -> u32 {
    seam::encode(seam::way(context).and_then(|mut way| {
        // SAFETY: `Way` refers to this CPU's scratch space.
        let (packet, scratch, key) = unsafe { (way.packet, &mut *way.scratch, &*way.key) };
        let begun = flow::begin_key(&packet, &scratch.network, packet.interface(), key);
        scratch.hasher = begun.ok_or(Reason::FrameMalformed)?;
        if scratch.network.version == 6 {
            scratch.addresses = flow::more_addresses(&packet, &scratch.network).ok_or(Reason::FrameMalformed)?;
            repeat(ADDRESS_WORDS, address_word, &mut way);
        }
        if frame::has_link_words(&scratch.network) {
            // SAFETY: the context is the program's.
            seam::decode(unsafe { seam::link_words(context) })?;
            repeat(LINK_WORDS, link_word, &mut way);
        }
        scratch.flow = FlowKey { lanes: scratch.hasher.lanes(key) };
        Ok(())
    }))
}

/// See [`seam::link_words`].
#[inline(always)]
pub fn link_seam(context: *mut xdp_md) -> u32 {
    seam::encode(seam::way(context).and_then(|way| {
        // SAFETY: `Way` refers to this CPU's scratch space.
        let scratch = unsafe { &mut *way.scratch };
        frame::link_words(&way.packet, &scratch.network, &mut scratch.link).ok_or(Reason::FrameMalformed)?;
        Ok(())
    }))
}

/// Takes one more word of the addresses into the key. In a loop: all of them at once would fill the stack.
unsafe extern "C" fn address_word(index: u64, way: *mut Way) -> i64 {
    // SAFETY: `repeat` hands over the state that it was given, whose pointers are live while it runs.
    let (scratch, key) = unsafe { (&mut *(*way).scratch, &*(*way).key) };
    let Some(word) = scratch.addresses.get(index as usize) else { return 1 };
    scratch.hasher.raw_word(key, *word);
    0
}

/// Takes one word of the link into the key.
unsafe extern "C" fn link_word(index: u64, way: *mut Way) -> i64 {
    // SAFETY: as in `address_word`.
    let (scratch, key) = unsafe { (&mut *(*way).scratch, &*(*way).key) };
    let Some(word) = scratch.link.get(index as usize) else { return 1 };
    scratch.hasher.raw_word(key, *word);
    0
}

const ADDRESS_WORDS: u32 = 3;
const LINK_WORDS: u32 = 6;

/// Has the tags announce these kinds of state.
#[inline(always)]
fn announce(scratch: &Scratch, kinds: u16) {
    let Some(line) = tag_line(scratch) else { return };
    // SAFETY: the map's memory. Another CPU may write the line meanwhile; then one flow's state is not found.
    let before = unsafe { *line };
    // SAFETY: as above.
    unsafe { *line = flow::with(before, scratch.spot.tag, kinds) };
    if flow::displaces(before, scratch.spot.tag) {
        tally(Tally::TagsDisplaced);
    }
}

/// Has the tags announce nothing.
#[inline(always)]
fn withdraw(scratch: &Scratch) {
    if let Some(line) = tag_line(scratch) {
        // SAFETY: as in `announce`.
        unsafe { *line = flow::without(*line, scratch.spot.tag) };
    }
}

/// The flow's line.
#[inline(always)]
fn tag_line(scratch: &Scratch) -> Option<*mut u64> {
    let flows = FLOWS.get_ptr_mut(0)?;
    // SAFETY: the map's memory.
    let line = unsafe {
        let lines = &raw mut (*flows).tags;
        (*lines).get_mut(scratch.spot.line as usize)
    };
    line.map(|line| &raw mut *line)
}

/// Whether the tags announce this kind of state.
#[inline(always)]
pub fn may_have(scratch: &Scratch, kind: u16) -> bool {
    scratch.kinds & u32::from(kind) != 0
}

/// Notes that the connection was opened, and that its data will start at [`Scratch::sequence`].
#[inline(always)]
pub fn mark(scratch: &Scratch) {
    if SYN_MARKS.insert(&scratch.flow, &SynMark { start: scratch.sequence, copied: 0 }, 0).is_ok() {
        announce(scratch, 0);
        tally(Tally::MarksSet);
    }
}

/// The mark of the flow.
#[inline(always)]
pub fn marked(scratch: &Scratch) -> Option<&'static mut SynMark> {
    // SAFETY: the map's memory. A mark that gives way to another flow's meanwhile is read as that one: its start fits
    // by chance only, and then a segment begins a hello, or is copied.
    SYN_MARKS.get_ptr_mut(&scratch.flow).map(|mark| unsafe { &mut *mark })
}

/// Forgets the mark, and a message in progress.
#[inline(always)]
pub fn finish(scratch: &mut Scratch) {
    if scratch.kinds == NO_STATE {
        return;
    }
    if may_have(scratch, flow::STREAM) {
        if STREAMS.remove(&scratch.flow).is_ok() {
            tally(Tally::StreamsDone);
        }
    } else if SYN_MARKS.remove(&scratch.flow).is_ok() {
        tally(Tally::MarksDone);
    }
    if may_have(scratch, flow::REMEMBERED) {
        announce(scratch, flow::REMEMBERED);
        scratch.kinds = u32::from(flow::REMEMBERED);
    } else {
        withdraw(scratch);
        scratch.kinds = NO_STATE;
    }
}

/// Forgets everything.
#[inline(always)]
pub fn forget(scratch: &mut Scratch) {
    if may_have(scratch, flow::REMEMBERED) {
        // That it is gone already is as well.
        let _ = REMEMBERED.remove(&scratch.flow);
        scratch.kinds &= !u32::from(flow::REMEMBERED);
    }
    finish(scratch);
}

/// Takes up the message in progress, if there is one.
#[inline(always)]
pub fn resume(scratch: &mut Scratch) -> bool {
    if !may_have(scratch, flow::STREAM) {
        return false;
    }
    let Some(saved) = STREAMS.get_ptr(&scratch.flow) else { return false };
    // SAFETY: the map's memory; the two do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(saved, &raw mut scratch.stream, 1) };
    // As in `lookup::probe`: an element may be used again for another flow while it is copied.
    STREAMS.get_ptr(&scratch.flow) == Some(saved)
}

/// Has the segments of the message in progress copied for the deferred tier from here on.
#[inline(always)]
pub fn copy_what_follows(scratch: &Scratch) {
    if let Some(saved) = STREAMS.get_ptr_mut(&scratch.flow) {
        // SAFETY: the map's memory. If it is another flow's meanwhile, that one's segments are copied, and read alike.
        unsafe { (*saved).copied = 1 };
    }
}

/// Keeps the message in progress for the next segment.
#[inline(always)]
pub fn keep(scratch: &mut Scratch) {
    let was_kept = may_have(scratch, flow::STREAM);
    if STREAMS.insert(&scratch.flow, &scratch.stream, 0).is_err() {
        return;
    }
    if !was_kept {
        tally(Tally::StreamsSet);
        if scratch.kinds != NO_STATE && SYN_MARKS.remove(&scratch.flow).is_ok() {
            tally(Tally::MarksDone);
        }
    }
    let remembered = if may_have(scratch, flow::REMEMBERED) { flow::REMEMBERED } else { 0 };
    announce(scratch, flow::STREAM | remembered);
}

/// Remembers the name that is held, for the segments of its hello.
#[inline(always)]
pub fn remember(scratch: &mut Scratch) {
    let name_len = scratch.name.end.wrapping_sub(scratch.name.start) & 0xff;
    // One by one: a whole value would go through the stack, which it does not fit.
    let remembered = &mut scratch.remembered;
    remembered.seen = scratch.asker.now;
    remembered.start = scratch.stream.base;
    remembered.len = scratch.stream.reader.hello_end();
    remembered.protocol = Protocol::Tls as u8;
    remembered.server_len = 0;
    remembered.tag = scratch.spot.tag;
    remembered.tag_line = scratch.spot.line;
    remembered.name_len = name_len as u16;
    if let Some(name) = scratch.stream.held.first_chunk() {
        copy_name(name, &mut remembered.name);
    }
    if REMEMBERED.insert(&scratch.flow, &scratch.remembered, 0).is_ok() {
        finish(scratch);
        announce(scratch, flow::REMEMBERED);
        tally(Tally::NamesRemembered);
    }
}

/// Takes up the name that is remembered for this segment of a TCP connection.
#[inline(always)]
pub fn recall(scratch: &mut Scratch) -> bool {
    if !may_have(scratch, flow::REMEMBERED) {
        return false;
    }
    let Some(known) = REMEMBERED.get_ptr_mut(&scratch.flow) else { return false };
    // SAFETY: the map's memory.
    let known = unsafe { &mut *known };
    let now = clock::now(scratch);
    let len = scratch.payload.end.wrapping_sub(scratch.payload.start);
    let within = scratch.sequence.wrapping_sub(known.start) < known.len;
    let reaches_in = known.start.wrapping_sub(scratch.sequence) < len;
    if known.protocol != Protocol::Tls as u8
        || now.saturating_sub(known.seen) > REMEMBERED_IDLE
        || !(within || reaches_in)
    {
        return false;
    }
    take_name(scratch, known);
    // As in `resume`.
    if REMEMBERED.get_ptr_mut(&scratch.flow) != Some(&raw mut *known) {
        return false;
    }
    known.seen = now;
    true
}

/// Puts a remembered name where a held one lies.
#[inline(always)]
pub fn take_name(scratch: &mut Scratch, known: &Remembered) {
    if let Some(held) = scratch.stream.held.first_chunk_mut() {
        copy_name(&known.name, held);
    }
    scratch.is_held = 1;
    scratch.name.start = Held::START;
    scratch.name.end = Held::START + u32::from(known.name_len & 0xff);
}

/// Whether a packet is of a connection whose name is remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Recalled {
    /// No.
    No,
    /// Yes; the name is where a held one lies.
    Yes,
    /// It may be; the name is there as well.
    Doubtful,
}

/// Takes up the name that is remembered for the connection of a packet with a long header. A client without a source id
/// of its own (many browsers) is doubtful under a destination id that is not known: its server's, or that of another
/// connection.
#[inline(always)]
pub fn recall_connection(packet: &Packet, scratch: &mut Scratch) -> Recalled {
    let Some(known) = REMEMBERED.get_ptr_mut(&scratch.connection) else { return Recalled::No };
    let (dcid, len) = (scratch.quic.dcid, scratch.quic.dcid_len);
    let Some(words) = quic::id_words(packet, dcid + len, len) else { return Recalled::No };
    // SAFETY: the map's memory.
    let known_now = unsafe { &mut *known };
    // An id of no octets, which forged Initials and servers may have, tells no connection from another.
    let is_origin = len > 0 && u32::from(known_now.origin_len) == len && is_same(known_now.origin, words);
    let is_server = len > 0 && u32::from(known_now.server_len) == len && is_same(known_now.server, words);
    let is_certain = scratch.quic.scid_len > 0 || is_origin || is_server;
    if !recall_quic(scratch, known_now) || REMEMBERED.get_ptr_mut(&scratch.connection) != Some(known) {
        return Recalled::No;
    }
    if is_certain { Recalled::Yes } else { Recalled::Doubtful }
}

/// Takes up the name that is remembered for a packet with a short header. Addresses and ports alone do not make it that
/// connection's: anyone can forge a hello there.
#[inline(always)]
pub fn recall_flow(packet: &Packet, scratch: &mut Scratch) -> bool {
    let Some(known) = REMEMBERED.get_ptr_mut(&scratch.flow) else { return false };
    // SAFETY: the map's memory.
    let known_now = unsafe { &mut *known };
    let len = u32::from(known_now.server_len);
    let end = scratch.quic.dcid + len;
    if !(MIN_SERVER_ID..=MAX_CONNECTION_ID).contains(&len) || end > scratch.payload.end {
        return false;
    }
    let Some(words) = quic::id_words(packet, end, len) else { return false };
    is_same(known_now.server, words)
        && recall_quic(scratch, known_now)
        && REMEMBERED.get_ptr_mut(&scratch.flow) == Some(known)
}

/// Not by `==`, of which LLVM makes a loop over octets.
#[inline(always)]
fn is_same([a, b, c]: [u64; 3], [x, y, z]: [u64; 3]) -> bool {
    (a ^ x) | (b ^ y) | (c ^ z) == 0
}

#[inline(always)]
fn recall_quic(scratch: &mut Scratch, known: &mut Remembered) -> bool {
    let now = clock::now(scratch);
    if known.protocol != Protocol::Quic as u8 || now.saturating_sub(known.seen) > REMEMBERED_IDLE {
        return false;
    }
    take_name(scratch, known);
    known.seen = now;
    true
}
