//! From an order file to the kernel's tables.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use filter_common::layout::SCOPE_ALL;
use filter_user::{
    feed::{Context, Event, native},
    guard::Guards,
    kernel::{Behaviour, Bench, Capacity, Clock, Reading, Tables},
    policy::{Changes, Compiler, Limits, ScopeTable},
};

use crate::{Run, names::Random};

/// An order of many names.
pub struct OrderFile {
    path: PathBuf,
    /// How many names.
    pub names: usize,
    /// Those of its names that have two labels.
    pub two_labels: Vec<String>,
    /// Those of its names that have four labels.
    pub four_labels: Vec<String>,
}

impl OrderFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes one order of so many names of two, three and four labels, which drops everything.
pub fn order_file(folder: &Path, names: usize) -> Result<OrderFile> {
    let path = folder.join(format!("{names}.jsonl"));
    let mut out = BufWriter::new(File::create(&path)?);
    write!(out, r#"{{"op":"put","order":{{"id":"bench","issuer":"bench","basis":"bench","reference":"bench","#)?;
    write!(out, r#""issued":"2026-01-01","not_before":"2026-01-01T00:00:00Z","not_after":"none","#)?;
    write!(out, r#""protocols":["dns","tls","quic"],"actions":{{"dns":"drop","tls":"drop","quic":"drop"}},"#)?;
    write!(out, r#""scopes":["all"],"match":"subtree","names":["#)?;
    let (mut two_labels, mut four_labels) = (Vec::new(), Vec::new());
    for (index, name) in listed(names).enumerate() {
        write!(out, "{}\"{name}\"", if index == 0 { "" } else { "," })?;
        match labels(index) {
            2 => two_labels.push(name),
            4 => four_labels.push(name),
            _ => {}
        }
    }
    writeln!(out, r#"],"except":[],"ede":16}}}}"#)?;
    out.flush()?;
    Ok(OrderFile { path, names, two_labels, four_labels })
}

/// The names of such an order.
pub fn listed(names: usize) -> impl Iterator<Item = String> {
    let mut random = Random::new(0x0dd5);
    (0..names).map(move |index| random.name(labels(index)))
}

fn labels(index: usize) -> usize {
    2 + index % 3
}

/// Seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// To read a file and check what it says.
    pub read: f64,
    /// To compile it.
    pub compile: f64,
    /// To write it to the kernel.
    pub write: f64,
}

impl Took {
    /// From the file to enforcement.
    pub fn all(&self) -> f64 {
        self.read + self.compile + self.write
    }
}

/// Has the program read what it reads by default, with nothing that would slow it down from second to second.
pub fn prepare(tables: &Tables) -> Result<()> {
    tables.set_ports(&Reading::default());
    tables.set_behaviour(&Behaviour {
        answers_per_second: u32::MAX,
        events_per_second: 0,
        copies_per_second: u32::MAX,
        ..Behaviour::default()
    })?;
    Ok(())
}

/// A compiler for these tables, without orders.
pub fn compiler(tables: &Tables) -> Result<Compiler> {
    let capacity = tables.capacity();
    let limits = Limits { orders: capacity.orders, policies: capacity.policies, names: capacity.names };
    Ok(Compiler::new(ScopeTable::new([])?, [], limits))
}

/// Reads a file of events, compiles them, and writes what follows to the kernel.
pub fn take(path: &Path, compiler: &mut Compiler, tables: &Tables) -> Result<(Changes, Took)> {
    let begun = Instant::now();
    let context = Context { scopes: None, targets: None, guards: Guards::none() };
    let input = BufReader::with_capacity(1 << 20, File::open(path)?);
    let read = native::read("bench.jsonl", input, &context)?;
    ensure!(read.refusals.is_empty(), "refused: {:?}", read.refusals.first());
    let parsed = begun.elapsed().as_secs_f64();
    for entry in &read.entries {
        match &entry.event {
            Event::Put(order) => {
                ensure!(order.terms.scopes.contains("all") && SCOPE_ALL == 1, "the order is for all clients");
                compiler.put(order).context("compiling")?;
            }
            Event::Add { order, names } => compiler.add_names(order, names)?,
            Event::Remove { order, names } => compiler.remove_names(order, names)?,
            other => anyhow::bail!("an event that the benchmark does not write: {}", other.op()),
        }
    }
    let changes = compiler.commit()?;
    let compiled = begun.elapsed().as_secs_f64();
    tables.apply(&changes, &Clock::now())?;
    let loaded = begun.elapsed().as_secs_f64();
    Ok((changes, Took { read: parsed, compile: compiled - parsed, write: loaded - compiled }))
}

/// Reads, compiles and writes the order.
pub fn load(file: &OrderFile, tables: &Tables) -> Result<(Compiler, Took)> {
    let mut compiler = compiler(tables)?;
    let (_, took) = take(&file.path, &mut compiler, tables)?;
    Ok((compiler, took))
}

/// The sizes of maps that an operator has for a list of so many names: by default, unless the list needs more room.
pub fn capacity(names: usize) -> Capacity {
    let capacity = Capacity { event_bytes: 1 << 16, ..Capacity::default() };
    let needed = (names + names / 5) as u32;
    Capacity { names: capacity.names.max(needed), ..capacity }
}

/// The program with a list in force.
pub struct Ready {
    /// The program.
    pub bench: Bench,
    /// The list.
    pub file: OrderFile,
    /// What the tables hold.
    pub compiler: Compiler,
}

impl Ready {
    /// With a list of so many names.
    pub fn new(run: &Run, names: usize) -> Result<Self> {
        let bench = Bench::new(&capacity(names), run.size.short, run.size.long, 1)?;
        let file = order_file(run.folder.path(), names)?;
        prepare(bench.tables())?;
        let (compiler, took) = load(&file, bench.tables())?;
        println!(
            "\n{names} names from an order file into the kernel: {:.2} s (read {:.2}, compile {:.2}, write {:.2}), {:.0} names/s",
            took.all(),
            took.read,
            took.compile,
            took.write,
            names as f64 / took.all(),
        );
        Ok(Self { bench, file, compiler })
    }
}
