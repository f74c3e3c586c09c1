//! Client prefixes, and files of them.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;

use super::mistake::{Mistake, Mistakes, shortened};

/// A prefix, or an address, which stands for itself alone.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
    let prefix: IpNet = parsed.map_err(|_| "not a prefix such as 192.0.2.0/24 or 2001:db8::/32".to_owned())?;
    if prefix != prefix.trunc() {
        return Err(format!("address bits beyond the prefix are set; {} is meant?", prefix.trunc()));
    }
    // No packet has such an address: the prefix would bind nobody.
    if let IpNet::V6(v6) = prefix
        && let (Some(address), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED))
    {
        return Err(format!("an IPv4-mapped prefix; as IPv4 it is {address}/{length}"));
    }
    Ok(prefix)
}

/// Length of `::ffff:0:0/96`, where IPv4 addresses are written as IPv6 (RFC 4291 2.5.5.2).
const MAPPED: u8 = 96;

/// A file of prefixes, one a line; `#` begins a comment.
pub(super) fn read(file: &Path) -> Result<Vec<IpNet>, Vec<Mistake>> {
    let text = std::fs::read_to_string(file).map_err(|error| Mistakes::unreadable(file, &error).0)?;
    let (mut prefixes, mut mistakes) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        match prefix(content) {
            Ok(prefix) => prefixes.push(prefix),
            Err(why) => {
                mistakes.push(Mistake { file: file.to_owned(), line: at + 1, text: shortened(content), why });
            }
        }
    }
    if mistakes.is_empty() { Ok(prefixes) } else { Err(mistakes) }
}
