//! The shape that each map must have. aya takes a pinned map as it is, whatever its sizes.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use filter_common::{
    filter::Line,
    layout::{
        Counter, FlowKey, Flows, HashKey, Hits, MAX_CPUS, NameBucket, Order, Policy, PrefixV4, PrefixV6, Remembered,
        Settings, Stream, SynMark, Target, Tier, map,
    },
    verdict::{Reason, Tally},
};

use super::{error::Error, sys};

struct Shape {
    name: &'static str,
    kind: u32,
    key: usize,
    value: usize,
    entries: Entries,
}

#[derive(Clone, Copy)]
enum Entries {
    Exactly(u32),
    AtLeast(u32),
}

/// The capacity says how many; tables that are pinned already keep theirs.
const ANY: Entries = Entries::AtLeast(1);

const ONE: Entries = Entries::Exactly(1);

/// Some are in reserve, so that a new reason needs no new layout.
const REASONS: Entries = Entries::AtLeast(Reason::ALL.len() as u32);

const TALLIES: Entries = Entries::AtLeast(Tally::ALL.len() as u32);

const fn shape<K, V>(name: &'static str, kind: u32, entries: Entries) -> Shape {
    Shape { name, kind, key: size_of::<K>(), value: size_of::<V>(), entries }
}

const SHAPES: [Shape; map::PINNED.len()] = [
    shape::<u32, NameBucket>(map::NAMES, ARRAY, ANY),
    shape::<u32, Line>(map::NAME_FILTER, ARRAY, ANY),
    shape::<u32, Policy>(map::POLICIES, ARRAY, ANY),
    shape::<u32, Order>(map::ORDERS, ARRAY, ANY),
    shape::<u32, Hits>(map::HITS, PERCPU_ARRAY, ANY),
    shape::<PrefixV4, u64>(map::SCOPES_V4, LPM_TRIE, ANY),
    shape::<PrefixV6, u64>(map::SCOPES_V6, LPM_TRIE, ANY),
    shape::<u32, Settings>(map::SETTINGS, ARRAY, ONE),
    shape::<u32, Flows>(map::FLOWS, ARRAY, ONE),
    shape::<u32, HashKey>(map::HASH_KEY, ARRAY, ONE),
    shape::<u32, Counter>(map::COUNTERS, PERCPU_ARRAY, REASONS),
    shape::<u32, Target>(map::TARGETS, ARRAY, ANY),
    // struct bpf_devmap_val: interface index and program.
    shape::<u32, [u32; 2]>(map::TARGET_DEVICES, DEVMAP, ANY),
    shape::<[u8; 16], u8>(map::OWN_ADDRESSES, HASH, ANY),
    shape::<(), ()>(map::EVENTS, RINGBUF, ANY),
    shape::<u32, u64>(map::TALLIES, PERCPU_ARRAY, TALLIES),
    shape::<FlowKey, SynMark>(map::SYN_MARKS, LRU_HASH, ANY),
    shape::<FlowKey, Stream>(map::STREAMS, LRU_HASH, ANY),
    shape::<FlowKey, Remembered>(map::REMEMBERED, LRU_HASH, ANY),
    shape::<[u8; 16], u8>(map::RESOLVERS, HASH, ANY),
    shape::<FlowKey, u64>(map::CLEARED, LRU_HASH, ANY),
    shape::<u32, Tier>(map::TIER, ARRAY, ONE),
    shape::<u32, u64>(map::ASLEEP, ARRAY, Entries::Exactly(MAX_CPUS)),
];

/// Opens the pinned maps that are there, and compares each one's shape.
pub fn open_pinned(folder: &Path) -> Result<HashMap<String, OwnedFd>, Error> {
    let mut maps = HashMap::new();
    for shape in &SHAPES {
        let path = folder.join(shape.name);
        if !path.exists() {
            continue;
        }
        let fd = sys::open_pin(&path).map_err(Error::system(format!("opening {}", path.display())))?;
        check_map(shape, &path, fd.as_fd())?;
        maps.insert(shape.name.to_owned(), fd);
    }
    Ok(maps)
}

/// Compares the shapes of an object's maps; returns their numbers of entries.
pub fn check(maps: &HashMap<String, OwnedFd>) -> Result<HashMap<&'static str, u32>, Error> {
    let check = |shape: &Shape| {
        let fd = maps.get(shape.name).ok_or_else(|| Error::Missing(format!("map {}", shape.name)))?;
        Ok((shape.name, check_map(shape, Path::new(shape.name), fd.as_fd())?))
    };
    SHAPES.iter().map(check).collect()
}

fn check_map(shape: &Shape, path: &Path, fd: BorrowedFd<'_>) -> Result<u32, Error> {
    let info = sys::map_info(fd).map_err(Error::system(format!("reading {}", path.display())))?;
    let entries = match shape.entries {
        Entries::Exactly(entries) => entries,
        Entries::AtLeast(entries) => info.max_entries.max(entries),
    };
    for (what, found, needed) in [
        ("map type", info.kind, shape.kind),
        ("key size", info.key_size, shape.key as u32),
        ("value size", info.value_size, shape.value as u32),
        ("number of entries", info.max_entries, entries),
    ] {
        if found != needed {
            return Err(Error::Shape { path: path.to_owned(), what, found, needed });
        }
    }
    Ok(info.max_entries)
}

// enum bpf_map_type, include/uapi/linux/bpf.h
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
const DEVMAP: u32 = 14;
const RINGBUF: u32 = 27;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_map_has_a_shape() {
        let shapes: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
        assert_eq!(shapes, map::PINNED);
    }
}
