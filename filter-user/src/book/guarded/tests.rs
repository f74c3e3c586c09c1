use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    book::{Applied, Book, Held, sync::Snapshot},
    feed::{
        Context, Entry, Event,
        file::{Files, Which},
        fold::Place,
        native::read_log,
    },
    guard::{Guards, Limit, Policy, Protected},
};

/// A folder of orders and a book, with the daemon's copy of its orders.
struct Lab {
    folder: TempDir,
    book: Option<Book>,
    policy: Policy,
    copy: BTreeMap<String, Order>,
}

impl Lab {
    fn new(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("orders")).unwrap();
        let mut lab = Self { folder, book: None, policy, copy: BTreeMap::new() };
        lab.restart();
        lab
    }

    /// Opens the book anew, as a start of the daemon does.
    fn restart(&mut self) {
        self.book = None;
        let mut book = Book::open(&self.folder.path().join("state")).unwrap();
        book.set_patience(Duration::ZERO);
        self.book = Some(book);
        self.configure(self.policy.clone());
    }

    fn configure(&mut self, policy: Policy) {
        self.policy = policy;
        let guards = self.guards();
        self.book().set_guards(guards);
    }

    fn guards(&self) -> Guards {
        let mut protected = Protected::default();
        assert_eq!(protected.read("big.example  a front end\nwww.large.example  a shop\n"), []);
        assert_eq!(protected.read("www.huge.example  a bank\nwww.vast.example  a school\n"), []);
        let feed = Policy { feed: "orders".to_owned(), ..self.policy.clone() };
        let control = ("cli".into(), Policy::control("control"));
        Guards::new(protected, vec![(self.path(""), feed), control])
    }

    fn book(&mut self) -> &mut Book {
        self.book.as_mut().unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("orders").join(file)
    }

    fn write(&mut self, file: &str, lines: &[String]) -> Applied {
        fs::write(self.path(file), lines.concat()).unwrap();
        self.read(file)
    }

    fn read(&mut self, file: &str) -> Applied {
        let context = Context { scopes: None, targets: None, guards: self.guards() };
        let files = Files::native(&[self.path("")]);
        let which = Which::Only([self.path(file)].into());
        let applied = files.sync(self.book(), &context, &which).unwrap();
        self.follow(applied)
    }

    fn cli(&mut self, event: Event) -> Applied {
        let applied = self.book().apply("cli", vec![Entry { line: 1, seq: None, at: None, event }]).unwrap();
        self.follow(applied)
    }

    fn approve(&mut self, id: &str) -> Applied {
        let chosen: Vec<Held> = self.held().into_iter().filter(|held| held.id == id).collect();
        assert_eq!(chosen.len(), 1, "{id}");
        let (applied, _) = self.book().approve(&chosen, &json!({"user": "alice", "uid": 1000})).unwrap();
        self.follow(applied)
    }

    fn reject(&mut self, id: &str) {
        let chosen: Vec<Held> = self.held().into_iter().filter(|held| held.id == id).collect();
        assert_eq!(chosen.len(), 1, "{id}");
        self.book().reject(&chosen, &json!({"user": "bob"})).unwrap();
    }

    fn release(&mut self, now: Timestamp) -> Applied {
        let (applied, _) = self.book().release(now).unwrap();
        self.follow(applied)
    }

    /// What is told to the compiler leads to what the book holds.
    fn follow(&mut self, applied: Applied) -> Applied {
        for change in &applied.changes {
            change.clone().apply_to(&mut self.copy);
        }
        let stored =
            self.book().load().unwrap().into_iter().map(|stored| (stored.order.terms.id.clone(), stored.order));
        assert_eq!(stored.collect::<BTreeMap<_, _>>(), self.copy);
        applied
    }

    fn held(&mut self) -> Vec<Held> {
        self.book().held(usize::MAX).unwrap()
    }

    /// Guard, order and items of what waits.
    fn waiting(&mut self) -> Vec<(&'static str, String, String)> {
        let told = |held: Held| {
            let items: Vec<&str> = held.items.iter().map(|item| item.name.as_str()).collect();
            (held.guard.word(), held.order, items.join(" "))
        };
        self.held().into_iter().filter(|held| held.rejected.is_none()).map(told).collect()
    }

    fn only(&mut self) -> Held {
        let mut held = self.held();
        assert_eq!(held.len(), 1, "{held:?}");
        held.remove(0)
    }

    fn names(&self, id: &str) -> Vec<String> {
        self.copy[id].names.iter().map(ToString::to_string).collect()
    }

    fn action(&self, id: &str) -> &'static str {
        self.copy[id].terms.actions.values().next().unwrap().word()
    }

    fn ops(&mut self, id: &str) -> Vec<String> {
        self.book().history(id).unwrap().into_iter().map(|record| record.op).collect()
    }
}

