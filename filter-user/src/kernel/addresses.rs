//! Sets of addresses: the host's own, to which nothing is answered, and those of known public resolvers.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use filter_common::resolver::{self, Summary};

use super::{error::Error, table::Table, tables::Tables};

impl Tables {
    /// Sets the host's own addresses, writing what differs.
    ///
    /// # Errors
    /// [`Error::Full`] and others.
    pub fn set_own_addresses(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let _writing = self.lock();
        set_addresses(&self.own_addresses, addresses)
    }

    /// Sets the known public resolvers, writing what differs.
    ///
    /// # Errors
    /// [`Error::Full`] and others.
    pub fn set_resolvers(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let _writing = self.lock();
        let mut summary = Summary::default();
        for address in addresses {
            let octets = u128::from_be_bytes(mapped(*address));
            resolver::add(&mut summary, [(octets >> 64) as u64, octets as u64]);
        }
        // First, so that whatever the map comes to have of these is looked up.
        self.write_settings(|settings| settings.resolvers = summary)?;
        set_addresses(&self.resolvers, addresses)
    }
}

/// IPv4 as `::ffff:a.b.c.d`.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address).octets(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address),
    }
}

fn set_addresses(table: &Table<[u8; 16], u8>, addresses: &[IpAddr]) -> Result<(), Error> {
    let mut add: HashMap<[u8; 16], u8> = addresses.iter().map(|address| (mapped(*address), 1)).collect();
    let mut gone = Vec::new();
    table.for_each(|address, _| {
        if add.remove(&address).is_none() {
            gone.push(address);
        }
    })?;
    table.set_all(&add.into_iter().collect::<Vec<_>>())?;
    table.delete_all(&gone)
}
