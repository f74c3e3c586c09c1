//! Tables: what is written is what is read, and only what differs is written.

use std::net::IpAddr;

use filter_common::layout::{SCOPE_ALL, Settings};
use filter_user::kernel::{Behaviour, Error, Kernel, Reading, TlsPorts};
use ipnet::IpNet;

use crate::support::CAPACITY;

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn scopes_are_unions_of_prefixes() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    let tables = kernel.tables();
    assert_eq!(tables.scopes_of(ip("10.0.0.1")).unwrap(), SCOPE_ALL);
    let first = [
        (1, nets("10.0.0.0/8 2001:db8::/32")),
        (2, nets("10.1.0.0/16 2001:db8:1::/48 192.0.2.1/32")),
        (63, nets("10.1.2.0/24")),
    ];
    tables.set_scopes(&first).unwrap();
    let of = |client| tables.scopes_of(ip(client)).unwrap();
    assert_eq!(of("10.0.0.1"), SCOPE_ALL | 1 << 1);
    assert_eq!(of("10.1.0.1"), SCOPE_ALL | 1 << 1 | 1 << 2);
    assert_eq!(of("10.1.2.3"), SCOPE_ALL | 1 << 1 | 1 << 2 | 1 << 63);
    assert_eq!(of("192.0.2.1"), SCOPE_ALL | 1 << 2);
    assert_eq!(of("192.0.2.2"), SCOPE_ALL);
    assert_eq!(of("2001:db8::1"), SCOPE_ALL | 1 << 1);
    assert_eq!(of("2001:db8:1::1"), SCOPE_ALL | 1 << 1 | 1 << 2);
    assert_eq!(of("2001:db9::1"), SCOPE_ALL);

    tables.set_scopes(&[(3, nets("0.0.0.0/0")), (2, nets("10.1.0.0/16"))]).unwrap();
    assert_eq!(of("10.0.0.1"), SCOPE_ALL | 1 << 3);
    assert_eq!(of("10.1.2.3"), SCOPE_ALL | 1 << 3 | 1 << 2);
    assert_eq!(of("2001:db8:1::1"), SCOPE_ALL);
}

#[test]
fn too_many_prefixes_name_the_key() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    let many: Vec<IpNet> = (0..100u8).map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
    let error = kernel.tables().set_scopes(&[(1, many)]).unwrap_err();
    assert_eq!(error.to_string(), "SCOPES_V4 is full at 64 entries: raise `capacity.prefixes` in the configuration");
    assert!(matches!(error, Error::Full { .. }));
}

#[test]
fn settings_keep_what_they_do_not_set() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    let tables = kernel.tables();
    let behaviour =
        Behaviour { answers_per_second: 100, events_per_second: 10, client_detail: 1, ..Behaviour::default() };
    tables.set_behaviour(&behaviour).unwrap();
    let Settings { depths, generation, answers_per_second, events_per_second, client_detail, .. } =
        tables.settings().unwrap();
    assert_eq!((depths, generation), ([0, 0], 0));
    assert_eq!((answers_per_second, events_per_second, client_detail), (100, 10, 1));
}

#[test]
fn own_addresses_and_ports_are_replaced() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    let tables = kernel.tables();
    tables.set_own_addresses(&[ip("192.0.2.1"), ip("2001:db8::1")]).unwrap();
    tables.set_own_addresses(&[ip("192.0.2.2"), ip("2001:db8::1")]).unwrap();
    // Sixteen fit: had the first one not been removed, these would not.
    let sixteen: Vec<_> = (1..=16u8).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    tables.set_own_addresses(&sixteen[..14]).unwrap();
    tables.set_own_addresses(&[]).unwrap();
    tables.set_own_addresses(&sixteen).unwrap();
    let too_many: Vec<_> = (1..=17u8).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    assert!(matches!(tables.set_own_addresses(&too_many), Err(Error::Full { map: "OWN_ADDRESSES", key: None, .. })));
    tables.set_ports(&Reading { dns: vec![53, 5353], tls: TlsPorts::Any, ..Reading::default() });
    tables.set_ports(&Reading { tls: TlsPorts::List(vec![443, 8443]), ..Reading::default() });
}

#[test]
fn slots_beyond_the_tables_are_missing() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    let tables = kernel.tables();
    assert_eq!(tables.policy(63).unwrap().len, 0);
    assert!(matches!(tables.policy(64), Err(Error::Missing(_))));
    assert_eq!(tables.order(63).unwrap().end, 0);
    assert!(matches!(tables.order(64), Err(Error::Missing(_))));
    assert_eq!(tables.hits().unwrap().len(), 0);
    tables.clear_hits(&[0, 63]).unwrap();
    assert!(tables.clear_hits(&[64]).is_err());
    assert_eq!(tables.snapshot().len(), 0);
}
