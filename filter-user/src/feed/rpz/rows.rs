//! What the records of a zone say, owner by owner.
//!
//! State: the owners' keys in one piece of memory, and a row for each record that counts. An owner that cannot be
//! enforced as it is has a row, too: as a name of the zone it bounds the wildcards above it (RFC 4592).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    master::{Data, Record},
    owner::{self, OwnerError},
};
use crate::{guard::Guarded, order::Address};

/// What a zone has done with queries for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stop {
    /// `CNAME .`
    Nxdomain,
    /// `CNAME *.`
    Nodata,
    /// `CNAME rpz-drop.`
    Drop,
    /// A and AAAA records.
    Address(Address),
}

/// The rows of a zone.
#[derive(Default)]
pub(super) struct Rows {
    keys: Vec<u8>,
    rows: Vec<Row>,
    addresses: Vec<IpAddr>,
    numbers: HashMap<IpAddr, u32>,
}

/// One record.
#[derive(Clone, Copy)]
struct Row {
    start: usize,
    length: u8,
    line: u32,
    says: Says,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nxdomain,
    Nodata,
    Drop,
    Passthru,
    /// By its number.
    Address(u32),
    /// What is not enforced.
    Nothing,
}

/// A name of the zone that has records.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    start: usize,
    length: u8,
    /// Line of its first record.
    pub line: u32,
    /// `None`: nothing is done.
    pub stop: Option<Stop>,
}

/// What is to be told of a record.
pub(super) enum Verdict {
    /// Nothing.
    Taken,
    /// It is the zone's own: SOA, name servers, signatures.
    OfZone,
    /// It is not enforced, and why; the first word or two say which kind of record it is.
    Unsupported(&'static str, String),
    /// It is wrong.
    Refused(String),
    /// So wrong that the zone would reach further without it.
    Broken(String),
}

/// Why a rule cannot be enforced.
enum Unfit {
    /// Nothing can be about such a name.
    Name(&'static str),
    /// Nobody means it.
    Rule(String),
}

impl Rows {
    /// Takes a record. `zone` is the key of the zone's apex.
    pub(super) fn take(&mut self, record: &Record<'_>, zone: &[u8], guards: &Guarded<'_>) -> Verdict {
        let is_passthru = || self.cname(record, &[]).is_ok_and(|says| says == Says::Passthru);
        let key = match record.owner {
            Ok(key) => key,
            // Nobody can ask for such a name, so it stops nothing; but somebody meant another.
            Err((_, error)) if is_passthru() => return Verdict::Broken(lost(*error)),
            Err((_, error)) => return Verdict::Refused(error.to_string()),
        };
        let Some(relative) = key.strip_prefix(zone) else {
            return Verdict::Refused(format!("is not in the zone {}", owner::text(zone)));
        };
        if record.class.is_some() {
            return Verdict::Refused("its class is not IN".to_owned());
        }
        if let Some(trigger) = other_trigger(relative) {
            if trigger == CLIENT && is_passthru() {
                let why = "PASSTHRU for clients, who are stopped all the same: what the order leaves out are names, and \
                           its scopes say which clients it is about";
                return Verdict::Unsupported("rpz-client-ip with PASSTHRU", why.to_owned());
            }
            let why = format!("a trigger of another kind than the query's name, {trigger}, which Cordon does not have");
            return Verdict::Unsupported(trigger, why);
        }
        let told = self.says(record, relative);
        let (says, verdict) = match told {
            Ok(says) => match self.check(relative, guards) {
                Ok(()) => (says, Verdict::Taken),
                Err(_) if says == Says::Passthru => (says, Verdict::Taken),
                // No rule can be about it, but what is done with it decides about the wildcards above.
                Err(Unfit::Name(why)) => (says, Verdict::Refused(why.to_owned())),
                Err(Unfit::Rule(why)) => (Says::Nothing, Verdict::Refused(why)),
            },
            Err(Verdict::OfZone) => return Verdict::OfZone,
            Err(verdict) => (Says::Nothing, verdict),
        };
        if !relative.is_empty() {
            let (start, length) = (self.keys.len(), relative.len() as u8);
            self.keys.extend_from_slice(relative);
            self.rows.push(Row { start, length, line: u32::try_from(record.line).unwrap_or(u32::MAX), says });
        }
        verdict
    }

