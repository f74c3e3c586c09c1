use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    book::{Book, Note},
    control::api::OrderHits,
    feed::{Entry as FeedEntry, Event, Refusal},
    name::Name,
    order::{Order, json::RawOrder},
};

struct Lab {
    folder: tempfile::TempDir,
    book: Book,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path()).unwrap();
        Self { folder, book }
    }

    /// Applies an event, and has the tables hold it at once. Gives the entry's number.
    fn event(&mut self, event: Event) -> i64 {
        let entry = FeedEntry { line: 1, seq: None, at: None, event };
        let id = entry.event.order_id().to_owned();
        let is_end = matches!(entry.event, Event::Revoke { .. });
        let by = json!({"user": "root", "uid": 0, "claimed": "alice"});
        let number = self.book.apply_by("cli", vec![entry], &by).unwrap().entry;
        self.tables(if is_end { "lift" } else { "enforce" }, &id, number);
        number
    }

    fn tables(&mut self, op: &'static str, id: &str, entry: i64) {
        let at = Timestamp::now();
        self.book.note(Note::of_daemon(op, json!({"generation": 1, "at": at, "entry": entry})).about(id));
        self.book.write_notes().unwrap();
    }

    fn report(&self, order: Option<&str>, period: Period) -> Result<Report, ReportError> {
        let question = Question { order: order.map(str::to_owned), period };
        make(&Audit::open(self.folder.path()).unwrap(), &question, Timestamp::now())
    }

    fn order(&self, id: &str) -> OrderReport {
        self.report(Some(id), Period::default()).unwrap().orders.remove(0)
    }
}

fn put(id: &str, names: &[&str], not_after: &str) -> Event {
    let terms = json!({
        "id": id, "issuer": "Court", "basis": "Law", "reference": "1/25", "issued": "2025-03-28",
        "not_before": "2025-03-28T00:00:00Z", "not_after": not_after, "protocols": ["dns"],
        "actions": {"dns": "drop"}, "scopes": ["all"], "match": "exact",
    });
    let terms: RawOrder = serde_json::from_value(terms).unwrap();
    let names = names.iter().map(|name| Name::parse(name).unwrap()).collect();
    Event::Put(Order { terms: Arc::new(terms.terms().unwrap()), names, except: BTreeSet::new() })
}

fn add(id: &str, name: &str) -> Event {
    Event::Add { order: id.to_owned(), names: [Name::parse(name).unwrap()].into() }
}

fn revoke(id: &str, why: &str) -> Event {
    Event::Revoke { order: id.to_owned(), why: why.to_owned() }
}

