//! What goes over the control socket.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::feed::transfer::ZoneState;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// Version of the map layout.
    pub layout: u32,
    /// Number of the compiled state in the kernel.
    pub generation: u64,
    /// Where the filter is, and where it should be and is not.
    pub interfaces: Vec<InterfaceStatus>,
    /// Orders by state.
    pub orders: OrderCounts,
    /// Names of all orders that are in the kernel's tables.
    pub names: u64,
    /// Redirect targets.
    pub targets: Vec<TargetStatus>,
    /// The newest entry of the book, if the clock is behind it: then orders neither start nor end.
    pub clock_behind: Option<Timestamp>,
    /// The deferred tier, which reads QUIC and segments out of order.
    pub tier: TierStatus,
    /// What is wrong at the moment.
    pub problems: Vec<String>,
}

/// What the deferred tier does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierStatus {
    /// Whether it gives signs of life; if not, `[quic] without_tier` says what becomes of Initials.
    pub alive: bool,
    /// How often it failed and began anew.
    pub restarts: u64,
    /// Connections whose name it found.
    pub decided: u64,
    /// Of these, connections whose name orders cover.
    pub listed: u64,
    /// Copies after which the name was still to come.
    pub undecided: u64,
    /// Connections without a name that could be judged.
    pub nameless: u64,
    /// Copies that told nothing.
    pub junk: u64,
    /// Connections that were forgotten before their name was known.
    pub incomplete: u64,
    /// QUIC ClientHellos that it searched for Encrypted Client Hello, one in `searched_one_in`.
    pub searched: u64,
    /// Of these, those that have it.
    pub encrypted: u64,
    /// See `searched`.
    pub searched_one_in: u64,
    /// Names that could not be written to the kernel.
    pub failed: u64,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub interface: String,
    /// Mode in force: `native`, `generic`; none if the filter is not attached.
    pub mode: Option<String>,
    /// Id of the program that is attached.
    pub program: Option<u32>,
    /// Layout version of its maps.
    pub layout: Option<u32>,
    /// Whether the configuration names it; unknown without a daemon.
    pub configured: Option<bool>,
    /// Why it is not attached.
    pub problem: Option<String>,
}

/// Orders by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCounts {
    /// In force now, and enforced.
    pub in_force: usize,
    /// In force by their dates, but not enforced as they should be.
    pub not_enforced: usize,
    /// Not yet.
    pub waiting: usize,
    /// No longer.
    pub ended: usize,
}

/// One redirect target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Why it is not ready.
    pub problem: Option<String>,
}

/// Where an order stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// In force now.
    InForce,
    /// Not yet.
    Waiting,
    /// Its end has passed.
    Ended,
    /// It was revoked.
    Revoked,
}

impl OrderState {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// One line of `GET /v1/orders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// Order id.
    pub id: String,
    /// The order that it is a part of, if it is one.
    #[serde(default)]
    pub part_of: Option<String>,
    /// Who ordered.
    pub issuer: String,
    /// Public reference.
    pub reference: String,
    /// Where it stands by its dates.
    pub state: OrderState,
    /// Whether it is in force, and the kernel's tables hold all of it.
    pub enforced: bool,
    /// In force from here on, inclusive.
    pub not_before: Timestamp,
    /// In force up to here, exclusive; none: no end.
    pub not_after: Option<Timestamp>,
    /// Action by protocol.
    pub actions: BTreeMap<String, String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// How many names it lists.
    pub names: usize,
    /// Why it is not enforced as it should be.
    pub problem: Option<String>,
}

/// `GET /v1/orders/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDetail {
    /// The order as the native format has it.
    pub order: serde_json::Value,
    /// Where it stands.
    pub state: OrderState,
    /// Who put it: a file's path, or `cli`.
    pub source: String,
    /// When it was put last.
    pub received: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// What became of it, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The parts that it is made of, if it is. Then `order` has what they have in common.
    #[serde(default)]
    pub parts: Vec<OrderPart>,
}

