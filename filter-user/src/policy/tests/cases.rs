//! What the tables say of single names.

use super::*;

fn nxdomain(order: &str, depth: u8) -> Result<(String, u8, Action, bool), Reason> {
    Ok((order.to_owned(), depth, Action::Nxdomain, false))
}

fn nodata(order: &str, depth: u8) -> Result<(String, u8, Action, bool), Reason> {
    Ok((order.to_owned(), depth, Action::Nxdomain, true))
}

const NOT_LISTED: Result<(String, u8, Action, bool), Reason> = Err(Reason::NotListed);
const ALLOWED: Result<(String, u8, Action, bool), Reason> = Err(Reason::Allowed);

#[test]
fn o1_an_exact_rule_stops_its_name_alone() {
    let bench = Bench::new([order("a", &["example.com"]).reach(Match::Exact)]);
    assert_eq!(bench.dns("example.com"), nodata("a", 2));
    for other in
        ["com", "www.example.com", "test.com", "notexample.com", "example.com.evil.net", "exampl", "example.co"]
    {
        assert_eq!(bench.dns(other), NOT_LISTED, "{other}");
    }
}

#[test]
fn o1_a_subtree_rule_stops_no_name_that_only_looks_like_a_child() {
    let bench = Bench::new([order("a", &["example.com"])]);
    for inside in ["example.com", "www.example.com", "a.b.c.example.com"] {
        assert_eq!(bench.dns(inside), nxdomain("a", 2), "{inside}");
    }
    for other in ["com", "test.com", "notexample.com", "www.notexample.com", "example.com.evil.net", "example"] {
        assert_eq!(bench.dns(other), NOT_LISTED, "{other}");
    }
}

#[test]
fn o1_a_below_rule_leaves_its_name() {
    let bench = Bench::new([order("a", &["example.com"]).reach(Match::Below)]);
    assert_eq!(bench.dns("example.com"), NOT_LISTED);
    assert_eq!(bench.dns("www.example.com"), nxdomain("a", 2));
}

#[test]
fn o5_client_protocol_and_time_are_the_orders() {
    let bench = Bench::new([order("a", &["x.net"]).scope("fr").only(Protocol::Dns, Action::Drop)]);
    let fr = scopes().bit("fr").unwrap() | SCOPE_ALL;
    let ask = |scopes, protocol, time| bench.see("x.net", Asks { scopes, protocol, time: day(time) }).decision;
    assert_eq!(ask(fr, Protocol::Dns, 0).unwrap().action, Action::Drop);
    assert_eq!(ask(fr, Protocol::Dns, 99).unwrap().action, Action::Drop);
    assert_eq!(ask(SCOPE_ALL, Protocol::Dns, 1), Err(Reason::OtherClient));
    assert_eq!(ask(fr, Protocol::Tls, 1), Err(Reason::OtherProtocol));
    assert_eq!(ask(fr, Protocol::Dns, -1), Err(Reason::OtherTime));
    assert_eq!(ask(fr, Protocol::Dns, 100), Err(Reason::OtherTime));
}

#[test]
fn o5_the_allow_list_beats_every_order() {
    let orders = || [order("a", &["x.net", "deep.good.x.net"]), order("b", &["good.x.net"])];
    let bench = Bench::with_allow(orders(), &[("good.x.net", Match::Subtree)]);
    assert_eq!(bench.dns("bad.x.net"), nxdomain("a", 2));
    for free in ["good.x.net", "www.good.x.net", "deep.good.x.net", "www.deep.good.x.net"] {
        assert_eq!(bench.dns(free), ALLOWED, "{free}");
    }

    let bench = Bench::with_allow(orders(), &[("good.x.net", Match::Exact)]);
    assert_eq!(bench.dns("good.x.net"), ALLOWED);
    assert_eq!(bench.dns("www.good.x.net"), nxdomain("a", 2));
    assert_eq!(bench.dns("deep.good.x.net"), nxdomain("a", 4));

    let bench = Bench::with_allow(orders(), &[("good.x.net", Match::Below)]);
    assert_eq!(bench.dns("good.x.net"), nodata("a", 2));
    assert_eq!(bench.dns("www.good.x.net"), ALLOWED);
    assert_eq!(bench.dns("deep.good.x.net"), ALLOWED);
}

#[test]
fn o5_an_allowed_name_that_no_order_covers_is_allowed() {
    let bench = Bench::with_allow([], &[("good.net", Match::Subtree)]);
    assert_eq!(bench.dns("www.good.net"), ALLOWED);
    assert_eq!(bench.dns("net"), NOT_LISTED);
}

#[test]
fn o5_an_exception_frees_its_name_and_what_lies_below() {
    let bench = Bench::new([order("a", &["x.net"]).except(&["good.x.net"])]);
    assert_eq!(bench.dns("bad.x.net"), nxdomain("a", 2));
    assert_eq!(bench.dns("good.x.net"), NOT_LISTED);
    assert_eq!(bench.dns("www.good.x.net"), NOT_LISTED);
}

#[test]
fn o5_in_one_order_the_longer_of_rule_and_exception_wins() {
    let bench = Bench::new([order("a", &["x.net", "bad.good.x.net", "same.net"]).except(&["good.x.net", "same.net"])]);
    assert_eq!(bench.dns("good.x.net"), NOT_LISTED);
    assert_eq!(bench.dns("www.bad.good.x.net"), nxdomain("a", 4));
    assert_eq!(bench.dns("same.net"), NOT_LISTED);
    assert_eq!(bench.dns("www.same.net"), NOT_LISTED);
}

