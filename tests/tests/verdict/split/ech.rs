//! T16: Encrypted Client Hello. The outer name decides; that there is one is counted, in every hello without a listed
//! name here, and in a sample of them in use.

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Hello, Ip, Packet, server_name},
};
use filter_common::verdict::{
    Reason::{self, NotListed, Reset, TcpSyn, TlsIncomplete, TlsNoSni, TlsNotHello},
    Tally,
};

use super::{NAME, State, connections, run};

const OTHER: &str = "cloudflare-ech.com";
const ECH: u16 = 0xfe0d;

fn filter(ech_sample: u32) -> Filter {
    Filter::with(Setup { ech_sample, ..Setup::default() }, [&order("o", ["example.com"])])
}

/// Hellos that were searched, and those with ECH.
fn counts(filter: &Filter) -> [u64; 2] {
    let tallies = filter.tallies();
    [Tally::EchSearched, Tally::Ech]
        .map(|tally| tallies.iter().find(|(known, _)| *known == tally).map_or(0, |(_, count)| *count))
}

/// These frames come to these reasons, and so many hellos are found to be searched, and to have ECH.
#[track_caller]
fn expect(filter: &Filter, frames: &[Vec<u8>], reasons: &[Reason], searched: [u64; 2]) -> State {
    let before = counts(filter);
    let (judged, state) = run(filter, frames);
    let after = counts(filter);
    assert_eq!(judged, reasons);
    assert_eq!([after[0] - before[0], after[1] - before[1]], searched);
    state
}

/// ECH before and behind the name, with much behind it; or none, for a hello as long.
fn hellos(name: &str) -> [(Hello, bool); 3] {
    let ech = |kind| (kind, vec![0x42; 200]);
    let rest = || [(21, vec![0; 700]), (51, vec![9; 700])];
    [
        (Hello::with_extensions([ech(ECH), server_name(name)].into_iter().chain(rest())), true),
        (Hello::with_extensions([server_name(name)].into_iter().chain(rest()).chain([ech(ECH)])), true),
        (Hello::with_extensions([ech(ECH - 1), server_name(name)].into_iter().chain(rest())), false),
    ]
}

#[test]
fn t16_the_outer_name_decides() {
    let filter = filter(1);
    for ip in Ip::both() {
        for (hello, has_ech) in hellos(NAME) {
            // Listed, with genuine ECH or GREASE: stopped, and not searched.
            let run = filter.expect(&Packet::tls(ip.clone(), &hello), Reset);
            assert_eq!(run.tallies, [], "{has_ech}");
        }
        for (hello, has_ech) in hellos(OTHER) {
            let run = filter.expect(&Packet::tls(ip.clone(), &hello), NotListed);
            let counted = [(Tally::Ech, 1), (Tally::EchSearched, 1)];
            assert_eq!(run.tallies, counted[usize::from(!has_ech)..]);
        }
        // Without an outer name.
        let nameless = Hello::with_extensions([(ECH, vec![7; 50])]);
        let run = filter.expect(&Packet::tls(ip.clone(), &nameless), TlsNoSni);
        assert_eq!(run.tallies, [(Tally::Ech, 1), (Tally::EchSearched, 1)]);
        let run = filter.expect(&Packet::tls(ip, &Hello::bare()), TlsNoSni);
        assert_eq!(run.tallies, [(Tally::EchSearched, 1)]);
    }
}

#[test]
fn t16_ech_over_segments() {
    let filter = filter(1);
    for connection in connections(443) {
        for (hello, has_ech) in hellos(OTHER) {
            let (octets, end) = (hello.build(), hello.position(OTHER) + OTHER.len());
            let searched = [1, u64::from(has_ech)];
            for cut in [3, 50, end - 4, end, end + 100, octets.len() - 100, octets.len() - 3] {
                // The name is whole in the first segment, or behind it.
                let reasons =
                    if cut < end { [TcpSyn, TlsIncomplete, NotListed] } else { [TcpSyn, NotListed, TlsNotHello] };
                let state = expect(&filter, &connection.opened(&octets, &[cut]), &reasons, searched);
                assert_eq!((state.marks, state.streams[0] - state.streams[1], state.names), ([1, 1], 0, 0));
            }
            let frames = [vec![connection.syn()], connection.pieces(&octets, 100)].concat();
            let (reasons, _) = run(&filter, &frames);
            assert!(reasons.iter().all(|reason| matches!(reason, TcpSyn | TlsIncomplete | NotListed | TlsNotHello)));
        }
        for (hello, _) in hellos(NAME) {
            let cut = hello.position(NAME) + 3;
            expect(&filter, &connection.opened(&hello.build(), &[cut]), &[TcpSyn, TlsIncomplete, Reset], [0, 0]);
        }
    }
}

/// A search that goes on decides nothing, and hides no hello that follows, wherever it is.
#[test]
fn t16_t07_a_search_gives_way_to_any_hello() {
    let filter = filter(1);
    let [_, (decoy, _), _] = hellos(OTHER);
    let decoy = &decoy.build()[..600];
    let real = Hello::post_quantum(NAME, false).build();
    let len = real.len();
    for connection in connections(443) {
        for start in [0, 1, 400, 600, 5000] {
            let real = |from: usize, to: usize| connection.data(start + from, &real[from..to]);
            let whole = [connection.syn(), connection.data(0, decoy), real(0, len)];
            expect(&filter, &whole, &[TcpSyn, NotListed, Reset], [0, 0]);
            let split = [connection.syn(), connection.data(0, decoy), real(0, 1208), real(1208, len)];
            let state = expect(&filter, &split, &[TcpSyn, NotListed, TlsIncomplete, Reset], [0, 0]);
            assert_eq!(state, State::SPLIT_AND_STOPPED);
        }
        // Data far from it passes as ever; a SYN ends it.
        let frames = [connection.syn(), connection.data(0, decoy), connection.data(9000, &[23; 90]), connection.syn()];
        let state = expect(&filter, &frames, &[TcpSyn, NotListed, TlsNotHello, TcpSyn], [0, 0]);
        assert_eq!(state, State { marks: [2, 1], streams: [1, 1], names: 0 });
    }
}

#[test]
fn t16_one_in_so_many_is_searched() {
    let filter = filter(5);
    let [(hello, _), ..] = hellos(OTHER);
    let (whole, before) = (Packet::tls(Ip::v4(), &hello).build(), counts(&filter));
    // On one CPU or two: each counts for itself.
    for _ in 0..100 {
        assert_eq!(filter.run_in_kernel(&whole).reason, NotListed);
    }
    let after = counts(&filter);
    assert!((19..=20).contains(&(after[0] - before[0])) && after[1] - before[1] == after[0] - before[0], "{after:?}");
    // In use with 0, none.
    let filter = self::filter(0);
    assert_eq!(filter.expect_frame(&whole, NotListed).tallies, []);
}
