//! The maps. What is in them is in `filter_common::layout`; the loader sets their sizes.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{ArrayOfMaps, RingBuf as Ring},
    macros::{btf_map, map},
    maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use filter_common::{
    answer::{Buffer, Wrap},
    dns::{Question, Starts},
    edns::Records,
    filter::{Line, Words},
    flow::Spot,
    frame::{Network, Payload},
    layout::{
        Counter, Deferred, Event, FlowKey, Flows, HashKey, Hits, MAX_CPUS, NameBucket, NameTag, Order, Policy,
        Remembered, Settings, Stream, SynMark, Target, Tier,
    },
    name::Hasher,
    quic::Header,
    stream::Segment,
    tls::{Extensions, ServerName},
    verdict::{Asker, Choice, Reason, Tally},
    walk::{HostCheck, Walk},
};

use crate::sieve::{Sieving, Sifted};

/// See `filter_common::layout::map`.
#[map]
pub static NAMES: Array<NameBucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// See `filter_common::layout::map`.
#[map]
pub static NAME_FILTER: Array<Line> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// See `filter_common::layout::map`.
#[map]
pub static POLICIES: Array<Policy> = Array::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static ORDERS: Array<Order> = Array::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static HITS: PerCpuArray<Hits> = PerCpuArray::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static SCOPES_V4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static SCOPES_V6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// See `filter_common::layout::map`.
#[map]
pub static FLOWS: Array<Flows> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// See `filter_common::layout::map`.
#[map]
pub static HASH_KEY: Array<HashKey> = Array::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(REASONS, 0);
/// See `filter_common::layout::map`.
#[map]
pub static TARGETS: Array<Target> = Array::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static TARGET_DEVICES: DevMap = DevMap::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static OWN_ADDRESSES: HashMap<[u8; 16], u8> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// See `filter_common::layout::map`.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// See `filter_common::layout::map`.
#[map]
pub static TALLIES: PerCpuArray<u64> = PerCpuArray::with_max_entries(TALLIES_LEN, 0);
/// See `filter_common::layout::map`.
#[map]
pub static SYN_MARKS: LruHashMap<FlowKey, SynMark> = LruHashMap::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static STREAMS: LruHashMap<FlowKey, Stream> = LruHashMap::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static REMEMBERED: LruHashMap<FlowKey, Remembered> = LruHashMap::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static RESOLVERS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// See `filter_common::layout::map`.
#[map]
pub static CLEARED: LruHashMap<FlowKey, u64> = LruHashMap::with_max_entries(1, 0);
/// See `filter_common::layout::map`.
#[map]
pub static TIER: Array<Tier> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// See `filter_common::layout::map`.
#[map]
pub static ASLEEP: Array<u64> = Array::with_max_entries(MAX_CPUS, BPF_F_MMAPABLE);
/// See `filter_common::layout::map`. The size of the rings in it is only that of the pattern.
#[btf_map]
pub static DEFERRED: ArrayOfMaps<Ring<Deferred, 4096>, { MAX_CPUS as usize }> = ArrayOfMaps::new();
/// See `filter_common::layout::map`.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What is too large for the 512 octets of stack, or must be at hand in a loop's callback. Valid for one packet, but
/// for the buckets and the count of hellos.
#[repr(C)]
pub struct Scratch {
    /// The packet's network header.
    pub network: Network,
    /// The transport's payload.
    pub payload: Payload,
    /// The name as it stands in the packet: wire form or text.
    pub name: Payload,
    /// The name's way through the hash.
    pub walk: Walk,
    /// Its way through the filter.
    pub glance: Glance,
    /// The name's short way through the filter.
    pub sieving: Sieving,
    /// What is looked up.
    pub sifted: Sifted,
    /// The deepest node so far, as it stands in `NAMES`; 0 for none.
    pub node: u64,
    /// What is looked for in `NAMES`.
    pub search: Search,
    /// Buckets of `NAMES`.
    pub buckets: u32,
    /// The deepest node's labels, 0 for none.
    pub node_depth: u32,
    /// How the last loop ended: a reason, or [`GOING_ON`].
    pub end: u32,
    /// DNS over TCP: what the last message came to.
    pub message: u32,
    /// DNS over TCP: how reading the segment ended; as [`Scratch::end`], which the messages use.
    pub segment_end: u32,
    /// The policy slot that is read, and the entry in it.
    pub slot: u32,
    /// Index of the entry that is read.
    pub entry: u32,
    /// Jiffies when the clock was last read, and what it said.
    pub tick: u64,
    /// See [`Scratch::tick`].
    pub now: u64,
    /// Who asks.
    pub asker: Asker,
    /// 1: the client's scopes are among those of [`Scratch::asker`].
    pub has_scopes: u32,
    /// The choice so far.
    pub choice: Choice,
    /// 1: the packet is not counted as the orders'.
    pub is_uncounted: u32,
    /// The flow's place among the tags.
    pub spot: Spot,
    /// IPv6 addresses behind their first eight octets, once the flow's key was needed.
    pub addresses: [u64; 3],
    /// What tells the flow's link from others, once its key was needed.
    pub link: [u64; 6],
    /// The flow's key on its way.
    pub hasher: Hasher<4>,
    /// The flow's key, once it was needed.
    pub flow: FlowKey,
    /// QUIC: the connection's key.
    pub connection: FlowKey,
    /// TCP: sequence number of the connection's or hello's first octet, for copies.
    pub start: u32,
    /// TCP: sequence number of the payload's first octet.
    pub sequence: u32,
    /// What the tags say of the flow: [`NO_STATE`], or kinds of `filter_common::flow`.
    pub kinds: u32,
    /// What of the segment the stream's reader has not read.
    pub segment: Segment,
    /// 1: the name lies in what is held, not in the packet.
    pub is_held: u32,
    /// How far the segment by itself was read: one of `tls::begun`.
    pub begun: u32,
    /// 1: the stream's reader goes on with a search for ECH.
    pub goes_on: u32,
    /// ClientHellos without a listed name since one was searched for ECH.
    pub hellos: u32,
    /// The message in progress. Before what is held lie more than eight octets, which a walk may look at.
    pub stream: Stream,
    /// The name that is to be remembered.
    pub remembered: Remembered,
    /// DNS only.
    pub question: Question,
    /// QTYPE.
    pub qtype: u32,
    /// DNS only.
    pub records: Records,
    /// QUIC only.
    pub quic: Header,
    /// TLS only.
    pub extensions: Extensions,
    /// TLS only.
    pub server_name: ServerName,
    /// TLS only.
    pub host: HostCheck,
    /// Answers.
    pub answers: Bucket,
    /// Resets; of their own, so that a flood of forged queries does not use them up.
    pub resets: Bucket,
    /// Events.
    pub events: Bucket,
    /// Copies for the deferred tier.
    pub copies: Bucket,
    /// Label positions of a DNS name.
    pub starts: Starts,
    /// The event of this packet.
    pub event: Event,
    /// What goes around an answer, and where it lies in [`Scratch::around`].
    pub wrap: Wrap,
    /// The headers that go around it.
    pub around: Buffer,
    /// What goes back.
    pub buffer: Buffer,
}

