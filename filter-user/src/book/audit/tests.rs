use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::{Value, json};

use super::*;
use crate::{
    book::{
        Book, Note,
        schema::{STEPS, VERSION},
    },
    feed::{Entry, Event, Refusal},
    name::Name,
    order::{Order, json::RawOrder},
};

fn order(id: &str, names: BTreeSet<Name>) -> Order {
    let terms = json!({
        "id": id, "issuer": "Court", "basis": "Law", "reference": "1/25", "issued": "2025-03-28",
        "not_before": "2025-03-28T00:00:00Z", "not_after": "none", "protocols": ["dns"],
        "actions": {"dns": "drop"}, "scopes": ["all"], "match": "exact",
    });
    let terms: RawOrder = serde_json::from_value(terms).unwrap();
    Order { terms: Arc::new(terms.terms().unwrap()), names, except: BTreeSet::new() }
}

fn names(texts: impl IntoIterator<Item = impl AsRef<str>>) -> BTreeSet<Name> {
    texts.into_iter().map(|text| Name::parse(text.as_ref()).unwrap()).collect()
}

fn entry(event: Event) -> Entry {
    Entry { line: 1, seq: None, at: None, event }
}

fn put(id: &str) -> Entry {
    entry(Event::Put(order(id, names(["a.example"]))))
}

fn revoke(id: &str) -> Entry {
    entry(Event::Revoke { order: id.to_owned(), why: "appeal".to_owned() })
}

/// A book with a history of six entries.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        for entry in [put("a"), put("b"), put("c"), revoke("a"), revoke("b"), revoke("c")] {
            book.apply("cli", vec![entry]).unwrap();
        }
        Self { folder }
    }

    fn sql(&self, sql: &str) {
        let connection = Connection::open(self.folder.path().join(FILE)).unwrap();
        connection.execute_batch("DROP TRIGGER events_stay; DROP TRIGGER events_keep").unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn head(&self) -> Head {
        Audit::open(self.folder.path()).unwrap().head().unwrap().unwrap()
    }

    fn problems(&self, noted: &[Noted]) -> Vec<String> {
        Audit::open(self.folder.path()).unwrap().verify(noted).unwrap().problems
    }

    fn export(&self) -> Vec<String> {
        let mut lines = Vec::new();
        Audit::open(self.folder.path()).unwrap().export(&mut lines).unwrap();
        String::from_utf8(lines).unwrap().lines().map(str::to_owned).collect()
    }
}

const ZEROS: &str = "zeroblob(32)";

