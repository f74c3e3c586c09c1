//! Flows: their keys, and the tags that tell cheaply whether a flow may have state.
//!
//! State: a line of [`Flows::tags`](crate::layout::Flows::tags) is eight octets, and holds the tags of up to four flows,
//! the latest in the lowest. A mid-connection packet looks at its flow's line, and only if its tag is there into the
//! maps. Trust: addresses and ports are a sender's to choose, so tags and keys are hashed with the installation's random
//! key.

use crate::{
    bytes::Bytes,
    frame::{Network, TCP},
    layout::{FlowKey, HashKey, SpotKey},
    name::Hasher,
};

/// A flow's place among the tags, by [`Flows::spot`](crate::layout::Flows::spot). It leaves interface, link and tunnel
/// out: flows with one place are looked up more often, and told apart by their keys.
#[inline(always)]
pub fn spot<B: Bytes>(bytes: &B, network: &Network, key: &SpotKey) -> Option<Spot> {
    let [t0, t1, t2, t3, t4, t5, ..] = key;
    let at = network.l3;
    // Octets as a processor of the BPF target has them: to swap them is one more instruction for each word. TCP and UDP
    // (17) differ in the bits of TCP. All factors are odd, so that no bit of a word is lost.
    let ports = u64::from(bytes.be32(network.l4)?.swap_bytes()) << 3 | u64::from(network.transport & TCP);
    let ports = ports.wrapping_add(*t1);
    let sum = if network.version == 4 {
        bytes.be64(at + 12)?.swap_bytes().wrapping_add(*t0).wrapping_mul(ports)
    } else {
        // One by one: the stack is short. The upper half, where the last octets of each word end up, comes down before
        // the next word.
        let mut sum = bytes.be64(at + 8)?.swap_bytes().wrapping_add(*t0).wrapping_mul(ports);
        sum = (sum ^ sum >> 32).wrapping_add(bytes.be64(at + 16)?.swap_bytes()).wrapping_mul(*t2);
        sum = (sum ^ sum >> 32).wrapping_add(bytes.be64(at + 24)?.swap_bytes()).wrapping_mul(*t3);
        (sum ^ sum >> 32).wrapping_add(bytes.be64(at + 32)?.swap_bytes()).wrapping_mul(*t4)
    };
    // Addresses and ports that follow each other must not lie side by side.
    let sum = (sum ^ sum >> 29).wrapping_mul(*t5);
    let tag = (sum >> 37) as u16 & TAG;
    Some(Spot { line: (sum >> 51) as u32, tag: if tag == 0 { 1 } else { tag }, pad: 0 })
}

/// Sets out on the flow's key: the hash of ports and addresses, and, where anything lies around the packet, of the words
/// that [`link_words`](crate::frame::link_words) gives. Takes in the first two; [`more_addresses`] come next. The number
/// of words tells the four forms apart: 2, 5, 8 or 11; and a connection's, with 6.
#[inline(always)]
pub fn begin_key<B: Bytes>(bytes: &B, network: &Network, interface: u32, key: &HashKey) -> Option<Hasher<4>> {
    let origin = interface ^ u32::from(network.transport) << 24;
    let ports = u64::from(origin) << 32 | u64::from(bytes.be32(network.l4)?);
    let addresses = bytes.be64(network.l3 + if network.version == 4 { 12 } else { 8 })?;
    let mut hasher = Hasher::ROOT;
    hasher.raw_word(key, ports);
    hasher.raw_word(key, addresses);
    Some(hasher)
}

/// The words of IPv6 addresses behind the first.
#[inline(always)]
pub fn more_addresses<B: Bytes>(bytes: &B, network: &Network) -> Option<[u64; 3]> {
    let at = network.l3;
    let source = bytes.be64(at + 16)?;
    let high = bytes.be64(at + 24)?;
    let low = bytes.be64(at + 32)?;
    Some([source, high, low])
}

