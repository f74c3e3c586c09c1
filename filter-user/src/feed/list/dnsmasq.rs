//! dnsmasq's configuration: `address=/x/`, `address=/x/ADDRESS`, `server=/x/` and `local=/x/` stop x and what is below
//! it; what is done is the order's to say, so the address does not matter. `server=/x/SERVER` and `server=/x/#` send x
//! on as usual, and so leave it out. The longest name that covers one decides.

use std::net::IpAddr;

use super::{Reach, Rows, plain::without_comment};

pub(super) fn row(line: &str, rows: &mut Rows<'_>) {
    let text = without_comment(line);
    if text.is_empty() {
        return;
    }
    rows.lines += 1;
    let Some((word, rest)) = text.split_once('=').map(|(word, rest)| (word.trim_end(), rest.trim_start())) else {
        return rows.refuse(text, "is not an option of dnsmasq");
    };
    let is_address = match word {
        "address" => true,
        "server" | "local" => false,
        _ => return rows.refuse(text, "stops no name; address=/NAME/, server=/NAME/ and local=/NAME/ do"),
    };
    let Some((names, target)) = rest.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) else {
        return rows.refuse(text, "names no domain");
    };
    if !is_address && !target.is_empty() {
        let part = (target != "#").then_some("is sent to a server of its own");
        return names.split('/').for_each(|name| drop(rows.leave_unless_longer(name, part)));
    }
    if !target.is_empty() && target != "#" && target.parse::<IpAddr>().is_err() {
        return rows.refuse(text, "ends in something other than an IP address");
    }
    for name in names.split('/') {
        if name == "#" {
            rows.refuse(text, "means every name");
        } else {
            rows.stop(Reach::Subtree, name);
        }
    }
}
