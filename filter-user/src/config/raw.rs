//! The shape of the configuration file.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use toml::Spanned;

use super::{ClientDetail, QuicMode, WithoutTier};
use crate::{
    feed::{
        tickets::{Fields, Paths, Reason, TicketState},
        transfer::Expire,
    },
    kernel::Mode,
    order::json::RawOrder,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    #[serde(default)]
    pub daemon: Daemon,
    #[serde(default)]
    pub interface: Vec<Interface>,
    #[serde(default)]
    pub ports: Ports,
    #[serde(default)]
    pub scopes: BTreeMap<Spanned<String>, Spanned<Scope>>,
    #[serde(default)]
    pub targets: BTreeMap<Spanned<String>, Target>,
    #[serde(default)]
    pub tsig: Vec<Tsig>,
    #[serde(default)]
    pub notify: Notify,
    #[serde(default)]
    pub feed: Vec<Feed>,
    #[serde(default)]
    pub allow: Allow,
    #[serde(default)]
    pub protect: Protect,
    #[serde(default)]
    pub events: Events,
    #[serde(default)]
    pub answers: Answers,
    #[serde(default)]
    pub quic: Quic,
    #[serde(default)]
    pub resolvers: Resolvers,
    #[serde(default)]
    pub capacity: Capacity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Daemon {
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub pin_root: PathBuf,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/cordon".into(),
            socket: "/run/cordon/cordon.sock".into(),
            pin_root: "/sys/fs/bpf/cordon".into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interface {
    pub name: Spanned<String>,
    #[serde(default = "native", with = "ModeWord")]
    pub mode: Mode,
}

#[derive(Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase")]
enum ModeWord {
    Native,
    Generic,
}

fn native() -> Mode {
    Mode::Native
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ports {
    pub dns: Option<Spanned<Vec<u16>>>,
    pub tls: Option<Spanned<TlsPorts>>,
    pub quic: Option<Spanned<Vec<u16>>>,
    pub encrypted_dns: Option<Spanned<Vec<u16>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Resolvers {
    pub addresses: Option<Spanned<Vec<Spanned<String>>>>,
    pub file: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of ports or \"any\"")]
pub(super) enum TlsPorts {
    Word(String),
    List(Vec<u16>),
}

pub(super) enum Scope {
    Prefixes(Vec<Spanned<String>>),
    File(ScopeFile),
}

/// By hand, because serde's untagged enums lose where values stood.
impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Scope;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of prefixes or { file = \"...\" }")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Scope, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Scope::Prefixes)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Scope, A::Error> {
                ScopeFile::deserialize(MapAccessDeserializer::new(table)).map(Scope::File)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeFile {
    pub file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub interface: Spanned<String>,
    pub next_hop: Option<Spanned<String>>,
    #[serde(default)]
    pub fallback: Fallback,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fallback {
    #[default]
    Drop,
    Pass,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feed {
    pub name: Spanned<String>,
    pub kind: Spanned<FeedKind>,
    pub path: Option<Spanned<PathBuf>>,
    pub url: Option<Spanned<String>>,
    pub http: Option<Spanned<Http>>,
    pub primaries: Option<Spanned<Vec<Primary>>>,
    pub transfer: Option<Spanned<TransferKind>>,
    pub expire: Option<Spanned<Expire>>,
    pub dns: Option<Spanned<Dns>>,
    pub signature: Option<Signature>,
    pub format: Option<Spanned<ListFormat>>,
    pub charset: Option<Spanned<String>>,
    pub csv: Option<Spanned<Csv>>,
    pub tickets: Option<Spanned<Tickets>>,
    pub zone: Option<Spanned<String>>,
    pub order: Option<Spanned<RawOrder>>,
    #[serde(default)]
    pub guards: Guards,
    pub hold: Option<Spanned<String>>,
    pub deadline: Option<Spanned<String>>,
}

/// What a feed says of its guards.
pub(super) struct Guarding {
    pub guards: Guards,
    pub hold: Option<Spanned<String>>,
    pub deadline: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Guards {
    pub public_suffixes: Option<bool>,
    pub private_suffixes: Option<bool>,
    pub protected: Option<bool>,
    pub growth: Option<Spanned<Limit>>,
    pub shrink: Option<Spanned<Limit>>,
    pub empty: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, false or { rows = N, percent = N }")]
pub(super) enum Limit {
    Switch(bool),
    Over(Over),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Over {
    pub rows: u64,
    pub percent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FeedKind {
    Native,
    List,
    Tickets,
    Rpz,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tickets {
    pub user: PathBuf,
    pub password: PathBuf,
    #[serde(default)]
    pub pending: Pending,
    #[serde(default)]
    pub absent: Absent,
    pub at_once: Option<Spanned<usize>>,
    #[serde(default)]
    pub paths: Paths,
    #[serde(default)]
    pub fields: Fields,
    #[serde(default)]
    pub states: BTreeMap<TicketState, Spanned<Vec<String>>>,
    #[serde(default)]
    pub reasons: BTreeMap<Reason, String>,
}

/// What becomes of tickets that may still be revoked.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pending {
    #[default]
    Hold,
    Enforce,
}

/// What becomes of tickets that a listing lacks.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Absent {
    #[default]
    Keep,
    Revoke,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub interval: Option<Spanned<String>>,
    pub jitter: Option<Spanned<u32>>,
    pub long_poll: Option<Spanned<String>>,
    pub connect_timeout: Option<Spanned<String>>,
    pub stall_timeout: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
    pub max_size: Option<Spanned<u64>>,
    pub max_unpacked: Option<Spanned<u64>>,
    pub ca: Option<PathBuf>,
    pub certificate: Option<Spanned<PathBuf>>,
    pub key: Option<Spanned<PathBuf>>,
    pub token: Option<Spanned<PathBuf>>,
    pub incremental: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tsig {
    pub name: Spanned<String>,
    pub algorithm: TsigAlgorithm,
    pub secret_file: Spanned<PathBuf>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TsigAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Notify {
    pub listen: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Primary {
    pub address: Spanned<String>,
    pub tsig: Option<Spanned<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TransferKind {
    Ixfr,
    Axfr,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Dns {
    pub connect_timeout: Option<Spanned<String>>,
    pub stall_timeout: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
    pub max_size: Option<Spanned<u64>>,
}

/// What a feed says of a zone that is transferred.
pub(super) struct Transferred {
    pub primaries: Spanned<Vec<Primary>>,
    pub transfer: Option<Spanned<TransferKind>>,
    pub expire: Option<Spanned<Expire>>,
    pub dns: Option<Spanned<Dns>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    pub key: Spanned<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListFormat {
    Plain,
    Hosts,
    Dnsmasq,
    Adblock,
    Csv,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Csv {
    pub name: Spanned<Column>,
    pub delimiter: Option<Spanned<String>>,
    pub header: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a column's title, or its number from 1")]
pub(super) enum Column {
    Number(usize),
    Title(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Allow {
    pub names: Vec<Spanned<String>>,
    pub subtree: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Protect {
    pub names: Vec<Spanned<String>>,
    pub subtree: Vec<Spanned<String>>,
    pub file: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Events {
    pub per_second: u32,
    pub client: ClientDetail,
}

impl Default for Events {
    fn default() -> Self {
        Self { per_second: 1000, client: ClientDetail::None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answers {
    pub per_second: u32,
}

impl Default for Answers {
    fn default() -> Self {
        Self { per_second: 10_000 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quic {
    pub mode: QuicMode,
    pub without_tier: WithoutTier,
    pub initials_per_second: u32,
}

impl Default for Quic {
    fn default() -> Self {
        Self { mode: QuicMode::Pass, without_tier: WithoutTier::Pass, initials_per_second: 20_000 }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capacity {
    pub names: Option<Spanned<u32>>,
    pub policies: Option<Spanned<u32>>,
    pub orders: Option<Spanned<u32>>,
    pub prefixes: Option<Spanned<u32>>,
}
