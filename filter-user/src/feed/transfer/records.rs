//! Records of a zone as they are kept and compared.
//!
//! An owner is kept below the zone's apex: its labels from there down, in lower case, each behind its length. So the
//! owner begins with each name that it lies below, and whatever lies below a name follows it in the order of the octets.
//! The apex itself is the empty owner. Names in record data are kept whole and in lower case (RFC 4034 6.2), since the
//! same name may be compressed against another spelling each time it is sent.

use domain::{
    base::{Message, ParsedName, ParsedRecord, Record as WireRecord, ToName, iana::Class, rdata::ComposeRecordData},
    rdata::{AllRecordData, Soa as WireSoa},
};

use ring::digest;

use super::Apex;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record<'a> {
    /// See the module.
    pub owner: &'a [u8],
    /// Its type (RFC 1035 3.2.2).
    pub rtype: u16,
    /// Its data.
    pub data: &'a [u8],
}

/// Records one after the other, in one piece of memory: a zone has millions.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records {
    octets: Vec<u8>,
    count: usize,
}

/// What a zone's SOA record says (RFC 1035 3.3.13), times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa {
    /// The version.
    pub serial: u32,
    /// From one look at the primary to the next.
    pub refresh: u32,
    /// The same, after a failure.
    pub retry: u32,
    /// From the last look that succeeded to where the zone holds no more.
    pub expire: u32,
}

impl Records {
    pub(super) fn push(&mut self, record: Record<'_>) {
        let Record { owner, rtype, data } = record;
        // Neither is longer than a DNS message.
        for (part, length) in [(owner, owner.len() as u16), (data, data.len() as u16)] {
            self.octets.extend_from_slice(&length.to_be_bytes());
            self.octets.extend_from_slice(part);
        }
        self.octets.extend_from_slice(&rtype.to_be_bytes());
        self.count += 1;
    }

    /// Takes them into a digest.
    pub(super) fn digest(&self, digest: &mut digest::Context) {
        digest.update(&self.octets);
    }

    /// What a record takes here.
    pub(super) fn octets(record: &Record<'_>) -> u64 {
        (OVERHEAD + record.owner.len() + record.data.len()) as u64
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records, as they were put in.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &self.octets[..];
        std::iter::from_fn(move || {
            let owner = taken(&mut rest)?;
            let data = taken(&mut rest)?;
            let (rtype, left) = rest.split_first_chunk()?;
            rest = left;
            Some(Record { owner, rtype: u16::from_be_bytes(*rtype), data })
        })
    }
}

fn taken<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, left) = rest.split_first_chunk()?;
    let (part, left) = left.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = left;
    Some(part)
}

impl std::fmt::Debug for Records {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

/// A record of a message, before it is told from an SOA.
pub(super) enum Parsed {
    /// The zone's SOA, and its data as kept.
    Soa(Soa, Vec<u8>),
    /// Any other: owner, type and data as kept.
    Other(Vec<u8>, u16, Vec<u8>),
}

/// The answer section of a message.
///
/// # Errors
/// It cannot be read, or holds what the zone cannot hold.
pub(super) fn answer<'m>(
    message: &'m Message<Vec<u8>>,
    apex: &'m Apex,
) -> Result<impl Iterator<Item = Result<Parsed, String>> + 'm, String> {
    let section = message.answer().map_err(|error| format!("a message of it cannot be read: {error}"))?;
    Ok(section.map(|record| {
        let record = record.map_err(|error| format!("a record of it cannot be read: {error}"))?;
        parsed(&record, apex)
    }))
}

fn parsed(record: &ParsedRecord<'_, Vec<u8>>, apex: &Apex) -> Result<Parsed, String> {
    let name = record.owner();
    if record.class() != Class::IN {
        return Err(format!("a record of {name} has the class {}", record.class()));
    }
    let owner = owner(&name, apex).ok_or_else(|| format!("a record of {name}, which is not in the zone"))?;
    let whole: WireRecord<_, AllRecordData<_, ParsedName<_>>> = record
        .to_any_record()
        .map_err(|error| format!("the {} record of {name} cannot be read: {error}", record.rtype()))?;
    let mut data = Vec::with_capacity(record.rdlen().into());
    let Ok(()) = whole.data().compose_canonical_rdata(&mut data);
    match whole.data() {
        AllRecordData::Soa(soa) if owner.is_empty() => Ok(Parsed::Soa(Soa::of(soa), data)),
        AllRecordData::Soa(_) => Err(format!("an SOA record of {name}, which is not the zone's apex")),
        _ => Ok(Parsed::Other(owner, record.rtype().to_int(), data)),
    }
}

impl Soa {
    fn of<N>(soa: &WireSoa<N>) -> Self {
        Self {
            serial: soa.serial().into_int(),
            refresh: soa.refresh().as_secs(),
            retry: soa.retry().as_secs(),
            expire: soa.expire().as_secs(),
        }
    }
}

/// The form in which an owner is kept; none if it is not in the zone.
pub(super) fn owner(name: &impl ToName, apex: &Apex) -> Option<Vec<u8>> {
    if !name.ends_with(apex) {
        return None;
    }
    let labels: Vec<_> = name.iter_labels().collect();
    let below = labels.len().checked_sub(apex.label_count())?;
    let mut owner = Vec::with_capacity(name.compose_len().into());
    for label in labels.iter().take(below).rev() {
        owner.push(label.len() as u8);
        owner.extend(label.iter().map(|octet| octet.to_ascii_lowercase()));
    }
    Some(owner)
}

/// What a record takes beside its owner and its data: their lengths, and its type.
const OVERHEAD: usize = 6;

#[cfg(test)]
mod tests {
    use domain::base::Name;

    use super::*;

    fn kept(name: &str) -> Option<Vec<u8>> {
        let name: Name<Vec<u8>> = name.parse().unwrap();
        owner(&name, &"RPZ.example".parse().unwrap())
    }

    #[test]
    fn an_owner_is_kept_from_the_apex_down() {
        assert_eq!(kept("rpz.example").unwrap(), b"");
        assert_eq!(kept("WWW.bad.test.RPZ.EXAMPLE").unwrap(), b"\x04test\x03bad\x03www");
        assert_eq!(kept("\\000a\\.B.x.rpz.example").unwrap(), b"\x01x\x04\0a.b");
        for outside in ["example", "xrpz.example", "rpz.example.test", "."] {
            assert_eq!(kept(outside), None, "{outside}");
        }
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut records = Records::default();
        let all = [
            Record { owner: b"", rtype: 2, data: b"\0" },
            Record { owner: b"a\0b\0", rtype: 5, data: b"" },
            Record { owner: b"a\0", rtype: 16, data: &[7; 65_000] },
        ];
        all.iter().for_each(|record| records.push(*record));
        assert_eq!(records.len(), 3);
        assert_eq!(all.iter().map(Records::octets).sum::<u64>(), records.octets.len() as u64);
        assert!(records.iter().eq(all));
    }
}
