//! Host names in canonical form.

use filter_common::{
    layout::{HashKey, NameKey},
    name::{Hasher, lower8},
};

/// A host name in canonical form: A-labels in ASCII lower case, split by dots, no trailing dot; at most 253 octets,
/// each label 1 to 63 of letters, digits, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Labels, last (top-level) first.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.rsplit('.')
    }

    /// Number of labels.
    pub fn depth(&self) -> u8 {
        self.labels().count() as u8
    }

    /// Key of the whole name.
    pub fn key(&self, key: &HashKey) -> NameKey {
        let mut hasher = Hasher::ROOT;
        for label in self.labels() {
            hash_label(&mut hasher, key, label.as_bytes());
        }
        hasher.suffix(key)
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

/// Takes one label into the hash, as the XDP program does. See `filter_common::name`.
pub fn hash_label(hasher: &mut Hasher, key: &HashKey, label: &[u8]) {
    let mut wire = Vec::with_capacity(1 + label.len());
    wire.push(label.len() as u8);
    wire.extend_from_slice(label);
    for chunk in wire.rchunks(8) {
        let mut word = [0; 8];
        word[8 - chunk.len()..].copy_from_slice(chunk);
        hasher.word(key, lower8(u64::from_be_bytes(word)));
    }
}