/// A name's way through the filter, from its last label to its first; what is let through goes to [`Scratch::sifted`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Glance {
    /// Where it is.
    pub walk: Walk<Words>,
    /// Depths that are looked up at all, of those below 64.
    pub depths: u64,
    /// Entries of `NAME_FILTER`.
    pub lines: u32,
    /// Line of its anchor.
    pub line: u32,
}

/// A name that is looked for in `NAMES`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Search {
    /// The name.
    pub tag: NameTag,
    /// The bucket that is looked at.
    pub at: u32,
    /// What was found, as it stands in `NAMES`; 0 for nothing.
    pub found: u64,
}

/// Counters, some of them in reserve, so that a new reason needs no new layout.
const REASONS: u32 = 256;
const _: () = assert!(Reason::ALL.len() <= REASONS as usize);

/// Tallies, some of them in reserve.
const TALLIES_LEN: u32 = 64;
const _: () = assert!(Tally::ALL.len() <= TALLIES_LEN as usize);

/// [`Scratch::kinds`] of a flow without a tag.
pub const NO_STATE: u32 = 1;

/// Counts something.
#[inline(always)]
pub fn tally(what: Tally) {
    if let Some(count) = TALLIES.get_ptr_mut(what as u32) {
        // SAFETY: this CPU's counter.
        unsafe { *count += 1 };
    }
}

/// [`Scratch::end`] while a loop has not come to an end.
pub const GOING_ON: u32 = u32::MAX;

/// A token bucket of one second's depth.
#[repr(C)]
pub struct Bucket {
    /// Boot-time clock at the last refill, nanoseconds.
    pub filled: u64,
    /// Tokens, in units of 1/10^9.
    pub tokens: u64,
}

impl Bucket {
    /// Takes one token of `rate` a second, if there is one.
    #[inline(always)]
    pub fn take(&mut self, now: u64, rate: u32) -> bool {
        let rate = u64::from(rate);
        let full = rate * SECOND;
        let passed = now.saturating_sub(self.filled);
        let gained = if passed < SECOND { passed * rate } else { full };
        let tokens = self.tokens.saturating_add(gained);
        let tokens = if tokens < full { tokens } else { full };
        self.filled = now;
        let taken = tokens >= SECOND;
        self.tokens = if taken { tokens - SECOND } else { tokens };
        taken
    }
}

const SECOND: u64 = 1_000_000_000;
