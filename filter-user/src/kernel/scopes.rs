//! Scopes as entries of longest-prefix tries.
//!
//! A trie gives only the longest prefix that contains the client, so the value at each prefix is the union of all
//! scopes whose prefixes contain that one.

use std::collections::BTreeMap;

use filter_common::layout::{PrefixV4, PrefixV6};
use ipnet::IpNet;

/// Value by (address, prefix length): parents come before what lies in them.
pub type Entries<A> = BTreeMap<(A, u8), u64>;

/// The entries for IPv4 and for IPv6.
pub fn entries(scopes: &[(u8, Vec<IpNet>)]) -> (Entries<[u8; 4]>, Entries<[u8; 16]>) {
    let (mut v4, mut v6) = (Entries::new(), Entries::new());
    for (bit, prefixes) in scopes {
        let bits = 1u64.checked_shl(u32::from(*bit)).unwrap_or(0);
        for prefix in prefixes {
            match prefix.trunc() {
                IpNet::V4(prefix) => *v4.entry((prefix.network().octets(), prefix.prefix_len())).or_default() |= bits,
                IpNet::V6(prefix) => *v6.entry((prefix.network().octets(), prefix.prefix_len())).or_default() |= bits,
            }
        }
    }
    inherit(&mut v4);
    inherit(&mut v6);
    (v4, v6)
}

/// Adds to each prefix what the prefixes around it have. Of two prefixes either one contains the other or they have
/// nothing in common; so in this order those around a prefix are a stack.
fn inherit<const N: usize>(entries: &mut Entries<[u8; N]>) {
    let mut around: Vec<([u8; N], u8, u64)> = Vec::new();
    for ((address, length), bits) in entries {
        while around.pop_if(|(outer, outer_length, _)| !contains(outer, *outer_length, address)).is_some() {}
        if let Some((_, _, inherited)) = around.last() {
            *bits |= inherited;
        }
        around.push((*address, *length, *bits));
    }
}

/// Whether the prefix contains the address.
pub fn contains<const N: usize>(prefix: &[u8; N], length: u8, address: &[u8; N]) -> bool {
    let mut bits = usize::from(length);
    prefix.iter().zip(address).all(|(a, b)| {
        let here = bits.min(8);
        bits -= here;
        (a ^ b) & !(0xffu16 >> here) as u8 == 0
    })
}

/// A key of a trie.
pub trait Prefix: Copy {
    /// The address type.
    type Address: Copy + Ord;
    /// From address and length.
    fn new(address: Self::Address, bits: u8) -> Self;
    /// Address and length.
    fn parts(&self) -> (Self::Address, u8);
}

impl Prefix for PrefixV4 {
    type Address = [u8; 4];
    fn new(address: [u8; 4], bits: u8) -> Self {
        Self { bits: bits.into(), address }
    }
    fn parts(&self) -> ([u8; 4], u8) {
        (self.address, self.bits as u8)
    }
}

impl Prefix for PrefixV6 {
    type Address = [u8; 16];
    fn new(address: [u8; 16], bits: u8) -> Self {
        Self { bits: bits.into(), address }
    }
    fn parts(&self) -> ([u8; 16], u8) {
        (self.address, self.bits as u8)
    }
}

/// What brings a trie from `old` to `new`.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<P> {
    /// To write: new prefixes, longest first, then other values.
    pub set: Vec<(P, u64)>,
    /// Then to delete, shortest first.
    pub delete: Vec<P>,
}

