//! Segments out of order, through kernel and deferred tier: the connection is stopped from its next segment on.

use std::sync::atomic::Ordering::Relaxed;

use cordon_tests::{
    packet::{Connection, Hello},
    tiered::Tiered,
};
use filter_common::verdict::{
    Reason::{self, Reset, TcpOutOfOrder, TcpSyn, TlsIncomplete, TlsNotHello},
    Tally,
};

use super::{NAME, connections, filter};

const OTHER: &str = "www.example.net";

/// What frames come to, the tier having read what was copied before the next one.
fn run(border: &mut Tiered, frames: &[Vec<u8>]) -> Vec<Reason> {
    frames.iter().map(|frame| border.run(frame)).collect()
}

/// The segments of a hello in another order, then the client's next data, and the next connection of the same ports.
#[track_caller]
fn expect(connection: &Connection, hello: &[u8], cuts: &[usize], order: &[usize], reasons: &[Reason], name: &str) {
    let mut border = Tiered::over(filter());
    let parts = connection.cut(hello, cuts);
    let mut frames = vec![connection.syn()];
    frames.extend(order.iter().map(|index| parts[*index].clone()));
    let judged = run(&mut border, &frames);
    assert_eq!(judged, [&[TcpSyn], reasons].concat(), "{order:?} {name}");
    let is_listed = name == NAME;
    let before = border.filter.hits("o").decided;
    // Its next data, and every segment of the hello sent again.
    let next = connection.data(hello.len(), &[23; 80]);
    // The kernel does not hear of other names.
    assert_eq!(border.run(&next), if is_listed { Reset } else { TcpOutOfOrder }, "{cuts:?} {order:?} {name}");
    assert_eq!(border.found.iter().map(|found| found.as_str()).next(), is_listed.then_some(name));
    assert_eq!(border.filter.hits("o").decided - before, u64::from(is_listed));
    for part in &parts {
        assert_eq!(border.run(part) == Reset, is_listed, "{order:?} {name}");
    }
    // O6: another connection of the same ports, and one of another port.
    for other in [connection.clone().starting(77), connection.clone().from(40_001)] {
        let unlisted = Hello::post_quantum(OTHER, false).build();
        let judged = run(&mut border, &[other.opened(&unlisted, &[1208]), vec![other.data(5000, &[23; 80])]].concat());
        assert_eq!(judged, [TcpSyn, TlsIncomplete, Reason::NotListed, TlsNotHello]);
    }
}

#[test]
fn t05_swapped_halves_end_the_connection() {
    for name in [NAME, OTHER] {
        let hello = Hello::post_quantum(name, false);
        let at = hello.position(name);
        for connection in connections(443) {
            for cut in [400, 700, 1208, 1440] {
                let reasons = [TcpOutOfOrder, TlsIncomplete];
                expect(&connection, &hello.build(), &[cut], &[1, 0], &reasons, name);
            }
            let reasons = [TcpOutOfOrder, TcpOutOfOrder, TlsIncomplete];
            for cuts in [[1, 1208], [5, 1400], [900, at - 1], [1300, at + 3]] {
                expect(&connection, &hello.build(), &cuts, &[2, 1, 0], &reasons, name);
            }
            expect(&connection, &hello.build(), &[600, 1208], &[2, 1, 0], &reasons, name);
            expect(&connection, &hello.build(), &[600, 1208], &[1, 2, 0], &reasons, name);
            // One half sent again, in the wrong place.
            let reasons = [TcpOutOfOrder, TcpOutOfOrder, TlsIncomplete];
            expect(&connection, &hello.build(), &[1208], &[1, 1, 0], &reasons, name);
        }
    }
}

