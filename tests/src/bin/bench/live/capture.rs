//! Captured traffic: what real clients send to real servers.

use std::{fs::File, io::BufReader};

use anyhow::{Result, ensure};
use cordon_tests::{
    lab::{CLIENT_INTERFACE, Family, Host, Lab, address},
    packet::BORDER_MAC,
};
use filter_user::replay::capture::Capture;

/// Frames that dig, kdig, curl and openssl sent while they looked names up and fetched pages, in their order.
pub fn frames() -> Result<Vec<Vec<u8>>> {
    let lab = Lab::new()?;
    let capture = lab.capture(Host::Client, CLIENT_INTERFACE, "bench", SENT)?;
    for round in 0..ROUNDS {
        let name = format!("www.shop{round}.example");
        for family in [Family::V4, Family::V6] {
            for kind in ["A", "AAAA", "HTTPS"] {
                lab.dig(family, address::CLIENT, &name, kind, &[])?;
            }
            lab.kdig(family, address::CLIENT, &[&name])?;
            lab.curl(family, address::CLIENT, &name)?;
            lab.long_handshake(family, &name)?;
        }
    }
    let mut capture = Capture::open(BufReader::new(File::open(capture.end()?)?))?;
    let mut frames = Vec::new();
    while let Some(frame) = capture.next_frame()? {
        let mut frame = frame.to_vec();
        if let Some(destination) = frame.get_mut(..BORDER_MAC.len()) {
            destination.copy_from_slice(&BORDER_MAC);
        }
        frames.push(frame);
    }
    ensure!(frames.len() >= FEWEST, "{} frames were captured: clients in the lab got nowhere", frames.len());
    Ok(frames)
}

/// What the client sends, in tcpdump's language.
const SENT: &str = "(ip and src net 192.0.2.0/24) or (ip6 and src net 2001:db8:1::/64)";

const ROUNDS: usize = 5;

const FEWEST: usize = 100;
