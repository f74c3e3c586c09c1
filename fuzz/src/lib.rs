//! What each fuzz target does with its octets: it panics where a property does not hold. The targets run it on what
//! libFuzzer makes up, the tests on fixtures.

pub mod answer;
pub mod deferred;
pub mod dns;
pub mod flow;
pub mod frame;
pub mod quic;
pub mod tls;
pub mod tunnel;

use filter_common::{
    bytes::Slice,
    frame::Payload,
    layout::{FilterKey, HashKey, KEY_WORDS, NameTag},
    walk::{STEPS, Step},
};

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("frame", frame::run),
    ("dns", dns::run),
    ("tls", tls::run),
    ("answer", answer::run),
    ("flow", flow::run),
    ("quic", quic::run),
    ("tunnel", tunnel::run),
    ("deferred", deferred::run),
];

/// A payload behind headers, so that a reader may look back.
struct Framed(Vec<u8>);

/// Octets of Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;

impl Framed {
    fn new(payload: &[u8]) -> Self {
        Self([&[0xee; HEADERS][..], payload].concat())
    }

    fn bytes(&self) -> Slice<'_> {
        Slice(&self.0)
    }

    fn payload(&self) -> Payload {
        Payload { start: HEADERS as u32, end: self.0.len() as u32 }
    }

    /// Octets that a parser found: they lie in the payload.
    fn octets(&self, found: Payload) -> &[u8] {
        assert!(found.start >= HEADERS as u32, "{found:?} begins before the payload");
        &self.0[found.start as usize..found.end as usize]
    }
}

/// The keys of a name's suffixes, shortest first; `None` if it has an empty label.
fn suffixes(mut step: impl FnMut() -> Option<Step>) -> Option<Vec<NameTag>> {
    let mut keys = Vec::new();
    for _ in 0..STEPS {
        match step().expect("the walk stays in the frame") {
            Step::More => {}
            Step::Empty => return None,
            Step::Label { key, last } => {
                keys.push(key);
                if last {
                    return Some(keys);
                }
            }
        }
    }
    panic!("a name of 255 octets takes no more than {STEPS} steps");
}

thread_local! {
    static KEY: Box<HashKey> = {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut terms = [[0; 8]; KEY_WORDS];
        terms.iter_mut().flatten().for_each(|term| *term = next());
        let mut start = [[0; 4]; KEY_WORDS];
        start.iter_mut().flatten().for_each(|term| *term = next());
        let filter = FilterKey { words: [(); 8].map(|()| next()), label: next() }.made_odd();
        Box::new(HashKey { terms, start, filter })
    };
}
