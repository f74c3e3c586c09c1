//! What a commit writes, and what it leaves alone.

use std::time::{Duration, Instant};

use filter_common::layout::{Node, POLICY_ENTRIES, POLICY_FIRST};

use super::*;
use crate::policy::{GRACE, OrderError};

#[test]
fn the_same_again_changes_nothing() {
    let mut bench = Bench::with_allow([order("a", &["x.net", "y.net"]).except(&["b.x.net"])], &[("z", Match::Below)]);
    bench.compiler.put(&bench.orders[0]).unwrap();
    bench.compiler.set_allow(bench.allow.clone()).unwrap();
    bench.compiler.add_names("a", &[name("x.net")]).unwrap();
    bench.compiler.remove_names("a", &[name("not.there")]).unwrap();
    bench.compiler.remove_names("a", &[name("y.net")]).unwrap();
    bench.compiler.add_names("a", &[name("y.net")]).unwrap();
    let depths = bench.compiler.whole().depths;
    assert_eq!(bench.commit(), Changes { depths_during: depths, depths, ..Changes::default() });
}

#[test]
fn one_more_name_is_one_more_node() {
    let mut bench = Bench::new([order("a", &["x.net"])]);
    bench.compiler.add_names("a", &[name("www.y.net")]).unwrap();
    let changes = bench.commit();
    assert_eq!(changes.insert.len(), 1);
    assert_eq!(changes.insert[0].0, name("www.y.net"));
    // A rule of another depth is another policy.
    assert_eq!(changes.policies.len(), 1);
    assert_eq!((changes.update.len(), changes.delete.len(), changes.orders.len()), (0, 0, 0));
    assert_eq!((changes.depths_during, changes.depths), ([0b1100, 0], [0b1100, 0]));
}

#[test]
fn a_removed_name_goes_with_its_depth() {
    let mut bench = Bench::new([order("a", &["x.net", "www.y.net"])]);
    bench.compiler.remove_names("a", &[name("www.y.net")]).unwrap();
    let changes = bench.commit();
    assert_eq!(changes.delete, [name("www.y.net")]);
    // Until it is gone it says what holds without it.
    assert_eq!(changes.update, [(name("www.y.net"), Node::default())]);
    assert_eq!((changes.depths_during, changes.depths), ([0b1100, 0], [0b100, 0]));
    assert_eq!((changes.insert.len(), changes.policies.len()), (0, 0));
}

#[test]
fn a_new_end_is_written_in_place() {
    let mut bench = Bench::new([order("a", &["x.net"]), order("b", &["y.net"])]);
    bench.compiler.extend("a", Some(day(200))).unwrap();
    let changes = bench.commit();
    assert_eq!(changes.orders.len(), 1);
    assert_eq!((changes.orders[0].0, changes.orders[0].1.end), (0, Some(day(200))));
    assert_eq!((changes.insert.len(), changes.update.len(), changes.policies.len()), (0, 0, 0));
    assert_eq!(changes.retired_orders, [0; 0]);
}

#[test]
fn other_terms_take_a_new_slot_and_repoint_the_names() {
    let mut bench = Bench::new([order("a", &["x.net"])]);
    bench.compiler.put(&order("a", &["x.net"]).scope("de")).unwrap();
    let changes = bench.commit();
    assert_eq!(changes.orders.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [1]);
    assert_eq!(changes.update.len(), 1);
    assert_eq!(changes.retired_orders, [0]);
    assert_eq!(bench.dns_of("x.net"), Err(Reason::OtherClient));
}

#[test]
fn new_times_move_the_order_where_something_else_changes_too() {
    let mut bench = Bench::new([order("a", &["x.net", "y.net"])]);
    // At x.net, order a ends and order b takes its place: in between, neither would hold.
    bench.compiler.extend("a", Some(day(1))).unwrap();
    bench.compiler.put(&order("b", &["x.net"])).unwrap();
    let changes = bench.commit();
    assert_eq!(changes.retired_orders, [0]);
    assert_eq!(changes.update.len(), 2);
}

#[test]
fn a_revoked_order_leaves_nothing() {
    let mut bench = Bench::new([order("a", &["x.net"]).except(&["a.b.x.net"]), order("b", &["x.net"])]);
    bench.compiler.revoke("a").unwrap();
    let changes = bench.commit();
    assert_eq!(changes.delete, [name("b.x.net"), name("a.b.x.net")]);
    assert_eq!(changes.retired_orders, [0]);
    assert_eq!(bench.dns_of("x.net").unwrap(), "b");
    bench.compiler.revoke("b").unwrap();
    bench.commit();
    assert_eq!((bench.image.nodes(), bench.compiler.whole()), (0, Changes::default()));
}