fn names(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn an_order_is_told_from_its_arrival_to_its_end() {
    let mut lab = Lab::new();
    let entries = [
        lab.event(put("a", &["a.example", "b.example"], "none")),
        lab.event(add("a", "c.example")),
        lab.event(Event::Remove { order: "a".to_owned(), names: [Name::parse("a.example").unwrap()].into() }),
        lab.event(Event::Extend { order: "a".to_owned(), not_after: Some("2099-01-01T00:00:00Z".parse().unwrap()) }),
        lab.event(revoke("a", "settled")),
    ];
    let order = lab.order("a");
    let changes: Vec<_> =
        order.changes.iter().map(|change| (change.entry, change.op.as_str(), change.what.as_str())).collect();
    assert_eq!(
        changes,
        [
            (entries[0], "put", "came"),
            (entries[1], "add", "1 name came"),
            (entries[2], "remove", "1 name went"),
            (entries[3], "extend", "its end: 2099-01-01T00:00:00Z, before none"),
            (entries[4], "revoke", "ended: settled"),
        ]
    );
    assert!(
        order.changes.iter().all(|change| change.in_tables.is_some() && change.by.as_deref() == Some("root (alice)"))
    );
    assert!(order.changes.iter().all(|change| change.seconds.is_some_and(|seconds| seconds >= 0.0)));
    assert_eq!((order.state, order.not_after.as_str(), order.names_count), ("revoked", "2099-01-01T00:00:00Z", 2));
    assert_eq!(order.names, names(&["b.example", "c.example"]));
    assert_eq!((order.issuer.as_str(), order.basis.as_str(), order.reference.as_str()), ("Court", "Law", "1/25"));
    let [term] = &order.terms[..] else { panic!("{:?}", order.terms) };
    assert_eq!(term.why.as_deref(), Some("revoked, by root (alice): settled"));
    assert_eq!((term.in_tables, term.enforced), (order.changes[0].in_tables, order.changes[0].in_tables));
    assert_eq!((term.received, term.ended), (Some(order.changes[0].received), order.changes[4].in_tables));
    assert!(matches!(lab.report(Some("b"), Period::default()), Err(ReportError::Unknown(id)) if id == "b"));
}

#[test]
fn each_time_of_an_order_is_told_and_an_end_by_its_date() {
    let mut lab = Lab::new();
    lab.event(put("a", &["a.example"], "none"));
    lab.event(revoke("a", "appeal"));
    // The kernel had the end before the book.
    lab.event(put("a", &["a.example"], "2025-06-01T00:00:00Z"));
    let order = lab.order("a");
    let whys: Vec<_> = order.terms.iter().map(|term| term.why.as_deref()).collect();
    assert_eq!(whys, [Some("revoked, by root (alice): appeal"), Some("its end")]);
    assert_eq!((order.state, order.terms[1].ended), ("ended", Some("2025-06-01T00:00:00Z".parse().unwrap())));

    lab.event(put("b", &["b.example"], "none"));
    let early = Timestamp::now();
    lab.book.note(Note::of_daemon("lift", json!({"generation": 2, "at": early})).about("b"));
    lab.event(revoke("b", "appeal"));
    let order = lab.order("b");
    assert_eq!((order.terms[0].ended, order.changes[1].seconds), (Some(early), Some(0.0)));
}

#[test]
fn what_the_tables_do_not_have_is_not_told_as_enforced() {
    let mut lab = Lab::new();
    let entry = |event| FeedEntry { line: 1, seq: None, at: None, event };
    let first = lab.book.apply("cli", vec![entry(put("a", &["a.example"], "none"))]).unwrap().entry;
    let why = "no room in the kernel's tables for more than 1 orders";
    lab.book.note(Note::of_daemon("not_enforced", json!({"generation": 1, "why": why})).about("a"));
    let second = lab.book.apply("cli", vec![entry(add("a", "b.example"))]).unwrap().entry;
    let order = lab.order("a");
    assert_eq!((order.terms[0].in_tables, order.terms[0].enforced), (None, None));
    assert_eq!(order.not_enforced.iter().map(|trouble| trouble.why.as_str()).collect::<Vec<_>>(), [why]);
    // Told late, of the first entry alone.
    lab.tables("enforce", "a", first);
    let order = lab.order("a");
    assert!(order.changes[0].in_tables.is_some() && order.changes[1].in_tables.is_none());
    lab.book.note(
        Note::of_daemon("enforce", json!({"at": Timestamp::now(), "entry": second, "found": "at the start"}))
            .about("a"),
    );
    lab.book.write_notes().unwrap();
    let order = lab.order("a");
    assert!(!order.changes[0].at_the_latest && order.changes[1].at_the_latest, "{:?}", order.changes);
}

#[test]
fn a_period_has_what_was_there_as_it_was_at_its_end() {
    let mut lab = Lab::new();
    lab.event(put("gone", &["gone.example"], "none"));
    lab.event(revoke("gone", "settled"));
    lab.event(put("stays", &["a.example"], "none"));
    std::thread::sleep(std::time::Duration::from_millis(2));
    let from = Timestamp::now();
    lab.event(add("stays", "b.example"));
    std::thread::sleep(std::time::Duration::from_millis(2));
    let until = Timestamp::now();
    lab.event(add("stays", "c.example"));
    lab.event(revoke("stays", "settled"));
    lab.event(put("later", &["later.example"], "none"));

    let report = lab.report(None, Period { from: Some(from), until: Some(until) }).unwrap();
    let [order] = &report.orders[..] else { panic!("{:?}", report.orders) };
    assert_eq!((order.id.as_str(), order.state, order.terms[0].ended), ("stays", "in_force", None));
    assert_eq!((order.names.clone(), order.changes.len()), (names(&["a.example", "b.example"]), 2));
    let ids = |report: &Report| report.orders.iter().map(|order| order.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&lab.report(None, Period { from: None, until: Some(from) }).unwrap()), ["gone", "stays"]);
    assert_eq!(ids(&lab.report(None, Period::default()).unwrap()), ["gone", "later", "stays"]);
    let head = report.audit_head.unwrap();
    assert_eq!((head, report.audit_problems), (lab.book.head().unwrap().unwrap().to_string(), Vec::new()));
}