fn put_as(id: &str, names: &[&str], changes: Value) -> String {
    let mut order = json!({
        "id": id, "issuer": "Court", "basis": "", "reference": "", "issued": "2025-03-28",
        "not_before": "2025-03-28T00:00:00Z", "not_after": "none", "protocols": ["dns"],
        "actions": {"dns": "nxdomain"}, "scopes": ["all"], "match": "subtree", "names": names,
    });
    for (field, value) in changes.as_object().unwrap() {
        order[field] = value.clone();
    }
    json!({"op": "put", "order": order}).to_string() + "\n"
}

fn put(id: &str, names: &[&str]) -> String {
    put_as(id, names, json!({}))
}

fn event(op: &str, id: &str, names: &[&str]) -> String {
    json!({"op": op, "order": id, "names": names}).to_string() + "\n"
}

fn many(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("n{number:05}.example")).collect()
}

fn put_many(id: &str, names: &[String]) -> String {
    put(id, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_protected_name_waits_for_approval_and_the_others_do_not() {
    let mut lab = Lab::new(Policy::default());
    let lines =
        [put("o", &["big.example", "fine.example", "github.io", "large.example"]), put("p", &["other.example"])];
    let applied = lab.write("a.jsonl", &lines);
    assert_eq!(lab.names("o"), ["fine.example"]);
    assert_eq!(lab.names("p"), ["other.example"]);
    assert_eq!(applied.held.len(), 2);
    assert_eq!(
        lab.waiting(),
        [
            ("protected", "o".to_owned(), "big.example large.example".to_owned()),
            ("private_suffix", "o".to_owned(), "github.io".to_owned()),
        ]
    );
    let held = lab.held().remove(0);
    let whys: Vec<&str> = held.items.iter().map(|item| item.why.as_str()).collect();
    assert_eq!(whys, ["is protected: a front end", "reaches over the protected name www.large.example: a shop"]);
    assert_eq!((held.line, held.feed.as_str(), held.counts), (1, "orders", [2, 0, 0, 0]));

    // Reading the same changes nothing, and asks for nothing anew.
    let again = lab.read("a.jsonl");
    assert_eq!((again.changes.len(), again.held.len()), (0, 0));
    assert_eq!(lab.held()[0], held);

    // An approval survives a restart, and is in the history with the user.
    lab.approve(&held.id);
    assert_eq!(lab.names("o"), ["big.example", "fine.example", "large.example"]);
    lab.restart();
    assert_eq!(lab.read("a.jsonl").changes, []);
    assert_eq!(lab.names("o"), ["big.example", "fine.example", "large.example"]);
    assert_eq!(lab.waiting(), [("private_suffix", "o".to_owned(), "github.io".to_owned())]);
    let record = lab.book().history("o").unwrap().pop().unwrap();
    assert_eq!(
        (record.op.as_str(), &record.detail["user"], &record.detail["uid"]),
        ("approve", &json!("alice"), &json!(1000))
    );
    assert_eq!(record.detail["held"], json!(held.id));
    assert_eq!(lab.ops("o"), ["put", "hold", "hold", "approve"]);

    // What the source says besides goes on, and what was approved is no growth of it.
    lab.write("a.jsonl", &[put("o", &["big.example", "fine.example", "github.io", "large.example", "more.example"])]);
    assert_eq!(lab.names("o"), ["big.example", "fine.example", "large.example", "more.example"]);
    assert_eq!(lab.waiting().len(), 1);
    // What the source takes back is not held any more.
    lab.write("a.jsonl", &[put("o", &["fine.example"])]);
    assert_eq!((lab.names("o"), lab.waiting()), (vec!["fine.example".to_owned()], vec![]));
}

#[test]
fn an_approval_is_for_what_was_shown() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put("o", &["big.example", "x.example"])]);
    let shown = lab.only();
    lab.write("a.jsonl", &[put("o", &["big.example", "large.example", "x.example"])]);
    let now = lab.only();
    assert_ne!(shown.id, now.id);
    // The deadline of what waits already goes on.
    assert_eq!(now.since, shown.since);
    let (applied, _) = lab.book().approve(&[shown], &json!({"user": "alice"})).unwrap();
    assert_eq!(applied.changes, []);
    assert_eq!(lab.waiting().len(), 1);

    // The same name with another reach stops something else.
    lab.write("a.jsonl", &[put_as("o", &["big.example", "x.example"], json!({"match": "exact"}))]);
    let exact = lab.only();
    lab.write("a.jsonl", &[put("o", &["big.example", "x.example"])]);
    assert_ne!(lab.only().id, exact.id);
}