/// Written in this order, each client has its old or its new scopes at every moment: a new prefix is there before a
/// shorter one, and an old one goes after a shorter one.
pub fn difference<P: Prefix>(old: &Entries<P::Address>, new: &Entries<P::Address>) -> Difference<P> {
    let prefix = |(address, bits): &(P::Address, u8)| P::new(*address, *bits);
    let mut insert: Vec<_> = new.iter().filter(|(key, _)| !old.contains_key(key)).collect();
    insert.sort_by_key(|((_, bits), _)| std::cmp::Reverse(*bits));
    let update = new.iter().filter(|(key, value)| old.get(key).is_some_and(|old| old != *value));
    let mut delete: Vec<_> = old.keys().filter(|key| !new.contains_key(key)).collect();
    delete.sort_by_key(|(_, bits)| *bits);
    Difference {
        set: insert.into_iter().chain(update).map(|(key, value)| (prefix(key), *value)).collect(),
        delete: delete.into_iter().map(prefix).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split(' ').map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn a_prefix_has_the_scopes_of_those_around_it() {
        let (v4, v6) = entries(&[
            (1, nets("10.0.0.0/8 2001:db8::/32")),
            (2, nets("10.1.0.0/16 192.0.2.0/24")),
            (3, nets("10.1.2.3/32 0.0.0.0/0 2001:db8:1::/48")),
        ]);
        let v4: Vec<_> = v4.into_iter().collect();
        assert_eq!(
            v4,
            [
                (([0, 0, 0, 0], 0), 0b1000),
                (([10, 0, 0, 0], 8), 0b1010),
                (([10, 1, 0, 0], 16), 0b1110),
                (([10, 1, 2, 3], 32), 0b1110),
                (([192, 0, 2, 0], 24), 0b1100),
            ]
        );
        let v6: Vec<_> = v6.into_values().collect();
        assert_eq!(v6, [0b0010, 0b1010]);
    }

    #[test]
    fn host_bits_are_cleared() {
        let (v4, _) = entries(&[(1, nets("10.1.2.3/8")), (2, nets("10.0.0.0/8"))]);
        assert_eq!(v4.into_iter().collect::<Vec<_>>(), [(([10, 0, 0, 0], 8), 0b110)]);
    }

    #[test]
    fn differences_insert_long_first_and_delete_short_first() {
        let (old, _) = entries(&[(1, nets("10.0.0.0/8 10.1.0.0/16 11.0.0.0/8"))]);
        let (new, _) = entries(&[(1, nets("12.0.0.0/8 12.1.0.0/16")), (2, nets("11.0.0.0/8"))]);
        let difference: Difference<PrefixV4> = difference(&old, &new);
        assert_eq!(
            difference.set,
            [
                (PrefixV4 { bits: 16, address: [12, 1, 0, 0] }, 0b10),
                (PrefixV4 { bits: 8, address: [12, 0, 0, 0] }, 0b10),
                (PrefixV4 { bits: 8, address: [11, 0, 0, 0] }, 0b100),
            ]
        );
        assert_eq!(
            difference.delete,
            [PrefixV4 { bits: 8, address: [10, 0, 0, 0] }, PrefixV4 { bits: 16, address: [10, 1, 0, 0] }]
        );
    }

    proptest! {
        #[test]
        fn the_longest_prefix_gives_the_union(
            // Few address bits, so that prefixes meet.
            prefixes in prop::collection::vec((1u8..8, 0u8..4, 0u8..4, 0u8..=32), 0..24),
            client in (0u8..4, 0u8..4),
        ) {
            let scopes: Vec<_> = prefixes.iter().map(|&(bit, a, d, length)| {
                (bit, vec![IpNet::new(IpAddr::from([a, 0, 0, d]), length).unwrap()])
            }).collect();
            let client = [client.0, 0, 0, client.1];
            let (v4, _) = entries(&scopes);
            let found = v4.iter().filter(|((prefix, length), _)| contains(prefix, *length, &client))
                .max_by_key(|((_, length), _)| *length).map_or(0, |(_, bits)| *bits);
            let expected = scopes.iter().filter(|(_, nets)| nets[0].contains(&IpAddr::from(client)))
                .fold(0, |bits, (bit, _)| bits | 1u64 << bit);
            prop_assert_eq!(found, expected);
        }
    }
}