#[test]
fn periods_are_days_of_utc() {
    let period = |from: &str, until: &str| {
        let midnight = |day: &str| Some(format!("{day}T00:00:00Z").parse().unwrap());
        Ok(Period { from: midnight(from), until: midnight(until) })
    };
    assert_eq!(Period::parse("2026"), period("2026-01-01", "2027-01-01"));
    assert_eq!(Period::parse("2026-12"), period("2026-12-01", "2027-01-01"));
    assert_eq!(Period::parse("2024-02-29"), period("2024-02-29", "2024-03-01"));
    assert_eq!(Period::parse("2026-01-01..2026-02-01"), period("2026-01-01", "2026-02-01"));
    let wrong = "\"2026-1\" is not a period, such as 2026, 2026-01, 2026-01-05 or 2026-01-01..2026-02-01 (UTC)";
    assert_eq!(Period::parse("2026-1"), Err(wrong.to_owned()));
    for text in ["", "2026-13", "2026-02-30", "2026-01..2026-02", "..", "2026-01-01..", "20260101"] {
        assert!(Period::parse(text).is_err(), "{text}");
    }
    let backwards = "\"2026-02-01..2026-02-01\" ends before it begins";
    assert_eq!(Period::parse("2026-02-01..2026-02-01"), Err(backwards.to_owned()));
}

#[test]
fn hits_and_refused_rows_are_those_of_the_period() {
    let mut lab = Lab::new();
    lab.event(put("a", &["a.example"], "none"));
    let look = |lab: &mut Lab, time: &str, decided, concerned| {
        let hits = OrderHits { order: "a".to_owned(), decided, concerned };
        lab.book.count(&[hits], false, time.parse().unwrap()).unwrap();
    };
    look(&mut lab, "2026-01-31T00:00:00Z", 0, 0);
    look(&mut lab, "2026-01-31T12:00:00Z", 2, 3);
    look(&mut lab, "2026-02-01T12:00:00Z", 7, 9);
    let hits = |period: &str| {
        let report = lab.report(None, Period { until: None, ..Period::parse(period).unwrap() }).unwrap();
        report.orders[0].hits
    };
    assert_eq!(hits("2026-01"), Hits { decided: 7, concerned: 9 });
    assert_eq!(hits("2026-02"), Hits { decided: 5, concerned: 6 });
    let unknown = lab.report(None, Period::default()).unwrap().unknown;
    assert_eq!(
        unknown,
        [
            "hits: before 2026-01-31T00:00:00Z none were written down",
            "hits: after 2026-02-01T12:00:00Z none are written down yet"
        ]
    );

    let refusal = |line, text| Refusal::new(&"cli".into(), line, text, "holds a space");
    lab.book.note_refusals("cli", &[refusal(1, "a"), refusal(2, "b c")]);
    lab.book.write_notes().unwrap();
    let report = lab.report(None, Period::default()).unwrap();
    let lines: Vec<_> = report.refused.iter().map(|row| row.line).collect();
    // On the control socket what is refused is of an order where it names it.
    let of_order: Vec<_> = report.orders[0].refused.iter().map(|row| (row.line, row.text.as_str())).collect();
    assert_eq!((lines, of_order), (vec![1, 2], vec![(1, "a")]));
}

#[test]
fn what_guards_held_is_told_with_its_outcome() {
    let mut lab = Lab::new();
    lab.event(put("a", &["a.example"], "none"));
    let deadline = "2025-01-01T00:00:00Z";
    let hold = |id: &str, deadline: Option<&str>| json!({"held": id, "feed": "f", "guard": "growth", "why": "many", "added": ["b.example"], "deadline": deadline});
    for (op, detail) in [
        ("hold", hold("1", Some(deadline))),
        ("hold", hold("2", Some(deadline))),
        ("hold", hold("3", None)),
        ("hold", hold("4", Some(deadline))),
        ("reject", json!({"held": "2", "user": "bob"})),
        ("approve", json!({"held": "4", "user": "bob", "names": {"added": ["b.example"]}})),
    ] {
        lab.book.note(Note { source: "/f".to_owned(), op, order: "a".to_owned(), detail });
    }
    lab.book.write_notes().unwrap();
    let order = lab.order("a");
    let held: Vec<_> = order
        .held
        .iter()
        .map(|held| (held.id.as_str(), held.outcome.as_deref(), held.by.as_deref(), held.missed))
        .collect();
    assert_eq!(
        held,
        [
            ("1", None, None, true),
            ("2", Some("reject"), Some("bob"), false),
            ("3", None, None, false),
            ("4", Some("approve"), Some("bob"), true),
        ]
    );
    assert_eq!(order.names, names(&["a.example", "b.example"]));
}