#[test]
fn an_approval_is_for_the_reach_that_was_shown() {
    let mut lab = Lab::new(Policy::default());
    let exact = json!({"match": "exact"});
    lab.write("a.jsonl", &[put_as("o", &["large.example"], exact.clone())]);
    lab.cli(Event::Add { order: "o".to_owned(), names: [Name::parse("big.example").unwrap()].into() });
    let shown = lab.only();
    // A subtree of large.example waits; until that is approved the other one is exact, as it was shown.
    lab.write("a.jsonl", &[put("o", &["large.example"])]);
    assert_eq!(lab.held()[0], shown);
    let reach = lab.held().remove(1);
    lab.approve(&reach.id);
    assert_ne!(lab.only().id, shown.id);
    let (applied, _) = lab.book().approve(&[shown], &json!({"user": "alice"})).unwrap();
    assert_eq!((applied.changes, lab.waiting().len()), (vec![], 1));
    // What was rejected of one reach is asked again with another.
    lab.write("b.jsonl", &[put_as("p", &["big.example", "x.example"], exact)]);
    let id = lab.held().pop().unwrap().id;
    lab.reject(&id);
    lab.write("b.jsonl", &[put("p", &["big.example", "x.example"])]);
    assert_eq!(lab.waiting().len(), 2);
}

#[test]
fn a_rejected_change_is_asked_again_when_the_source_says_something_else() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put("o", &["big.example", "x.example"])]);
    let id = lab.only().id;
    lab.reject(&id);
    lab.restart();
    assert_eq!(lab.waiting(), []);
    for names in [&["big.example", "x.example"][..], &["big.example", "x.example", "y.example"]] {
        lab.write("a.jsonl", &[put("o", names)]);
        assert_eq!(lab.waiting(), [], "{names:?}");
    }
    assert_eq!(lab.names("o"), ["x.example", "y.example"]);
    assert_eq!(lab.only().rejected.unwrap().1, "bob");
    lab.write("a.jsonl", &[put("o", &["big.example", "large.example", "x.example"])]);
    assert_eq!(lab.waiting(), [("protected", "o".to_owned(), "big.example large.example".to_owned())]);
    // Who rejected may think better of it.
    let id = lab.only().id;
    lab.reject(&id);
    lab.approve(&id);
    assert_eq!(lab.names("o"), ["big.example", "large.example", "x.example"]);
    assert_eq!(lab.held(), []);
}

#[test]
fn f2_a_list_that_grew_by_thousands_waits_and_what_leaves_it_does_not() {
    let mut lab = Lab::new(Policy::default());
    let known = many(0..100);
    // A new order is no growth, however long.
    lab.write("a.jsonl", &[put_many("o", &known), put_many("new", &many(0..2000))]);
    assert_eq!((lab.names("o").len(), lab.names("new").len(), lab.waiting().len()), (100, 2000, 0));
    // 8,000 names come, 10 go.
    let mut grown = many(10..8100);
    grown.push("big.example".to_owned());
    lab.write("a.jsonl", &[put_many("o", &grown), put_many("new", &many(0..2001))]);
    assert_eq!((lab.names("o").len(), lab.names("new").len()), (90, 2001));
    let held = lab.held();
    assert_eq!(
        held.iter().map(|held| (held.guard, held.counts)).collect::<Vec<_>>(),
        [(Guard::Protected, [1, 0, 0, 0]), (Guard::Growth, [8000, 0, 0, 0]),]
    );
    assert_eq!(held[1].why, "more names come at once to the 100 that are there than 1000 and 5 percent");
    lab.approve(&held[1].id);
    assert_eq!(lab.names("o").len(), 8090);
    assert_eq!(lab.waiting().len(), 1);

    // Events grow a list, too, in how many lines they may come.
    let lines: Vec<String> = many(10000..12000).iter().map(|name| event("add", "o", &[name])).collect();
    let mut other = lines.clone();
    other.push(event("add", "p", &["x.example"]));
    lab.cli(Event::Put(Order { terms: lab.copy["o"].terms.clone(), ..lab.copy["new"].clone() }));
    let applied = lab.write("b.jsonl", &other);
    assert_eq!(lab.names("o").len(), 8090);
    assert_eq!(applied.held[0].counts, [2000, 0, 0, 0]);
    assert_eq!(applied.refusals.iter().map(|refusal| refusal.text.as_str()).collect::<Vec<_>>(), ["p"]);
}

