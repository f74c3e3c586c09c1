//! Host names in canonical form.

use std::{
    fmt,
    net::{IpAddr, SocketAddrV4},
    str::FromStr,
};

use filter_common::{
    filter,
    layout::{HashKey, NameTag},
    name::{Hasher, SuffixHash},
};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use thiserror::Error;

pub(crate) mod list;

/// Longest name as text, without the trailing dot: 255 octets on the wire (RFC 1035 2.3.4).
pub const MAX_NAME: usize = 253;

/// Longest label (RFC 1035 2.3.4).
pub const MAX_LABEL: usize = 63;

/// A host name in canonical form: A-labels in ASCII lower case, split by dots, no trailing dot; at most 253 octets,
/// each label 1 to 63 of letters, digits, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum NameError {
    /// Nothing, or the root.
    #[error("is empty")]
    Empty,
    /// Has a scheme, a path or a query.
    #[error("is a URL; give the host name alone")]
    Url,
    /// An IPv4 or IPv6 address or prefix, also in brackets or with a port.
    #[error("is an IP address, not a name")]
    Address,
    /// Has a `*`.
    #[error("is a wildcard; give the name itself, and \"match\":\"subtree\" or \"below\"")]
    Wildcard,
    /// Ends in a colon and digits.
    #[error("has a port; give the host name alone")]
    Port,
    /// Has something other than letters, digits, hyphens, underscores and dots, also after UTS 46 mapping.
    #[error("holds the character {0:?}, which no host name has")]
    Character(char),
    /// Two dots in a row, or a dot in front.
    #[error("has an empty label")]
    EmptyLabel,
    /// A label of this many octets.
    #[error("has a label of {0} octets, over the {MAX_LABEL} that RFC 1035 allows")]
    LabelTooLong(usize),
    /// This many octets in all.
    #[error("has {0} octets, over the {MAX_NAME} that RFC 1035 allows")]
    TooLong(usize),
    /// UTS 46 does not take it.
    #[error("is not a valid internationalised name (UTS 46)")]
    Idn,
}

impl Name {
    /// Parses a host name as people and lists write it: in any case, with or without one trailing dot, in Unicode or
    /// as A-labels. Unicode is taken to A-labels by UTS 46, non-transitional; A-labels must be valid. Underscores and
    /// hyphens may stand anywhere in a label, as they do in names that resolve.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        let mut name = String::with_capacity(trimmed.len().min(MAX_NAME + 1));
        if let Err(error) = canonical(trimmed, &mut name) {
            return Err(if error == NameError::Empty { error } else { diagnose(trimmed).unwrap_or(error) });
        }
        // All labels of an IPv4 address are digits, so only such a name can be one.
        if name.ends_with(|last: char| last.is_ascii_digit()) && is_address(&name) {
            return Err(NameError::Address);
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Labels, last (top-level) first.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(&*self.0);
        std::iter::from_fn(move || {
            let (before, label) = last_label(rest?);
            rest = before;
            Some(label)
        })
    }

    /// Number of labels.
    pub fn depth(&self) -> u8 {
        1 + self.0.bytes().filter(|octet| *octet == b'.').count() as u8
    }

    /// What the whole name is known by.
    pub fn tag(&self, key: &HashKey) -> NameTag {
        let mut hasher = Hasher::ROOT;
        for label in self.labels() {
            hash_label(&mut hasher, key, label.as_bytes());
        }
        hasher.suffix(key)
    }

    /// What the tables know the name by.
    pub fn listing(&self, key: &HashKey) -> Listing {
        let mut lister = Lister::default();
        self.labels().fold(Listing::default(), |_, label| lister.push(key, label.as_bytes()))
    }

    /// A name from text that is known to be canonical.
    pub(crate) fn from_canonical(text: String) -> Self {
        Self(text.into_boxed_str())
    }

    /// The name itself and its parents, longest first.
    pub fn suffixes(&self) -> impl Iterator<Item = Name> {
        let starts = [0].into_iter().chain(self.0.match_indices('.').map(|(dot, _)| dot + 1));
        starts.map(|start| Name(self.0[start..].into()))
    }

    /// Whether this name lies strictly below the other, label by label.
    pub fn is_below(&self, other: &Name) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// What stands before the last label of a name, and that label. Labels are too short to look for the dot in many octets at
/// once, as `rsplit` does.
pub(crate) fn last_label(name: &str) -> (Option<&str>, &str) {
    let dot = name.bytes().rposition(|octet| octet == b'.');
    dot.map_or((None, name), |dot| (Some(&name[..dot]), &name[dot + 1..]))
}

/// What the tables know a name by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Listing {
    /// In the buckets.
    pub tag: NameTag,
    /// In the filter.
    pub filter: filter::Key,
}

