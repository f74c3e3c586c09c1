//! A small network in namespaces: subscribers, a border host, servers, and a box that redirected packets go to.
//!
//! ```text
//! client ──up0 ═ access── border ──uplink ═ eth0── server (name server, web server)
//!                           └──dpi0 ═ eth0── dpi (routes what it gets to the server by way of border)
//! ```
//!
//! A lab is made by one process and lives no longer than it: dropped, or ended by a signal, it takes its namespaces,
//! processes, BPF file system and files along; what a killed process has left behind is removed by the next one.
//! Everything lies inside the namespaces: no interface, route or file of the host is touched.

mod browser;
mod clients;
mod disk;
mod files;
mod filter;
mod hostile;
mod namespaces;
mod prober;
pub(crate) mod process;
mod quic;
mod servers;
mod signals;
mod watch;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

pub use browser::Page;
pub use clients::{Answer, Family, Fetched, Handshake, Sent, Source};
pub use disk::Disk;
pub use files::Folder;
pub use filter::{Counters, Filter, beside, order, order_of_each_action};
pub use hostile::{Reply, Server};
pub use prober::{Expected, Prober, Tally};
pub use process::{Finished, Process};
pub use quic::{Arrived, Asked, QuicServer};
pub use servers::{CERTIFICATE, KEY, root_zone};
pub use watch::Capture;

use crate::xdp_pass;
use namespaces::Namespaces;

/// Addresses in the lab. All are from the ranges for documentation (RFC 5737, RFC 3849).
pub mod address {
    /// The subscriber that the examples' scope holds: IPv4, IPv6.
    pub const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];
    /// A subscriber outside of that scope, on the same host.
    pub const OTHER_CLIENT: [&str; 2] = ["192.0.2.200", "2001:db8:1::200"];
    /// The scope: holds [`CLIENT`] and not [`OTHER_CLIENT`].
    pub const SCOPE: [&str; 2] = ["192.0.2.0/25", "2001:db8:1::/120"];
    /// The border host, towards subscribers.
    pub const ACCESS: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
    /// The border host, towards servers.
    pub const UPLINK: [&str; 2] = ["198.51.100.1", "2001:db8:2::1"];
    /// The name server.
    pub const DNS: [&str; 2] = ["198.51.100.53", "2001:db8:2::53"];
    /// The web server; every name resolves to it.
    pub const WEB: [&str; 2] = ["198.51.100.80", "2001:db8:2::80"];
    /// The web server with the page that tells of an order.
    pub const NOTICE: [&str; 2] = ["198.51.100.99", "2001:db8:2::99"];
    /// The border host, towards the box for redirected packets.
    pub const DPI_LINK: [&str; 2] = ["203.0.113.1", "2001:db8:3::1"];
    /// The box for redirected packets.
    pub const DPI: [&str; 2] = ["203.0.113.2", "2001:db8:3::2"];
}

/// The border host's interface where subscribers' packets come in.
pub const ACCESS_INTERFACE: &str = "access";
/// The border host's interface towards the box for redirected packets.
pub const DPI_INTERFACE: &str = "dpi0";
/// The client's interface.
pub const CLIENT_INTERFACE: &str = "up0";

/// The hosts of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Subscribers.
    Client,
    /// Where the filter runs.
    Border,
    /// Name server and web server.
    Server,
    /// Where redirected packets go.
    Dpi,
}

impl Host {
    const ALL: [Self; 4] = [Self::Client, Self::Border, Self::Server, Self::Dpi];

    const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Border => "border",
            Self::Server => "server",
            Self::Dpi => "dpi",
        }
    }
}

/// A running lab.
pub struct Lab {
    // Fields are dropped in this order: servers, then namespaces with whatever still runs in them, then files.
    servers: Vec<Process>,
    namespaces: Namespaces,
    folder: Folder,
}

/// Longest that a command in the lab may take, unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

impl Lab {
    /// Makes the network and starts the servers.
    ///
    /// # Errors
    /// Not root, a missing program (named, with the command that installs it), or a server that does not come up.
    pub fn new() -> Result<Self> {
        Self::with_mtu(1500)
    }

