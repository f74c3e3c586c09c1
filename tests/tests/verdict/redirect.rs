//! The action `redirect`: to a device, to a next hop, and what happens while the target is not ready.

use std::process::Command;

use cordon_tests::{
    bare,
    harness::{Filter, Setup, hex},
    order::order,
    packet::{BORDER_MAC, CLIENT_MAC, Fragment, Hello, Ip, Packet, QINQ, Query, VLAN},
};
use filter_common::verdict::{Action, Reason};
use filter_user::kernel::{TargetSpec, Targets};

const NAME: &str = "www.example.com";
const NEXT_HOP: [u8; 6] = [0x02, 0, 0, 0, 0x0d, 0x01];
const DEVICE: [u8; 6] = [0x02, 0, 0, 0, 0x0d, 0x00];

/// Goes over to a network namespace without a name, which goes when this thread does, and lays a cable in it whose
/// near end can transmit XDP frames.
fn lay_cable() {
    // SAFETY: no pointers.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(left, 0, "unshare (as root)");
    let run = |program: &str, words: &str| {
        let status = Command::new(program).args(words.split(' ')).status().expect("the program is there");
        assert!(status.success(), "{program} {words}");
    };
    run("ip", "link add dpi0 address 02:00:00:00:0d:00 type veth peer name far address 02:00:00:00:0d:01");
    // The far end has to run under NAPI, or veth does not take frames for it.
    run("ethtool", "-K far gro on");
    run("ip", "link set dpi0 up");
    run("ip", "link set far up");
    run("ip", "address add 203.0.113.1/24 dev dpi0");
    run("ip", "neighbour add 203.0.113.2 lladdr 02:00:00:00:0d:01 nud permanent dev dpi0");
}

fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for ip in Ip::both() {
        for packet in [Packet::dns(ip.clone(), &Query::new(NAME)), Packet::tls(ip.clone(), &Hello::new(NAME))] {
            packets.extend([packet.clone(), packet.clone().tag(VLAN, 5), packet.tag(QINQ, 6).tag(VLAN, 7)]);
        }
    }
    // Nothing is answered, so nothing is in the way of these.
    packets.push(Packet::dns(Ip::v4().fragment(Fragment::First), &Query::new(NAME)));
    packets.push(Packet::dns(Ip::v6(), &Query::new(NAME).tsig()));
    packets
}

fn spec(name: &str, interface: &str, next_hop: Option<&str>, fallback_pass: bool) -> TargetSpec {
    let next_hop = next_hop.map(|address| address.parse().expect("an address"));
    TargetSpec { name: name.into(), interface: interface.into(), next_hop, fallback_pass }
}

#[test]
fn ready_targets_get_the_packet() {
    if bare("redirect") {
        return;
    }
    lay_cable();
    let setup = Setup { targets: vec!["device", "hop"], ..Setup::default() };
    let redirect = |target| order("o", ["example.com"]).both(Action::Redirect).redirect(target);
    let mut filter = Filter::with(setup, [&redirect("device")]);
    let specs = vec![spec("device", "dpi0", None, false), spec("hop", "dpi0", Some("203.0.113.2"), false)];
    let states = filter.refresh(&mut Targets::new(specs));
    assert!(states.iter().all(|state| state.problem.is_none()), "{states:?}");
    // To a device: as it came.
    for packet in packets() {
        let run = filter.expect(&packet, Reason::Redirected);
        assert_eq!(hex(&run.frame), hex(&packet.build()));
    }
    // To a next hop: with its Ethernet address and the device's, and else as it came.
    filter.put([&redirect("hop")]);
    for packet in packets() {
        let run = filter.expect(&packet, Reason::Redirected);
        assert_eq!(packet.destination, BORDER_MAC);
        assert_eq!(packet.source, CLIENT_MAC);
        let expected = Packet { destination: NEXT_HOP, source: DEVICE, ..packet };
        assert_eq!(hex(&run.frame), hex(&expected.build()));
    }
}

#[test]
fn fallbacks_while_the_target_is_not_ready() {
    if bare("redirect") {
        return;
    }
    lay_cable();
    let setup = Setup { targets: vec!["drops", "passes", "hop"], ..Setup::default() };
    let redirect = |id, name, target| order(id, [name]).both(Action::Redirect).redirect(target);
    let orders = [
        redirect("d", "drops.example", "drops"),
        redirect("p", "passes.example", "passes"),
        redirect("h", "hop.example", "hop"),
    ];
    let mut filter = Filter::with(setup, &orders);
    let check = |filter: &Filter, name, reason| {
        for ip in Ip::both() {
            let packets = [Packet::dns(ip.clone(), &Query::new(name)), Packet::tls(ip, &Hello::new(name))];
            for packet in packets {
                let run = filter.expect(&packet, reason);
                assert_eq!(hex(&run.frame), hex(&packet.build()));
            }
        }
    };
    // Before anything is known of the targets.
    check(&filter, "drops.example", Reason::DroppedNoTarget);
    let mut targets = Targets::new(vec![
        spec("drops", "nosuch0", None, false),
        spec("passes", "nosuch0", None, true),
        spec("hop", "dpi0", Some("203.0.113.99"), true),
    ]);
    let states = filter.refresh(&mut targets);
    assert!(states.iter().all(|state| state.problem.is_some()), "{states:?}");
    check(&filter, "drops.example", Reason::DroppedNoTarget);
    check(&filter, "passes.example", Reason::PassedNoTarget);
    check(&filter, "hop.example", Reason::PassedNoTarget);
}

#[test]
fn stronger_orders_are_not_redirected() {
    let setup = Setup { targets: vec!["dpi"], ..Setup::default() };
    let weak = order("a", ["example.com"]).both(Action::Redirect).redirect("dpi").issued("2000-01-01");
    let filter = Filter::with(setup.clone(), [&weak, &order("b", ["example.com"]).both(Action::Refused)]);
    filter.expect(&Packet::dns(Ip::v4(), &Query::new(NAME)), Reason::AnsweredRefused);
    filter.expect(&Packet::tls(Ip::v4(), &Hello::new(NAME)), Reason::Reset);
    let filter = Filter::with(setup, [&weak, &order("b", ["example.com"]).both(Action::Observe)]);
    filter.expect(&Packet::dns(Ip::v4(), &Query::new(NAME)), Reason::DroppedNoTarget);
}
