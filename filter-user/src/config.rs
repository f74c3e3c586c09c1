//! The configuration: one TOML file, read whole or refused whole.
//!
//! The file's shape is in [`raw`], where the toml crate checks it and keeps where each value stood; what the values
//! mean is checked here, and every mistake is reported, not only the first.

mod feeds;
mod guards;
mod mistake;
mod raw;
mod remote;
mod resolvers;
mod scopes;
mod ticketing;
mod transfer;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use filter_common::layout::{MAX_SCOPES, client_detail, quic_mode};
use ipnet::IpNet;
use toml::Spanned;

pub use mistake::{Mistake, Mistakes};

use crate::{
    feed::{
        Input, Kind, Seal,
        http::{Remote, Task},
        tickets::{self, Platform},
        transfer::{Task as Transfer, Upstream},
    },
    guard::{self, Guards, Policy, Protected},
    kernel::{Capacity, MAX_RESOLVERS, Mode, Reading, TargetSpec, TlsPorts},
    name::Name,
    order::Match,
};
use mistake::Source;

/// Where the configuration is looked for.
pub const DEFAULT_FILE: &str = "/etc/cordon/cordon.toml";

/// Name of the feed that holds what the control socket was given.
pub const CONTROL_FEED: &str = "control";

/// Where orders that came over the control socket come from, in the book's words.
pub(crate) const CONTROL_SOURCE: &str = "cli";

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Folders and the control socket.
    pub daemon: Daemon,
    /// Interfaces to attach to.
    pub interfaces: Vec<Interface>,
    /// Which destination ports are read.
    pub ports: Ports,
    /// Client prefixes by scope name.
    pub scopes: BTreeMap<String, Vec<IpNet>>,
    /// Where redirected packets go, in the order of their names.
    pub targets: Vec<TargetSpec>,
    /// Where NOTIFYs are received.
    pub notify: Vec<SocketAddr>,
    /// Where orders come from.
    pub feeds: Vec<Feed>,
    /// What no order can stop.
    pub allow: Allow,
    /// What no order stops unless that is approved, besides the shipped list.
    pub protect: Protected,
    /// What events tell, and how many.
    pub events: Events,
    /// What becomes of QUIC.
    pub quic: Quic,
    /// Public resolvers, connections to which are counted: those that Cordon knows, and the operator's.
    pub resolvers: BTreeSet<IpAddr>,
    /// Answers a second on each CPU, and as many resets.
    pub answers_per_second: u32,
    /// Sizes of the kernel tables, which are laid out when they are first pinned.
    pub capacity: Capacity,
}

/// Folders and the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The order book.
    pub state_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Where maps, programs and links are pinned; on a BPF file system.
    pub pin_root: PathBuf,
}

/// An interface where subscribers' packets come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How the program is attached.
    pub mode: Mode,
}

/// Which destination ports are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// DNS.
    pub dns: Vec<u16>,
    /// TLS over TCP.
    pub tls: TlsPorts,
    /// QUIC.
    pub quic: Vec<u16>,
    /// DNS over TLS and over QUIC, which is counted.
    pub encrypted_dns: Vec<u16>,
}

impl Ports {
    /// As the program takes them.
    pub fn reading(self) -> Reading {
        let Self { dns, tls, quic, encrypted_dns } = self;
        Reading { dns, tls, quic, encrypted_dns }
    }
}

/// What becomes of QUIC, whose names only the deferred tier can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quic {
    /// Undecided Initials.
    pub mode: QuicMode,
    /// Undecided Initials while the tier is dead or over its budget.
    pub without_tier: WithoutTier,
    /// Copies for the tier a second on each CPU.
    pub initials_per_second: u32,
}

/// What becomes of an Initial whose name is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuicMode {
    /// It passes, and the name stops what follows.
    #[default]
    Pass,
    /// It is dropped; its retransmission meets the verdict.
    Hold,
    /// It is dropped, always: clients fall back to TCP.
    Drop,
}

