//! DNS over TCP.

use cordon_tests::{
    harness::Filter,
    order::order,
    packet::{
        Connection, Edns, Ip, Query, flag, kind,
        received::{Content, Received},
    },
};
use filter_common::verdict::{
    Action,
    Reason::{
        self, DnsIncomplete, DnsMalformed, DnsNotQuery, Dropped, NotListed, Observed, Reset, TcpOutOfOrder,
        TcpRepeated, TcpSyn,
    },
    Verdict,
};

use super::{NAME, State, connections, expect, filter, run};

/// A query over TCP: its length in front (RFC 1035 4.2.2).
fn message(query: &Query) -> Vec<u8> {
    let query = query.build();
    [&(query.len() as u16).to_be_bytes()[..], &query].concat()
}

fn messages<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    names.into_iter().flat_map(|name| message(&Query::new(name))).collect()
}

/// After a stop, the message stays in progress as it was before, for the same segment once more.
const STOPPED: State = State { marks: [1, 1], streams: [1, 0], names: 0 };

#[test]
fn d05_cut_at_every_octet() {
    let filter = filter();
    let (listed, other) = (messages([NAME]), messages(["other.net"]));
    for connection in connections(53) {
        for cut in 1..listed.len() {
            expect(&filter, &connection.opened(&listed, &[cut]), &[TcpSyn, DnsIncomplete, Reset], STOPPED);
        }
        for cut in 1..other.len() {
            let frames = connection.opened(&other, &[cut]);
            expect(&filter, &frames, &[TcpSyn, DnsIncomplete, NotListed], State::SPLIT_AND_PASSED);
        }
        for len in [1, 2, 3, 10] {
            let frames = [vec![connection.syn()], connection.pieces(&listed, len)].concat();
            let mut reasons = vec![DnsIncomplete; frames.len()];
            reasons[0] = TcpSyn;
            reasons[frames.len() - 1] = Reset;
            expect(&filter, &frames, &reasons, STOPPED);
        }
    }
}

#[test]
fn d05_in_one_segment() {
    let filter = filter();
    for connection in connections(53) {
        let frames = connection.opened(&messages([NAME]), &[]);
        expect(&filter, &frames, &[TcpSyn, Reset], State::MARKED);
        expect(&filter, &frames[1..], &[Reset], State::default());
        expect(&filter, &connection.opened(&messages(["other.net"]), &[]), &[TcpSyn, NotListed], State::MARKED);
        // In the SYN (RFC 7413).
        let syn = connection.flagged(flag::SYN, 0, &messages([NAME]));
        expect(&filter, &[syn], &[Reset], State::default());
    }
}

#[test]
fn d05_pipelined() {
    let filter = filter();
    let twenty: Vec<String> = (0..20).map(|n| format!("host{n}.other.net")).collect();
    let unlisted = messages(twenty.iter().map(String::as_str));
    let last = [unlisted.clone(), messages([NAME])].concat();
    for connection in connections(53) {
        for stream in [messages(["other.net", NAME]), messages([NAME, "other.net"]), last.clone()] {
            expect(&filter, &connection.opened(&stream, &[]), &[TcpSyn, Reset], State::MARKED);
        }
        expect(&filter, &connection.opened(&unlisted, &[]), &[TcpSyn, NotListed], State::MARKED);
        // The second message's length and name cut at every octet.
        let stream = messages(["other.net", NAME]);
        let first = messages(["other.net"]).len();
        for cut in first + 1..stream.len() {
            expect(&filter, &connection.opened(&stream, &[cut]), &[TcpSyn, NotListed, Reset], STOPPED);
        }
        expect(&filter, &connection.opened(&stream, &[first]), &[TcpSyn, NotListed, Reset], State::MARKED);
    }
}

#[test]
fn d05_records_behind_the_question() {
    let filter = filter();
    let padded = message(&Query::new("other.net").edns(&Edns::new(1232).padding(400)));
    let followed = [padded.clone(), messages([NAME])].concat();
    // A message in the padding is none.
    let mut hiding = padded.clone();
    let inner = messages([NAME]);
    hiding[100..100 + inner.len()].copy_from_slice(&inner);
    for connection in connections(53) {
        for cut in [60, 200, padded.len() - 1] {
            let question = if cut < 300 { DnsIncomplete } else { NotListed };
            expect(&filter, &connection.opened(&followed, &[cut]), &[TcpSyn, question, Reset], STOPPED);
        }
        for cut in [99, 100, 350] {
            let (reasons, state) = run(&filter, &connection.opened(&hiding, &[cut]));
            assert!(reasons.iter().all(|reason| reason.verdict() == Verdict::Pass), "{reasons:?}");
            assert_eq!(state, State::SPLIT_AND_PASSED);
        }
    }
}