#[test]
fn o5b_a_deeper_node_repeats_the_orders_above_it() {
    let a = order("a", &["a.x"]).scope("fr").only(Protocol::Dns, Action::Nxdomain);
    let b = order("b", &["x"]).only(Protocol::Tls, Action::Reset);
    let bench = Bench::new([a, b]);
    let fr = scopes().bit("fr").unwrap();
    let tls = bench.see("a.x", Asks { scopes: SCOPE_ALL, ..asks(Protocol::Tls) });
    assert_eq!(tls.decision.unwrap().order, "b");
    let dns = bench.see("a.x", Asks { scopes: SCOPE_ALL | fr, ..asks(Protocol::Dns) });
    assert_eq!(dns.decision.unwrap().order, "a");
    assert_eq!(bench.dns("a.x"), Err(Reason::OtherClient));
    assert_eq!(bench.dns("b.x"), Err(Reason::OtherProtocol));
}

#[test]
fn o5b_an_exception_opens_no_hole_in_another_order() {
    let bench = Bench::new([order("a", &["x.net"]).except(&["good.x.net"]), order("b", &["x.net"])]);
    assert_eq!(bench.dns("good.x.net"), nxdomain("b", 2));
    let seen = bench.see("x.net", asks(Protocol::Dns));
    assert_eq!(seen.concerned, ["a", "b"]);
    // Order a, which decides, does not cover all that lies below.
    assert!(seen.decision.unwrap().nodata);
}

#[test]
fn f3_the_stronger_action_decides_then_the_older_order_then_the_smaller_id() {
    let refused = order("1", &["x.net"]).only(Protocol::Dns, Action::Refused);
    let drop = |id| order(id, &["x.net"]).only(Protocol::Dns, Action::Drop);
    let older = drop("9").terms(|terms| terms.issued = date(2024, 12, 31));
    let decides = |orders: Vec<Order>| Bench::new(orders).dns("x.net").unwrap().0;
    assert_eq!(decides(vec![refused.clone(), drop("2")]), "2");
    assert_eq!(decides(vec![refused.clone(), drop("3"), drop("2")]), "2");
    assert_eq!(decides(vec![refused.clone(), drop("2"), older.clone(), drop("3")]), "9");
    let seen = Bench::new([refused, drop("2"), older]).see("x.net", asks(Protocol::Dns));
    assert_eq!(seen.concerned, ["9", "1", "2"]);
}

#[test]
fn f3_of_two_ends_each_order_keeps_its_own() {
    let short = order("a", &["x.net"]).terms(|terms| terms.not_after = Some(day(10)));
    let endless = order("b", &["x.net"]).terms(|terms| terms.not_after = None);
    let bench = Bench::new([short, endless]);
    let at = |time| bench.see("x.net", Asks { time, ..asks(Protocol::Dns) });
    assert_eq!(at(day(9)).concerned, ["a", "b"]);
    assert_eq!(at(day(10)).concerned, ["b"]);
    assert_eq!(at(day(100_000)).concerned, ["b"]);
}

#[test]
fn f3_more_orders_than_a_slot_holds_are_all_in_force() {
    let ids: Vec<_> = (10..40).map(|id| id.to_string()).collect();
    let bench = Bench::new(ids.iter().map(|id| order(id, &["x.net"])));
    assert_eq!(bench.see("www.x.net", asks(Protocol::Quic)).concerned, ids);
}

#[test]
fn nxdomain_is_nodata_above_a_hole_and_only_there() {
    let bench = Bench::new([order("a", &["x"]).except(&["hole.b.x"])]);
    assert_eq!(bench.dns("x"), nodata("a", 1));
    assert_eq!(bench.dns("b.x"), nodata("a", 1));
    assert_eq!(bench.dns("hole.b.x"), NOT_LISTED);
    for whole in ["c.x", "c.b.x", "hole.c.x"] {
        assert_eq!(bench.dns(whole), nxdomain("a", 1), "{whole}");
    }

    let bench = Bench::with_allow([order("a", &["x"])], &[("hole.b.x", Match::Exact)]);
    assert_eq!(bench.dns("x"), nodata("a", 1));
    assert_eq!(bench.dns("b.x"), nodata("a", 1));
    assert_eq!(bench.dns("c.b.x"), nxdomain("a", 1));
}

#[test]
fn nodata_goes_with_the_hole() {
    let mut bench = Bench::new([order("a", &["x"]).except(&["hole.b.x"])]);
    bench.orders[0].except.clear();
    bench.compiler.put(&bench.orders[0]).unwrap();
    let changes = bench.commit();
    assert_eq!(changes.delete, [name("b.x"), name("hole.b.x")]);
    assert_eq!(bench.dns("x"), nxdomain("a", 1));
    assert_eq!(bench.dns("hole.b.x"), nxdomain("a", 1));
    assert_eq!(bench.image.nodes(), 1);
}

#[test]
fn an_order_may_insist_on_nxdomain_but_not_over_a_hole() {
    let insists = order("a", &["x", "y"]).reach(Match::Exact).terms(|terms| terms.insist_nxdomain = true);
    let bench = Bench::with_allow([insists], &[("hole.b.y", Match::Subtree)]);
    assert_eq!(bench.dns("x"), nxdomain("a", 1));
    assert_eq!(bench.dns("y"), nodata("a", 1));
    assert_eq!(bench.dns("b.y"), NOT_LISTED);
}
