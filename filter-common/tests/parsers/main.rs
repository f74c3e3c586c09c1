//! The parsers, on octets in memory. That the XDP program comes to the same is tested against the kernel, as root.

mod answer;
mod dns;
mod edns;
mod frame;
mod quic;
mod stream;
mod tls;

use filter_common::{bytes::Slice, frame::Payload};

/// A payload with 42 octets of headers in front: Ethernet, IPv4 and UDP, which are not looked at.
struct Framed(Vec<u8>);

impl Framed {
    fn new(payload: &[u8]) -> Self {
        Self([&[0xee; 42][..], payload].concat())
    }

    fn bytes(&self) -> Slice<'_> {
        Slice(&self.0)
    }

    fn payload(&self) -> Payload {
        Payload { start: 42, end: self.0.len() as u32 }
    }
}