#[test]
fn names_that_only_digests_tell_come_from_the_book_as_long_as_it_has_them() {
    let mut lab = Lab::new();
    let many: Vec<String> = (0..1001).map(|number| format!("n{number}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    lab.event(put("a", &many, "none"));
    lab.event(add("a", "more.example"));
    let order = lab.order("a");
    assert_eq!((order.names_count, order.names.map(|names| names.len())), (1002, Some(1002)));
    let until = Timestamp::now();
    lab.event(add("a", "still.example"));
    let report = lab.report(None, Period { from: None, until: Some(until) }).unwrap();
    assert_eq!((report.orders[0].names_count, &report.orders[0].names), (1002, &None));
}

#[test]
fn orders_that_were_changed_past_the_history_are_found() {
    let done = |sql: &str| {
        let mut lab = Lab::new();
        let many: Vec<String> = (0..1001).map(|number| format!("n{number}.example")).collect();
        lab.event(put("a", &["a.example", "b.example"], "none"));
        lab.event(put("b", &many.iter().map(String::as_str).collect::<Vec<_>>(), "none"));
        lab.event(add("a", "c.example"));
        lab.event(Event::Extend { order: "a".to_owned(), not_after: Some("2099-01-01T00:00:00Z".parse().unwrap()) });
        lab.event(revoke("b", "settled"));
        rusqlite::Connection::open(lab.folder.path().join("book.sqlite")).unwrap().execute_batch(sql).unwrap();
        let audit = Audit::open(lab.folder.path()).unwrap();
        assert_eq!(audit.verify(&[]).unwrap().problems, [""; 0]);
        disagreements(&audit).unwrap()
    };
    let names = "its names are not those that the history has";
    for (sql, expected) in [
        ("", vec![]),
        (
            "UPDATE name_lists SET names = names || 'd.example' || char(10) WHERE number = 1",
            vec![format!("order a: {names}: d.example is one")],
        ),
        (
            "UPDATE name_lists SET names = replace(names, 'b.example' || char(10), '') WHERE number = 1",
            vec![format!("order a: {names}: b.example is one")],
        ),
        (
            "UPDATE name_lists SET names = replace(names, 'n7.example' || char(10), '') WHERE number = 2",
            vec![format!("order b: {names}: 1000 in the book, 1001 in the history")],
        ),
        (
            "INSERT INTO name_lists (number, kind, first, count, names) VALUES (1, 1, 'w', 1, 'www.a.example' || char(10))",
            vec!["order a: its exceptions are not those that the history has: www.a.example is one".to_owned()],
        ),
        (
            "UPDATE orders SET terms = replace(terms, 'drop', 'observe') WHERE id = 'a'",
            vec!["order a: its terms are not those that the history has".to_owned()],
        ),
        (
            "UPDATE orders SET revoked = NULL WHERE id = 'b'; UPDATE orders SET revoked = 1 WHERE id = 'a'",
            vec![
                "order a: it is revoked in the book, and is not in the history".to_owned(),
                "order b: it is not revoked in the book, and is in the history".to_owned(),
            ],
        ),
        (
            "PRAGMA foreign_keys = OFF; UPDATE orders SET id = 'c' WHERE id = 'a'",
            vec![
                "order c is in the book, and the history does not have it".to_owned(),
                "order a is in the history, and not in the book".to_owned(),
            ],
        ),
    ] {
        assert_eq!(done(sql), expected, "{sql}");
    }
}

#[test]
fn tables_and_texts_have_what_they_should() {
    let mut lab = Lab::new();
    lab.event(put("=a", &["a.example", "b.example"], "2025-06-01T00:00:00Z"));
    lab.event(put("b", &["c.example"], "none"));
    let report = lab.report(None, Period::default()).unwrap();
    let mut written = Vec::new();
    csv::write(&report, &mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(lines[0], csv::COLUMNS.join(","));
    assert!(
        lines[1].starts_with(
            "'=a,Court,Law,1/25,2025-03-28,cli,2025-03-28T00:00:00Z,2025-06-01T00:00:00Z,dns=drop,all,exact,ended,"
        ),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains(",its end,2,a.example b.example,0,0,1,0,0,"), "{}", lines[1]);
    assert!(lines[2].starts_with("b,") && lines[2].ends_with(&report.audit_head.clone().unwrap()), "{}", lines[2]);
    assert!(lines.iter().all(|line| line.matches(',').count() == csv::COLUMNS.len() - 1));

    let text = text::text(&report);
    for expected in [
        &format!("audit head {}\n", report.audit_head.as_deref().unwrap()),
        "not known: hits: none were counted yet\n",
        "\norder =a: ended\n  ordered by  Court\n  basis       Law\n  reference   1/25\n",
        "  in force    2025-03-28T00:00:00Z to 2025-06-01T00:00:00Z\n",
        "  stops       dns=drop, match exact, clients all\n",
        "  ended       2025-06-01T00:00:00.000Z: its end\n",
        "  names       2: a.example b.example\n",
        ": put from cli, by root (alice): came; in the tables after 0.",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}
