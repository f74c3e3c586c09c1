//! Which labels are out of this filter's reach, and why. Hellos in a proxy's tunnel (HTTP CONNECT, SOCKS) are within,
//! where TLS is read on the proxy's port.

use std::collections::BTreeSet;

use filter_user::name::Name;

use super::Label;

/// Whether a label's message is read, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It is.
    Within,
    /// In a tunnel over UDP: VXLAN (RFC 7348), Geneve (RFC 8926), GTP-U (3GPP TS 29.281).
    UdpTunnel,
    /// PPP in GRE (RFC 2637).
    PppInGre,
    /// Quoted in an ICMP error.
    IcmpQuote,
    /// A QUIC version that is neither 1 nor 2.
    QuicVersion,
    /// No name at all.
    Nameless,
    /// A name that is no host name, which no order lists.
    NoHostName,
    /// Several questions (RFC 9619: QDCOUNT is 1).
    Questions,
}

impl Reach {
    /// Of a label whose names could be listed.
    pub fn of(label: &Label, names: &BTreeSet<Name>) -> Self {
        let around = |what: &str| label.encap.as_deref().is_some_and(|encap| encap.split('+').any(|part| part == what));
        if around("icmp-quoted") {
            Self::IcmpQuote
        } else if around("vxlan") || around("geneve") || around("gtp") {
            Self::UdpTunnel
        } else if around("gre") && around("ppp") {
            Self::PppInGre
        } else if label.version.iter().any(|version| !["0x00000001", "0x6b3343cf"].contains(&&version[..])) {
            Self::QuicVersion
        } else if label.names.is_empty() {
            Self::Nameless
        } else if names.is_empty() {
            Self::NoHostName
        } else if label.qdcount.is_some() {
            Self::Questions
        } else {
            Self::Within
        }
    }
}
