//! Inputs to begin with: `seeds FOLDER [CAPTURES]` writes a folder for each target, from what real clients sent.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    error::Error,
    ffi::OsStr,
    fs::{self, File},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

use cordon_fuzz::TARGETS;
use etherparse::{SlicedPacket, TransportSlice};
use filter_common::{bytes::Slice, frame::network, verdict::Reason};
use pcap_file::{DataLink, pcap::PcapReader};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("seeds FOLDER [CAPTURES]")?;
    for (target, _) in TARGETS {
        fs::create_dir_all(folder.join(target))?;
    }
    match arguments.next() {
        Some(captures) => read_folder(&captures, &folder),
        None => Ok(()),
    }
}

fn read_folder(captures: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(captures)? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, folder)?;
        } else if path.extension().is_some_and(|extension| extension == OsStr::new("pcap")) {
            read_capture(&path, folder)?;
        }
    }
    Ok(())
}

/// The first frames of a capture; what is no Ethernet capture is left out, and what is broken behind that.
fn read_capture(path: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let Ok(mut reader) = PcapReader::new(File::open(path)?) else { return Ok(()) };
    if reader.header().datalink != DataLink::ETHERNET {
        return Ok(());
    }
    for _ in 0..FRAMES {
        let Some(Ok(packet)) = reader.next_packet() else { break };
        if packet.data.len() > LONGEST {
            continue;
        }
        put(folder, "frame", &packet.data)?;
        if network(&Slice(&packet.data)) == Err(Reason::Encapsulated) {
            put(folder, "tunnel", &[&[0], &*packet.data].concat())?;
        }
        match SlicedPacket::from_ethernet(&packet.data).ok().and_then(|packet| packet.transport) {
            Some(TransportSlice::Udp(udp)) if udp.destination_port() == 53 => {
                put(folder, "dns", udp.payload())?;
                put(folder, "answer", &[&[0; 4], udp.payload()].concat())?;
            }
            Some(TransportSlice::Udp(udp)) if udp.destination_port() == 443 => put(folder, "quic", udp.payload())?,
            Some(TransportSlice::Tcp(tcp)) if tcp.payload().starts_with(&[22, 3]) => {
                put(folder, "tls", tcp.payload())?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Under its hash, so that what is the same is there once.
fn put(folder: &Path, target: &str, octets: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut hasher = DefaultHasher::new();
    octets.hash(&mut hasher);
    fs::write(folder.join(target).join(format!("{:016x}", hasher.finish())), octets)?;
    Ok(())
}

/// Of one capture.
const FRAMES: usize = 40;
const LONGEST: usize = 4096;
