use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::feed::Event;

fn order(id: &str, names: &[&str], except: &[&str]) -> Order {
    let parsed = |names: &[&str]| -> BTreeSet<Name> { names.iter().map(|name| Name::parse(name).unwrap()).collect() };
    let terms = json!({
        "id": id, "issuer": "Court", "basis": "Law", "reference": "1/25", "issued": "2025-03-28",
        "not_before": "2025-03-28T00:00:00Z", "not_after": "2025-11-17T00:00:00Z", "protocols": ["dns", "tls"],
        "actions": {"dns": "address", "tls": "redirect"}, "scopes": ["de", "fr"], "match": "below", "ede": 17,
        "address": {"a": "192.0.2.1", "aaaa": "2001:db8::1"}, "redirect": "box", "insist_nxdomain": true,
    });
    let terms: crate::order::json::RawOrder = serde_json::from_value(terms).unwrap();
    Order { terms: Arc::new(terms.terms().unwrap()), names: parsed(names), except: parsed(except) }
}

fn entry(line: u64, event: Event) -> Entry {
    Entry { line, seq: Some(line * 10), at: None, event }
}

fn revoke(line: u64, id: &str) -> Entry {
    entry(line, Event::Revoke { order: id.to_owned(), why: "appeal".to_owned() })
}

#[test]
fn orders_survive_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = (order("x", &["a.com", "b.com"], &["www.a.com"]), order("y", &["c.com"], &[]));
    let mut book = Book::open(folder.path()).unwrap();
    book.apply("cli", vec![entry(1, Event::Put(x.clone())), entry(2, Event::Put(y.clone()))]).unwrap();
    drop(book);
    let mut book = Book::open(folder.path()).unwrap();
    let stored = book.load().unwrap();
    assert_eq!(stored.iter().map(|stored| &stored.order).collect::<Vec<_>>(), [&x, &y]);
    assert!(stored.iter().all(|stored| stored.source == "cli" && stored.revoked.is_none()));
    book.apply("cli", vec![revoke(1, "x")]).unwrap();
    assert_eq!(book.load().unwrap().len(), 1);
    let ended = book.order("x").unwrap().unwrap();
    assert_eq!(ended.order, x);
    assert!(ended.revoked.is_some());
    assert_eq!(book.order("z").unwrap(), None);
    assert_eq!(book.clock_behind(), None);
}

#[test]
fn f3_the_same_twice_changes_nothing_and_different_ends_replace() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    let x = order("x", &["a.com"], &[]);
    let mut longer = x.clone();
    longer.terms = Arc::new(x.terms.extended(None).unwrap());
    let applied = book
        .apply(
            "cli",
            vec![
                revoke(1, "x"),
                entry(2, Event::Put(x.clone())),
                entry(3, Event::Put(x.clone())),
                entry(4, Event::Put(longer.clone())),
                entry(5, Event::Extend { order: "x".to_owned(), not_after: None }),
                entry(6, Event::Add { order: "x".to_owned(), names: x.names.clone() }),
                revoke(7, "x"),
                revoke(8, "x"),
                entry(9, Event::Add { order: "x".to_owned(), names: x.names.clone() }),
                entry(10, Event::Put(longer.clone())),
            ],
        )
        .unwrap();
    let whats: Vec<_> = applied.outcomes.iter().map(|outcome| (outcome.line, outcome.what)).collect();
    assert_eq!(
        whats,
        [
            (1, What::RevokedUnknown),
            (2, What::New),
            (3, What::Unchanged),
            (4, What::Changed),
            (5, What::Unchanged),
            (6, What::Unchanged),
            (7, What::Revoked),
            (8, What::Unchanged),
            (10, What::New),
        ]
    );
    assert!(
        matches!(&applied.refusals[..], [Refusal { line: 9, why, .. }] if why.starts_with("the order was revoked at "))
    );
    let mut copy = BTreeMap::new();
    applied.changes.into_iter().for_each(|change| change.apply_to(&mut copy));
    assert_eq!(copy, BTreeMap::from([("x".to_owned(), longer)]));
    let numbers: Vec<_> = book.history("x").unwrap().iter().map(|record| (record.number, record.line)).collect();
    assert_eq!(numbers, [(1, 2), (2, 4), (3, 7), (4, 10)]);
    assert_eq!(book.history("x").unwrap()[2].detail, json!({"seq": 70, "why": "appeal"}));
}

#[test]
fn a_newer_book_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    drop(Book::open(folder.path()).unwrap());
    Connection::open(folder.path().join(FILE)).unwrap().pragma_update(None, "user_version", 8).unwrap();
    let error = Book::open(folder.path()).unwrap_err();
    assert!(matches!(error, BookError::Newer { found: 8, known: 6 }), "{error}");
}