    fn says(&mut self, record: &Record<'_>, relative: &[u8]) -> Result<Says, Verdict> {
        let is = |rtype: &str| record.rtype.eq_ignore_ascii_case(rtype.as_bytes());
        if ["RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY"].into_iter().any(is) {
            return Err(Verdict::OfZone);
        }
        if relative.is_empty() {
            let is_wrong = is("CNAME") || is("A") || is("AAAA");
            return Err(if is_wrong {
                Verdict::Refused("a rule on the zone's apex names nothing".to_owned())
            } else {
                Verdict::OfZone
            });
        }
        let says = match record.rtype {
            _ if is("CNAME") => self.cname(record, relative)?,
            _ if is("A") => {
                let address: Ipv4Addr = address(record.data).ok_or_else(|| refused("not an IPv4 address behind A"))?;
                Says::Address(self.number(address.into()))
            }
            _ if is("AAAA") => {
                let address: Ipv6Addr =
                    address(record.data).ok_or_else(|| refused("not an IPv6 address behind AAAA"))?;
                Says::Address(self.number(address.into()))
            }
            b"" => return Err(refused("has no type")),
            rtype => {
                let why =
                    format!("local data of type {}, which Cordon does not answer with", String::from_utf8_lossy(rtype));
                return Err(Verdict::Unsupported("other local data", why));
            }
        };
        Ok(says)
    }

    /// Whether a rule on a name can be enforced.
    fn check(&self, relative: &[u8], guards: &Guarded<'_>) -> Result<(), Unfit> {
        let name = match relative.strip_suffix(owner::WILDCARD) {
            Some([]) => return Err(Unfit::Rule("would stop every name".to_owned())),
            // What ends as a wildcard label does may be the end of a longer label.
            Some(above) if owner::labels(relative).next_back() == Some(b"*") => above,
            _ => relative,
        };
        if owner::labels(name).any(|label| label == b"*") {
            return Err(Unfit::Name(ASTERISK));
        }
        let name = owner::host(name).ok_or(Unfit::Name("is not a host name, which no rule can be about"))?;
        guards.check(&name).map_err(|error| Unfit::Rule(error.to_string()))
    }

    /// What a CNAME says, as BIND reads it.
    fn cname(&self, record: &Record<'_>, relative: &[u8]) -> Result<Says, Verdict> {
        let mut target = Vec::new();
        let written = record.data.word(0);
        if record.data.count() != 1 || !record.rtype.eq_ignore_ascii_case(b"CNAME") {
            return Err(refused("CNAME has one name behind it"));
        }
        owner::read(written, record.origin, &mut target)
            .map_err(|error| refused(format!("CNAME to a name that {error}")))?;
        Ok(match &target[..] {
            b"" => Says::Nxdomain,
            owner::WILDCARD => Says::Nodata,
            b"\x08rpz-drop" => Says::Drop,
            b"\x0crpz-passthru" => Says::Passthru,
            // How PASSTHRU was written once: an alias of the name itself.
            itself if itself == relative && !relative.is_empty() => Says::Passthru,
            b"\x0crpz-tcp-only" => {
                let why = "rpz-tcp-only has clients ask again over TCP, and stops nothing; Cordon does not do that";
                return Err(Verdict::Unsupported("rpz-tcp-only", why.to_owned()));
            }
            other => {
                let dot = if written.starts_with(b"rpz-") && !written.ends_with(b".") {
                    "; the dot at its end is missing"
                } else {
                    ""
                };
                let why =
                    format!("CNAME to {}., another name, which Cordon does not answer with{dot}", owner::text(other));
                return Err(Verdict::Unsupported("CNAME to another name", why));
            }
        })
    }

    fn number(&mut self, address: IpAddr) -> u32 {
        let next = self.addresses.len() as u32;
        *self.numbers.entry(address).or_insert_with(|| {
            self.addresses.push(address);
            next
        })
    }

