//! The types that lie in BPF maps: one definition for the kernel and for the host.
//!
//! All of them are `#[repr(C)]` and without implicit padding. Integers are in host byte order, since both sides run
//! on one machine; addresses are in network order, as they lie in the packet. A change here needs a new
//! [`LAYOUT_VERSION`], which is part of the pin path.

use crate::{filter::LABEL_WORDS, flow::LINES, resolver::Summary};

/// Version of everything in this module. Maps of another version are refused, never reinterpreted.
pub const LAYOUT_VERSION: u32 = 9;

/// Longest name: 127 labels (RFC 1035 2.3.4: 255 octets on the wire).
pub const MAX_LABELS: usize = 127;

/// Hash key words: a name has at most 127 of them, because every label takes ceil((length + 1) / 8).
pub const KEY_WORDS: usize = 128;

/// Scopes: bit 0 is `all`, which every client has; the others are the configuration's.
pub const MAX_SCOPES: usize = 64;

/// Scope bit of every client.
pub const SCOPE_ALL: u64 = 1;

/// Entries of one policy slot; a longer policy goes on in [`Policy::next`].
pub const POLICY_ENTRIES: usize = 7;

/// Longest EDE text, in octets.
pub const MAX_TEXT: usize = 64;

/// Policy slot: no order is in force here.
pub const POLICY_NONE: u32 = 0;

/// Policy slot: the operator's allow list; beats every order.
pub const POLICY_ALLOW: u32 = 1;

/// First policy slot that the compiler hands out.
pub const POLICY_FIRST: u32 = 2;

/// Names of the maps, as they stand in the object and under the pin path.
pub mod map {
    /// `ARRAY` of [`super::NameBucket`]: names to [`super::Node`]s.
    pub const NAMES: &str = "NAMES";
    /// `ARRAY` of [`Line`](crate::filter::Line)s: tells of most names that they are not in `NAMES`; see
    /// [`filter`](crate::filter). A name's bits are set before it is inserted.
    pub const NAME_FILTER: &str = "NAME_FILTER";
    /// `ARRAY`: slot to [`super::Policy`].
    pub const POLICIES: &str = "POLICIES";
    /// `ARRAY`: slot to [`super::Order`].
    pub const ORDERS: &str = "ORDERS";
    /// `PERCPU_ARRAY`: order slot to [`super::Hits`].
    pub const HITS: &str = "HITS";
    /// `LPM_TRIE`: [`super::PrefixV4`] to `u64` scope bits (the union of all scopes that hold the prefix).
    pub const SCOPES_V4: &str = "SCOPES_V4";
    /// `LPM_TRIE`: [`super::PrefixV6`] to `u64` scope bits.
    pub const SCOPES_V6: &str = "SCOPES_V6";
    /// `ARRAY` of one [`super::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// `ARRAY` of one [`super::Flows`].
    pub const FLOWS: &str = "FLOWS";
    /// `ARRAY` of one [`super::HashKey`].
    pub const HASH_KEY: &str = "HASH_KEY";
    /// `PERCPU_ARRAY`: reason to [`super::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// `ARRAY`: target slot to [`super::Target`].
    pub const TARGETS: &str = "TARGETS";
    /// `DEVMAP`: target slot to interface index.
    pub const TARGET_DEVICES: &str = "TARGET_DEVICES";
    /// `HASH`: the host's own addresses (IPv4 as `::ffff:a.b.c.d`) to `u8` 1: never answered to.
    pub const OWN_ADDRESSES: &str = "OWN_ADDRESSES";
    /// `RINGBUF` of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// `PERCPU_ARRAY` of `u64`: [`Tally`](crate::verdict::Tally) to a number.
    pub const TALLIES: &str = "TALLIES";
    /// `LRU_HASH`: [`super::FlowKey`] to [`super::SynMark`].
    pub const SYN_MARKS: &str = "SYN_MARKS";
    /// `LRU_HASH`: [`super::FlowKey`] to [`super::Stream`].
    pub const STREAMS: &str = "STREAMS";
    /// `LRU_HASH`: [`super::FlowKey`] to [`super::Remembered`].
    pub const REMEMBERED: &str = "REMEMBERED";
    /// `LRU_HASH`: [`super::FlowKey`] of a QUIC connection to the boot-time clock in nanoseconds: decided, and not
    /// listed. In use only while undecided Initials are held.
    pub const CLEARED: &str = "CLEARED";
    /// `ARRAY` of one [`super::Tier`].
    pub const TIER: &str = "TIER";
    /// `ARRAY` of `u64` by CPU: 1 while the reader of that CPU's ring sleeps, and wants to be woken.
    pub const ASLEEP: &str = "ASLEEP";
    /// `ARRAY_OF_MAPS` of `RINGBUF`, one for each CPU, of [`super::Deferred`]. Not pinned: each daemon has its own.
    pub const DEFERRED: &str = "DEFERRED";
    /// `HASH`: addresses of known public resolvers (IPv4 as `::ffff:a.b.c.d`) to `u8` 1.
    pub const RESOLVERS: &str = "RESOLVERS";
    /// `PERCPU_ARRAY`: the program's scratch space and token buckets; no meaning outside it.
    pub const SCRATCH: &str = "SCRATCH";