/// Where the connection's data starts with a change_cipher_spec, which servers read past.
#[test]
fn t05_a_change_cipher_spec_first_and_segments_swapped() {
    for name in [NAME, OTHER] {
        let hello = Hello::post_quantum(name, false);
        let stream = [&[20, 3, 3, 0, 1, 1], &hello.build()[..]].concat();
        let name_at = 6 + hello.position(name);
        for connection in connections(443) {
            // In the hello's segment.
            for cut in [500, 600, 1208] {
                expect(&connection, &stream, &[cut], &[1, 0], &[TcpOutOfOrder, TlsIncomplete], name);
            }
            for cuts in [[3, 900], [7, 900], [11, 1208], [600, name_at + 3]] {
                expect(&connection, &stream, &cuts, &[1, 2, 0], &[TcpOutOfOrder, TcpOutOfOrder, TlsIncomplete], name);
            }
            let reasons = [TlsIncomplete, TcpOutOfOrder, TlsIncomplete];
            expect(&connection, &stream, &[600, 1208], &[0, 2, 1], &reasons, name);
            // In a segment of its own.
            for cuts in [[6, 900], [6, 1208], [6, 1400]] {
                expect(&connection, &stream, &cuts, &[0, 2, 1], &[TlsIncomplete, TcpOutOfOrder, TlsIncomplete], name);
                expect(&connection, &stream, &cuts, &[2, 1, 0], &[TcpOutOfOrder, TcpOutOfOrder, TlsIncomplete], name);
                expect(&connection, &stream, &cuts, &[2, 0, 1], &[TcpOutOfOrder, TlsIncomplete, TlsIncomplete], name);
                expect(&connection, &stream, &cuts, &[1, 0, 2], &[TcpOutOfOrder, TlsIncomplete, TcpOutOfOrder], name);
            }
        }
    }
}

/// What the tier puts in order is copied, and not all that a connection sends whose first segment took another way.
#[test]
fn t05_copies_end_where_the_tier_does() {
    let hello = Hello::post_quantum(NAME, false).build();
    let copied = |border: &Tiered| {
        let tallies = border.filter.tallies();
        tallies.iter().find(|(tally, _)| *tally == Tally::Copied).map_or(0, |(_, count)| *count)
    };
    for connection in connections(443) {
        // The first segment of the connection, or the second one of its hello, takes another way.
        for (first, late) in [(0, 1208), (600, 1400)] {
            let mut border = Tiered::over(filter());
            let frames = [vec![connection.syn()], connection.cut(&hello[..first], &[])].concat();
            let frames = &frames[..if first == 0 { 1 } else { 2 }];
            assert_eq!(run(&mut border, frames), [TcpSyn, TlsIncomplete][..frames.len()]);
            for at in (2..40).map(|nth| 1460 * nth) {
                let before = copied(&border);
                assert_eq!(border.run(&connection.data(at, &[23; 1460])), TcpOutOfOrder, "{at}");
                assert_eq!(copied(&border) - before, u64::from(at < 16 << 10), "{at}");
            }
            // It comes after all, in two and swapped.
            let rest = [connection.data(late, &hello[late..]), connection.data(first, &hello[first..late])];
            assert_eq!(run(&mut border, &rest), [TcpOutOfOrder, TlsIncomplete]);
            assert_eq!(border.found.iter().map(|found| found.as_str()).collect::<Vec<_>>(), [NAME]);
            assert_eq!(border.run(&connection.data(40 * 1460, &[23; 80])), Reset);
            assert_eq!(border.counts.junk.load(Relaxed), 0);
        }
    }
}

#[test]
fn t05_a_gap_behind_the_first_segment() {
    for name in [NAME, OTHER] {
        let hello = Hello::post_quantum(name, false);
        let cuts = [600, hello.position(name) + 3];
        for connection in connections(443) {
            let reasons = [TlsIncomplete, TcpOutOfOrder, TlsIncomplete];
            expect(&connection, &hello.build(), &cuts, &[0, 2, 1], &reasons, name);
        }
    }
}

#[test]
fn t11_t10_records_split_and_segments_swapped() {
    for name in [NAME, OTHER] {
        let hello = Hello::post_quantum(name, false).records(&[60, 60, 900]).build();
        let idle = [&hello[..65], &[22, 3, 1, 0, 0].repeat(9), &[21, 3, 1, 0, 2, 1, 90], &hello[65..]].concat();
        for connection in connections(443) {
            for stream in [&hello, &idle] {
                for cuts in [[3, 900], [67, 900], [68, 1208], [80, 1208]] {
                    let reasons = [TcpOutOfOrder, TcpOutOfOrder, TlsIncomplete];
                    expect(&connection, stream, &cuts, &[1, 2, 0], &reasons, name);
                }
            }
        }
    }
}
