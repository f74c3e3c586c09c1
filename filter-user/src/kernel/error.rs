//! What can go wrong with the kernel, in words that an operator can act on.

use std::{io, path::PathBuf};

use filter_common::layout::map;

/// Exit code after [`Error::Load`] and [`Error::NotBuilt`]: starting again would not help.
pub const EXIT_LOAD: u8 = 3;

/// An error of the kernel side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The build had no BPF toolchain.
    #[error("this build has no XDP program in it: run `cargo xtask setup`, then build again")]
    NotBuilt,
    /// The kernel refused the program.
    #[error("the kernel refused the XDP program `{program}`: {source}\n{log}")]
    Load {
        /// Which program.
        program: String,
        /// The system call's error.
        source: io::Error,
        /// Last lines of the verifier's log.
        log: String,
    },
    /// The object could not be turned into programs and maps.
    #[error("the XDP object cannot be loaded: {0}")]
    Object(String),
    /// A pinned map is not what this program needs.
    #[error("{}: {what} is {found}, but this program needs {needed}; another version pinned it", path.display())]
    Shape {
        /// The pinned map.
        path: PathBuf,
        /// Type, key size, value size or entries.
        what: &'static str,
        /// What is pinned.
        found: u32,
        /// What the program needs.
        needed: u32,
    },
    /// A map is full.
    #[error("{map} is full at {capacity} entries{}", key.map(|key| format!(": raise `capacity.{key}` in the configuration")).unwrap_or_default())]
    Full {
        /// The map.
        map: &'static str,
        /// Its size.
        capacity: u32,
        /// Key under `capacity` in the configuration, where there is one.
        key: Option<&'static str>,
    },
    /// No such interface.
    #[error("{interface}: no such interface")]
    Interface {
        /// Its name.
        interface: String,
    },
    /// Another program is there.
    #[error("{interface}: another XDP program is attached: id {id}, `{name}`; `--replace` puts Cordon in its place")]
    Occupied {
        /// The interface.
        interface: String,
        /// Program id.
        id: u32,
        /// Program name.
        name: String,
    },
    /// Cordon with another map layout is there.
    #[error("{interface}: layout {found} is in force; this program has {ours}; `--replace` takes over")]
    OtherLayout {
        /// The interface.
        interface: String,
        /// Layout version in force.
        found: u32,
        /// Ours.
        ours: u32,
    },
    /// The NIC hides VLAN tags or merges packets before XDP sees them.
    #[error("{interface}: the NIC strips VLAN tags or merges packets: run `{command}`")]
    Offload {
        /// The interface.
        interface: String,
        /// The command that turns it off.
        command: String,
    },
    /// The driver has no native XDP.
    #[error(
        "{interface}: its driver has no native XDP; `mode = \"generic\"` for it in the configuration allows the slow path"
    )]
    NativeUnsupported {
        /// The interface.
        interface: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Its error.
        source: io::Error,
    },
    /// Something is not there.
    #[error("{0}: not found")]
    Missing(String),
}

impl Error {
    /// The map of that name is full.
    pub(super) fn full(map: &'static str, capacity: u32) -> Self {
        let key = match map {
            map::NAMES => Some("names"),
            map::POLICIES => Some("policies"),
            map::ORDERS => Some("orders"),
            map::SCOPES_V4 | map::SCOPES_V6 => Some("prefixes"),
            _ => None,
        };
        Self::Full { map, capacity, key }
    }

    /// For `map_err`: what was tried.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// Whether it is of no use to start again ([`EXIT_LOAD`]).
    pub fn is_load(&self) -> bool {
        matches!(self, Self::NotBuilt | Self::Load { .. } | Self::Object(_))
    }
}