    /// Maps that are pinned and outlive the daemon.
    pub const PINNED: [&str; 23] = [
        NAMES,
        NAME_FILTER,
        POLICIES,
        ORDERS,
        HITS,
        SCOPES_V4,
        SCOPES_V6,
        SETTINGS,
        FLOWS,
        HASH_KEY,
        COUNTERS,
        TARGETS,
        TARGET_DEVICES,
        OWN_ADDRESSES,
        EVENTS,
        TALLIES,
        SYN_MARKS,
        STREAMS,
        REMEMBERED,
        RESOLVERS,
        CLEARED,
        TIER,
        ASLEEP,
    ];
}

/// What a name is known by in `NAMES`: keyed hash of 96 bits of its labels; see `name::Hasher`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameTag {
    /// Upper halves of the lanes, lane 0 first.
    pub lanes: [u32; 3],
}

impl NameTag {
    /// The bucket, of so many, that the name lies in or before.
    #[inline(always)]
    pub const fn home(&self, buckets: u32) -> u32 {
        ((self.lanes[2] as u64 * buckets as u64) >> 32) as u32
    }
}

/// Slots of a [`NameBucket`].
pub const BUCKET_SLOTS: usize = 3;

/// Names, a cache line of them. A name lies in its home bucket, or where that was full in one of the next,
/// the first coming after the last.
///
/// The program reads while the daemon writes. A slot is taken by writing its tag, then its node; given up by writing
/// the node 0, then the tag 0; and taken again only after a grace period. So who compares a tag, and reads the node
/// before or after, meets that name's node or 0, never another's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameBucket {
    /// By slot, [`Node::to_word`]; 0 for none.
    pub nodes: [u64; BUCKET_SLOTS],
    /// By slot, lanes of a [`NameTag`].
    pub tags: [[u32; 3]; BUCKET_SLOTS],
    /// How many buckets further on names may lie whose home this is, at most [`MAX_REACH`].
    pub reach: u32,
}

/// The most buckets between a name's home and its place.
pub const MAX_REACH: u32 = 255;

/// What is in force at a node of the name tree. Each policy holds the entries of every ancestor rule that covers it,
/// so the deepest node that is found decides alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// Policy slot for the name itself.
    pub at: u32,
    /// Policy slot for every name below it that has no deeper node.
    pub below: u32,
}

impl Node {
    /// As it stands in a [`NameBucket`]: not 0. Policy slots are below 2^31.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        TAKEN | (self.at as u64) << 32 | self.below as u64
    }

    /// From a word of a [`NameBucket`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Option<Self> {
        if word == 0 { None } else { Some(Self { at: ((word & !TAKEN) >> 32) as u32, below: word as u32 }) }
    }
}

