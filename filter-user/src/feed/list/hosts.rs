//! As /etc/hosts: an address and names. A name is to be stopped if its address is one that leads nowhere.

use std::net::IpAddr;

use super::{Reach, Rows, plain::without_comment};

pub(super) fn row(line: &str, rows: &mut Rows<'_>) {
    let text = without_comment(line);
    let mut words = text.split_ascii_whitespace();
    let Some(address) = words.next() else { return };
    rows.lines += 1;
    let Ok(parsed) = address.parse::<IpAddr>() else {
        return rows.refuse(text, "does not begin with an IP address, as a row of a hosts file does");
    };
    let mut names = words.filter(|name| !OF_THE_HOST.contains(name)).peekable();
    if names.peek().is_none() {
        if text == address {
            rows.refuse(text, "has an address and no name");
        }
        return;
    }
    if !parsed.is_loopback() && !parsed.is_unspecified() {
        return rows.refuse(
            text,
            "gives names an address; only 0.0.0.0, ::, 127.0.0.1 and ::1 say that they are to be stopped",
        );
    }
    for name in names {
        rows.stop(Reach::AsOrdered, name);
    }
}

/// What hosts files say of the host itself.
const OF_THE_HOST: [&str; 12] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost6",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
];