#[test]
fn d05_resent_after_a_stop() {
    let filter = filter();
    let stream = messages(["other.net", NAME]);
    for connection in connections(53) {
        let frames = connection.opened(&stream, &[40]);
        let [syn, first, second] = &frames[..] else { panic!("three frames") };
        let all = [syn, first, second, second, first, second].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, NotListed, Reset, Reset, TcpRepeated, Reset], STOPPED);
        // A gap is not skipped.
        let frames = connection.opened(&stream, &[40, 50]);
        let [syn, first, second, third] = &frames[..] else { panic!("four frames") };
        let all = [syn, first, third, second, third].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, NotListed, TcpOutOfOrder, DnsIncomplete, Reset], STOPPED);
        // The next connection of the same ports, and one of another.
        let next = connection.clone().starting(77).opened(&messages(["other.net"]), &[20]);
        assert_eq!(filter.run_all(&next), [TcpSyn, DnsIncomplete, NotListed]);
        let other = connection.clone().from(40_001).opened(&messages(["other.net"]), &[]);
        assert_eq!(filter.run_all(&other), [TcpSyn, NotListed]);
    }
}

#[test]
fn d05_actions() {
    let stream = messages([NAME]);
    for (action, reason) in [
        (Action::Drop, Dropped),
        (Action::Reset, Reset),
        (Action::Nxdomain, Reset),
        (Action::Nodata, Reset),
        (Action::Refused, Reset),
        (Action::Observe, Observed),
    ] {
        let filter = Filter::new([&order("o", ["example.com"]).both(action)]);
        for connection in connections(53) {
            let frames = connection.opened(&stream, &[20]);
            let state = if action == Action::Observe { State::SPLIT_AND_PASSED } else { STOPPED };
            expect(&filter, &frames, &[TcpSyn, DnsIncomplete, reason], state);
            expect(&filter, &connection.opened(&stream, &[]), &[TcpSyn, reason], State::MARKED);
            if reason == Reset {
                let run = filter.run_in_kernel(&connection.data(0, &stream));
                let back = Received::parse(&run.frame).expect("a well-formed frame");
                let sent = Content::Tcp { sequence: 0xdead_0001, acknowledgement: 0, flags: flag::RST, window: 0 };
                assert_eq!(back.content, sent);
            }
        }
    }
}

#[test]
fn d05_observed_messages_do_not_hide_others() {
    let filter = Filter::new([&order("o", ["example.com"]).both(Action::Observe), &order("d", ["d.example"])]);
    for connection in connections(53) {
        let one = |names: &[&str], reasons: &[Reason]| {
            expect(&filter, &connection.opened(&messages(names.iter().copied()), &[]), reasons, State::MARKED);
        };
        one(&[NAME, "d.example"], &[TcpSyn, Reset]);
        one(&["d.example", NAME], &[TcpSyn, Reset]);
        one(&["other.net", NAME], &[TcpSyn, Observed]);
        // What comes in further segments is read on.
        let stream = messages([NAME, "d.example"]);
        let first = messages([NAME]).len();
        for cut in first + 1..stream.len() {
            expect(&filter, &connection.opened(&stream, &[cut]), &[TcpSyn, Observed, Reset], STOPPED);
        }
        let stream = messages([NAME, NAME, "d.example"]);
        let cuts = [first + 9, 2 * first + 9];
        expect(&filter, &connection.opened(&stream, &cuts), &[TcpSyn, Observed, Observed, Reset], STOPPED);
    }
    assert!(filter.hits("o").decided > 0);
}

#[test]
fn d01_d02_d04_d07_over_tcp() {
    let longest = format!("{}example.com", "a.".repeat(121));
    assert_eq!(longest.len(), 253);
    let listed = [
        Query::new("WwW.eXaMpLe.CoM"),
        Query::new(&longest),
        Query::new(NAME).edns(&Edns::new(4096).cookie(8).padding(300).client_subnet()).tsig(),
        Query::new(NAME).trailing(&[1, 2, 3]),
        Query::new(NAME).qtype(kind::AAAA),
        Query::new(NAME).qtype(kind::HTTPS),
        Query::new(NAME).qtype(kind::SVCB),
        Query::new(NAME).qtype(kind::ANY),
        Query::new(NAME).qtype(kind::TXT),
    ];
    let filter = filter();
    for connection in connections(53) {
        for query in &listed {
            let stream = message(query);
            expect(&filter, &connection.opened(&stream, &[]), &[TcpSyn, Reset], State::MARKED);
            let frames = connection.opened(&stream, &[1, 20]);
            expect(&filter, &frames, &[TcpSyn, DnsIncomplete, DnsIncomplete, Reset], STOPPED);
        }
        // Labels with a dot in them are other names (RFC 2181 11).
        let dotted = Query::labels([b"www.example".to_vec(), b"com".to_vec()]);
        expect(&filter, &connection.opened(&message(&dotted), &[]), &[TcpSyn, NotListed], State::MARKED);
        let response = Query::new(NAME).flags(0x8180);
        expect(&filter, &connection.opened(&message(&response), &[]), &[TcpSyn, DnsNotQuery], State::MARKED);
    }
}

#[test]
fn d05_what_is_no_message() {
    let filter = filter();
    let connection = Connection::new(Ip::v4(), 53);
    // Too short for a question; there is no telling where the next one starts.
    let stream = [&[0, 16][..], &[0; 16], &messages([NAME])].concat();
    expect(&filter, &connection.opened(&stream, &[]), &[TcpSyn, DnsMalformed], State::MARKED);
    expect(&filter, &connection.opened(&stream, &[1]), &[TcpSyn, DnsIncomplete, DnsMalformed], State::SPLIT_AND_PASSED);
}