const TAKEN: u64 = 1 << 63;

/// A policy slot: orders that hold at a node, oldest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Entries in use in this slot, at most [`POLICY_ENTRIES`].
    pub len: u32,
    /// Slot that goes on with this policy, or [`POLICY_NONE`].
    pub next: u32,
    /// The entries.
    pub entries: [PolicyEntry; POLICY_ENTRIES],
}

/// One order at a node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyEntry {
    /// Order slot.
    pub order: u32,
    /// Labels of the order's name that covers this node: the rule's name is that many last labels of the query's.
    pub depth: u8,
    /// [`ENTRY_NODATA`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// `nxdomain` goes out as `nodata`: something below this name is not covered (RFC 8020 would take it along).
pub const ENTRY_NODATA: u8 = 1;

/// An order as the kernel needs it. Times are boot-time clock (CLOCK_BOOTTIME) nanoseconds; only they change in
/// place, everything else gets a new slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// In force from here on, inclusive.
    pub start: u64,
    /// In force up to here, exclusive; `u64::MAX` for no end, 0 for a slot that is not in use.
    pub end: u64,
    /// Scope bits: a client that has any of them is bound.
    pub scopes: u64,
    /// [`Action`](crate::verdict::Action) codes by [`Protocol`](crate::verdict::Protocol); 0: not covered.
    pub actions: [u8; 4],
    /// Slot in `TARGETS`, for the action redirect.
    pub target: u32,
    /// EDE info-code (RFC 8914).
    pub ede: u16,
    /// Octets of [`Order::text`] in use.
    pub text_len: u8,
    /// [`ORDER_A`] | [`ORDER_AAAA`].
    pub flags: u8,
    /// IPv4 address for the action address.
    pub a: [u8; 4],
    /// IPv6 address for the action address.
    pub aaaa: [u8; 16],
    /// EDE extra text, UTF-8.
    pub text: [u8; MAX_TEXT],
}

/// [`Order::a`] is set.
pub const ORDER_A: u8 = 1;
/// [`Order::aaaa`] is set.
pub const ORDER_AAAA: u8 = 2;

/// Packets of one order, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Packets for which this order was the deciding one.
    pub decided: u64,
    /// Packets for which it held at all.
    pub concerned: u64,
}

/// Packets and octets by reason, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Octets of the Ethernet frames, without FCS.
    pub bytes: u64,
}

/// Key of an IPv4 LPM trie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixV4 {
    /// Prefix length in bits.
    pub bits: u32,
    /// Address in network order.
    pub address: [u8; 4],
}

/// Key of an IPv6 LPM trie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixV6 {
    /// Prefix length in bits.
    pub bits: u32,
    /// Address in network order.
    pub address: [u8; 16],
}

/// What the daemon sets for the whole program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bit d (of 128): some node has d labels. Only those suffixes are looked up.
    pub depths: [u64; 2],
    /// [`HashKey::filter`], which most names need alone.
    pub filter: FilterKey,
    /// Entries of `NAME_FILTER`.
    pub filter_lines: u32,
    /// Entries of `NAMES`.
    pub buckets: u32,
    /// Number of the last whole state that was compiled into the tables.
    pub generation: u64,
    /// Of what is in `RESOLVERS`.
    pub resolvers: Summary,
    /// Answers, and resets, a second on each CPU; over it the packet is dropped.
    pub answers_per_second: u32,
    /// Events a second on each CPU; over it they are left out.
    pub events_per_second: u32,
    /// [`ClientDetail`](crate::layout::client_detail) of events.
    pub client_detail: u32,
    /// Copies for the deferred tier a second on each CPU; over it there are none.
    pub copies_per_second: u32,
    /// One in so many ClientHellos without a listed name is searched for ECH; 0 for none.
    pub ech_sample: u32,
    /// [`quic_mode`] while the deferred tier decides.
    pub quic_mode: u8,
    /// [`quic_mode`] while it is dead or over its budget.
    pub quic_fallback: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// What becomes of a QUIC Initial whose name is not known yet.
