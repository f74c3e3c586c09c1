//! How orders bind: clients, times, protocols, exceptions, and several orders at once.

use cordon_tests::{
    harness::{Filter, Setup},
    order::{TestOrder, order},
    packet::{Hello, Ip, Packet, Query},
};
use filter_common::{
    layout::Hits,
    verdict::{Action, Reason},
};
use jiff::{SignedDuration, Timestamp};

const NAME: &str = "www.example.com";

fn dns(filter: &Filter, name: &str) -> Reason {
    filter.run(&Packet::dns(Ip::v4(), &Query::new(name)).build()).reason
}

fn tls(filter: &Filter, name: &str) -> Reason {
    filter.run(&Packet::tls(Ip::v6(), &Hello::new(name)).build()).reason
}

/// Scopes `near` (192.0.2.0/25, 2001:db8:1::/48), `wide` (192.0.0.0/16 and 2001:db8::/32) and `far` (one host each).
fn setup() -> Setup {
    let nets = |text: &str| text.split(' ').map(|net| net.parse().expect("a prefix")).collect();
    let scopes = vec![
        ("near", nets("192.0.2.0/25 2001:db8:1::/48")),
        ("wide", nets("192.0.0.0/16 2001:db8::/32")),
        ("far", nets("203.0.113.7/32 2001:db8:ffff::7/128")),
    ];
    Setup { scopes, ..Setup::default() }
}

