//! As much netlink as is needed: one request, its answers, their attributes.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// One message: its type and what follows the header.
pub type Message = (u16, Vec<u8>);

impl Socket {
    /// For `NETLINK_ROUTE` or `NETLINK_GENERIC`.
    pub fn new(family: libc::c_int) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, family) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel made this descriptor for us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Sends a request and returns every answer.
    pub fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend_from_slice(&length.to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&(flags | REQUEST | ACK).to_ne_bytes());
        // Sequence number and port: one request at a time, on a socket of its own.
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(body);
        // SAFETY: the pointer and length are those of `request`.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            // SAFETY: the pointer and length are those of `buffer`.
            let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut rest = buffer.get(..got as usize).unwrap_or_default();
            while let Some(length) = u32_at(rest, 0) {
                let kind = u16_at(rest, 4).unwrap_or(0);
                let length = (length as usize).max(HEADER);
                let body = rest.get(HEADER..length).unwrap_or_default();
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match kind {
                    DONE => return Ok(answers),
                    ERROR => match u32_at(body, 0).unwrap_or(0) as i32 {
                        0 => return Ok(answers),
                        error => return Err(io::Error::from_raw_os_error(-error)),
                    },
                    _ => answers.push((kind, body.to_vec())),
                }
            }
        }
    }
}

/// Appends an attribute.
pub fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (ATTRIBUTE + value.len()) as u16;
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes that begin at `offset`, after a fixed header.
pub fn attributes(body: &[u8], offset: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(offset..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        // The upper two bits say that it is nested, and in network order.
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of that kind.
pub fn attribute(body: &[u8], offset: usize, kind: u16) -> Option<&[u8]> {
    attributes(body, offset).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A number in host order.
pub fn u16_at(data: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(data.get(offset..)?.first_chunk().copied()?))
}

/// A number in host order.
pub fn u32_at(data: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(offset..)?.first_chunk().copied()?))
}

/// A number in host order.
pub fn u64_at(data: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(data.get(offset..)?.first_chunk().copied()?))
}

/// NLM_F_DUMP: every object, not one.
pub const DUMP: u16 = 0x300;

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The kernel's answers to dumps are at most 32 KiB each.
const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back_and_broken_ones_end_the_list() {
        let mut body = vec![9; 8];
        put(&mut body, 1, b"abc");
        put(&mut body, 0x8002, &7u32.to_ne_bytes());
        assert_eq!(attributes(&body, 8).collect::<Vec<_>>(), [(1, &b"abc"[..]), (2, &7u32.to_ne_bytes()[..])]);
        assert_eq!(attribute(&body, 8, 2).and_then(|value| u32_at(value, 0)), Some(7));
        for length in 0..body.len() {
            assert!(attributes(&body[..length], 8).count() < 2);
        }
        // A length of zero does not loop.
        assert_eq!(attributes(&[0; 64], 0).count(), 0);
    }

    #[test]
    fn the_loopback_interface_answers() {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&1u32.to_ne_bytes());
        let answers = Socket::new(libc::NETLINK_ROUTE).unwrap().request(libc::RTM_GETLINK, 0, &body).unwrap();
        let [(kind, link)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(*kind, libc::RTM_NEWLINK);
        assert_eq!(attribute(link, 16, libc::IFLA_IFNAME), Some(&b"lo\0"[..]));
    }
}
