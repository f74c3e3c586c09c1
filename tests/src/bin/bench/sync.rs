//! How orders come to the kernel, without the daemon's order book: whole lists, changes of a list, memory, and what
//! packets cost meanwhile.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use filter_user::{
    kernel::{Clock, Kernel, Tables, held_maps},
    name::Name,
    policy::Compiler,
};

use crate::{
    Run,
    load::{self, OrderFile, Ready, Took},
    names::Random,
    packets::{grouped, query, short},
    report::{Cell, Report, Table},
    spread::Spread,
};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let mut lists = Vec::new();
    let table = report.table(Table::new("load", "Loading a list", &SECONDS).text(LOAD));
    for names in run.size.loads {
        let file = load::order_file(run.folder.path(), *names)?;
        let list = List::load(run, file)?;
        table.point(format!("{} names", grouped(*names)), *names as f64, columns(&list.took, 1.0));
        lists.push(list.rest(run)?);
    }
    let table = report.table(Table::new("change", "Changing a list", &MILLISECONDS).text(CHANGE));
    for Rest { names, changes, .. } in &lists {
        for (count, took) in changes {
            table.row(format!("{} changed of {}", grouped(*count), grouped(*names)), columns(took, 1000.0));
        }
    }
    let table = report.table(Table::new("memory", "The kernel's memory for names", &MEMORY).text(MEMORY_TEXT));
    for Rest { names, loaded, most, .. } in &lists {
        let octets = |octets: u64| Spread::of(vec![octets as f64 / *names as f64]);
        let megabytes = Cell::from(format!("{:.1}", *loaded as f64 / 1e6));
        let row = [megabytes, octets(*loaded).into(), octets(*most).into()];
        table.point(format!("{} names", grouped(*names)), *names as f64, row);
    }
    drop(lists);
    beside(run, report)
}

const SECONDS: [&str; 4] = ["s in all", "s to read", "s to compile", "s to write"];
const MILLISECONDS: [&str; 4] = ["ms in all", "ms to read", "ms to compile", "ms to write"];
const MEMORY: [&str; 3] = ["MB", "octets a name", "octets a name, most while it is written again"];

const LOAD: &str = "From an order file of so many names, which lies ready on the disk, to their enforcement: read and \
    checked, compiled, written to the tables of a program that has none yet. The daemon's order book is not in this.";
const CHANGE: &str = "From a file that adds some names to the list and removes as many, to enforcement, in the same way; \
    by the daemon, with its order book, see below.";
const MEMORY_TEXT: &str = "The maps for names in a program whose maps have room for a fifth more names, or for as many \
    as by default (2,097,152), as the kernel accounts for them. They are written in place: there is no second table.";

fn columns(took: &[Took], factor: f64) -> [Spread; 4] {
    let parts = [Took::all as fn(&Took) -> f64, |took| took.read, |took| took.compile, |took| took.write];
    parts.map(|part| Spread::of(took.iter().map(part).collect()).times(factor))
}

/// A list in force, and how long each of several loads took.
struct List {
    file: OrderFile,
    kernel: Kernel,
    compiler: Compiler,
    took: Vec<Took>,
}

impl List {
    fn load(run: &Run, file: OrderFile) -> Result<Self> {
        let mut took = Vec::new();
        loop {
            let kernel = Kernel::ephemeral(&load::capacity(file.names))?;
            load::prepare(kernel.tables())?;
            let (compiler, once) = load::load(&file, kernel.tables())?;
            took.push(once);
            // Seven of a list that takes long.
            if took.len() >= if file.names > LONG { 7 } else { run.size.rounds } {
                return Ok(Self { file, kernel, compiler, took });
            }
        }
    }

    /// What else is measured of it.
    fn rest(mut self, run: &Run) -> Result<Rest> {
        let loaded = names_memory()?;
        let mut changes = Vec::new();
        let mut change = Change::new(run.folder.path(), &mut self.compiler, self.kernel.tables())?;
        for count in CHANGED {
            let rounds = spread_of(run.size.rounds, || change.next(count))?;
            changes.push((count, rounds));
        }
        let most = most_while(|| {
            let whole = self.compiler.whole();
            self.kernel.tables().compare_and_repair(whole.insert.iter().map(|(name, node)| (name, *node)))?;
            self.kernel.tables().apply(&whole, &Clock::now())?;
            Ok(())
        })?;
        Ok(Rest { names: self.file.names, changes, loaded, most })
    }
}

/// More names are many.
const LONG: usize = 1_000_000;

/// Names that change at once, half of them coming.
const CHANGED: [usize; 2] = [2, 1000];

/// What a list's tables leave behind when they are gone.
struct Rest {
    names: usize,
    /// By how many names changed.
    changes: Vec<(usize, Vec<Took>)>,
    /// Octets.
    loaded: u64,
    /// Octets.
    most: u64,
}

fn spread_of<T>(rounds: usize, mut measure: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    (0..rounds).map(|_| measure()).collect()
}

