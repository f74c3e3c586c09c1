use std::{fs, os::unix::fs::symlink, path::PathBuf, thread::sleep, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    book::{Change, What},
    feed::{Event, native},
    guard::Guards,
    name::Name,
};

/// A folder of orders, a book, and the daemon's copy of the book's orders.
struct Lab {
    folder: TempDir,
    files: Files,
    book: Book,
    copy: BTreeMap<String, Order>,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("orders")).unwrap();
        // So that the folder is never without a file.
        fs::write(folder.path().join("orders/empty.jsonl"), "").unwrap();
        let files = Files::native(&[folder.path().join("orders")]);
        let mut book = Book::open(&folder.path().join("state")).unwrap();
        book.set_patience(Duration::ZERO);
        book.set_guards(Guards::all());
        Self { folder, files, book, copy: BTreeMap::new() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("orders").join(file)
    }

    fn write(&mut self, file: &str, lines: &[String]) -> Applied {
        fs::write(self.path(file), lines.concat()).unwrap();
        self.sync(&Which::Only([self.path(file)].into()))
    }

    fn delete(&mut self, file: &str) -> Applied {
        fs::remove_file(self.path(file)).unwrap();
        self.sync(&Which::Only([self.path(file)].into()))
    }

    /// Syncs, and checks that the changes lead to what the book holds.
    fn sync(&mut self, which: &Which) -> Applied {
        let applied = self.files.sync(&mut self.book, &context(), which).unwrap();
        self.follow(&applied.changes);
        applied
    }

    fn cli(&mut self, event: Event) -> Applied {
        let applied = self.book.apply("cli", vec![Entry { line: 1, seq: None, at: None, event }]).unwrap();
        self.follow(&applied.changes);
        applied
    }

    fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            change.clone().apply_to(&mut self.copy);
        }
        let stored = self.book.load().unwrap().into_iter().map(|stored| (stored.order.terms.id.clone(), stored.order));
        assert_eq!(stored.collect::<BTreeMap<_, _>>(), self.copy);
    }

    /// The orders in force, each with its names.
    fn orders(&self) -> Vec<String> {
        let names = |order: &Order| order.names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ");
        self.copy.iter().map(|(id, order)| format!("{id}: {}", names(order))).collect()
    }

    fn source(&self, id: &str) -> String {
        let source = self.book.order(id).unwrap().unwrap().source;
        Path::new(&source).file_name().unwrap().to_str().unwrap().to_owned()
    }
}

fn context() -> Context {
    Context { scopes: Some(BTreeSet::new()), targets: None, guards: Guards::all() }
}

fn put(id: &str, names: &[&str]) -> String {
    let names = serde_json::to_string(names).unwrap();
    format!(
        r#"{{"op":"put","order":{{"id":"{id}","issuer":"Court","basis":"","reference":"","issued":"2025-03-28","not_before":"2025-03-28T00:00:00Z","not_after":"none","protocols":["dns"],"actions":{{"dns":"nxdomain"}},"scopes":["all"],"match":"subtree","names":{names}}}}}"#
    ) + "\n"
}

fn event(op: &str, id: &str, rest: &str) -> String {
    format!("{{\"op\":\"{op}\",\"order\":\"{id}\"{rest}}}\n")
}

fn revoke(id: &str) -> Event {
    Event::Revoke { order: id.to_owned(), why: "appeal".to_owned() }
}

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| Name::parse(name).unwrap()).collect()
}

fn whats(applied: &Applied) -> Vec<(u64, &str, What)> {
    applied.outcomes.iter().map(|outcome| (outcome.line, outcome.order.as_str(), outcome.what)).collect()
}

/// Line, text and reason.
fn refusals(applied: &Applied) -> Vec<(u64, &str, &str)> {
    applied.refusals.iter().map(|refusal| (refusal.line, refusal.text.as_str(), refusal.why.as_str())).collect()
}