fn from(address: &str, name: &str) -> [Packet; 2] {
    let address: std::net::IpAddr = address.parse().expect("an address");
    let mut ip = if address.is_ipv4() { Ip::v4() } else { Ip::v6() };
    ip.set_source(address);
    [Packet::dns(ip.clone(), &Query::new(name)), Packet::tls(ip, &Hello::new(name))]
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

#[test]
fn o05_clients_outside_the_scope() {
    let filter = Filter::with(setup(), [&order("o", ["example.com"]).scopes(["near"])]);
    for (client, bound) in [
        ("192.0.2.0", true),
        ("192.0.2.127", true),
        ("192.0.2.128", false),
        ("192.0.1.255", false),
        ("203.0.113.7", false),
        ("2001:db8:1::", true),
        ("2001:db8:1:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db8:2::", false),
        ("2001:db8:ffff::7", false),
    ] {
        let [query, hello] = from(client, NAME);
        filter.expect(&query, if bound { Reason::AnsweredNxdomain } else { Reason::OtherClient });
        filter.expect(&hello, if bound { Reason::Reset } else { Reason::OtherClient });
        // Only the source counts.
        let mut to = query.ip.clone();
        to.set_destination(client.parse().expect("an address"));
        to.set_source(if to.is_v4() { "198.18.0.1" } else { "2001:db9::1" }.parse().expect("an address"));
        filter.expect(&Packet::dns(to, &Query::new(NAME)), Reason::OtherClient);
    }
}

#[test]
fn o05_an_order_with_scopes_behind_one_for_everyone() {
    let everyone = order("a", ["example.com"]).both(Action::Observe).issued("2019-01-01");
    let near = order("n", ["example.com"]).both(Action::Drop).issued("2020-01-01").scopes(["near"]);
    let filter = Filter::with(setup(), [&everyone, &near]);
    for (client, reason) in [
        ("192.0.2.1", Reason::Dropped),
        ("203.0.113.7", Reason::Observed),
        ("2001:db8:1::1", Reason::Dropped),
        ("2001:db8:2::1", Reason::Observed),
    ] {
        let before = [filter.hits("a"), filter.hits("n")];
        for packet in from(client, NAME) {
            filter.expect(&packet, reason);
        }
        let is_near = u64::from(reason == Reason::Dropped) * 2;
        let moved = |id: &str, before: Hits| {
            let after = filter.hits(id);
            (after.decided - before.decided, after.concerned - before.concerned)
        };
        assert_eq!([moved("a", before[0]), moved("n", before[1])], [(2 - is_near, 2), (is_near, is_near)], "{client}");
    }
}

#[test]
fn o05_nested_scopes_bind_both_ways() {
    // The trie gives the longest prefix only; a client in `near` is in `wide`, too.
    let filter = Filter::with(
        setup(),
        [&order("n", ["near.example"]).scopes(["near"]), &order("w", ["wide.example"]).scopes(["wide"])],
    );
    for (client, near, wide) in [("192.0.2.10", true, true), ("192.0.3.10", false, true), ("203.0.113.7", false, false)]
    {
        for (name, bound) in [("near.example", near), ("wide.example", wide)] {
            let [query, _] = from(client, name);
            filter.expect(&query, if bound { Reason::AnsweredNxdomain } else { Reason::OtherClient });
        }
    }
    let both = order("b", ["both.example"]).scopes(["near", "far"]);
    let filter = Filter::with(setup(), [&both]);
    for (client, bound) in
        [("192.0.2.10", true), ("203.0.113.7", true), ("203.0.113.8", false), ("2001:db8:ffff::7", true)]
    {
        let [_, hello] = from(client, "both.example");
        filter.expect(&hello, if bound { Reason::Reset } else { Reason::OtherClient });
    }
}

#[test]
fn o05_allow_list_and_exceptions() {
    let mut filter = Filter::new([&order("o", ["example.com"]).except(["good.example.com"])]);
    assert_eq!(dns(&filter, "good.example.com"), Reason::NotListed);
    assert_eq!(tls(&filter, "a.good.example.com"), Reason::NotListed);
    assert_eq!(tls(&filter, "notgood.example.com"), Reason::Reset);
    filter.allow(["www.example.com"]);
    assert_eq!(dns(&filter, NAME), Reason::Allowed);
    assert_eq!(tls(&filter, "a.b.www.example.com"), Reason::Allowed);
    assert_eq!(tls(&filter, "example.com"), Reason::Reset);
    // Whatever orders come: the allow list beats every one.
    filter.put([&order("p", ["www.example.com", "a.www.example.com"])]);
    assert_eq!(dns(&filter, NAME), Reason::Allowed);
    assert_eq!(dns(&filter, "a.www.example.com"), Reason::Allowed);
    filter.allow([]);
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
}

#[test]
fn o05_before_and_after_its_time() {
    let filter = Filter::new([
        &order("begun", ["begun.example"]).from(seconds(-10)).until(seconds(600)),
        &order("later", ["later.example"]).from(seconds(600)),
        &order("over", ["over.example"]).from(seconds(-600)).until(seconds(-1)),
    ]);
    assert_eq!(dns(&filter, "begun.example"), Reason::AnsweredNxdomain);
    assert_eq!(tls(&filter, "begun.example"), Reason::Reset);
    for name in ["later.example", "over.example"] {
        assert_eq!(dns(&filter, name), Reason::OtherTime);
        assert_eq!(tls(&filter, name), Reason::OtherTime);
    }
}

#[test]
fn o05_an_order_ends_without_anybody() {
    let start = seconds(0) + SignedDuration::from_millis(400);
    let filter =
        Filter::new([&order("o", ["example.com"]).from(start).until(start + SignedDuration::from_millis(600))]);
    let wait = |until: Timestamp| {
        let left = until.duration_since(Timestamp::now());
        std::thread::sleep(left.try_into().unwrap_or_default());
    };
    // Loading may have taken longer than the times: then there is nothing to see here, and the next test sees it.
    if Timestamp::now() + SignedDuration::from_millis(50) < start {
        assert_eq!(dns(&filter, NAME), Reason::OtherTime);
    }
    wait(start + SignedDuration::from_millis(100));
    if Timestamp::now() < start + SignedDuration::from_millis(500) {
        assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
    }
    wait(start + SignedDuration::from_millis(700));
    assert_eq!(dns(&filter, NAME), Reason::OtherTime);
    assert_eq!(tls(&filter, NAME), Reason::OtherTime);
}

#[test]
fn o05_only_another_protocol() {
    let filter = Filter::new([&order("d", ["d.example"]).tls(None), &order("t", ["t.example"]).dns(None)]);
    assert_eq!(dns(&filter, "d.example"), Reason::AnsweredNxdomain);
    assert_eq!(tls(&filter, "d.example"), Reason::OtherProtocol);
    assert_eq!(dns(&filter, "t.example"), Reason::OtherProtocol);
    assert_eq!(tls(&filter, "t.example"), Reason::Reset);
}

#[test]
fn o05_the_nearest_miss_is_counted() {
    // Protocol, then client, then time.
    let by_protocol = order("a", ["x.example"]).tls(None);
    let by_client = order("b", ["x.example"]).scopes(["far"]);
    let by_time = order("c", ["x.example"]).from(seconds(600));
    let reason = |orders: &[&TestOrder]| tls(&Filter::with(setup(), orders.iter().copied()), "x.example");
    assert_eq!(reason(&[&by_protocol]), Reason::OtherProtocol);
    assert_eq!(reason(&[&by_protocol, &by_client]), Reason::OtherClient);
    assert_eq!(reason(&[&by_client, &by_time, &by_protocol]), Reason::OtherTime);
}

#[test]
fn o05b_an_order_on_a_parent_binds_beside_one_on_the_child() {
    let a = order("a", ["a.example"]).tls(None).dns(Action::Refused).scopes(["near"]);
    let b = order("b", ["example"]).both(Action::Drop);
    let filter = Filter::with(setup(), [&a, &b]);
    // The child's own order is for DNS and some clients only; the parent's holds for everybody and everything.
    for client in ["192.0.2.10", "203.0.113.9", "2001:db8:1::1", "2001:db8:2::1"] {
        let [query, hello] = from(client, "a.example");
        filter.expect(&hello, Reason::Dropped);
        filter.expect(&query, Reason::Dropped);
    }
    // With a weaker parent, the child's decides where it holds.
    let b = order("b", ["example"]).both(Action::Observe);
    let filter = Filter::with(setup(), [&a, &b]);
    let [query, hello] = from("192.0.2.10", "a.example");
    filter.expect(&query, Reason::AnsweredRefused);
    filter.expect(&hello, Reason::Observed);
    let [query, hello] = from("203.0.113.9", "a.example");
    filter.expect(&query, Reason::Observed);
    filter.expect(&hello, Reason::Observed);
    let [query, _] = from("192.0.2.10", "b.example");
    filter.expect(&query, Reason::Observed);
}

#[test]
fn o05b_an_exception_holds_for_its_own_order_only() {
    let a = order("a", ["x.example"]).except(["a.x.example"]).both(Action::Drop);
    let b = order("b", ["a.x.example"]).both(Action::Reset);
    let filter = Filter::new([&a, &b]);
    assert_eq!(tls(&filter, "x.example"), Reason::Dropped);
    assert_eq!(tls(&filter, "b.x.example"), Reason::Dropped);
    assert_eq!(tls(&filter, "a.x.example"), Reason::Reset);
    assert_eq!(tls(&filter, "c.a.x.example"), Reason::Reset);
    // And with a wider order around both.
    let c = order("c", ["example"]).both(Action::Observe);
    let filter = Filter::new([&a, &c]);
    assert_eq!(tls(&filter, "a.x.example"), Reason::Observed);
    assert_eq!(tls(&filter, "b.x.example"), Reason::Dropped);
    assert_eq!(tls(&filter, "y.example"), Reason::Observed);
}

#[test]
fn o05b_an_exact_rule_below_a_subtree_rule() {
    let a = order("a", ["a.x.example"]).exact().both(Action::Reset);
    let b = order("b", ["x.example"]).both(Action::Observe);
    let filter = Filter::new([&a, &b]);
    assert_eq!(tls(&filter, "a.x.example"), Reason::Reset);
    assert_eq!(tls(&filter, "b.a.x.example"), Reason::Observed);
    assert_eq!(tls(&filter, "x.example"), Reason::Observed);
}

#[test]
fn f03_the_stronger_action_wins_then_the_older_order() {
    use Action::{Address, Drop, Nodata, Nxdomain, Observe, Refused, Reset};
    let strength = [Observe, Address, Refused, Nodata, Nxdomain, Reset, Drop];
    let reasons = [
        Reason::Observed,
        Reason::AnsweredAddress,
        Reason::AnsweredRefused,
        Reason::AnsweredNodata,
        Reason::AnsweredNxdomain,
        Reason::AnsweredRefused,
        Reason::Dropped,
    ];
    let address = "203.0.113.80".parse().ok();
    let mut filter = Filter::new([]);
    for (weak, strong) in (0..strength.len()).flat_map(|strong| (0..=strong).map(move |weak| (weak, strong))) {
        for [older, younger] in [[weak, strong], [strong, weak]] {
            let [z, a] = [format!("z{older}{younger}"), format!("a{older}{younger}")];
            let order = |id, date, action: usize| {
                order(id, ["example.com"]).issued(date).dns(strength[action]).address(address, None)
            };
            filter.put([&order(&z, "2020-01-01", older), &order(&a, "2021-01-01", younger)]);
            assert_eq!(dns(&filter, NAME), reasons[strong], "{:?} {:?}", strength[weak], strength[strong]);
            // Both are concerned; one decides, of equal ones the older.
            let decides = if younger > older { &a } else { &z };
            for id in [&a, &z] {
                let hits = Hits { decided: u64::from(id == decides), concerned: 1 };
                assert_eq!(filter.hits(id), hits, "{id}");
            }
            filter.change(|compiler| [a, z].iter().for_each(|id| compiler.revoke(id).expect("an order")));
            if older == younger {
                break;
            }
        }
    }
}

#[test]
fn f03_orders_with_different_ends() {
    let over = order("over", ["example.com"]).until(seconds(-5)).both(Action::Drop);
    let on = order("on", ["example.com"]).until(seconds(500)).both(Action::Nodata);
    let filter = Filter::new([&over, &on]);
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNodata);
    assert_eq!(filter.hits("over"), Hits::default());
    assert_eq!(filter.hits("on"), Hits { decided: 1, concerned: 1 });
}

