//! Putting the program on interfaces, and telling what is there.
//!
//! Each interface has one BPF link, pinned as `<pin root>/v<LAYOUT_VERSION>/links/<interface>`; the kernel keeps the
//! program there for as long as the pin exists. A new program takes the place of the old one in the link, so that no
//! packet goes unexamined in between.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use filter_common::layout::LAYOUT_VERSION;

use super::{
    device,
    error::Error,
    pins,
    sys::{self, LinkInfo},
};

/// How the program gets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, after GRO, with copies.
    Generic,
}

impl Mode {
    /// The word that configuration and reports use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_*` of include/uapi/linux/if_link.h.
    const fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Interface name: as it is now, or as it was when it was attached to, if the interface is not here any more.
    pub interface: String,
    /// Interface index; 0 if the interface is gone.
    pub index: u32,
    /// Mode in force, which may not be the one that was asked for, since a link keeps its mode; `None` if the
    /// interface is gone, or in another network namespace.
    pub mode: Option<Mode>,
    /// Program id.
    pub program: u32,
    /// Layout version of its maps.
    pub layout: u32,
}

/// Every pinned link under the root, of every layout version. Needs no loaded program.
///
/// # Errors
/// If the folder cannot be read; a folder that is not there is empty.
pub fn status(pin_root: &Path) -> Result<Vec<Attached>, Error> {
    Ok(pinned(pin_root)?.iter().map(PinnedLink::attached).collect())
}

/// Takes our program off an interface. Other programs are left alone. Tells whether there was one.
///
/// # Errors
/// If the pin cannot be removed.
pub fn detach(pin_root: &Path, interface: &str) -> Result<bool, Error> {
    let mut found = false;
    for link in pinned(pin_root)? {
        if link.interface == interface && (link.mode.is_some() || link.is_stale()) {
            link.remove()?;
            found = true;
        }
    }
    Ok(found)
}

/// Puts `program` on an interface, or in place of the one that our link there runs.
pub fn attach(
    pin_root: &Path,
    program: BorrowedFd<'_>,
    interface: &str,
    mode: Mode,
    replace: bool,
) -> Result<Attached, Error> {
    let index = device::index(interface).ok_or_else(|| Error::Interface { interface: interface.into() })?;
    let folder = pins::folder(pin_root).join(LINKS);
    fs::create_dir_all(&folder).map_err(Error::system(format!("making {}", folder.display())))?;
    let path = folder.join(pins::encode(interface));

    let links = pinned(pin_root)?;
    for stale in links.iter().filter(|link| link.interface == interface && link.is_stale()) {
        stale.remove()?;
    }
    if let Some(link) = links.iter().find(|link| link.info.interface == index && link.mode.is_some()) {
        if link.layout != LAYOUT_VERSION && !replace {
            return Err(Error::OtherLayout { interface: interface.into(), found: link.layout, ours: LAYOUT_VERSION });
        }
        sys::link_update(link.fd.as_fd(), program)
            .map_err(Error::system(format!("{interface}: replacing the program")))?;
        // It may have been pinned under an older name of the device, or by another layout version.
        if link.path != path {
            fs::rename(&link.path, &path).map_err(Error::system(format!("moving {}", link.path.display())))?;
        }
    } else {
        refuse_offloads(interface)?;
        make_room(interface, index, replace)?;
        let link = create(program, interface, index, mode)?;
        sys::pin(link.as_fd(), &path).map_err(Error::system(format!("pinning {}", path.display())))?;
    }
    Ok(PinnedLink::open(path, LAYOUT_VERSION)?.attached())
}

fn refuse_offloads(interface: &str) -> Result<(), Error> {
    let harmful =
        device::harmful_offloads(interface).map_err(Error::system(format!("{interface}: reading offloads")))?;
    if harmful.is_empty() {
        return Ok(());
    }
    let options: String = harmful.iter().map(|option| format!(" {option} off")).collect();
    Err(Error::Offload { interface: interface.into(), command: format!("ethtool -K {interface}{options}") })
}

/// Makes sure that no other program is on the interface: refuses, or takes it off.
fn make_room(interface: &str, index: u32, replace: bool) -> Result<(), Error> {
    let state = device::link(index).map_err(Error::system(format!("{interface}: asking for its XDP program")))?;
    for (mode, id) in [(Mode::Native, state.native), (Mode::Generic, state.generic)] {
        let Some(id) = id else { continue };
        if !replace {
            return Err(Error::Occupied { interface: interface.into(), id, name: program_name(id) });
        }
        let taken_off = match foreign_link(index, id) {
            Some(link) => sys::link_detach(link.as_fd()),
            None => device::take_off(index, mode.flags()),
        };
        taken_off.map_err(Error::system(format!("{interface}: taking off program {id}")))?;
    }
    Ok(())
}