#[test]
fn a_file_says_what_holds() {
    let mut lab = Lab::new();
    let applied = lab.write("a.jsonl", &[put("x", &["x.com", "x.net"]), put("y", &["y.com"])]);
    assert_eq!(whats(&applied), [(1, "x", What::New), (2, "y", What::New)]);
    assert_eq!(lab.orders(), ["x: x.com x.net", "y: y.com"]);
    assert_eq!(lab.source("x"), "a.jsonl");

    let again = lab.sync(&Which::All);
    assert_eq!(whats(&again), [(1, "x", What::Unchanged), (2, "y", What::Unchanged)]);
    assert_eq!(again.changes, []);

    let edit = lab.write("a.jsonl", &[put("y", &["y.com"]), put("x", &["x.org", "x.net"])]);
    let [Change::Edit { id, terms: None, names: changed, .. }] = &edit.changes[..] else { panic!("{edit:?}") };
    assert_eq!((id.as_str(), &changed.added[..]), ("x", &[Name::parse("x.org").unwrap()][..]));
    assert_eq!(changed.removed, [Name::parse("x.com").unwrap()]);

    let fewer = lab.write("a.jsonl", &[put("y", &["y.com"])]);
    assert_eq!(whats(&fewer), [(1, "y", What::Unchanged), (0, "x", What::Revoked)]);
    assert_eq!(lab.orders(), ["y: y.com"]);
    let gone = lab.delete("a.jsonl");
    assert_eq!(whats(&gone), [(0, "y", What::Revoked)]);
    assert_eq!(lab.orders(), [""; 0]);
    let back = lab.write("a.jsonl", &[put("y", &["y.com"])]);
    assert_eq!(whats(&back), [(1, "y", What::New)]);

    let history = lab.book.history("x").unwrap();
    let told: Vec<_> = history.iter().map(|record| (record.op.as_str(), record.line)).collect();
    assert_eq!(told, [("put", 1), ("put", 2), ("revoke", 0)]);
    let detail = &history[1].detail;
    assert_eq!(detail["except"], json!({}));
    assert_eq!(detail["names"], json!({"added": ["x.org"], "removed": ["x.com"]}));
    let arrived: jiff::Timestamp = detail["arrived"].as_str().unwrap().parse().unwrap();
    assert!(arrived <= history[1].time, "{detail}");
    assert_eq!(history[2].detail, json!({"why": "the file puts the order no longer"}));
}

