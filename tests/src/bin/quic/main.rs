//! The lab's QUIC server and client.
//!
//! `serve` speaks HTTP/3 (for browsers) and a protocol of the lab's own, `lab`: the client sends bytes on a stream,
//! the server tells how many came and for which name it was asked. Both print a line of JSON for each thing that
//! happens.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use clap::Parser;

mod ask;
mod flood;
mod serve;

/// The protocol of the lab's own (ALPN).
const LAB: &[u8] = b"lab";
/// HTTP/3 (RFC 9114, section 3.1).
const H3: &[u8] = b"h3";

/// The lab's QUIC server and client.
#[derive(Parser)]
enum Arguments {
    /// Answers until it is killed.
    Serve {
        /// The certificate, PEM.
        certificate: std::path::PathBuf,
        /// Its key, PEM.
        key: std::path::PathBuf,
        /// Where to answer.
        #[arg(required = true)]
        addresses: Vec<SocketAddr>,
    },
    /// Connects to each name in turn, all from one socket, and asks for its page.
    Ask {
        /// The address that packets come from.
        from: IpAddr,
        /// The server.
        to: SocketAddr,
        /// The names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Sends forged Initials.
    Flood {
        /// The address that they come from.
        from: IpAddr,
        /// Where they go.
        to: SocketAddr,
        /// For how long.
        seconds: u64,
    },
    /// Connects once, and then again with 0-RTT, sending as much early data as the congestion window lets it.
    Resume {
        /// The address that the first connection comes from.
        first: IpAddr,
        /// The address that the second connection comes from.
        from: IpAddr,
        /// The server.
        to: SocketAddr,
        /// The name.
        name: String,
        /// Bytes of early data.
        #[arg(long, default_value_t = 100_000)]
        bytes: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Serve { certificate, key, addresses } => serve::run(&certificate, &key, &addresses).await,
        Arguments::Ask { from, to, names } => ask::ask(from, to, &names).await,
        Arguments::Flood { from, to, seconds } => flood::run(from, to, Duration::from_secs(seconds)),
        Arguments::Resume { first, from, to, name, bytes } => ask::resume([first, from], to, &name, bytes).await,
    }
}
