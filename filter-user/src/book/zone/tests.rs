use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    book::{Applied, Book, Change, Held, ItemKind},
    feed::{
        Context, Entry, Event, Input,
        file::{Files, Which},
        input::Kind,
        rpz,
    },
    guard::{Guards, Limit, Policy, Protected},
};

mod held;
mod revoked;

/// A zone file and a book, with the daemon's copy of its orders.
struct Lab {
    folder: TempDir,
    book: Book,
    policy: Policy,
    except: Vec<&'static str>,
    copy: BTreeMap<String, Order>,
}

impl Lab {
    fn new(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(&folder.path().join("state")).unwrap();
        book.set_patience(Duration::ZERO);
        Self {
            folder,
            book,
            policy: Policy { feed: "z".to_owned(), ..policy },
            except: Vec::new(),
            copy: BTreeMap::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("rpz.zone")
    }

    fn guards(&self) -> Guards {
        let mut protected = Protected::default();
        assert_eq!(protected.read("www.large.example  a shop\n"), []);
        Guards::new(protected, vec![(self.path(), self.policy.clone()), ("cli".into(), Policy::control("control"))])
    }

    fn write(&mut self, rows: &[&str]) -> Applied {
        let text = format!("@ SOA ns. host. 1 1 1 1 1\n{}\n", rows.join("\n"));
        fs::write(self.path(), text).unwrap();
        self.read()
    }

    fn read(&mut self) -> Applied {
        self.book.set_guards(self.guards());
        let context = Context { scopes: None, targets: None, guards: self.guards() };
        let kind = Kind::Rpz(Arc::new(rpz::tests::zone(&self.except, None)));
        let files =
            Files::new(vec![Input { path: self.path(), kind, seal: None, is_fetched: false, transferred: None }]);
        let applied = files.sync(&mut self.book, &context, &Which::All).unwrap();
        self.follow(applied)
    }

    /// What is told to the compiler leads to what the book holds.
    fn follow(&mut self, applied: Applied) -> Applied {
        for change in &applied.changes {
            change.clone().apply_to(&mut self.copy);
        }
        let stored = self.book.load().unwrap().into_iter().map(|stored| (stored.order.terms.id.clone(), stored.order));
        assert_eq!(stored.collect::<BTreeMap<_, _>>(), self.copy);
        applied
    }

    /// The parts in force, each with its names.
    fn parts(&self) -> Vec<String> {
        let with_names = self.copy.values().filter(|order| !order.names.is_empty());
        let names = |order: &Order| order.names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ");
        with_names.map(|order| format!("{}: {}", order.terms.id, names(order))).collect()
    }

    /// What is held: order, guard, why, names that come and names that go.
    fn held(&self) -> Vec<(String, &'static str, String, String)> {
        let names = |held: &Held| {
            let one = |item: &crate::book::Item| match item.kind {
                ItemKind::Added => format!("+{}", item.name),
                ItemKind::Removed => format!("-{}", item.name),
                ItemKind::ExceptRemoved => format!("-except {}", item.name),
                ItemKind::Order => format!("-order {}", item.name),
            };
            held.items.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        let held = self.book.held(usize::MAX).unwrap();
        held.iter().map(|held| (held.order.clone(), held.guard.word(), held.why.clone(), names(held))).collect()
    }

    fn held_as(&self, expected: &[(&str, &str, &str, &str)]) {
        let held = self.held();
        let held: Vec<_> = held.iter().map(|(a, b, c, d)| (a.as_str(), *b, c.as_str(), d.as_str())).collect();
        assert_eq!(held, expected);
    }

    /// Revokes the order, as the operator does.
    fn revoke(&mut self) {
        let event = Event::Revoke { order: "o".to_owned(), why: "appeal".to_owned() };
        let applied = self.book.apply("cli", vec![Entry { line: 1, seq: None, at: None, event }]).unwrap();
        self.follow(applied);
        assert_eq!(self.copy, BTreeMap::new());
    }

    /// Approves all that is held, and reads again what the approval concerns, as the daemon does.
    fn approve(&mut self) {
        let chosen = self.book.held(usize::MAX).unwrap();
        let (applied, again) = self.book.approve(&chosen, &json!({"user": "alice"})).unwrap();
        assert!(again.contains(self.path().to_str().unwrap()), "{again:?}");
        self.follow(applied);
        self.read();
    }
}

fn limited(growth: Option<Limit>, shrink: Option<Limit>) -> Policy {
    Policy { growth, shrink, ..Policy::default() }
}

fn rows(from: usize, to: usize, says: &str) -> Vec<String> {
    (from..to).map(|number| format!("n{number:02}.example CNAME {says}")).collect()
}

fn all<'a>(groups: &'a [&[String]]) -> Vec<&'a str> {
    groups.iter().copied().flatten().map(String::as_str).collect()
}