pub mod quic_mode {
    /// It passes; the name stops the connection's later packets.
    pub const PASS: u8 = 0;
    /// It is dropped, and 0-RTT packets with it: the client's retransmission meets the verdict.
    pub const HOLD: u8 = 1;
    /// It is dropped, and never decided: clients fall back to TCP.
    pub const DROP: u8 = 2;
}

/// How much of a client's address an event carries.
pub mod client_detail {
    /// None.
    pub const NONE: u32 = 0;
    /// The /24 or /40.
    pub const TRUNCATED: u32 = 1;
    /// All of it.
    pub const FULL: u32 = 2;
}

/// What a packet in mid-connection is read with: together, so that it is one look-up.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flows {
    /// [`HashKey::spot`], by which a flow finds its line. In front, where BPF reaches it with one instruction.
    pub spot: SpotKey,
    /// Which flows may have state; see [`flow`](crate::flow).
    pub tags: [u64; LINES as usize],
    /// [`PORT_DNS`] and the others, by port number.
    pub roles: [u8; 65536],
}

/// See [`Flows::spot`]. All of them are odd.
pub type SpotKey = [u64; 8];

/// DNS over UDP and TCP is read on this port.
pub const PORT_DNS: u8 = 1;
/// TLS over TCP is read on this port.
pub const PORT_TLS: u8 = 2;
/// QUIC is read on this port.
pub const PORT_QUIC: u8 = 4;
/// DNS over TLS and over QUIC: connections are counted (RFC 7858, RFC 9250).
pub const PORT_ENCRYPTED_DNS: u8 = 8;

/// A flow: keyed hash of 128 bits of the receiving interface, what the link and a tunnel say (tags, labels, PPPoE
/// session, outer addresses), the addresses, the transport protocol and the ports; see `flow::key`. For one QUIC
/// connection, of the client's source connection id as well.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Lanes of the hash.
    pub lanes: [u32; 4],
}

/// A TCP connection that was opened and has sent no data yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynMark {
    /// Sequence number of its first octet of data.
    pub start: u32,
    /// 1: segments that came before the first were copied for the deferred tier, and so must be the others.
    pub copied: u32,
}

/// Octets of a name or of a DNS question that are kept between segments.
pub const HELD: usize = 288;

/// A ClientHello or a DNS message over TCP that is not whole yet.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Sequence number of the first octet.
    pub base: u32,
    /// 1: its segments are copied for the deferred tier.
    pub copied: u8,
    /// 1: its first octet is the connection's first, by the SYN.
    pub anchored: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Where the reader of the ClientHello or of the DNS messages is.
    pub reader: StreamReader,
    /// The name so far (TLS), or the message so far (DNS).
    pub held: [u8; HELD],
}

/// How far a ClientHello or a DNS message over TCP is read; see `stream`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamReader {
    /// Octets of the field that is being read, in network order.
    pub field: u64,
    /// Octets of the record header that is being read.
    pub header: u64,
    /// Octets of the stream that are read, from [`Stream::base`] on.
    pub next: u32,
    /// Octets left in the TLS record.
    pub record_left: u32,
    /// Octets to skip before the next field.
    pub skip: u32,
    /// Octets left in the ClientHello or in the DNS message.
    pub message_left: u32,
    /// Octets left in the extensions.
    pub extensions_left: u32,
    /// Octets of the name or of the question in all.
    pub name_len: u16,
    /// Octets of it that are held.
    pub name_have: u16,
    /// What comes next.
    pub stage: u8,
    /// Octets of `field` that are read.
    pub field_have: u8,
    /// Octets of `header` that are read.
    pub header_have: u8,
    /// 1: a name was found. [`SEARCHING`](crate::stream::hello::SEARCHING): the name is of no concern any more.
    pub named: u8,
    /// Records in a row without a part of the hello.
    pub idle: u8,
    /// Whether there is an Encrypted Client Hello: one of [`ech`](crate::stream::hello::ech).
    pub ech: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// The name of a connection, where a later packet cannot show it: a split hello, or one that the deferred tier read.
