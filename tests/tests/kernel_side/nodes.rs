//! Nodes, policies and orders: written, taken over, compared, while packets are judged by them.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use cordon_tests::packet::{Ip, Packet, Query};
use filter_common::{
    layout::{Hits, Node, POLICY_ALLOW, Policy, PolicyEntry, SCOPE_ALL, client_detail},
    verdict::{Action, Protocol, Reason},
};
use filter_user::{
    kernel::{Behaviour, Capacity, Clock, Difference, Error, InUse, Kernel, Reading, Tables},
    name::Name,
    policy::{Changes, OrderSlot},
};
use jiff::{SignedDuration, Timestamp};

use crate::support::CAPACITY;

const DROP: u32 = 1;
const PASS: u32 = 2;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// An order that drops DNS for everyone.
fn order(start: Timestamp, end: Option<Timestamp>) -> OrderSlot {
    OrderSlot {
        id: "one".into(),
        start,
        end,
        scopes: SCOPE_ALL,
        actions: [Action::Drop as u8, 0, 0, 0],
        target: 0,
        ede: 16,
        text: "RG 24/1".into(),
        a: None,
        aaaa: None,
    }
}

fn policy(order: u32, depth: u8) -> Policy {
    let mut policy = Policy { len: 1, ..Policy::default() };
    policy.entries[0] = PolicyEntry { order, depth, flags: 0, pad: [0; 2] };
    policy
}

fn depths(of: &[u32]) -> [u64; 2] {
    of.iter().fold([0; 2], |[low, high], depth| [low | 1 << depth, high])
}

/// `names`, subtrees of two labels, under one order in one policy.
fn state(names: impl IntoIterator<Item = String>, order_slot: u32, policy_slot: u32) -> Changes {
    let node = Node { at: policy_slot, below: policy_slot };
    Changes {
        orders: vec![(order_slot, order(Timestamp::MIN, None))],
        policies: vec![(policy_slot, policy(order_slot, 2))],
        depths_during: depths(&[2]),
        insert: names.into_iter().map(|text| (name(&text), node)).collect(),
        depths: depths(&[2]),
        ..Changes::default()
    }
}

fn kernel(capacity: &Capacity) -> Kernel {
    let kernel = Kernel::ephemeral(capacity).unwrap();
    kernel.tables().set_ports(&Reading::default());
    let behaviour = Behaviour {
        answers_per_second: u32::MAX,
        events_per_second: u32::MAX,
        client_detail: client_detail::FULL,
        ..Behaviour::default()
    };
    kernel.tables().set_behaviour(&behaviour).unwrap();
    kernel
}

fn ask(kernel: &Kernel, name: &str) -> u32 {
    kernel.run(&Packet::dns(Ip::v4(), &Query::new(name)).build(), 1).unwrap().xdp_action
}

fn count(tables: &Tables, reason: Reason) -> u64 {
    let counters = tables.counters().unwrap();
    counters.iter().find(|(found, _)| *found == reason).unwrap().1.packets
}

#[test]
fn events_tell_scopes_that_no_order_asks_for() {
    let kernel = kernel(&CAPACITY);
    let tables = kernel.tables();
    let mut events = tables.events().unwrap();
    tables.set_scopes(&[(3, vec!["192.0.2.0/24".parse().unwrap()])]).unwrap();
    tables.apply(&state(["example.com".into()], 3, 5), &Clock::now()).unwrap();
    assert_eq!(ask(&kernel, "example.com"), DROP);
    let event = events.try_next().unwrap();
    assert_eq!((event.order, event.scopes), (3, SCOPE_ALL | 1 << 3));
    assert_eq!(events.try_next(), None);
    assert_eq!(count(tables, Reason::Dropped), 1);
}