fn refusals(applied: &Applied) -> Vec<(u64, &str, &str)> {
    applied.refusals.iter().map(|refusal| (refusal.line, refusal.text.as_str(), refusal.why.as_str())).collect()
}

#[test]
fn a_zone_is_brought_to_the_book_part_by_part() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["a.example CNAME .", "b.example CNAME *.", "*.c.example CNAME rpz-drop."]);
    assert_eq!(lab.parts(), ["o#drop-below: c.example", "o#nodata-exact: b.example", "o#nxdomain-exact: a.example"]);
    // One changes its action, one goes, one comes.
    let applied = lab.write(&["a.example CNAME rpz-drop.", "b.example CNAME *.", "d.example A 192.0.2.1"]);
    assert_eq!(refusals(&applied), []);
    assert_eq!(
        lab.parts(),
        ["o#address-192.0.2.1-exact: d.example", "o#drop-exact: a.example", "o#nodata-exact: b.example"]
    );
    lab.held_as(&[]);
    // The same again changes nothing, but parts that have no name any more end.
    let ends = Change::Revoke { id: "o#drop-below".to_owned() };
    assert_eq!(lab.read().changes, [ends, Change::Revoke { id: "o#nxdomain-exact".to_owned() }]);
    assert_eq!(lab.copy.len(), 3);
    assert_eq!(lab.read().changes, []);
    // A zone that cannot be read changes nothing.
    fs::write(lab.path(), "a.example CNAME .\n").unwrap();
    let applied = lab.read();
    assert_eq!(applied.changes, []);
    assert_eq!(refusals(&applied).len(), 1);
    assert_eq!(lab.parts().len(), 3);
    // A zone that is gone ends its order.
    fs::remove_file(lab.path()).unwrap();
    lab.read();
    assert_eq!(lab.parts(), [""; 0]);
    assert_eq!(lab.book.load().unwrap(), []);
}

#[test]
fn a_name_that_changes_its_action_is_never_without_one() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["a.example CNAME .", "b.example CNAME ."]);
    let applied = lab.write(&["a.example CNAME rpz-drop.", "b.example CNAME ."]);
    // The compiler gets them in one piece; but the order of the changes is right even so.
    let drop = |change: &Change| matches!(change, Change::Put(order) if order.terms.id == "o#drop-exact");
    let gone = |change: &Change| matches!(change, Change::Edit { id, names, .. } if id == "o#nxdomain-exact" && names.removed.len() == 1);
    let (came, went) = (applied.changes.iter().position(drop), applied.changes.iter().position(gone));
    assert!(came.unwrap() < went.unwrap(), "{applied:?}");
    assert_eq!(lab.parts(), ["o#drop-exact: a.example", "o#nxdomain-exact: b.example"]);
}