/// The key of a QUIC connection on a flow: with the client's source connection id, as `quic::id_words` gives it.
#[inline(always)]
pub fn connection(flow: &FlowKey, id: [u64; 3], id_len: u32, key: &HashKey) -> FlowKey {
    let mut hasher = Hasher::ROOT;
    let [a, b, c, d] = flow.lanes;
    let [x, y, z] = id;
    hasher.raw_word(key, u64::from(a) << 32 | u64::from(b));
    hasher.raw_word(key, u64::from(c) << 32 | u64::from(d));
    hasher.raw_word(key, x);
    hasher.raw_word(key, y);
    hasher.raw_word(key, z);
    hasher.raw_word(key, u64::from(id_len));
    FlowKey { lanes: hasher.lanes(key) }
}

/// A flow's place among the tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Spot {
    /// Line, below [`LINES`].
    pub line: u32,
    /// Tag, not zero, without the bits of [`STREAM`] and [`REMEMBERED`].
    pub tag: u16,
    /// Zero.
    pub pad: u16,
}

/// Lines of tags: 64 KiB, which stay in a core's cache.
pub const LINES: u32 = 1 << 13;

/// State of a kind that a tag announces beside its flow: a hello or DNS message in progress.
pub const STREAM: u16 = 1 << 14;
/// A remembered name. Tags with it give way last.
pub const REMEMBERED: u16 = 1 << 15;

const TAG: u16 = STREAM - 1;
const EACH: u64 = 0x0001_0001_0001_0001;
const TOP: u64 = 1 << 63;

/// What a line says of a flow: `None` for nothing, else its kinds; none of them for a SYN mark.
#[inline(always)]
pub fn kinds(line: u64, tag: u16) -> Option<u16> {
    let lane = lane_with(line, tag);
    if lane == 0 {
        return None;
    }
    let stream = if line & lane >> 1 != 0 { STREAM } else { 0 };
    Some(if line & lane != 0 { REMEMBERED | stream } else { stream })
}

/// Whether a line says anything of a flow.
#[inline(always)]
pub fn holds(line: u64, tag: u16) -> bool {
    lanes_with(line, tag) != 0
}

/// The tags of a line with their kinds, the latest first.
pub fn entries(line: u64) -> impl Iterator<Item = (u16, u16)> {
    let lanes = (0..4).map(move |lane| (line >> (16 * lane)) as u16);
    lanes.map(|entry| (entry & TAG, entry & !TAG)).filter(|(tag, _)| *tag != 0)
}

/// The line with the flow's kinds set to these; if it is full, without another flow: the oldest, but one with a
/// remembered name only if all have one.
#[inline(always)]
pub fn with(line: u64, tag: u16, kinds: u16) -> u64 {
    let entry = u64::from(tag | kinds);
    let known = lane_with(line, tag);
    if known != 0 {
        return put(line, known, entry);
    }
    let empty = lane_with(line, 0);
    let fleeting = !line & EACH << 15;
    let lane = if empty != 0 {
        empty
    } else if fleeting >> 48 != 0 || fleeting == 0 {
        TOP
    } else if fleeting >> 32 != 0 {
        TOP >> 16
    } else if fleeting >> 16 != 0 {
        TOP >> 32
    } else {
        TOP >> 48
    };
    // That lane goes, those below it move up.
    let below = (lane >> 15).wrapping_sub(1);
    let above = !(below << 16 | 0xffff);
    line & above | (line & below) << 16 | entry
}

/// Whether [`with`] takes another flow's place.
#[inline(always)]
pub fn displaces(line: u64, tag: u16) -> bool {
    lane_with(line, tag) == 0 && lane_with(line, 0) == 0
}

/// The line without the flow.
#[inline(always)]
pub fn without(line: u64, tag: u16) -> u64 {
    let lane = lane_with(line, tag);
    if lane == 0 { line } else { put(line, lane, 0) }
}

