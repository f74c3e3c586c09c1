//! The labelled captures of public test suites: what tshark reads a name from is stopped at that frame, and nothing
//! else is. The kernel and the host come to the same reason on every frame ([`Filter::run`] compares them).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    skipped,
};
use filter_common::verdict::{Action, Reason, Verdict};
use filter_user::{kernel::Capacity, name::Name};
use serde::Deserialize;

#[test]
fn every_name_listed_stops_every_labelled_frame_and_no_other() {
    let Some(corpus) = corpus() else { return };
    corpus.check(|_| true);
}

#[test]
fn half_of_the_names_listed_stops_exactly_their_frames() {
    let Some(corpus) = corpus() else { return };
    corpus.check(half);
}

#[test]
fn no_name_listed_stops_nothing() {
    let Some(corpus) = corpus() else { return };
    corpus.check(|_| false);
}

/// With the names of all other captures listed.
#[test]
fn captures_without_names_stop_nothing() {
    let Some(corpus) = corpus() else { return };
    let filter = corpus.filter(|_| true);
    let mut judged = 0;
    for path in captures("negatives") {
        judged += 1;
        for (number, frame) in frames(&path) {
            let reason = judge(&filter, &frame);
            assert_eq!(reason.verdict(), Verdict::Pass, "{} frame {number}: {reason:?}", path.display());
        }
    }
    assert_eq!(judged, 328_usize.div_ceil(sample()));
}

/// The labels that are out of this filter's reach, by reason, with their number.
const OUT_OF_REACH: &[(&str, usize)] = &[
    ("in a tunnel, a proxy or a quotation", 34),
    ("malformed", 2),
    ("not a host name, so not to be listed", 27),
    ("over several segments", 2),
    ("several questions", 4),
    ("without a name", 108),
];

/// What is read through, as the labels call it. Out of reach are VXLAN, Geneve, GTP, ERSPAN, PPP and 802.11 in GRE, what
/// ICMP quotes, and proxies.
const READ_THROUGH: &[&str] = &["none", "vlan", "qinq", "vlan+vlan", "gre", "pppoe+ppp", "qinq+pppoe+ppp"];

/// Frames that meet something else than their label says, and why that is right.
const EXPLAINED: &[(&str, &[u32], Reason, &str)] = &[
    ("arkime/tests/pcap/dns-update.pcap", &[1], Reason::DnsNotQuery, "opcode UPDATE"),
    ("suricata-verify/tests/dns/dns-invalid-opcode/input.pcap", &[1], Reason::DnsNotQuery, "unassigned opcode"),
    ("suricata-verify/tests/dns-opcode/dns-notify.pcap", &[1], Reason::DnsNotQuery, "opcode NOTIFY"),
    ("zeek/testing/btest/Traces/dns/dns_notify2.pcap", &[2], Reason::DnsNotQuery, "opcode NOTIFY"),
    ("zeek/testing/btest/Traces/dns/dynamic-update.pcap", &[1, 3], Reason::DnsNotQuery, "opcode UPDATE"),
    (
        "tcpdump/tests/ipv4_invalid_total_length.pcap",
        &[1],
        Reason::FrameMalformed,
        "longer than the frame: no host takes it",
    ),
    (
        "tcpdump/tests/ipv6_invalid_length_2.pcap",
        &[1],
        Reason::FrameMalformed,
        "longer than the frame: no host takes it",
    ),
    (
        "ipfixprobe/tests/functional/inputs/tls.pcap",
        &[100, 102, 103, 104, 108, 112, 140, 146, 147, 148, 149, 150, 161],
        Reason::Dropped,
        "a ClientHello sent again, which tshark does not dissect",
    ),
    (
        "suricata-verify/tests/lua/lua-tlslib-02/input.pcap",
        &[4],
        Reason::Dropped,
        "a ClientHello sent again, which tshark does not dissect",
    ),
];

/// One line of labels.jsonl or stateless.jsonl.
#[derive(Debug, Deserialize)]
struct Label {
    pcap: String,
    frame: u32,
    proto: String,
    names: Vec<String>,
    dir: Option<String>,
    encap: Option<String>,
    #[serde(default)]
    split: bool,
    #[serde(default)]
    trunc: bool,
    #[serde(default)]
    malformed: bool,
    #[serde(default)]
    bad_name: bool,
    #[serde(default)]
    qdcount: Option<Vec<u32>>,
}

struct Corpus {
    /// Frames that must be stopped if one of their names is listed, by capture and number.
    required: HashMap<(String, u32), Vec<Name>>,
    /// Frames that may be.
    allowed: HashMap<(String, u32), BTreeSet<Name>>,
    names: BTreeSet<Name>,
}

static CORPUS: LazyLock<Option<Corpus>> = LazyLock::new(Corpus::read);

fn corpus() -> Option<&'static Corpus> {
    if CORPUS.is_none() {
        skipped(&format!("{} is absent: the labelled captures are not judged", root().display()));
    }
    CORPUS.as_ref()
}

impl Corpus {
    fn read() -> Option<Self> {
        let labels = read_labels("labels.jsonl")?;
        let stateless = read_labels("stateless.jsonl")?;
        let mut corpus = Self { required: HashMap::new(), allowed: HashMap::new(), names: BTreeSet::new() };
        let mut exceptions: BTreeMap<&str, usize> = BTreeMap::new();
        for label in labels.iter().filter(|label| label.is_of_a_client()) {
            let names = label.names();
            corpus.names.extend(names.iter().cloned());
            match label.exception(&names) {
                Some(why) => *exceptions.entry(why).or_default() += 1,
                None => drop(corpus.required.insert((label.pcap.clone(), label.frame), names)),
            }
        }
        for label in labels.iter().chain(&stateless).filter(|label| label.is_of_a_client()) {
            corpus.allowed.entry((label.pcap.clone(), label.frame)).or_default().extend(label.names());
        }
        assert_eq!(exceptions, BTreeMap::from_iter(OUT_OF_REACH.iter().copied()), "labels out of reach");
        Some(corpus)
    }

