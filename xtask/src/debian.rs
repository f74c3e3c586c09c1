//! Debian packages that the demo and the tests run.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::sh;

/// A package, by the program that it is wanted for.
pub struct Needed {
    program: &'static str,
    package: &'static str,
    /// The system service that comes with it and is not wanted.
    service: Option<&'static str>,
}

/// The lab's servers and clients.
pub const LAB: &[Needed] = &[
    Needed { program: "ip", package: "iproute2", service: None },
    Needed { program: "ethtool", package: "ethtool", service: None },
    Needed { program: "named", package: "bind9", service: Some("named.service") },
    Needed { program: "nginx", package: "nginx", service: Some("nginx.service") },
    Needed { program: "dig", package: "bind9-dnsutils", service: None },
    Needed { program: "knotd", package: "knot", service: Some("knot.service") },
    Needed { program: "kdig", package: "knot-dnsutils", service: None },
    Needed { program: "curl", package: "curl", service: None },
    Needed { program: "openssl", package: "openssl", service: None },
    Needed { program: "mkfs.ext4", package: "e2fsprogs", service: None },
    Needed { program: "gnutls-serv", package: "gnutls-bin", service: None },
    Needed { program: "tcpdump", package: "tcpdump", service: None },
];

/// The browser that live tests drive.
pub const BROWSER: &[Needed] = &[Needed { program: "chromium", package: "chromium", service: None }];

/// What `cargo xtask bench` compares Cordon with. There they need not be: what is absent is listed as absent.
pub const PEERS: &[Needed] = &[
    Needed { program: "nft", package: "nftables", service: None },
    Needed { program: "iptables", package: "iptables", service: None },
    Needed { program: "xdp-filter", package: "xdp-tools", service: None },
    Needed { program: "dnsdist", package: "dnsdist", service: Some("dnsdist.service") },
    Needed { program: "unbound", package: "unbound", service: Some("unbound.service") },
    Needed { program: "named", package: "bind9", service: Some("named.service") },
];

/// Installs what is missing.
pub fn install(lists: &[&[Needed]]) -> Result<()> {
    let missing: Vec<&Needed> = lists.iter().copied().flatten().filter(|needed| !installed(needed.program)).collect();
    if missing.is_empty() {
        println!("setup: the Debian packages are there.");
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    let list = packages.join(" ");
    println!("setup: installing Debian packages: {list}.");
    let unreachable = || {
        format!("unreachable package: one of {list}; install them by hand (apt-get install {list}) and run this again")
    };
    let quiet = NoServices::begin(missing.iter().any(|needed| needed.service.is_some()))?;
    sh::run(&mut sh::as_root("apt-get", ["update", "-q"])?).with_context(unreachable)?;
    let words = ["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-q", "-y", "--no-install-recommends"];
    sh::run(&mut sh::as_root("env", words.into_iter().chain(packages))?).with_context(unreachable)?;
    drop(quiet);
    if Path::new("/run/systemd/system").is_dir() {
        for service in missing.iter().filter_map(|needed| needed.service) {
            sh::run(&mut sh::as_root("systemctl", ["disable", service])?)?;
        }
    }
    Ok(())
}

/// Debian keeps some of them in folders that only root has in the search path.
fn installed(program: &str) -> bool {
    sh::found(program) || ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

/// While it lives, packages that are installed start no services: the lab has servers of its own, and the host's
/// ports are none of our business (`invoke-rc.d` asks /usr/sbin/policy-rc.d; 101 is no).
struct NoServices(bool);

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin(wanted: bool) -> Result<Self> {
        let ours = wanted && !Path::new(POLICY).exists();
        if ours {
            let script = sh::target().join("policy-rc.d");
            fs::write(&script, "#!/bin/sh\nexit 101\n").with_context(|| script.display().to_string())?;
            let script = script.to_str().context("the target folder's name is not UTF-8")?;
            sh::run(&mut sh::as_root("install", ["-m", "755", script, POLICY])?)?;
        }
        Ok(Self(ours))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.0
            && let Err(error) = sh::as_root("rm", [POLICY]).and_then(|mut command| sh::run(&mut command))
        {
            eprintln!("warning: {error:#}");
        }
    }
}
