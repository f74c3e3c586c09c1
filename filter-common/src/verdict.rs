//! From the orders that hold at a name to one verdict with its reason.

use crate::layout::{Order, PolicyEntry};

/// What an order stops, and the index into [`Order::actions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// DNS queries, over UDP or TCP.
    Dns = 0,
    /// TLS over TCP: the SNI of a ClientHello.
    Tls = 1,
    /// QUIC: the SNI of the ClientHello in its Initial packets.
    Quic = 2,
}

impl Protocol {
    /// All of them, by code.
    pub const ALL: [Self; 3] = [Self::Dns, Self::Tls, Self::Quic];

    /// The word that orders use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }

    /// The protocol of a code in a map.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| *protocol as u8 == code)
    }
}

/// What an order does to a packet. A greater code is the stronger action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// Pass, and count.
    Observe = 1,
    /// To an interface or next hop.
    Redirect = 2,
    /// Answer with the order's addresses.
    Address = 3,
    /// Answer REFUSED.
    Refused = 4,
    /// Answer NOERROR without records.
    Nodata = 5,
    /// Answer NXDOMAIN.
    Nxdomain = 6,
    /// RST to the client.
    Reset = 7,
    /// Drop.
    Drop = 8,
}

impl Action {
    /// All of them, weakest first.
    pub const ALL: [Self; 8] = [
        Self::Observe,
        Self::Redirect,
        Self::Address,
        Self::Refused,
        Self::Nodata,
        Self::Nxdomain,
        Self::Reset,
        Self::Drop,
    ];

    /// The word that orders use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Redirect => "redirect",
            Self::Address => "address",
            Self::Refused => "refused",
            Self::Nodata => "nodata",
            Self::Nxdomain => "nxdomain",
            Self::Reset => "reset",
            Self::Drop => "drop",
        }
    }

    /// The action of a code in a map.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|action| *action as u8 == code)
    }
}

/// What becomes of the packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on unchanged.
    Pass,
    /// Goes nowhere.
    Drop,
    /// An answer or a reset goes back instead.
    Answer,
    /// Goes to the order's target.
    Redirect,
}