fn create(program: BorrowedFd<'_>, interface: &str, index: u32, mode: Mode) -> Result<OwnedFd, Error> {
    sys::link_create(program, index, mode.flags()).map_err(|source| match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) if mode == Mode::Native => Error::NativeUnsupported { interface: interface.into() },
        Some(libc::ENODEV) => Error::Interface { interface: interface.into() },
        // Drivers say why (an MTU that is too large, another feature that is on) in the kernel's log, if at all.
        _ => Error::System { what: format!("{interface}: attaching in {} mode (see `dmesg`)", mode.word()), source },
    })
}

/// The name of a program that someone else attached; empty if it is gone.
fn program_name(id: u32) -> String {
    sys::program_by_id(id)
        .and_then(|program| sys::program_info(program.as_fd()))
        .map(|info| info.name())
        .unwrap_or_default()
}

/// The link by which someone else attached a program, if it was by a link.
fn foreign_link(index: u32, program: u32) -> Option<OwnedFd> {
    let mut id = 0;
    while let Ok(Some(next)) = sys::next_link_id(id) {
        id = next;
        // Links come and go meanwhile; one that is gone is not ours to find.
        let Ok(link) = sys::link_by_id(id) else { continue };
        let Ok(info) = sys::link_info(link.as_fd()) else { continue };
        if info.kind == sys::LINK_TYPE_XDP && info.interface == index && info.program == program {
            return Some(link);
        }
    }
    None
}

struct PinnedLink {
    path: PathBuf,
    layout: u32,
    fd: OwnedFd,
    info: LinkInfo,
    pinned_as: String,
    interface: String,
    mode: Option<Mode>,
}

impl PinnedLink {
    fn open(path: PathBuf, layout: u32) -> Result<Self, Error> {
        let fd = sys::open_pin(&path).map_err(Error::system(format!("opening {}", path.display())))?;
        let info = sys::link_info(fd.as_fd()).map_err(Error::system(format!("reading {}", path.display())))?;
        // In another network namespace the index may be another interface's, which does not run our program.
        let here = if info.interface == 0 { None } else { device::link(info.interface).ok() };
        let runs = |program: Option<u32>| program == Some(info.program);
        let mode = here.and_then(|device| match (runs(device.native), runs(device.generic)) {
            (true, _) => Some(Mode::Native),
            (_, true) => Some(Mode::Generic),
            _ => None,
        });
        let pinned_as = pins::decode(&path.file_name().unwrap_or_default().to_string_lossy());
        let interface = mode.and_then(|_| device::name(info.interface)).unwrap_or_else(|| pinned_as.clone());
        Ok(Self { path, layout, fd, info, pinned_as, interface, mode })
    }

    /// Of two links with one index, that which bears the interface's name is here, and the other one elsewhere.
    fn is_shadowed_by(&self, other: &Self) -> bool {
        self.info.interface == other.info.interface
            && other.pinned_as == self.interface
            && self.pinned_as != self.interface
    }

    /// Its interface is gone.
    fn is_stale(&self) -> bool {
        self.info.interface == 0
    }

    fn attached(&self) -> Attached {
        let LinkInfo { interface: index, program, .. } = self.info;
        Attached { interface: self.interface.clone(), index, mode: self.mode, program, layout: self.layout }
    }

    fn remove(&self) -> Result<(), Error> {
        // Whoever else holds the link does not keep the program there. A link whose device is gone is detached.
        let _ = sys::link_detach(self.fd.as_fd());
        fs::remove_file(&self.path).map_err(Error::system(format!("removing {}", self.path.display())))
    }
}

/// Every pinned XDP link, of every layout version.
fn pinned(pin_root: &Path) -> Result<Vec<PinnedLink>, Error> {
    let mut links = Vec::new();
    for (layout, folder) in pins::layouts(pin_root)? {
        for path in entries(&folder.join(LINKS))? {
            let link = PinnedLink::open(path, layout)?;
            if link.info.kind == sys::LINK_TYPE_XDP {
                links.push(link);
            }
        }
    }
    let shadowed: Vec<bool> =
        links.iter().map(|link: &PinnedLink| links.iter().any(|other| link.is_shadowed_by(other))).collect();
    for (link, _) in links.iter_mut().zip(shadowed).filter(|(_, shadowed)| *shadowed) {
        link.interface.clone_from(&link.pinned_as);
        link.mode = None;
    }
    Ok(links)
}

/// Paths in a folder, sorted; none if it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut entries = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(Error::system(format!("reading {}", folder.display())))?,
    };
    entries.sort();
    Ok(entries)
}

const LINKS: &str = "links";