#[test]
fn a_history_as_it_was_written_is_found_so() {
    let lab = Lab::new();
    let head = lab.head();
    let by_hash = Noted { number: None, hash: head.hash };
    let verified = Audit::open(lab.folder.path()).unwrap().verify(&[head.into(), by_hash]).unwrap();
    assert_eq!((verified.entries, verified.chained_from, verified.head), (6, 1, Some(head)));
    assert_eq!(verified.problems, [""; 0]);
    assert_eq!(head.number, 6);
    // More may have come since a head was noted.
    Book::open(lab.folder.path()).unwrap().apply("cli", vec![put("d")]).unwrap();
    assert_eq!(lab.problems(&[head.into(), by_hash]), [""; 0]);
    assert_ne!(lab.head(), head);

    let empty = tempfile::tempdir().unwrap();
    let error = Audit::open(empty.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: there is no order book", empty.path().join(FILE).display()));
    drop(Book::open(empty.path()).unwrap());
    let audit = Audit::open(empty.path()).unwrap();
    assert_eq!((audit.head().unwrap(), audit.verify(&[]).unwrap().problems), (None, Vec::new()));
}

#[test]
fn whatever_is_done_to_the_entries_is_found() {
    let changed = |number: u32| format!("entry {number} was changed: its hash is not that of its content");
    let behind = |number: u32| format!("entry {number} was written behind another entry than {} is", number - 1);
    let insert = |number: i64, hash: &str| {
        format!("INSERT INTO events VALUES ({number}, 1, 'cli', 1, 'revoke', 'd', '{{}}', {ZEROS}, {hash})")
    };
    for (what, sql, expected) in [
        ("edited", "UPDATE events SET detail = '{\"why\":\"none\"}' WHERE number = 3".to_owned(), vec![changed(3)]),
        ("another time", "UPDATE events SET time = time + 1 WHERE number = 6".to_owned(), vec![changed(6)]),
        ("another hash", format!("UPDATE events SET hash = {ZEROS} WHERE number = 3"), vec![changed(3), behind(4)]),
        ("no hash", "UPDATE events SET hash = x'00' WHERE number = 6".to_owned(), vec![changed(6)]),
        ("taken away", "DELETE FROM events WHERE number = 3".to_owned(), vec!["entry 3 is missing".to_owned()]),
        ("two", "DELETE FROM events WHERE number IN (3, 4)".to_owned(), vec!["entries 3 to 4 are missing".to_owned()]),
        ("the first", "DELETE FROM events WHERE number = 1".to_owned(), vec!["entry 1 is missing".to_owned()]),
        (
            "taken away and closed up",
            "DELETE FROM events WHERE number = 5; UPDATE events SET number = 5 WHERE number = 6".to_owned(),
            vec![changed(5), behind(5)],
        ),
        (
            "swapped",
            "UPDATE events SET number = 9 WHERE number = 3; UPDATE events SET number = 3 WHERE number = 4;
             UPDATE events SET number = 4 WHERE number = 9"
                .to_owned(),
            vec![changed(3), behind(3), changed(4), behind(4), behind(5)],
        ),
        ("put in at the end", insert(7, ZEROS), vec![changed(7), behind(7)]),
        ("put in before", insert(0, ZEROS), vec!["entry 0 stands before entry 1, the first".to_owned(), changed(0)]),
        (
            "put in between",
            "UPDATE events SET number = 7 WHERE number = 6; ".to_owned() + &insert(6, ZEROS),
            vec![changed(6), behind(6), changed(7), behind(7)],
        ),
    ] {
        let lab = Lab::new();
        lab.sql(&sql);
        assert_eq!(lab.problems(&[]), expected, "{what}");
    }
}

#[test]
fn an_entry_with_a_fresh_hash_does_not_fit_the_next() {
    let lab = Lab::new();
    let line = lab.export().remove(2).replace("a.example", "b.example");
    let detail = serde_json::from_str::<Value>(&line).unwrap()["detail"].to_string();
    lab.sql(&format!("UPDATE events SET detail = '{detail}', hash = x'{}' WHERE number = 3", Hash::of(&line)));
    assert_eq!(lab.problems(&[]), ["entry 4 was written behind another entry than 3 is"]);
}

#[test]
fn a_cut_or_rewritten_end_is_found_by_a_noted_head_alone() {
    let lab = Lab::new();
    let head = lab.head();
    let by_hash = Noted { number: None, hash: head.hash };
    lab.sql("DELETE FROM events WHERE number > 4");
    assert_eq!(lab.problems(&[]), [""; 0]);
    let hash = head.hash;
    let gone = format!(
        "no entry has the hash that was noted ({hash}): the end of the history was cut off or written anew, or it is of another book"
    );
    assert_eq!(
        lab.problems(&[head.into(), by_hash]),
        [
            format!(
                "entry 6 was noted ({hash}), and the last entry is 4: the end of the history was cut off, or it is of another book"
            ),
            gone.clone()
        ]
    );
    let mut book = Book::open(lab.folder.path()).unwrap();
    book.apply("cli", vec![put("d"), put("e")]).unwrap();
    assert_eq!(lab.problems(&[]), [""; 0]);
    assert_eq!(
        lab.problems(&[head.into(), by_hash]),
        [
            format!(
                "entry 6 is another one than was noted ({hash}): the history was written anew, or is of another book"
            ),
            gone
        ]
    );
}

#[test]
fn heads_are_read_as_they_are_told() {
    let head = Lab::new().head();
    assert_eq!(Noted::parse(&head.to_string()), Some(head.into()));
    assert_eq!(Noted::parse(&head.hash.to_string()), Some(Noted { number: None, hash: head.hash }));
    for wrong in ["", "6:", "6:00", "x:y", &format!("{head}0"), &format!("-{}", head.hash)] {
        assert_eq!(Noted::parse(wrong), None, "{wrong}");
    }
    let journal = format!("Nov 28 00:00:00 border cordon[7]: INFO audit head {head}\nthen\t\"{head}\", too\n");
    assert_eq!(Noted::all_in(&journal), [head.into(), head.into()]);
    assert_eq!(Noted::all_in(&format!("hash: {}.", head.hash)), [Noted { number: None, hash: head.hash }]);
}

#[test]
fn an_export_is_noted_by_its_last_line() {
    let lab = Lab::new();
    // Digests in its lines are no heads, nor is what a feed may have written there.
    let digest = "ab".repeat(32);
    let mut book = Book::open(lab.folder.path()).unwrap();
    book.note(Note::of_daemon("fetch", json!({"sha256": digest, "text": format!("1:{digest}")})));
    book.write_notes().unwrap();
    let head = lab.head();
    let text = lab.export().join("\n");
    assert_eq!(Noted::all_in(&text), [head.into()]);
    assert_eq!(lab.problems(&Noted::all_in(&text)), [""; 0]);
    // Cut off in a line, as by a full disk, or with the other system's line ends.
    assert_eq!(Noted::all_in(&format!("{text}\n{{\"number\":8,\"previous\":\"{digest}")), [head.into()]);
    assert_eq!(Noted::all_in(&text.replace('\n', "\r\n")), [head.into()]);
    assert_eq!(Noted::all_in(&format!("{{\"number\":8,\"previous\":\"{digest}")), []);
    // Beside what else was kept in that file.
    assert_eq!(Noted::all_in(&format!("audit head {head}\n{text}\n")), [head.into(), head.into()]);
    // It proves what a head proves.
    let noted = Noted::all_in(&text);
    lab.sql("DELETE FROM events WHERE number > 4");
    assert_eq!(lab.problems(&noted).len(), 1);
    assert!(lab.problems(&noted)[0].contains("the end of the history was cut off"));
}

#[test]
fn exported_lines_need_nothing_but_sha256() {
    let lab = Lab::new();
    let lines = lab.export();
    let mut previous = "0".repeat(64);
    for (number, line) in (1..).zip(&lines) {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!((value["number"].clone(), value["previous"].clone()), (json!(number), json!(previous)), "{line}");
        let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        sum.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let sum = sum.wait_with_output().unwrap();
        previous = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    }
    assert_eq!((lines.len(), previous), (6, lab.head().hash.to_string()));
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    let fields: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["detail", "line", "number", "op", "order", "previous", "source", "time"]);
    assert_eq!(first["detail"]["names"], json!({"added": ["a.example"]}));
}