impl Verdict {
    /// The word that reports use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Answer => "answer",
            Self::Redirect => "redirect",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal => $verdict:ident,)+) => {
        /// Why a packet met its verdict. Each has a counter, whose index is the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All of them, by code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that reports and metrics use.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one table from reason to verdict.
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6.
    NotIp = "not_ip" => Pass,
    /// A header is cut short, or a length field does not fit the packet.
    FrameMalformed = "frame_malformed" => Pass,
    /// More than two VLAN tags, four MPLS labels, one tunnel, or eight IPv6 extension headers.
    FrameTooDeep = "frame_too_deep" => Pass,
    /// Something in MPLS or GRE that is neither IPv4 nor IPv6.
    Encapsulated = "encapsulated" => Pass,
    /// An IP fragment that is not the first.
    FragmentLater = "fragment_later" => Pass,
    /// Not a protocol and port that is read.
    NotWatched = "not_watched" => Pass,
    /// A TCP segment without data.
    NoPayload = "no_payload" => Pass,
    /// A TCP connection to a port that is read is opened.
    TcpSyn = "tcp_syn" => Pass,
    /// A TCP segment of a hello or DNS message in progress that brings nothing new.
    TcpRepeated = "tcp_repeated" => Pass,
    /// A TCP segment before whose data some is missing: the deferred tier puts a connection's first ones in order.
    TcpOutOfOrder = "tcp_out_of_order" => Pass,
    /// Not a well-formed DNS query (RFC 1035 4.1).
    DnsMalformed = "dns_malformed" => Pass,
    /// A DNS response, or an opcode other than QUERY.
    DnsNotQuery = "dns_not_query" => Pass,
    /// QDCOUNT is not 1 (RFC 9619).
    DnsQuestionCount = "dns_question_count" => Pass,
    /// A compression pointer or an unknown label type in the question.
    DnsCompressed = "dns_compressed" => Pass,
    /// A message over TCP that goes on in a later segment; what there is of it is kept.
    DnsIncomplete = "dns_incomplete" => Pass,
    /// A class other than IN.
    DnsClass = "dns_class" => Pass,
    /// A TCP segment that does not begin a ClientHello.
    TlsNotHello = "tls_not_hello" => Pass,
    /// A ClientHello that goes on in a later segment before its name is whole; what there is of it is kept.
    TlsIncomplete = "tls_incomplete" => Pass,
    /// A ClientHello whose lengths do not fit each other.
    TlsMalformed = "tls_malformed" => Pass,
    /// More extensions than are read.
    TlsExtensions = "tls_extensions" => Pass,
    /// A ClientHello without server_name.
    TlsNoSni = "tls_no_sni" => Pass,
    /// A server_name that is empty, or not one single host name.
    TlsSniInvalid = "tls_sni_invalid" => Pass,
    /// Two server_name extensions (RFC 8446 4.2), the first of them listed.
    TlsSniDuplicate = "tls_sni_duplicate" => Pass,
    /// UDP that is no QUIC: the fixed bit is not set (RFC 9000 17).
    QuicNotQuic = "quic_not_quic" => Pass,
    /// A version that is neither 1 nor 2.
    QuicVersion = "quic_version" => Pass,
    /// A connection id of over 20 octets (RFC 9000 17.2).
    QuicConnectionId = "quic_connection_id" => Pass,
    /// A long header that is cut short, or whose lengths do not fit.
    QuicMalformed = "quic_malformed" => Pass,
    /// A packet with a short header.
    QuicShort = "quic_short" => Pass,
    /// A packet with a long header that is no Initial.
    QuicOther = "quic_other" => Pass,
    /// An Initial, copied for the deferred tier.
    QuicCopied = "quic_copied" => Pass,
    /// An Initial of a connection that the deferred tier found not listed.
    QuicCleared = "quic_cleared" => Pass,
    /// An Initial, not copied: the deferred tier gives no sign of life.
    QuicNoTier = "quic_no_tier" => Pass,
    /// An Initial, not copied: over the rate of copies.
    QuicOverBudget = "quic_over_budget" => Pass,
    /// An Initial, not copied: the ring to the deferred tier is full.
    QuicRingFull = "quic_ring_full" => Pass,
    /// An Initial or 0-RTT packet that is held back until its name is known.
    QuicHeld = "quic_held" => Drop,
    /// An Initial that is dropped because no QUIC is wanted now.
    QuicRefused = "quic_refused" => Drop,
    /// No order names it.
    NotListed = "not_listed" => Pass,
    /// On the operator's allow list.
    Allowed = "allowed" => Pass,
    /// Listed, but not for this protocol.
    OtherProtocol = "other_protocol" => Pass,
    /// Listed for this protocol, but not for this client.
    OtherClient = "other_client" => Pass,
    /// Listed for this protocol and client, but not at this time.
    OtherTime = "other_time" => Pass,
    /// A map had no entry that another one refers to.
    TableBroken = "table_broken" => Pass,
    /// The order only observes.
    Observed = "observed" => Pass,
    /// The order drops.
    Dropped = "dropped" => Drop,
    /// RST sent to the client.
    Reset = "reset" => Answer,
    /// Answered NXDOMAIN.
    AnsweredNxdomain = "answered_nxdomain" => Answer,
    /// Answered NOERROR without records.
    AnsweredNodata = "answered_nodata" => Answer,
    /// Answered REFUSED.
    AnsweredRefused = "answered_refused" => Answer,
    /// Answered with the order's address.
    AnsweredAddress = "answered_address" => Answer,
    /// Sent to the order's target.
    Redirected = "redirected" => Redirect,
    /// Dropped: nothing may be answered to these addresses, or into this encapsulation or fragment.
    DroppedUnanswerable = "dropped_unanswerable" => Drop,
    /// Dropped: a TSIG-signed query, whose answer we could not sign.
    DroppedTsig = "dropped_tsig" => Drop,
    /// Dropped: over the rate of answers.
    DroppedRate = "dropped_rate" => Drop,
    /// Dropped: the answer would be over its size limit, or the packet would not take it.
    DroppedSize = "dropped_size" => Drop,
    /// Dropped: the redirect target is not ready, and the fallback is drop.
    DroppedNoTarget = "dropped_no_target" => Drop,
    /// Passed: the redirect target is not ready, and the fallback is pass.
    PassedNoTarget = "passed_no_target" => Pass,
}

