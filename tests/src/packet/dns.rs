//! DNS queries.

/// A query (RFC 1035 4.1).
#[derive(Clone, Debug)]
pub struct Query {
    /// ID.
    pub id: u16,
    /// All flags, OPCODE and RCODE among them.
    pub flags: u16,
    /// QDCOUNT and ANCOUNT.
    pub counts: [u16; 2],
    /// The question's name, label by label.
    pub labels: Vec<Vec<u8>>,
    /// Octets of the question's name, in place of `labels`.
    pub name: Option<Vec<u8>>,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub class: u16,
    /// Records after the question; the first `authority` are of the authority section, the others additional.
    pub records: Vec<Vec<u8>>,
    /// How many of `records` are of the authority section.
    pub authority: u16,
    /// Octets after the last record.
    pub trailing: Vec<u8>,
}

/// QTYPEs.
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Service binding.
    pub const SVCB: u16 = 64;
    /// Service binding for HTTPS.
    pub const HTTPS: u16 = 65;
    /// Everything.
    pub const ANY: u16 = 255;
}

impl Query {
    /// An A query of a stub resolver, with RD and without EDNS, for a name in text with dots.
    pub fn new(name: &str) -> Self {
        Self::labels(name.split('.').filter(|label| !label.is_empty()).map(|label| label.as_bytes().to_vec()))
    }

    /// The same for a name of any labels.
    pub fn labels(labels: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            id: 0x1dea,
            flags: 0x0100,
            counts: [1, 0],
            labels: labels.into_iter().collect(),
            name: None,
            qtype: kind::A,
            class: 1,
            records: Vec::new(),
            authority: 0,
            trailing: Vec::new(),
        }
    }

    /// With another QTYPE.
    pub fn qtype(mut self, qtype: u16) -> Self {
        self.qtype = qtype;
        self
    }

    /// With another QCLASS.
    pub fn class(mut self, class: u16) -> Self {
        self.class = class;
        self
    }

    /// With other flags.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// With other QDCOUNT.
    pub fn questions(mut self, count: u16) -> Self {
        self.counts[0] = count;
        self
    }

    /// With a record more.
    pub fn record(mut self, record: Vec<u8>) -> Self {
        self.records.push(record);
        self
    }

    /// With an OPT record more.
    pub fn edns(self, edns: &Edns) -> Self {
        self.record(edns.build())
    }

    /// With a TSIG record (RFC 8945 4.2), whose MAC nobody checks.
    pub fn tsig(self) -> Self {
        let mut data = name_wire("hmac-sha256");
        data.extend([0, 0, 0x65, 0, 0, 0, 1, 0x2c, 0, 32]);
        data.extend([0x5a; 32]);
        data.extend([0x1d, 0xea, 0, 0, 0, 0]);
        self.record(record(&name_wire("key.example"), 250, 255, 0, &data))
    }

    /// With octets after the last record.
    pub fn trailing(mut self, octets: &[u8]) -> Self {
        self.trailing = octets.to_vec();
        self
    }

    /// With other octets for the question's name.
    pub fn raw_name(mut self, octets: &[u8]) -> Self {
        self.name = Some(octets.to_vec());
        self
    }

    /// The question alone: name, type and class.
    pub fn question(&self) -> Vec<u8> {
        let mut octets = self.name.clone().unwrap_or_else(|| labels_wire(&self.labels));
        octets.extend(self.qtype.to_be_bytes());
        octets.extend(self.class.to_be_bytes());
        octets
    }

    /// The message.
    pub fn build(&self) -> Vec<u8> {
        let [questions, answers] = self.counts;
        let additional = (self.records.len() as u16).saturating_sub(self.authority);
        let mut message = Vec::new();
        for field in [self.id, self.flags, questions, answers, self.authority, additional] {
            message.extend(field.to_be_bytes());
        }
        message.extend(self.question());
        message.extend(self.records.concat());
        message.extend(&self.trailing);
        message
    }
}

/// An OPT record (RFC 6891 6.1).
#[derive(Clone, Debug)]
pub struct Edns {
    /// UDP payload size.
    pub size: u16,
    /// DO.
    pub dnssec_ok: bool,
    /// Option codes and data.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Edns {
    /// An empty one of this size.
    pub fn new(size: u16) -> Self {
        Self { size, dnssec_ok: false, options: Vec::new() }
    }

    /// With DO.
    pub fn dnssec_ok(mut self) -> Self {
        self.dnssec_ok = true;
        self
    }

    /// With any option.
    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        self.options.push((code, data.to_vec()));
        self
    }

    /// COOKIE (RFC 7873) with eight octets of client cookie and so many of server cookie.
    pub fn cookie(self, server: usize) -> Self {
        self.option(10, &(0xc0..=0xff).take(8 + server).collect::<Vec<u8>>())
    }

    /// Padding (RFC 7830).
    pub fn padding(self, octets: usize) -> Self {
        self.option(12, &vec![0; octets])
    }

    /// Client subnet (RFC 7871).
    pub fn client_subnet(self) -> Self {
        self.option(8, &[0, 1, 24, 0, 192, 0, 2])
    }

    /// The record.
    pub fn build(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for (code, octets) in &self.options {
            data.extend(code.to_be_bytes());
            data.extend((octets.len() as u16).to_be_bytes());
            data.extend(octets);
        }
        record(&[0], 41, self.size, u32::from(self.dnssec_ok) << 15, &data)
    }
}

/// A name of text with dots in wire form.
pub fn name_wire(name: &str) -> Vec<u8> {
    labels_wire(&name.split('.').map(|label| label.as_bytes().to_vec()).collect::<Vec<_>>())
}

fn labels_wire(labels: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        wire.push(label.len() as u8);
        wire.extend(label);
    }
    wire.push(0);
    wire
}

fn record(owner: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut octets = owner.to_vec();
    octets.extend(kind.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets
}
