//! The neighbour table: Ethernet addresses by IP address.

use std::{collections::HashMap, io, net::IpAddr};

use super::netlink::{self, Socket, attribute, u16_at, u32_at};

/// What is known of one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: [u8; 6],
    /// Confirmed, or not in need of it; other addresses are good until they turn out not to be.
    pub fresh: bool,
}

/// All neighbours that can be sent to, by interface index and IP address.
pub fn all() -> io::Result<HashMap<(u32, IpAddr), Neighbour>> {
    // struct ndmsg: any family.
    let answers = Socket::new(libc::NETLINK_ROUTE)?.request(libc::RTM_GETNEIGH, netlink::DUMP, &[0; HEADER])?;
    Ok(answers.iter().filter_map(|(_, body)| parse(body)).collect())
}

/// Has the kernel find out a neighbour's address, as if something were sent there.
pub fn nudge(interface: u32, ip: IpAddr) -> io::Result<()> {
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let mut body = vec![family as u8, 0, 0, 0];
    body.extend_from_slice(&interface.to_ne_bytes());
    body.extend_from_slice(&[0, 0, libc::NTF_USE, 0]);
    netlink::put(&mut body, libc::NDA_DST, &octets);
    Socket::new(libc::NETLINK_ROUTE)?.request(libc::RTM_NEWNEIGH, CREATE_OR_REPLACE, &body).map(drop)
}

fn parse(body: &[u8]) -> Option<((u32, IpAddr), Neighbour)> {
    let interface = u32_at(body, 4)?;
    let state = u16_at(body, 8)?;
    if state & USABLE == 0 {
        return None;
    }
    let ip = attribute(body, HEADER, libc::NDA_DST)?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    let address = attribute(body, HEADER, libc::NDA_LLADDR)?.try_into().ok()?;
    Some(((interface, ip), Neighbour { address, fresh: state & FRESH != 0 }))
}

const HEADER: usize = 12;

/// NLM_F_CREATE and NLM_F_REPLACE.
const CREATE_OR_REPLACE: u16 = 0x500;

// NUD_* of include/uapi/linux/neighbour.h
const FRESH: u16 = libc::NUD_REACHABLE | libc::NUD_PERMANENT | libc::NUD_NOARP;
const USABLE: u16 = FRESH | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_usable_by_state() {
        let message = |state: u16| {
            let mut body = vec![libc::AF_INET as u8, 0, 0, 0, 7, 0, 0, 0];
            body.extend_from_slice(&state.to_ne_bytes());
            body.extend_from_slice(&[0, 0]);
            netlink::put(&mut body, libc::NDA_DST, &[192, 0, 2, 1]);
            netlink::put(&mut body, libc::NDA_LLADDR, &[2, 0, 0, 0, 0, 1]);
            body
        };
        let key = (7, "192.0.2.1".parse().unwrap());
        let neighbour = |fresh| Neighbour { address: [2, 0, 0, 0, 0, 1], fresh };
        assert_eq!(parse(&message(libc::NUD_REACHABLE)), Some((key, neighbour(true))));
        assert_eq!(parse(&message(libc::NUD_STALE)), Some((key, neighbour(false))));
        assert_eq!(parse(&message(libc::NUD_FAILED)), None);
        assert_eq!(parse(&message(libc::NUD_INCOMPLETE)), None);
        let whole = message(libc::NUD_REACHABLE);
        for length in 0..whole.len() - 2 {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
    }
}
