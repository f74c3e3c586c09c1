//! What maps take of the kernel's memory.

use std::{
    collections::BTreeMap,
    fs,
    io::{Error as IoError, ErrorKind},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use filter_common::{flow::LINES, layout::map};

use super::{error::Error, sys, tables::Tables};

/// A map's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMemory {
    /// Its name.
    pub name: &'static str,
    /// Most entries.
    pub entries: u32,
    /// Octets of the kernel's memory.
    pub octets: u64,
}

impl Tables {
    /// What the maps of flows take, whatever comes: they are allocated as a whole when they are made.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn flow_memory(&self) -> Result<Vec<MapMemory>, Error> {
        let maps = [
            (map::FLOWS, LINES, self.flows.fd()),
            (map::SYN_MARKS, self.marks.entries(), self.marks.fd()),
            (map::STREAMS, self.streams.entries(), self.streams.fd()),
            (map::REMEMBERED, self.remembered.entries(), self.remembered.fd()),
            (map::CLEARED, self.cleared.entries(), self.cleared.fd()),
        ];
        maps.into_iter().map(|(name, entries, fd)| Ok(MapMemory { name, entries, octets: octets(name, fd)? })).collect()
    }
}

/// Octets of the kernel's memory in each map that this process holds, by the map's name; of maps of one name, of all of
/// them together.
///
/// # Errors
/// If the kernel does not tell.
pub fn held_maps() -> Result<BTreeMap<String, u64>, Error> {
    let (mut ids, mut maps) = (BTreeMap::new(), BTreeMap::new());
    let failed = |what: &str| Error::system(format!("asking for the memory of maps: {what}"));
    for entry in fs::read_dir("/proc/self/fdinfo").map_err(failed("the descriptors"))? {
        // A descriptor may be closed meanwhile.
        let text = entry.and_then(|entry| fs::read_to_string(entry.path())).unwrap_or_default();
        if let (Some(id), Some(octets)) = (field(&text, "map_id:"), field(&text, "memlock:")) {
            ids.insert(id as u32, octets);
        }
    }
    for (id, octets) in ids {
        let info = sys::map_by_id(id).and_then(|fd| sys::map_info(fd.as_fd())).map_err(failed("a map"))?;
        *maps.entry(info.name()).or_default() += octets;
    }
    Ok(maps)
}

/// `memlock` of the descriptor's information (kernel/bpf/syscall.c, `bpf_map_show_fdinfo`).
pub(super) fn octets(name: &str, fd: BorrowedFd<'_>) -> Result<u64, Error> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .and_then(|text| field(&text, "memlock:").ok_or_else(|| IoError::from(ErrorKind::InvalidData)));
    told.map_err(|source| Error::System { what: format!("asking for the memory of {name}"), source })
}

/// A number in a descriptor's information.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}