macro_rules! tallies {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+) => {
        /// What is counted beside the reasons, by code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Tally {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Tally {
            /// All of them, by code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that reports and metrics use.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

tallies! {
    /// ClientHellos with Encrypted Client Hello, genuine or GREASE, among those that were searched for it.
    Ech = "ech",
    /// ClientHellos that were searched for it.
    EchSearched = "ech_searched",
    /// Connections of DNS over TLS that were opened.
    Dot = "dot",
    /// Initials of DNS over QUIC.
    Doq = "doq",
    /// TCP connections that were opened to a known public resolver on a port that TLS is read on.
    Doh = "doh",
    /// Initials to a known public resolver.
    DohQuic = "doh_quic",
    /// SYN marks that were set.
    MarksSet = "marks_set",
    /// SYN marks that were done with.
    MarksDone = "marks_done",
    /// Hellos and DNS messages that were kept because they were not whole.
    StreamsSet = "streams_set",
    /// Those of them that were done with.
    StreamsDone = "streams_done",
    /// Names that the program remembered for a connection.
    NamesRemembered = "names_remembered",
    /// Packets that were copied for the deferred tier.
    Copied = "copied",
    /// Packets that were not: no sign of life.
    NoTier = "no_tier",
    /// Packets that were not: over the rate.
    OverBudget = "over_budget",
    /// Packets that were not: the ring was full.
    RingFull = "ring_full",
    /// Flows whose tag in `FLOWS` gave way to another flow's: what is kept of them is not found any more, and their
    /// packets are judged by themselves.
    TagsDisplaced = "tags_displaced",
}

impl Reason {
    /// The reason of a code in a map.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Scope bits of the client.
    pub scopes: u64,
    /// Boot-time clock, nanoseconds.
    pub now: u64,
    /// Code of the packet's [`Protocol`]; not the enum, whose range LLVM would take for the verifier's.
    protocol: u8,
}

impl Asker {
    /// A client with these scope bits, at a time of the boot-time clock in nanoseconds.
    #[inline(always)]
    pub const fn new(scopes: u64, protocol: Protocol, now: u64) -> Self {
        Self { scopes, now, protocol: protocol as u8 }
    }

    /// Code of the protocol.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }
}

/// The choice among the entries of a policy: [`Choice::consider`] each, oldest order first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Choice {
    /// The deciding entry; without meaning while `action` is 0.
    pub entry: PolicyEntry,
    /// [`Action`] code of the deciding order, 0 while there is none.
    pub action: u8,
    missed: u8,
    pad: [u8; 2],
}

const MISSED_PROTOCOL: u8 = 1;
const MISSED_CLIENT: u8 = 2;
const MISSED_TIME: u8 = 3;

impl Choice {
    /// Nothing considered yet.
    pub const NONE: Self =
        Self { entry: PolicyEntry { order: 0, depth: 0, flags: 0, pad: [0; 2] }, action: 0, missed: 0, pad: [0; 2] };

    /// Weighs one entry: the stronger action wins, then the order considered first. Tells whether the order holds for
    /// this client, protocol and time at all.
    #[inline(always)]
    pub fn consider(&mut self, entry: PolicyEntry, order: &Order, asker: &Asker) -> bool {
        let action = order.actions.get(usize::from(asker.protocol)).copied().unwrap_or(0);
        let missed = if action == 0 {
            MISSED_PROTOCOL
        } else if order.scopes & asker.scopes == 0 {
            MISSED_CLIENT
        } else if asker.now < order.start || asker.now >= order.end {
            MISSED_TIME
        } else {
            0
        };
        if missed != 0 {
            if missed > self.missed {
                self.missed = missed;
            }
            return false;
        }
        if action > self.action {
            self.action = action;
            self.entry = entry;
        }
        true
    }

    /// Why the packet passes although a policy was found, while no entry holds.
    #[inline(always)]
    pub fn passed(&self) -> Reason {
        match self.missed {
            MISSED_PROTOCOL => Reason::OtherProtocol,
            MISSED_CLIENT => Reason::OtherClient,
            MISSED_TIME => Reason::OtherTime,
            _ => Reason::TableBroken,
        }
    }
}
