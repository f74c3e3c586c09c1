//! A border host in a namespace, and what a packet costs there.
//!
//! ```text
//! client ──up0 ═ access── border ──uplink ═ eth0── server
//! ```
//!
//! The generator runs on a CPU of its own and hands frames to `up0`. They come in at `access`, which a kernel thread of
//! its own polls (threaded NAPI), on another CPU: all that the kernel does for a packet there, from the XDP program
//! to handing it to `uplink`, is this thread's processor time. What comes to the server is dropped by an XDP program, in
//! a third thread, so that the border waits for nobody.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cordon_tests::{
    cpu,
    lab::{ACCESS_INTERFACE, CLIENT_INTERFACE, Host, Lab, address},
    packet::{BORDER_MAC, CLIENT_MAC},
};
use filter_user::kernel::{Frames, Pace, Plainer, Traffic};

use super::threads;

/// The network, and its threads.
pub struct Border {
    lab: Lab,
    /// Generator and frames.
    pub traffic: Traffic,
    /// The thread that polls `access`.
    poller: u32,
    /// Of the generator, and of the border.
    cpus: [usize; 2],
    /// Index of `up0`.
    outgoing: u32,
}

/// What became of the frames that were sent.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// Frames that came in at the border: what its queue had no room for did not.
    pub arrived: u64,
    /// Frames that came to the server.
    pub forwarded: u64,
    /// Processor time of the thread that took them in.
    pub time: Duration,
    /// From the first frame to the last.
    pub took: Duration,
}

impl Passage {
    /// Processor time for a packet, in nanoseconds.
    pub fn nanoseconds(&self) -> f64 {
        self.time.as_nanos() as f64 / self.arrived as f64
    }

    /// Packets a second.
    pub fn rate(&self) -> f64 {
        self.arrived as f64 / self.took.as_secs_f64()
    }
}

