//! How long a response policy zone of 1,000,000 records takes from the file into the order book, and what it takes of
//! memory: `cargo run --release --example zone_1m -p filter-user`.

use std::{collections::BTreeSet, fmt::Write, fs, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use filter_common::verdict::{Action, Protocol};
use filter_user::{
    book::Book,
    feed::{
        Context, Input, Kind,
        file::{Files, Which},
        rpz::Zone,
    },
    guard::Guards,
    order::{Match, Terms},
};
use jiff::{Timestamp, civil::date};

/// Half of the records are wildcards, as lists that have `x` and `*.x` do.
const RECORDS: u64 = 1_000_000;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rpz.zone");
    let mut text = "$TTL 60\n@ SOA ns. host. 1 60 60 60 60\n@ NS ns.\n".to_owned();
    for number in 0..RECORDS / 2 {
        let name =
            format!("host-{:08x}.zone-{}.example", number.wrapping_mul(0x9e37_79b1) & 0xffff_ffff, number % 5000);
        write!(text, "{name} CNAME .\n*.{name} CNAME .\n")?;
    }
    fs::write(&path, text)?;
    let zone = Zone::new("rpz.example", Arc::new(terms()), BTreeSet::new(), None).map_err(anyhow::Error::msg)?;
    let input =
        Input { path: path.clone(), kind: Kind::Rpz(Arc::new(zone)), seal: None, is_fetched: false, transferred: None };
    let files = Files::new(vec![input]);
    let context = Context { scopes: None, targets: None, guards: Guards::all() };
    let (before, most_before) = (memory("VmRSS")?, memory("VmHWM")?);
    let begun = Instant::now();
    let (orders, refusals, _) = files.orders(&context)?;
    let read = begun.elapsed();
    ensure!(refusals.is_empty() && orders.len() == 1 && orders[0].names.len() as u64 == RECORDS / 2, "{refusals:?}");
    drop(orders);
    println!("{RECORDS} records, {} names: read in {read:.1?}", RECORDS / 2);
    let mut book = Book::open(&folder.path().join("state"))?;
    book.set_guards(Guards::all());
    for what in ["into an empty book", "again, unchanged"] {
        let begun = Instant::now();
        let applied = files.sync(&mut book, &context, &Which::All)?;
        println!("{what}: {:.1?}, {} changes", begun.elapsed(), applied.changes.len());
    }
    let changed = fs::read_to_string(&path)?.replacen("CNAME .", "CNAME rpz-drop.", 2);
    fs::write(&path, changed)?;
    let begun = Instant::now();
    let applied = files.sync(&mut book, &context, &Which::All)?;
    println!("with another action for one name: {:.1?}, {} changes", begun.elapsed(), applied.changes.len());
    let most = memory("VmHWM")?;
    println!("memory: {before} MB before, {most} MB at most ({most_before} MB before)");
    Ok(())
}

/// A figure of this process, in MB.
fn memory(what: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).context("no such figure")?;
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>()?;
    Ok(number / 1024)
}

fn terms() -> Terms {
    Terms {
        id: "zone".to_owned(),
        issuer: "Regulator".to_owned(),
        basis: String::new(),
        reference: String::new(),
        issued: date(2025, 1, 1),
        not_before: Timestamp::UNIX_EPOCH,
        not_after: None,
        actions: [(Protocol::Dns, Action::Drop), (Protocol::Tls, Action::Reset)].into(),
        scopes: ["all".to_owned()].into(),
        reach: Match::Exact,
        ede: 16,
        address: Default::default(),
        redirect: None,
        insist_nxdomain: false,
        part_of: None,
    }
}