#[test]
fn f3_events_apply_in_the_order_of_the_lines() {
    let mut lab = Lab::new();
    let applied = lab.write(
        "a.jsonl",
        &[
            event("revoke", "x", ""),
            put("x", &["x.com"]),
            event("add", "x", r#","names":["x.net","x.org"]"#),
            event("remove", "x", r#","names":["x.com","x.org"]"#),
            event("extend", "x", r#","not_after":"2026-01-01T00:00:00Z""#),
            event("extend", "x", r#","not_after":"2025-01-01T00:00:00Z""#),
            event("revoke", "y", ""),
            event("add", "y", r#","names":["y.com"]"#),
        ],
    );
    assert_eq!(whats(&applied), [(2, "x", What::New), (7, "y", What::RevokedUnknown)]);
    assert_eq!(
        refusals(&applied),
        [
            (6, "x", "`not_after` is not after `not_before`, 2025-03-28T00:00:00Z"),
            (8, "y", "no such order in the book"),
        ]
    );
    assert_eq!(lab.orders(), ["x: x.net"]);
    assert_eq!(lab.copy["x"].terms.not_after.unwrap().to_string(), "2026-01-01T00:00:00Z");

    let lines =
        [put("x", &["x.com"]), event("revoke", "x", r#","why":"appeal""#), event("add", "x", r#","names":["x.net"]"#)];
    let revoked = lab.write("a.jsonl", &lines);
    assert_eq!(whats(&revoked), [(2, "x", What::Revoked)]);
    assert_eq!(refusals(&revoked), [(3, "x", "line 2 revokes the order")]);
    assert_eq!(lab.sync(&Which::All).changes, []);
    let [one, two, _] = lines;
    let revived = lab.write("a.jsonl", &[one.clone(), two, one]);
    assert_eq!(whats(&revived), [(3, "x", What::New)]);
}

#[test]
fn events_of_one_file_reach_orders_of_another_once() {
    let mut lab = Lab::new();
    lab.write("a.jsonl", &[put("x", &["x.com"])]);
    let add = event("add", "x", r#","names":["x.net"]"#);
    assert_eq!(whats(&lab.write("b.jsonl", std::slice::from_ref(&add))), [(1, "x", What::Changed)]);
    assert_eq!(lab.source("x"), "a.jsonl");
    lab.cli(Event::Remove { order: "x".to_owned(), names: names(&["x.net"]) });
    assert_eq!(lab.sync(&Which::All).changes, []);
    assert_eq!(lab.orders(), ["x: x.com"]);
    lab.write("b.jsonl", &[add, event("add", "x", r#","names":["x.org"]"#)]);
    assert_eq!(lab.orders(), ["x: x.com x.net x.org"]);
    // A later version of the put replaces, and the other file's events apply to it again.
    let events = lab.book.history("x").unwrap().len();
    lab.write("a.jsonl", &[put("x", &["x.com", "x.de"])]);
    assert_eq!(lab.orders(), ["x: x.com x.de x.net x.org"]);
    assert_eq!(lab.book.history("x").unwrap().len(), events + 3);
    assert_eq!(lab.sync(&Which::All).changes, []);
}

#[test]
fn what_the_operator_revoked_stays_revoked_until_the_file_changes_it() {
    let mut lab = Lab::new();
    lab.write("a.jsonl", &[put("x", &["x.com"]), put("y", &["y.com"])]);
    assert_eq!(whats(&lab.cli(revoke("x"))), [(1, "x", What::Revoked)]);
    assert_eq!(whats(&lab.cli(revoke("x"))), [(1, "x", What::Unchanged)]);
    assert_eq!(lab.sync(&Which::All).changes, []);
    fs::rename(lab.path("a.jsonl"), lab.path("b.jsonl")).unwrap();
    assert_eq!(lab.sync(&Which::All).changes, []);
    assert_eq!(lab.orders(), ["y: y.com"]);
    assert_eq!((lab.source("x"), lab.source("y")), ("b.jsonl".to_owned(), "b.jsonl".to_owned()));
    lab.write("b.jsonl", &[put("x", &["x.com", "x.net"]), put("y", &["y.com"])]);
    assert_eq!(lab.orders(), ["x: x.com x.net", "y: y.com"]);
    // Less than before is no new instruction, however it is said.
    assert_eq!(whats(&lab.cli(revoke("x"))), [(1, "x", What::Revoked)]);
    let except = r#""except":["www.x.com"],"names""#;
    let lasts = |end: &str| put("x", &["x.com"]).replace("none", end);
    for less in [
        put("x", &["x.com"]),
        put("x", &["x.net"]),
        put("x", &["x.com"]).replace("\"names\"", except),
        lasts("2030-01-01T00:00:00Z"),
        put("x", &["x.com"]).replace("Court", "Another court"),
    ] {
        let applied = lab.write("b.jsonl", &[less.clone(), put("y", &["y.com"])]);
        assert_eq!(whats(&applied)[0], (1, "x", What::Unchanged), "{less}");
        assert_eq!(lab.orders(), ["y: y.com"]);
    }
    // Others reach further.
    let wide = put("x", &["x.com"]).replace("nxdomain", "drop");
    lab.write("b.jsonl", &[wide, put("y", &["y.com"])]);
    assert_eq!(lab.orders(), ["x: x.com", "y: y.com"]);
}

#[test]
fn an_exception_frees_the_only_name_of_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let raw = r#"{"id":"o","issuer":"Court","basis":"","reference":"","issued":"2025-03-28","not_before":"2025-03-28T00:00:00Z","not_after":"none","protocols":["dns"],"actions":{"dns":"drop"},"scopes":["all"],"match":"subtree"}"#;
    let terms = serde_json::from_str::<crate::order::json::RawOrder>(raw).unwrap().terms().unwrap();
    let list = |except: &[&str]| crate::feed::list::List {
        terms: Arc::new(terms.clone()),
        except: names(except),
        format: None,
        charset: encoding_rs::UTF_8,
    };
    let mut book = Book::open(&folder.path().join("state")).unwrap();
    let mut stops = |except: &[&str], text: &str| -> Vec<String> {
        fs::write(&path, text).unwrap();
        let kind = crate::feed::Kind::List(list(except).into());
        let files =
            Files::new(vec![Input { path: path.clone(), kind, seal: None, is_fetched: false, transferred: None }]);
        let applied = files.sync(&mut book, &context(), &Which::All).unwrap();
        assert_eq!((applied.refusals, applied.held), (vec![], vec![]), "{except:?} {text}");
        book.load().unwrap().into_iter().flat_map(|stored| stored.order.names).map(|name| name.to_string()).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(stops(&[], "x.example\n"), ["x.example"]);
    assert_eq!(stops(&["x.example"], "x.example\n"), none);
    assert_eq!(stops(&[], "x.example\n"), ["x.example"]);
    // What is below it goes, too, however many they are.
    let many: String = (0..50).map(|n| format!("||n{n}.x.example^\n")).collect();
    assert_eq!(stops(&[], &many).len(), 50);
    assert_eq!(stops(&[], &format!("{many}@@||x.example^\n")), none);
}

#[test]
fn f1_what_is_refused_leaves_the_last_good_version() {
    let mut lab = Lab::new();
    let (x, y) = (put("x", &["x.com"]), put("y", &["y.com"]));
    lab.write("a.jsonl", &[x.clone(), y.clone()]);
    let broken_put = x.replace("\"dns\":\"nxdomain\"", "\"dns\":\"block\"");
    for lines in [
        // A put with a mistake; x stays, y is withdrawn only where it is known to be absent.
        vec![broken_put.clone(), y.clone()],
        vec![x.clone(), put("x", &["x.net"]), y.clone()],
        vec![x.clone(), y[..y.len() / 2].to_owned()],
        vec!["\u{feff}".to_owned() + &x, y.clone()],
    ] {
        let applied = lab.write("a.jsonl", &lines);
        assert_eq!(applied.changes, [], "{lines:?}");
        assert_ne!(applied.refusals, []);
        assert_eq!(lab.book.refusals().unwrap(), applied.refusals);
    }
    // That it is empty is held, not refused.
    for lines in [vec![], vec!["\n\n".to_owned()]] {
        let applied = lab.write("a.jsonl", &lines);
        assert_eq!((applied.changes, applied.refusals), (vec![], vec![]));
        assert_eq!(lab.book.held(1).unwrap().len(), 1);
    }
    // Events on an order whose put is out of sight do not make the file forget that it put it.
    lab.write("a.jsonl", &["{".to_owned(), "\n".to_owned(), y.clone(), event("add", "x", r#","names":["x.com"]"#)]);
    let applied = lab.write("a.jsonl", std::slice::from_ref(&y));
    assert_eq!(whats(&applied), [(1, "y", What::Unchanged), (0, "x", What::Revoked)]);
    lab.write("a.jsonl", &[x.clone(), y.clone()]);
    let applied = lab.write("a.jsonl", std::slice::from_ref(&broken_put));
    assert_eq!(whats(&applied), [(0, "y", What::Revoked)]);
    // What follows the broken put applies to the last good version, and is no claim of its own.
    lab.write("a.jsonl", &[broken_put, event("add", "x", r#","names":["x.net"]"#)]);
    assert_eq!(lab.orders(), ["x: x.com x.net"]);
    assert_eq!(whats(&lab.write("a.jsonl", &[y])), [(1, "y", What::New), (0, "x", What::Revoked)]);
    assert_eq!(lab.book.refusals().unwrap(), []);
}

#[test]
fn an_order_belongs_to_one_file() {
    let mut lab = Lab::new();
    lab.write("a.jsonl", &[put("x", &["x.com"])]);
    let other = lab.write("b.jsonl", &[put("x", &["x.net"])]);
    let why = format!("the order belongs to {}, and differs there", lab.path("a.jsonl").display());
    assert_eq!(refusals(&other), [(1, "x", why.as_str())]);
    assert_eq!(refusals(&lab.cli(Event::Put(lab_order(&put("x", &["x.org"]))))), [(1, "x", why.as_str())]);
    assert_eq!(lab.orders(), ["x: x.com"]);
    // Once the one lets it go, the other has it.
    let freed = lab.delete("a.jsonl");
    assert_eq!(whats(&freed), [(0, "x", What::Revoked), (1, "x", What::New)]);
    assert_eq!(lab.orders(), ["x: x.net"]);
    // The same in two files: the one that stays has it, and it never ends.
    lab.write("c.jsonl", &[put("x", &["x.net"])]);
    assert_eq!(lab.delete("b.jsonl").changes, []);
    assert_eq!((lab.orders(), lab.source("x")), (vec!["x: x.net".to_owned()], "c.jsonl".to_owned()));
    // Moved and changed at once: changed, never ended.
    lab.write("d.jsonl", &[]);
    fs::remove_file(lab.path("c.jsonl")).unwrap();
    fs::write(lab.path("d.jsonl"), put("x", &["x.net", "x.de"])).unwrap();
    assert_eq!(whats(&lab.sync(&Which::All)), [(1, "x", What::Changed)]);
    assert_eq!(lab.source("x"), "d.jsonl");
}

fn lab_order(line: &str) -> Order {
    let read = native::read("f", line.as_bytes(), &context()).unwrap();
    match read.entries.into_iter().next().map(|entry| entry.event) {
        Some(Event::Put(order)) => order,
        other => panic!("a put, not {other:?}"),
    }
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let mut lab = Lab::new();
    lab.write("a.jsonl", &[put("x", &["x.com"])]);
    let orders = lab.path("a.jsonl");
    fs::remove_file(&orders).unwrap();
    symlink(&orders, &orders).unwrap();
    let looped = lab.sync(&Which::All);
    assert_eq!(looped.changes, []);
    assert!(looped.refusals[0].why.ends_with("; its orders stay as they are"), "{looped:?}");
    fs::remove_file(&orders).unwrap();
    fs::create_dir(&orders).unwrap();
    assert_eq!(lab.sync(&Which::All).changes, []);

    // The whole folder gone, as if it were not mounted.
    fs::remove_dir(&orders).unwrap();
    let folder = lab.folder.path().join("orders");
    fs::remove_dir_all(&folder).unwrap();
    let unmounted = lab.sync(&Which::All);
    assert_eq!(unmounted.changes, []);
    assert_eq!(refusals(&unmounted), [(0, "", "No such file or directory (os error 2)")]);
    // What it is mounted on is there.
    fs::create_dir(&folder).unwrap();
    for which in [Which::All, Which::Only([orders].into())] {
        let unmounted = lab.sync(&which);
        assert_eq!(unmounted.changes, []);
        let [refusal] = &unmounted.refusals[..] else { panic!("{unmounted:?}") };
        assert_eq!(*refusal.file, *folder.to_str().unwrap());
        assert!(refusal.why.starts_with("the folder holds no file of orders any more"), "{refusal}");
    }
    fs::write(folder.join("empty.jsonl"), "").unwrap();
    assert_eq!(whats(&lab.sync(&Which::All)), [(0, "x", What::Revoked)]);
}

#[test]
fn single_files_and_what_the_configuration_drops() {
    let mut lab = Lab::new();
    let other = lab.folder.path().join("other.orders");
    fs::write(&other, put("y", &["y.com"])).unwrap();
    fs::write(lab.path(".hidden.jsonl"), put("h", &["h.com"])).unwrap();
    fs::write(lab.path("a.jsonl"), put("x", &["x.com"])).unwrap();
    fs::write(lab.path("a.txt"), put("t", &["t.com"])).unwrap();
    lab.files = Files::native(&[lab.folder.path().join("orders"), other.clone()]);
    lab.sync(&Which::All);
    assert_eq!(lab.orders(), ["x: x.com", "y: y.com"]);
    fs::remove_file(&other).unwrap();
    assert_eq!(whats(&lab.sync(&Which::All)), [(1, "x", What::Unchanged), (0, "y", What::Revoked)]);
    // A path that is not there may be a typing error: then nothing outside the configuration is withdrawn.
    lab.files = Files::native(std::slice::from_ref(&other));
    assert_eq!(lab.sync(&Which::All).changes, []);
    fs::write(&other, put("y", &["y.com"])).unwrap();
    assert_eq!(whats(&lab.sync(&Which::All)), [(1, "y", What::New), (0, "x", What::Revoked)]);
}

#[test]
fn orders_without_a_book() {
    let lab = Lab::new();
    fs::write(lab.path("a.jsonl"), put("x", &["x.com"]) + &put("y", &["y.com"]) + &event("revoke", "y", "")).unwrap();
    fs::write(lab.path("b.jsonl"), put("x", &["x.net"]) + &event("add", "x", r#","names":["com"]"#)).unwrap();
    let (orders, refused, _) = lab.files.orders(&context()).unwrap();
    assert_eq!(orders, [lab_order(&put("x", &["x.com"]))]);
    let told: Vec<_> =
        refused.iter().map(|refusal| (refusal.line, refusal.text.as_str(), refusal.why.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "com", "is a top-level domain"),
            (2, "", "no name is left"),
            (1, "x", "another file puts the order, and differs"),
        ]
    );
    let missing = Files::native(&[lab.path("none.jsonl")]).orders(&context()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("{}: No such file or directory (os error 2)", lab.path("none.jsonl").display())
    );
}

#[test]
fn files_that_are_not_read_for_their_names_are_told() {
    let mut lab = Lab::new();
    for file in ["a.json", "b.ndjson", "C.JSONL", "README.md", ".hidden", "d.jsonl~", "e.swp", "f.tmp", "g.jsonl.fresh"]
    {
        fs::write(lab.path(file), put("x", &["x.com"])).unwrap();
    }
    fs::create_dir(lab.path("folder")).unwrap();
    let applied = lab.sync(&Which::Only([lab.path("a.json")].into()));
    assert_eq!(applied.changes, []);
    let mut told: Vec<_> = applied.refusals.iter().map(ToString::to_string).collect();
    told.sort();
    let why = |file| format!("{}: not read: its name does not end in .jsonl", lab.path(file).display());
    assert_eq!(told, [why("C.JSONL"), why("a.json"), why("b.ndjson")]);
    assert_eq!(lab.files.orders(&context()).unwrap(), (vec![], vec![], vec![]));
}

#[test]
fn events_that_are_read_before_the_put_apply_once_it_comes() {
    let mut lab = Lab::new();
    fs::write(lab.path("a.jsonl"), event("add", "x", r#","names":["x.net"]"#)).unwrap();
    fs::write(lab.path("b.jsonl"), put("x", &["x.com"])).unwrap();
    let applied = lab.sync(&Which::All);
    assert_eq!(lab.orders(), ["x: x.com x.net"]);
    assert_eq!(applied.refusals, []);
    assert_eq!(lab.book.refusals().unwrap(), []);
    // Another file's revoke is not among what applies again: a later put revives.
    lab.write("c.jsonl", &[event("revoke", "x", "")]);
    assert_eq!(lab.orders(), [""; 0]);
    lab.write("b.jsonl", &[put("x", &["x.de"])]);
    assert_eq!(lab.orders(), ["x: x.de x.net"]);
    assert_eq!(lab.sync(&Which::All).changes, []);
}

#[test]
fn the_same_in_another_file_or_back_again_does_not_undo_the_operators_revoke() {
    let mut lab = Lab::new();
    let x = put("x", &["x.com"]);
    lab.write("a.jsonl", std::slice::from_ref(&x));
    lab.cli(Event::Add { order: "x".to_owned(), names: names(&["x.org"]) });
    lab.write("conflict.jsonl", &[put("x", &["x.net"])]);
    lab.cli(revoke("x"));
    assert_eq!(lab.sync(&Which::All).changes, []);
    // A copy.
    assert_eq!(lab.write("b.jsonl", std::slice::from_ref(&x)).changes, []);
    // Both gone, and one back.
    lab.delete("conflict.jsonl");
    lab.delete("a.jsonl");
    lab.delete("b.jsonl");
    assert_eq!(lab.sync(&Which::All).changes, []);
    assert_eq!(lab.write("b.jsonl", std::slice::from_ref(&x)).changes, []);
    // Something else.
    lab.write("b.jsonl", &[put("x", &["x.com", "x.de"])]);
    assert_eq!(lab.orders(), ["x: x.com x.de"]);
    lab.write("b.jsonl", &[x]);
    assert_eq!(lab.orders(), ["x: x.com"]);

    // What the operator put and revoked.
    lab.cli(Event::Put(lab_order(&put("y", &["y.com"]))));
    lab.cli(revoke("y"));
    assert_eq!(lab.write("a.jsonl", &[put("y", &["y.com"])]).changes, []);
    lab.cli(Event::Put(lab_order(&put("y", &["y.com"]))));
    assert_eq!(lab.orders(), ["x: x.com", "y: y.com"]);
}

#[test]
fn an_absence_counts_at_the_second_look() {
    const PATIENCE: Duration = Duration::from_millis(100);
    let nothing = Which::Only(BTreeSet::new());
    let mut lab = Lab::new();
    lab.book.set_patience(PATIENCE);
    let (x, y) = (put("x", &["x.com"]), put("y", &["y.com"]));
    lab.write("a.jsonl", &[x.clone(), y.clone()]);

    // Back in time: an order, then the file.
    assert_eq!(whats(&lab.write("a.jsonl", std::slice::from_ref(&y))), [(1, "y", What::Unchanged)]);
    lab.write("a.jsonl", &[x.clone(), y.clone()]);
    assert_eq!(lab.delete("a.jsonl"), Applied::default());
    lab.write("a.jsonl", &[x.clone(), y.clone()]);
    sleep(PATIENCE);
    assert_eq!(lab.sync(&nothing), Applied::default());
    assert_eq!(lab.orders(), ["x: x.com", "y: y.com"]);

    // What is new or changed takes effect meanwhile.
    lab.write("a.jsonl", &[put("y", &["y.net"]), put("z", &["z.com"])]);
    assert_eq!(lab.orders(), ["x: x.com", "y: y.net", "z: z.com"]);
    assert_eq!(lab.sync(&nothing), Applied::default());
    sleep(PATIENCE);
    assert_eq!(whats(&lab.sync(&nothing)).last(), Some(&(0, "x", What::Revoked)));
    assert_eq!(lab.sync(&nothing), Applied::default());

    // Moved and changed: it never ends, and changes when the old file is known to be gone.
    fs::remove_file(lab.path("a.jsonl")).unwrap();
    fs::write(lab.path("b.jsonl"), put("y", &["y.org"])).unwrap();
    lab.sync(&Which::All);
    assert_eq!(lab.orders(), ["y: y.net", "z: z.com"]);
    sleep(PATIENCE);
    let moved = lab.sync(&nothing);
    assert_eq!(whats(&moved), [(1, "y", What::Changed), (0, "z", What::Revoked)]);
    assert_eq!(moved.refusals, []);
    assert_eq!(lab.orders(), ["y: y.org"]);
}

/// A folder of lists in the place of the folder of orders.
fn lists(lab: &mut Lab, seal: Option<crate::feed::Seal>) {
    let order = put("l", &[]);
    let order = order.strip_prefix(r#"{"op":"put","order":"#).unwrap().trim_end().strip_suffix('}').unwrap();
    let raw: crate::order::json::RawOrder = serde_json::from_str(order).unwrap();
    let terms = Arc::new(raw.terms().unwrap());
    let list = crate::feed::List { terms, except: BTreeSet::new(), format: None, charset: encoding_rs::UTF_8 };
    let path = lab.folder.path().join("orders");
    fs::remove_file(path.join("empty.jsonl")).unwrap();
    lab.files =
        Files::new(vec![Input { path, kind: Kind::List(Arc::new(list)), seal, is_fetched: false, transferred: None }]);
}

#[test]
fn a_folder_of_lists_gives_one_order() {
    let mut lab = Lab::new();
    lists(&mut lab, None);
    lab.write("a.txt", &["a.example\n".to_owned()]);
    let applied = lab.write("b.txt", &["0.0.0.0 b.example\nfile.txt\n".to_owned()]);
    assert_eq!(
        refusals(&applied)[0].2,
        "its format is not clear: line 1 is hosts, line 2 is plain; state it by `format`; the order stays as it was"
    );
    assert_eq!(lab.orders(), ["l: a.example"], "the last good state");
    let applied = lab.write("b.txt", &["0.0.0.0 b.example\n0.0.0.0 com\n".to_owned()]);
    assert_eq!(lab.orders(), ["l: a.example b.example"]);
    assert_eq!(applied.refusals[0].file.as_ref(), lab.path("b.txt").to_str().unwrap());
    assert_eq!((applied.refusals[0].line, applied.refusals.len()), (2, 1));
    assert_eq!(lab.source("l"), "*");
    // The book tells of refusals until the next reading.
    assert_eq!(lab.book.refusals().unwrap(), applied.refusals);
    lab.write("b.txt", &["0.0.0.0 b.example\n".to_owned()]);
    assert_eq!(lab.book.refusals().unwrap(), []);

    // One file that is damaged: none of them is taken. A note, a signature and a folder are none of them.
    fs::write(lab.path("README"), "a note").unwrap();
    fs::write(lab.path("a.txt.minisig"), "a note").unwrap();
    fs::create_dir(lab.path("more")).unwrap();
    fs::write(lab.path("c.gz"), [0x1f, 0x8b, 8, 0, 0]).unwrap();
    let applied = lab.write("a.txt", &["other.example\n".to_owned()]);
    assert!(
        applied.refusals[0].why.starts_with("c.gz: ")
            && applied.refusals[0].why.ends_with("its orders stay as they are")
    );
    assert_eq!(lab.orders(), ["l: a.example b.example"]);
    lab.delete("c.gz");
    assert_eq!(lab.orders(), ["l: b.example other.example"]);

    // F2: nothing is not taken for a list.
    for file in ["a.txt", "b.txt"] {
        fs::write(lab.path(file), "").unwrap();
    }
    lab.sync(&Which::All);
    fs::remove_file(lab.path("a.txt")).unwrap();
    fs::remove_file(lab.path("b.txt")).unwrap();
    lab.sync(&Which::All);
    let hidden = lab.folder.path().join("hidden");
    fs::rename(lab.folder.path().join("orders"), &hidden).unwrap();
    lab.sync(&Which::All);
    assert_eq!(lab.orders(), ["l: b.example other.example"]);
    // A list that is configured no longer ends its order.
    lab.files = Files::new(Vec::new());
    lab.sync(&Which::All);
    lab.sync(&Which::All);
    assert_eq!(lab.orders(), [""; 0]);
}

#[test]
fn a_list_in_a_file_goes_with_it() {
    let mut lab = Lab::new();
    lists(&mut lab, None);
    lab.files.inputs[0].path = lab.path("l.gz");
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, b"a.example\nhttps://b.example/x\n").unwrap();
    fs::write(lab.path("l.gz"), packer.finish().unwrap()).unwrap();
    let applied = lab.sync(&Which::Only([lab.path("l.gz")].into()));
    assert_eq!(refusals(&applied), [(2, "https://b.example/x", "is a URL; give the host name alone")]);
    assert_eq!(lab.orders(), ["l: a.example"]);
    lab.delete("l.gz");
    assert_eq!(lab.orders(), [""; 0]);
}

#[test]
fn what_must_be_signed_is_read_when_it_is() {
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = crate::feed::Key::parse(&keys.pk.to_base64()).unwrap();
    let mut lab = Lab::new();
    let newest = lab.folder.path().join("state/f.signed");
    lists(&mut lab, Some(crate::feed::Seal { key, newest }));
    let sign = |lab: &Lab, content: &str, time: u64| {
        let comment = format!("timestamp:{time}\tfile:a.txt");
        let signature = minisign::sign(None, &keys.sk, std::io::Cursor::new(content), Some(&comment), None).unwrap();
        fs::write(lab.path("a.txt.minisig"), signature.into_string()).unwrap();
    };
    let applied = lab.write("a.txt", &["a.example\n".to_owned()]);
    assert_eq!(
        refusals(&applied),
        [(0, "", "it is not signed, and the feed's `signature` says that it must be; its orders stay as they are")]
    );
    sign(&lab, "a.example\n", 10);
    lab.sync(&Which::All);
    assert_eq!(lab.orders(), ["l: a.example"]);
    lab.write("a.txt", &["b.example\n".to_owned()]);
    assert_eq!(lab.orders(), ["l: a.example"]);
    sign(&lab, "b.example\n", 11);
    lab.sync(&Which::All);
    assert_eq!(lab.orders(), ["l: b.example"]);
    sign(&lab, "a.example\n", 10);
    let applied = lab.write("a.txt", &["a.example\n".to_owned()]);
    assert!(applied.refusals[0].why.contains("this is an old file"), "{applied:?}");
    assert_eq!(lab.orders(), ["l: b.example"]);
}

#[test]
fn what_is_fetched_is_never_gone_and_what_was_before_waits_for_it() {
    let mut lab = Lab::new();
    lab.write("a.jsonl", &[put("x", &["x.com"])]);
    let path = lab.folder.path().join("feeds/f.jsonl");
    lab.files = Files::new(vec![Input { is_fetched: true, ..Input::native(&path) }]);
    for _ in 0..3 {
        assert_eq!(refusals(&lab.sync(&Which::All)), []);
    }
    assert_eq!(lab.orders(), ["x: x.com"], "the feed moved to a server, and was not fetched yet");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, put("x", &["x.com"])).unwrap();
    for _ in 0..3 {
        lab.sync(&Which::All);
    }
    assert_eq!((lab.orders(), lab.source("x").as_str()), (vec!["x: x.com".to_owned()], "f.jsonl"));
    fs::remove_file(&path).unwrap();
    for _ in 0..3 {
        lab.sync(&Which::All);
    }
    assert_eq!(lab.orders(), ["x: x.com"]);
}

#[test]
fn a_log_says_what_happened_one_after_the_other() {
    let mut lab = Lab::new();
    let path = lab.path("a.jsonl");
    lab.files = Files::new(vec![Input { kind: Kind::Log, ..Input::native(&path) }]);
    let lines = [put("x", &["x.com"]), put("x", &["y.com"]), event("add", "x", ",\"names\":[\"z.com\"]")];
    let applied = lab.write("a.jsonl", &lines);
    assert_eq!((refusals(&applied), lab.orders()), (vec![], vec!["x: y.com z.com".to_owned()]));
    // A put that is refused changes nothing, and the next one has the last word.
    let bad = put("x", &["com"]);
    lab.write("a.jsonl", &[&lines[..], std::slice::from_ref(&bad)].concat());
    assert_eq!(lab.orders(), ["x: y.com z.com"]);
    lab.write("a.jsonl", &[&lines[..], &[bad, put("x", &["w.com"])]].concat());
    assert_eq!(lab.orders(), ["x: w.com"]);
    // What came first is applied first, and reading it all again finds it done.
    let applied = lab
        .book
        .apply(path.to_str().unwrap(), vec![Entry { line: 1, seq: Some(9), at: None, event: revoke("x") }])
        .unwrap();
    lab.follow(&applied.changes);
    assert_eq!(lab.orders(), [""; 0]);
    let applied = lab.write("a.jsonl", &[put("x", &["w.com"]), event("revoke", "x", ",\"why\":\"\",\"seq\":9")]);
    assert_eq!((applied.changes, lab.orders()), (vec![], Vec::<String>::new()));
}

#[test]
fn f4_a_log_puts_an_order_again_that_it_revoked_before_it_could_be_put_down() {
    let mut lab = Lab::new();
    let path = lab.path("a.jsonl");
    lab.files = Files::new(vec![Input { kind: Kind::Log, ..Input::native(&path) }]);
    let with_seq = |line: String, seq: u64| format!("{},\"seq\":{seq}}}\n", line.trim_end().strip_suffix('}').unwrap());
    let first = with_seq(put("x", &["x.com"]), 1);
    lab.write("a.jsonl", std::slice::from_ref(&first));
    // As when the disk has no room for the log, and then for this alone.
    let end = Entry { line: 1, seq: Some(2), at: None, event: revoke("x") };
    let applied = lab.book.apply(path.to_str().unwrap(), vec![end]).unwrap();
    lab.follow(&applied.changes);
    lab.write("a.jsonl", std::slice::from_ref(&first));
    assert_eq!(lab.orders(), [""; 0], "what was put before is not put again");
    let again = [first, event("revoke", "x", ",\"why\":\"\",\"seq\":2"), with_seq(put("x", &["x.com"]), 3)];
    let applied = lab.write("a.jsonl", &again);
    assert_eq!((whats(&applied), lab.orders()), (vec![(3, "x", What::New)], vec!["x: x.com".to_owned()]));
    assert_eq!(whats(&lab.write("a.jsonl", &again)), [(3, "x", What::Unchanged)]);
    // The operator's word stands.
    lab.cli(revoke("x"));
    lab.write("a.jsonl", &again);
    assert_eq!(lab.orders(), [""; 0]);
}