#[test]
fn what_is_applied_is_enforced_counted_and_reported() {
    let kernel = kernel(&CAPACITY);
    let tables = kernel.tables();
    let mut events = tables.events().unwrap();
    assert_eq!(ask(&kernel, "www.example.com"), PASS);
    assert_eq!(events.try_next(), None);

    let mut changes = state(["example.com".into(), "example.org".into()], 3, 5);
    changes.insert.insert(0, (name("ok.example.org"), Node { at: POLICY_ALLOW, below: POLICY_ALLOW }));
    changes.depths = depths(&[2, 3]);
    changes.depths_during = changes.depths;
    tables.apply(&changes, &Clock::now()).unwrap();
    assert_eq!(tables.settings().unwrap().generation, 1);
    assert_eq!(tables.settings().unwrap().depths, depths(&[2, 3]));
    assert_eq!(tables.node(&name("example.com")), Some(Node { at: 5, below: 5 }));
    assert_eq!(tables.node(&name("www.example.com")), None);
    assert_eq!(tables.policy(5).unwrap(), policy(3, 2));
    assert_eq!((tables.order(3).unwrap().start, tables.order(3).unwrap().end), (0, u64::MAX));
    let in_use = InUse { policies: HashSet::from([5]), orders: HashSet::from([3]) };
    assert_eq!(tables.in_use_slots().unwrap(), in_use);

    assert_eq!(ask(&kernel, "wWw.eXample.com"), DROP);
    let event = events.try_next().unwrap();
    assert_eq!((&event.name[..], &event.rule[..]), ("www.example.com", "example.com"));
    assert_eq!((event.order, event.reason, event.protocol), (3, Reason::Dropped, Protocol::Dns));
    assert_eq!((event.scopes, event.client), (SCOPE_ALL, Some("192.0.2.10".parse().unwrap())));
    let ago = Timestamp::now().duration_since(Clock::now().wall(event.time));
    assert!(ago.abs() < SignedDuration::from_secs(1), "{ago}");
    assert_eq!(events.try_next(), None);
    assert_eq!(tables.hits().unwrap().into_iter().collect::<Vec<_>>(), [(3, Hits { decided: 1, concerned: 1 })]);
    tables.clear_hits(&[3]).unwrap();
    assert!(tables.hits().unwrap().is_empty());

    assert_eq!(ask(&kernel, "a.ok.example.org"), PASS);
    assert_eq!(count(tables, Reason::Allowed), 1);

    let next = Changes {
        // What is not there does not matter, wherever it stands.
        delete: ["not.there", "example.com", "nor.this", "ok.example.org"].map(name).into(),
        depths_during: depths(&[2, 3]),
        depths: depths(&[2]),
        retired_orders: vec![7],
        ..Changes::default()
    };
    tables.apply(&next, &Clock::now()).unwrap();
    assert_eq!(ask(&kernel, "www.example.com"), PASS);
    assert_eq!(ask(&kernel, "ok.example.org"), DROP);
    assert_eq!((tables.settings().unwrap().generation, tables.settings().unwrap().depths), (2, depths(&[2])));
    assert_eq!(tables.order(7).unwrap().end, 0);
}

#[test]
fn orders_begin_and_end_by_the_kernels_clock_and_follow_the_wall_clock() {
    let kernel = kernel(&CAPACITY);
    let tables = kernel.tables();
    let clock = Clock::now();
    let from_now = |milliseconds| Timestamp::now() + SignedDuration::from_millis(milliseconds);
    let mut changes = state(["example.com".into()], 3, 5);
    changes.orders = vec![(3, order(from_now(200), Some(from_now(500))))];
    tables.apply(&changes, &clock).unwrap();
    assert_eq!(ask(&kernel, "example.com"), PASS);
    assert_eq!(count(tables, Reason::OtherTime), 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ask(&kernel, "example.com"), DROP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ask(&kernel, "example.com"), PASS);
    assert_eq!(count(tables, Reason::OtherTime), 2);

    // The wall clock was set back by 300 ms.
    let slots = changes.orders.iter().map(|(slot, order)| (*slot, order));
    tables.rewrite_times(slots, &Clock { offset: clock.offset - 300_000_000 }).unwrap();
    assert_eq!(ask(&kernel, "example.com"), DROP);
}

