//! The labelled captures of public test suites: what tshark reads a name from is stopped at that frame, or decided there
//! and stopped from that connection's next packet on; nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cordon_tests::corpus::{
    Corpus, captures, corpus, frames, half, label_of,
    reach::Reach,
    sample,
    view::{Met, Side, Viewer, filter},
};
use filter_user::name::Name;

#[test]
fn every_name_listed_stops_every_labelled_frame_and_no_other() {
    let totals = check(|_| true);
    if sample() == 1 && totals != Totals::default() {
        let expected = Totals { stopped: 2731, decided: 30, mdns: 14, later: 134, followed: 18, passed: 16 };
        assert_eq!(totals, expected);
    }
}

#[test]
fn half_of_the_names_listed_stops_exactly_their_frames() {
    check(half);
}

#[test]
fn no_name_listed_stops_nothing() {
    check(|_| false);
}

/// With the names of all other captures listed.
#[test]
fn captures_without_names_stop_nothing() {
    let Some(corpus) = corpus() else { return };
    let mut viewer = Viewer::new(&corpus.listed(|_| true));
    let mut judged = 0;
    for path in captures("negatives") {
        judged += 1;
        let frames = frames(&path);
        for ((number, _), met) in frames.iter().zip(viewer.judge(&frames)) {
            assert_eq!(met, Met { is_stopped: false, found: Vec::new() }, "{} frame {number}", path.display());
        }
    }
    assert_eq!(judged, 328_usize.div_ceil(sample()));
}

/// Each frame by itself.
#[test]
fn kernel_and_host_come_to_the_same_reason_on_every_frame() {
    let Some(corpus) = corpus() else { return };
    let filter = filter(&corpus.listed(|_| true));
    for path in captures("pcaps").chain(captures("negatives")) {
        for (_, frame) in frames(&path).iter().filter(|(_, frame)| frame.len() >= 14) {
            filter.run(frame);
        }
    }
}

/// Labels of clients by protocol and reach: what is out of reach, and how often.
const REACHES: &[(&str, Reach, usize)] = &[
    ("dns-tcp", Reach::Within, 23),
    ("dns-tcp", Reach::NoHostName, 1),
    ("dns-udp", Reach::Within, 2594),
    ("dns-udp", Reach::UdpTunnel, 14),
    ("dns-udp", Reach::PppInGre, 1),
    ("dns-udp", Reach::IcmpQuote, 13),
    ("dns-udp", Reach::Nameless, 5),
    ("dns-udp", Reach::NoHostName, 25),
    ("dns-udp", Reach::Questions, 4),
    ("quic", Reach::Within, 35),
    ("quic", Reach::QuicVersion, 1),
    ("quic", Reach::Nameless, 3),
    ("quic", Reach::NoHostName, 4),
    ("tls", Reach::Within, 120),
    ("tls", Reach::UdpTunnel, 2),
    ("tls", Reach::Nameless, 103),
    ("tls", Reach::NoHostName, 2),
];

#[test]
fn what_is_out_of_reach_is_counted() {
    let Some(corpus) = corpus() else { return };
    let expected: BTreeMap<_, _> =
        REACHES.iter().map(|(proto, reach, count)| (((*proto).to_owned(), *reach), *count)).collect();
    assert_eq!(corpus.reaches, expected);
}

/// Frames within reach that are not stopped, and why that is right.
const PASSED: &[(&str, &[u32], &str)] = &[
    ("arkime/tests/pcap/dns-update.pcap", &[1], "opcode UPDATE"),
    ("suricata-verify/tests/dns/dns-answer-emptydata/input.pcap", &[4], "opcode UPDATE"),
    ("suricata-verify/tests/dns/dns-invalid-opcode/input.pcap", &[1], "an opcode that is not assigned"),
    ("suricata-verify/tests/dns-opcode/dns-notify.pcap", &[1], "opcode NOTIFY"),
    ("zeek/testing/btest/Traces/dns/dns_notify2.pcap", &[2], "opcode NOTIFY"),
    ("zeek/testing/btest/Traces/dns/dynamic-update.pcap", &[1, 3], "opcode UPDATE"),
    ("tcpdump/tests/ipv4_invalid_total_length.pcap", &[1], "longer than its frame: no host takes it"),
    ("tcpdump/tests/ipv6_invalid_length_2.pcap", &[1], "longer than its frame: no host takes it"),
    ("zeek/testing/btest/Traces/erspan.pcap", &[126, 132, 134, 136, 137], "Ethernet in GRE (ERSPAN)"),
    ("zeek/testing/btest/Traces/tunnels/gre-over-udp-4754.pcap", &[1, 2], "GRE in UDP (RFC 8086)"),
];

