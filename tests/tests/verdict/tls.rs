//! ClientHellos that are stopped, and those whose name is not one.

use cordon_tests::{
    harness::{Filter, Setup},
    order::order,
    packet::{Hello, Ip, Packet, Transport, extension, flag, server_name, server_name_list},
};
use filter_common::verdict::{Action, Reason};

const NAME: &str = "www.example.com";

fn filter() -> Filter {
    Filter::new([&order("o", ["example.com"])])
}

/// Every hello is stopped, over IPv4 and IPv6.
#[track_caller]
fn stopped(filter: &Filter, hellos: impl IntoIterator<Item = Hello>) {
    for hello in hellos {
        for ip in Ip::both() {
            filter.expect(&Packet::tls(ip, &hello), Reason::Reset);
        }
    }
}

#[track_caller]
fn passed(filter: &Filter, hellos: impl IntoIterator<Item = Hello>, reason: Reason) {
    for hello in hellos {
        for ip in Ip::both() {
            filter.expect(&Packet::tls(ip, &hello), reason);
        }
    }
}

#[test]
fn t01_server_name_first_and_last() {
    stopped(&filter(), [Hello::new(NAME), Hello::name_last(NAME)]);
}

#[test]
fn t01_server_name_behind_up_to_127_others() {
    stopped(&filter(), [1, 3, 18, 40, 127].map(|others| Hello::name_behind(NAME, others)));
    passed(&filter(), [128, 140].map(|others| Hello::name_behind(NAME, others)), Reason::TlsExtensions);
}