impl QuicMode {
    /// The code in `Settings`.
    pub fn code(self) -> u8 {
        match self {
            Self::Pass => quic_mode::PASS,
            Self::Hold => quic_mode::HOLD,
            Self::Drop => quic_mode::DROP,
        }
    }
}

/// What becomes of an Initial whose name will not be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutTier {
    /// It passes.
    #[default]
    Pass,
    /// It is dropped.
    Drop,
}

impl WithoutTier {
    /// The code in `Settings`.
    pub fn code(self) -> u8 {
        match self {
            Self::Pass => quic_mode::PASS,
            Self::Drop => quic_mode::DROP,
        }
    }
}

/// Where orders come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Its name, for reports and the order book.
    pub name: String,
    /// A file, or a folder of files; of what is fetched, the last good state.
    pub path: PathBuf,
    /// Where it is fetched.
    pub remote: Option<Remote>,
    /// Where its zone is transferred from.
    pub upstream: Option<Upstream>,
    /// What is in them.
    pub kind: Kind,
    /// It is a platform's tickets, which are put there as orders.
    pub tickets: Option<Arc<Platform>>,
    /// They must be signed.
    pub seal: Option<Seal>,
    /// Its guards.
    pub policy: Policy,
}

impl Feed {
    /// What is fetched for it.
    pub fn task(&self) -> Option<Task> {
        if self.tickets.is_some() {
            return None;
        }
        let (feed, seal, path) = (self.name.clone(), self.seal.clone(), self.path.clone());
        self.remote.clone().map(|remote| Task { feed, remote, seal, path })
    }

    /// The platform that is asked for it.
    pub fn platform(&self, guards: &Guards) -> Option<tickets::Task> {
        let (platform, remote) = (self.tickets.clone()?, self.remote.clone()?);
        let (feed, path, guards) = (self.name.clone(), self.path.clone(), guards.clone());
        Some(tickets::Task { feed, remote, platform, path, guards })
    }

    /// What is transferred for it.
    pub fn transfer(&self) -> Option<Transfer> {
        let (feed, path) = (self.name.clone(), self.path.clone());
        self.upstream.clone().map(|upstream| Transfer { feed, upstream, path })
    }

    /// What is read for it. What is fetched was checked then.
    pub fn input(&self) -> Input {
        let Self { path, kind, seal, remote, upstream, .. } = self;
        let seal = seal.clone().filter(|_| remote.is_none());
        Input {
            path: path.clone(),
            kind: kind.clone(),
            seal,
            is_fetched: remote.is_some() || upstream.is_some(),
            transferred: upstream.as_ref().map(|upstream| upstream.zone.clone()),
        }
    }
}

/// The operator's allow list: no order stops these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// The names alone.
    pub names: Vec<Name>,
    /// The names and everything below them.
    pub subtree: Vec<Name>,
}

impl Allow {
    /// The rules, as the compiler takes them.
    pub fn rules(&self) -> impl Iterator<Item = (Name, Match)> {
        let rules = |names: &[Name], reach| names.iter().cloned().map(move |name| (name, reach)).collect::<Vec<_>>();
        rules(&self.names, Match::Exact).into_iter().chain(rules(&self.subtree, Match::Subtree))
    }
}

/// What events tell, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Events a second on each CPU; further ones are left out.
    pub per_second: u32,
    /// How much of the client's address they hold.
    pub client: ClientDetail,
}

/// How much of a client's address an event holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientDetail {
    /// None of it.
    #[default]
    None,
    /// The /24 or /40.
    Truncated,
    /// All of it.
    Full,
}