/// What follows from the name is decided anew for each packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Boot-time clock at the last packet that it met, nanoseconds. It ends after [`REMEMBERED_IDLE`].
    pub seen: u64,
    /// TCP: sequence number from which on segments belong to it.
    pub start: u32,
    /// TCP: how many octets.
    pub len: u32,
    /// QUIC: key of the connection.
    pub connection: FlowKey,
    /// [`Protocol`](crate::verdict::Protocol) code.
    pub protocol: u8,
    /// QUIC: octets of [`Remembered::origin`].
    pub origin_len: u8,
    /// Octets of [`Remembered::name`] in use.
    pub name_len: u16,
    /// QUIC: octets of [`Remembered::server`]; 0 while it is not known.
    pub server_len: u8,
    /// Zero.
    pub pad: u8,
    /// Tag of the flow in [`Flows::tags`], so that it is known which tags have a name.
    pub tag: u16,
    /// QUIC: destination connection id that the client chose; see `quic::id_words`.
    pub origin: [u64; 3],
    /// QUIC: the one that the server chose. Short headers show only this one, and not its length.
    pub server: [u64; 3],
    /// Line of the flow in [`Flows::tags`].
    pub tag_line: u32,
    /// Zero.
    pub pad2: u32,
    /// The name, as in SNI, without a trailing dot.
    pub name: [u8; 256],
}

/// How long a remembered name holds without a packet, in nanoseconds.
pub const REMEMBERED_IDLE: u64 = 60_000_000_000;

/// How long a connection is cleared, in nanoseconds: a handshake takes no longer, and a later connection may have the
/// same ids, if they are empty.
pub const CLEARED_AGE: u64 = 10_000_000_000;

/// What the deferred tier says of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// Boot-time clock at its last sign of life, nanoseconds.
    pub beat: u64,
}

/// The tier is dead after so many nanoseconds without a sign of life.
pub const TIER_DEAD: u64 = 1_000_000_000;

/// CPUs that can have a ring to the deferred tier; packets on others are not copied.
pub const MAX_CPUS: u32 = 1024;

/// Octets of a copied payload; longer ones are cut.
pub const COPY: usize = 1472;

/// A copied payload: of a UDP datagram with a QUIC Initial, or of a TCP segment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Deferred {
    /// Boot-time clock at the packet's arrival, nanoseconds, up to a tick of the kernel's early.
    pub time: u64,
    /// Addresses and ports.
    pub flow: FlowKey,
    /// QUIC: the connection. TCP: zero.
    pub connection: FlowKey,
    /// Address that scopes are looked up by, IPv4 as `::ffff:a.b.c.d`.
    pub client: [u8; 16],
    /// TCP: sequence number of the first octet.
    pub sequence: u32,
    /// TCP: sequence number of the connection's or hello's first octet.
    pub start: u32,
    /// Line of [`Flows::tags`], and tag in it, of the flow.
    pub tag_line: u32,
    /// See [`Deferred::tag_line`].
    pub tag: u16,
    /// Octets of [`Deferred::payload`] in use.
    pub len: u16,
    /// [`Protocol`](crate::verdict::Protocol) code.
    pub protocol: u8,
    /// 1: the packet was dropped meanwhile.
    pub held: u8,
    /// 1: the payload was longer than [`COPY`].
    pub cut: u8,
    /// Zero.
    pub pad: [u8; 5],
    /// The payload.
    pub payload: [u8; COPY],
}

