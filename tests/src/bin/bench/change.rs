//! From writing a file to its enforcement, by the real daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cordon_tests::bpffs::Bpffs;
use filter_user::{kernel::Tables, name::Name};

use crate::{Size, load::OrderFile, spread::spread};

/// Starts the daemon on the order of many names and a small one beside it, and writes the small one anew with another
/// name, again and again.
pub fn run(file: &OrderFile, size: &Size) -> Result<()> {
    let folder = file.folder();
    let orders = folder.join("orders");
    fs::create_dir(&orders)?;
    fs::rename(&file.path, orders.join("many.jsonl"))?;
    let bpffs = Bpffs::new()?;
    let pins = bpffs.path().join("cordon");
    let begun = Instant::now();
    let mut daemon = Daemon::start(folder, &orders, &pins)?;
    let first = Name::parse(file.four_labels.first().context("no names")?)?;
    let tables = daemon.tables(&pins)?;
    daemon.until(Duration::from_secs(120), || Ok(tables.node(&first)?.is_some()))?;
    println!(
        "start of the daemon on an empty order book, to {} names enforced: {:.2} s",
        size.names,
        begun.elapsed().as_secs_f64()
    );

    let mut number = 0;
    let change = spread(size.changes, || {
        number += 1;
        let name = Name::parse(&format!("change{number}.example.net"))?;
        let begun = Instant::now();
        write(&orders, name.as_str())?;
        daemon.until(Duration::from_secs(30), || Ok(tables.node(&name)?.is_some()))?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0)
    })?;
    println!(
        "ms from writing a one-name change to its enforcement, beside {} names: {change}, median (least to most) of {}",
        size.names, size.changes
    );
    Ok(())
}

/// Writes beside and renames, as one should.
fn write(orders: &Path, name: &str) -> Result<()> {
    let line = format!(
        r#"{{"op":"put","order":{{"id":"small","issuer":"bench","basis":"bench","reference":"bench","issued":"2026-01-01","not_before":"2026-01-01T00:00:00Z","not_after":"none","protocols":["dns"],"actions":{{"dns":"drop"}},"scopes":["all"],"match":"subtree","names":["{name}"],"except":[]}}}}"#
    );
    let fresh = orders.join("small.fresh");
    fs::write(&fresh, line + "\n")?;
    Ok(fs::rename(fresh, orders.join("small.jsonl"))?)
}

struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, orders: &Path, pins: &Path) -> Result<Self> {
        let config = folder.join("cordon.toml");
        let path = |path: PathBuf| path.display().to_string();
        fs::write(
            &config,
            format!(
                "[daemon]\nstate_dir = {:?}\nsocket = {:?}\npin_root = {:?}\n\n\
                 [[feed]]\nname = \"orders\"\nkind = \"native\"\npath = {:?}\n",
                path(folder.join("state")),
                path(folder.join("socket")),
                path(pins.into()),
                path(orders.into()),
            ),
        )?;
        let program = std::env::current_exe()?.with_file_name("cordon");
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(&program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self(child))
    }

    /// The daemon's tables, as soon as they are pinned.
    fn tables(&mut self, pins: &Path) -> Result<Tables> {
        let mut tables = None;
        self.until(Duration::from_secs(30), || {
            tables = Tables::open(pins).ok();
            Ok(tables.is_some())
        })?;
        tables.context("no tables")
    }

    fn until(&mut self, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done()? {
            ensure!(begun.elapsed() < limit, "not within {limit:?}");
            if let Some(status) = self.0.try_wait()? {
                bail!("the daemon ended: {status}");
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