/// Makes the [`Listing`] of every suffix of a name, the last label first.
#[derive(Clone, Copy, Debug)]
pub struct Lister {
    hasher: Hasher<3>,
    filter: filter::Words,
    labels: u32,
    anchor: u32,
}

impl Default for Lister {
    fn default() -> Self {
        Self { hasher: Hasher::ROOT, filter: filter::Words::ROOT, labels: 0, anchor: 0 }
    }
}

impl Lister {
    /// Takes in one more label: the suffix that it begins.
    pub fn push(&mut self, key: &HashKey, label: &[u8]) -> Listing {
        hash_label(&mut self.hasher, key, label);
        hash_label(&mut self.filter, key, label);
        let own = self.filter.suffix(key);
        self.labels += 1;
        if self.labels <= filter::ANCHOR {
            self.anchor = own;
        }
        Listing { tag: self.hasher.suffix(key), filter: filter::Key { anchor: self.anchor, own } }
    }
}

/// Takes one label into the hash, as the XDP program does. See `filter_common::name`.
pub fn hash_label(hasher: &mut impl SuffixHash, key: &HashKey, label: &[u8]) {
    let mut chunks = label.rchunks_exact(8);
    for chunk in &mut chunks {
        hasher.word(key, chunk.try_into().map_or(0, u64::from_be_bytes));
    }
    let rest = chunks.remainder();
    let octets = rest.iter().fold(0, |word, octet| word << 8 | u64::from(*octet));
    hasher.first_word(key, octets, (label.len() as u64) << (8 * rest.len()));
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// Writes the canonical form of `text`, which has no trailing dot. The usual name, ASCII without A-labels, takes one
/// pass here; UTS 46 sees only the others.
fn canonical(text: &str, name: &mut String) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.is_ascii() && !has_a_label(text.as_bytes()) {
        return checked(text, name);
    }
    if text.len() > MAX_IDN {
        return Err(NameError::TooLong(text.len()));
    }
    let mapped = Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| NameError::Idn)?;
    // The trailing dot may have been an ideographic one.
    let mapped = if text.ends_with('.') { &mapped } else { mapped.strip_suffix('.').unwrap_or(&mapped) };
    if mapped.is_empty() { Err(NameError::Empty) } else { checked(mapped, name) }
}

/// Appends `text` in lower case if it has the form of a host name.
fn checked(text: &str, name: &mut String) -> Result<(), NameError> {
    let mut label = 0;
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' | '-' | '_' => label += 1,
            'A'..='Z' => label += 1,
            '.' if label == 0 => return Err(NameError::EmptyLabel),
            '.' if label > MAX_LABEL => return Err(NameError::LabelTooLong(label)),
            '.' => label = 0,
            other => return Err(NameError::Character(other)),
        }
    }
    match label {
        0 => return Err(NameError::EmptyLabel),
        1..=MAX_LABEL => {}
        _ => return Err(NameError::LabelTooLong(label)),
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.len()));
    }
    name.push_str(text);
    name.make_ascii_lowercase();
    Ok(())
}

/// Whether some label begins with `xn--`.
fn has_a_label(text: &[u8]) -> bool {
    text.split(|octet| *octet == b'.').any(|label| label.get(..4).is_some_and(|ace| ace.eq_ignore_ascii_case(b"xn--")))
}

/// The mistake that a person would name, for a text that is not a host name.
fn diagnose(text: &str) -> Option<NameError> {
    if is_address(text) {
        return Some(NameError::Address);
    }
    if text.contains("://") || text.contains(['/', '?']) {
        return Some(NameError::Url);
    }
    if text.contains('*') {
        return Some(NameError::Wildcard);
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.contains(':') && !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit()))
        .then_some(NameError::Port)
}

/// Whether it is an address: bare, in brackets, with a prefix length or a port.
fn is_address(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
    let without_length = text.rsplit_once('/').filter(|(_, length)| is_number(length)).map_or(text, |(host, _)| host);
    let bare = match without_length.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, rest)) if rest.is_empty() || rest.strip_prefix(':').is_some_and(is_number) => inner,
        Some(_) => return false,
        None => without_length,
    };
    let without_zone = bare.split_once('%').map_or(bare, |(address, _)| address);
    without_zone.parse::<IpAddr>().is_ok() || bare.parse::<SocketAddrV4>().is_ok()
}

/// Longest text that is given to UTS 46, in octets: 253 characters of 4 octets, and room for what mapping drops.
const MAX_IDN: usize = 8 * MAX_NAME;

#[cfg(test)]
mod tests;
