//! ClientHellos.

/// A ClientHello (RFC 8446 4.1.2) in TLS records.
#[derive(Clone, Debug)]
pub struct Hello {
    /// legacy_record_version.
    pub record_version: u16,
    /// legacy_version.
    pub version: u16,
    /// legacy_session_id.
    pub session_id: Vec<u8>,
    /// cipher_suites.
    pub ciphers: Vec<u16>,
    /// legacy_compression_methods.
    pub compression: Vec<u8>,
    /// Extensions: type and data. `None`: there is no extensions block at all.
    pub extensions: Option<Vec<(u16, Vec<u8>)>>,
    /// Octets of handshake in each TLS record but the last; empty for one record.
    pub records: Vec<usize>,
}

/// server_name (RFC 6066 3).
pub const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const ALPN: u16 = 16;
const KEY_SHARE: u16 = 51;
const SUPPORTED_VERSIONS: u16 = 43;
/// X25519MLKEM768.
const HYBRID_GROUP: u16 = 0x11ec;

impl Hello {
    /// As OpenSSL sends it for TLS 1.3, with a server name in front of the other extensions.
    pub fn new(name: &str) -> Self {
        Self::with_extensions([server_name(name)].into_iter().chain(ordinary()))
    }

    /// With exactly these extensions.
    pub fn with_extensions(extensions: impl IntoIterator<Item = (u16, Vec<u8>)>) -> Self {
        Self {
            record_version: 0x0301,
            version: 0x0303,
            session_id: vec![0x55; 32],
            ciphers: vec![0x1302, 0x1303, 0x1301, 0xc02c, 0xc030, 0x009f, 0xcca9, 0xcca8, 0x00ff],
            compression: vec![0],
            extensions: Some(extensions.into_iter().collect()),
            records: Vec::new(),
        }
    }

    /// The server name behind the other extensions.
    pub fn name_last(name: &str) -> Self {
        Self::with_extensions(ordinary().into_iter().chain([server_name(name)]))
    }

    /// The server name behind `others` extensions of unknown types.
    pub fn name_behind(name: &str, others: u16) -> Self {
        let unknown = (0..others).map(|n| (0x4000 + n, vec![n as u8; usize::from(n % 7)]));
        Self::with_extensions(unknown.chain([server_name(name)]))
    }

    /// With a hybrid key share (X25519MLKEM768: 1,216 octets) and padding, 1.7 kB in all, and the server name in
    /// front of the key share or behind it.
    pub fn post_quantum(name: &str, name_first: bool) -> Self {
        let mut share = HYBRID_GROUP.to_be_bytes().to_vec();
        share.extend(1216_u16.to_be_bytes());
        share.extend((0..1216).map(|n| (n % 251) as u8));
        let mut list = (share.len() as u16).to_be_bytes().to_vec();
        list.extend(share);
        let key_share = (KEY_SHARE, list);
        let mut extensions: Vec<_> = ordinary().into_iter().filter(|(kind, _)| *kind != KEY_SHARE).collect();
        extensions.push((21, vec![0; 320]));
        let name = server_name(name);
        let pair = if name_first { [name, key_share] } else { [key_share, name] };
        Self::with_extensions(extensions.into_iter().chain(pair))
    }

    /// With GREASE values (RFC 8701) among ciphers and around the extensions.
    pub fn grease(mut self) -> Self {
        self.ciphers.insert(0, 0x8a8a);
        if let Some(extensions) = &mut self.extensions {
            extensions.insert(0, (0x1a1a, Vec::new()));
            extensions.push((0xfafa, vec![0]));
        }
        self
    }

    /// Without the server name.
    pub fn anonymous() -> Self {
        Self::with_extensions(ordinary())
    }

    /// Without an extensions block.
    pub fn bare() -> Self {
        Self { extensions: None, ..Self::anonymous() }
    }

    /// In several TLS records, the first ones with so many octets of handshake.
    pub fn records(mut self, octets: &[usize]) -> Self {
        self.records = octets.to_vec();
        self
    }

    /// The handshake message.
    pub fn handshake(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend((0..32).map(|n| 0xa0 + n));
        body.push(self.session_id.len() as u8);
        body.extend(&self.session_id);
        body.extend(((self.ciphers.len() * 2) as u16).to_be_bytes());
        body.extend(self.ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()));
        body.push(self.compression.len() as u8);
        body.extend(&self.compression);
        if let Some(extensions) = &self.extensions {
            let octets: Vec<u8> = extensions.iter().flat_map(|(kind, data)| extension(*kind, data)).collect();
            body.extend((octets.len() as u16).to_be_bytes());
            body.extend(octets);
        }
        let mut message = vec![1];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    /// The records, as one run of octets.
    pub fn build(&self) -> Vec<u8> {
        let handshake = self.handshake();
        let mut rest = handshake.as_slice();
        let mut octets = Vec::new();
        let mut put = |fragment: &[u8]| {
            octets.push(22);
            octets.extend(self.record_version.to_be_bytes());
            octets.extend((fragment.len() as u16).to_be_bytes());
            octets.extend(fragment);
        };
        for length in &self.records {
            let (fragment, after) = rest.split_at((*length).min(rest.len()));
            put(fragment);
            rest = after;
        }
        if !rest.is_empty() {
            put(rest);
        }
        octets
    }

    /// Position of `name` in [`Hello::build`].
    pub fn position(&self, name: &str) -> usize {
        let octets = self.build();
        octets.windows(name.len()).position(|window| window == name.as_bytes()).expect("the hello holds the name")
    }
}

/// An extension in wire form.
pub fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut octets = kind.to_be_bytes().to_vec();
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets
}

/// A server_name extension of one host name.
pub fn server_name(name: &str) -> (u16, Vec<u8>) {
    server_name_list(&[(0, name.as_bytes())])
}

/// A server_name extension of several names: name type and octets.
pub fn server_name_list(names: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(*name);
    }
    let mut data = (list.len() as u16).to_be_bytes().to_vec();
    data.extend(list);
    (SERVER_NAME, data)
}

/// What a TLS 1.3 client sends beside the server name.
fn ordinary() -> Vec<(u16, Vec<u8>)> {
    let mut key_share = vec![0, 36, 0, 29, 0, 32];
    key_share.extend([0x77; 32]);
    vec![
        (11, vec![3, 0, 1, 2]),
        (SUPPORTED_GROUPS, vec![0, 4, 0, 29, 0, 23]),
        (35, Vec::new()),
        (ALPN, b"\x00\x0c\x02h2\x08http/1.1".to_vec()),
        (22, Vec::new()),
        (23, Vec::new()),
        (13, vec![0, 8, 4, 3, 8, 4, 4, 1, 5, 3]),
        (SUPPORTED_VERSIONS, vec![4, 3, 4, 3, 3]),
        (45, vec![1, 1]),
        (KEY_SHARE, key_share),
    ]
}