#[test]
fn f2_names_that_a_feed_s_events_add_one_by_one_wait_as_one_change() {
    let mut lab = Lab::new(Policy::default());
    let known = many(0..100);
    lab.write("a.jsonl", &[put_many("o", &known), put_many("p", &known)]);
    let add =
        |order: &str, name: &str| Event::Add { order: order.to_owned(), names: [Name::parse(name).unwrap()].into() };
    let grown = many(100..8100);
    let mut events: Vec<Event> = grown.iter().map(|name| add("o", name)).collect();
    events.push(add("p", "x.example"));
    let source = lab.path("b.jsonl").to_str().unwrap().to_owned();
    let entry = |(at, event)| Entry { line: at as u64 + 1, seq: None, at: None, event };
    let applied = lab.book().apply(&source, events.into_iter().enumerate().map(entry).collect()).unwrap();
    lab.follow(applied);
    assert_eq!((lab.names("o").len(), lab.names("p").len()), (100, 101));
    let held = lab.only();
    assert_eq!((held.guard, held.order.as_str(), held.counts), (Guard::Growth, "o", [8000, 0, 0, 0]));
    // Reading the whole file asks for nothing anew.
    let mut lines: Vec<String> = grown.iter().map(|name| event("add", "o", &[name])).collect();
    lines.push(event("add", "p", &["x.example"]));
    assert_eq!(lab.write("b.jsonl", &lines).held, []);
    assert_eq!(lab.only(), held);
    // The operator means what he adds.
    let lines = grown.iter().enumerate().map(|(at, name)| entry((at, add("p", name))));
    let applied = lab.book().apply("cli", lines.collect()).unwrap();
    lab.follow(applied);
    assert_eq!(lab.names("p").len(), 8101);
}

#[test]
fn f2_a_list_that_shrank_or_is_empty_waits_but_removals_by_name_do_not() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put_many("o", &many(0..100))]);
    let mut few = many(0..10);
    few.push("new.example".to_owned());
    lab.write("a.jsonl", &[put_many("o", &few)]);
    assert_eq!(lab.names("o").len(), 101);
    let held = lab.only();
    assert_eq!((held.guard, held.counts), (Guard::Shrink, [0, 90, 0, 0]));
    assert_eq!(held.why, "90 of 100 names are listed no longer: over 5 and 50 percent");

    // Its names come back: nothing is held any more.
    lab.write("a.jsonl", &[put_many("o", &many(0..100))]);
    assert_eq!((lab.names("o").len(), lab.waiting()), (100, vec![]));

    // By name: at once, in the file and by another one.
    let gone: Vec<String> = many(10..100);
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    lab.write("a.jsonl", &[put_many("o", &many(0..100)), event("remove", "o", &gone)]);
    assert_eq!((lab.names("o").len(), lab.waiting()), (10, vec![]));
    lab.write("b.jsonl", &[event("remove", "o", &["n00000.example", "n00001.example"])]);
    assert_eq!(lab.names("o").len(), 8);

    // An empty list, as kinds of feeds have it that carry names only.
    let empty = Order { names: BTreeSet::new(), ..lab.copy["o"].clone() };
    lab.cli(Event::Put(lab.copy["o"].clone()));
    let source: Arc<str> = lab.path("a.jsonl").to_str().unwrap().into();
    let book = lab.book();
    let transaction = book.connection.transaction().unwrap();
    let mut writer = Writer::open(transaction, &book.guards, &mut book.told);
    let origin = Origin { source: source.clone(), place: Place::default() };
    assert!(writer.put(&origin, empty, &BTreeSet::new()).unwrap());
    writer.write_holds(&source, "o", Place::default(), true).unwrap();
    writer.commit(&mut crate::book::Ahead::default()).unwrap();
    let held = lab.only();
    assert_eq!((held.guard, held.counts), (Guard::Empty, [0, 8, 0, 0]));
    lab.approve(&held.id);
    assert_eq!(lab.names("o"), [""; 0]);
}