#[test]
fn many_names_are_proven_by_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    let many: Vec<String> = (0..1001).map(|number| format!("n{number:04}.example")).collect();
    let event = |names: &[String]| entry(Event::Put(order("a", self::names(names))));
    book.apply("cli", vec![event(&many)]).unwrap();
    book.apply("cli", vec![event(&many[1..])]).unwrap();
    let history = book.history("a").unwrap();
    let text: String = many.iter().map(|name| format!("{name}\n")).collect();
    assert_eq!(history[0].detail["names"]["added"], json!({"count": 1001, "sha256": Hash::of(&text).to_string()}));
    assert_eq!(history[1].detail["names"], json!({"removed": ["n0000.example"]}));
}

#[test]
fn the_chain_holds_under_several_writers() {
    let folder = tempfile::tempdir().unwrap();
    drop(Book::open(folder.path()).unwrap());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let mut book = Book::open(folder).unwrap();
                for number in 0..10 {
                    book.apply("cli", vec![put(&format!("{writer}-{number}"))]).unwrap();
                    book.note(Note::of_daemon("tables", json!({"generation": number})));
                }
                book.write_notes().unwrap();
                Book::note_past(folder, Note::of_daemon("detach", json!({"interface": "e"}))).unwrap();
            });
        }
    });
    let verified = Audit::open(folder.path()).unwrap().verify(&[]).unwrap();
    assert_eq!((verified.entries, verified.problems), (4 * 21, Vec::new()));
}

