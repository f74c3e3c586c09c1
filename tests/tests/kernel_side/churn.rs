//! Names, policies and scopes change without a pause while packets are judged on another CPU: no wrong verdict.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use cordon_tests::packet::{Ip, Packet, Query};
use filter_common::{
    layout::{Node, Policy, PolicyEntry, SCOPE_ALL},
    verdict::Action,
};
use filter_user::{
    kernel::{Capacity, Clock, Kernel, Reading},
    name::Name,
    policy::{Changes, OrderSlot},
};
use jiff::Timestamp;

use crate::support::CAPACITY;

const DROP: u32 = 1;
const PASS: u32 = 2;

/// Names of each kind. All that are there fill the table, so that slots go from one name to another.
const NAMES: u32 = 16_384;

/// Order slots, and the policies that name them.
const DROPS: u32 = 3;
const OBSERVES: u32 = 4;

fn order(action: Action, scopes: u64) -> OrderSlot {
    OrderSlot {
        id: format!("{action:?}"),
        start: Timestamp::MIN,
        end: None,
        scopes,
        actions: [action as u8, 0, 0, 0],
        target: 0,
        ede: 16,
        text: String::new(),
        a: None,
        aaaa: None,
    }
}

fn policy(order: u32) -> Policy {
    let mut policy = Policy { len: 1, ..Policy::default() };
    policy.entries[0] = PolicyEntry { order, depth: 2, flags: 0, pad: [0; 2] };
    policy
}

fn name(kind: &str, number: u32) -> Name {
    Name::parse(&format!("{kind}{number}.example")).unwrap()
}

/// Nodes for some names of a kind, under one policy.
fn nodes(kind: &str, numbers: impl Iterator<Item = u32>, policy: u32) -> Vec<(Name, Node)> {
    numbers.map(|number| (name(kind, number), Node { at: policy, below: policy })).collect()
}

#[test]
fn names_policies_and_scopes_change_under_traffic() {
    let kernel = Kernel::ephemeral(&Capacity { names: 4 * NAMES, ..CAPACITY }).unwrap();
    let tables = kernel.tables();
    tables.set_ports(&Reading::default()).unwrap();
    let depths = [1 << 2, 0];
    let begin = Changes {
        orders: vec![(DROPS, order(Action::Drop, SCOPE_ALL)), (OBSERVES, order(Action::Observe, SCOPE_ALL))],
        policies: vec![(5, policy(DROPS)), (6, policy(OBSERVES)), (7, policy(DROPS)), (8, policy(OBSERVES))],
        depths_during: depths,
        insert: [nodes("listed", 0..NAMES, 5), nodes("observed", 0..NAMES, 6)].concat(),
        depths,
        ..Changes::default()
    };
    tables.apply(&begin, &Clock::now()).unwrap();

    let seconds = if std::env::var_os("CORDON_TEST_FULL").is_some() { 60 } else { 3 };
    let (begun, done) = (Instant::now(), AtomicBool::new(false));
    let (changes, asked) = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut asked = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let number = asked.wrapping_mul(7919) % NAMES;
                // Of the last two kinds half are there, stopped or observed; at most one moment of each is another's.
                for (kind, expected) in
                    [("listed", Some(DROP)), ("observed", Some(PASS)), ("other", Some(PASS)), ("watched", Some(PASS))]
                        .into_iter()
                        .chain([("stopped", None)])
                {
                    let query = Query::new(&format!("{kind}{number}.example"));
                    let action = kernel.run(&Packet::dns(Ip::v4(), &query).build(), 1).unwrap().xdp_action;
                    let expected = expected.unwrap_or(action);
                    assert_eq!(action, expected, "{kind}{number}.example after {asked} rounds");
                    assert!(matches!(action, DROP | PASS), "{action}");
                }
                asked += 1;
            }
            asked
        });
        let mut changes = 0;
        let mut round = 0_u32;
        while begun.elapsed() < Duration::from_secs(seconds) && !asker.is_finished() {
            // Every second name of two kinds changes places with the others; those that stay change their policy.
            let (come, go) = (round % 2, (round + 1) % 2);
            let half = |from: u32| (from..NAMES).step_by(2);
            let [stop, watch] = [[5, 6], [7, 8]][round as usize / 2 % 2];
            let gone = |kind| half(go).map(move |number| name(kind, number));
            let next = Changes {
                // A policy that no node leads to now.
                policies: vec![(9 + come, policy(DROPS))],
                depths_during: depths,
                insert: [nodes("stopped", half(come), stop), nodes("watched", half(come), watch)].concat(),
                update: [nodes("listed", 0..NAMES / 4, stop), nodes("observed", 0..NAMES / 4, watch)].concat(),
                delete: if round == 0 { Vec::new() } else { gone("stopped").chain(gone("watched")).collect() },
                depths,
                ..Changes::default()
            };
            changes += next.insert.len() + next.update.len() + next.delete.len();
            tables.apply(&next, &Clock::now()).unwrap();
            let prefix = format!("10.{}.0.0/16", round % 256).parse().unwrap();
            tables.set_scopes(&[(1, vec![prefix])]).unwrap();
            round += 1;
        }
        done.store(true, Ordering::Relaxed);
        (changes, asker.join().unwrap())
    });
    println!("{changes} changes in {:?}, {asked} rounds of questions", begun.elapsed());
    assert!(asked > 100 && changes > NAMES as usize, "{asked} {changes}");
}
