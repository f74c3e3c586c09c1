//! Names, policies and scopes change without a pause while packets are judged on another CPU: no wrong verdict.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use cordon_tests::packet::{Ip, Packet, Query};
use filter_common::{
    layout::{Node, POLICY_NONE, Policy, PolicyEntry, SCOPE_ALL},
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

/// Names of each kind. All that are there nearly fill the table, so that slots go from one name to another.
const NAMES: u32 = 16_384;

/// Of those that are always there, so many change their policy each round.
const MOVING: u32 = NAMES / 4;

/// Order slots: one that drops for the client, one that observes, and one that drops for others.
const DROPS: u32 = 3;
const OBSERVES: u32 = 4;
const ELSEWHERE: u32 = 5;

/// Policy slots of the names that stay, by order.
const STAYING: [(u32, u32); 3] = [(20, DROPS), (21, OBSERVES), (22, ELSEWHERE)];

/// Scope bits: the client's, another's, and one that no order names.
const CLIENTS: u8 = 1;
const OTHERS: u8 = 2;
const IDLE: u8 = 3;

fn order(action: Action, scopes: u64) -> OrderSlot {
    OrderSlot {
        id: format!("{action:?} for {scopes:b}"),
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

/// Names of a kind, with queries for them, and what becomes of these.
struct Kind {
    names: Vec<Name>,
    frames: Vec<Vec<u8>>,
    /// `None`: the names come and go.
    action: Option<u32>,
    /// Whether the deferred tier takes them for covered.
    covered: Option<bool>,
}

impl Kind {
    fn new(kind: &str, action: Option<u32>, covered: Option<bool>) -> Self {
        let texts: Vec<_> = (0..NAMES).map(|number| format!("{kind}{number}.example")).collect();
        let frame = |text: &String| Packet::dns(Ip::v4(), &Query::new(text)).build();
        Self {
            names: texts.iter().map(|text| Name::parse(text).unwrap()).collect(),
            frames: texts.iter().map(frame).collect(),
            action,
            covered,
        }
    }

    /// Nodes for some of them, under one policy.
    fn nodes(&self, numbers: impl Iterator<Item = u32>, policy: u32) -> Vec<(Name, Node)> {
        let node = Node { at: policy, below: policy };
        numbers.map(|number| (self.names[number as usize].clone(), node)).collect()
    }

    fn some(&self, numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = Name> {
        numbers.map(|number| self.names[number as usize].clone())
    }
}

/// Every second number.
fn half(from: u32) -> impl Iterator<Item = u32> + Clone {
    (from..NAMES).step_by(2)
}

/// The same changes, a few names at a time.
fn parts(changes: &Changes) -> Vec<Changes> {
    let Changes { policies, depths_during, insert, update, delete, depths, .. } = changes;
    let part = Changes { depths_during: *depths_during, depths: *depths, ..Changes::default() };
    let mut parts = vec![Changes { policies: policies.clone(), ..part.clone() }];
    parts.extend(insert.chunks(PART).map(|insert| Changes { insert: insert.to_vec(), ..part.clone() }));
    let (stays, goes) = update.split_at(update.len() - delete.len());
    parts.extend(stays.chunks(PART).map(|update| Changes { update: update.to_vec(), ..part.clone() }));
    let goes = goes.chunks(PART).zip(delete.chunks(PART));
    parts.extend(goes.map(|(update, delete)| Changes {
        update: update.to_vec(),
        delete: delete.to_vec(),
        ..part.clone()
    }));
    parts
}

const PART: usize = 2000;

#[test]
fn names_policies_and_scopes_change_under_traffic() {
    let kernel = Kernel::ephemeral(&Capacity { names: 6 * NAMES, ..CAPACITY }).unwrap();
    let tables = kernel.tables();
    tables.set_ports(&Reading::default());
    let listed = Kind::new("listed", Some(DROP), Some(true));
    let observed = Kind::new("observed", Some(PASS), Some(true));
    let elsewhere = Kind::new("elsewhere", Some(PASS), Some(true));
    let other = Kind::new("other", Some(PASS), Some(false));
    // Half of each of these is there. What is dropped and what is observed have each other's slots the round after.
    let stopped = Kind::new("stopped", None, None);
    let watched = Kind::new("watched", Some(PASS), None);
    let kinds = [&listed, &observed, &elsewhere, &other, &stopped, &watched];

    let set_scopes = |round: u32| {
        let nets = |texts: &[String]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let others = nets(&[format!("10.{}.0.0/16", round % 256), "192.0.3.0/24".to_owned()]);
        // Around the client's prefix, and within: so its entry's bits, and which entry it is, change.
        let idle = nets(&[["192.0.0.0/16", "192.0.2.0/25"][round as usize % 2].to_owned()]);
        let clients = nets(&["192.0.2.0/24".to_owned()]);
        tables.set_scopes(&[(CLIENTS, clients), (OTHERS, others), (IDLE, idle)]).unwrap();
    };
    set_scopes(0);
    let depths = [1 << 2, 0];
    let begin = Changes {
        orders: vec![
            (DROPS, order(Action::Drop, 1 << CLIENTS)),
            (OBSERVES, order(Action::Observe, SCOPE_ALL)),
            (ELSEWHERE, order(Action::Drop, 1 << OTHERS)),
        ],
        policies: STAYING.map(|(slot, order)| (slot, policy(order))).to_vec(),
        depths_during: depths,
        insert: [&listed, &observed, &elsewhere]
            .into_iter()
            .zip(STAYING)
            .flat_map(|(kind, (slot, _))| kind.nodes(0..NAMES, slot))
            .collect(),
        depths,
        ..Changes::default()
    };
    tables.apply(&begin, &Clock::now()).unwrap();

    let seconds = if std::env::var_os("CORDON_TEST_FULL").is_some() { 60 } else { 3 };
    let (begun, done, refills) = (Instant::now(), AtomicBool::new(false), AtomicUsize::new(0));
    let (changes, asked) = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut asked = 0_usize;
            let mut come_and_gone = [0_usize; 2];
            while !done.load(Ordering::Relaxed) {
                let number = asked.wrapping_mul(7919) % NAMES as usize;
                for kind in kinds {
                    let name = &kind.names[number];
                    let action = kernel.run(&kind.frames[number], 1).unwrap().xdp_action;
                    match kind.action {
                        Some(expected) => assert_eq!(action, expected, "{name} after {asked} rounds"),
                        None => come_and_gone[usize::from(action == DROP)] += 1,
                    }
                    assert!(matches!(action, DROP | PASS), "{name}: {action}");
                    let covered = tables.is_covered(name).unwrap();
                    assert_eq!(covered, kind.covered.unwrap_or(covered), "{name} after {asked} rounds, to the tier");
                }
                asked += 1;
            }
            assert!(come_and_gone.iter().all(|count| *count > 0), "{come_and_gone:?}");
            asked
        });
        let mut changes = 0;
        let mut round = 0;
        while begun.elapsed() < Duration::from_secs(seconds) && !asker.is_finished() {
            let (come, go) = (round % 2, (round + 1) % 2);
            // Two pairs of policies by turns; a pair that nothing leads to any more changes its order, too.
            let pair = 5 + 2 * (round % 2);
            let swap = round / 2 % 2;
            let (drop, observe) = (pair + swap, pair + 1 - swap);
            let gone = match round {
                0 => Vec::new(),
                _ => [stopped.nodes(half(go), POLICY_NONE), watched.nodes(half(go), POLICY_NONE)].concat(),
            };
            let next = Changes {
                policies: vec![(drop, policy(DROPS)), (observe, policy(OBSERVES))],
                depths_during: depths,
                insert: [stopped.nodes(half(come), drop), watched.nodes(half(come), observe)].concat(),
                // What goes says first what holds without it, as the compiler has it.
                update: [&listed.nodes(0..MOVING, drop)[..], &observed.nodes(0..MOVING, observe), &gone].concat(),
                delete: gone.into_iter().map(|(name, _)| name).collect(),
                depths,
                ..Changes::default()
            };
            changes += next.policies.len() + next.insert.len() + next.update.len() + next.delete.len();
            if round % 3 == 0 {
                // Then nobody waits for packets but between the parts.
                for part in parts(&next) {
                    assert!(part.are_apart());
                    tables.settle().unwrap();
                    tables.apply(&part, &Clock::now()).unwrap();
                }
            } else {
                tables.apply(&next, &Clock::now()).unwrap();
            }
            set_scopes(round);
            // The filter is made anew all the time, as the daemon does it: in parts, between other changes.
            let part = round % 4;
            if part == 0 {
                tables.begin_refill();
                tables.refill(stopped.some(half(come)).chain(watched.some(half(come))));
            } else {
                tables.refill([&listed, &observed, &elsewhere][part as usize - 1].some(0..NAMES));
            }
            if part == 3 {
                tables.finish_refill().unwrap();
                refills.fetch_add(1, Ordering::Relaxed);
            }
            round += 1;
        }
        done.store(true, Ordering::Relaxed);
        (changes, asker.join().unwrap())
    });
    println!("{changes} changes in {:?}, {refills:?} refills, {asked} rounds of questions", begun.elapsed());
    assert!(asked > 100 && changes > NAMES as usize, "{asked} {changes}");
}