#[test]
fn what_is_noted_is_written_before_the_next_event_and_never_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    book.note(Note::of_daemon("tables", json!({"generation": 7})).about("a"));
    // In the place of a full disk.
    book.connection.pragma_update(None, "query_only", true).unwrap();
    assert!(book.write_notes().is_err() && book.apply("cli", vec![put("a")]).is_err());
    assert!(book.has_notes());
    book.connection.pragma_update(None, "query_only", false).unwrap();
    // Events go first from then on, until it was tried again.
    book.apply("cli", vec![put("b")]).unwrap();
    assert!(book.has_notes());
    book.write_notes().unwrap();
    assert!(!book.has_notes());
    book.note(Note::of_daemon("tables", json!({"generation": 8})).about("a"));
    book.apply_by("cli", vec![put("a")], &json!({"user": "root", "uid": 0})).unwrap();
    assert!(!book.has_notes());
    let history = book.history("a").unwrap();
    let ops: Vec<_> = history.iter().map(|record| (record.number, record.op.as_str())).collect();
    assert_eq!(ops, [(2, "tables"), (3, "tables"), (4, "put")]);
    assert_eq!((&history[2].detail["user"], &history[2].detail["uid"]), (&json!("root"), &json!(0)));
}

#[test]
fn on_a_full_disk_an_event_has_the_room_that_notes_do_not_fit_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    book.apply("cli", vec![put("a")]).unwrap();
    let pages: i64 = book.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |book: &Book, pages: i64| {
        book.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(&book, pages + 6);
    // 8 MB, of which 4 are kept.
    for number in 0..8000 {
        book.note(Note::of_daemon("tables", json!({"generation": number, "why": "x".repeat(1000)})));
    }
    book.apply("cli", vec![put("b")]).unwrap();
    assert_eq!(book.history("b").unwrap()[0].number, 2);
    assert!(book.write_notes().is_err());
    book.apply("cli", vec![entry(Event::Revoke { order: "b".to_owned(), why: String::new() })]).unwrap();
    assert!(book.has_notes() && book.revoked("b").unwrap());

    limit(&book, 1 << 20);
    book.write_notes().unwrap();
    assert!(!book.has_notes());
    let lab = Lab { folder };
    let lines: Vec<Value> = lab.export().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines.iter().filter(|line| line["op"] == "tables").count();
    let last = lines.last().unwrap();
    assert_eq!((&last["op"], &last["detail"]), (&json!("omitted"), &json!({"tables": 8000 - told})));
    assert!((3000..4000).contains(&told), "{told}");
}