#[test]
fn f03_the_same_order_twice_and_a_revocation() {
    let one = order("one", ["example.com"]);
    let mut filter = Filter::new([&one]);
    filter.put([&one, &one]);
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
    assert_eq!(filter.hits("one"), Hits { decided: 1, concerned: 1 });
    let two = order("two", ["example.com"]).both(Action::Drop);
    filter.put([&two]);
    assert_eq!(dns(&filter, NAME), Reason::Dropped);
    filter.change(|compiler| compiler.revoke("two").expect("an order"));
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
    filter.change(|compiler| compiler.revoke("one").expect("an order"));
    assert_eq!(dns(&filter, NAME), Reason::NotListed);
    filter.put([&one]);
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
}

#[test]
fn f03_an_order_is_extended_and_shortened_in_place() {
    let mut filter = Filter::new([&order("o", ["example.com"]).until(seconds(-5))]);
    assert_eq!(dns(&filter, NAME), Reason::OtherTime);
    filter.change(|compiler| compiler.extend("o", Some(seconds(60))).expect("an order"));
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
    filter.change(|compiler| compiler.extend("o", None).expect("an order"));
    assert_eq!(dns(&filter, NAME), Reason::AnsweredNxdomain);
    filter.change(|compiler| compiler.extend("o", Some(seconds(-1))).expect("an order"));
    assert_eq!(dns(&filter, NAME), Reason::OtherTime);
}

