//! Overlaps, decoys and forged segments: what others, or the client's other connections, meet.

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Connection, Hello, Ip, flag},
};
use filter_common::verdict::{
    Reason::{NoPayload, NotListed, Reset, TcpOutOfOrder, TcpRepeated, TcpSyn, TlsIncomplete, TlsNotHello},
    Verdict,
};

use super::{NAME, State, connections, expect, filter, run};

/// The octets of a hello with `theirs` in place of its name, which is as long.
fn with_name(hello: &Hello, theirs: &str) -> Vec<u8> {
    assert_eq!(theirs.len(), NAME.len());
    let mut octets = hello.build();
    let at = hello.position(NAME);
    octets[at..at + NAME.len()].copy_from_slice(theirs.as_bytes());
    octets
}

#[test]
fn t06_of_overlapping_segments_the_first_copy_counts() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false);
    let (listed, at) = (hello.build(), hello.position(NAME));
    let other = with_name(&hello, "www.example.net");
    let cut = at + NAME.len() - 3;
    for connection in connections(443) {
        // The second segment brings the name's last three octets, and another copy of those before.
        let torn = |octets: &[u8]| {
            let mut torn = octets[at - 50..].to_vec();
            torn[..cut - at + 50].fill(b'x');
            connection.data(at - 50, &torn)
        };
        let frames = [connection.syn(), connection.data(0, &other[..cut]), torn(&listed)];
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        let frames = [connection.syn(), connection.data(0, &listed[..cut]), torn(&other)];
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, NotListed], State::SPLIT_AND_PASSED);
        let frames = [connection.syn(), connection.data(0, &other[..cut + 1]), connection.data(at, &listed[at..])];
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, NotListed], State::SPLIT_AND_PASSED);
        // A segment that holds a whole name is judged by itself.
        let frames = [connection.syn(), connection.data(0, &other[..cut]), connection.data(0, &listed)];
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, Reset], State::SPLIT_AND_PASSED);
    }
}