#[test]
fn what_was_fetched_and_refused_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::open(folder.path()).unwrap();
    let fetched = |sha256: &str| json!({"feed": "f", "sha256": sha256, "octets": 3, "etag": "\"v1\""});
    book.note_fetch("/s/feeds/f.jsonl", fetched("aa"));
    book.note_fetch("/s/feeds/f.jsonl", fetched("aa"));
    book.write_notes().unwrap();
    book.note_fetch("/s/feeds/f.jsonl", fetched("aa"));
    assert!(!book.has_notes());
    book.note_fetch("/s/feeds/f.jsonl", fetched("bb"));
    book.note_fetch("/s/feeds/g.jsonl", fetched("aa"));
    let refusals: Vec<Refusal> =
        (1..=1002).map(|line| Refusal::new(&"cli".into(), line, "a b", "holds a space")).collect();
    book.note_refusals("cli", &refusals);
    // Refused by the book itself.
    book.apply("cli", vec![entry(Event::Add { order: "x".to_owned(), names: names(["a.example"]) })]).unwrap();
    let lab = Lab { folder };
    let lines: Vec<Value> = lab.export().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["op"].as_str().unwrap(), line["source"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("fetch", "/s/feeds/f.jsonl"),
            ("fetch", "/s/feeds/f.jsonl"),
            ("fetch", "/s/feeds/g.jsonl"),
            ("refuse", "cli"),
            ("refuse", "cli"),
        ]
    );
    assert_eq!(lines[0]["detail"], fetched("aa"));
    assert_eq!((lines[3]["detail"]["rows"].as_array().unwrap().len(), &lines[3]["detail"]["more"]), (1000, &json!(2)));
    assert_eq!(
        lines[4]["detail"],
        json!({"feed": "", "rows": [{"file": "cli", "line": 1, "text": "x", "why": "no such order in the book"}]})
    );
}

#[test]
fn a_book_without_a_chain_keeps_everything_and_is_chained_from_a_recorded_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let connection = Connection::open(&file).unwrap();
    STEPS[..3].iter().for_each(|step| connection.execute_batch(step).unwrap());
    connection.pragma_update(None, "user_version", 3).unwrap();
    let terms = serde_json::to_string(&*order("a", BTreeSet::new()).terms).unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO orders VALUES (1, 'a', 'cli', '{terms}', 5, NULL);
             INSERT INTO names VALUES (1, 0, 'a.example');
             INSERT INTO events VALUES (1, 5, 'cli', 1, 'put', 'a', '{{\"names\":{{\"added\":1}}}}');
             INSERT INTO events VALUES (2, 6, '/f.jsonl', 2, 'extend', 'a', '{{\"not_after\":\"none\"}}');"
        ))
        .unwrap();
    drop(connection);
    let error = Audit::open(folder.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: the order book's schema is version 3, this Cordon reads {VERSION}", file.display()));

    let book = Book::open(folder.path()).unwrap();
    assert_eq!(book.load().unwrap()[0].order, order("a", names(["a.example"])));
    let history: Vec<_> = book.history("a").unwrap().into_iter().map(|record| (record.number, record.op)).collect();
    assert_eq!(history, [(1, "put".to_owned()), (2, "extend".to_owned())]);
    drop(book);
    let verified = Audit::open(folder.path()).unwrap().verify(&[]).unwrap();
    assert_eq!((verified.entries, verified.chained_from, verified.problems), (3, 3, Vec::new()));
    let lab = Lab { folder };
    let lines = lab.export();
    let last: Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!((&last["op"], &last["source"]), (&json!("chain"), &json!("daemon")));
    assert_eq!(last["detail"], json!({"entries": 2, "head": format!("2:{}", Hash::of(&lines[1]))}));
    lab.sql("UPDATE events SET line = 3 WHERE number = 2");
    assert_eq!(lab.problems(&[]), ["entry 2 was changed: its hash is not that of its content"]);
}

#[test]
fn a_history_is_read_while_the_book_is_open_and_after_a_kill() {
    let lab = Lab::new();
    let mut book = Book::open(lab.folder.path()).unwrap();
    let audit = Audit::open(lab.folder.path()).unwrap();
    book.apply("cli", vec![put("d")]).unwrap();
    // As it was when it was opened.
    assert_eq!(audit.head().unwrap().unwrap().number, 6);
    assert_eq!(lab.head().number, 7);
    // A copy of the files as they are while a daemon runs is what a kill leaves.
    let copy = tempfile::tempdir().unwrap();
    for file in ["book.sqlite", "book.sqlite-wal"] {
        fs::copy(lab.folder.path().join(file), copy.path().join(file)).unwrap();
    }
    assert_eq!(Lab { folder: copy }.head().number, 7);
}
