//! The labelled captures of public test suites: what tshark read in them, which of its labels are in this filter's
//! reach, and what the filter together with its deferred tier makes of every frame.

pub mod reach;
pub mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use filter_user::name::Name;
use serde::Deserialize;

use self::reach::Reach;
use crate::skipped;

/// Ports that DNS is read on, over UDP and TCP: those of all labels, but for one datagram to 443 that is no DNS.
pub const DNS_PORTS: [u16; 3] = [53, 5353, 32021];
/// Ports that QUIC is read on: those of all labels.
pub const QUIC_PORTS: [u16; 2] = [443, 4433];

/// One line of labels.jsonl or stateless.jsonl.
#[derive(Debug, Deserialize)]
pub struct Label {
    /// Capture, as a path below `pcaps`.
    pub pcap: String,
    /// Number of the frame that completes the message, from 1.
    pub frame: u32,
    /// `dns-udp`, `dns-tcp`, `tls`, `quic` and others.
    pub proto: String,
    /// Names as tshark prints them.
    pub names: Vec<String>,
    /// `query` from a client.
    pub dir: Option<String>,
    /// What lies around the message: `none`, or a list with `+`.
    pub encap: Option<String>,
    /// Destination port.
    pub dport: Option<u16>,
    /// The message came in more than one frame.
    #[serde(default)]
    pub split: bool,
    /// Then these are they.
    #[serde(default)]
    pub frames: Vec<u32>,
    /// Per name, the frames that show it whole. QUIC shows none.
    #[serde(default)]
    pub name_at: Vec<Vec<u32>>,
    /// QUIC: versions.
    #[serde(default)]
    pub version: Vec<String>,
    /// The names are tshark's own words.
    #[serde(default)]
    pub bad_name: bool,
    /// Questions, where there is more than one.
    #[serde(default)]
    pub qdcount: Option<Vec<u32>>,
}

impl Label {
    /// A query or ClientHello of a protocol that is read.
    fn is_of_a_client(&self) -> bool {
        self.dir.as_deref() == Some("query") && matches!(&self.proto[..], "dns-udp" | "dns-tcp" | "tls" | "quic")
    }

    /// mDNS (RFC 6762) on a port that DNS is read on.
    fn is_mdns(&self) -> bool {
        let is_read = self.dport.is_some_and(|port| DNS_PORTS.contains(&port));
        self.dir.as_deref() == Some("query") && self.proto == "mdns" && is_read
    }

    /// The frames of which one at least is to be stopped or decided: that which completes the name. Where QUIC's
    /// encryption hides which one that is, it is any up to the one that completes the ClientHello.
    fn completed_at(&self) -> Vec<u32> {
        if self.proto == "quic" && self.split {
            return self.frames.clone();
        }
        vec![self.name_at.iter().flatten().min().copied().unwrap_or(self.frame)]
    }

    /// The names that an order could list.
    pub fn names(&self) -> BTreeSet<Name> {
        if self.bad_name {
            return BTreeSet::new();
        }
        self.names.iter().filter_map(|name| Name::parse(name).ok()).collect()
    }
}

/// A frame of a capture.
pub type Place = (String, u32);

/// A message that must be stopped, or be decided, if one of its names is listed.
pub struct Required {
    /// Its names.
    pub names: BTreeSet<Name>,
    /// At one of these frames.
    pub at: Vec<u32>,
}

/// All labels of clients.
pub struct Corpus {
    /// Messages by the last frame at which one may be stopped.
    pub required: HashMap<Place, Required>,
    /// Names of frames that may be.
    pub allowed: HashMap<Place, BTreeSet<Name>>,
    /// All names.
    pub names: BTreeSet<Name>,
    /// Labels by protocol and reach.
    pub reaches: BTreeMap<(String, Reach), usize>,
}

