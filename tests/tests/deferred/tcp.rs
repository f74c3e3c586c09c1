//! TCP segments out of order.

use cordon_tests::packet::Hello;
use filter_common::{layout::FlowKey, verdict::Reason};
use filter_user::deferred::{Copied, Decision, Junk, Limits, NoName, tcp::Segments};
use proptest::prelude::*;

use crate::{NAME, named};

const START: u32 = u32::MAX - 500;

fn read(segments: &mut Segments, start: u32, at: usize, payload: &[u8]) -> Decision {
    let connection = FlowKey { lanes: [1; 4] };
    let copied = Copied { time: 0, connection, client: [0; 16], payload };
    segments.read(&copied, start, start.wrapping_add(at as u32), None)
}

#[test]
fn t5_two_halves_swapped_across_the_sequence_numbers_end() {
    for name_first in [true, false] {
        let hello = Hello::post_quantum(NAME, name_first).build();
        for cut in [1, 5, 100, 1000, 1700] {
            let mut segments = Segments::new(Limits::default());
            assert_eq!(read(&mut segments, START, cut, &hello[cut..]), Decision::Undecided);
            assert_eq!(read(&mut segments, START, 0, &hello[..cut]), named(NAME));
            assert_eq!(read(&mut segments, START, 0, &hello[..cut]), named(NAME));
        }
    }
}

#[test]
fn t6_overlapping_segments_the_first_copy_counts() {
    let hello = Hello::new(NAME).build();
    let decoy = Hello::new("www.example.org").build();
    let mut segments = Segments::new(Limits::default());
    assert_eq!(read(&mut segments, START, 60, &hello[60..]), Decision::Undecided);
    assert_eq!(read(&mut segments, START, 0, &decoy), named(NAME));
}

#[test]
fn t11_records_split_and_segments_swapped() {
    let hello = Hello::new(NAME).records(&[1, 30, 60, 5]).build();
    let mut segments = Segments::new(Limits::default());
    let parts: Vec<_> = (0..hello.len()).step_by(37).map(|at| (at, &hello[at..(at + 37).min(hello.len())])).collect();
    let last = parts.iter().rev().map(|(at, part)| read(&mut segments, START, *at, part)).last();
    assert_eq!(last, Some(named(NAME)));
}

#[test]
fn a_new_start_is_a_new_connection() {
    let hello = Hello::new(NAME).build();
    let mut segments = Segments::new(Limits::default());
    assert_eq!(read(&mut segments, START, 50, &hello[50..]), Decision::Undecided);
    assert_eq!(read(&mut segments, START + 7, 0, &hello[..50]), Decision::Undecided);
    assert_eq!(read(&mut segments, START + 7, 50, &hello[50..]), named(NAME));
    assert_eq!(segments.len(), 1);
}

#[test]
fn what_is_no_hello_or_out_of_place_is_told() {
    let mut segments = Segments::new(Limits::default());
    assert_eq!(read(&mut segments, START, 1 << 14, &[1]), Decision::Junk(Junk::Place));
    assert_eq!(read(&mut segments, START, usize::MAX, &[1]), Decision::Junk(Junk::Place));
    assert_eq!(read(&mut segments, START, 0, b"GET / HTTP/1.1"), Decision::NoName(NoName::Hello(Reason::TlsNotHello)));
}

/// "Zero-length fragments of Handshake types MUST NOT be sent" (RFC 8446 5.1), and OpenSSL takes 32 of them in a row.
#[test]
fn t10_empty_records_are_read_past() {
    for (times, decision) in [(1, named(NAME)), (32, named(NAME)), (33, NO_HELLO)] {
        let empty_first = Hello::new(NAME).records(&[vec![0; times], vec![30]].concat()).build();
        assert_eq!(read(&mut Segments::new(Limits::default()), START, 0, &empty_first), decision, "{times}");
        // Out of order.
        let mut segments = Segments::new(Limits::default());
        assert_eq!(read(&mut segments, START, 7, &empty_first[7..]), Decision::Undecided);
        assert_eq!(read(&mut segments, START, 0, &empty_first[..7]), decision, "{times}");
    }
}

const NO_HELLO: Decision = Decision::NoName(NoName::Hello(Reason::TlsNotHello));

proptest! {
    #[test]
    fn t4_t5_any_cut_in_any_order(cuts in prop::collection::btree_set(1..1700_usize, 0..40), seed in any::<usize>()) {
        let hello = Hello::post_quantum(NAME, seed % 2 == 0).records(&[1 + seed % 1000]).build();
        let bounds: Vec<_> = [0].into_iter().chain(cuts).chain([hello.len()]).collect();
        let mut parts: Vec<_> = bounds.windows(2).map(|window| (window[0], &hello[window[0]..window[1]])).collect();
        let parts_len = parts.len();
        parts.rotate_left(seed % parts_len);
        if seed % 3 == 0 {
            parts.reverse();
        }
        let mut segments = Segments::new(Limits::default());
        let last = parts.into_iter().map(|(at, part)| read(&mut segments, START, at, part)).last();
        prop_assert_eq!(last, Some(named(NAME)));
    }
}