/// A part of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPart {
    /// Order id of the part.
    pub id: String,
    /// Where it stands.
    pub state: OrderState,
    /// Action by protocol.
    pub actions: BTreeMap<String, String>,
    /// `exact`, `subtree` or `below`.
    pub reach: String,
    /// How many names it lists.
    pub names: usize,
    /// How many names it leaves out.
    pub except: usize,
}

/// One entry of an order's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Number of the entry in the book.
    pub number: i64,
    /// The part of the order that it is about, where the order has parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// When it was written.
    pub time: Timestamp,
    /// Who gave the event.
    pub source: String,
    /// Line in the source.
    pub line: u64,
    /// The event's word.
    pub op: String,
    /// What changed.
    pub detail: serde_json::Value,
}

/// Answer to `POST /v1/orders` and `DELETE /v1/orders/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// What became of each event that was taken.
    pub outcomes: Vec<OutcomeLine>,
    /// What was not taken.
    pub refusals: Vec<RefusalLine>,
    /// What guards hold of it.
    #[serde(default)]
    pub held: Vec<HeldChange>,
    /// What went wrong on the way from the book to the kernel.
    pub problems: Vec<String>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeLine {
    /// Line in what was sent.
    pub line: u64,
    /// Order id.
    pub order: String,
    /// `new`, `changed`, `unchanged`, `revoked`, `revoked_unknown`.
    pub what: String,
}

/// Something that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalLine {
    /// File, or the feed's name.
    pub file: String,
    /// Line in it, from 1; 0 where the whole is meant.
    pub line: u64,
    /// The offending text.
    pub text: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for RefusalLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, why } = self;
        out.write_str(file)?;
        if *line > 0 {
            write!(out, ":{line}")?;
        }
        if !text.is_empty() {
            write!(out, ": {text}")?;
        }
        write!(out, ": {why}")
    }
}

/// One feed in `GET /v1/feeds`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// Its name.
    pub name: String,
    /// File or folder; of what is fetched, the last good state.
    pub path: PathBuf,
    /// Where it is fetched, without the query.
    pub url: Option<String>,
    /// How fetching goes.
    pub fetch: Option<FetchStatus>,
    /// How it goes with its tickets, if it has these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tickets: Option<TicketCounts>,
    /// When it was read last.
    pub read: Option<Timestamp>,
    /// Why it cannot be read now.
    pub problem: Option<String>,
    /// What the last reading refused.
    pub refusals: Vec<RefusalLine>,
    /// What guards hold, and what of that was rejected, oldest first.
    #[serde(default)]
    pub held: Vec<HeldChange>,
}

/// How it goes with the tickets of a feed that are to be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketCounts {
    /// How many there are.
    pub tickets: u64,
    /// Items of which the platform was told that they are enforced.
    pub processed: u64,
    /// Items of which it was told that they are not, and why.
    pub unprocessed: u64,
    /// Items of which it was told nothing yet.
    pub open: u64,
}

/// A change that a guard holds. What is enforced is what was before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldChange {
    /// Hash of all that an approval brings about.
    pub id: String,
    /// Its feed.
    pub feed: String,
    /// A file's path, or `cli`.
    pub source: String,
    /// Line in it; 0 where the whole is meant.
    pub line: u64,
    /// Order id; empty where orders go.
    pub order: String,
    /// `protected`, `private_suffix`, `reach`, `growth`, `shrink`, `empty`, `hold`.
    pub guard: String,
    /// Why it is held.
    pub why: String,
    /// When it arrived.
    pub since: Timestamp,
    /// When it is let through without approval.
    pub until: Option<Timestamp>,
    /// When it should be enforced.
    pub deadline: Option<Timestamp>,
    /// It misses its deadline, unless it is approved before.
    pub late: bool,
    /// When it was rejected.
    pub rejected: Option<Timestamp>,
    /// By whom.
    pub rejected_by: Option<String>,
    /// Names that come.
    pub added: HeldNames,
    /// Names that go.
    pub removed: HeldNames,
    /// Exceptions that go.
    pub except_removed: HeldNames,
    /// Orders that go.
    pub orders: HeldNames,
    /// Terms that change: each field as it is and as it would be.
    pub terms: BTreeMap<String, (serde_json::Value, serde_json::Value)>,
}