/// Random keys of the hash of names and flows, see `name::Hasher`, and of the filter's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HashKey {
    /// Two 64-bit terms for each of the four lanes, by word: `[2 * lane]` and `[2 * lane + 1]`.
    pub terms: [[u64; 8]; KEY_WORDS],
    /// What a lane starts from, by the number of words hashed.
    pub start: [[u64; 4]; KEY_WORDS],
    /// Of the filter's hash.
    pub filter: FilterKey,
}

/// Key of the hash by which the filter goes; see `filter::Suffix`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterKey {
    /// By a label's words, the last first. All are odd.
    pub words: [u64; LABEL_WORDS],
    /// By which each label's hash goes into the name's; odd, too.
    pub label: u64,
}

impl FilterKey {
    /// Of random numbers: with factors that lose no bit.
    pub fn made_odd(self) -> Self {
        Self { words: self.words.map(|factor| factor | 1), label: self.label | 1 }
    }
}

impl HashKey {
    /// What no name needs: see [`Flows::spot`].
    pub fn spot(&self) -> SpotKey {
        let [.., last] = self.terms;
        last.map(|term| term | 1)
    }
}

/// Where redirected packets go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// 1: the device can transmit XDP frames and the next hop's address is known.
    pub ready: u8,
    /// 1: while it is not ready, the packet passes; 0: it is dropped.
    pub fallback_pass: u8,
    /// 1: the Ethernet addresses are rewritten to [`Target::destination`] and [`Target::source`].
    pub rewrite: u8,
    /// Zero.
    pub pad: u8,
    /// Ethernet address of the next hop.
    pub destination: [u8; 6],
    /// Ethernet address of the device.
    pub source: [u8; 6],
}

/// One packet that a rule met, sampled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// Boot-time clock, nanoseconds.
    pub time: u64,
    /// Scope bits of the client.
    pub scopes: u64,
    /// Deciding order's slot.
    pub order: u32,
    /// [`Reason`](crate::verdict::Reason) code.
    pub reason: u32,
    /// Client address, cut as [`Settings::client_detail`] says; zero where it is none. IPv4 as `::ffff:a.b.c.d`.
    pub client: [u8; 16],
    /// Receiving interface's index.
    pub interface: u32,
    /// Labels of the rule's name.
    pub depth: u8,
    /// [`Protocol`](crate::verdict::Protocol) code.
    pub protocol: u8,
    /// Octets of [`Event::name`] in use.
    pub name_len: u8,
    /// 1: `name` is in DNS wire form, without the root label; 0: as in SNI, with dots.
    pub wire: u8,
    /// The name as it stood in the packet.
    pub name: [u8; 256],
}

const _: () = {
    assert!(size_of::<NameTag>() == 12);
    assert!(size_of::<Node>() == 8);
    assert!(size_of::<NameBucket>() == 64 && core::mem::offset_of!(NameBucket, reach) == 60);
    assert!(size_of::<PolicyEntry>() == 8);
    assert!(size_of::<Policy>() == 64);
    assert!(size_of::<Order>() == 8 * 3 + 4 + 4 + 4 + 4 + 16 + 64);
    assert!(core::mem::offset_of!(Order, text) == 56);
    assert!(size_of::<Settings>() == 256);
    assert!(size_of::<Remembered>() == 8 + 8 + 16 + 8 + 24 + 24 + 8 + 256);
    assert!(size_of::<Deferred>() == 8 + 3 * 16 + 3 * 4 + 4 + 8 + COPY);
    assert!(size_of::<StreamReader>() == 48 && size_of::<Stream>() == 8 + 48 + HELD);
    assert!(size_of::<HashKey>() == 12 * 1024 + 72);
    assert!(size_of::<Target>() == 16);
    assert!(size_of::<Event>() == 8 + 8 + 4 + 4 + 16 + 4 + 4 + 256);
};
