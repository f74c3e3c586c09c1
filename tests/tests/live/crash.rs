//! The daemon is killed, and power fails: nothing that was acknowledged is lost, and the kernel is never without its
//! rules.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cordon_tests::lab::{Expected, Filter, Lab, Prober, eventually, order};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Value, json};

/// Longest that a change may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names that the file's order has besides, and how many of them are others in each version: what guards let through.
const FILLER: u64 = 2000;
const CHANGING: u64 = 500;

#[test]
fn f4_what_was_acknowledged_is_on_the_disk() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::prepare(&lab, &[])?;
    let disk = lab.disk("state", &filter.state(), 64)?;
    filter.run()?;
    for round in 0..6 {
        let id = format!("order-{round}");
        // Small ones, and one whose transaction is of many pages.
        let names: Vec<String> =
            (0..if round == 3 { 20_000 } else { 1 }).map(|n| format!("n{n}.{id}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let submitted = filter.submit(&[order(&id, &names, &[("dns", "nxdomain")])])?;
        ensure!(submitted.outcomes.len() == 1 && submitted.problems.is_empty(), "{submitted:?}");

        // The files as they were then.
        let copy = lab.folder().join(format!("copy-{round}"));
        copy_state(&filter.state(), &copy)?;
        ensure!(names_of(&copy, &id)? == Some(names.len() as i64), "{id} is not in a copy of the files");
        // What the disk itself had got by then.
        let folder = lab.folder().join(format!("cut-{round}"));
        let cut = disk.after_power_cut(&lab.folder().join("cut.ext4"), &folder)?;
        ensure!(names_of(&folder, &id)? == Some(names.len() as i64), "{id} was lost when power failed");
        drop(cut);

        if round == 4 {
            filter.submit(&[json!({"op": "revoke", "order": "order-0", "why": "settled"})])?;
            let cut = disk.after_power_cut(&lab.folder().join("cut.ext4"), &folder)?;
            ensure!(names_of(&folder, "order-0")?.is_none(), "a revocation was lost when power failed");
            drop(cut);
        }
    }
    filter.stop(libc::SIGTERM)?;
    drop(disk);
    Ok(())
}

/// At so many points of a start, of readings of files and of requests: 200 with CORDON_TEST_FULL.
#[test]
fn f4_killed_at_random_moments() -> Result<()> {
    let rounds = if std::env::var_os("CORDON_TEST_FULL").is_some() { 200 } else { 8 };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64 | 1;
    println!("{rounds} rounds with the seed {seed}");
    let mut random = Random(seed);
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[standing(), filler(0)])?;
    filter.stop(libc::SIGKILL)?;
    let begun = Instant::now();
    filter.run()?;
    // More often after it is up than before, however slow this machine is.
    let longest = 500 + 3 * begun.elapsed().as_millis() as u64;
    let mut prober = lab.prober([
        ("standing.example".to_owned(), Expected::Stopped),
        ("a.standing.example".to_owned(), Expected::Stopped),
        ("notstanding.example".to_owned(), Expected::Reached),
        ("example".to_owned(), Expected::Reached),
    ])?;
    let mut client = Acknowledged::default();
    for round in 0..rounds {
        let (is_dead, wait) = (AtomicBool::new(false), Duration::from_millis(random.below(longest)));
        let (is_dead, is_first) = (&is_dead, round == 0);
        if !is_first {
            filter.launch()?;
        }
        let filter_now = &filter;
        thread::scope(|scope| -> Result<()> {
            let working = scope.spawn(|| client.work(filter_now, &prober, &mut random, round, is_dead));
            thread::sleep(wait);
            filter_now.signal(libc::SIGKILL)?;
            is_dead.store(true, Ordering::Relaxed);
            working.join().map_err(|_| anyhow!("the client's thread panicked"))?
        })?;
        filter.stop(libc::SIGKILL)?;
        let copy = lab.folder().join("copy");
        copy_state(&filter.state(), &copy)?;
        for (id, in_force) in &client.orders {
            let is_there = names_of(&copy, id)?.is_some();
            ensure!(
                is_there == *in_force,
                "round {round}, seed {seed}: {id} in force: {in_force}; in the book: {is_there}"
            );
        }
        prober.is_well().with_context(|| format!("round {round}, seed {seed}"))?;
    }

    // A last start has all of it, and what the file said last.
    filter.run()?;
    let last = format!("n7.filler-{}.example", client.written);
    eventually(PATIENCE, || {
        let verdict = filter.kernel_verdict(&last)?;
        ensure!(verdict == "nxdomain", "{last}: {verdict}");
        Ok(())
    })?;
    prober.expect(&last, Expected::Stopped);
    prober.expect(&format!("n{CHANGING}.filler.example"), Expected::Stopped);
    let listed = filter.json(&["order", "list"])?;
    let listed: Vec<&str> = listed.as_array().into_iter().flatten().filter_map(|order| order["id"].as_str()).collect();
    for (id, in_force) in &client.orders {
        ensure!(listed.contains(&id.as_str()) == *in_force, "{id}: {in_force}");
        prober.expect(&format!("{id}.example"), if *in_force { Expected::Stopped } else { Expected::Reached });
    }
    thread::sleep(Duration::from_secs(2));
    let tally = prober.finish().with_context(|| format!("seed {seed}"))?;
    let acknowledged = client.orders.len();
    println!("{acknowledged} orders acknowledged, {} files written; {tally:?}", client.written);
    ensure!(tally.stopped > 100 && tally.reached > 100 && acknowledged > 0, "{tally:?}, {acknowledged}");
    eventually(PATIENCE, || {
        let status = filter.json(&["status"])?;
        ensure!(status["problems"] == json!([]), "{status}");
        Ok(())
    })
}