#[test]
fn with_hold_the_old_action_stays_until_the_new_one_is_let_through() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["a.example CNAME .", "b.example CNAME ."]);
    lab.policy.hold = Duration::from_secs(3600);
    lab.write(&["a.example CNAME rpz-drop.", "b.example CNAME .", "c.example CNAME ."]);
    let before = ["o#nxdomain-exact: a.example b.example"];
    assert_eq!(lab.parts(), before);
    let why = "the feed's additions wait 1h";
    let held = [("o#drop-exact", "hold", why, "+a.example"), ("o#nxdomain-exact", "hold", why, "+c.example")];
    lab.held_as(&held);
    // However often it is read.
    assert_eq!(lab.read().changes, []);
    assert_eq!(lab.parts(), before);
    lab.held_as(&held);
    // Its time has come.
    let (applied, again) = lab.book.release(Timestamp::now() + Duration::from_secs(3601)).unwrap();
    lab.follow(applied);
    assert_eq!(lab.parts(), ["o#drop-exact: a.example", "o#nxdomain-exact: a.example b.example c.example"]);
    assert!(again.contains(lab.path().to_str().unwrap()));
    lab.read();
    assert_eq!(lab.parts(), ["o#drop-exact: a.example", "o#nxdomain-exact: b.example c.example"]);
    lab.held_as(&[]);
    assert_eq!(lab.read().changes, []);

    // What comes back before it is let through never was away.
    lab.write(&["a.example CNAME .", "b.example CNAME .", "c.example CNAME ."]);
    assert_eq!(lab.parts(), ["o#drop-exact: a.example", "o#nxdomain-exact: b.example c.example"]);
    lab.write(&["a.example CNAME rpz-drop.", "b.example CNAME .", "c.example CNAME ."]);
    assert_eq!(lab.parts(), ["o#drop-exact: a.example", "o#nxdomain-exact: b.example c.example"]);
    lab.held_as(&[]);
    // And what goes, goes.
    lab.write(&["b.example CNAME .", "c.example CNAME ."]);
    assert_eq!(lab.parts(), ["o#nxdomain-exact: b.example c.example"]);
}

#[test]
fn f2_growth_counts_over_the_whole_zone() {
    let mut lab = Lab::new(limited(Some(Limit { rows: 5, percent: 20 }), None));
    let (some, more) = (rows(0, 20, "."), rows(20, 23, "*."));
    lab.write(&all(&[&some]));
    // Three to each of two parts are six to the zone: over 5, and over 20 percent.
    let other = rows(23, 26, "rpz-drop.");
    let before = lab.parts();
    lab.write(&all(&[&some, &more, &other]));
    assert_eq!(lab.parts(), before);
    let why = "more names come at once to the 20 that are there than 5 and 20 percent";
    lab.held_as(&[
        ("o#drop-exact", "growth", why, "+n23.example +n24.example +n25.example"),
        ("o#nodata-exact", "growth", why, "+n20.example +n21.example +n22.example"),
    ]);
    lab.approve();
    assert_eq!(lab.parts().len(), 3);
    lab.held_as(&[]);
    // Five are not over it.
    let last = rows(26, 31, "rpz-drop.");
    lab.write(&all(&[&some, &more, &other, &last]));
    lab.held_as(&[]);
}

#[test]
fn f2_a_list_that_moves_between_actions_neither_grows_nor_shrinks() {
    let limit = Some(Limit { rows: 2, percent: 10 });
    let mut lab = Lab::new(limited(limit, limit));
    lab.write(&all(&[&rows(0, 20, ".")]));
    lab.write(&all(&[&rows(0, 20, "rpz-drop.")]));
    lab.held_as(&[]);
    assert_eq!(lab.parts().len(), 1);
    assert!(lab.parts()[0].starts_with("o#drop-exact: n00.example"), "{:?}", lab.parts());
    // Beside such a move, what is new is held, and nothing else.
    let (moved, new) = (rows(0, 20, "*."), rows(20, 23, "*."));
    lab.write(&all(&[&moved, &new]));
    let why = "more names come at once to the 20 that are there than 2 and 10 percent";
    lab.held_as(&[("o#nodata-exact", "growth", why, "+n20.example +n21.example +n22.example")]);
    assert_eq!(lab.parts().len(), 1);
    assert!(lab.parts()[0].ends_with("n18.example n19.example"), "{:?}", lab.parts());
}

