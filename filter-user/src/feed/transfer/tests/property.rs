//! Random zones, and random differences: what the book makes of these is what it makes of the whole zone, step by step,
//! whatever is held meanwhile over a protected name, and whatever operators decide.

use std::{collections::BTreeMap, time::Instant};

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;

use super::*;
use crate::{
    book::{Change, Held, Item},
    feed::{Entry, Event},
    guard::{Policy, Protected},
    order::Order,
};

/// What a record of the zone does.
type Act = (u16, &'static [u8]);

/// NXDOMAIN, NODATA, DROP, PASSTHRU, two addresses, and one that is not enforced but bounds wildcards.
const ACTS: [Act; 7] = [
    (5, b"\0"),
    (5, b"\x01*\0"),
    (5, b"\x08rpz-drop\0"),
    (5, b"\x0crpz-passthru\0"),
    (1, &[192, 0, 2, 1]),
    (1, &[192, 0, 2, 2]),
    (16, b"\x01x"),
];

/// Owners as they are kept.
const OWNERS: [&[u8]; 14] = [
    b"\x04test\x01a",
    b"\x04test\x01a\x01*",
    b"\x04test\x01a\x01a",
    b"\x04test\x01a\x01a\x01*",
    b"\x04test\x01a\x01a\x01a",
    b"\x04test\x01a\x01a\x01a\x01*",
    b"\x04test\x01a\x01b",
    b"\x04test\x01a\x01b\x01*",
    b"\x04test\x01b",
    b"\x04test\x01b\x01*",
    b"\x04test\x01b\x01a\x01*",
    b"\x04test\x01c",
    b"\x04test\x01c\x01_\x01d",
    b"\x04test\x01d\x01d",
];

/// A record of an owner, by number.
type Zone = BTreeMap<usize, Act>;

#[derive(Clone, Debug)]
enum Do {
    /// Records that come, change or go, in transfers one after the other that are made in one.
    Change(Vec<Vec<(usize, Option<Act>)>>),
    /// The zone is read whole, as at a start.
    Read,
    /// The operator revokes the order.
    Revoke,
    /// Everything that is held is approved, or rejected.
    Decide(bool),
    /// The oldest that is held is approved.
    ApproveOne,
    /// What has waited long enough is let through.
    Release,
}

/// What is held: order, guard, what comes and goes, and whether it was rejected.
type Waiting = (String, &'static str, Vec<Item>, bool);

/// Nothing that counts: what is held by how much comes at once differs where differences come one by one.
fn policy() -> Policy {
    Policy { feed: "z".to_owned(), growth: None, shrink: None, empty: false, ..Policy::default() }
}

/// A book and a copy of the zone.
struct Side {
    lab: Lab,
    copy: BTreeMap<String, Order>,
    serial: u32,
}

impl Side {
    fn new() -> Self {
        let side = Self { lab: Lab::new(), copy: BTreeMap::new(), serial: 0 };
        side.lab.transfer(0, &[]);
        side
    }

    fn guards(&self) -> Guards {
        let mut protected = Protected::default();
        assert_eq!(protected.read("a.b.test  a shop\n"), []);
        Guards::new(protected, vec![(self.lab.path(), policy()), ("cli".into(), Policy::control("control"))])
    }

    fn context(&mut self) -> Context {
        self.lab.book.set_guards(self.guards());
        Context { scopes: None, targets: None, guards: self.guards() }
    }

    fn follow(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| change.apply_to(&mut self.copy));
        let stored = self.lab.book.load().unwrap().into_iter();
        let stored: BTreeMap<_, _> = stored.map(|stored| (stored.order.terms.id.clone(), stored.order)).collect();
        assert_eq!(stored, self.copy);
    }

    fn read(&mut self) {
        let context = self.context();
        let applied = self.lab.files.sync(&mut self.lab.book, &context, &Which::All).unwrap();
        self.follow(applied.changes);
    }

    /// The copy goes from one zone to others by differences. Gives what they touch.
    fn transfer(&mut self, zones: &[Zone]) -> Option<super::super::kept::Changes> {
        let records = |from: &Zone, to: &Zone| {
            let mut records = Records::default();
            for (owner, (rtype, data)) in from.iter().filter(|(owner, act)| to.get(owner) != Some(act)) {
                records.push(Record { owner: OWNERS[*owner], rtype: *rtype, data });
            }
            records
        };
        let step = |pair: &[Zone]| Step { removed: records(&pair[0], &pair[1]), added: records(&pair[1], &pair[0]) };
        let steps: Vec<Step> = zones.windows(2).map(step).collect();
        self.serial += steps.len() as u32;
        let soa = Soa { serial: self.serial, refresh: 60, retry: 60, expire: 60 };
        let mut kept = self.lab.kept();
        let changes = kept.apply(soa, &steps, Timestamp::now()).unwrap();
        // What reads the copy finds the same before and after.
        if self.serial.is_multiple_of(2) {
            kept.tidy().unwrap();
        }
        changes
    }

    /// As the daemon takes them in.
    fn change(&mut self, zones: &[Zone]) {
        let changes = self.transfer(zones);
        let context = self.context();
        let input = self.lab.files.inputs[0].clone();
        let Some((parts, _)) = changes.and_then(|changes| input.changes(&changes, &context)) else {
            return self.read();
        };
        if parts.is_empty() {
            return;
        }
        let path = self.lab.path();
        match self.lab.book.change_zone(path.to_str().unwrap(), parts, Instant::now()).unwrap() {
            Some(applied) => self.follow(applied.changes),
            None => self.read(),
        }
    }

    fn revoke(&mut self) {
        let event = Event::Revoke { order: "o".to_owned(), why: String::new() };
        let applied = self.lab.book.apply("cli", vec![Entry { line: 1, seq: None, at: None, event }]).unwrap();
        self.follow(applied.changes);
    }

    fn decide(&mut self, most: usize, approve: bool) {
        let held: Vec<Held> = self.lab.book.held(usize::MAX).unwrap();
        let mut held: Vec<Held> = held.into_iter().filter(|held| held.rejected.is_none()).collect();
        // In an order that is the same on both sides.
        held.sort_by_key(|held| (held.order.clone(), held.guard.word(), held.items.clone()));
        held.truncate(most);
        let by = json!({"user": "alice"});
        if approve {
            let (applied, again) = self.lab.book.approve(&held, &by).unwrap();
            self.follow(applied.changes);
            self.again(&again);
        } else {
            self.lab.book.reject(&held, &by).unwrap();
        }
    }

    fn release(&mut self) {
        self.context();
        let (applied, again) = self.lab.book.release(Timestamp::now() + Duration::from_secs(3601)).unwrap();
        self.follow(applied.changes);
        self.again(&again);
    }

    fn again(&mut self, again: &BTreeSet<String>) {
        if !again.is_empty() {
            self.read();
        }
    }

    /// The parts in force, and what is held.
    fn state(&self) -> (BTreeMap<String, Order>, BTreeSet<Waiting>) {
        let orders = self.copy.iter().filter(|(_, order)| !order.names.is_empty());
        let held = self.lab.book.held(usize::MAX).unwrap().into_iter();
        let held = held.map(|held| (held.order.clone(), held.guard.word(), held.items, held.rejected.is_some()));
        (orders.map(|(id, order)| (id.clone(), order.clone())).collect(), held.collect())
    }
}

fn edits() -> impl Strategy<Value = Vec<(usize, Option<Act>)>> {
    vec((0..OWNERS.len(), prop::option::weighted(0.7, select(&ACTS[..]))), 1..6)
}

fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        6 => vec(edits(), 1..3).prop_map(Do::Change),
        1 => Just(Do::Read),
        1 => Just(Do::Revoke),
        2 => any::<bool>().prop_map(Do::Decide),
        1 => Just(Do::ApproveOne),
        1 => Just(Do::Release),
    ]
}

