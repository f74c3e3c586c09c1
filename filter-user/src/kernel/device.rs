//! What the kernel tells of network devices: names, XDP programs, offloads, abilities.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use super::netlink::{self, Socket, attribute, u32_at, u64_at};

/// The index of an interface, if there is one of that name in this network namespace.
pub fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a C string that lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The name of an interface by its index.
pub fn name(index: u32) -> Option<String> {
    let mut buffer = [0u8; libc::IFNAMSIZ];
    // SAFETY: the buffer has IFNAMSIZ octets.
    let found = unsafe { libc::if_indextoname(index, buffer.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    CStr::from_bytes_until_nul(&buffer).ok().map(|name| name.to_string_lossy().into_owned())
}

/// What rtnetlink tells of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Id of the XDP program in the driver or the hardware.
    pub native: Option<u32>,
    /// Id of the XDP program in the stack.
    pub generic: Option<u32>,
    /// Ethernet address.
    pub address: Option<[u8; 6]>,
}

/// Asks rtnetlink for a device.
pub fn link(index: u32) -> io::Result<Link> {
    let answers = Socket::new(libc::NETLINK_ROUTE)?.request(libc::RTM_GETLINK, 0, &link_header(index))?;
    let (_, body) = answers.first().ok_or(io::ErrorKind::NotFound)?;
    let xdp = attribute(body, LINK_HEADER, libc::IFLA_XDP).unwrap_or_default();
    let program = |kind| attribute(xdp, 0, kind).and_then(|id| u32_at(id, 0)).filter(|id| *id != 0);
    Ok(Link {
        native: program(XDP_DRV_PROG_ID).or(program(XDP_HW_PROG_ID)),
        generic: program(XDP_SKB_PROG_ID),
        address: attribute(body, LINK_HEADER, libc::IFLA_ADDRESS).and_then(|address| address.try_into().ok()),
    })
}

/// Takes off an XDP program that was put on by netlink, not by a link.
pub fn take_off(index: u32, flags: u32) -> io::Result<()> {
    let mut xdp = Vec::new();
    netlink::put(&mut xdp, XDP_FD, &(-1i32).to_ne_bytes());
    netlink::put(&mut xdp, XDP_FLAGS, &flags.to_ne_bytes());
    let mut body = link_header(index);
    netlink::put(&mut body, libc::IFLA_XDP | NESTED, &xdp);
    Socket::new(libc::NETLINK_ROUTE)?.request(libc::RTM_SETLINK, 0, &body).map(drop)
}

/// `struct ifinfomsg`.
fn link_header(index: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend_from_slice(&index.to_ne_bytes());
    header.resize(LINK_HEADER, 0);
    header
}

/// Whether the device can send frames that are redirected to it. `None`: the kernel does not tell (before 6.3).
pub fn can_transmit(index: u32) -> io::Result<Option<bool>> {
    let socket = Socket::new(libc::NETLINK_GENERIC)?;
    let mut body = vec![CTRL_GET_FAMILY, 1, 0, 0];
    netlink::put(&mut body, CTRL_FAMILY_NAME, b"netdev\0");
    let family = match socket.request(CTRL_FAMILY, 0, &body) {
        Ok(answers) => answers
            .first()
            .and_then(|(_, body)| attribute(body, GENERIC_HEADER, CTRL_FAMILY_ID))
            .and_then(|id| netlink::u16_at(id, 0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(family) = family else { return Ok(None) };
    let mut body = vec![NETDEV_DEV_GET, 1, 0, 0];
    netlink::put(&mut body, NETDEV_IFINDEX, &index.to_ne_bytes());
    let answers = socket.request(family, 0, &body)?;
    let features = answers
        .first()
        .and_then(|(_, body)| attribute(body, GENERIC_HEADER, NETDEV_XDP_FEATURES))
        .and_then(|features| u64_at(features, 0));
    Ok(features.map(|features| features & ACT_NDO_XMIT != 0))
}

/// Those of [`HARMFUL`] that are on, by the names that `ethtool -K` uses.
pub fn harmful_offloads(name: &str) -> io::Result<Vec<&'static str>> {
    let active = match active_features(name) {
        // A device without any features.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        other => other?,
    };
    let is_on = |feature: &str| active.iter().any(|active| active == feature);
    Ok(HARMFUL.iter().filter(|(feature, _)| is_on(feature)).map(|(_, option)| *option).collect())
}

/// Features that hide VLAN tags from XDP or merge packets before it, with their names for `ethtool -K`.
const HARMFUL: [(&str, &str); 4] = [
    ("rx-vlan-hw-parse", "rxvlan"),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
    ("rx-lro", "lro"),
    ("rx-gro-hw", "rx-gro-hw"),
];

/// Names of the features that are on.
fn active_features(name: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: cmd, reserved, mask of sets (u64), count for each set asked for.
    let mut info = [GSSET_INFO, 0, 1 << SS_FEATURES, 0, 0];
    ethtool(name, &mut info)?;
    let [_, _, _, _, count] = info;
    // struct ethtool_gstrings: cmd, set, count, strings of 32 octets.
    let mut strings = vec![0u32; 3 + count as usize * 8];
    // struct ethtool_gfeatures: cmd, blocks, blocks of available, requested, active, never changed.
    let blocks = (count as usize).div_ceil(32);
    let mut features = vec![0u32; 2 + blocks * 4];
    if let Some(head) = strings.first_chunk_mut() {
        *head = [GSTRINGS, SS_FEATURES, count];
    }
    if let Some(head) = features.first_chunk_mut() {
        *head = [GFEATURES, blocks as u32];
    }
    ethtool(name, &mut strings)?;
    ethtool(name, &mut features)?;
    let names = strings.get(3..).unwrap_or_default().chunks_exact(8).map(|words| {
        let octets: Vec<u8> =
            words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|octet| *octet != 0).collect();
        String::from_utf8_lossy(&octets).into_owned()
    });
    let active = |bit: usize| features.get(2 + bit / 32 * 4 + 2).is_some_and(|word| word & (1 << (bit % 32)) != 0);
    Ok(names.enumerate().filter(|(bit, _)| active(*bit)).map(|(_, name)| name).collect())
}

/// Calls ioctl(SIOCETHTOOL); the command is the first word of `data`, which is as long as that command needs.
fn ethtool(name: &str, data: &mut [u32]) -> io::Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        data: *mut u32,
        pad: [u64; 2],
    }
    let mut request = Request { name: [0; libc::IFNAMSIZ], data: data.as_mut_ptr(), pad: [0; 2] };
    for (to, from) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `request` is a struct ifreq, and `data` is long enough, which its own count words tell the kernel.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const LINK_HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

// include/uapi/linux/if_link.h
const XDP_FD: u16 = 1;
const XDP_FLAGS: u16 = 3;
const XDP_DRV_PROG_ID: u16 = 5;
const XDP_SKB_PROG_ID: u16 = 6;
const XDP_HW_PROG_ID: u16 = 7;

// include/uapi/linux/genetlink.h
const GENERIC_HEADER: usize = 4;
const CTRL_FAMILY: u16 = 16;
const CTRL_GET_FAMILY: u8 = 3;
const CTRL_FAMILY_ID: u16 = 1;
const CTRL_FAMILY_NAME: u16 = 2;

// include/uapi/linux/netdev.h
const NETDEV_DEV_GET: u8 = 1;
const NETDEV_IFINDEX: u16 = 1;
const NETDEV_XDP_FEATURES: u16 = 3;
const ACT_NDO_XMIT: u64 = 4;

// include/uapi/linux/ethtool.h
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SS_FEATURES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_name_and_index() {
        assert_eq!(index("lo"), Some(1));
        assert_eq!(name(1).as_deref(), Some("lo"));
        assert_eq!(index("no such"), None);
        assert_eq!(index("nul\0"), None);
        assert_eq!(name(0), None);
        assert_eq!(link(1).unwrap().address, Some([0; 6]));
    }

    #[test]
    fn features_have_names() {
        let features = active_features("lo").unwrap();
        assert!(features.iter().any(|feature| feature == "loopback"), "{features:?}");
        assert_eq!(harmful_offloads("lo").unwrap(), Vec::<&str>::new());
        assert!(active_features("no such").is_err());
    }
}