    /// The owners in the order of their keys. `tell` gets what is not enforced of them: line, key and why.
    pub(super) fn owners(&mut self, mut tell: impl FnMut(u32, &[u8], String)) -> Vec<Owner> {
        let keys = &self.keys;
        // Compared by their first octets, which lie beside each other in memory.
        let mut rows: Vec<(u128, Row)> = self.rows.drain(..).map(|row| (beginning(row.key(keys)), row)).collect();
        rows.sort_unstable_by(|(a, one), (b, other)| {
            a.cmp(b).then_with(|| (one.key(keys), one.line).cmp(&(other.key(keys), other.line)))
        });
        let mut owners = Vec::new();
        for of_owner in rows.chunk_by(|(_, one), (_, other)| one.key(keys) == other.key(keys)) {
            let Some((_, first)) = of_owner.first() else { continue };
            let key = first.key(keys);
            let stop = match one_stop(of_owner.iter().map(|(_, row)| row), &self.addresses, |line, why| {
                tell(line, key, why)
            }) {
                Ok(stop) => stop,
                Err((line, why)) => {
                    tell(line, key, why);
                    None
                }
            };
            owners.push(Owner { start: first.start, length: first.length, line: first.line, stop });
        }
        owners
    }

    /// The key of an owner, below the zone's apex.
    pub(super) fn key(&self, owner: &Owner) -> &[u8] {
        self.keys.get(owner.start..owner.start + usize::from(owner.length)).unwrap_or_default()
    }
}

impl Row {
    fn key<'a>(&self, keys: &'a [u8]) -> &'a [u8] {
        keys.get(self.start..self.start + usize::from(self.length)).unwrap_or_default()
    }
}

/// What the records of one owner come to.
fn one_stop<'a>(
    rows: impl Iterator<Item = &'a Row>,
    addresses: &[IpAddr],
    mut tell: impl FnMut(u32, String),
) -> Result<Option<Stop>, (u32, String)> {
    let mut alias: Option<Says> = None;
    let mut address = Address::default();
    for row in rows {
        match row.says {
            Says::Nothing => {}
            Says::Address(number) => {
                let taken = match addresses.get(number as usize) {
                    Some(IpAddr::V4(v4)) => *address.a.get_or_insert(*v4) == *v4,
                    Some(IpAddr::V6(v6)) => *address.aaaa.get_or_insert(*v6) == *v6,
                    None => true,
                };
                if !taken {
                    tell(row.line, "one address of a family is answered, the first; this one is not".to_owned());
                }
            }
            says => match alias {
                Some(other) if other != says => {
                    return Err((row.line, "two different CNAMEs (RFC 2181 10.1): none of them is taken".to_owned()));
                }
                _ => alias = Some(says),
            },
        }
        if alias.is_some() && address != Address::default() {
            return Err((row.line, "a CNAME and other data (RFC 1034 3.6.2): nothing of it is taken".to_owned()));
        }
    }
    Ok(match alias {
        Some(Says::Nxdomain) => Some(Stop::Nxdomain),
        Some(Says::Nodata) => Some(Stop::Nodata),
        Some(Says::Drop) => Some(Stop::Drop),
        _ => (address != Address::default()).then_some(Stop::Address(address)),
    })
}

/// The kind of trigger, where it is none on the query's name.
fn other_trigger(relative: &[u8]) -> Option<&'static str> {
    let label = owner::first(relative);
    TRIGGERS.into_iter().find(|trigger| label.split_first().is_some_and(|(_, label)| label == trigger.as_bytes()))
}

fn address<T: std::str::FromStr>(data: Data<'_>) -> Option<T> {
    let text = std::str::from_utf8(data.word(0)).ok().filter(|_| data.count() == 1)?;
    text.parse().ok()
}

fn beginning(key: &[u8]) -> u128 {
    key.iter().copied().chain(std::iter::repeat(0)).take(16).fold(0, |word, octet| word << 8 | u128::from(octet))
}

fn refused(why: impl Into<String>) -> Verdict {
    Verdict::Refused(why.into())
}

fn lost(error: OwnerError) -> String {
    format!("PASSTHRU, but its name {error}; the zone is refused, since it would reach further without it")
}

const ASTERISK: &str =
    "an asterisk that is not the first label is no wildcard (RFC 4592 2.1.1), and no host name has one";

/// Last labels of the owners of other triggers than on the query's name.
const TRIGGERS: [&str; 4] = ["rpz-ip", CLIENT, "rpz-nsdname", "rpz-nsip"];

/// Of those on the client's address.
const CLIENT: &str = "rpz-client-ip";
