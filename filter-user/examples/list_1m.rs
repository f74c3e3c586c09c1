//! How long lists of 1,000,000 rows take to read: `cargo run --release --example list_1m -p filter-user`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use filter_common::verdict::{Action, Protocol};
use filter_user::{
    feed::{Column, Columns, Context, Format, Input, Kind, List, file::Files},
    guard::Guards,
    order::{Match, Terms},
};
use flate2::{Compression, write::GzEncoder};
use jiff::{Timestamp, civil::date};

/// The row of a name.
type Row = fn(&str) -> String;

const ROWS: u64 = 1_000_000;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("list");
    let csv = Format::Csv(Columns { name: Column::Number(2), delimiter: b';', header: false });
    let rows: [(&str, Option<Format>, &'static Encoding, Row); 6] = [
        ("plain", None, UTF_8, |name| format!("{name}\n")),
        ("hosts", None, UTF_8, |name| format!("0.0.0.0 {name}\n")),
        ("dnsmasq", None, UTF_8, |name| format!("address=/{name}/\n")),
        ("adblock", None, UTF_8, |name| format!("||{name}^\n")),
        ("csv", Some(csv), UTF_8, |name| format!("17;{name};\"a note\"\n")),
        ("plain, windows-1252", None, WINDOWS_1252, |name| format!("{name}\n")),
    ];
    for (what, format, charset, row) in rows {
        let text: String = (0..ROWS).map(|number| row(&name(number))).collect();
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(text.as_bytes())?;
        let packed = packer.finish()?;
        for (how, content) in [("", text.as_bytes()), (", gzip", &packed)] {
            fs::write(&path, content)?;
            let kind = Kind::List(Arc::new(list(format.clone(), charset)));
            let files =
                Files::new(vec![Input { path: path.clone(), kind, seal: None, is_fetched: false, transferred: None }]);
            let mut times: Vec<Duration> = (0..ROUNDS).map(|_| read(&files)).collect::<Result<_>>()?;
            times.sort();
            println!("{what}{how}: {:?} ({:?} to {:?})", times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
        }
    }
    Ok(())
}

fn read(files: &Files) -> Result<Duration> {
    let context = Context { scopes: None, targets: None, guards: Guards::all() };
    let begun = Instant::now();
    let (orders, refusals, _) = files.orders(&context)?;
    let time = begun.elapsed();
    ensure!(refusals.is_empty() && orders[0].names.len() as u64 == ROWS, "{refusals:?}");
    Ok(time)
}

/// Names in no order, as lists are.
fn name(number: u64) -> String {
    format!("host-{:08x}.zone-{}.example", number.wrapping_mul(0x9e37_79b1) & 0xffff_ffff, number % 5000)
}

fn list(format: Option<Format>, charset: &'static Encoding) -> List {
    let terms = Terms {
        id: "list".to_owned(),
        issuer: "Regulator".to_owned(),
        basis: String::new(),
        reference: String::new(),
        issued: date(2025, 1, 1),
        not_before: Timestamp::UNIX_EPOCH,
        not_after: None,
        actions: [(Protocol::Dns, Action::Drop)].into(),
        scopes: ["all".to_owned()].into(),
        reach: Match::Subtree,
        ede: 16,
        address: Default::default(),
        redirect: None,
        insist_nxdomain: false,
        part_of: None,
    };
    List { terms: Arc::new(terms), except: BTreeSet::new(), format, charset }
}