/// Writes into this lane.
#[inline(always)]
fn put(line: u64, lane: u64, entry: u64) -> u64 {
    let unit = lane >> 15;
    let mask = unit.wrapping_mul(0xffff);
    line & !mask | entry.wrapping_mul(unit)
}

/// The top bit of the lowest lane that holds this tag.
#[inline(always)]
fn lane_with(line: u64, tag: u16) -> u64 {
    let lanes = lanes_with(line, tag);
    lanes & lanes.wrapping_neg()
}

/// The top bit of each lane that holds this tag.
#[inline(always)]
fn lanes_with(line: u64, tag: u16) -> u64 {
    let differs = line & (EACH * TAG as u64) ^ EACH.wrapping_mul(u64::from(tag));
    !differs.wrapping_add(EACH * 0x7fff) & EACH << 15
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;
    use crate::{bytes::Slice, frame::UDP};

    proptest! {
        #[test]
        fn every_bit_of_addresses_ports_and_transport_tells_flows_apart(
            key: SpotKey, octets: [u8; 60], at in 8_usize..44, bit in 0..8, second in 8_usize..44
        ) {
            let key = key.map(|term| term | 1);
            for (version, addresses, l4) in [(4, 12..20, 20), (6, 8..40, 40)] {
                let place = |transport, octets: &[u8; 60]| {
                    let network = Network { l3: 0, l4, end: 60, version, transport, ..Network::default() };
                    spot(&Slice(octets), &network, &key).unwrap()
                };
                let tcp = place(TCP, &octets);
                prop_assert_ne!(tcp, place(UDP, &octets));
                let mut other = octets;
                other[at] ^= 1_u8 << bit;
                let tells = |at| addresses.contains(&at) || (l4 as usize..l4 as usize + 4).contains(&at);
                prop_assert_eq!(tcp != place(TCP, &other), tells(at));
                // Nor do two that differ in the same bit make up for each other.
                if second != at {
                    other[second] ^= 1_u8 << bit;
                    prop_assert_eq!(tcp != place(TCP, &other), tells(at) || tells(second));
                }
            }
        }

        #[test]
        fn a_line_holds_the_last_four_flows(tags in prop::collection::vec(1..TAG, 1..12)) {
            let mut line = 0;
            let mut held: std::vec::Vec<u16> = std::vec![];
            for tag in tags {
                prop_assert_eq!(displaces(line, tag), held.len() == 4 && !held.contains(&tag));
                line = with(line, tag, 0);
                if !held.contains(&tag) {
                    held.insert(0, tag);
                    held.truncate(4);
                }
                for known in &held {
                    prop_assert_eq!(kinds(line, *known), Some(0), "{:x}", line);
                    prop_assert!(holds(line, *known));
                }
            }
        }

        #[test]
        fn what_is_set_is_found_and_what_is_cleared_is_not(
            others in prop::collection::vec(1..TAG, 3), tag in 1..TAG, kind in 0_u16..4
        ) {
            prop_assume!(!others.contains(&tag));
            let line = others.iter().fold(0, |line, other| with(line, *other, STREAM));
            let line = with(with(line, tag, STREAM), tag, kind << 14);
            prop_assert_eq!(kinds(line, tag), Some(kind << 14));
            let line = without(line, tag);
            prop_assert_eq!(kinds(line, tag), None);
            prop_assert!(!holds(line, tag));
            for other in others {
                prop_assert_eq!(kinds(line, other), Some(STREAM));
            }
        }

        #[test]
        fn remembered_names_give_way_last(others in prop::collection::vec(1..TAG, 0..40), tag in 1..TAG) {
            prop_assume!(!others.contains(&tag));
            let line = others.iter().fold(with(0, tag, REMEMBERED), |line, other| with(line, *other, 0));
            prop_assert_eq!(kinds(line, tag), Some(REMEMBERED));
        }
    }
}