#[test]
fn a_full_table_names_its_key_and_stops_nobody_else() {
    let kernel = kernel(&Capacity { names: 4, ..CAPACITY });
    let tables = kernel.tables();
    let names = |range: std::ops::Range<u32>| range.map(|n| format!("n{n}.example"));
    tables.apply(&state(names(0..3), 3, 5), &Clock::now()).unwrap();
    let error = tables.apply(&state(names(3..20), 4, 6), &Clock::now()).unwrap_err();
    assert_eq!(error.to_string(), "NAMES is full at 4 entries: raise `capacity.names` in the configuration");
    assert!(matches!(error, Error::Full { key: Some("names"), .. }));
    for n in 0..3 {
        assert_eq!(ask(&kernel, &format!("n{n}.example")), DROP);
    }
    assert_eq!(ask(&kernel, "other.example"), PASS);
    assert_eq!(tables.settings().unwrap().generation, 1);

    let before = state(names(0..3), 3, 5);
    let expected = before.insert.iter().map(|(name, node)| (name, *node));
    let repaired = tables.compare_and_repair(expected).unwrap();
    assert_eq!(repaired, Difference { inserted: 0, updated: 0, deleted: 1 });
    assert_eq!(ask(&kernel, "n3.example"), PASS);
    assert_eq!(tables.snapshot().len(), 3);
}

#[test]
fn many_names_are_read_back() {
    let kernel = kernel(&CAPACITY);
    let tables = kernel.tables();
    let changes = state((0..60_000).map(|n| format!("n{n}.example")), 3, 5);
    tables.apply(&changes, &Clock::now()).unwrap();
    assert_eq!(tables.snapshot().len(), 60_000);
    let expected = || changes.insert.iter().map(|(name, node)| (name, *node));
    assert_eq!(tables.compare_and_repair(expected()).unwrap(), Difference::default());
    assert_eq!(
        tables.compare_and_repair(expected().skip(20_000)).unwrap(),
        Difference { inserted: 0, updated: 0, deleted: 20_000 }
    );
    assert_eq!(tables.compare_and_repair(expected()).unwrap(), Difference { inserted: 20_000, updated: 0, deleted: 0 });
    let gone = Changes { delete: changes.insert.into_iter().map(|(name, _)| name).collect(), ..Changes::default() };
    tables.apply(&gone, &Clock::now()).unwrap();
    assert_eq!(tables.snapshot().len(), 0);
}

#[test]
fn a_fresh_state_takes_over_from_an_old_one_under_traffic() {
    let kernel = kernel(&CAPACITY);
    let tables = kernel.tables();
    // Half of each state's names are in the other one, too.
    let names = |range: std::ops::Range<u32>| range.map(|n| format!("n{n}.example"));
    tables.apply(&state(names(0..20_000), 3, 5), &Clock::now()).unwrap();
    let old = tables.in_use_slots().unwrap();
    assert_eq!(old, InUse { policies: HashSet::from([5]), orders: HashSet::from([3]) });

    let done = AtomicBool::new(false);
    let difference = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                asked += 1;
                assert_eq!(ask(&kernel, &format!("www.n{}.example", 10_000 + asked * 7919 % 10_000)), DROP);
                assert_eq!(ask(&kernel, &format!("m{asked}.example")), PASS);
            }
            asked
        });
        let difference = tables.take_over(&state(names(10_000..30_000), 4, 6), &old, &Clock::now()).unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(asker.join().unwrap() > 10);
        difference
    });
    assert_eq!(difference, Difference { inserted: 10_000, updated: 10_000, deleted: 10_000 });
    assert_eq!(tables.in_use_slots().unwrap(), InUse { policies: HashSet::from([6]), orders: HashSet::from([4]) });
    assert_eq!((tables.order(3).unwrap().end, tables.order(4).unwrap().end), (0, u64::MAX));
    assert_eq!(ask(&kernel, "n9999.example"), PASS);
    assert_eq!(ask(&kernel, "n10000.example"), DROP);
    assert_eq!(ask(&kernel, "n29999.example"), DROP);
    assert_eq!(tables.settings().unwrap().generation, 2);
}
