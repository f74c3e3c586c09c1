//! Random orders, changed at random: the tables say what the definition says, and while a commit is written, each
//! name is judged by its old or by its new state.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::policy::{
    CapacityError, GRACE,
    image::{Step, Tables},
};

#[derive(Clone, Debug)]
enum Op {
    Put(Order),
    Add(usize, Vec<Name>),
    Remove(usize, Vec<Name>),
    Extend(usize, Option<i64>),
    Revoke(usize),
    Allow(Vec<(Name, Match)>),
    Commit,
}

/// All names of up to four labels `a` or `b`.
fn all_names() -> Vec<Name> {
    let mut names = vec![String::from("a"), String::from("b")];
    for start in [0, 2, 6] {
        let longer: Vec<_> = names[start..].iter().flat_map(|it| [format!("a.{it}"), format!("b.{it}")]).collect();
        names.extend(longer);
    }
    names.iter().map(|text| name(text)).collect()
}

fn any_name() -> impl Strategy<Value = Name> {
    select(all_names())
}

fn names(most: usize) -> impl Strategy<Value = Vec<Name>> {
    vec(any_name(), 0..=most)
}

fn reach() -> impl Strategy<Value = Match> {
    select(vec![Match::Exact, Match::Subtree, Match::Below])
}

fn actions() -> impl Strategy<Value = BTreeMap<Protocol, Action>> {
    let action = |protocol| {
        let all = vec![None, Some(Action::Nxdomain), Some(Action::Nxdomain), Some(Action::Observe), Some(Action::Drop)];
        select(all).prop_map(move |action| action.map(|action| (protocol, action)))
    };
    (action(Protocol::Dns), action(Protocol::Tls)).prop_map(|(dns, tls)| dns.into_iter().chain(tls).collect())
}

