//! The Initials of a whole QUIC implementation, and those of the RFCs.

use std::{sync::Arc, time::Instant};

use cordon_tests::packet::quic::Client;
use quinn_proto::{ClientConfig, Endpoint, EndpointConfig, crypto::rustls::QuicClientConfig};
use rustls::RootCertStore;

use crate::{Engine, NAME, client, named};

/// The first datagrams that quinn sends to a server of this name.
fn quinn(name: &str, version: u32, protocols: usize) -> Vec<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"a protocol".to_vec(); protocols];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.version(version);
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    let server = "192.0.2.1:443".parse().unwrap();
    let (_, mut connection) = endpoint.connect(Instant::now(), config, server, name).unwrap();
    let mut datagrams = Vec::new();
    let mut buffer = Vec::new();
    while let Some(transmit) = connection.poll_transmit(Instant::now(), 1, &mut buffer) {
        datagrams.push(buffer[..transmit.size].to_vec());
        buffer.clear();
    }
    datagrams
}

#[test]
fn q1_quinn() {
    let datagrams = quinn(NAME, 1, 1);
    let mut engine = Engine::new();
    assert_eq!(datagrams.iter().map(|datagram| engine.read(datagram)).last(), Some(named(NAME)));
}

#[test]
fn q3_quinn_with_a_long_hello() {
    // A hello of two datagrams, because of its many protocols.
    let datagrams = quinn(NAME, 1, 120);
    assert!(datagrams.len() > 1);
    for order in [datagrams.clone(), datagrams.into_iter().rev().collect()] {
        let mut engine = Engine::new();
        assert_eq!(order.iter().map(|datagram| engine.read(datagram)).last(), Some(named(NAME)));
    }
}

/// The CRYPTO frame of RFC 9001 A.2 and RFC 9369 A.2.
const FRAME: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302\
    010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e00050005010000\
    0000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403\
    050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff080110010480007530\
    0901100f088394c8f03e51570806048000ffff";

fn octets(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn of_the_rfc(client: Client) -> Vec<u8> {
    let mut client = Client { scid: Vec::new(), number: 2, number_len: 4, ..client };
    client.initial(&octets(FRAME))
}

#[test]
fn q1_the_initial_of_rfc_9001() {
    let datagram = of_the_rfc(client());
    assert_eq!(datagram[..32], octets("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11"));
    assert_eq!(datagram[1184..], octets("e221af44860018ab0856972e194cd934"));
    assert_eq!(Engine::new().read(&datagram), named("example.com"));
}

#[test]
fn q5_the_initial_of_rfc_9369() {
    let datagram = of_the_rfc(client().v2());
    assert_eq!(datagram[..32], octets("d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485"));
    assert_eq!(Engine::new().read(&datagram), named("example.com"));
}