#[test]
fn freed_slots_rest_for_the_grace_period() {
    let mut bench = Bench::new([order("a", &["x.net"])]);
    let start = Instant::now();
    let slots = |changes: &Changes| (changes.orders[0].0, changes.policies[0].0);
    bench.compiler.revoke("a").unwrap();
    bench.commit();
    bench.compiler.release(start);
    bench.compiler.release(start + GRACE - Duration::from_millis(1));
    bench.compiler.put(&order("b", &["x.net"])).unwrap();
    assert_eq!(slots(&bench.commit()), (1, POLICY_FIRST + 1));
    bench.compiler.release(start + GRACE);
    bench.compiler.put(&order("c", &["y.net"])).unwrap();
    assert_eq!(slots(&bench.commit()), (0, POLICY_FIRST));
}

#[test]
fn slots_of_an_earlier_run_rest_likewise() {
    let mut compiler = compiler();
    compiler.occupy(&[1].into(), &[POLICY_FIRST].into());
    compiler.put(&order("a", &["x.net"])).unwrap();
    compiler.put(&order("b", &["y.net"])).unwrap();
    let changes = compiler.commit().unwrap();
    assert_eq!(changes.orders.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 2]);
    assert!(changes.policies.iter().all(|(slot, _)| *slot > POLICY_FIRST));
}

#[test]
fn a_long_policy_is_a_chain() {
    let bench = Bench::new((10..25).map(|id| order(&id.to_string(), &["x.net"])));
    let policies = bench.compiler.whole().policies;
    let lens: Vec<_> = policies.iter().map(|(_, policy)| (policy.len as usize, policy.next)).collect();
    assert_eq!(lens, [(POLICY_ENTRIES, POLICY_FIRST + 1), (POLICY_ENTRIES, POLICY_FIRST + 2), (1, 0)]);
}

#[test]
fn the_text_is_the_reference_cut_at_a_character_or_the_id() {
    let text = |reference: &str| {
        let mut compiler = compiler();
        compiler.put(&order("the-id", &["x.net"]).terms(|terms| terms.reference = reference.to_owned())).unwrap();
        compiler.commit().unwrap().orders[0].1.text.clone()
    };
    assert_eq!(text("RG 25/01234"), "RG 25/01234");
    assert_eq!(text(""), "the-id");
    assert_eq!(text(&"é".repeat(40)), "é".repeat(32));
    assert_eq!(text(&format!("x{}", "é".repeat(40))), format!("x{}", "é".repeat(31)));
}

#[test]
fn an_order_that_does_not_fit_the_configuration_is_refused() {
    let mut compiler = compiler();
    let redirects = |target: Option<&str>| {
        order("a", &["x.net"])
            .only(Protocol::Tls, Action::Redirect)
            .terms(|terms| terms.redirect = target.map(str::to_owned))
    };
    let id = || "a".to_owned();
    let refused = compiler.put(&order("a", &["x.net"]).scope("it")).unwrap_err();
    assert_eq!(refused, OrderError::UnknownScope { order: id(), scope: "it".to_owned() });
    let refused = compiler.put(&redirects(Some("nowhere"))).unwrap_err();
    assert_eq!(refused, OrderError::UnknownTarget { order: id(), target: "nowhere".to_owned() });
    assert_eq!(compiler.put(&redirects(None)).unwrap_err(), OrderError::NoTarget { order: id() });
    for refused in [compiler.revoke("a"), compiler.extend("a", None), compiler.add_names("a", &[name("x.net")])] {
        assert_eq!(refused.unwrap_err(), OrderError::UnknownOrder { order: id() });
    }
    assert_eq!(compiler.commit().unwrap(), Changes::default());
    compiler.put(&redirects(Some("dpi"))).unwrap();
    assert_eq!(compiler.commit().unwrap().orders[0].1.target, 3);
}

impl Bench {
    fn dns_of(&self, text: &str) -> Result<String, Reason> {
        by_tables(&self.image, &name(text), asks(Protocol::Dns)).decision.map(|decided| decided.order)
    }
}