/// The corpus, unless it is not there: then the test that asks is skipped.
pub fn corpus() -> Option<&'static Corpus> {
    static CORPUS: LazyLock<Option<Corpus>> = LazyLock::new(Corpus::read);
    if CORPUS.is_none() {
        skipped(&format!("{} is absent: the labelled captures are not judged", root().display()));
    }
    CORPUS.as_ref()
}

impl Corpus {
    fn read() -> Option<Self> {
        let labels = read_labels("labels.jsonl")?;
        let stateless = read_labels("stateless.jsonl")?;
        let mut corpus = Self {
            required: HashMap::new(),
            allowed: HashMap::new(),
            names: BTreeSet::new(),
            reaches: BTreeMap::new(),
        };
        for label in labels.iter().filter(|label| label.is_of_a_client()) {
            let names = label.names();
            let reach = Reach::of(label, &names);
            *corpus.reaches.entry((label.proto.clone(), reach)).or_default() += 1;
            for frame in label.frames.iter().chain([&label.frame]) {
                corpus.allow(label, *frame);
            }
            corpus.names.extend(names.iter().cloned());
            if reach == Reach::Within {
                let at = label.completed_at();
                let last = at.iter().max().copied().unwrap_or(label.frame);
                corpus.required.insert((label.pcap.clone(), last), Required { names, at });
            }
        }
        // What one frame alone shows: segments that were sent again, too, which the stateful view leaves out.
        for label in stateless.iter().filter(|label| label.is_of_a_client()) {
            let names = label.names();
            if Reach::of(label, &names) == Reach::Within && !label.split {
                let place = (label.pcap.clone(), label.frame);
                corpus.required.entry(place).or_insert(Required { names, at: vec![label.frame] });
            }
            corpus.allow(label, label.frame);
        }
        for label in labels.iter().filter(|label| label.is_mdns()) {
            corpus.allow(label, label.frame);
        }
        Some(corpus)
    }

    fn allow(&mut self, label: &Label, frame: u32) {
        self.allowed.entry((label.pcap.clone(), frame)).or_default().extend(label.names());
    }

    /// The names that a choice lists.
    pub fn listed(&self, choice: fn(&Name) -> bool) -> BTreeSet<&Name> {
        self.names.iter().filter(|name| choice(name)).collect()
    }
}

/// Half of the names, chosen by FNV-1a, so that the choice has nothing to do with them.
pub fn half(name: &Name) -> bool {
    let fold = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, fold) >> 32 & 1 == 1
}

/// `CORDON_CORPUS`, or beside the checkout.
pub fn root() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    std::env::var_os("CORDON_CORPUS").map_or_else(beside, PathBuf::from)
}

/// Of so many captures one is judged (`CORDON_CORPUS_SAMPLE`): each, unless the machine is a slow one.
pub fn sample() -> usize {
    let Some(sample) = std::env::var_os("CORDON_CORPUS_SAMPLE") else { return 1 };
    sample.to_str().and_then(|sample| sample.parse().ok()).expect("CORDON_CORPUS_SAMPLE is a number")
}

/// The captures of a folder, or the sample of them.
pub fn captures(folder: &str) -> impl Iterator<Item = PathBuf> {
    files(&root().join(folder)).into_iter().step_by(sample())
}

/// A capture as labels name it.
pub fn label_of(capture: &Path) -> String {
    capture.strip_prefix(root().join("pcaps")).expect("a capture with labels").to_str().expect("UTF-8").to_owned()
}

fn read_labels(file: &str) -> Option<Vec<Label>> {
    let text = fs::read_to_string(root().join(file)).ok()?;
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}: {error}: {line}"));
    Some(text.lines().map(read).collect())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
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
pub fn frames(path: &Path) -> Vec<(u32, Vec<u8>)> {
    let octets = fs::read(path).expect("a capture");
    let mut rest = octets.get(24..).expect("a capture's header");
    let mut frames = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(head[8..12].try_into().expect("four octets")) as usize;
        let (frame, tail) = tail.split_at_checked(len).expect("a whole frame");
        frames.push((frames.len() as u32 + 1, frame.to_vec()));
        rest = tail;
    }
    frames
}
