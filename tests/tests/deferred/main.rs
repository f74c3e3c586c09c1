//! The deferred tier's engine, on the packets of independent implementations. Needs no root.

mod browsers;
mod hostile;
mod quic;
mod tcp;

use cordon_tests::packet::{Hello, quic::Client};
use filter_common::layout::FlowKey;
use filter_user::{
    deferred::{Copied, Decision, Limits, quic::Connections},
    name::Name,
};

const NAME: &str = "www.example.com";

/// Connections, with what is the same for all packets of a case.
struct Engine {
    connections: Connections,
    connection: u32,
    client: [u8; 16],
    time: u64,
}

impl Engine {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self { connections: Connections::new(limits), connection: 0, client: [0; 16], time: 0 }
    }

    fn read(&mut self, payload: &[u8]) -> Decision {
        self.connections.read(&Copied {
            time: self.time,
            connection: FlowKey { lanes: [self.connection; 4] },
            client: self.client,
            payload,
        })
    }
}

fn client() -> Client {
    Client::new(&[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08], &[0xa1; 8])
}

fn named(name: &str) -> Decision {
    Decision::Name(Name::parse(name).unwrap())
}

/// A handshake of some 1.8 kB, its name in the first or in the second datagram.
fn long_hello(name_first: bool) -> Vec<u8> {
    Hello::post_quantum(NAME, name_first).handshake()
}
