//! What maps take of the kernel's memory.

use std::{
    fs,
    io::{Error as IoError, ErrorKind},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use filter_common::layout::map;

use super::{error::Error, tables::Tables};

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
            (map::FLOW_TAGS, self.tags.entries(), self.tags.fd()),
            (map::SYN_MARKS, self.marks.entries(), self.marks.fd()),
            (map::STREAMS, self.streams.entries(), self.streams.fd()),
            (map::REMEMBERED, self.remembered.entries(), self.remembered.fd()),
            (map::CLEARED, self.cleared.entries(), self.cleared.fd()),
        ];
        maps.into_iter().map(|(name, entries, fd)| Ok(MapMemory { name, entries, octets: octets(name, fd)? })).collect()
    }
}

/// `memlock` of the descriptor's information (kernel/bpf/syscall.c, `bpf_map_show_fdinfo`).
pub(super) fn octets(name: &str, fd: BorrowedFd<'_>) -> Result<u64, Error> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        line.and_then(|octets| octets.trim().parse().ok()).ok_or_else(|| IoError::from(ErrorKind::InvalidData))
    });
    told.map_err(|source| Error::System { what: format!("asking for the memory of {name}"), source })
}