#[test]
fn f03_more_orders_on_one_name_than_a_slot_holds() {
    for count in [7, 8, 14, 15, 100] {
        let orders: Vec<_> = (0..count)
            .map(|n| {
                let date = format!("{}-01-01", 1900 + n);
                order(&format!("o{n:03}"), ["example.com"]).issued(&date).both(Action::Observe)
            })
            .collect();
        let mut filter = Filter::new(&orders);
        assert_eq!(dns(&filter, NAME), Reason::Observed);
        for n in 0..count {
            let hits = Hits { decided: u64::from(n == 0), concerned: 1 };
            assert_eq!(filter.hits(&format!("o{n:03}")), hits, "{n} of {count}");
        }
        // The last one decides as soon as it is the strongest.
        let last = format!("o{:03}", count - 1);
        filter.put([&order(&last, ["example.com"]).issued("2020-01-01").both(Action::Drop)]);
        assert_eq!(tls(&filter, NAME), Reason::Dropped);
        assert_eq!(filter.hits(&last), Hits { decided: 1, concerned: 1 });
    }
}

#[test]
fn f03_a_name_that_many_orders_reach_from_above() {
    // One subtree rule on each suffix of a deep name, each its own order.
    let labels = 20;
    let name = vec!["n"; labels].join(".");
    let orders: Vec<_> = (0..labels)
        .map(|n| order(&format!("o{n:02}"), [&name[2 * n..]]).both(Action::Observe).issued("2020-01-01"))
        .collect();
    let filter = Filter::new(&orders);
    assert_eq!(dns(&filter, &format!("x.{name}")), Reason::Observed);
    for n in 0..labels {
        assert_eq!(filter.hits(&format!("o{n:02}")).concerned, 1);
    }
    assert_eq!(tls(&filter, "n.n"), Reason::Observed);
    for n in 0..labels {
        let reached = u64::from(n >= labels - 2);
        assert_eq!(filter.hits(&format!("o{n:02}")).concerned, 1 + reached);
    }
}
