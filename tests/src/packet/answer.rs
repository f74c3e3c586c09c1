//! DNS answers, read by the `domain` library: an implementation that shares nothing with the one under test.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use domain::{
    base::{
        Message, ParsedName, ParsedRecord,
        iana::Class,
        opt::{Opt, UnknownOptData},
    },
    rdata::{A, Aaaa, Soa},
};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// ID.
    pub id: u16,
    /// RCODE.
    pub rcode: u8,
    /// The flags that are set, in the order of the header: "qr aa tc rd ra z ad cd".
    pub flags: String,
    /// The question's name as text.
    pub name: String,
    /// QTYPE.
    pub qtype: u16,
    /// Answer section: owner, TTL, address.
    pub addresses: Vec<(String, u32, IpAddr)>,
    /// The SOA record of the authority section.
    pub soa: Option<Authority>,
    /// The OPT record.
    pub opt: Option<Options>,
    /// Octets of the message.
    pub size: usize,
}

/// An SOA record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Owner.
    pub owner: String,
    /// TTL.
    pub ttl: u32,
    /// MINIMUM.
    pub minimum: u32,
}

/// An OPT record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// UDP payload size.
    pub size: u16,
    /// DO.
    pub dnssec_ok: bool,
    /// EDE: info-code and text (RFC 8914).
    pub ede: Option<(u16, String)>,
    /// COOKIE: all its octets (RFC 7873).
    pub cookie: Option<Vec<u8>>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// If it is not a whole answer to one question of class IN, or has more in it than an [`Answer`] can say.
    pub fn parse(octets: &[u8]) -> Result<Self> {
        let message = Message::from_octets(octets)?;
        let header = message.header();
        let question = message.sole_question()?;
        ensure!(question.qclass() == Class::IN, "class of the question");
        let [questions, answer, authority, additional] = message.sections()?.into_sections();
        ensure!(questions == 1, "QDCOUNT");

        let addresses = answer.iter().map(address).collect::<Result<_>>()?;
        ensure!(authority.len() < 2 && additional.len() < 2, "more records than there should be");
        let soa = authority.first().map(soa).transpose()?;
        let opt = additional.first().map(opt).transpose()?;
        // The records end where the message ends.
        let last = additional.last().or(authority.last()).or(answer.last());
        let end = last.map_or(12 + question.qname().compose_len() as usize + 4, |record| record.data_end());
        ensure!(end == octets.len(), "octets after the last record");

        Ok(Self {
            id: header.id(),
            rcode: header.rcode().to_int(),
            flags: flags(header.flags()),
            name: question.qname().to_string(),
            qtype: question.qtype().to_int(),
            addresses,
            soa,
            opt,
            size: octets.len(),
        })
    }
}