#[test]
fn f2_names_that_reach_further_are_growth() {
    let mut lab = Lab::new(limited(Some(Limit { rows: 2, percent: 10 }), None));
    let (some, below) = (rows(0, 20, "."), |says| {
        (0..20).map(|number| format!("*.n{number:02}.example CNAME {says}")).collect::<Vec<_>>()
    });
    lab.write(&all(&[&some]));
    let before = lab.parts();
    for says in [".", "rpz-drop."] {
        lab.write(&all(&[&some, &below(says)]));
        assert_eq!(lab.parts(), before);
        let held = lab.held();
        assert_eq!(held.len(), 1, "{held:?}");
        let why = "more names come at once to the 20 that are there than 2 and 10 percent";
        assert_eq!((held[0].1, &*held[0].2), ("growth", why));
    }
    lab.approve();
    // To reach less far is none.
    lab.write(&all(&[&some]));
    lab.held_as(&[]);
    assert_eq!(lab.parts(), before);
}

#[test]
fn parts_without_names_end_with_the_next_reading_or_change() {
    let mut lab = Lab::new(Policy::default());
    for (number, by_differences) in [false, true, true].into_iter().enumerate() {
        let row = format!("a.example A 192.0.2.{}", number + 1);
        if by_differences {
            let mut other = Lab::new(Policy::default());
            other.write(&[&row]);
            let parts = difference(&lab, &other);
            lab.change(parts);
        } else {
            lab.write(&[&row]);
        }
    }
    // The one before lost its name just now.
    let ids = |lab: &Lab| lab.copy.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(&lab), ["o#address-192.0.2.2-exact", "o#address-192.0.2.3-exact"]);
    lab.write(&["a.example A 192.0.2.3"]);
    assert_eq!(ids(&lab), ["o#address-192.0.2.3-exact"]);
    // One that is needed again is back.
    lab.write(&["a.example A 192.0.2.1"]);
    assert_eq!(lab.parts(), ["o#address-192.0.2.1-exact: a.example"]);
    // The last one stays, and the growth limit counts from it.
    lab.policy.empty = false;
    lab.write(&[]);
    assert_eq!(lab.parts(), [""; 0]);
    lab.read();
    assert!(!lab.copy.is_empty());
}

#[test]
fn f2_shrink_counts_over_the_whole_zone() {
    let mut lab = Lab::new(limited(None, Some(Limit { rows: 5, percent: 50 })));
    let (some, more) = (rows(0, 4, "."), rows(4, 8, "*."));
    lab.write(&all(&[&some, &more]));
    let before = lab.parts();
    // All four of one part are half of the zone: not over 50 percent.
    lab.write(&all(&[&more]));
    lab.held_as(&[]);
    lab.write(&all(&[&some, &more]));
    assert_eq!(lab.parts(), before);
    // Three of each part are six of eight.
    lab.write(&all(&[&some[..1], &more[..1]]));
    assert_eq!(lab.parts(), before);
    let why = "6 of 8 names are listed no longer: over 5 and 50 percent";
    lab.held_as(&[
        ("o#nodata-exact", "shrink", why, "-n05.example -n06.example -n07.example"),
        ("o#nxdomain-exact", "shrink", why, "-n01.example -n02.example -n03.example"),
    ]);
    lab.approve();
    assert_eq!(lab.parts(), ["o#nodata-exact: n04.example", "o#nxdomain-exact: n00.example"]);
}