    /// All names that `listed` chooses, each exactly, in an order that drops.
    fn filter(&self, listed: impl Fn(&Name) -> bool) -> Filter {
        let names: Vec<_> = self.names.iter().filter(|name| listed(name)).map(Name::as_str).collect();
        let order = order("corpus", names.iter().copied()).exact().both(Action::Drop);
        let capacity = Capacity { names: 65_536, ..Setup::default().capacity };
        let setup =
            Setup { tls_ports: (0..=u16::MAX).collect(), dns_ports: vec![53, 32021], capacity, ..Setup::default() };
        let orders = if names.is_empty() { Vec::new() } else { vec![order] };
        Filter::with(setup, &orders)
    }

    fn check(&self, listed: impl Fn(&Name) -> bool) {
        let filter = self.filter(&listed);
        let (mut stopped, mut wrong) = (0, Vec::new());
        for path in captures("pcaps") {
            let pcap = path.strip_prefix(root().join("pcaps")).unwrap().to_str().unwrap().to_owned();
            for (number, frame) in frames(&path) {
                let reason = judge(&filter, &frame);
                let key = (pcap.clone(), number);
                let met = reason == Reason::Dropped;
                assert!(met || reason.verdict() == Verdict::Pass, "{key:?}: {reason:?}");
                let must = self.required.get(&key).is_some_and(|names| names.iter().any(&listed));
                let may = must || self.allowed.get(&key).is_some_and(|names| names.iter().any(&listed));
                if met {
                    stopped += 1;
                }
                if (must && !met || met && !may) && !explained(&pcap, number, reason) {
                    wrong.push(format!("{pcap} frame {number}: {reason:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{} frames:\n{}", wrong.len(), wrong.join("\n"));
        let required = self.required.values().filter(|names| names.iter().any(&listed)).count();
        println!("{stopped} frames stopped, {required} of them labelled in the stateful view");
    }
}

impl Label {
    /// A query or ClientHello that this filter reads: DNS over UDP, TLS over TCP.
    fn is_of_a_client(&self) -> bool {
        self.dir.as_deref() == Some("query") && matches!(self.proto.as_str(), "dns-udp" | "tls")
    }

    /// The names that an order could list.
    fn names(&self) -> Vec<Name> {
        if self.bad_name { Vec::new() } else { self.names.iter().filter_map(|name| Name::parse(name).ok()).collect() }
    }

    /// Why the label's frame need not be stopped.
    fn exception(&self, names: &[Name]) -> Option<&'static str> {
        let encapsulated = self.encap.as_deref().is_some_and(|encap| !READ_THROUGH.contains(&encap));
        if self.split {
            Some("over several segments")
        } else if encapsulated {
            Some("in a tunnel, a proxy or a quotation")
        } else if self.names.is_empty() {
            Some("without a name")
        } else if names.is_empty() {
            Some("not a host name, so not to be listed")
        } else if self.trunc {
            Some("cut off by the capture")
        } else if self.malformed {
            Some("malformed")
        } else if self.qdcount.is_some() {
            Some("several questions")
        } else {
            None
        }
    }
}

fn explained(pcap: &str, number: u32, reason: Reason) -> bool {
    EXPLAINED.iter().any(|(file, frames, met, _why)| *file == pcap && frames.contains(&number) && *met == reason)
}

/// Chosen by FNV-1a, so that the choice has nothing to do with the names.
fn half(name: &Name) -> bool {
    let fold = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, fold) >> 32 & 1 == 1
}

/// The kernel refuses frames without a whole Ethernet header.
fn judge(filter: &Filter, frame: &[u8]) -> Reason {
    if frame.len() < 14 { Reason::FrameMalformed } else { filter.run(frame).reason }
}

/// `CORDON_CORPUS`, or beside the checkout.
fn root() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    std::env::var_os("CORDON_CORPUS").map_or_else(beside, PathBuf::from)
}

/// Of so many captures one is judged (`CORDON_CORPUS_SAMPLE`): each, unless the machine is a slow one.
fn sample() -> usize {
    let Some(sample) = std::env::var_os("CORDON_CORPUS_SAMPLE") else { return 1 };
    sample.to_str().and_then(|sample| sample.parse().ok()).expect("CORDON_CORPUS_SAMPLE is a number")
}

/// The captures of a folder, or the sample of them.
fn captures(folder: &str) -> impl Iterator<Item = PathBuf> {
    files(&root().join(folder)).into_iter().step_by(sample())
}

fn read_labels(file: &str) -> Option<Vec<Label>> {
    let text = fs::read_to_string(root().join(file)).ok()?;
    Some(
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect(),
    )
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Frames of a classic little-endian capture, with their numbers from 1.
fn frames(path: &Path) -> Vec<(u32, Vec<u8>)> {
    let octets = fs::read(path).unwrap();
    let mut rest = octets.get(24..).unwrap();
    let mut frames = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        let (frame, tail) = tail.split_at_checked(len).unwrap();
        frames.push((frames.len() as u32 + 1, frame.to_vec()));
        rest = tail;
    }
    frames
}