fn zones(zone: &mut Zone, edits: &[Vec<(usize, Option<Act>)>]) -> Vec<Zone> {
    let mut zones = vec![zone.clone()];
    for edits in edits {
        for (owner, act) in edits {
            match act {
                Some(act) => _ = zone.insert(*owner, *act),
                None => _ = zone.remove(owner),
            }
        }
        zones.push(zone.clone());
    }
    zones
}

/// Takes the same steps by differences and by whole readings.
fn check(steps: &[Do]) -> Result<(), TestCaseError> {
    let (mut by_differences, mut whole) = (Side::new(), Side::new());
    let mut zone = Zone::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Do::Change(edits) => {
                let zones = zones(&mut zone, edits);
                by_differences.change(&zones);
                whole.transfer(&zones);
                whole.read();
            }
            step => {
                for side in [&mut by_differences, &mut whole] {
                    match step {
                        Do::Change(_) => {}
                        Do::Read => side.read(),
                        Do::Revoke => side.revoke(),
                        Do::Decide(approve) => side.decide(usize::MAX, *approve),
                        Do::ApproveOne => side.decide(1, true),
                        Do::Release => side.release(),
                    }
                }
            }
        }
        prop_assert_eq!(by_differences.state(), whole.state(), "after step {} of {:?}", number, steps);
    }
    // With nothing held and nothing rejected any more, it is what the zone says.
    let mut fresh = Side::new();
    fresh.transfer(&[Zone::new(), zone]);
    fresh.read();
    for _ in 0..3 {
        fresh.decide(usize::MAX, true);
    }
    for _ in 0..4 {
        by_differences.read();
        let rejected: Vec<Held> = by_differences.lab.book.held(usize::MAX).unwrap();
        let (applied, again) = by_differences.lab.book.approve(&rejected, &json!({"user": "alice"})).unwrap();
        by_differences.follow(applied.changes);
        by_differences.again(&again);
    }
    let (orders, held) = by_differences.state();
    prop_assert_eq!(held.len(), 0);
    // Unless the operator has revoked it since.
    let book = &by_differences.lab.book;
    let is_revoked = book.parts("o").unwrap().iter().any(|id| book.revoked(id).unwrap());
    if !(is_revoked && orders.is_empty()) {
        prop_assert_eq!(orders, fresh.state().0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn differences_come_to_what_the_whole_zone_comes_to(steps in vec(step(), 1..12)) {
        check(&steps)?;
    }
}

/// What the property has found, each of which needs a rule of its own.
#[test]
fn differences_that_do_not_tell_all() {
    let [nxdomain, nodata, drop, passthru, address, ..] = ACTS;
    let [one, below_one, other] = [0, 1, 2];
    let [shop, below_shop, below_protected] = [8, 9, 10];
    let change = |edits: &[(usize, Option<Act>)]| Do::Change(vec![edits.to_vec()]);
    let cases: [&[Do]; 9] = [
        // The name goes to another part together with what kept it off the protected name.
        &[
            change(&[(below_protected, Some(nxdomain)), (below_shop, Some(drop))]),
            change(&[(below_shop, Some(nxdomain))]),
        ],
        // An exception frees what is held.
        &[change(&[(below_shop, Some(nxdomain))]), change(&[(below_protected, Some(passthru))])],
        // A part that was revoked comes back; one of its names does another thing since.
        &[
            change(&[(other, Some(address))]),
            Do::Revoke,
            change(&[(other, Some(nxdomain))]),
            change(&[(one, Some(address))]),
        ],
        // The name alone waits for that with all below it, which is held; both go.
        &[
            change(&[(shop, Some(nxdomain))]),
            change(&[(below_shop, Some(nxdomain))]),
            change(&[(shop, None), (below_shop, None)]),
        ],
        // What lies below a name is no place for the name itself to go to.
        &[change(&[(shop, Some(nodata))]), change(&[(below_shop, Some(nxdomain))]), change(&[(shop, None)])],
        &[change(&[(one, Some(nodata))]), change(&[(below_one, Some(nxdomain))]), change(&[(one, None)])],
        // What goes and comes back while its order is revoked is something else each time, and revives it; so is what
        // comes back to an order that was revived without it.
        &[change(&[(one, Some(nodata))]), Do::Revoke, change(&[(one, None)]), change(&[(one, Some(nodata))])],
        &[
            change(&[(one, Some(nodata))]),
            Do::Revoke,
            change(&[(one, None), (other, Some(nxdomain))]),
            change(&[(one, Some(nodata))]),
        ],
        // What keeps a name off the protected name stays as long as the name, whose new part is held.
        &[
            change(&[(below_protected, Some(nxdomain))]),
            change(&[(below_shop, Some(nxdomain))]),
            change(&[(below_protected, None)]),
            change(&[(shop, Some(nxdomain))]),
        ],
    ];
    for steps in cases {
        check(steps).unwrap_or_else(|error| panic!("{error}: {steps:?}"));
    }
}