#[test]
fn a_name_is_stopped_at_once_however_much_the_filter_holds_of_others() {
    const BATCH: u32 = 500;
    let kernel = Kernel::ephemeral(&Capacity { names: 2 * BATCH, ..CAPACITY }).unwrap();
    let tables = kernel.tables();
    tables.set_ports(&Reading::default());
    let depths = [1 << 2 | 1 << 3, 0];
    let text = |round, n: u32| format!("r{round}n{n}.{}", ["example", "co.example"][n as usize % 2]);
    let texts = |round: u32| (0..BATCH).map(move |n| text(round, n));
    let names = |round| texts(round).map(|text| Name::parse(&text).unwrap());
    let node = Node { at: 5, below: 5 };
    let ask = |text: &str| kernel.run(&Packet::dns(Ip::v4(), &Query::new(text)).build(), 1).unwrap().xdp_action;
    let apply = |round: u32| {
        let changes = Changes {
            orders: vec![(DROPS, order(Action::Drop, SCOPE_ALL))],
            policies: vec![(5, policy(DROPS))],
            depths_during: depths,
            insert: names(round).map(|name| (name, node)).collect(),
            delete: round.checked_sub(1).into_iter().flat_map(names).collect(),
            depths,
            ..Changes::default()
        };
        tables.apply(&changes, &Clock::now()).unwrap();
        for text in texts(round) {
            assert_eq!(ask(&text), DROP, "{text}");
        }
        for text in round.checked_sub(1).into_iter().flat_map(texts) {
            assert_eq!(ask(&text), PASS, "{text}");
        }
    };
    assert!(!tables.is_stale());
    // Many times the names that the filter is made for; nobody makes it anew.
    (0..20).for_each(apply);
    assert!(tables.is_stale());

    // What is written while it is made anew is stopped at once, and stays so.
    tables.begin_refill();
    assert!(!tables.is_stale());
    apply(20);
    tables.refill(names(19));
    apply(21);
    tables.finish_refill().unwrap();
    for text in texts(21) {
        assert_eq!(ask(&text), DROP, "{text}");
    }
    apply(22);
}