/// Octets of the maps that hold names, in this process's programs.
fn names_memory() -> Result<u64> {
    let maps = held_maps()?;
    let octets = maps.iter().filter(|(name, _)| name.starts_with("NAME")).map(|(_, octets)| octets).sum();
    ensure!(octets > 0, "the kernel tells of no memory for names");
    Ok(octets)
}

/// The most octets of [`names_memory`] while something is done.
fn most_while(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let (stop, most) = (AtomicBool::new(false), AtomicU64::new(names_memory()?));
    thread::scope(|scope| {
        let watch = scope.spawn(|| -> Result<()> {
            while !stop.load(Relaxed) {
                most.fetch_max(names_memory()?, Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let done = work();
        stop.store(true, Relaxed);
        watch.join().map_err(|_| anyhow!("the watch panicked"))??;
        done
    })?;
    Ok(most.into_inner())
}

/// Changes of a list by files, each of which takes back what the one before added.
struct Change<'a> {
    folder: &'a Path,
    compiler: &'a mut Compiler,
    tables: &'a Tables,
    random: Random,
    known: Vec<String>,
}

impl<'a> Change<'a> {
    fn new(folder: &'a Path, compiler: &'a mut Compiler, tables: &'a Tables) -> Result<Self> {
        Ok(Self { folder, compiler, tables, random: Random::new(0xc0de), known: Vec::new() })
    }

    /// Takes half of `count` names in and the same number out.
    fn next(&mut self, count: usize) -> Result<Took> {
        // So many are there to be taken out.
        if self.known.len() != count / 2 {
            let known = std::mem::take(&mut self.known);
            self.change(count / 2, &known)?;
        }
        let known = std::mem::take(&mut self.known);
        self.change(count / 2, &known)
    }

    fn change(&mut self, count: usize, gone: &[String]) -> Result<Took> {
        let fresh: Vec<String> = (0..count).map(|index| self.random.name(2 + index % 3)).collect();
        let mut lines = String::new();
        for (op, names) in
            [("add", fresh.as_slice()), ("remove", gone)].into_iter().filter(|(_, names)| !names.is_empty())
        {
            writeln!(lines, "{}", serde_json::json!({"op": op, "order": "bench", "names": names}))?;
        }
        let path = self.folder.join("change.jsonl");
        fs::write(&path, lines)?;
        let (_, took) = load::take(&path, self.compiler, self.tables)?;
        for (name, comes) in
            fresh.first().map(|name| (name, true)).into_iter().chain(gone.first().map(|name| (name, false)))
        {
            ensure!(holds(self.tables, name)? == comes, "{name}: to be there: {comes}");
        }
        self.known = fresh;
        Ok(took)
    }
}

fn holds(tables: &Tables, name: &str) -> Result<bool> {
    Ok(tables.node(&Name::parse(name)?).is_some())
}

/// What queries cost while the tables are written.
fn beside(run: &Run, report: &mut Report) -> Result<()> {
    let Ready { bench, file, mut compiler } = Ready::new(run, run.size.names)?;
    let tables = bench.tables();
    let text = format!(
        "Nanoseconds a packet as above, honest, beside {} names, while a thread on the other CPU changes 1,000 names \
         again and again, or writes all of them again and again.",
        grouped(file.names)
    );
    let columns = ["at rest", "while names change", "while all are written"];
    let heading = "Queries while the list changes";
    let table = report.table(Table::new("beside", heading, &columns).text(text));
    let (listed, size) = (file.four_labels.as_slice(), &run.size);
    let mut written = [0, 0];
    for what in ["not listed", "listed, dropped"] {
        let measure = || {
            let mut random = Random::new(0xbe51de);
            short(&bench, size, size.short, |_| {
                let other = random.name(4);
                query(if what == "not listed" { &other } else { random.of(listed) })
            })
        };
        let rest = measure()?;
        let mut change = Change::new(run.folder.path(), &mut compiler, tables)?;
        let (changing, changes) = while_writing(measure, || change.next(1000).map(drop))?;
        let known = std::mem::take(&mut change.known);
        change.change(0, &known)?;
        let whole = compiler.whole();
        let (writing, writes) = while_writing(measure, || Ok(tables.apply(&whole, &Clock::now())?))?;
        table.row(format!("DNS, 4 labels, {what}"), [rest, changing, writing]);
        written = [written[0] + changes, written[1] + writes];
    }
    table.note(format!("Meanwhile names changed {} times, and all were written {} times.", written[0], written[1]));
    Ok(())
}

/// Measures while a thread writes again and again; tells how often.
fn while_writing(
    measure: impl FnOnce() -> Result<Spread>,
    mut write: impl FnMut() -> Result<()> + Send,
) -> Result<(Spread, u64)> {
    let (stop, times) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Relaxed) {
                write()?;
                times.fetch_add(1, Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
        let measured = measure();
        stop.store(true, Relaxed);
        writer.join().map_err(|_| anyhow!("the writer panicked"))?.context("writing")?;
        let times = times.load(Relaxed);
        ensure!(times > 0, "nothing was written meanwhile");
        Ok((measured?, times))
    })
}
