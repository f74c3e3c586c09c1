//! The types that lie in BPF maps: one definition for the kernel and for the host.
//!
//! All of them are `#[repr(C)]` and without implicit padding. Integers are in host byte order, since both sides run
//! on one machine; addresses are in network order, as they lie in the packet. A change here needs a new
//! [`LAYOUT_VERSION`], which is part of the pin path.

/// Version of everything in this module. Maps of another version are refused, never reinterpreted.
pub const LAYOUT_VERSION: u32 = 1;

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
    /// `HASH`: [`super::NameKey`] to [`super::Node`].
    pub const NAMES: &str = "NAMES";
    /// `ARRAY` of `u64`: a blocked Bloom filter over the keys of `NAMES`, which tells for most names that
    /// they are not there ([`super::NameKey::filter_word`]). A bit is set before its name is inserted.
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
    /// `ARRAY` of one [`super::Ports`].
    pub const PORTS: &str = "PORTS";
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
    /// `PERCPU_ARRAY`: the program's scratch space and token buckets; no meaning outside it.
    pub const SCRATCH: &str = "SCRATCH";

    /// Maps that are pinned and outlive the daemon.
    pub const PINNED: [&str; 15] = [
        NAMES,
        NAME_FILTER,
        POLICIES,
        ORDERS,
        HITS,
        SCOPES_V4,
        SCOPES_V6,
        SETTINGS,
        PORTS,
        HASH_KEY,
        COUNTERS,
        TARGETS,
        TARGET_DEVICES,
        OWN_ADDRESSES,
        EVENTS,
    ];
}

/// Keyed hash of a name or of a suffix of it; see `name::Hasher`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey {
    /// Upper halves of the four lanes, lane 0 first.
    pub lanes: [u32; 4],
}

impl NameKey {
    /// The word of `NAME_FILTER` that this key's bits lie in.
    #[inline(always)]
    pub const fn filter_word(&self, mask: u32) -> u32 {
        self.lanes[0] & mask
    }

    /// The bits of this key in its word, three at most.
    #[inline(always)]
    pub const fn filter_bits(&self) -> u64 {
        let lane = self.lanes[1];
        1 << (lane & 63) | 1 << (lane >> 6 & 63) | 1 << (lane >> 12 & 63)
    }
}

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
    /// Number of the last whole state that was compiled into the tables.
    pub generation: u64,
    /// Answers, and resets, a second on each CPU; over it the packet is dropped.
    pub answers_per_second: u32,
    /// Events a second on each CPU; over it they are left out.
    pub events_per_second: u32,
    /// [`ClientDetail`](crate::layout::client_detail) of events.
    pub client_detail: u32,
    /// Words of `NAME_FILTER`, a power of two, minus one.
    pub filter_mask: u32,
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

/// Roles of each destination port.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ports {
    /// [`PORT_DNS`] | [`PORT_TLS`] by port number.
    pub roles: [u8; 65536],
}

/// DNS is read on this port.
pub const PORT_DNS: u8 = 1;
/// TLS over TCP is read on this port.
pub const PORT_TLS: u8 = 2;

/// Random key of the name hash; see `name::Hasher`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HashKey {
    /// Two 64-bit terms for each of the four lanes, by word: `[2 * lane]` and `[2 * lane + 1]`.
    pub terms: [[u64; 8]; KEY_WORDS],
    /// What a lane starts from, by the number of words hashed.
    pub start: [[u64; 4]; KEY_WORDS],
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
    assert!(size_of::<NameKey>() == 16);
    assert!(size_of::<Node>() == 8);
    assert!(size_of::<PolicyEntry>() == 8);
    assert!(size_of::<Policy>() == 64);
    assert!(size_of::<Order>() == 8 * 3 + 4 + 4 + 4 + 4 + 16 + 64);
    assert!(core::mem::offset_of!(Order, text) == 56);
    assert!(size_of::<Settings>() == 40);
    assert!(size_of::<HashKey>() == 12 * 1024);
    assert!(size_of::<Target>() == 16);
    assert!(size_of::<Event>() == 8 + 8 + 4 + 4 + 16 + 4 + 4 + 256);
};
