//! What the demonstration's clients do.

use std::net::IpAddr;

use anyhow::Result;
use cordon_tests::lab::{Family, Lab, Source, address};

/// One client asking for one name.
pub struct Probe {
    client: Client,
    family: Family,
    source: Source,
    pub name: &'static str,
    /// What the orders make of it; none for what they leave alone.
    pub stopped: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Client {
    /// dig, with the query type.
    Dig(&'static str),
    Curl,
    Openssl,
    /// The lab's own, in Rust.
    Quic,
}

use Client::{Curl, Dig, Openssl, Quic};
use Family::{V4, V6};

/// Those of the table, in its order.
pub fn all() -> Vec<Probe> {
    let [subscriber, other] = [address::CLIENT, address::OTHER_CLIENT];
    let rows = [
        (subscriber, V4, Dig("A"), "motogpstream.me", Some("NXDOMAIN")),
        (subscriber, V6, Dig("AAAA"), "live.motogpstream.me", Some("NXDOMAIN")),
        (subscriber, V4, Dig("A"), "notmotogpstream.me", None),
        (subscriber, V6, Dig("AAAA"), "motogp.example", None),
        (other, V4, Dig("A"), "motogpstream.me", None),
        (other, V6, Dig("AAAA"), "livetv821.me", None),
        (subscriber, V4, Curl, "tarjetarojaenvivo.lat", Some("connection reset")),
        (subscriber, V6, Curl, "www.livetv821.me", Some("connection reset")),
        (subscriber, V4, Openssl, "motogpstream.me", Some("connection reset")),
        (subscriber, V6, Openssl, "tarjetarojaenvivo.lat", Some("connection reset")),
        (subscriber, V4, Curl, "tarjetarojaenvivo.lat.example", None),
        (subscriber, V6, Openssl, "motogp.example", None),
        (other, V4, Curl, "tarjetarojaenvivo.lat", None),
        (other, V6, Curl, "www.livetv821.me", None),
        (subscriber, V4, Quic, "livetv821.me", Some("no page")),
        (subscriber, V6, Quic, "www.motogpstream.me", Some("no page")),
        (subscriber, V4, Quic, "notmotogpstream.me", None),
        (subscriber, V6, Quic, "livetv821.me.example", None),
        (other, V4, Quic, "livetv821.me", None),
        (other, V6, Quic, "www.motogpstream.me", None),
    ];
    rows.map(|(source, family, client, name, stopped)| Probe { client, family, source, name, stopped }).into()
}

impl Probe {
    /// The client's address.
    pub fn address(&self) -> &'static str {
        self.family.of(self.source)
    }

    /// The protocol, in the words of orders.
    pub fn protocol(&self) -> &'static str {
        match self.client {
            Dig(_) => "dns",
            Curl | Openssl => "tls",
            Quic => "quic",
        }
    }

    /// The protocol and who speaks it.
    pub fn kind(&self) -> String {
        match self.client {
            Dig(kind) => format!("DNS {kind}, dig"),
            Curl => "TLS, curl".to_owned(),
            Openssl => "TLS, openssl".to_owned(),
            Quic => "QUIC, quinn".to_owned(),
        }
    }

    /// Whether it got what it asked for.
    pub fn is_served(&self, outcome: &str) -> bool {
        match self.client {
            Dig(_) => outcome.parse::<IpAddr>().is_ok(),
            Curl | Quic => outcome == "page fetched",
            Openssl => outcome == "handshake done",
        }
    }

    /// Asks, and tells what came of it.
    pub fn ask(&self, lab: &Lab) -> Result<String> {
        Ok(match self.client {
            Dig(kind) => lab.dig(self.family, self.source, self.name, kind, &[])?.to_string(),
            Curl => lab.curl(self.family, self.source, self.name)?.to_string(),
            Openssl => lab.handshake(self.family, self.name)?.to_string(),
            Quic => {
                let asked = lab.ask_quic(self.family, self.source, &[self.name])?;
                if asked.iter().all(|asked| asked.page.is_some()) { "page fetched" } else { "no page" }.to_owned()
            }
        })
    }
}
