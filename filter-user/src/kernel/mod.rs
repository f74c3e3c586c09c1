//! The kernel side: loading, pinning and attaching the XDP program, and reading and writing its tables. The only
//! module that names aya.
//!
//! State: none of its own beyond file descriptors and the installation's hash key; what holds is in the maps. Maps,
//! program and links are pinned under `<pin root>/v<LAYOUT_VERSION>/` and go on without this process. Trust: the
//! pin folder is root's, but what lies in it may come from another version, so each map's shape is compared.

mod addresses;
mod apply;
mod attach;
mod bench;
mod buckets;
mod clock;
mod copies;
mod device;
mod error;
mod events;
mod filter;
mod flows;
mod grace;
mod live;
mod memory;
mod names;
mod neighbours;
mod netlink;
mod object;
mod pins;
mod plain;
mod plain_names;
mod redirect;
mod run;
mod scopes;
mod shape;
mod sys;
mod table;
mod tables;
mod words;

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use filter_common::layout::map;

use self::object::{Loaded, Object, PROGRAM};
pub use self::{
    apply::{Difference, InUse},
    attach::{Attached, Mode, detach, status},
    bench::{Bench, Entry, LONG, Packets, SHORT},
    clock::{Clock, ClockWatch},
    copies::{Copies, Findings},
    error::{EXIT_LOAD, Error},
    events::{Event, Events},
    flows::FlowMap,
    live::{Frames, Pace, Plainer, Traffic, pin_program},
    memory::{MapMemory, held_maps},
    object::{MAX_RESOLVERS, ProgramFacts},
    pins::make_root as make_pin_root,
    plain_names::PlainNames,
    redirect::{TargetSpec, TargetState, Targets},
    run::RunOutcome,
    sys::boot_time,
    tables::{Behaviour, ECH_SAMPLE, Reading, Tables, TlsPorts},
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
    /// TCP connections that were opened and have sent no data yet; over it the oldest are forgotten.
    pub connections: u32,
    /// ClientHellos and DNS messages over TCP that are not whole yet; over it the oldest are forgotten.
    pub messages: u32,
    /// Connections whose name is remembered; over it the oldest are forgotten.
    pub remembered: u32,
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
            connections: 131_072,
            messages: 16_384,
            remembered: 65_536,
            event_bytes: 1 << 20,
        }
    }
}

/// The loaded program and its tables.
#[derive(Debug)]
pub struct Kernel {
    programs: Vec<Loaded>,
    tables: Arc<Tables>,
    /// The map of rings for copies, until a reader takes it.
    rings: Mutex<Option<OwnedFd>>,
    pin_root: Option<PathBuf>,
}

impl Kernel {
    /// Loads the program on top of the maps pinned under `pin_root`, or on new ones that it pins there. Does not
    /// attach, and does not touch the links that are there: these go on with the program they have until
    /// [`Kernel::attach`].
    ///
    /// # Errors
    /// [`Error::Load`] if the verifier refuses the program (not worth a retry; exit with [`EXIT_LOAD`]),
    /// [`Error::Shape`] if a pinned map does not fit, [`Error::NotBuilt`] if the object was not built.
    pub fn open(pin_root: &Path, capacity: &Capacity) -> Result<Self, Error> {
        let (folder, lock) = pins::prepare(pin_root)?;
        shape::open_pinned(&folder)?;
        let (programs, mut maps) = object::load(Object::Filter, capacity, Some(&folder), &[])?;
        let rings = Mutex::new(maps.remove(map::DEFERRED));
        let kernel =
            Self { tables: Arc::new(Tables::new(maps)?), programs, rings, pin_root: Some(pin_root.to_owned()) };
        pins::replace(kernel.program()?.fd(), &folder.join("program"))?;
        drop(lock);
        Ok(kernel)
    }

    /// Loads the program on maps of its own, without pins: for replay and tests.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn ephemeral(capacity: &Capacity) -> Result<Self, Error> {
        let (programs, mut maps) = object::load(Object::Filter, capacity, None, &[])?;
        let rings = Mutex::new(maps.remove(map::DEFERRED));
        Ok(Self { tables: Arc::new(Tables::new(maps)?), programs, rings, pin_root: None })
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The tables, for another thread: each opening of them maps those of the names, which may be large.
    pub fn share_tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// The reader of copies for the deferred tier.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is one already; if the rings cannot be made.
    pub fn copies(&self) -> Result<Copies, Error> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).take();
        Copies::new(rings.ok_or_else(|| Error::Missing("rings for copies without a reader".into()))?)
    }

    /// Each program with its verified-instruction count.
    pub fn programs(&self) -> impl Iterator<Item = &ProgramFacts> {
        self.programs.iter().map(|program| &program.facts)
    }

    /// Puts the program on an interface, or atomically in place of the one that our pinned link there runs; that keeps
    /// its mode. A link whose interface is gone makes room for the new one.
    ///
    /// # Errors
    /// [`Error::Interface`], [`Error::Offload`], [`Error::NativeUnsupported`]; unless `replace`, [`Error::Occupied`]
    /// and [`Error::OtherLayout`]; [`Error::Missing`] for [`Kernel::ephemeral`].
    pub fn attach(&self, interface: &str, mode: Mode, replace: bool) -> Result<Attached, Error> {
        let pin_root = self.pin_root.as_deref().ok_or_else(|| Error::Missing("pin root".into()))?;
        attach::attach(pin_root, self.program()?.fd(), interface, mode, replace)
    }

    /// Runs a frame (Ethernet header first) through the filter by BPF_PROG_TEST_RUN, as if it came in at the loopback
    /// interface. With `repeat` over 1, each run gets what the one before left.
    ///
    /// # Errors
    /// If the kernel refuses the frame (shorter than 14 octets).
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<RunOutcome, Error> {
        run::run(self.program()?.fd(), frame, repeat)
    }

    fn program(&self) -> Result<&Loaded, Error> {
        object::find(&self.programs, PROGRAM)
    }
}