#[test]
fn f2_what_waits_goes_on_waiting_when_the_order_has_grown_or_shrunk_since() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put_many("o", &many(0..100))]);
    // 40 of 100 stay, and 30 come: of the 130 that the book has then, 60 are less than a half.
    let mut said: Vec<String> = many(0..40);
    said.extend(many(200..230));
    lab.write("a.jsonl", &[put_many("o", &said)]);
    assert_eq!((lab.names("o").len(), lab.only().counts), (130, [0, 60, 0, 0]));
    let held = lab.only();
    lab.restart();
    assert_eq!(lab.release(Timestamp::now()).changes, []);
    assert_eq!(lab.only(), held);
    // Nor does the next name that the source lists let them go, nor that some of them went by name.
    said.push("new.example".to_owned());
    lab.write("a.jsonl", &[put_many("o", &said)]);
    assert_eq!((lab.names("o").len(), lab.only()), (131, held));
    let gone = many(40..60).iter().map(|name| Name::parse(name).unwrap()).collect();
    lab.cli(Event::Remove { order: "o".to_owned(), names: gone });
    lab.restart();
    assert_eq!((lab.release(Timestamp::now()).changes, lab.only().counts), (vec![], [0, 40, 0, 0]));
    // A limit that is raised above what it was lets them go.
    lab.configure(Policy { shrink: Some(Limit { rows: 5, percent: 60 }), ..lab.policy.clone() });
    lab.release(Timestamp::now());
    assert_eq!((lab.names("o").len(), lab.waiting()), (71, vec![]));

    // Growth likewise: 1,001 names to 5,000.
    lab.configure(Policy::default());
    lab.write("p.jsonl", &[put_many("p", &many(0..5000))]);
    lab.write("p.jsonl", &[put_many("p", &many(0..6001))]);
    let held = lab.only();
    assert_eq!((held.guard, held.counts), (Guard::Growth, [1001, 0, 0, 0]));
    let some = many(5000..5500).iter().map(|name| Name::parse(name).unwrap()).collect();
    lab.cli(Event::Add { order: "p".to_owned(), names: some });
    lab.restart();
    assert_eq!((lab.release(Timestamp::now()).changes, lab.only().counts), (vec![], [501, 0, 0, 0]));
    lab.configure(Policy { growth: Some(Limit { rows: 1001, percent: 5 }), ..lab.policy.clone() });
    lab.release(Timestamp::now());
    assert_eq!((lab.names("p").len(), lab.waiting()), (6001, vec![]));
}

#[test]
fn f2_orders_that_a_file_lists_no_longer_wait_where_they_are_many() {
    let mut lab = Lab::new(Policy::default());
    let orders: Vec<String> = (0..10).map(|number| put(&format!("o{number}"), &["x.example"])).collect();
    lab.write("a.jsonl", &orders);
    // A few may go at once.
    lab.write("a.jsonl", &orders[..7]);
    assert_eq!((lab.copy.len(), lab.waiting()), (7, vec![]));
    lab.write("a.jsonl", &orders[..1]);
    assert_eq!(lab.copy.len(), 7);
    assert_eq!(lab.waiting(), [("shrink", String::new(), "o1 o2 o3 o4 o5 o6".to_owned())]);
    // An empty file takes nothing with it either.
    lab.write("a.jsonl", &[]);
    assert_eq!(lab.copy.len(), 7);
    assert_eq!(lab.waiting(), [("empty", String::new(), "o0 o1 o2 o3 o4 o5 o6".to_owned())]);
    assert_eq!(lab.only().why, "the file is empty, so 7 orders that it put before stay in force");
    let id = lab.only().id;
    lab.reject(&id);
    lab.read("a.jsonl");
    assert_eq!((lab.copy.len(), lab.waiting()), (7, vec![]));
    lab.approve(&id);
    assert_eq!((lab.copy.len(), lab.held()), (0, vec![]));
    assert_eq!(lab.read("a.jsonl").changes, []);
    // A revoke takes what it likes.
    lab.write("b.jsonl", &orders);
    let revokes = (0..10).map(|number| json!({"op": "revoke", "order": format!("o{number}")}).to_string() + "\n");
    lab.write("b.jsonl", &orders.iter().cloned().chain(revokes).collect::<Vec<_>>());
    assert_eq!((lab.copy.len(), lab.waiting()), (0, vec![]));
}

#[test]
fn terms_that_make_names_reach_over_protected_ones_wait_and_the_end_does_not() {
    let mut lab = Lab::new(Policy::default());
    let exact = json!({"match": "exact", "except": ["a.x.example"]});
    lab.write("a.jsonl", &[put_as("o", &["large.example", "x.example"], exact)]);
    assert_eq!(lab.names("o"), ["large.example", "x.example"]);
    let wider = json!({"match": "subtree", "not_after": "2030-01-01T00:00:00Z"});
    lab.write("a.jsonl", &[put_as("o", &["large.example", "x.example", "y.example"], wider)]);
    let now = &lab.copy["o"];
    assert_eq!((now.terms.reach.word(), now.terms.not_after.is_some(), now.except.len()), ("exact", true, 1));
    assert_eq!(lab.names("o").len(), 3);
    let held = lab.only();
    assert_eq!(held.guard, Guard::Reach);
    assert_eq!(held.why, "large.example reaches over the protected name www.large.example: a shop");
    lab.cli(Event::Extend { order: "o".to_owned(), not_after: None });
    lab.approve(&held.id);
    let now = &lab.copy["o"];
    assert_eq!((now.terms.reach.word(), now.terms.not_after, now.except.len()), ("subtree", None, 0));
}

