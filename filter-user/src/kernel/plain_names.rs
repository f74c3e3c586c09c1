//! Names for the programs that the filter is compared with: whole and as they are written, in a BPF hash map.

use std::{collections::HashMap, os::fd::OwnedFd};

use filter_common::traffic::{PlainName, plain_name};

use super::{error::Error, table::Table};

/// The map.
#[derive(Debug)]
pub struct PlainNames(Table<PlainName, u32>);

impl PlainNames {
    /// Its name in the objects.
    pub(super) const MAP: &str = "PLAIN_NAMES";

    /// Of an object's maps, with room for so many names.
    pub(super) fn take(maps: &mut HashMap<String, OwnedFd>, room: u32) -> Result<Self, Error> {
        let map = maps.remove(Self::MAP).ok_or_else(|| Error::Missing(format!("map {}", Self::MAP)))?;
        Ok(Self(Table::new(map, Self::MAP, room)))
    }

    /// Lists these names, in wire form without the root's octet.
    ///
    /// # Errors
    /// [`Error::Full`] for more than there is room for, [`Error::Missing`] for one that is too long.
    pub fn list<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Error> {
        let key = |wire: &[u8]| match plain_name(wire) {
            Some(name) => Ok((name, 1)),
            None => Err(Error::Missing(format!("room for a name of {} octets", wire.len()))),
        };
        let names = names.into_iter().map(key).collect::<Result<Vec<_>, Error>>()?;
        self.0.set_all(&names)
    }
}
