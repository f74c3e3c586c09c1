//! Messages over several segments: ClientHellos here, DNS over TCP below. What is known of a flow is kept
//! from one frame to the next.

mod dns;
mod ech;
mod others;
mod records;
mod tier;

use cordon_tests::{
    harness::Filter,
    order::order,
    packet::{
        Connection, Hello, Ip, flag,
        received::{Content, Received},
        server_name,
    },
};
use filter_common::verdict::{
    Action,
    Reason::{
        self, Dropped, NotListed, Observed, Reset, TcpOutOfOrder, TcpRepeated, TcpSyn, TlsIncomplete, TlsNoSni,
        TlsNotHello, TlsSniDuplicate, TlsSniInvalid,
    },
    Tally,
};

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

/// Both IP versions.
fn connections(port: u16) -> [Connection; 2] {
    Ip::both().map(|ip| Connection::new(ip, port))
}

/// How often state was made and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    marks: [u64; 2],
    streams: [u64; 2],
    names: u64,
}

impl State {
    /// A SYN mark, set and done with; a message in progress, kept and done with; a name remembered.
    const SPLIT_AND_STOPPED: Self = Self { marks: [1, 1], streams: [1, 1], names: 1 };
    const SPLIT_AND_PASSED: Self = Self { marks: [1, 1], streams: [1, 1], names: 0 };
    const MARKED: Self = Self { marks: [1, 1], streams: [0, 0], names: 0 };

    fn now(filter: &Filter) -> Self {
        let tallies = filter.tallies();
        let of = |tally| tallies.iter().find(|(known, _)| *known == tally).map_or(0, |(_, count)| *count);
        Self {
            marks: [of(Tally::MarksSet), of(Tally::MarksDone)],
            streams: [of(Tally::StreamsSet), of(Tally::StreamsDone)],
            names: of(Tally::NamesRemembered),
        }
    }

    fn since(self, before: Self) -> Self {
        let less = |[set, done]: [u64; 2], [set_before, done_before]: [u64; 2]| [set - set_before, done - done_before];
        Self {
            marks: less(self.marks, before.marks),
            streams: less(self.streams, before.streams),
            names: self.names - before.names,
        }
    }
}

/// Judges frames as the first ones that are seen of their flows.
fn run(filter: &Filter, frames: &[Vec<u8>]) -> (Vec<Reason>, State) {
    filter.forget_flows();
    let before = State::now(filter);
    let reasons = filter.run_all(frames);
    (reasons, State::now(filter).since(before))
}

#[track_caller]
fn expect(filter: &Filter, frames: &[Vec<u8>], reasons: &[Reason], state: State) {
    assert_eq!(run(filter, frames), (reasons.to_vec(), state));
}

#[test]
fn t02_name_in_the_first_segment() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, true).build();
    for connection in connections(443) {
        let frames = connection.opened(&hello, &[1208]);
        expect(&filter, &frames, &[TcpSyn, Reset, TlsNotHello], State::MARKED);
        // Nothing need be known of the connection.
        expect(&filter, &frames[1..], &[Reset, TlsNotHello], State::default());
    }
}

#[test]
fn t03_name_behind_the_first_segment() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false);
    let (octets, at) = (hello.build(), hello.position(NAME));
    for connection in connections(443) {
        // Whole in the second segment, and cut at every octet.
        for cut in [1208, at - 300, at - 10, at - 1].into_iter().chain(at..at + NAME.len()) {
            let frames = connection.opened(&octets, &[cut]);
            let reasons = [TcpSyn, TlsIncomplete, Reset];
            expect(&filter, &frames, &reasons, State::SPLIT_AND_STOPPED);
            // Without its SYN as well.
            let state = State { marks: [0, 0], ..State::SPLIT_AND_STOPPED };
            expect(&filter, &frames[1..], &reasons[1..], state);
        }
        expect(&filter, &connection.opened(&octets, &[])[..2], &[TcpSyn, Reset], State::MARKED);
    }
}

#[test]
fn t03_names_that_are_not_listed() {
    let filter = filter();
    for name in ["www.example.net", "notexample.com", "example.com.evil.net", "com"] {
        let hello = Hello::post_quantum(name, false);
        let at = hello.position(name);
        for connection in connections(443) {
            for cut in [1208, at + 1, at + name.len() - 1] {
                let frames = connection.opened(&hello.build(), &[cut]);
                expect(&filter, &frames, &[TcpSyn, TlsIncomplete, NotListed], State::SPLIT_AND_PASSED);
            }
        }
    }
}