/// What the daemon has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// By id: whether the order is in force. What was under way when the daemon was killed is not among them.
    orders: BTreeMap<String, bool>,
    /// The last version of the file.
    written: u64,
}

impl Acknowledged {
    /// Gives the daemon work until it is dead.
    fn work(
        &mut self,
        filter: &Filter<'_>,
        prober: &Prober,
        random: &mut Random,
        round: u64,
        is_dead: &AtomicBool,
    ) -> Result<()> {
        let mut number = 0;
        while !is_dead.load(Ordering::Relaxed) {
            number += 1;
            if UnixStream::connect(filter.socket()).is_err() {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            if random.below(4) == 0 {
                self.written += 1;
                filter.write_orders("orders.jsonl", &[standing(), filler(self.written)])?;
            } else if random.below(2) == 0
                && let Some(id) = self.orders.iter().find(|(_, in_force)| **in_force).map(|(id, _)| id.clone())
            {
                let name = format!("{id}.example");
                prober.expect_nothing(&name);
                // Unless it is acknowledged, nobody knows.
                self.orders.remove(&id);
                if filter.submit(&[json!({"op": "revoke", "order": id, "why": "settled"})]).is_ok() {
                    self.orders.insert(id, false);
                    prober.expect(&name, Expected::Reached);
                }
            } else {
                let id = format!("order-{round}-{number}");
                let name = format!("{id}.example");
                if let Ok(submitted) = filter.submit(&[order(&id, &[&name], &[("dns", "nxdomain")])]) {
                    ensure!(submitted.outcomes.len() == 1 && submitted.problems.is_empty(), "{submitted:?}");
                    prober.expect(&name, Expected::Stopped);
                    self.orders.insert(id, true);
                }
            }
            thread::sleep(Duration::from_millis(random.below(40)));
        }
        Ok(())
    }
}

fn standing() -> Value {
    order("standing", &["standing.example"], &[("dns", "nxdomain")])
}

/// An order of a file, each version with some other names.
fn filler(version: u64) -> Value {
    let name = |n: u64| {
        if n < CHANGING { format!("n{n}.filler-{version}.example") } else { format!("n{n}.filler.example") }
    };
    let names: Vec<String> = (0..FILLER).map(name).collect();
    order("filler", &names.iter().map(String::as_str).collect::<Vec<_>>(), &[("dns", "nxdomain")])
}

/// The book and its log, as they are now.
fn copy_state(state: &Path, copy: &Path) -> Result<()> {
    fs::create_dir_all(copy)?;
    for file in ["book.sqlite", "book.sqlite-wal"] {
        let (from, to) = (state.join(file), copy.join(file));
        match fs::copy(&from, &to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => drop(fs::remove_file(&to)),
            copied => _ = copied.with_context(|| from.display().to_string())?,
        }
    }
    Ok(())
}

/// How many names an order has in a book, if it is there and not revoked.
fn names_of(folder: &Path, id: &str) -> Result<Option<i64>> {
    let book = Connection::open(folder.join("book.sqlite"))?;
    let query = "SELECT (SELECT sum(count) FROM name_lists AS lists WHERE lists.number = orders.number AND kind = 0) \
                 FROM orders WHERE id = ?1 AND revoked IS NULL";
    Ok(book.query_row(query, [id], |row| row.get(0)).optional()?)
}

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }
}
