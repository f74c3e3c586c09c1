//! The kernel side: loading, pinning and attaching the XDP program, and reading and writing its tables. The only
//! module that names aya.
//!
//! State: none of its own beyond file descriptors and the installation's hash key; what holds is in the maps. Maps,
//! program and links are pinned under `<pin root>/v<LAYOUT_VERSION>/` and go on without this process. Trust: the
//! pin folder is root's, but what lies in it may come from another version, so each map's shape is compared.

mod attach;
mod clock;
mod error;
mod events;
mod object;
mod redirect;
mod run;
mod scopes;
mod tables;

use std::path::{Path, PathBuf};

pub use self::{
    attach::{Attached, Layout, Mode, detach, status},
    clock::{Clock, ClockWatch},
    error::{EXIT_LOAD, Error},
    events::{Event, Events},
    object::{Object, ProgramFacts},
    redirect::{TargetSpec, TargetState, Targets},
    run::RunOutcome,
    tables::{Difference, InUse, Tables, TlsPorts},
};

/// Where maps, program and links are pinned unless the configuration says otherwise.
pub const DEFAULT_PIN_ROOT: &str = "/sys/fs/bpf/cordon";

/// Sizes of the maps. They are fixed when the maps are made; other sizes take effect once nothing is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Nodes of the name tree (about one for each listed name).
    pub names: u32,
    /// Order slots.
    pub orders: u32,
    /// Policy slots.
    pub policies: u32,
    /// Client prefixes of all scopes, for IPv4 and IPv6 each.
    pub prefixes: u32,
    /// Redirect targets.
    pub targets: u32,
    /// Addresses of the host itself.
    pub own_addresses: u32,
    /// Octets of the event ring: a power of two, at least a page.
    pub event_bytes: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            names: 2_097_152,
            orders: 16_384,
            policies: 65_536,
            prefixes: 65_536,
            targets: 64,
            own_addresses: 1024,
            event_bytes: 1 << 20,
        }
    }
}

/// The loaded program and its tables.
#[derive(Debug)]
pub struct Kernel {
    tables: Tables,
    folder: Option<PathBuf>,
}

impl Kernel {
    /// Loads the program on top of the maps pinned under `pin_root`, or on new ones that it pins there. Does not
    /// attach, and does not touch the links that are there: these go on with the program they have.
    ///
    /// # Errors
    /// [`Error::Load`] if the verifier refuses the program (not worth a retry; exit with [`EXIT_LOAD`]),
    /// [`Error::Shape`] if a pinned map does not fit, [`Error::NotBuilt`] if the object was not built.
    pub fn open(_pin_root: &Path, _capacity: &Capacity) -> Result<Self, Error> {
        todo!()
    }

    /// Loads the program on maps of its own, without pins: for replay and tests.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn ephemeral(_capacity: &Capacity) -> Result<Self, Error> {
        todo!()
    }

    /// Like [`Kernel::ephemeral`], for another object.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn ephemeral_object(_object: Object, _capacity: &Capacity) -> Result<Self, Error> {
        todo!()
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Each program with its verified-instruction count.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn programs(&self) -> Result<Vec<ProgramFacts>, Error> {
        todo!()
    }

    /// Runs a frame (Ethernet header first) through the filter by BPF_PROG_TEST_RUN, as if it came in at the loopback
    /// interface. With `repeat` over 1, each run gets what the one before left.
    ///
    /// # Errors
    /// If the kernel refuses the frame (shorter than 14 octets).
    pub fn run(&self, _frame: &[u8], _repeat: u32) -> Result<RunOutcome, Error> {
        todo!()
    }

    /// [`Kernel::run`] for a program of the object by name.
    ///
    /// # Errors
    /// Also if there is no such program.
    pub fn run_program(&self, _program: &str, _frame: &[u8], _repeat: u32) -> Result<RunOutcome, Error> {
        todo!()
    }

    /// Puts the program on an interface, or atomically in place of the one that our pinned link there runs.
    ///
    /// # Errors
    /// [`Error::Interface`], [`Error::Occupied`] (unless `replace`), [`Error::Offload`], [`Error::NativeUnsupported`].
    pub fn attach(&self, _interface: &str, _mode: Mode, _replace: bool) -> Result<Attached, Error> {
        todo!()
    }

    /// The folder that holds the pins; none for [`Kernel::ephemeral`].
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }
}