#[test]
fn additions_wait_for_the_feed_s_window_and_endings_do_not() {
    let hold = Duration::from_secs(1800);
    let deadline = Some(Duration::from_secs(1200));
    let mut lab = Lab::new(Policy { hold, deadline, ..Policy::default() });
    lab.write("a.jsonl", &[put("o", &["a.example", "b.example"])]);
    assert_eq!(lab.names("o"), [""; 0]);
    let first = lab.only();
    assert_eq!((first.guard, first.until.unwrap()), (Guard::Window, first.since + hold));
    assert!(first.is_late(), "the window ends behind the deadline");

    // More names do not prolong it, and names that are taken back do not come.
    lab.write("a.jsonl", &[put("o", &["a.example", "c.example"])]);
    let held = lab.held();
    let told: Vec<_> = held.iter().map(|held| held.items[0].name.as_str()).collect();
    assert_eq!((told, held[0].since), (vec!["a.example", "c.example"], first.since));
    lab.reject(&held[1].id);
    assert_eq!(lab.release(first.since).changes, []);
    lab.release(first.since + hold);
    assert_eq!((lab.names("o"), lab.waiting()), (vec!["a.example".to_owned()], vec![]));
    assert_eq!(lab.ops("o").pop().unwrap(), "release");
    lab.write("a.jsonl", &[put("o", &["a.example", "c.example", "d.example"])]);
    assert_eq!(lab.waiting(), [("hold", "o".to_owned(), "d.example".to_owned())]);

    // Wider terms wait, a nearer end and a removal do not.
    let other = json!({
        "actions": {"dns": "drop"}, "scopes": ["fr"], "not_before": "2025-04-01T00:00:00Z",
        "not_after": "2030-01-01T00:00:00Z",
    });
    lab.write("a.jsonl", &[put_as("o", &["c.example", "d.example"], other)]);
    let now = &lab.copy["o"].terms;
    assert_eq!((now.not_after.is_some(), now.scopes.contains("fr")), (true, true));
    assert_eq!((now.not_before.to_string().as_str(), lab.action("o")), ("2025-04-01T00:00:00Z", "nxdomain"));
    assert_eq!(lab.names("o"), [""; 0]);
    assert_eq!(lab.waiting().len(), 2);
    // A shorter window holds for what waits already, and without one nothing waits.
    let waits = lab.held().into_iter().find(|held| held.rejected.is_none()).unwrap();
    lab.configure(Policy { hold: Duration::from_secs(600), ..lab.policy.clone() });
    assert_eq!(lab.release(waits.since).changes, []);
    assert_eq!(lab.book().next_release().unwrap(), Some(waits.since + Duration::from_secs(600)));
    lab.configure(Policy::default());
    lab.release(first.since);
    assert_eq!(lab.names("o"), ["d.example"]);
    assert_eq!(lab.action("o"), "drop");
}

/// A name that another source adds to an order.
fn add_exact(lab: &mut Lab, name: &str) {
    let applied = lab.cli(Event::Add { order: "o".to_owned(), names: [Name::parse(name).unwrap()].into() });
    assert_eq!(applied.changes.len(), 1);
}

#[test]
fn wider_terms_whose_time_has_come_wait_on_for_a_name_that_they_would_make_reach_too_far() {
    let hold = Duration::from_secs(1800);
    let exact = json!({"match": "exact"});
    for approves in [false, true] {
        let mut lab = Lab::new(Policy { hold, deadline: Some(hold), ..Policy::default() });
        lab.write("a.jsonl", &[put_as("o", &["shop.example"], exact.clone())]);
        let id = lab.only().id;
        lab.approve(&id);
        lab.write("a.jsonl", &[put("o", &["shop.example"])]);
        let window = lab.only();
        assert_eq!((window.guard, window.terms.is_some()), (Guard::Window, true));
        add_exact(&mut lab, "large.example");
        let applied = if approves { lab.approve(&window.id) } else { lab.release(window.since + hold) };
        assert_eq!((applied.changes.len(), applied.refusals.len(), applied.held.len()), (0, 1, 1));
        let now = &lab.copy["o"];
        assert_eq!((now.terms.reach.word(), now.names.len()), ("exact", 2));
        let held = lab.only();
        assert_eq!((held.guard, held.until, &held.terms), (Guard::Reach, None, &window.terms));
        assert_eq!((held.since, held.deadline), (window.since, window.deadline));
        assert_eq!(held.why, "large.example reaches over the protected name www.large.example: a shop");
        assert_eq!(lab.release(window.since + hold + hold).changes, []);
        lab.approve(&held.id);
        assert_eq!(lab.copy["o"].terms.reach.word(), "subtree");
    }
}

