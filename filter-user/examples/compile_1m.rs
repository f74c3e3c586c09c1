//! How long the compiler takes for an order of 1,000,000 names and for small changes beside it, and what it keeps in
//! memory: `cargo run --release --example compile_1m -p filter-user`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use filter_common::verdict::{Action, Protocol};
use filter_user::{
    name::Name,
    order::{Address, Match, Order, Terms},
    policy::{Changes, Compiler, Limits, ScopeTable},
};
use jiff::{Timestamp, civil::date};

const NAMES: u64 = 1_000_000;
const ROUNDS: usize = 21;

fn main() -> Result<()> {
    let names = names()?;
    let big = order("big", names);
    for round in 1..=3 {
        let mut compiler =
            Compiler::new(ScopeTable::new([])?, [], Limits { orders: 1 << 10, policies: 1 << 16, names: 1 << 21 });
        let before = resident()?;
        let start = Stopwatch::start()?;
        compiler.put(&big)?;
        let put = start.read()?;
        // Later, what the changes took and gave back would be counted, too.
        let octets = (resident()? - before) as f64 / big.names.len() as f64;
        let changes = compiler.commit()?;
        let whole = start.read()?;
        println!("round {round}: put {put}; put and commit {whole}; {} nodes", changes.insert.len());
        drop(changes);
        if round == 1 {
            println!("  {octets:.0} octets a name");
        }

        let start = Stopwatch::start()?;
        compiler.put(&big)?;
        println!("  the same order again: {}; writes {}", start.read()?, writes(&compiler.commit()?));
        small_changes(&mut compiler, &big)?;
    }
    Ok(())
}

fn small_changes(compiler: &mut Compiler, big: &Order) -> Result<()> {
    let new = Name::parse("one.more.name.example")?;
    let parent = Name::parse("zone-17.net")?;
    let mut now = Instant::now();
    // Every second round undoes the first.
    let mut measure = |what: &str, step: &mut dyn FnMut(&mut Compiler) -> Result<()>| -> Result<()> {
        let mut times = Vec::new();
        let mut count = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            step(compiler)?;
            let changes = compiler.commit()?;
            times.push(start.elapsed());
            count = writes(&changes);
            now += Duration::from_secs(6);
            compiler.release(now);
        }
        times.sort();
        println!("  {what}: median {:.1?}; writes {count}", times[times.len() / 2]);
        Ok(())
    };

    let mut there = false;
    measure("one name in or out", &mut |compiler| {
        there = !there;
        if there {
            compiler.add_names("big", [&new])?
        } else {
            compiler.remove_names("big", [&new])?
        }
        Ok(())
    })?;
    let mut there = false;
    measure("an order of one name in or out", &mut |compiler| {
        there = !there;
        let small = order("small", [new.clone()].into());
        if there {
            compiler.put(&small)?
        } else {
            compiler.revoke("small")?
        }
        Ok(())
    })?;
    let mut there = false;
    measure("an order on the parent of 1,000 names in or out", &mut |compiler| {
        there = !there;
        let above = order("above", [parent.clone()].into());
        if there {
            compiler.put(&above)?
        } else {
            compiler.revoke("above")?
        }
        Ok(())
    })?;
    let mut days = 0;
    measure("another end", &mut |compiler| {
        days += 1;
        Ok(compiler.extend("big", Some(Timestamp::from_second(2_000_000_000 + days * 86_400)?))?)
    })?;
    let mut other = big.clone();
    Arc::make_mut(&mut other.terms).ede = 15;
    let mut there = false;
    measure("other terms for all names", &mut |compiler| {
        there = !there;
        Ok(compiler.put(if there { &other } else { big })?)
    })
}

fn writes(changes: &Changes) -> usize {
    let nodes = changes.insert.len() + changes.update.len() + changes.delete.len();
    changes.orders.len() + changes.policies.len() + nodes + changes.retired_orders.len()
}

/// A mix of depths: three in four are registered names under eight TLDs, the others hosts in 1,000 zones or fewer.
fn names() -> Result<BTreeSet<Name>> {
    let tlds = ["com", "net", "org", "lat", "me", "top", "xyz", "info"];
    let name = |n: u64| {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        match n % 4 {
            0 => format!("host-{n}.zone-{}.net", n / 4 % 250),
            _ => format!("{random:010x}-stream.{}", tlds[(n % 8) as usize]),
        }
    };
    (0..NAMES).map(|n| Ok(Name::parse(&name(n))?)).collect()
}

fn order(id: &str, names: BTreeSet<Name>) -> Order {
    let terms = Terms {
        id: id.to_owned(),
        issuer: String::new(),
        basis: String::new(),
        reference: String::new(),
        issued: date(2025, 1, 1),
        not_before: Timestamp::UNIX_EPOCH,
        not_after: None,
        actions: BTreeMap::from([(Protocol::Dns, Action::Nxdomain), (Protocol::Tls, Action::Reset)]),
        scopes: ["all".to_owned()].into(),
        reach: Match::Subtree,
        ede: 16,
        address: Address::default(),
        redirect: None,
        insist_nxdomain: false,
        part_of: None,
    };
    Order { terms: Arc::new(terms), names, except: BTreeSet::new() }
}

/// Wall-clock time, and this thread's processor time, which a busy machine changes less.
struct Stopwatch {
    start: Instant,
    cpu: u64,
}

impl Stopwatch {
    fn start() -> Result<Self> {
        Ok(Self { start: Instant::now(), cpu: cpu()? })
    }

    fn read(&self) -> Result<String> {
        let cpu = Duration::from_nanos(cpu()? - self.cpu);
        Ok(format!("{} ms (processor {} ms)", self.start.elapsed().as_millis(), cpu.as_millis()))
    }
}

/// Processor time of this thread in nanoseconds.
fn cpu() -> Result<u64> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(schedstat.split(' ').next().context("schedstat has no first field")?.parse()?)
}

/// Resident memory in octets.
fn resident() -> Result<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: i64 = statm.split(' ').nth(1).context("statm has no second field")?.parse()?;
    Ok(pages * 4096)
}
