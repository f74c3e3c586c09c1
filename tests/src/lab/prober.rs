//! A subscriber that asks the name server without pause, and notes every answer that should not have come.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::UdpSocket,
    os::fd::AsRawFd as _,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{Host, Lab, address};
use crate::packet::Query;

/// See the module. It asks until [`Prober::finish`].
pub struct Prober {
    expected: Arc<Mutex<BTreeMap<String, Expected>>>,
    ended: Arc<AtomicBool>,
    asking: Option<JoinHandle<Result<Tally>>>,
}

/// What must become of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is answered NXDOMAIN, by the filter: the name server has an address for every name.
    Stopped,
    /// The name server answers it.
    Reached,
}

/// How often each came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers to names that are stopped.
    pub stopped: u64,
    /// Answers to names that are not.
    pub reached: u64,
    /// Queries that had to be sent again.
    pub repeated: u64,
}

impl Lab {
    /// Begins to ask for these names, one after the other and all of them again and again.
    ///
    /// # Errors
    /// There is no socket on the client host.
    pub fn prober(&self, names: impl IntoIterator<Item = (String, Expected)>) -> Result<Prober> {
        let socket = inside(&self.namespaces.path(Host::Client), || {
            let socket = UdpSocket::bind((address::CLIENT[0], 0))?;
            socket.connect((address::DNS[0], 53))?;
            socket.set_read_timeout(Some(ONCE))?;
            Ok(socket)
        })?;
        let expected = Arc::new(Mutex::new(names.into_iter().collect()));
        let ended = Arc::new(AtomicBool::new(false));
        let asking = thread::Builder::new().name("prober".to_owned()).spawn({
            let (expected, ended) = (Arc::clone(&expected), Arc::clone(&ended));
            move || ask_all(&socket, &expected, &ended)
        })?;
        Ok(Prober { expected, ended, asking: Some(asking) })
    }
}

impl Prober {
    /// From now on this is expected of a name.
    pub fn expect(&self, name: &str, expected: Expected) {
        lock(&self.expected).insert(name.to_owned(), expected);
    }

    /// Anything may become of a name from now on. A query that is on its way may still meet what was expected before.
    pub fn expect_nothing(&self, name: &str) {
        lock(&self.expected).remove(name);
    }

    /// Fails once an answer has come that should not have.
    ///
    /// # Errors
    /// As [`Prober::finish`].
    pub fn is_well(&mut self) -> Result<()> {
        if self.asking.as_ref().is_some_and(JoinHandle::is_finished) {
            self.joined().and(Err(anyhow!("the prober ended early")))
        } else {
            Ok(())
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// An answer came that should not have, or none at all.
    pub fn finish(mut self) -> Result<Tally> {
        self.ended.store(true, Ordering::Relaxed);
        self.joined()
    }

    fn joined(&mut self) -> Result<Tally> {
        let asking = self.asking.take().context("the prober has been waited for")?;
        asking.join().map_err(|_| anyhow!("the prober panicked"))?
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn ask_all(socket: &UdpSocket, expected: &Mutex<BTreeMap<String, Expected>>, ended: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut id = 0_u16;
    while !ended.load(Ordering::Relaxed) {
        let names = lock(expected).clone();
        ensure!(!names.is_empty(), "nothing to ask for");
        for name in names.keys() {
            id = id.wrapping_add(1);
            // What is expected when the query goes out and still when the answer is there.
            let Some(before) = lock(expected).get(name).copied() else { continue };
            let (rcode, answers) = ask(socket, id, name, &mut tally)?;
            if lock(expected).get(name) != Some(&before) {
                continue;
            }
            match before {
                Expected::Stopped => {
                    ensure!((rcode, answers) == (NXDOMAIN, 0), "{name} was let through: {rcode}, {answers} records");
                    tally.stopped += 1;
                }
                Expected::Reached => {
                    ensure!((rcode, answers) == (NOERROR, 1), "{name} was stopped: {rcode}, {answers} records");
                    tally.reached += 1;
                }
            }
        }
    }
    Ok(tally)
}

/// RCODE and ANCOUNT of the answer.
fn ask(socket: &UdpSocket, id: u16, name: &str, tally: &mut Tally) -> Result<(u8, u16)> {
    let query = Query { id, ..Query::new(name) }.build();
    let begun = Instant::now();
    socket.send(&query)?;
    let mut answer = [0; 512];
    loop {
        match socket.recv(&mut answer) {
            Ok(12..) => {
                let [first, second, _, flags, _, _, answers @ ..] = answer;
                if [first, second] == id.to_be_bytes() {
                    return Ok((flags & 0xf, u16::from_be_bytes([answers[0], answers[1]])));
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                ensure!(begun.elapsed() < PATIENCE, "{name}: no answer within {PATIENCE:?}");
                tally.repeated += 1;
                socket.send(&query)?;
            }
            Err(error) => return Err(error).context("the prober's socket"),
        }
    }
}

/// Does something on a thread of its own in a network namespace; a socket that is made there stays there.
pub(super) fn inside<T: Send>(namespace: &Path, action: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
    let namespace = File::open(namespace).with_context(|| namespace.display().to_string())?;
    let result = thread::scope(|scope| {
        let entered = scope.spawn(|| {
            // SAFETY: takes two numbers, and moves this thread alone.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            action()
        });
        entered.join()
    });
    Ok(result.map_err(|_| anyhow!("a thread panicked"))??)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;

/// Time after which a query is sent again.
const ONCE: Duration = Duration::from_secs(2);

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
