//! Records without a part of the hello, before and between those with one: servers read past them.

use std::sync::{Arc, Mutex};

use cordon_tests::packet::{Connection, Hello, Ip, flag};
use filter_common::verdict::Reason::{NotListed, Reset, TcpSyn, TlsIncomplete, TlsNotHello};
use rustls::{
    ServerConfig, ServerConnection,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{NAME, State, connections, expect, filter, run};

/// OpenSSL reads past the first two, GnuTLS past the third, rustls past the last.
const IDLE: [&[u8]; 4] = [&[22, 3, 1, 0, 0], &[20, 3, 3, 0, 0], &[20, 3, 3, 0, 1, 1], &[21, 3, 1, 0, 2, 1, 90]];

#[test]
fn t10_idle_records_before_the_hello() {
    let filter = filter();
    for (name, reason) in [(NAME, Reset), ("www.example.net", NotListed)] {
        let hello = Hello::new(name);
        for connection in connections(443) {
            for idle in IDLE {
                for times in [1, 2, 32] {
                    let stream = [&idle.repeat(times), &hello.build()[..]].concat();
                    let (reasons, _) = run(&filter, &connection.opened(&stream, &[]));
                    assert_eq!(reasons, [TcpSyn, reason], "{idle:?} {times} times");
                }
                let stream = [&idle.repeat(33), &hello.build()[..]].concat();
                let (reasons, _) = run(&filter, &connection.opened(&stream, &[]));
                // Of change_cipher_spec, the first record is looked past by itself.
                assert_eq!(reasons, [TcpSyn, TlsNotHello], "{idle:?}");
            }
        }
    }
}

#[test]
fn t10_idle_records_cut_at_every_octet() {
    let filter = filter();
    let hello = Hello::new(NAME);
    let [connection, other] = connections(443);
    for idle in IDLE {
        for times in [1, 2] {
            let before = idle.repeat(times);
            let stream = [&before[..], &hello.build()].concat();
            let end = before.len() + hello.position(NAME) + NAME.len();
            for cut in 1..end {
                let connection = if cut % 2 == 0 { &connection } else { &other };
                let frames = connection.opened(&stream, &[cut]);
                // Where the hello is whole in its segment, also behind one change_cipher_spec, nothing need be
                // remembered.
                let is_whole = cut == before.len() || cut == 6 && idle == [20, 3, 3, 0, 1, 1];
                let (reasons, state) = run(&filter, &frames);
                assert_eq!(reasons, [TcpSyn, TlsIncomplete, Reset], "{idle:?} {times} times, cut at {cut}");
                let expected = State { names: u64::from(!is_whole), ..State::SPLIT_AND_STOPPED };
                assert_eq!(state, expected, "{idle:?} {times} times, cut at {cut}");
            }
        }
    }
}

#[test]
fn t10_idle_records_between_others() {
    let filter = filter();
    let hello = Hello::post_quantum(NAME, false).records(&[400, 400]).build();
    for connection in connections(443) {
        for idle in IDLE {
            let stream = [&hello[..405], &idle.repeat(5), &hello[405..810], idle, &hello[810..]].concat();
            for cuts in [vec![], vec![405], vec![407], vec![405 + 5 * idle.len(), 1400], vec![402, 409, 411]] {
                let frames = connection.opened(&stream, &cuts);
                let mut reasons = vec![TlsIncomplete; frames.len()];
                reasons[0] = TcpSyn;
                reasons[frames.len() - 1] = Reset;
                assert_eq!(run(&filter, &frames).0, reasons, "{idle:?} {cuts:?}");
            }
        }
    }
}

/// Clients of TLS 1.3 send a change_cipher_spec and then encrypted records, and those of TLS 1.2 alerts: nothing is
/// kept of them.
#[test]
fn o04_idle_records_in_mid_connection() {
    let filter = filter();
    let hello = Hello::new(NAME).build();
    for connection in connections(443) {
        for data in [
            &[20, 3, 3, 0, 1, 1][..],
            &[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 4, 9, 9, 9, 9],
            &[21, 3, 3, 0, 2, 2, 48],
            &[21, 3, 3, 0, 26, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        ] {
            expect(&filter, &[connection.data(0, data)], &[TlsNotHello], State::default());
        }
        // A warning is kept until what follows is no hello.
        let frames = [
            connection.data(0, &[21, 3, 3, 0, 2, 1, 90]),
            connection.data(7, &[23, 3, 3, 0, 1, 9]),
            connection.data(13, &hello),
        ];
        let state = State { streams: [1, 1], ..State::default() };
        expect(&filter, &frames, &[TlsIncomplete, TlsNotHello, Reset], state);
    }
    let closed = Connection::new(Ip::v4(), 443).flagged(flag::FIN | flag::ACK, 1, &[21, 3, 3, 0, 2, 1, 0]);
    expect(&filter, &[closed], &[TlsNotHello], State::default());
}

/// More than are read in one segment: it passes, and is counted. A server refuses so many.
#[test]
fn t10_a_segment_of_nothing_but_idle_records() {
    let filter = filter();
    let stream = IDLE[0].repeat(290);
    let frames = Connection::new(Ip::v4(), 443).opened(&stream, &[]);
    expect(&filter, &frames, &[TcpSyn, TlsNotHello], State::MARKED);
}

/// Why they are read past: here rustls; OpenSSL and GnuTLS are asked by the live tests.
#[test]
fn t10_rustls_reads_past_warnings() {
    let hello = Hello::new(NAME).build();
    assert_eq!(name_at_rustls(&hello).as_deref(), Some(NAME));
    for times in [1, 4] {
        let stream = [&IDLE[3].repeat(times), &hello[..]].concat();
        assert_eq!(name_at_rustls(&stream).as_deref(), Some(NAME), "{times}");
    }
    let fatal = [&[21, 3, 1, 0, 2, 2, 90], &hello[..]].concat();
    assert_eq!(name_at_rustls(&fatal), None);
}

/// The name that a server of rustls would choose its certificate by.
fn name_at_rustls(stream: &[u8]) -> Option<String> {
    #[derive(Debug, Default)]
    struct Asked(Mutex<Option<String>>);

    impl ResolvesServerCert for Asked {
        fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            *self.0.lock().expect("one thread") = hello.server_name().map(str::to_owned);
            None
        }
    }

    let asked = Arc::new(Asked::default());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_cert_resolver(asked.clone());
    let mut server = ServerConnection::new(Arc::new(config)).expect("a server");
    server.read_tls(&mut &stream[..]).expect("octets");
    // Without a certificate it ends here.
    assert!(server.process_new_packets().is_err());
    asked.0.lock().expect("one thread").take()
}
