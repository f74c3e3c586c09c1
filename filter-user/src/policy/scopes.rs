//! Scope names and their bits.

use std::collections::HashMap;

use filter_common::layout::{MAX_SCOPES, SCOPE_ALL};

/// The scopes of the configuration, each with its bit. `all` is always there.
#[derive(Clone, Debug)]
pub struct ScopeTable {
    bits: HashMap<String, u64>,
}

/// More scopes than a client's 64 bits can tell apart.
#[derive(Debug, thiserror::Error)]
#[error("{0} scopes are configured; with \"all\" there can be {MAX_SCOPES}")]
pub struct TooManyScopes(usize);

impl ScopeTable {
    /// Scopes in the configuration's order, which gives them their bits from 1 on. `all` among them stays bit 0.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, TooManyScopes> {
        let mut bits = HashMap::from([("all".to_owned(), SCOPE_ALL)]);
        for name in names {
            let next = bits.len();
            bits.entry(name.to_owned()).or_insert_with(|| 1u64.checked_shl(next as u32).unwrap_or(0));
        }
        if bits.len() > MAX_SCOPES { Err(TooManyScopes(bits.len() - 1)) } else { Ok(Self { bits }) }
    }

    /// The bit of a scope, or `None` if it is not configured.
    pub fn bit(&self, name: &str) -> Option<u64> {
        self.bits.get(name).copied()
    }

    /// The bits of several scopes, or the name of one that is not configured.
    pub fn bits<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<u64, &'a str> {
        names.into_iter().try_fold(0, |bits, name| Ok(bits | self.bit(name).ok_or(name)?))
    }
}