#[test]
fn t07_decoys_elsewhere() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false).build();
    let decoy = Hello::post_quantum("www.example.net", false).build();
    for connection in connections(443) {
        let real = connection.opened(&hello, &[1208]);
        let [syn, first, second] = &real[..] else { panic!("three frames") };
        for shift in [1_u32, 3000, 1 << 20, 1 << 31, 0_u32.wrapping_sub(5000), 0_u32.wrapping_sub(1 << 24)] {
            let elsewhere = connection.clone().starting(connection.start.wrapping_add(shift));
            let halves = elsewhere.cut(&decoy, &[1208]);
            let [one, two] = &halves[..] else { panic!("two frames") };
            // In front: split, whole, and the octets of no hello.
            let all = [syn, one, two, first, second].map(Clone::clone);
            let reasons = [TcpSyn, TcpOutOfOrder, TcpOutOfOrder, TlsIncomplete, Reset];
            expect(&filter, &all, &reasons, State::SPLIT_AND_STOPPED);
            let all = [syn, &elsewhere.data(0, &decoy), first, second].map(Clone::clone);
            expect(&filter, &all, &[TcpSyn, NotListed, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
            let all = [syn, &elsewhere.data(0, &[0x41; 300]), first, second].map(Clone::clone);
            expect(&filter, &all, &[TcpSyn, TcpOutOfOrder, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
            // Between the halves.
            if shift.wrapping_add(1 << 18) > 1 << 19 {
                let all = [syn, first, one, two, second].map(Clone::clone);
                let reasons = [TcpSyn, TlsIncomplete, TlsIncomplete, TlsNotHello, Reset];
                expect(&filter, &all, &reasons, State::SPLIT_AND_STOPPED);
            }
        }
    }
}

#[test]
fn t07_decoys_in_the_same_place() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false).build();
    for connection in connections(443) {
        let real = connection.opened(&hello, &[1208]);
        let [syn, first, second] = &real[..] else { panic!("three frames") };
        // A whole hello of another name, or no hello at all, does not hide the real one.
        let whole = connection.data(0, &Hello::new("other.net").build());
        let all = [syn, &whole, first, second].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, NotListed, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        let nothing = connection.data(0, &[0x41; 300]);
        let all = [syn, &nothing, first, second].map(Clone::clone);
        expect(&filter, &all, &[TcpSyn, TlsNotHello, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        // Half a hello does: of two copies the first one counts.
        let decoy = Hello::with_extensions([(21, vec![0; 8000]), (22, Vec::new())]).build();
        let all = [syn, &connection.data(0, &decoy[..1208]), first, second].map(Clone::clone);
        let state = State { marks: [1, 1], streams: [1, 0], names: 0 };
        expect(&filter, &all, &[TcpSyn, TlsIncomplete, TcpRepeated, TlsIncomplete], state);
        // But not a whole real one.
        assert_eq!(filter.run_all(&[connection.data(0, &hello)]), [Reset]);
    }
}

#[test]
fn t08_o06_the_next_connection_of_the_same_ports() {
    let filter = filter();
    let listed = Hello::post_quantum(NAME, false).build();
    let other = Hello::post_quantum("www.example.net", false).build();
    for connection in connections(443) {
        let stopped = connection.opened(&listed, &[1208]);
        let state = State { marks: [2, 2], streams: [2, 2], names: 1 };
        // Also where the new connection's numbers are the old one's.
        for start in [connection.start, connection.start + 500, connection.start + 70_000, 5] {
            let next = connection.clone().starting(start);
            let all = [stopped.clone(), next.opened(&other, &[1208]), vec![next.data(other.len(), &[23; 50])]].concat();
            let reasons = [TcpSyn, TlsIncomplete, Reset, TcpSyn, TlsIncomplete, NotListed, TlsNotHello];
            expect(&filter, &all, &reasons, state);
            let all = [stopped.clone(), next.opened(&other, &[])].concat();
            let state = State { marks: [2, 2], ..State::SPLIT_AND_STOPPED };
            expect(&filter, &all, &[TcpSyn, TlsIncomplete, Reset, TcpSyn, NotListed], state);
        }
        // Where the SYN went another way, its numbers tell it.
        let next = connection.clone().starting(connection.start + 70_000);
        let all = [stopped.clone(), next.cut(&other, &[1208])].concat();
        let without_syn = State { marks: [1, 1], ..state };
        expect(&filter, &all, &[TcpSyn, TlsIncomplete, Reset, TlsIncomplete, NotListed], without_syn);
        // Another port.
        let all = [stopped, connection.clone().from(40_001).opened(&other, &[1208])].concat();
        expect(&filter, &all, &[TcpSyn, TlsIncomplete, Reset, TcpSyn, TlsIncomplete, NotListed], state);
    }
}

#[test]
fn o06_ended_connections_leave_nothing_behind() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false).build();
    for connection in connections(443) {
        let frames = connection.opened(&hello, &[1208]);
        let [syn, first, second] = &frames[..] else { panic!("three frames") };
        for flags in [flag::FIN | flag::ACK, flag::RST, flag::RST | flag::ACK] {
            let end = connection.flagged(flags, 1209, &[]);
            let all = [syn, first, &end, second].map(Clone::clone);
            expect(&filter, &all, &[TcpSyn, TlsIncomplete, NoPayload, TlsNotHello], State::SPLIT_AND_PASSED);
            expect(&filter, &[syn.clone(), end.clone()], &[TcpSyn, NoPayload], State::MARKED);
            // It does not free a stopped one.
            let all = [syn, first, second, &end, second].map(Clone::clone);
            expect(&filter, &all, &[TcpSyn, TlsIncomplete, Reset, NoPayload, Reset], State::SPLIT_AND_STOPPED);
        }
    }
}

#[test]
fn t08_o06_forged_hellos_bar_nothing() {
    let filter = filter();
    let listed = Hello::post_quantum(NAME, false).build();
    let other = Hello::post_quantum("www.example.net", false).build();
    for connection in connections(443) {
        filter.forget_flows();
        for port in (1..=u16::MAX).step_by(97) {
            let victim = connection.clone().from(port).starting(0x7000_0000 + u32::from(port));
            let forged = connection.clone().from(port).starting(0x2000_0000);
            // In the victim's connection, and before it.
            let mut frames = forged.cut(&listed, &[1208]);
            frames.push(victim.data(90_000, &[23; 99]));
            frames.extend(victim.cut(&other, &[1208]));
            frames.push(victim.data(90_000, &[23; 99]));
            let reasons = filter.run_all(&frames);
            assert_eq!(reasons, [TlsIncomplete, Reset, TlsNotHello, TlsIncomplete, NotListed, TlsNotHello]);
            let frames = [victim.opened(&other, &[1208]), vec![victim.data(90_000, &[23; 99])]].concat();
            assert_eq!(filter.run_all(&frames), [TcpSyn, TlsIncomplete, NotListed, TlsNotHello]);
        }
    }
}

#[test]
fn o05_an_order_that_ended() {
    let hello = Hello::post_quantum(NAME, false).build();
    for connection in connections(443) {
        let mut filter = filter();
        let frames = connection.opened(&hello, &[1208]);
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        filter.change(|compiler| compiler.revoke("o").expect("an order"));
        assert_eq!(filter.run_all(&frames[2..]), [TlsNotHello]);
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, NotListed], State::SPLIT_AND_PASSED);
    }
}

#[test]
fn o05_other_clients_and_allowed_names() {
    let hello = Hello::post_quantum(NAME, false).build();
    let prefixes = ["192.0.2.0/28", "2001:db8:1::/120"].map(|prefix| prefix.parse().expect("a prefix"));
    let setup = Setup { scopes: vec![("a", prefixes.to_vec())], ..Setup::default() };
    let mut filter = Filter::with(setup, [&order("o", ["example.com"]).scopes(["a"])]);
    let outside = [(Ip::v4(), "192.0.2.200"), (Ip::v6(), "2001:db8:1::f:10")].map(|(mut ip, address)| {
        ip.set_source(address.parse().expect("an address"));
        Connection::new(ip, 443)
    });
    for (connection, outside) in connections(443).iter().zip(&outside) {
        let frames = connection.opened(&hello, &[1208]);
        expect(&filter, &frames, &[TcpSyn, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
        let (reasons, state) = run(&filter, &outside.opened(&hello, &[1208]));
        assert_eq!(reasons[..2], [TcpSyn, TlsIncomplete]);
        assert_eq!(reasons[2].verdict(), Verdict::Pass, "{reasons:?}");
        assert_eq!(state, State::SPLIT_AND_PASSED);
    }
    // The allow list, while a name is remembered.
    let [connection, _] = connections(443);
    let frames = connection.opened(&hello, &[1208]);
    expect(&filter, &frames, &[TcpSyn, TlsIncomplete, Reset], State::SPLIT_AND_STOPPED);
    filter.allow(["example.com"]);
    assert_eq!(filter.run_all(&frames[2..]), [TlsNotHello]);
}