#[test]
fn names_whose_time_has_come_are_judged_by_the_terms_that_came_since() {
    let hold = Duration::from_secs(1800);
    let mut lab = Lab::new(Policy { hold, ..Policy::default() });
    lab.write("a.jsonl", &[put_as("o", &["shop.example"], json!({"match": "exact"}))]);
    let id = lab.only().id;
    lab.approve(&id);
    lab.write("b.jsonl", &[event("add", "o", &["large.example", "x.example"])]);
    let window = lab.only();
    lab.write("a.jsonl", &[put("o", &["shop.example"])]);
    let terms = lab.held().pop().unwrap();
    lab.approve(&terms.id);
    assert_eq!(lab.copy["o"].terms.reach.word(), "subtree");
    lab.release(window.since + hold);
    assert_eq!(lab.names("o"), ["shop.example", "x.example"]);
    assert_eq!(lab.waiting(), [("protected", "o".to_owned(), "large.example".to_owned())]);
}

#[test]
fn an_approval_of_wider_terms_is_for_the_names_that_were_shown() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put_as("o", &["large.example"], json!({"match": "exact"}))]);
    lab.write("a.jsonl", &[put("o", &["large.example"])]);
    let shown = lab.only();
    assert_eq!(shown.guard, Guard::Reach);
    // One that reaches nothing more is as good as none; one that does is to be looked at.
    add_exact(&mut lab, "x.example");
    assert_eq!(lab.only().id, shown.id);
    add_exact(&mut lab, "huge.example");
    let now = lab.only();
    assert_ne!(now.id, shown.id);
    assert!(now.why.starts_with("huge.example reaches over") && now.why.ends_with("; and 1 names more"), "{}", now.why);
    let (applied, _) = lab.book().approve(&[shown], &json!({"user": "alice"})).unwrap();
    assert_eq!((applied.changes, lab.copy["o"].terms.reach.word()), (vec![], "exact"));
    // Nor is what was rejected of fewer names approved for more.
    lab.reject(&now.id);
    add_exact(&mut lab, "vast.example");
    assert_eq!(lab.approve(&now.id).refusals.len(), 1);
    assert_eq!(lab.copy["o"].terms.reach.word(), "exact");
    let id = lab.only().id;
    lab.approve(&id);
    assert_eq!((lab.copy["o"].terms.reach.word(), lab.held()), ("subtree", vec![]));
}

#[test]
fn what_others_do_to_an_order_is_done_to_what_is_held_of_it() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put("o", &["big.example", "github.io", "x.example"])]);
    let remove = Event::Remove { order: "o".to_owned(), names: [Name::parse("big.example").unwrap()].into() };
    lab.cli(remove);
    assert_eq!(lab.waiting(), [("private_suffix", "o".to_owned(), "github.io".to_owned())]);
    // The same order in another file is the same order.
    let same = lab.write("b.jsonl", &[put("o", &["big.example", "github.io", "x.example"])]);
    assert_eq!(same.refusals.len(), 1, "it says what the operator took out");
    lab.write("b.jsonl", &[put("o", &["github.io", "x.example"])]);
    assert_eq!(lab.waiting().len(), 1);
    lab.cli(Event::Revoke { order: "o".to_owned(), why: String::new() });
    assert_eq!(lab.held(), []);
    assert_eq!(lab.copy.len(), 0);
}

#[test]
fn an_order_that_moves_to_another_file_takes_along_what_is_held_of_it() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put("o", &["big.example", "github.io", "x.example"])]);
    let before = lab.held();
    let rejected = before[0].id.clone();
    lab.reject(&rejected);
    fs::rename(lab.path("a.jsonl"), lab.path("b.jsonl")).unwrap();
    let context = Context { scopes: None, targets: None, guards: lab.guards() };
    let files = Files::native(&[lab.path("")]);
    let applied = files.sync(lab.book(), &context, &Which::All).unwrap();
    assert_eq!(lab.follow(applied).changes, []);
    let after = lab.held();
    let told = |held: &[Held]| held.iter().map(|held| (held.id.clone(), held.since)).collect::<Vec<_>>();
    assert_eq!(told(&after), told(&before));
    assert!(after.iter().all(|held| held.source.ends_with("/b.jsonl")));
    assert_eq!(lab.waiting().len(), 1);
    lab.read("b.jsonl");
    assert_eq!(told(&lab.held()), told(&before));
}