/// What became of the frames of all captures.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    /// Messages within reach that were stopped.
    stopped: usize,
    /// Messages within reach on which the deferred tier decided.
    decided: usize,
    /// mDNS on a port that DNS is read on.
    mdns: usize,
    /// Later packets of connections that were stopped or decided.
    later: usize,
    /// Connections that were decided and went on.
    followed: usize,
    /// Messages that passed as [`PASSED`] explains.
    passed: usize,
}

fn check(choice: fn(&Name) -> bool) -> Totals {
    let Some(corpus) = corpus() else { return Totals::default() };
    let mut check = Check {
        corpus,
        listed: corpus.listed(choice),
        viewer: Viewer::new(&corpus.listed(choice)),
        totals: Totals::default(),
        wrong: Vec::new(),
    };
    captures("pcaps").for_each(|path| check.capture(&label_of(&path), &frames(&path)));
    let Check { totals, wrong, .. } = check;
    println!("{totals:?}");
    assert!(wrong.is_empty(), "{} frames:\n{}", wrong.len(), wrong.join("\n"));
    totals
}

struct Check<'a> {
    corpus: &'a Corpus,
    listed: BTreeSet<&'a Name>,
    viewer: Viewer,
    totals: Totals,
    wrong: Vec<String>,
}

/// What is known of a connection's side.
struct Known {
    names: Vec<Name>,
    /// The frame at which it was decided, until the next one of the connection.
    decided_at: Option<u32>,
}

impl Check<'_> {
    fn capture(&mut self, pcap: &str, frames: &[(u32, Vec<u8>)]) {
        let mut known: HashMap<Side, Known> = HashMap::new();
        let mut met_at = BTreeSet::new();
        let met = self.viewer.judge(frames);
        for ((number, frame), met) in frames.iter().zip(met) {
            let place = (pcap.to_owned(), *number);
            let required = self.corpus.required.get(&place);
            let must = self.names_listed(required.map(|required| &required.names));
            let may = self.names_listed(self.corpus.allowed.get(&place));
            let side = Side::of(frame);
            let follows = side.as_ref().and_then(|side| known.get_mut(side));
            let may_follow = |name| follows.as_ref().is_some_and(|known| met.is_stopped && known.names.contains(name));
            if !met.found.iter().all(|name| may.contains(name) || may_follow(name)) {
                self.wrong.push(format!("{pcap} frame {number}: {:?} is found, not {may:?}", met.found));
            }
            if met.is_stopped || !met.found.is_empty() {
                met_at.insert(*number);
            }
            let is_met = required.is_some_and(|required| required.at.iter().any(|at| met_at.contains(at)));
            match (must.is_empty(), is_met) {
                (false, true) if met.is_stopped && met.found.is_empty() => self.totals.stopped += 1,
                (false, true) => self.totals.decided += 1,
                (false, false) if is_listed(PASSED, pcap, *number) => self.totals.passed += 1,
                (false, false) => self.wrong.push(format!("{pcap} frame {number} passes with {must:?}")),
                (true, _) if !met.is_stopped => {}
                (true, _) if !may.is_empty() => self.totals.mdns += 1,
                (true, _) if follows.is_some() && !self.corpus.allowed.contains_key(&place) => self.totals.later += 1,
                (true, _) => self.wrong.push(format!("{pcap} frame {number} is stopped")),
            }
            if let Some(at) = follows.and_then(|known| known.decided_at.take()) {
                self.totals.followed += 1;
                if !met.is_stopped {
                    self.wrong
                        .push(format!("{pcap} frame {at} is decided, but the connection's next, {number}, passes"));
                }
            }
            if let (true, Some(side)) = (met_at.contains(number), side) {
                let names = if may.is_empty() { met.found } else { may };
                let decided_at = (!met.is_stopped).then_some(*number);
                let known = known.entry(side).or_insert(Known { names: Vec::new(), decided_at });
                known.names.extend(names);
                known.decided_at = decided_at;
            }
        }
    }

    fn names_listed(&self, names: Option<&BTreeSet<Name>>) -> Vec<Name> {
        names.into_iter().flatten().filter(|name| self.listed.contains(name)).cloned().collect()
    }
}

fn is_listed(table: &[(&str, &[u32], &str)], pcap: &str, number: u32) -> bool {
    table.iter().any(|(file, frames, _why)| *file == pcap && frames.contains(&number))
}