#[test]
fn t04_cut_at_every_octet() {
    let filter = filter();
    let hello = Hello::new(NAME);
    let (octets, end) = (hello.build(), hello.position(NAME) + NAME.len());
    let [connection, other] = connections(443);
    for cut in 1..end {
        let connection = if cut % 2 == 0 { &connection } else { &other };
        let frames = connection.opened(&octets, &[cut]);
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
    }
}

#[test]
fn t04_many_small_segments() {
    let filter = filter();
    let long = Hello::post_quantum(NAME, false);
    let short = Hello::new(NAME);
    for connection in connections(443) {
        for (hello, len) in [(&long, 50), (&short, 1), (&short, 2), (&short, 3), (&short, 7), (&long, 536)] {
            let octets = hello.build();
            let frames = [vec![connection.syn()], connection.pieces(&octets, len)].concat();
            let (reasons, state) = run(&filter, &frames);
            let first = (hello.position(NAME) + NAME.len()).div_ceil(len);
            let mut expected = vec![TcpSyn];
            expected.extend(vec![TlsIncomplete; first - 1]);
            // Each further segment of the hello is stopped as well.
            expected.extend(vec![Reset; frames.len() - first]);
            assert_eq!(reasons, expected, "segments of {len}");
            assert_eq!(state, State::SPLIT_AND_STOPPED, "segments of {len}");
        }
    }
}

#[test]
fn t05_segments_resent_after_a_stop() {
    let filter = filter();
    let hello = Hello::with_extensions([(21, vec![0; 1000]), server_name(NAME), (51, vec![0; 500])]);
    let octets = hello.build();
    let cuts = [1000, hello.position(NAME) + 30];
    for connection in connections(443) {
        let frames = connection.opened(&octets, &cuts);
        let [syn, first, second, third] = &frames[..] else { panic!("four frames") };
        let all = [syn, first, second, second, third, first, second].map(Clone::clone);
        let reasons = [TcpSyn, TlsIncomplete, Reset, Reset, Reset, Reset, Reset];
        expect(&filter, &all, &reasons, State::SPLIT_AND_STOPPED);
        // Other data of the connection is not concerned: what lies behind the hello, and before it.
        let others = [connection.data(octets.len(), &[23; 40]), connection.flagged(flag::ACK, 0, &[0])];
        assert_eq!(filter.run_all(&others), [TlsNotHello, TlsNotHello]);
        assert_eq!(filter.run_all([second]), [Reset]);
    }
}

#[test]
fn t05_first_segment_resent() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false);
    for connection in connections(443) {
        let frames = connection.opened(&hello.build(), &[1208]);
        let [syn, first, second] = &frames[..] else { panic!("three frames") };
        let all = [syn, first, first, &connection.data(100, &hello.build()[100..1000]), second].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, TlsIncomplete, TcpRepeated, TcpRepeated, Reset], State::SPLIT_AND_STOPPED);
        // Resent with more behind it.
        let longer = connection.data(0, &hello.build()[..1300]);
        let all = [syn, first, &longer, &connection.data(1300, &hello.build()[1300..])].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, TlsIncomplete, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        // The SYN resent: the connection begins anew.
        let all = [syn, first, syn, first, second].map(Clone::clone);
        let state = State { marks: [2, 2], streams: [2, 2], names: 1 };
        expect(&filter, &all, &[TcpSyn, TlsIncomplete, TcpSyn, TlsIncomplete, Reset], state);
    }
}

#[test]
fn t05_swapped_halves() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false);
    for connection in connections(443) {
        let frames = connection.opened(&hello.build(), &[1208]);
        let [syn, first, second] = &frames[..] else { panic!("three frames") };
        // The SYN shows that something is missing. Resent, the second half is stopped.
        let all = [syn, second, first, second].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, TcpOutOfOrder, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        let all = [second, first].map(Clone::clone);
        expect(&filter, &all, &[TlsNotHello, TlsIncomplete], State { streams: [1, 0], ..State::default() });
        // A gap behind the first segment.
        let frames = connection.opened(&hello.build(), &[700, 1208]);
        let [syn, first, second, third] = &frames[..] else { panic!("four frames") };
        let all = [syn, first, third, second, third].map(Clone::clone);
        let reasons = [TcpSyn, TlsIncomplete, TcpOutOfOrder, TlsIncomplete, Reset];
        expect(&filter, &all, &reasons, State::SPLIT_AND_STOPPED);
    }
}

