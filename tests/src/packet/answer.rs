//! DNS answers, read by the `domain` library: an implementation that shares nothing with the one under test.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use domain::{
    base::{Message, ParsedRecord, RecordSection, iana::Class, name::ParsedName, opt},
    rdata::{A, Aaaa, Soa},
};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// ID.
    pub id: u16,
    /// RCODE.
    pub rcode: u8,
    /// The flags that are set, in the order of the header: "qr aa tc rd ra ad cd".
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
        let (_, answer, authority, additional) = message.sections()?;
        let addresses = answer.map(|record| address(&record?)).collect::<Result<_>>()?;
        let soa = only(authority)?.map(|record| soa(&record)).transpose()?;
        let opt = only(additional)?.map(|record| opt(&record)).transpose()?;
        let mut rest = message.additional()?;
        rest.by_ref().for_each(drop);
        ensure!(rest.pos() == octets.len(), "octets after the last record");

        Ok(Self {
            id: header.id(),
            rcode: header.rcode().to_int(),
            flags: header.flags().to_string().to_ascii_lowercase(),
            name: question.qname().to_string(),
            qtype: question.qtype().to_int(),
            addresses,
            soa,
            opt,
            size: octets.len(),
        })
    }
}

/// The one record of a section that holds no more.
fn only<'a, 'o>(mut section: RecordSection<'a, &'o [u8]>) -> Result<Option<ParsedRecord<'a, &'o [u8]>>> {
    let first = section.next().transpose()?;
    ensure!(section.next().is_none(), "more records than there should be");
    Ok(first)
}

fn address(record: &ParsedRecord<'_, &[u8]>) -> Result<(String, u32, IpAddr)> {
    ensure!(record.class() == Class::IN, "class of an address");
    let address = if let Some(record) = record.to_record::<A>()? {
        IpAddr::from(record.data().addr())
    } else {
        IpAddr::from(record.to_record::<Aaaa>()?.context("neither A nor AAAA")?.data().addr())
    };
    Ok((record.owner().to_string(), record.ttl().as_secs(), address))
}

fn soa(record: &ParsedRecord<'_, &[u8]>) -> Result<Authority> {
    ensure!(record.class() == Class::IN, "class of the SOA record");
    let soa = record.to_record::<Soa<ParsedName<&[u8]>>>()?.context("not SOA")?;
    Ok(Authority {
        owner: record.owner().to_string(),
        ttl: record.ttl().as_secs(),
        minimum: soa.data().minimum().as_secs(),
    })
}

fn opt(record: &ParsedRecord<'_, &[u8]>) -> Result<Options> {
    let record = record.to_record::<opt::Opt<&[u8]>>()?.context("not OPT")?;
    let record = opt::OptRecord::from_record(record);
    ensure!(record.version() == 0, "EDNS version");
    let mut options = Options { size: record.udp_payload_size(), dnssec_ok: record.dnssec_ok(), ..Options::default() };
    for option in record.opt().iter::<opt::AllOptData<_, domain::base::Name<_>>>() {
        match option? {
            opt::AllOptData::ExtendedError(error) if options.ede.is_none() => {
                let text = std::str::from_utf8(error.text_slice().unwrap_or_default())?;
                options.ede = Some((error.code().to_int(), text.to_owned()));
            }
            opt::AllOptData::Cookie(cookie) if options.cookie.is_none() => {
                let mut octets = cookie.client().into_octets().to_vec();
                octets.extend(cookie.server().map(|server| server.as_ref().to_vec()).unwrap_or_default());
                options.cookie = Some(octets);
            }
            _ => bail!("an option that should not be there"),
        }
    }
    Ok(options)
}