impl HeldChange {
    /// What it is about and what it would do, in some words.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (names, one, several) in [
            (&self.added, "name comes", "names come"),
            (&self.removed, "name goes", "names go"),
            (&self.except_removed, "exception goes", "exceptions go"),
            (&self.orders, "order goes", "orders go"),
        ] {
            match names.count {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                count => parts.push(format!("{count} {several}")),
            }
        }
        if !self.terms.is_empty() {
            parts.push("other terms".to_owned());
        }
        let about = if self.order.is_empty() { self.source.clone() } else { format!("order {}", self.order) };
        format!("feed {}: {about}: {}: {}; id {}", self.feed, parts.join(", "), self.why, self.id)
    }
}

/// Names of a held change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldNames {
    /// How many.
    pub count: u64,
    /// The first of them, or all, as was asked for.
    pub first: Vec<HeldName>,
}

/// One name of a held change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldName {
    /// The name, or an order's id.
    pub name: String,
    /// What is thought of this one; may be empty.
    pub why: String,
}

/// Body of `POST /v1/feeds/sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// The feed; none: every feed.
    #[serde(default)]
    pub feed: Option<String>,
}

/// Body of `POST /v1/feeds/{feed}/approve` and `POST /v1/feeds/{feed}/reject`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    /// Ids of held changes.
    pub changes: Vec<String>,
    /// Who decides, by their own word. The history has the socket's peer, and this where it differs.
    #[serde(default)]
    pub user: Option<String>,
}

/// How fetching a feed goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchStatus {
    /// When the server last gave an answer that could be used, also that nothing is new; none since the start.
    pub checked: Option<Timestamp>,
    /// Seconds since then.
    #[serde(default)]
    pub age: Option<u64>,
    /// When it last gave something new.
    pub changed: Option<Timestamp>,
    /// Since when it is not known whether there is something new; none while the server answers.
    pub stale_since: Option<Timestamp>,
    /// Number of the last event, of an incremental feed.
    pub seq: Option<u64>,
    /// Of a zone that is transferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneState>,
}

/// `GET /v1/explain?name=NAME&client=ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The name in canonical form.
    pub name: String,
    /// The client; none: one that is in every scope.
    pub client: Option<IpAddr>,
    /// The client's scopes in the kernel.
    pub scopes: Vec<String>,
    /// The deepest name in the kernel's table that covers it.
    pub node: Option<String>,
    /// Where the filter is attached; it judges nothing elsewhere.
    pub interfaces: Vec<String>,
    /// The decision for each protocol.
    pub protocols: Vec<ProtocolExplanation>,
    /// Whether orders and kernel agree throughout.
    pub agree: bool,
}

/// The decision for one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolExplanation {
    /// `dns`, `tls`, `quic`.
    pub protocol: String,
    /// Whether the program reads this protocol at all. If not, what follows is what would be decided, and no packet of
    /// it is stopped.
    pub read: bool,
    /// Destination ports that it is read on; none: any port, if it is read.
    pub ports: Option<Vec<u16>>,
    /// What the orders say.
    pub orders: Decision,
    /// What the kernel's tables say.
    pub kernel: Decision,
    /// Whether they agree.
    pub agree: bool,
}

