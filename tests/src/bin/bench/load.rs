//! From an order file to the kernel's tables.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use filter_common::layout::SCOPE_ALL;
use filter_user::{
    feed::{Context, Event, native},
    guard::Guards,
    kernel::{Behaviour, Clock, Reading, Tables},
    policy::{Compiler, Limits, ScopeTable},
};
use tempfile::TempDir;

use crate::{Size, names::Random};

/// An order of many names.
pub struct OrderFile {
    _folder: TempDir,
    pub path: PathBuf,
    /// Those of its names that have four labels.
    pub four_labels: Vec<String>,
}

/// Writes one order of so many names of two, three and four labels, which drops everything.
pub fn order_file(names: usize) -> Result<OrderFile> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bench.jsonl");
    let mut random = Random::new(0x0dd5);
    let mut out = BufWriter::new(File::create(&path)?);
    write!(out, r#"{{"op":"put","order":{{"id":"bench","issuer":"bench","basis":"bench","reference":"bench","#)?;
    write!(out, r#""issued":"2026-01-01","not_before":"2026-01-01T00:00:00Z","not_after":"none","#)?;
    write!(out, r#""protocols":["dns","tls","quic"],"actions":{{"dns":"drop","tls":"drop","quic":"drop"}},"#)?;
    write!(out, r#""scopes":["all"],"match":"subtree","names":["#)?;
    let mut four_labels = Vec::new();
    for index in 0..names {
        let labels = 2 + index % 3;
        let name = random.name(labels);
        write!(out, "{}\"{name}\"", if index == 0 { "" } else { "," })?;
        if labels == 4 {
            four_labels.push(name);
        }
    }
    writeln!(out, r#"],"except":[],"ede":16}}}}"#)?;
    out.flush()?;
    Ok(OrderFile { _folder: folder, path, four_labels })
}

/// Reads, compiles and writes the order, and says how long each took.
pub fn run(tables: &Tables, file: &OrderFile, size: &Size) -> Result<()> {
    tables.set_ports(&Reading::default())?;
    tables.set_behaviour(&Behaviour {
        answers_per_second: u32::MAX,
        events_per_second: 0,
        copies_per_second: u32::MAX,
        ..Behaviour::default()
    })?;
    let begun = Instant::now();
    let context = Context { scopes: None, targets: None, guards: Guards::none() };
    let input = BufReader::with_capacity(1 << 20, File::open(&file.path)?);
    let read = native::read("bench.jsonl", input, &context)?;
    ensure!(read.refusals.is_empty(), "refused: {:?}", read.refusals.first());
    let parsed = begun.elapsed();

    let capacity = tables.capacity();
    let limits = Limits { orders: capacity.orders, policies: capacity.policies, names: capacity.names };
    let mut compiler = Compiler::new(ScopeTable::new([])?, [], limits);
    for entry in &read.entries {
        if let Event::Put(order) = &entry.event {
            ensure!(order.terms.scopes.contains("all") && SCOPE_ALL == 1, "the order is for all clients");
            compiler.put(order).context("compiling")?;
        }
    }
    let changes = compiler.commit()?;
    let compiled = begun.elapsed();
    let nodes = changes.insert.len();
    tables.apply(&changes, &Clock::now())?;
    let loaded = begun.elapsed();
    println!(
        "{nodes} names from an order file into the kernel: {:.2} s (read {:.2}, compile {:.2}, write {:.2}), {:.0} names/s",
        loaded.as_secs_f64(),
        parsed.as_secs_f64(),
        (compiled - parsed).as_secs_f64(),
        (loaded - compiled).as_secs_f64(),
        size.names as f64 / loaded.as_secs_f64(),
    );
    Ok(())
}
