//! The BPF objects in this binary, and turning them into programs and maps of the kernel.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData},
    programs::{Program, ProgramError},
};
use filter_common::layout::map;

use super::{Capacity, buckets, error::Error, filter};

/// A BPF object that the build embeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The filter.
    Filter,
    /// The filter for benchmarks.
    Bench,
    /// What sends packets, and what the filter is compared with.
    Live,
}

impl Object {
    /// The ELF file; empty if the build had no BPF tools.
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Filter => include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cordon")),
            Self::Bench => include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench")),
            Self::Live => include_bytes_aligned!(concat!(env!("OUT_DIR"), "/live")),
        }
    }
}

/// Room for known public resolvers.
pub const MAX_RESOLVERS: u32 = 1024;

/// The filter's program in [`Object::Filter`].
pub const PROGRAM: &str = "cordon";

/// What the kernel says of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Instructions that the verifier went through.
    pub verified_instructions: u32,
}

/// A program in the kernel.
#[derive(Debug)]
pub struct Loaded {
    pub facts: ProgramFacts,
    fd: OwnedFd,
}

impl Loaded {
    /// The program.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The program of that name.
pub fn find<'a>(programs: &'a [Loaded], name: &str) -> Result<&'a Loaded, Error> {
    let found = programs.iter().find(|program| program.facts.name == name);
    found.ok_or_else(|| Error::Missing(format!("program {name}")))
}

/// Loads an object, on the maps that are pinned in `folder` where there are any; the others are made and, with a
/// folder, pinned. `sizes` are those of the object's own maps.
pub fn load(
    object: Object,
    capacity: &Capacity,
    folder: Option<&Path>,
    sizes: &[(&'static str, u32)],
) -> Result<(Vec<Loaded>, HashMap<String, OwnedFd>), Error> {
    let bytes = object.bytes();
    if bytes.is_empty() {
        return Err(Error::NotBuilt);
    }
    let mut loader = EbpfLoader::new();
    let shared = [
        (map::NAMES, buckets::buckets(capacity.names)),
        (map::NAME_FILTER, filter::lines(capacity.names)),
        (map::POLICIES, capacity.policies),
        (map::ORDERS, capacity.orders),
        (map::HITS, capacity.orders),
        (map::SCOPES_V4, capacity.prefixes),
        (map::SCOPES_V6, capacity.prefixes),
        (map::TARGETS, capacity.targets),
        (map::TARGET_DEVICES, capacity.targets),
        (map::OWN_ADDRESSES, capacity.own_addresses),
        (map::EVENTS, capacity.event_bytes),
        (map::SYN_MARKS, capacity.connections),
        (map::STREAMS, capacity.messages),
        (map::REMEMBERED, capacity.remembered),
        (map::CLEARED, capacity.remembered),
        (map::RESOLVERS, MAX_RESOLVERS),
    ];
    for (name, entries) in shared.iter().chain(sizes) {
        loader.map_max_entries(name, *entries);
    }
    if let Some(folder) = folder {
        for name in map::PINNED {
            loader.map_pin_path(name, folder.join(name));
        }
    }
    let mut ebpf = loader.load(bytes).map_err(|error| Error::Object(chain(&error)))?;
    let programs = load_programs(&mut ebpf)?;
    #[cfg(feature = "bpf-log")]
    print_log(&mut ebpf);
    let names: Vec<_> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
    let mut maps = HashMap::new();
    for name in names {
        if let Some(data) = ebpf.take_map(&name).and_then(data) {
            let fd = data.fd().as_fd().try_clone_to_owned();
            maps.insert(name, fd.map_err(Error::system("duplicating a map's descriptor"))?);
        }
    }
    Ok((programs, maps))
}

/// Hands on to tracing (through `log`) what the programs log, for as long as the process lives.
#[cfg(feature = "bpf-log")]
fn print_log(ebpf: &mut Ebpf) {
    match aya_log::EbpfLogger::init(ebpf) {
        Ok(mut logger) => drop(std::thread::spawn(move || {
            loop {
                logger.flush();
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        })),
        Err(error) => tracing::warn!("the program's log cannot be read: {error}"),
    }
}

fn load_programs(ebpf: &mut Ebpf) -> Result<Vec<Loaded>, Error> {
    let mut programs = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        let Program::Xdp(program) = program else {
            return Err(Error::Object(format!("program `{name}` is not an XDP program")));
        };
        program.load().map_err(|error| load_error(name, error))?;
        let object_error = |error: ProgramError| Error::Object(chain(&error));
        let info = program.info().map_err(object_error)?;
        let facts = ProgramFacts {
            name: name.to_owned(),
            id: info.id(),
            verified_instructions: info.verified_instruction_count().unwrap_or(0),
        };
        let fd = program.fd().map_err(object_error)?.as_fd().try_clone_to_owned();
        programs.push(Loaded { facts, fd: fd.map_err(Error::system("duplicating a program's descriptor"))? });
    }
    programs.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
    Ok(programs)
}

fn load_error(name: &str, error: ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            Error::Load { program: name.to_owned(), source: io_error, log: last_lines(&verifier_log.to_string()) }
        }
        other => Error::Load { program: name.to_owned(), source: io::Error::other(chain(&other)), log: String::new() },
    }
}

/// The end of the verifier's log, which says what it did not like.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}

const LOG_LINES: usize = 12;

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The map behind aya's type for its kind.
fn data(map: Map) -> Option<MapData> {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::DevMap(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => Some(data),
        // Constants of the program (.rodata) are arrays; no other kind is in use.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_what_counts() {
        let log: String = (0..30).map(|line| format!("{line}\n")).collect();
        assert_eq!(last_lines(&log).lines().collect::<Vec<_>>()[..2], ["18", "19"]);
        assert_eq!(last_lines("a\nb"), "a\nb");
        assert_eq!(last_lines(""), "");
    }

    #[test]
    fn causes_are_told_once() {
        let inner = io::Error::from_raw_os_error(libc::EPERM);
        let error = Error::System { what: "making a map".into(), source: inner };
        assert_eq!(chain(&error), "making a map: Operation not permitted (os error 1)");
    }
}