#[test]
fn t10_records_over_segments() {
    let filter = filter();
    let one = Hello::new(NAME);
    let at = one.position(NAME) - 5;
    for connection in connections(443) {
        for record in [1, 3, 40, at - 4, at, at + 3, at + NAME.len() - 1] {
            let hello = Hello::new(NAME).records(&[record]).build();
            for cut in [1, 4, 6, record + 5, record + 8, record + 10] {
                let frames = connection.opened(&hello, &[cut]);
                let reasons = [TcpSyn, TlsIncomplete, Reset];
                expect(&filter, &frames, &reasons, State::SPLIT_AND_STOPPED);
            }
        }
        // Records of seven octets in segments of five.
        let hello = Hello::new(NAME).records(&[7; 40]).build();
        let frames = [vec![connection.syn()], connection.pieces(&hello, 5)].concat();
        let first = run(&filter, &frames).0.iter().position(|reason| *reason == Reset).expect("a stop");
        let reasons = [vec![TcpSyn], vec![TlsIncomplete; first - 1], vec![Reset; 3]].concat();
        expect(&filter, &frames[..first + 3], &reasons, State::SPLIT_AND_STOPPED);
        // In one segment, nothing is kept but the name.
        let frames = connection.opened(&hello, &[]);
        expect(&filter, &frames, &[TcpSyn, Reset], State { names: 1, ..State::MARKED });
    }
}

#[test]
fn t11_records_in_swapped_segments_pass() {
    let filter = filter();
    let hello = Hello::new(NAME).records(&[60, 60]).build();
    for connection in connections(443) {
        let frames = connection.opened(&hello, &[80]);
        let all = [0, 2, 1].map(|n: usize| frames[n].clone());
        let state = State { marks: [1, 1], streams: [1, 0], names: 0 };
        expect(&filter, &all, &[TcpSyn, TcpOutOfOrder, TlsIncomplete], state);
    }
}

#[test]
fn t12b_no_name_over_segments() {
    let filter = filter();
    let two = Hello::with_extensions([(21, vec![0; 300]), server_name(NAME), server_name("other.net")]);
    let cases = [
        (Hello::anonymous(), TlsNoSni),
        (Hello::name_last("www..example.com"), TlsSniInvalid),
        (Hello::name_last(""), TlsSniInvalid),
        (two, TlsSniDuplicate),
    ];
    for connection in connections(443) {
        for (hello, reason) in &cases {
            let frames = connection.opened(&hello.build(), &[100]);
            expect(&filter, &frames, &[TcpSyn, TlsIncomplete, *reason], State::SPLIT_AND_PASSED);
        }
    }
}

#[test]
fn t14_data_in_syn_then_the_rest() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false).build();
    for connection in connections(443) {
        let syn = connection.flagged(flag::SYN, 0, &hello[..500]);
        let rest = connection.data(500, &hello[500..]);
        let state = State { streams: [1, 1], names: 1, ..State::default() };
        expect(&filter, &[syn.clone(), rest.clone()], &[TlsIncomplete, Reset], state);
        // Not taken by the server: all of it again.
        let again = [vec![syn], connection.opened(&hello, &[1208])].concat();
        let state = State { streams: [2, 2], ..State::SPLIT_AND_STOPPED };
        expect(&filter, &again, &[TlsIncomplete, TcpSyn, TlsIncomplete, Reset], state);
    }
}

#[test]
fn actions_on_split_hellos() {
    let hello = Hello::post_quantum(NAME, false).build();
    for (action, reason) in [
        (Action::Drop, Dropped),
        (Action::Reset, Reset),
        (Action::Nxdomain, Reset),
        (Action::Address, Reset),
        (Action::Observe, Observed),
    ] {
        let filter =
            Filter::new([&order("o", ["example.com"]).both(action).address(Some([203, 0, 113, 80].into()), None)]);
        for connection in connections(443) {
            let frames = connection.opened(&hello, &[1208]);
            let passes = action == Action::Observe;
            let state = if passes { State::SPLIT_AND_PASSED } else { State::SPLIT_AND_STOPPED };
            expect(&filter, &frames, &[TcpSyn, TlsIncomplete, reason], state);
            // What is only observed is not remembered.
            let again = if passes { TlsNotHello } else { reason };
            let run = filter.run_in_kernel(&frames[2]);
            assert_eq!(run.reason, again);
            if reason == Reset {
                let back = Received::parse(&run.frame).expect("a well-formed frame");
                let sent = Content::Tcp { sequence: 0xdead_0001, acknowledgement: 0, flags: flag::RST, window: 0 };
                assert_eq!(back.content, sent);
            }
            // Whole hellos leave nothing behind; data that follows is not taken for a hello.
            let whole = [connection.opened(&hello, &[]), vec![connection.data(hello.len(), &[23; 99])]].concat();
            expect(&filter, &whole, &[TcpSyn, reason, TlsNotHello], State::MARKED);
        }
    }
}
