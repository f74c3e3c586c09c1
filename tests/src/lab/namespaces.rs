//! Network namespaces `cordon-PID-N-HOST`, the links between them, and their removal.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{ACCESS_INTERFACE, CLIENT_INTERFACE, DPI_INTERFACE, Host, address, process, signals};

/// Where iproute2 keeps named namespaces.
const FOLDER: &str = "/run/netns";

/// Owner of the namespaces of one lab.
pub struct Namespaces {
    lab: String,
}

/// Two interfaces that are one cable.
struct Link {
    hosts: [Host; 2],
    interfaces: [&'static str; 2],
    /// Addresses of each end.
    addresses: [&'static [[&'static str; 2]]; 2],
}

const LINKS: [Link; 3] = [
    Link {
        hosts: [Host::Client, Host::Border],
        interfaces: [CLIENT_INTERFACE, ACCESS_INTERFACE],
        addresses: [&[address::CLIENT, address::OTHER_CLIENT], &[address::ACCESS]],
    },
    Link {
        hosts: [Host::Server, Host::Border],
        interfaces: ["eth0", "uplink"],
        addresses: [&[address::DNS, address::WEB, address::NOTICE], &[address::UPLINK]],
    },
    Link {
        hosts: [Host::Dpi, Host::Border],
        interfaces: ["eth0", DPI_INTERFACE],
        addresses: [&[address::DPI], &[address::DPI_LINK]],
    },
];

/// Before any interface: IPv6 without router advertisements, and with addresses that hold at once, because a browser
/// gives up what it does when one comes up later; answers may come another way than queries went.
const SETTINGS: &str = "cd /proc/sys/net && echo 0 > ipv6/conf/default/accept_ra && echo 0 > ipv6/conf/all/accept_ra \
    && echo 0 > ipv6/conf/default/accept_dad && echo 0 > ipv6/conf/default/dad_transmits \
    && echo 0 > ipv4/conf/all/rp_filter && echo 0 > ipv4/conf/default/rp_filter";

const ROUTER: &str = "cd /proc/sys/net && echo 1 > ipv4/ip_forward && echo 1 > ipv6/conf/all/forwarding \
    && echo 0 > ipv4/conf/all/send_redirects && echo 0 > ipv4/conf/default/send_redirects";

impl Namespaces {
    pub fn new(lab: &str, mtu: u32) -> Result<Self> {
        let namespaces = Self { lab: lab.to_owned() };
        for host in Host::ALL {
            process::done(Command::new("ip").args(["netns", "add", &namespaces.name(host)]))?;
            namespaces.shell(host, SETTINGS)?;
            namespaces.ip(host, "link set lo up")?;
            if matches!(host, Host::Border | Host::Dpi) {
                namespaces.shell(host, ROUTER)?;
            }
        }
        for link in &LINKS {
            namespaces.lay(link, mtu)?;
        }
        for (host, gateway) in
            [(Host::Client, address::ACCESS), (Host::Server, address::UPLINK), (Host::Dpi, address::DPI_LINK)]
        {
            for gateway in gateway {
                namespaces.ip(host, &format!("route add default via {gateway}"))?;
            }
        }
        // Frames leave the client as they would be on a wire: whole checksums, one segment each.
        namespaces.ethtool(Host::Client, CLIENT_INTERFACE, "tx off tso off gso off")?;
        namespaces.ethtool(Host::Border, ACCESS_INTERFACE, "rxvlan off rx-vlan-stag-hw-parse off")?;
        // What XDP redirects to one end of a veth pair is taken at the other only under NAPI, which GRO brings.
        namespaces.ethtool(Host::Dpi, "eth0", "gro on")?;
        Ok(namespaces)
    }

    /// The file that names the namespace.
    pub fn path(&self, host: Host) -> PathBuf {
        Path::new(FOLDER).join(self.name(host))
    }

    fn name(&self, host: Host) -> String {
        format!("{}-{}", self.lab, host.word())
    }

    fn lay(&self, link: &Link, mtu: u32) -> Result<()> {
        let [left, right] = link.hosts;
        let [near, far] = link.interfaces;
        let there = self.name(right);
        self.ip(left, &format!("link add {near} mtu {mtu} type veth peer name {far} mtu {mtu} netns {there}"))?;
        for ((host, interface), addresses) in link.hosts.into_iter().zip(link.interfaces).zip(link.addresses) {
            for (number, [v4, v6]) in addresses.iter().enumerate() {
                self.ip(host, &format!("address add {v4}/24 dev {interface}"))?;
                // The first is the one that clients use unless told otherwise, as it is with IPv4.
                let preferred = if number == 0 { "" } else { " preferred_lft 0" };
                self.ip(host, &format!("address add {v6}/64 dev {interface}{preferred}"))?;
            }
            self.ip(host, &format!("link set {interface} up"))?;
        }
        Ok(())
    }

    fn ip(&self, host: Host, words: &str) -> Result<()> {
        let family = if words.contains(':') { "-6" } else { "-4" };
        process::done(Command::new("ip").args(["-n", &self.name(host), family]).args(words.split(' ')))
    }

    fn ethtool(&self, host: Host, interface: &str, words: &str) -> Result<()> {
        let mut command = self.inside(host);
        process::done(command.args(["ethtool", "-K", interface]).args(words.split(' ')))
    }

    fn shell(&self, host: Host, script: &str) -> Result<()> {
        process::done(self.inside(host).args(["sh", "-c", script]))
    }

    fn inside(&self, host: Host) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path(host).display())).arg("--");
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _guard = signals::quiet();
        for host in Host::ALL {
            remove(&self.name(host));
        }
    }
}

/// Removes what processes that are no more have left.
pub fn remove_stale() {
    for name in names() {
        if process::owner(&name).is_some_and(|pid| !process::lives(pid)) {
            remove(&name);
        }
    }
}

/// Removes the namespaces of this process.
pub fn remove_own() {
    for name in names() {
        if process::owner(&name) == Some(std::process::id()) {
            remove(&name);
        }
    }
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Ends what runs in the namespace, then takes it away; its interfaces go with it.
fn remove(name: &str) {
    if !Path::new(FOLDER).join(name).exists() {
        return;
    }
    if let Err(error) = end_processes(name) {
        eprintln!("warning: {name}: {error:#}");
    }
    process::attempt(Command::new("ip").args(["netns", "del", name]));
}

fn end_processes(name: &str) -> Result<()> {
    let output = Command::new("ip").args(["netns", "pids", name]).output().context("ip netns pids")?;
    for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        process::kill(pid.parse().context("ip netns pids")?);
    }
    Ok(())
}
