//! `[[tsig]]`, `[notify]`, and what a zone's feed says of its primaries.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use domain::tsig::Algorithm;
use toml::Spanned;

use super::{Check, raw};
use crate::feed::transfer::{Apex, Expire, KeyFile, Primary, Upstream};

/// The keys of a configuration, by their names in lower case.
pub(super) type Keys = BTreeMap<String, KeyFile>;

impl Check<'_> {
    pub(super) fn keys(&mut self, raw: Vec<raw::Tsig>) -> Keys {
        let mut keys = Keys::new();
        for raw::Tsig { name, algorithm, secret_file } in raw {
            let algorithm = match algorithm {
                raw::TsigAlgorithm::HmacSha256 => Algorithm::Sha256,
                raw::TsigAlgorithm::HmacSha384 => Algorithm::Sha384,
                raw::TsigAlgorithm::HmacSha512 => Algorithm::Sha512,
            };
            let word = key_word(name.get_ref());
            match word.parse() {
                Err(error) => self.wrong(&name, format!("not a domain name, which a key's name is: {error}")),
                Ok(_) if keys.contains_key(&word) => self.wrong(&name, "two keys of this name"),
                Ok(parsed) => {
                    let key = KeyFile { name: parsed, algorithm, secret: self.folder.join(secret_file.get_ref()) };
                    if let Err(why) = key.read() {
                        self.wrong(&secret_file, why);
                    }
                    keys.insert(word, key);
                }
            }
        }
        keys
    }

    pub(super) fn notify(&mut self, raw: raw::Notify) -> Vec<SocketAddr> {
        let mut listen = Vec::new();
        for text in raw.listen {
            match address(text.get_ref()) {
                Some(address) if listen.contains(&address) => self.wrong(&text, "stands here twice"),
                Some(address) => listen.push(address),
                None => self.wrong(&text, NO_ADDRESS),
            }
        }
        listen
    }

    /// Where the zone of a feed comes from.
    pub(super) fn upstream(&mut self, zone: Apex, raw: raw::Transferred, keys: &Keys) -> Option<Upstream> {
        let raw::Transferred { primaries: given, transfer, expire, dns } = raw;
        let mut primaries: Vec<Primary> = Vec::new();
        for primary in given.get_ref() {
            let Some(address) = address(primary.address.get_ref()) else {
                self.wrong(&primary.address, NO_ADDRESS);
                continue;
            };
            if primaries.iter().any(|known| known.address == address) {
                self.wrong(&primary.address, "stands here twice");
            }
            let key = primary.tsig.as_ref().and_then(|name| {
                let key = keys.get(&key_word(name.get_ref()));
                if key.is_none() {
                    self.wrong(name, "no [[tsig]] has this name");
                }
                key.cloned()
            });
            primaries.push(Primary { address, key });
        }
        if primaries.is_empty() {
            self.wrong(&given, "a zone without a primary comes from nowhere");
            return None;
        }
        let dns = dns.map(Spanned::into_inner).unwrap_or_default();
        Some(Upstream {
            zone,
            primaries,
            incremental: transfer.is_none_or(|kind| *kind.get_ref() == raw::TransferKind::Ixfr),
            expire: expire.map_or(Expire::Keep, Spanned::into_inner),
            connect_timeout: self.time(dns.connect_timeout, 1, 10),
            stall_timeout: self.time(dns.stall_timeout, 1, 30),
            timeout: self.time(dns.timeout, 1, MINUTES_15.as_secs()),
            max_size: self.at_most(dns.max_size, 1 << 40, 1 << 30),
        })
    }
}

/// An address with a port, or one alone, which has the port of DNS.
fn address(text: &str) -> Option<SocketAddr> {
    let alone = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53));
    text.parse().ok().or_else(alone)
}

/// Names of keys are domain names, which have no case, and no need of a dot at their end.
fn key_word(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

const NO_ADDRESS: &str = "not an address such as 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53";

const MINUTES_15: Duration = Duration::from_secs(15 * 60);
