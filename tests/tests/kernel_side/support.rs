//! What these tests need: network namespaces of their own, pin roots that go away, small tables.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use cordon_tests::bpffs::Bpffs;
use filter_user::kernel::{Capacity, Kernel};

/// Small tables load quickly.
pub const CAPACITY: Capacity = Capacity {
    names: 65_536,
    orders: 64,
    policies: 64,
    prefixes: 64,
    targets: 4,
    own_addresses: 16,
    connections: 64,
    messages: 64,
    remembered: 64,
    event_bytes: 65_536,
};

/// Runs a test in a network namespace of its own, which ends with it.
pub fn in_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || {
            // SAFETY: no pointers; only this thread moves.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "unshare (these tests need root): {}", io::Error::last_os_error());
            sh("ip link set lo up");
            test();
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs a command line, which must succeed; returns what it wrote.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A veth pair whose first end takes XDP programs.
pub fn veth(name: &str, peer: &str) {
    sh(&format!("ip link add {name} type veth peer name {peer}"));
    sh(&format!(
        "ip link set {name} up && ip link set {peer} up && ethtool -K {name} rxvlan off rx-vlan-stag-hw-parse off"
    ));
}

/// A pin root that is gone in the end.
pub struct PinRoot {
    _bpffs: Bpffs,
    path: PathBuf,
}

impl PinRoot {
    pub fn new() -> Self {
        let bpffs = Bpffs::new().unwrap();
        let path = bpffs.path().join("cordon");
        Self { _bpffs: bpffs, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder of pins, by layout version.
    pub fn layout(&self, version: u32) -> PathBuf {
        self.path.join(format!("v{version}"))
    }

    pub fn open(&self) -> Kernel {
        Kernel::open(&self.path, &CAPACITY).unwrap()
    }
}

/// A frame that the filter passes: not IP.
pub const NOT_IP: [u8; 64] = [0x88; 64];
