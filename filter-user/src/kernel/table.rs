//! One map, typed.

use std::{
    fmt, io,
    marker::PhantomData,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use super::{
    error::Error,
    plain::{self, Plain},
    sys::{self, Cursor},
};

/// A map with keys `K` and values `V`. Its shape was compared with these types when it was opened.
pub struct Table<K, V> {
    fd: OwnedFd,
    name: &'static str,
    entries: u32,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// A map whose keys and values have the sizes of `K` and `V`.
    pub fn new(fd: OwnedFd, name: &'static str, entries: u32) -> Self {
        Self { fd, name, entries, types: PhantomData }
    }

    /// The map.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Most entries.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// A value.
    pub fn get(&self, key: &K) -> Result<Option<V>, Error> {
        let mut value = [plain::zeroed::<V>()];
        match sys::lookup(self.fd(), key, &mut value) {
            Ok(()) => Ok(value.first().copied()),
            Err(error) if is(&error, libc::ENOENT) => Ok(None),
            Err(error) => Err(self.error("reading", error)),
        }
    }

    /// Writes a value.
    pub fn set(&self, key: &K, value: &V) -> Result<(), Error> {
        sys::update(self.fd(), key, std::slice::from_ref(value)).map_err(|error| self.error("writing", error))
    }

    /// Deletes a value; that it is not there is no error.
    pub fn delete(&self, key: &K) -> Result<(), Error> {
        match sys::delete(self.fd(), key) {
            Err(error) if !is(&error, libc::ENOENT) => Err(self.error("deleting from", error)),
            _ => Ok(()),
        }
    }

    /// Writes in order.
    pub fn set_all(&self, elements: &[(K, V)]) -> Result<(), Error> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for chunk in elements.chunks(BATCH) {
            keys.clear();
            values.clear();
            keys.extend(chunk.iter().map(|(key, _)| *key));
            values.extend(chunk.iter().map(|(_, value)| *value));
            match sys::update_batch(self.fd(), &keys, &values) {
                (_, Ok(())) => {}
                (_, Err(error)) if no_batches(&error) => {
                    chunk.iter().try_for_each(|(key, value)| self.set(key, value))?;
                }
                (_, Err(error)) => return Err(self.error("writing", error)),
            }
        }
        Ok(())
    }

    /// Deletes in order; what is not there is no error.
    pub fn delete_all(&self, keys: &[K]) -> Result<(), Error> {
        for chunk in keys.chunks(BATCH) {
            let mut rest = chunk;
            while !rest.is_empty() {
                match sys::delete_batch(self.fd(), rest) {
                    (_, Ok(())) => break,
                    (done, Err(error)) if is(&error, libc::ENOENT) => {
                        rest = rest.get(done + 1..).unwrap_or_default();
                    }
                    (_, Err(error)) if no_batches(&error) => {
                        rest.iter().try_for_each(|key| self.delete(key))?;
                        break;
                    }
                    (_, Err(error)) => return Err(self.error("deleting from", error)),
                }
            }
        }
        Ok(())
    }

    /// Every element, in no order. Elements that come or go meanwhile may be seen or not.
    pub fn for_each(&self, mut visit: impl FnMut(K, V)) -> Result<(), Error> {
        let mut room = BATCH.min(self.entries as usize).max(1);
        let (mut keys, mut values) = (vec![plain::zeroed(); room], vec![plain::zeroed(); room]);
        let mut cursor = Cursor::default();
        loop {
            match sys::lookup_batch(self.fd(), &mut cursor, &mut keys, &mut values) {
                Ok((count, last)) => {
                    keys.iter().zip(&values).take(count).for_each(|(key, value)| visit(*key, *value));
                    if last {
                        return Ok(());
                    }
                }
                // A bucket with more elements than there is room for.
                Err(error) if is(&error, libc::ENOSPC) && room < 1 << 24 => {
                    room *= 2;
                    keys.resize(room, plain::zeroed());
                    values.resize(room, plain::zeroed());
                }
                Err(error) if no_batches(&error) => return self.for_each_singly(visit),
                Err(error) => return Err(self.error("reading", error)),
            }
        }
    }

    fn for_each_singly(&self, mut visit: impl FnMut(K, V)) -> Result<(), Error> {
        let mut key = None;
        while let Some(next) = sys::next_key(self.fd(), key.as_ref()).map_err(|error| self.error("reading", error))? {
            if let Some(value) = self.get(&next)? {
                visit(next, value);
            }
            key = Some(next);
        }
        Ok(())
    }

    pub(super) fn error(&self, doing: &str, source: io::Error) -> Error {
        // E2BIG from hash maps and arrays, ENOSPC from LPM tries.
        if is(&source, libc::E2BIG) || is(&source, libc::ENOSPC) {
            return Error::full(self.name, self.entries);
        }
        Error::System { what: format!("{doing} map {}", self.name), source }
    }
}

/// A map with an array of values for each key, one for each CPU that could exist.
pub struct PerCpu<V> {
    table: Table<u32, V>,
    cpus: usize,
}

impl<V: Plain> PerCpu<V> {
    /// As [`Table::new`].
    pub fn new(fd: OwnedFd, name: &'static str, entries: u32) -> Result<Self, Error> {
        // The kernel rounds each CPU's value up to 8 octets.
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        let cpus = aya::util::nr_cpus().map_err(|(what, source)| Error::System { what: what.into(), source })?;
        Ok(Self { table: Table::new(fd, name, entries), cpus })
    }

    /// The values of every slot.
    pub fn for_each(&self, mut visit: impl FnMut(u32, &[V])) -> Result<(), Error> {
        let room = (self.table.entries as usize).clamp(1, 1024);
        let (mut keys, mut values) = (vec![0u32; room], vec![plain::zeroed::<V>(); room * self.cpus]);
        let mut cursor = Cursor::default();
        loop {
            match sys::lookup_batch(self.table.fd(), &mut cursor, &mut keys, &mut values) {
                Ok((count, last)) => {
                    let values = values.chunks(self.cpus);
                    keys.iter().zip(values).take(count).for_each(|(key, values)| visit(*key, values));
                    if last {
                        return Ok(());
                    }
                }
                Err(error) if no_batches(&error) => break,
                Err(error) => return Err(self.table.error("reading", error)),
            }
        }
        for slot in 0..self.table.entries {
            let mut values = vec![plain::zeroed::<V>(); self.cpus];
            sys::lookup(self.table.fd(), &slot, &mut values).map_err(|error| self.table.error("reading", error))?;
            visit(slot, &values);
        }
        Ok(())
    }

    /// Sets a slot on every CPU.
    pub fn set_all(&self, slot: u32, value: V) -> Result<(), Error> {
        let values = vec![value; self.cpus];
        sys::update(self.table.fd(), &slot, &values).map_err(|error| self.table.error("writing", error))
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for PerCpu<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

fn is(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

/// The kernel has no batches for this kind of map.
fn no_batches(error: &io::Error) -> bool {
    is(error, libc::EINVAL) || is(error, ENOTSUPP)
}

/// ENOTSUPP of include/linux/errno.h, which libc does not know.
const ENOTSUPP: i32 = 524;

/// Elements in one system call.
const BATCH: usize = 16_384;