impl Border {
    /// Makes the network.
    pub fn new(traffic: Traffic) -> Result<Self> {
        let lab = Lab::bare()?;
        prepare(&lab)?;
        let cpus @ [generator, border] = threads::cpus()?;
        let poller = threaded(&lab, Host::Border, ACCESS_INTERFACE)?;
        cpu::run_on(poller, border)?;
        let border = Self { lab, traffic, poller, cpus, outgoing: 0 };
        // Both ends take frames under NAPI only where they have a program.
        border.install_on(Host::Server, SERVER_INTERFACE, Some(&border.plain(Plainer::Sink)?))?;
        border.install_on(Host::Client, CLIENT_INTERFACE, Some(&border.plain(Plainer::Sink)?))?;
        for (host, interface) in [(Host::Server, SERVER_INTERFACE), (Host::Client, CLIENT_INTERFACE)] {
            let poller = threaded(&border.lab, host, interface)?;
            cpu::run_on(poller, generator)?;
            threads::run_first(poller)?;
        }
        let outgoing = border.lab.within(Host::Client, || index(CLIENT_INTERFACE))?;
        Ok(Self { outgoing, ..border })
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The CPU where packets are taken in.
    pub fn cpu(&self) -> usize {
        let [_, border] = self.cpus;
        border
    }

    /// The CPU of the generator, and of everything else.
    pub fn other_cpu(&self) -> usize {
        let [generator, _] = self.cpus;
        generator
    }

    /// Where a program to compare with is pinned.
    pub fn plain(&self, program: Plainer) -> Result<PathBuf> {
        let path = self.lab.bpffs().join(format!("{program:?}"));
        if !path.exists() {
            self.traffic.pin(program, &path)?;
        }
        Ok(path)
    }

    /// Puts a pinned program on `access`, or none.
    pub fn install(&self, program: Option<&Path>) -> Result<()> {
        self.install_on(Host::Border, ACCESS_INTERFACE, program)
    }

    /// Puts a pinned program on an interface, or none.
    pub fn install_on(&self, host: Host, interface: &str, program: Option<&Path>) -> Result<()> {
        let command = ["ip", "-force", "link", "set", "dev", interface, "xdpdrv"];
        let program = match program {
            Some(path) => &["pinned", path.to_str().context("a path that is not UTF-8")?][..],
            None => &["off"],
        };
        self.lab.read(host, &[&command, program].concat()).map(drop)
    }

    /// Sends frames, and waits until the border is done with them.
    pub fn pass(&self, frames: &Frames, first: u32, pace: Pace, time: Duration) -> Result<Passage> {
        let before = self.counts()?;
        let used = threads::time_of(self.poller)?;
        let begun = Instant::now();
        self.send(frames, first, pace, time)?;
        let took = begun.elapsed();
        let after = self.settled()?;
        let time = threads::time_of(self.poller)?.saturating_sub(used);
        let [arrived, forwarded] = [after[0] - before[0], after[1] - before[1]];
        ensure!(arrived >= FEWEST, "{arrived} packets came in at the border: too few to measure");
        Ok(Passage { arrived, forwarded, time, took })
    }

    /// Sends frames from the generator's CPU; says how many.
    pub fn send(&self, frames: &Frames, first: u32, pace: Pace, time: Duration) -> Result<u64> {
        self.lab.within(Host::Client, || {
            cpu::run_on(0, self.other_cpu())?;
            Ok(self.traffic.send(frames, first, self.outgoing, pace, time)?)
        })
    }

    /// Packets that came to the border and to the server so far.
    fn counts(&self) -> Result<[u64; 2]> {
        Ok([self.received(Host::Border, ACCESS_INTERFACE)?, self.received(Host::Server, SERVER_INTERFACE)?])
    }

    /// Packets that an interface has taken in. As `ip -s link` shows them, without starting it.
    pub fn received(&self, host: Host, interface: &str) -> Result<u64> {
        let counts = self.lab.within(host, || Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let line = counts.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
        // Octets, then packets (net/core/net-procfs.c).
        let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        packets.with_context(|| format!("no count of {interface} in {counts}"))
    }

    /// The counts, once they stand still.
    fn settled(&self) -> Result<[u64; 2]> {
        let begun = Instant::now();
        let mut counts = self.counts()?;
        loop {
            thread::sleep(STEP);
            let now = self.counts()?;
            // One row of packets may take longer than a step.
            if now == counts && !threads::runs(self.poller)? {
                return Ok(counts);
            }
            ensure!(begun.elapsed() < PATIENCE, "packets still come in after {PATIENCE:?}");
            counts = now;
        }
    }
}

/// Addresses, and everything that would have packets wait for an address.
fn prepare(lab: &Lab) -> Result<()> {
    let ip =
        |host, words: &str| lab.read(host, &["ip"].into_iter().chain(words.split(' ')).collect::<Vec<_>>()).map(drop);
    let [client, border] = [CLIENT_MAC, BORDER_MAC].map(mac);
    ip(Host::Client, &format!("link set dev {CLIENT_INTERFACE} address {client}"))?;
    ip(Host::Border, &format!("link set dev {ACCESS_INTERFACE} address {border}"))?;
    ip(Host::Server, &format!("link set dev {SERVER_INTERFACE} address {SERVER_MAC}"))?;
    ip(Host::Border, &format!("link set dev {UPLINK} address {UPLINK_MAC}"))?;
    for (host, interface, addresses, mac) in [
        (Host::Client, CLIENT_INTERFACE, address::ACCESS, border.as_str()),
        (Host::Border, ACCESS_INTERFACE, address::CLIENT, client.as_str()),
        (Host::Border, UPLINK, address::DNS, SERVER_MAC),
        (Host::Server, SERVER_INTERFACE, address::UPLINK, UPLINK_MAC),
    ] {
        for address in addresses {
            ip(host, &format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent"))?;
        }
    }
    // Subscribers beyond the client, and servers beyond the server, wherever captures say they are.
    for (version, [client, server]) in
        ["-4", "-6"].into_iter().zip([0, 1].map(|at| [address::CLIENT[at], address::DNS[at]]))
    {
        ip(Host::Border, &format!("{version} route add default via {server}"))?;
        let subscribers = if version == "-4" { "10.0.0.0/8" } else { "fd00::/8" };
        ip(Host::Border, &format!("{version} route add {subscribers} via {client}"))?;
    }
    // With GRO, frames are taken in under NAPI also where there is no program.
    lab.read(Host::Border, &["ethtool", "-K", ACCESS_INTERFACE, "gro", "on"])?;
    Ok(())
}

/// Has a thread of its own poll an interface; says which.
fn threaded(lab: &Lab, host: Host, interface: &str) -> Result<u32> {
    const SCRIPT: &str = r#"mount -t sysfs sysfs /sys && echo 1 > "/sys/class/net/$1/threaded""#;
    let before = threads::polling(interface)?;
    lab.read(host, &["unshare", "--mount", "--", "sh", "-c", SCRIPT, "sh", interface])
        .context("threaded NAPI needs Linux 5.12")?;
    let now: Vec<u32> = threads::polling(interface)?.difference(&before).copied().collect();
    match now[..] {
        [one] => Ok(one),
        _ => anyhow::bail!("{} threads poll {interface} instead of one", now.len()),
    }
}

fn index(interface: &str) -> Result<u32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: a C string that lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "{interface}: {}", std::io::Error::last_os_error());
    Ok(index)
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// The server's interface.
pub const SERVER_INTERFACE: &str = "eth0";
const UPLINK: &str = "uplink";
const UPLINK_MAC: &str = "02:00:00:00:00:fd";
const SERVER_MAC: &str = "02:00:00:00:00:53";

/// Packets from which on a figure is worth something.
const FEWEST: u64 = 100;

const STEP: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(10);
