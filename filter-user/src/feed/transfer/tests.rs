//! What the book makes of the copy of a zone.

use std::{collections::BTreeSet, fs, sync::Arc};

use tempfile::TempDir;

use super::{
    kept::Kept,
    records::{Record, Records, Soa},
    reply::Step,
    *,
};
use crate::{
    book::{Applied, Book},
    feed::{
        Context,
        file::{CopyRead, Files, Which},
        input::{Input, Kind},
        rpz,
    },
    guard::Guards,
};

mod property;

struct Lab {
    folder: TempDir,
    book: Book,
    files: Files,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(&folder.path().join("state")).unwrap();
        book.set_patience(Duration::ZERO);
        book.set_guards(Guards::all());
        let path = path(folder.path(), "z");
        let kind = Kind::Rpz(Arc::new(rpz::tests::zone(&[], None)));
        let files = Files::new(vec![Input { path, kind, seal: None, is_fetched: true, transferred: Some(apex()) }]);
        Self { folder, book, files }
    }

    fn path(&self) -> PathBuf {
        path(self.folder.path(), "z")
    }

    fn kept(&self) -> Kept {
        Kept::open(&self.path(), &apex()).unwrap()
    }

    fn transfer(&self, serial: u32, owners: &[&[u8]]) {
        let mut records = Records::default();
        owners.iter().for_each(|owner| records.push(Record { owner, rtype: 5, data: b"\0" }));
        let soa = Soa { serial, refresh: 60, retry: 60, expire: 60 };
        self.kept().replace(soa, &records, Timestamp::now()).unwrap();
    }

    fn sync(&mut self) -> Applied {
        let context = Context { scopes: None, targets: None, guards: Guards::all() };
        self.files.sync(&mut self.book, &context, &Which::All).unwrap()
    }

    /// Every name that the book has.
    fn names(&self) -> BTreeSet<String> {
        let orders = self.book.load().unwrap();
        orders.iter().flat_map(|stored| &stored.order.names).map(ToString::to_string).collect()
    }
}

fn apex() -> Apex {
    "rpz.example".parse().unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const BAD: &[u8] = b"\x04test\x03bad";

#[test]
fn a_copy_of_the_first_version_is_taken_over() {
    let lab = Lab::new();
    lab.transfer(7, &[BAD]);
    let old = rusqlite::Connection::open(lab.path()).unwrap();
    old.execute_batch("DROP TABLE pending; PRAGMA user_version = 1").unwrap();
    assert!(Kept::read(&lab.path(), &apex()).unwrap().is_none());
    let mut records = Vec::new();
    let mut kept = lab.kept();
    assert_eq!(kept.version().unwrap().unwrap().soa.serial, 7);
    kept.records(|record| records.push(record.owner.to_vec())).unwrap();
    assert_eq!(records, [BAD]);
    assert!(Kept::read(&lab.path(), &apex()).unwrap().is_some());
    kept.tidy().unwrap();
}

#[test]
fn a_difference_of_very_many_records_has_the_whole_zone_read() {
    let lab = Lab::new();
    lab.transfer(1, &[BAD]);
    let change = |count: u32, from: u8| {
        let mut step = Step { removed: Records::default(), added: Records::default() };
        for number in 0..count {
            let owner = format!("\x04test\x09{from}{number:08}");
            step.added.push(Record { owner: owner.as_bytes(), rtype: 5, data: b"\0" });
        }
        let soa = Soa { serial: 2 + u32::from(from), refresh: 60, retry: 60, expire: 60 };
        let changes = lab.kept().apply(soa, &[step], Timestamp::now()).unwrap();
        let mut all = 0;
        lab.kept().records(|_| all += 1).unwrap();
        (changes.map(|changes| changes.after.len()), all)
    };
    assert_eq!(change(1000, 0), (Some(1000), 1001));
    assert_eq!(change(50_001, 1), (None, 51_002));
}

#[test]
fn a_copy_without_a_version_withdraws_nothing() {
    let mut lab = Lab::new();
    lab.transfer(1, &[BAD]);
    let applied = lab.sync();
    assert_eq!((lab.names(), applied.refusals.len()), (set(&["bad.test"]), 0));
    assert_eq!(applied.zones, [(lab.path(), CopyRead::Taken(1))].into());

    let remove = |lab: &Lab| {
        for end in ["", "-wal", "-shm"] {
            _ = fs::remove_file(format!("{}{end}", lab.path().display()));
        }
    };
    let looks = |lab: &mut Lab, what: &str| {
        for look in 0..3 {
            let applied = lab.sync();
            assert_eq!((lab.names(), applied.changes), (set(&["bad.test"]), Vec::new()), "{what}, look {look}");
        }
    };
    remove(&lab);
    looks(&mut lab, "removed");
    drop(lab.kept());
    looks(&mut lab, "made anew, and nothing transferred");
    remove(&lab);
    fs::write(lab.path(), "").unwrap();
    looks(&mut lab, "of no octets");
    remove(&lab);
    fs::write(lab.path(), "no database at all".repeat(1000)).unwrap();
    looks(&mut lab, "damaged");
    assert_eq!(lab.sync().zones, [(lab.path(), CopyRead::Failed)].into());
    remove(&lab);
    drop(Kept::open(&lab.path(), &"other.example".parse().unwrap()).unwrap());
    looks(&mut lab, "of another zone");

    lab.transfer(9, &[b"\x04test\x05fresh"]);
    assert_eq!(lab.sync().zones, [(lab.path(), CopyRead::Taken(9))].into());
    lab.sync();
    assert_eq!(lab.names(), set(&["fresh.test"]));
}

#[test]
fn a_copy_that_has_expired_withdraws_all() {
    let mut lab = Lab::new();
    lab.transfer(1, &[BAD]);
    lab.sync();
    lab.kept().drop_expired().unwrap();
    assert_eq!(lab.sync().zones, [(lab.path(), CopyRead::Gone)].into());
    lab.sync();
    assert_eq!(lab.names(), set(&[]));
    lab.transfer(1, &[BAD]);
    lab.sync();
    assert_eq!(lab.names(), set(&["bad.test"]));
}

#[test]
fn what_moves_from_a_file_to_transfer_stays_until_the_zone_has_come() {
    let mut lab = Lab::new();
    let (file, copy) = (lab.folder.path().join("rpz.zone"), lab.files.clone());
    fs::write(&file, "@ SOA ns. host. 1 1 1 1 1\nbad.test CNAME .\n").unwrap();
    let kind = Kind::Rpz(Arc::new(rpz::tests::zone(&[], None)));
    lab.files = Files::new(vec![Input { path: file, kind, seal: None, is_fetched: false, transferred: None }]);
    lab.sync();
    lab.files = copy;
    drop(lab.kept());
    for _ in 0..3 {
        lab.sync();
        assert_eq!(lab.names(), set(&["bad.test"]));
    }
    lab.transfer(1, &[BAD]);
    for _ in 0..3 {
        lab.sync();
        assert_eq!(lab.names(), set(&["bad.test"]));
    }
}