impl ClientDetail {
    /// The code in `Settings`.
    pub fn code(self) -> u32 {
        match self {
            Self::None => client_detail::NONE,
            Self::Truncated => client_detail::TRUNCATED,
            Self::Full => client_detail::FULL,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let parsed = Self::parse("", Path::new(DEFAULT_FILE));
        debug_assert!(parsed.is_ok(), "an empty configuration is a valid one");
        parsed.unwrap_or_else(|mistakes| unreachable!("{mistakes}"))
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every mistake found; the first alone where the file cannot be read or is not TOML of the right shape.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) => Err(Mistakes::unreadable(file, &error)),
        }
    }

    /// Checks a configuration; `file` is for messages, and its folder is what relative paths in it start from.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, Mistakes> {
        let source = Source::new(file, text);
        let raw: raw::Config = toml::from_str(text).map_err(|error| source.shape(&error))?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let mut check = Check { source, folder, mistakes: Vec::new() };
        let config = check.config(raw);
        if check.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(check.mistakes)) }
    }

    /// How the configuration attaches to an interface, if it names it.
    pub fn mode(&self, interface: &str) -> Option<Mode> {
        self.interfaces.iter().find(|known| known.name == interface).map(|known| known.mode)
    }

    /// The guards of all feeds, and of what the control socket is given.
    pub fn guards(&self) -> Guards {
        let mut protected = Protected::shipped();
        protected.extend(&self.protect);
        let control = (PathBuf::from(CONTROL_SOURCE), Policy::control(CONTROL_FEED));
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let feeds = self.feeds.iter().map(|feed| (absolute(&feed.path), feed.policy.clone()));
        Guards::new(protected, feeds.chain([control]).collect())
    }

    /// What a running daemon cannot take over from `new`, by key; empty if it can take over all of it.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        if self.daemon != new.daemon {
            keys.push("[daemon]");
        }
        if self.interfaces != new.interfaces {
            keys.push("[[interface]]");
        }
        if self.capacity != new.capacity {
            keys.push("[capacity]");
        }
        keys
    }
}

