//! Names of every form are found: those that the program reads in one go, and those for which it takes steps.

use std::collections::HashSet;

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Hello, Ip, Packet, Query, server_name},
};
use filter_common::verdict::{Action, Reason};

/// A name with so many labels, of which the one at `at` has `length` octets; none if it would be too long.
fn name(labels: usize, at: usize, length: usize) -> Option<String> {
    let parts: Vec<String> = (0..labels)
        .map(|label| {
            // Each octet tells its place.
            let of = if label == at { length } else { 1 + (label + length) % 4 };
            (0..of).map(|octet| char::from(b'a' + ((octet + 3 * label) % 26) as u8)).collect()
        })
        .collect();
    Some(parts.join(".")).filter(|name| name.len() <= 253)
}

/// The same with another octet at this place.
fn with_other(name: &str, at: usize) -> String {
    let mut octets = name.as_bytes().to_vec();
    octets[at] = if octets[at] == b'7' { b'8' } else { b'7' };
    String::from_utf8(octets).expect("ASCII")
}

/// Lengths of labels around those at which a word ends, or the short way.
const LENGTHS: [usize; 20] = [1, 2, 3, 6, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 40, 48, 55, 63];

#[test]
fn o03_each_number_of_labels_and_length_of_a_label_is_told_apart() {
    let mut listed = Vec::new();
    for labels in 1..=14 {
        for at in [0, labels / 2, labels - 1] {
            listed.extend(LENGTHS.iter().filter_map(|length| name(labels, at, *length)));
        }
    }
    let known: HashSet<&str> = listed.iter().map(String::as_str).collect();
    assert!(known.len() > 600, "{}", known.len());
    let orders = order("o", known.iter().copied()).exact().both(Action::Drop);
    let filter = Filter::with(Setup::default(), [&orders]);
    for name in &listed {
        let first = name.find('.').map_or(0, |dot| dot.saturating_sub(1));
        let last = name.len() - 1;
        let others = [0, first, last].map(|at| with_other(name, at));
        for (name, reason) in
            [(name, Reason::Dropped)].into_iter().chain(others.iter().map(|name| (name, Reason::NotListed)))
        {
            filter.expect(&Packet::dns(Ip::v4(), &Query::new(name)), reason);
            filter.expect(&Packet::dns(Ip::v6(), &Query::new(&name.to_uppercase())), reason);
            filter.expect(&Packet::tls(Ip::v4(), &Hello::new(&name.to_uppercase())), reason);
        }
    }
}

/// Names that the filter does not tell from a listed one: octets that differ in the bit of upper case, or are not there.
#[test]
fn o03_names_that_only_96_bits_tell_apart() {
    let filter = Filter::new([&order("o", ["a-1.listed.example"]).exact().both(Action::Drop)]);
    filter.expect(&Packet::dns(Ip::v4(), &Query::new("a-1.listed.example")), Reason::Dropped);
    for label in [&b"a-\x11"[..], b"a\x0d1", b"\0a-1", b" a-1", b"\0\0\0\0\0a-1", b"\x01-1"] {
        let labels = [label, b"listed", b"example"].map(<[u8]>::to_vec);
        filter.expect(&Packet::dns(Ip::v4(), &Query::labels(labels)), Reason::NotListed);
    }
    for name in ["a\r1.listed.example", " a-1.listed.example"] {
        filter.expect(&Packet::tls(Ip::v4(), &Hello::new(name)), Reason::NotListed);
    }
}

/// With a trailing dot or behind many extensions, where it is not read in one go, and beside that, where it is.
#[test]
fn o03_a_name_is_found_wherever_it_lies() {
    let filter = Filter::new([&order("o", ["listed.example"]).both(Action::Drop)]);
    for (name, reason) in [("www.listed.example", Reason::Dropped), ("www.listed.exampla", Reason::NotListed)] {
        for count in [0, 1, 17, 18, 19, 20, 21, 60] {
            let before = (0..count).map(|number| (0x1000 + number, Vec::new()));
            let hello = Hello::with_extensions(before.chain([server_name(name)]));
            filter.expect(&Packet::tls(Ip::v4(), &hello), reason);
        }
        for octets in [[name, "."].concat(), name.to_owned()] {
            let hello = Hello::with_extensions([server_name(&octets), (43, vec![2, 3, 4])]);
            filter.expect(&Packet::tls(Ip::v6(), &hello), reason);
        }
    }
    let twice = Hello::with_extensions([server_name("www.listed.example"), server_name("other.example")]);
    filter.expect(&Packet::tls(Ip::v4(), &twice), Reason::TlsSniDuplicate);
}

#[test]
fn o03_a_rule_at_each_depth_covers_what_is_below_and_nothing_beside() {
    let rules: Vec<String> = (1..=12).map(|depth| format!("r{depth}{}", ".x".repeat(depth - 1))).collect();
    let filter = Filter::new([&order("o", rules.iter().map(String::as_str)).both(Action::Drop)]);
    for (depth, rule) in (1..).zip(&rules) {
        for above in ["", "a.", "a.bc.", "a.bc.def.ghij.", "a.b.c.d.e.f.g.h.i.j."] {
            let beside = format!("{above}s{depth}{}", ".x".repeat(depth - 1));
            for (name, reason) in [(format!("{above}{rule}"), Reason::Dropped), (beside, Reason::NotListed)] {
                filter.expect(&Packet::dns(Ip::v4(), &Query::new(&name)), reason);
                filter.expect(&Packet::tls(Ip::v6(), &Hello::new(&name)), reason);
            }
        }
    }
}
