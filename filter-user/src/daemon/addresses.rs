//! The host's own addresses, which no answer is sent to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Addresses of all interfaces of this network namespace.
pub(super) fn own() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the pointer is to a variable of ours, which getifaddrs(3) sets.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: an element of the list, which is not yet freed.
        let ifaddrs = unsafe { &*entry };
        // SAFETY: null or a socket address, which lives as long as the list.
        addresses.extend(unsafe { address(ifaddrs.ifa_addr) });
        entry = ifaddrs.ifa_next;
    }
    // SAFETY: the list is from getifaddrs, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// # Safety
/// `address` is null, or points to a socket address of the size that its family has.
unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: by the caller.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: by the family. The address is in network order in memory.
            let octets = unsafe { (*address.cast::<libc::sockaddr_in>()).sin_addr.s_addr }.to_ne_bytes();
            Some(Ipv4Addr::from(octets).into())
        }
        libc::AF_INET6 => {
            // SAFETY: by the family.
            let octets = unsafe { (*address.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr };
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_ours() {
        assert!(own().unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