/// The check of one file: goes on after a mistake.
struct Check<'a> {
    source: Source<'a>,
    folder: &'a Path,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn config(&mut self, raw: raw::Config) -> Config {
        let prefixes_at = raw.capacity.prefixes.as_ref().map(Spanned::span);
        let config = Config {
            daemon: Daemon {
                state_dir: raw.daemon.state_dir.clone(),
                socket: raw.daemon.socket,
                pin_root: raw.daemon.pin_root,
            },
            interfaces: self.interfaces(raw.interface),
            ports: self.ports(raw.ports),
            scopes: self.scopes(raw.scopes),
            targets: self.targets(raw.targets),
            notify: self.notify(raw.notify),
            feeds: {
                let keys = self.keys(raw.tsig);
                self.feeds(raw.feed, &raw.daemon.state_dir, &keys)
            },
            allow: Allow { names: self.names(raw.allow.names), subtree: self.allowed_subtrees(raw.allow.subtree) },
            protect: self.protect(raw.protect),
            events: Events { per_second: raw.events.per_second, client: raw.events.client },
            quic: Quic {
                mode: raw.quic.mode,
                without_tier: raw.quic.without_tier,
                initials_per_second: raw.quic.initials_per_second,
            },
            resolvers: self.resolvers(raw.resolvers),
            answers_per_second: raw.answers.per_second,
            capacity: self.capacity(raw.capacity),
        };
        self.room_for_prefixes(&config, prefixes_at);
        config
    }

    fn room_for_prefixes(&mut self, config: &Config, at: Option<Range<usize>>) {
        let prefixes: BTreeSet<IpNet> = config.scopes.values().flatten().copied().collect();
        let (v4, v6): (Vec<&IpNet>, Vec<_>) = prefixes.iter().partition(|prefix| matches!(prefix, IpNet::V4(_)));
        let (room, most) = (config.capacity.prefixes as usize, v4.len().max(v6.len()));
        if most > room {
            let why = format!("[scopes] has {most} prefixes of one family, capacity.prefixes room for {room}");
            let mistake = match at {
                Some(span) => self.source.at(span, why),
                None => self.source.whole(why),
            };
            self.mistakes.push(mistake);
        }
    }

    fn ports(&mut self, raw: raw::Ports) -> Ports {
        if let (Some(dns), Some(tls)) = (&raw.dns, &raw.tls)
            && dns.get_ref().is_empty()
            && matches!(tls.get_ref(), raw::TlsPorts::List(list) if list.is_empty())
            && raw.quic.as_ref().is_some_and(|quic| quic.get_ref().is_empty())
        {
            self.wrong(tls, "neither DNS nor TLS nor QUIC is read: no order would stop anything");
        }
        Ports {
            dns: self.port_list(raw.dns, 53),
            tls: self.tls_ports(raw.tls),
            quic: self.port_list(raw.quic, 443),
            encrypted_dns: self.port_list(raw.encrypted_dns, 853),
        }
    }

    fn resolvers(&mut self, raw: raw::Resolvers) -> BTreeSet<IpAddr> {
        let mut known = resolvers::shipped();
        for text in raw.addresses.iter().flat_map(Spanned::get_ref) {
            match resolvers::address(text.get_ref()) {
                Ok(address) => {
                    known.insert(address);
                }
                Err(why) => self.wrong(text, why),
            }
        }
        if let Some(file) = &raw.file {
            match resolvers::read(&self.folder.join(file.get_ref())) {
                Ok(addresses) => known.extend(addresses),
                Err(mistakes) => {
                    self.wrong(file, format!("this file has {} mistakes", mistakes.len()));
                    self.mistakes.extend(mistakes);
                }
            }
        }
        if known.len() > MAX_RESOLVERS as usize {
            let why = format!("with those that Cordon knows, {} resolvers; room for {MAX_RESOLVERS}", known.len());
            match (&raw.file, &raw.addresses) {
                (Some(file), _) => self.wrong(file, why),
                (None, Some(addresses)) => self.wrong(addresses, why),
                (None, None) => self.mistakes.push(self.source.whole(why)),
            }
        }
        known
    }

    fn wrong<T>(&mut self, value: &Spanned<T>, why: impl Into<String>) {
        self.mistakes.push(self.source.at(value.span(), why));
    }

    fn interfaces(&mut self, raw: Vec<raw::Interface>) -> Vec<Interface> {
        let mut interfaces: Vec<Interface> = Vec::new();
        for entry in raw {
            if let Err(why) = interface_name(entry.name.get_ref()) {
                self.wrong(&entry.name, why);
            } else if interfaces.iter().any(|known| known.name == *entry.name.get_ref()) {
                self.wrong(&entry.name, "this interface stands here twice");
            } else {
                interfaces.push(Interface { name: entry.name.into_inner(), mode: entry.mode });
            }
        }
        interfaces
    }

    fn port_list(&mut self, raw: Option<Spanned<Vec<u16>>>, default: u16) -> Vec<u16> {
        let Some(ports) = raw else { return vec![default] };
        if ports.get_ref().contains(&0) {
            self.wrong(&ports, "0 is not a port");
        }
        ports.into_inner()
    }

    fn tls_ports(&mut self, raw: Option<Spanned<raw::TlsPorts>>) -> TlsPorts {
        let Some(ports) = raw else { return TlsPorts::List(vec![443]) };
        match ports.get_ref() {
            raw::TlsPorts::Word(word) if word == "any" => return TlsPorts::Any,
            raw::TlsPorts::Word(_) => self.wrong(&ports, "neither a list of ports nor \"any\""),
            raw::TlsPorts::List(list) if !list.contains(&0) => return TlsPorts::List(list.clone()),
            raw::TlsPorts::List(_) => self.wrong(&ports, "0 is not a port"),
        }
        TlsPorts::List(Vec::new())
    }

    fn scopes(&mut self, raw: BTreeMap<Spanned<String>, Spanned<raw::Scope>>) -> BTreeMap<String, Vec<IpNet>> {
        let mut result = BTreeMap::new();
        for (name, scope) in raw {
            if name.get_ref() == "all" {
                self.wrong(&name, "`all` is every client, and cannot be defined");
            } else if result.len() >= MAX_SCOPES - 1 {
                self.wrong(&name, format!("more than {} scopes", MAX_SCOPES - 1));
            } else if let Err(why) = word(name.get_ref()) {
                self.wrong(&name, why);
            }
            let mistakes = self.mistakes.len();
            let prefixes = match scope.get_ref() {
                raw::Scope::Prefixes(list) => self.prefixes(list),
                raw::Scope::File(raw::ScopeFile { file }) => match scopes::read(&self.folder.join(file)) {
                    Ok(prefixes) => prefixes,
                    Err(mistakes) => {
                        self.wrong(&scope, format!("its file has {} mistakes", mistakes.len()));
                        self.mistakes.extend(mistakes);
                        continue;
                    }
                },
            };
            if prefixes.is_empty() && self.mistakes.len() == mistakes {
                self.wrong(&scope, "a scope without prefixes binds nobody");
            }
            result.insert(name.into_inner(), prefixes);
        }
        result
    }

    fn prefixes(&mut self, list: &[Spanned<String>]) -> Vec<IpNet> {
        let mut prefixes = Vec::with_capacity(list.len());
        for text in list {
            match scopes::prefix(text.get_ref()) {
                Ok(prefix) => prefixes.push(prefix),
                Err(why) => self.wrong(text, why),
            }
        }
        prefixes
    }

    fn targets(&mut self, raw: BTreeMap<Spanned<String>, raw::Target>) -> Vec<TargetSpec> {
        let mut targets = Vec::new();
        for (name, target) in raw {
            if targets.len() >= Capacity::default().targets as usize {
                self.wrong(&name, format!("more than {} targets", targets.len()));
            } else if let Err(why) = word(name.get_ref()) {
                self.wrong(&name, why);
            }
            if let Err(why) = interface_name(target.interface.get_ref()) {
                self.wrong(&target.interface, why);
            }
            let next_hop = target.next_hop.and_then(|text| match text.get_ref().parse() {
                Ok(address) => Some(address),
                Err(_) => {
                    self.wrong(&text, "not an IP address");
                    None
                }
            });
            targets.push(TargetSpec {
                name: name.into_inner(),
                interface: target.interface.into_inner(),
                next_hop,
                fallback_pass: matches!(target.fallback, raw::Fallback::Pass),
            });
        }
        targets
    }

    fn names(&mut self, raw: Vec<Spanned<String>>) -> Vec<Name> {
        let mut names = Vec::with_capacity(raw.len());
        for text in raw {
            match Name::parse(text.get_ref()) {
                Ok(name) => names.push(name),
                Err(error) => self.wrong(&text, error.to_string()),
            }
        }
        names
    }

    /// A suffix under which others register would exempt nearly every order.
    fn allowed_subtrees(&mut self, raw: Vec<Spanned<String>>) -> Vec<Name> {
        for text in &raw {
            let Ok(name) = Name::parse(text.get_ref()) else { continue };
            if let Err(error) = guard::check_suffix(&name) {
                self.wrong(text, format!("{error}: no order could stop any name below it"));
            }
        }
        self.names(raw)
    }

    fn capacity(&mut self, raw: raw::Capacity) -> Capacity {
        let mut size = |value: Option<Spanned<u32>>, default: u32, most: u32| {
            let Some(value) = value else { return default };
            if !(16..=most).contains(value.get_ref()) {
                self.wrong(&value, format!("not between 16 and {most}"));
            }
            value.into_inner()
        };
        let default = Capacity::default();
        Capacity {
            names: size(raw.names, default.names, 1 << 28),
            policies: size(raw.policies, default.policies, 1 << 24),
            orders: size(raw.orders, default.orders, 1 << 22),
            prefixes: size(raw.prefixes, default.prefixes, 1 << 24),
            ..default
        }
    }
}

/// Words that name things of this file in orders, reports and paths.
fn word(text: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err("a name here is 1 to 64 letters, digits, hyphens and underscores");
    }
    Ok(())
}

/// As the kernel's dev_valid_name.
fn interface_name(name: &str) -> Result<(), &'static str> {
    const LONGEST: usize = 15;
    if name.is_empty() || name.len() > LONGEST {
        return Err("an interface's name has 1 to 15 octets");
    }
    if name == "." || name == ".." || name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0..=b' ' | 0x7f..)) {
        return Err("not an interface's name");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