#[test]
fn f2_an_empty_zone_is_held() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["a.example CNAME .", "b.example CNAME *."]);
    let before = lab.parts();
    lab.write(&[]);
    assert_eq!(lab.parts(), before);
    lab.held_as(&[
        ("o#nodata-exact", "empty", "the list is empty", "-b.example"),
        ("o#nxdomain-exact", "empty", "the list is empty", "-a.example"),
    ]);
    lab.approve();
    assert_eq!(lab.parts(), [""; 0]);
    // One part that is empty is no empty list.
    lab.write(&["a.example CNAME .", "b.example CNAME *."]);
    lab.write(&["a.example CNAME ."]);
    lab.held_as(&[]);
    assert_eq!(lab.parts(), ["o#nxdomain-exact: a.example"]);
}

#[test]
fn protected_names_and_suffixes_are_guarded_in_zones() {
    let mut lab = Lab::new(Policy::default());
    let applied = lab.write(&[
        "a.example CNAME .",
        "*.large.example CNAME rpz-drop.",
        "github.io CNAME .",
        "*.co.uk CNAME .",
        "com CNAME .",
        "shop.large.example CNAME .",
    ]);
    assert_eq!(lab.parts(), ["o#nxdomain-exact: a.example shop.large.example"]);
    assert_eq!(
        refusals(&applied),
        [
            (5, "*.co.uk.rpz.example", "is a public suffix, under which others register their names"),
            (6, "com.rpz.example", "is a top-level domain"),
        ]
    );
    lab.held_as(&[
        ("o#drop-below", "protected", "a rule would stop a protected name", "+large.example"),
        (
            "o#nxdomain-exact",
            "private_suffix",
            "a rule is a private suffix, under which its owner gives names to others",
            "+github.io",
        ),
    ]);
    // A PASSTHRU for the protected name, and the rule stops none.
    lab.write(&["a.example CNAME .", "*.large.example CNAME rpz-drop.", "www.large.example CNAME rpz-passthru."]);
    assert_eq!(lab.parts(), ["o#drop-below: large.example", "o#nxdomain-exact: a.example"]);
    // Without it, the exception stays until somebody has looked.
    lab.write(&["a.example CNAME .", "*.large.example CNAME rpz-drop."]);
    lab.held_as(&[(
        "o#drop-below",
        "reach",
        "large.example reaches over the protected name www.large.example: a shop",
        "-except www.large.example",
    )]);
    assert!(!lab.copy["o#drop-below"].except.is_empty());
}

/// The difference of two zones, part by part.
fn difference(before: &Lab, after: &Lab) -> Vec<PartChange> {
    let ids: BTreeSet<&String> = before.copy.keys().chain(after.copy.keys()).collect();
    let names = |lab: &Lab, id: &str, except| {
        let order = lab.copy.get(id);
        order.map(|order| if except { order.except.clone() } else { order.names.clone() }).unwrap_or_default()
    };
    let delta = |id: &str, except| {
        let (before, after) = (names(before, id, except), names(after, id, except));
        Delta {
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
        }
    };
    let change = |id: &&String| {
        let order = after.copy.get(*id).or(before.copy.get(*id)).unwrap();
        PartChange { terms: order.terms.clone(), names: delta(id, false), except: delta(id, true) }
    };
    let changes = ids.iter().map(change);
    changes.filter(|change| !change.names.is_empty() || !change.except.is_empty()).collect()
}

impl Lab {
    fn change(&mut self, parts: Vec<PartChange>) -> Applied {
        self.book.set_guards(self.guards());
        let source = self.path().to_str().unwrap().to_owned();
        match self.book.change_zone(&source, parts, std::time::Instant::now()).unwrap() {
            Some(applied) => self.follow(applied),
            None => self.read(),
        }
    }
}