fn any_order() -> impl Strategy<Value = Order> {
    let terms = (
        (0..IDS, 1i8..3, reach(), actions()),
        (select(vec!["all", "fr", "de"]), 0i64..3, proptest::option::of(0i64..3), any::<bool>()),
    );
    (terms, names(4), names(2)).prop_map(|(((id, issued, reach, actions), rest), names, except)| {
        let (scope, start, end, insist) = rest;
        let mut order = order(&id.to_string(), &[]).reach(reach).scope(scope).terms(|terms| {
            terms.issued = date(2025, 1, issued);
            terms.actions = actions;
            terms.not_before = day(start);
            terms.not_after = end.map(|days| day(start + 1 + days));
            terms.insist_nxdomain = insist;
        });
        (order.names, order.except) = (names.into_iter().collect(), except.into_iter().collect());
        order
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => any_order().prop_map(Op::Put),
        2 => (0..IDS, names(3)).prop_map(|(id, names)| Op::Add(id, names)),
        2 => (0..IDS, names(6)).prop_map(|(id, names)| Op::Remove(id, names)),
        2 => (0..IDS, proptest::option::of(1i64..6)).prop_map(|(id, end)| Op::Extend(id, end)),
        1 => (0..IDS).prop_map(Op::Revoke),
        1 => vec((any_name(), reach()), 0..3).prop_map(Op::Allow),
        4 => Just(Op::Commit),
    ]
}

#[derive(Clone, Default)]
struct Model {
    orders: BTreeMap<String, Order>,
    allow: Vec<(Name, Match)>,
}

impl Model {
    /// Does the operation here and there.
    fn apply(&mut self, op: &Op, compiler: &mut Compiler) {
        let order = |id: &usize| self.orders.get(&id.to_string()).cloned();
        let id = |id: &usize| id.to_string();
        let changed = match op {
            Op::Put(order) => {
                compiler.put(order).unwrap();
                Some(order.clone())
            }
            Op::Add(number, names) => {
                let result = compiler.add_names(&id(number), names);
                assert_eq!(result.is_ok(), order(number).is_some());
                order(number).map(|mut order| {
                    order.names.extend(names.iter().cloned());
                    order
                })
            }
            Op::Remove(number, names) => {
                let result = compiler.remove_names(&id(number), names);
                assert_eq!(result.is_ok(), order(number).is_some());
                order(number).map(|mut order| {
                    order.names.retain(|name| !names.contains(name));
                    order
                })
            }
            Op::Extend(number, end) => {
                let result = compiler.extend(&id(number), end.map(day));
                assert_eq!(result.is_ok(), order(number).is_some());
                order(number).map(|order| order.terms(|terms| terms.not_after = end.map(day)))
            }
            Op::Revoke(number) => {
                let result = compiler.revoke(&id(number));
                assert_eq!(result.is_ok(), self.orders.remove(&id(number)).is_some());
                None
            }
            Op::Allow(allow) => {
                compiler.set_allow(allow.iter().cloned()).unwrap();
                self.allow.clone_from(allow);
                None
            }
            Op::Commit => None,
        };
        if let Some(order) = changed {
            self.orders.insert(order.terms.id.clone(), order);
        }
    }

    fn see(&self, name: &Name, questions: &[Asks]) -> Vec<Seen> {
        questions.iter().map(|asks| by_definition(self.orders.values(), &self.allow, name, *asks)).collect()
    }
}

fn see(image: &Image, name: &Name, questions: &[Asks]) -> Vec<Seen> {
    questions.iter().map(|asks| by_tables(image, name, *asks)).collect()
}

/// Every protocol and kind of client, each at one random time.
fn questions() -> impl Strategy<Value = Vec<Asks>> {
    let clients: Vec<u64> = ["fr", "de"].map(|scope| scopes().bit(scope).unwrap()).into();
    vec(0i64..7, 6).prop_map(move |times| {
        let kinds = [Protocol::Dns, Protocol::Tls]
            .into_iter()
            .flat_map(|protocol| [0, clients[0], clients[1]].map(|scope| (protocol, SCOPE_ALL | scope)));
        kinds.zip(times).map(|((protocol, scopes), time)| Asks { scopes, protocol, time: day(time) }).collect()
    })
}

/// Policy slots that packets may be looking at.
fn slots_in_use(image: &Image, names: &[Name]) -> HashSet<u32> {
    let mut slots = HashSet::new();
    for node in names.iter().filter_map(|name| image.node(name)) {
        for mut slot in [node.at, node.below] {
            while slots.insert(slot) {
                slot = image.policy(slot).map_or(0, |policy| policy.next);
            }
        }
    }
    slots
}

fn node_names(changes: &Changes) -> BTreeSet<&Name> {
    changes.insert.iter().map(|(name, _)| name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_agree_with_the_definition_at_every_step(ops in vec(op(), 1..24), questions in questions()) {
        let names = all_names();
        let (mut compiler, mut image) = (compiler(), Image::default());
        let (mut model, mut committed) = (Model::default(), Model::default());
        let mut now = Instant::now();
        for op in ops.into_iter().chain([Op::Commit]) {
            model.apply(&op, &mut compiler);
            if !matches!(op, Op::Commit) {
                continue;
            }
            let changes = compiler.commit().unwrap();
            let states: Vec<_> =
                names.iter().map(|name| (name, committed.see(name, &questions), model.see(name, &questions))).collect();
            let in_use = slots_in_use(&image, &names);
            // Who meets some nodes as they were and others as they will be.
            let written: BTreeSet<&Name> = changes.insert.iter().chain(&changes.update).map(|(name, _)| name).collect();
            prop_assert!(changes.delete.iter().all(|name| written.contains(name)));
            let meets_two = |name: &&Name| name.suffixes().filter(|name| written.contains(name)).count() > 1;
            prop_assert_eq!(changes.are_apart(), !written.iter().any(meets_two));
            for step in changes.steps() {
                if let Step::Policy(slot, _) = step {
                    prop_assert!(!in_use.contains(&slot), "policy {slot} is in use");
                }
                image.write(step);
                for (name, before, after) in &states {
                    let seen = see(&image, name, &questions);
                    prop_assert!(
                        seen == *before || seen == *after,
                        "{name:?} at {step:?}: {seen:?}, neither {before:?} nor {after:?}"
                    );
                }
            }
            for (name, _, after) in &states {
                prop_assert_eq!(&see(&image, name, &questions), after, "{:?}", name);
            }

            // What came about in steps is what a fresh start comes to.
            let whole = compiler.whole();
            let mut fresh = super::compiler();
            fresh.set_allow(model.allow.clone()).unwrap();
            model.orders.values().for_each(|order| fresh.put(order).unwrap());
            let fresh = fresh.commit().unwrap();
            prop_assert_eq!(node_names(&whole), node_names(&fresh));
            prop_assert_eq!(image.nodes(), whole.insert.len());
            for (name, node) in &whole.insert {
                prop_assert_eq!(image.node(name), Some(*node));
            }
            prop_assert_eq!(image.depths(), whole.depths);

            committed = model.clone();
            compiler.release(now);
            now += Duration::from_secs(3);
        }
    }

    /// As the daemon makes the filter anew: a part of the places between one commit and the next.
    #[test]
    fn every_name_in_force_is_met_in_its_place_or_is_new(ops in vec(op(), 20..60)) {
        let (mut compiler, mut model) = (compiler(), Model::default());
        let (mut met, mut place) = (BTreeSet::new(), 0);
        for op in ops.into_iter().chain(std::iter::repeat_n(Op::Commit, 4)) {
            model.apply(&op, &mut compiler);
            if !matches!(op, Op::Commit) {
                continue;
            }
            met.extend(compiler.commit().unwrap().insert.into_iter().map(|(name, _)| name));
            let end = place + compiler.places() / 3 + 1;
            met.extend(compiler.listed(place..end));
            place = end;
            if place >= compiler.places() {
                for (name, _) in compiler.whole().insert {
                    prop_assert!(met.contains(&name), "{name:?}");
                }
                (met, place) = (BTreeSet::new(), 0);
            }
            compiler.release(Instant::now() + GRACE);
        }
    }

    #[test]
    fn full_tables_keep_their_last_good_state(ops in vec(op(), 1..24), questions in questions()) {
        let names = all_names();
        let limits = Limits { orders: 5, policies: 12, names: 12 };
        let (mut compiler, mut image) = (Compiler::new(scopes(), [], limits), Image::default());
        let (mut model, mut now) = (Model::default(), Instant::now());
        for op in ops.into_iter().chain([Op::Commit]) {
            model.apply(&op, &mut compiler);
            if !matches!(op, Op::Commit) {
                continue;
            }
            let before = compiler.whole();
            let changes = loop {
                let order = match compiler.commit() {
                    Ok(changes) => break changes,
                    Err(CapacityError::Orders { order, .. } | CapacityError::Policies { order, .. }) => Some(order),
                    Err(CapacityError::Names { order, .. }) => order,
                };
                prop_assert_eq!(&compiler.whole(), &before);
                match order {
                    Some(order) => {
                        prop_assert!(model.orders.remove(&order).is_some(), "{order} is named, but not there");
                        compiler.revoke(&order).unwrap();
                    }
                    None => model.apply(&Op::Allow(Vec::new()), &mut compiler),
                }
                // Freed slots would be free again by now.
                compiler.release(now);
                now += GRACE;
                compiler.release(now);
            };
            image.apply(&changes);
            prop_assert!(image.nodes() <= 12);
            for name in &names {
                prop_assert_eq!(see(&image, name, &questions), model.see(name, &questions), "{:?}", name);
            }
        }
    }
}

/// Order ids are the numbers below this.
const IDS: usize = 4;
