//! ClientHellos in one segment: the name is the one that tls-parser finds.

use filter_common::{
    frame::Payload,
    tls::{Extensions, MAX_EXTENSIONS, Step},
    verdict::Reason,
    walk::{HOST_STEPS, HostCheck, Walk},
};
use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions, parse_tls_plaintext,
};

use crate::{Framed, KEY, suffixes};

/// Reads a segment.
pub fn run(data: &[u8]) {
    if data.len() > usize::from(u16::MAX) {
        return;
    }
    let framed = Framed::new(data);
    let found = server_name(&framed);
    if let Some((.., name)) = Extensions::name_at_once(&framed.bytes(), &framed.payload()) {
        assert_eq!(found, Ok(name), "what is found in one go is what steps come to");
    }
    if let Ok(name) = found {
        walk(&framed, name);
    }
    let found = found.map(|name| framed.octets(name));
    if let Some(expected) = reference(data) {
        let expected = expected.strip_suffix(b".").unwrap_or(&expected);
        assert_eq!(found, Ok(expected));
    }
}

/// The first server_name of the hello.
pub(crate) fn server_name(framed: &Framed) -> Result<Payload, Reason> {
    let bytes = framed.bytes();
    let mut extensions = Extensions::begin(&bytes, &framed.payload())?;
    for _ in 0..MAX_EXTENSIONS {
        match extensions.step(&bytes) {
            Step::More => {}
            Step::ServerName(name) => return extensions.host_name(&bytes, &name),
            Step::Stop(reason) => return Err(reason),
        }
    }
    Err(Reason::TlsExtensions)
}

/// What is checked as a host name is hashed to its first label, and has no other octets.
fn walk(framed: &Framed, name: Payload) {
    let octets = framed.octets(name);
    if octets.is_empty() {
        return;
    }
    let mut check = HostCheck::new(&name);
    let is_host = (0..HOST_STEPS).find_map(|_| check.step(&framed.bytes())).expect("the check ends");
    let is_host_octet = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
    assert_eq!(is_host, octets.iter().all(is_host_octet));
    if is_host {
        let mut walk = Walk::sni(&name);
        let keys = KEY.with(|key| suffixes(|| walk.step_sni(&framed.bytes(), key)));
        let labels = octets.split(|octet| *octet == b'.');
        let expected = labels.clone().all(|label| !label.is_empty()).then(|| labels.count());
        assert_eq!(keys.map(|keys| keys.len()), expected);
    }
}

/// The name of a whole hello, alone in its record and with one name only, as far as both read it.
fn reference(data: &[u8]) -> Option<Vec<u8>> {
    let (_, plaintext) = parse_tls_plaintext(data).ok()?;
    let [TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)), ..] = &plaintext.msg[..] else { return None };
    // tls-parser takes other major versions, and lets an outer length be longer than what is in it.
    if data.get(1) != Some(&3) || data.get(5) != Some(&1) {
        return None;
    }
    let block = hello.ext?;
    let (rest, extensions) = parse_tls_client_hello_extensions(block).ok()?;
    if !rest.is_empty() || extensions.len() > MAX_EXTENSIONS as usize {
        return None;
    }
    let mut names = extensions.iter().filter_map(|extension| match extension {
        TlsExtension::SNI(names) => Some(names),
        _ => None,
    });
    let ([(SNIType::HostName, name)], None) = (&names.next()?[..], names.next()) else { return None };
    let list = name.len() + 3;
    // The extension holds the list and nothing behind it.
    let lengths = [0, list + 2, list].map(|value| (value as u16).to_be_bytes()).concat();
    let whole = [&lengths[..], &[0], &(name.len() as u16).to_be_bytes(), name].concat();
    let is_whole = server_name_on(block)?.starts_with(&whole);
    (is_whole && (1..=253).contains(&name.len())).then(|| name.to_vec())
}

/// The block of extensions from the first server_name, which is type 0 (RFC 6066 3), on.
fn server_name_on(mut block: &[u8]) -> Option<&[u8]> {
    while block.get(..2)? != [0, 0] {
        let len = u16::from_be_bytes(block.get(2..4)?.try_into().ok()?);
        block = block.get(4 + usize::from(len)..)?;
    }
    Some(block)
}