#[test]
fn a_clock_behind_the_newest_entry_is_told() {
    let folder = tempfile::tempdir().unwrap();
    drop(Book::open(folder.path()).unwrap());
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let later = Timestamp::from_microsecond(later.as_microsecond()).unwrap();
    let time = later.as_microsecond();
    let link = chain::Link { time, source: "cli", line: 1, op: "revoke", id: "x", detail: "{}" };
    chain::append_to(&Connection::open(folder.path().join(FILE)).unwrap(), None, &link).unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    assert_eq!(book.clock_behind(), Some(later));
    // What the daemon does under the wrong clock does not.
    book.note(Note::of_daemon("start", json!({})));
    book.write_notes().unwrap();
    assert_eq!(Book::open(folder.path()).unwrap().clock_behind(), Some(later));
    // Whatever is written under a right clock ends it.
    book.apply("cli", vec![entry(1, Event::Put(order("x", &["a.com"], &[])))]).unwrap();
    assert_eq!(Book::open(folder.path()).unwrap().clock_behind(), None);
}

#[test]
fn the_history_cannot_be_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    book.apply("cli", vec![entry(1, Event::Put(order("x", &["a.com"], &[])))]).unwrap();
    for sql in ["DELETE FROM events", "UPDATE events SET source = 'y'"] {
        let error = book.connection.execute(sql, []).unwrap_err();
        assert_eq!(error.to_string(), "the history is append-only");
    }
}

#[test]
fn a_damaged_book_is_an_error() {
    for sql in [
        "UPDATE name_lists SET names = 'a b' || char(10)",
        "UPDATE orders SET terms = '{}'",
        "UPDATE orders SET terms = replace(terms, '2025-11-17', '2024-11-17')",
        "UPDATE orders SET received = 9223372036854775807",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        book.apply("cli", vec![entry(1, Event::Put(order("x", &["a.com"], &[])))]).unwrap();
        book.connection.execute(sql, []).unwrap();
        assert!(matches!(book.load(), Err(BookError::Damaged(_))), "{sql}");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "not a database, but text that is long enough to be looked at").unwrap();
    assert!(matches!(Book::open(folder.path()), Err(BookError::Sqlite(_))));
}

#[test]
fn a_book_opens_without_room_for_what_others_would_share() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    book.apply("cli", vec![entry(1, Event::Put(order("x", &["a.com"], &[])))]).unwrap();
    drop(book);
    // In the place of a full disk: the index of the log cannot be made.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("book.sqlite-shm")).unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    assert_eq!(book.load().unwrap().len(), 1);
    book.apply("cli", vec![revoke(1, "x")]).unwrap();
    let error = Book::open(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "order book: another daemon has this order book open");
}

#[test]
fn what_the_history_lacks_of_the_tables_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    let ids = ["enforced", "fresh", "never", "over", "ready", "revoked"];
    book.apply("cli", ids.iter().map(|id| entry(1, Event::Put(order(id, &["a.com"], &[])))).collect()).unwrap();
    let tell = |book: &mut Book, told: &[(&'static str, &str)]| {
        told.iter().for_each(|(op, id)| book.note(Note::of_daemon(op, json!({})).about(id)));
        book.write_notes().unwrap();
    };
    tell(&mut book, &[("enforce", "enforced"), ("enforce", "ready"), ("ready", "over"), ("enforce", "over")]);
    tell(&mut book, &[("enforce", "revoked")]);
    book.apply("cli", vec![revoke(2, "revoked"), revoke(3, "never")]).unwrap();
    let standing = [("enforced", Standing::Enforced), ("fresh", Standing::Enforced), ("ready", Standing::Ready)];
    let standing: BTreeMap<String, Standing> = standing.map(|(id, stands)| (id.to_owned(), stands)).into();
    let untold = book.untold(&standing).unwrap();
    let lacking: Vec<_> = untold.iter().map(|(id, op)| (id.as_str(), *op)).collect();
    assert_eq!(
        lacking,
        [("fresh", "enforce"), ("over", "lift"), ("ready", "lift"), ("ready", "ready"), ("revoked", "lift")],
        "an order whose end has come, one that is to begin later again, and none that was never there"
    );
    let told: Vec<_> = untold.iter().map(|(id, op)| (*op, id.as_str())).collect();
    tell(&mut book, &told);
    assert_eq!(book.untold(&standing).unwrap(), []);
    // What changes is to be told anew.
    let names = [Name::parse("b.com").unwrap()].into();
    book.apply("cli", vec![entry(4, Event::Add { order: "enforced".to_owned(), names })]).unwrap();
    assert_eq!(book.untold(&standing).unwrap(), [("enforced".to_owned(), "enforce")]);
}

#[test]
fn where_the_filter_was_is_known_from_the_last_start_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    let mut told = |notes: &[(&'static str, &str)]| -> Vec<String> {
        for (op, interface) in notes {
            let detail = if *op == "start" { json!({"orders": 1}) } else { json!({"interface": interface}) };
            book.note(Note::of_daemon(op, detail));
        }
        book.write_notes().unwrap();
        book.attached().unwrap().into_iter().collect()
    };
    assert_eq!(told(&[]), [""; 0]);
    assert_eq!(told(&[("start", ""), ("attach", "eth0"), ("attach", "eth1"), ("detach", "eth1")]), ["eth0"]);
    assert_eq!(told(&[("attach", "eth1"), ("attach", "eth0")]), ["eth0", "eth1"]);
    assert_eq!(told(&[("start", ""), ("attach", "eth2")]), ["eth2"]);
}
