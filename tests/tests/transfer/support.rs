//! A zone that is followed in this process, without a daemon.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf, sync::mpsc, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::{
    lab::eventually,
    primary::{SECRET, Server, ZONE},
};
use filter_user::feed::{
    http::{Fetched, State, States},
    transfer::{self, Apex, Expire, KeyFile, Primary, Task, Upstream, ZoneState, kept::Kept},
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

/// Longest that something may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A zone that is followed.
pub struct Secondary {
    folder: TempDir,
    runtime: Runtime,
    tasks: Option<JoinSet<()>>,
    states: States,
    news: mpsc::Receiver<Fetched>,
    tell: mpsc::Sender<Fetched>,
    /// How it is followed; takes effect with the next start.
    pub upstream: Upstream,
    /// Where NOTIFYs are received.
    pub listen: Vec<SocketAddr>,
}

impl Secondary {
    /// Of this primary, by the key that it knows.
    pub fn of(server: &Server<'_>, listen: SocketAddr) -> Result<Self> {
        Self::at(&[server.address()], listen)
    }

    /// Of primaries at these addresses.
    pub fn at(addresses: &[SocketAddr], listen: SocketAddr) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("secret"), format!("{SECRET}\n"))?;
        let key = KeyFile {
            name: "cordon".parse().map_err(|_| anyhow::anyhow!("the key's name"))?,
            algorithm: domain::tsig::Algorithm::Sha256,
            secret: folder.path().join("secret"),
        };
        let primaries = addresses.iter().map(|address| Primary { address: *address, key: Some(key.clone()) }).collect();
        let (tell, news) = mpsc::channel();
        Ok(Self {
            folder,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
            tasks: None,
            states: States::default(),
            news,
            tell,
            upstream: Upstream {
                zone: zone()?,
                primaries,
                incremental: true,
                expire: Expire::Keep,
                connect_timeout: Duration::from_secs(5),
                stall_timeout: Duration::from_secs(5),
                timeout: Duration::from_secs(60),
                max_size: 1 << 30,
            },
            listen: vec![listen],
        })
    }

    /// Follows it.
    pub fn start(&mut self) {
        self.stop();
        let task = Task { feed: "zone".to_owned(), upstream: self.upstream.clone(), path: self.path() };
        let tell = self.tell.clone();
        let _inside = self.runtime.enter();
        self.states = States::default();
        let mut tasks = JoinSet::new();
        let tell = move |news| drop(tell.send(news));
        transfer::start(vec![task], self.listen.clone(), &self.states, tell, &mut tasks);
        self.tasks = Some(tasks);
    }

    /// Follows it no longer, as a daemon that ends.
    pub fn stop(&mut self) {
        if let Some(mut tasks) = self.tasks.take() {
            self.runtime.block_on(tasks.shutdown());
        }
    }

    /// Has it looked at.
    pub fn look(&self) {
        self.states.fetch_now(None);
    }

    /// Where the copy is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("zone.zone")
    }

    /// Its key's file.
    pub fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// How it goes.
    pub fn state(&self) -> State {
        self.states.get("zone").unwrap_or_default()
    }

    /// How the zone goes.
    pub fn zone(&self) -> ZoneState {
        self.state().zone.unwrap_or_default()
    }

    /// How often something new was told since this was asked last.
    pub fn news(&self) -> usize {
        let is_new = |news: &Fetched| match news {
            Fetched::Record { .. } => false,
            // What a start finds.
            Fetched::Zone { since, to, .. } => since != to,
            _ => true,
        };
        self.news.try_iter().filter(is_new).count()
    }

    /// The serial and the owners of the copy.
    pub fn copy(&self) -> Result<(u32, BTreeSet<String>)> {
        let kept = Kept::read(&self.path(), &zone()?)?.context("no copy")?;
        let mut owners = BTreeSet::new();
        kept.records(|record| _ = owners.insert(text(record.owner)))?;
        let version = kept.version()?.context("no version")?;
        Ok((version.soa.serial, owners))
    }

    /// Waits until the copy has this serial and these owners besides the apex, and the state tells of it, which is a
    /// moment later.
    pub fn reaches(&self, serial: u32, owners: &[&str]) -> Result<()> {
        let wanted: BTreeSet<String> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        eventually(PATIENCE, || {
            let (at, mut found) = self.copy()?;
            found.remove("");
            let told = self.zone().serial;
            ensure!(at == serial && told == Some(at) && found == wanted, "serial {at}, {found:?}; {:?}", self.state());
            Ok(())
        })
    }

    /// Waits until the problem holds this text.
    pub fn complains(&self, text: &str) -> Result<String> {
        eventually(PATIENCE, || {
            let problem = self.state().problem.context("no problem")?;
            ensure!(problem.contains(text), "{problem}");
            Ok(problem)
        })
    }

    /// Waits until there is no problem.
    pub fn is_well(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let state = self.state();
            ensure!(state.problem.is_none() && state.failing.is_none() && state.checked.is_some(), "{state:?}");
            Ok(())
        })
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        self.stop();
    }
}

fn zone() -> Result<Apex> {
    ZONE.parse().map_err(|_| anyhow::anyhow!("the zone's name"))
}

/// An owner as a master file has it, below the zone.
fn text(owner: &[u8]) -> String {
    let (mut labels, mut rest) = (Vec::new(), owner);
    while let Some((length, after)) = rest.split_first() {
        let (label, below) = after.split_at(usize::from(*length).min(after.len()));
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = below;
    }
    labels.reverse();
    labels.join(".")
}