#[test]
fn each_guard_can_be_switched_off_and_what_it_held_comes_then() {
    let all = Policy::default();
    let few = Some(Limit { rows: 3, percent: 10 });
    for (policy, names) in [
        (Policy { protected: false, ..all.clone() }, vec!["big.example"]),
        (Policy { private_suffixes: false, ..all.clone() }, vec!["github.io"]),
        (Policy { public_suffixes: false, ..all.clone() }, vec!["com"]),
        (Policy { growth: None, ..all.clone() }, vec!["a.example", "b.example", "c.example", "d.example"]),
    ] {
        let mut names = names;
        names.push("x.example");
        let mut lab = Lab::new(Policy { growth: few, ..all.clone() });
        lab.write("a.jsonl", &[put("o", &["x.example"])]);
        lab.write("a.jsonl", &[put("o", &names)]);
        assert_eq!(lab.names("o"), ["x.example"], "{names:?}");
        let mut off = Lab::new(policy.clone());
        off.write("a.jsonl", &[put("o", &["x.example"])]);
        off.write("a.jsonl", &[put("o", &names)]);
        assert_eq!((off.names("o").len(), off.waiting()), (names.len(), vec![]), "{names:?}");
        lab.configure(policy);
        lab.release(Timestamp::now());
        if names[0] != "com" {
            assert_eq!((lab.names("o").len(), lab.waiting()), (names.len(), vec![]), "{names:?}");
        }
    }
}

#[test]
fn the_operator_s_own_slip_is_held_too() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put("o", &["x.example"])]);
    let terms = Arc::new(Terms { id: "mine".to_owned(), ..(*lab.copy["o"].terms).clone() });
    let names = ["big.example", "fine.example"].map(|name| Name::parse(name).unwrap()).into();
    let applied = lab.cli(Event::Put(Order { terms, names, except: BTreeSet::new() }));
    assert_eq!(lab.names("mine"), ["fine.example"]);
    assert_eq!((applied.held[0].feed.as_str(), applied.held[0].source.as_str()), ("control", "cli"));
    let more = ["google.com.example", "large.example"].map(|name| Name::parse(name).unwrap()).into();
    lab.cli(Event::Add { order: "mine".to_owned(), names: more });
    assert_eq!(lab.names("mine"), ["fine.example", "google.com.example"]);
    assert_eq!(lab.waiting().len(), 2);
    for held in lab.held() {
        lab.approve(&held.id);
    }
    assert_eq!(lab.names("mine").len(), 4);
}

#[test]
fn what_follows_in_a_log_is_all_that_it_says_anew() {
    let mut lab = Lab::new(Policy::default());
    lab.write("a.jsonl", &[put("o", &["x.example", "y.example"])]);
    let order = lab.copy["o"].clone();
    let mut log = vec![
        event("add", "o", &["big.example", "z.example"]),
        event("remove", "o", &["x.example"]),
        json!({"op": "revoke", "order": "o"}).to_string() + "\n",
    ];
    let write = |lab: &mut Lab, log: &[String]| {
        let source = lab.path("log.jsonl").to_str().unwrap().to_owned();
        let context = Context { scopes: None, targets: None, guards: lab.guards() };
        let read = read_log(&source, log.concat().as_bytes(), &context).unwrap();
        let snapshot = Snapshot { source: source.into(), read: Some(read), looked: Instant::now() };
        let (applied, again) = lab.book().sync(vec![snapshot]).unwrap();
        assert_eq!(again.len(), 0);
        lab.follow(applied);
    };
    write(&mut lab, &log[..2]);
    assert_eq!(lab.names("o"), ["y.example", "z.example"]);
    let held = lab.only();
    // What the operator puts after the log's events stays when more events follow; so does what is held of them.
    lab.cli(Event::Add { order: "o".to_owned(), names: [Name::parse("x.example").unwrap()].into() });
    log.insert(2, event("add", "o", &["v.example"]));
    write(&mut lab, &log[..3]);
    assert_eq!(lab.names("o"), ["v.example", "x.example", "y.example", "z.example"]);
    assert_eq!(lab.only(), held);
    write(&mut lab, &log);
    assert_eq!(lab.copy.len(), 0);
    lab.cli(Event::Put(order));
    log.push(event("add", "o", &["w.example"]));
    write(&mut lab, &log);
    assert_eq!(lab.names("o"), ["w.example", "x.example", "y.example"]);
    // Another beginning is another log: all of it is new.
    log.remove(0);
    write(&mut lab, &log[..2]);
    assert_eq!(lab.names("o"), ["v.example", "w.example", "y.example"]);
}