#[test]
fn what_changed_in_a_zone_does_what_reading_it_does() {
    let steps: [&[&str]; 5] = [
        &["a.example CNAME .", "b.example CNAME *.", "*.c.example CNAME ."],
        &["a.example CNAME rpz-drop.", "b.example CNAME *.", "*.c.example CNAME .", "x.c.example CNAME rpz-passthru."],
        &["a.example CNAME rpz-drop.", "*.c.example CNAME .", "c.example CNAME .", "*.d.c.example CNAME ."],
        &["a.example CNAME .", "e.example A 192.0.2.1", "b.example CNAME *."],
        &["b.example CNAME *."],
    ];
    let (mut lab, mut read) = (Lab::new(Policy::default()), Lab::new(Policy::default()));
    lab.write(steps[0]);
    read.write(steps[0]);
    for step in &steps[1..] {
        read.write(step);
        let parts = difference(&lab, &read);
        lab.change(parts);
        assert_eq!(lab.parts(), read.parts());
        let except = |lab: &Lab| lab.copy.values().map(|order| order.except.clone()).collect::<Vec<_>>();
        assert_eq!(except(&lab), except(&read));
    }
    // A reading of the whole then finds nothing to do, but to end parts that have no name any more.
    let ends = ["o#address-192.0.2.1-exact", "o#nxdomain-exact"];
    let ends: Vec<_> = ends.iter().map(|id| Change::Revoke { id: (*id).to_owned() }).collect();
    assert_eq!(lab.write(steps[4]).changes, ends);
}

#[test]
fn f2_guards_count_over_what_changed_in_a_zone() {
    let limit = Some(Limit { rows: 2, percent: 10 });
    let mut lab = Lab::new(limited(limit, limit));
    lab.write(&all(&[&rows(0, 20, ".")]));
    let terms = lab.copy["o#nxdomain-exact"].terms.clone();
    let drop = {
        let mut other = Lab::new(Policy::default());
        other.write(&["a.example CNAME rpz-drop."]);
        other.copy["o#drop-exact"].terms.clone()
    };
    let names = |from: usize, to: usize| {
        (from..to).map(|n| Name::parse(&format!("n{n:02}.example")).unwrap()).collect::<Vec<_>>()
    };
    let change = |terms: &Arc<Terms>, added: Vec<Name>, removed: Vec<Name>| PartChange {
        terms: terms.clone(),
        names: Delta { added, removed },
        except: Delta::default(),
    };
    // All of them move.
    lab.change(vec![change(&drop, names(0, 20), Vec::new()), change(&terms, Vec::new(), names(0, 20))]);
    lab.held_as(&[]);
    assert_eq!(lab.parts().len(), 1);
    assert!(lab.parts()[0].starts_with("o#drop-exact: n00.example"), "{:?}", lab.parts());
    // Three come to two parts, and three go.
    lab.change(vec![change(&drop, names(20, 22), names(0, 3)), change(&terms, names(22, 23), Vec::new())]);
    let grown = "more names come at once to the 20 that are there than 2 and 10 percent";
    let shrunk = "3 of 20 names are listed no longer: over 2 and 10 percent";
    lab.held_as(&[
        ("o#drop-exact", "growth", grown, "+n20.example +n21.example"),
        ("o#drop-exact", "shrink", shrunk, "-n00.example -n01.example -n02.example"),
        ("o#nxdomain-exact", "growth", grown, "+n22.example"),
    ]);
    assert!(lab.parts()[0].starts_with("o#drop-exact: n00.example"), "{:?}", lab.parts());
    // What goes before it is let through, and what comes back, is held no longer.
    lab.change(vec![change(&drop, names(0, 1), names(20, 21))]);
    let held = lab.held();
    assert!(
        held.iter().any(|held| held.3 == "+n21.example")
            && held.iter().any(|held| held.3 == "-n01.example -n02.example"),
        "{held:?}"
    );
    // The last ones.
    let mut last = Lab::new(Policy::default());
    last.write(&["n00.example CNAME ."]);
    last.change(vec![change(&terms, Vec::new(), names(0, 1))]);
    last.held_as(&[("o#nxdomain-exact", "empty", "the list is empty", "-n00.example")]);
}
