//! What slots and bits of the kernel tables stand for.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Names of order slots and scope bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    orders: HashMap<u32, String>,
    #[serde(skip)]
    scopes: Vec<String>,
}

impl Directory {
    /// Scope names by bit, from bit 1 on.
    pub fn set_scopes(&mut self, scopes: Vec<String>) {
        self.scopes = scopes;
    }

    /// A slot's order from now on. A slot keeps its order's id until another order gets it, because packets may still
    /// have met the old one.
    pub fn set_order(&mut self, slot: u32, id: &str) {
        self.orders.insert(slot, id.to_owned());
    }

    /// The order of a slot, or `slot N` for one that an earlier daemon filled.
    pub fn order(&self, slot: u32) -> String {
        self.orders.get(&slot).cloned().unwrap_or_else(|| format!("slot {slot}"))
    }

    /// The order of a slot, if it is known.
    pub fn known_order(&self, slot: u32) -> Option<&str> {
        self.orders.get(&slot).map(String::as_str)
    }

    /// Names of scope bits, without `all`.
    pub fn scopes(&self, bits: u64) -> Vec<String> {
        self.scopes
            .iter()
            .zip(1..u64::BITS)
            .filter(|(_, bit)| bits >> bit & 1 != 0)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_bits_have_names() {
        let mut directory = Directory::default();
        directory.set_scopes(vec!["be".into(), "fr".into()]);
        directory.set_order(3, "a");
        assert_eq!((directory.order(3), directory.order(4)), ("a".into(), "slot 4".into()));
        assert_eq!(directory.scopes(0b101), ["fr"]);
        assert_eq!(directory.scopes(u64::MAX), ["be", "fr"]);
        directory.set_order(3, "b");
        assert_eq!(directory.known_order(3), Some("b"));
    }
}