    /// As [`Lab::new`], with another MTU on every link. With 1500 the post-quantum hello of a browser (1.7 to 2.2 kB)
    /// is two segments, with 3000 it is one.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_mtu(mtu: u32) -> Result<Self> {
        programs_are_there(&PROGRAMS)?;
        let mut lab = Self::network(mtu)?;
        lab.servers = servers::start(&lab)?;
        // What XDP sends back out of one end of a veth pair is taken at the other end only where that, too, has a
        // program (veth_xdp_flush in drivers/net/veth.c, Linux 6.18): on a wire it needs none.
        lab.attach_pass_program(Host::Client, CLIENT_INTERFACE)?;
        Ok(lab)
    }

    /// The network alone: no server runs, and no interface has a program.
    ///
    /// # Errors
    /// Not root, or a missing program.
    pub fn bare() -> Result<Self> {
        programs_are_there(&["ip", "ethtool", "nsenter", "unshare"])?;
        Self::network(1500)
    }

    fn network(mtu: u32) -> Result<Self> {
        signals::install()?;
        let guard = signals::quiet();
        namespaces::remove_stale();
        files::remove_stale();
        let folder = Folder::new()?;
        let namespaces = Namespaces::new(folder.name(), mtu)?;
        drop(guard);
        let lab = Self { servers: Vec::new(), namespaces, folder };
        servers::write_client_files(&lab)?;
        Ok(lab)
    }

    /// A folder for this lab's files, removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An empty BPF file system of this lab's own; what is pinned in it goes with the lab.
    pub fn bpffs(&self) -> PathBuf {
        self.folder.bpffs()
    }

    /// Puts an XDP program on an interface that is not Cordon's and lets every packet pass.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn attach_pass_program(&self, host: Host, interface: &str) -> Result<()> {
        let pin = self.bpffs().join(format!("pass-{}-{interface}", host.word()));
        xdp_pass::pin(&pin)?;
        let pin = pin.to_str().context("the temporary folder's name is not UTF-8")?;
        self.read(host, &["ip", "link", "set", "dev", interface, "xdpdrv", "pinned", pin])?;
        Ok(())
    }

    /// A command on one of the hosts. On [`Host::Client`] it finds the lab's name server in /etc/resolv.conf.
    pub fn command(&self, host: Host, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespaces.path(host).display())).arg("--");
        if host == Host::Client {
            let [resolver, switch] = [servers::RESOLVER, servers::NAME_SWITCH].map(|file| self.folder().join(file));
            command
                .args(["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", ENTER_CLIENT, "sh"])
                .args([resolver, switch]);
        }
        command.arg(program).current_dir(self.folder());
        command
    }

    /// Does something on a thread of its own in a host's network namespace. A socket that is made there stays there.
    ///
    /// # Errors
    /// That of the action; or there is no such namespace any more.
    pub fn within<T: Send>(&self, host: Host, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        prober::inside(&self.namespaces.path(host), || Ok(action()))?
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// It cannot be started, or does not end within a minute. Its failure is no error: see [`Finished::success`].
    pub fn exec(&self, host: Host, words: &[&str]) -> Result<Finished> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        process::finish(self.command(host, program).args(arguments), PATIENCE)
    }

    /// Runs a command to its end, which must be a good one, and returns its standard output.
    ///
    /// # Errors
    /// As [`Lab::exec`], and the command's failure, with what it said.
    pub fn read(&self, host: Host, words: &[&str]) -> Result<String> {
        let finished = self.exec(host, words)?;
        ensure!(finished.success(), "{} on {}: {finished}", words.join(" "), host.word());
        Ok(finished.stdout)
    }

    /// Starts a command that goes on until the returned value is dropped.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, host: Host, words: &[&str]) -> Result<Process> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        Process::start(self.command(host, program).args(arguments), self.folder())
    }
}

/// The host's own resolver settings must neither be used nor changed.
const ENTER_CLIENT: &str =
    r#"mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@""#;

/// What the lab's hosts run.
const PROGRAMS: [&str; 12] = [
    "ip",
    "ethtool",
    "nsenter",
    "unshare",
    "named",
    "nginx",
    "dig",
    "kdig",
    "curl",
    "openssl",
    "tcpdump",
    "gnutls-serv",
];

fn programs_are_there(programs: &[&str]) -> Result<()> {
    // SAFETY: geteuid takes nothing and cannot fail.
    ensure!(unsafe { libc::geteuid() } == 0, "the lab needs root: run `cargo xtask demo` or `cargo xtask test`");
    for program in programs {
        ensure!(process::find(program).is_some(), "{program} is not installed: run `cargo xtask setup --tests`");
    }
    Ok(())
}

/// A folder by itself, for who needs no network. It goes as a [`Lab`] does, and so do this process's children.
///
/// # Errors
/// Not root.
pub fn folder() -> Result<Folder> {
    signals::install()?;
    let _guard = signals::quiet();
    files::remove_stale();
    Folder::new()
}

/// A program as a shell finds it, or where Debian keeps those of root.
pub fn find(program: &str) -> Option<PathBuf> {
    process::find(program)
}

/// Tries until it succeeds or the deadline is over; then the last error is returned.
///
/// # Errors
/// That of the last try.
pub fn eventually<T>(deadline: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = std::time::Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() < deadline => std::thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}