/// A decision and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// `pass`, or the action.
    pub verdict: String,
    /// Why it passes: `not_listed`, `allowed`, `other_protocol`, `other_client`, `other_time`.
    pub reason: Option<String>,
    /// The deciding order.
    pub order: Option<String>,
    /// The name in that order which covers this one.
    pub rule: Option<String>,
    /// Every order that holds here, the deciding one among them, oldest first.
    pub concerned: Vec<String>,
}

/// `GET /v1/stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Packets by reason; reasons without any are left out.
    pub reasons: Vec<ReasonCount>,
    /// Packets by order; orders without any are left out.
    pub orders: Vec<OrderHits>,
    /// Where names cannot be seen.
    pub hidden: Hidden,
    /// What else the program counted; what did not happen is left out.
    pub tallies: Vec<TallyCount>,
    /// The maps of flows.
    pub flows: Vec<FlowUse>,
    /// The deferred tier; none without a daemon.
    pub tier: Option<TierStatus>,
    /// Events of the kernel that the daemon read.
    pub events_read: u64,
    /// Events that readers of `/v1/events` were too slow for.
    pub events_lost: u64,
}

/// Where names cannot be seen, or not the right ones. No order stops any of this by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Connections of DNS over TLS that were opened (TCP, `[ports] encrypted_dns`).
    pub dns_over_tls: u64,
    /// Initials of DNS over QUIC (UDP, `[ports] encrypted_dns`); a connection has one or several.
    pub dns_over_quic: u64,
    /// TLS connections that were opened to known public resolvers: DNS over HTTPS, as far as can be told.
    pub resolver_tls: u64,
    /// Initials to known public resolvers.
    pub resolver_quic: u64,
    /// ClientHellos without a server name.
    pub hellos_without_name: u64,
    /// QUIC packets of versions that are not read.
    pub quic_versions: u64,
    /// ClientHellos without a listed name that were searched for Encrypted Client Hello, one in `searched_one_in`.
    pub hellos_searched: u64,
    /// Those of them that have it, genuine or GREASE; only their outer name was compared.
    pub hellos_encrypted: u64,
    /// See `hellos_searched`.
    pub searched_one_in: u32,
}

/// How often something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyCount {
    /// What.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// How much of a map of flows is in use. State that is lost for want of room lets packets pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowUse {
    /// The map.
    pub map: String,
    /// Most entries.
    pub capacity: u64,
    /// Octets of memory.
    pub octets: u64,
    /// Entries that were made.
    pub set: u64,
    /// Entries that were done with. Where `set - done` grows by more than `capacity` in the time that an entry is needed
    /// for (a hello's second, a stopped connection's minute), some are lost.
    pub done: u64,
}

/// Packets of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// `pass`, `drop`, `answer`, `redirect`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Octets of the Ethernet frames.
    pub bytes: u64,
}

/// Packets of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderHits {
    /// Order id.
    pub order: String,
    /// Packets for which it decided.
    pub decided: u64,
    /// Packets for which it held at all.
    pub concerned: u64,
}

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// When.
    pub time: Timestamp,
    /// The name in the packet.
    pub name: String,
    /// The order's name that covers it.
    pub rule: String,
    /// The deciding order.
    pub order: String,
    /// `dns`, `tls`, `quic`.
    pub protocol: String,
    /// `pass`, `drop`, `answer`, `redirect`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Scopes of the client.
    pub scopes: Vec<String>,
    /// The client, as far as the configuration lets it be told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<IpAddr>,
}

/// Body of `POST /v1/attach` and `POST /v1/detach`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The interface.
    pub interface: String,
    /// Attach after the driver.
    #[serde(default)]
    pub generic: bool,
    /// Put the filter in place of another program.
    #[serde(default)]
    pub replace: bool,
}

/// Body of `POST /v1/detach`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachRequest {
    /// The interface.
    pub interface: String,
}

/// Answer to `POST /v1/detach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Whether the filter was there.
    pub was_attached: bool,
}

/// Body of every answer with a status of 400 and above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong.
    pub error: String,
}
