//! What real clients send, through the frames that lie in access networks: captured in the lab, put into VLAN, QinQ,
//! PPPoE, MPLS and tunnel frames, and replayed. Each is stopped where it is stopped without.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use cordon_tests::{
    harness::{Filter as Kernel, Setup},
    lab::{CLIENT_INTERFACE, Family, Filter, Host, Lab, address, order},
    order::order as test_order,
};
use filter_common::verdict::Tally;
use filter_user::replay::capture::Capture;
use serde_json::Value;

const LISTED: &str = "listed.example";
const OTHER: &str = "other.example";
const CLIENTS: [&str; 6] = ["dig", "dig-tcp", "kdig-tcp", "curl", "openssl", "chromium"];

#[test]
fn t19_t03_d5_real_clients_in_every_frame() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::prepare(&lab, &[order("o", &[LISTED], &[("dns", "nxdomain"), ("tls", "reset")])])?;
    for client in CLIENTS {
        for family in Family::BOTH {
            let frames = captured(&lab, client, family)?;
            let is_long = matches!(client, "openssl" | "chromium");
            assert_eq!(frames.iter().any(|frame| is_cut_hello(frame)), is_long, "{client} over {family}");
            let plain = stops(&lab, &filter, &frames, "plain")?;
            assert!(!plain.is_empty(), "{client} over {family}: nothing is stopped");
            let reason = if client == "dig" { "answered_nxdomain" } else { "reset" };
            assert!(plain.iter().all(|stop| stop.reason == reason), "{client} over {family}: {plain:?}");
            for (wrapping, is_answered) in Wrapping::ALL {
                let wrapped: Vec<_> = frames.iter().map(|frame| wrapping.around(frame)).collect();
                let stopped = stops(&lab, &filter, &wrapped, &format!("{wrapping:?}"))?;
                // Nothing is sent back into MPLS.
                let reason = if is_answered { reason } else { "dropped_unanswerable" };
                let expected: Vec<_> =
                    plain.iter().map(|stop| Stop { reason: reason.to_owned(), ..stop.clone() }).collect();
                assert_eq!(stopped, expected, "{client} over {family} in {wrapping:?}");
            }
            println!("{client} over {family}: {} frames, {} stopped, in each wrapping", frames.len(), plain.len());
            if client == "chromium" {
                count_ech(&frames);
            }
        }
    }
    Ok(())
}

/// Frames that a client sent while it asked for both names; nothing stops it.
fn captured(lab: &Lab, client: &str, family: Family) -> Result<Vec<Vec<u8>>> {
    let [v4, v6] = address::CLIENT;
    let name = format!("{client}-{family}");
    let capture = lab.capture(Host::Client, CLIENT_INTERFACE, &name, &format!("src host {v4} or src host {v6}"))?;
    for name in [LISTED, OTHER] {
        let reached = match client {
            "dig" => lab.dig(family, address::CLIENT, name, "A", &[])?.status.as_deref() == Some("NOERROR"),
            "dig-tcp" => lab.dig(family, address::CLIENT, name, "A", &["+tcp"])?.status.as_deref() == Some("NOERROR"),
            "kdig-tcp" => lab.kdig(family, address::CLIENT, &[name])? == ["NOERROR"],
            "curl" => lab.curl(family, address::CLIENT, name)?.code == 0,
            "openssl" => lab.long_handshake(family, name)?.established,
            _ => lab.browse_at(family, name)?.document.contains(&format!("reached {name}")),
        };
        ensure!(reached, "{client} over {family} does not reach {name}");
    }
    let file = capture.end()?;
    let mut capture = Capture::open(File::open(&file)?)?;
    let mut frames = Vec::new();
    while let Some(frame) = capture.next_frame()? {
        frames.push(frame.to_vec());
    }
    Ok(frames)
}

/// A packet that the filter stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stop {
    frame: u64,
    reason: String,
    name: String,
}

/// Replays frames; what was stopped. Whatever else passes.
fn stops(lab: &Lab, filter: &Filter<'_>, frames: &[Vec<u8>], name: &str) -> Result<Vec<Stop>> {
    let file = lab.folder().join(format!("{name}.pcap"));
    write(&file, frames)?;
    let orders = filter.orders_file();
    let [orders, pcap] = [&orders, &file].map(|path: &PathBuf| path.to_str().context("a path"));
    let words = ["replay", "--lockstep", "--output", "json", "--orders", orders?, "--pcap", pcap?];
    let finished = filter.cordon(&words)?;
    ensure!(finished.success(), "{finished}");
    let lines: Vec<Value> = finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (summary, stops) = lines.split_last().context("no summary")?;
    assert_eq!(summary["summary"]["packets"], frames.len(), "{summary}");
    let names: BTreeSet<_> = stops.iter().filter_map(|stop| stop["name"].as_str()).collect();
    assert!(names.iter().all(|name| *name == LISTED), "{names:?}");
    let stop = |stop: &Value| {
        Some(Stop {
            frame: stop["frame"].as_u64()?,
            reason: stop["reason"].as_str()?.to_owned(),
            name: stop["name"].as_str()?.to_owned(),
        })
    };
    stops.iter().map(|line| stop(line).with_context(|| line.to_string())).collect()
}

/// A classic pcap of Ethernet frames.
fn write(file: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let mut octets = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        octets.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            octets.extend(word.to_le_bytes());
        }
        octets.extend(frame);
    }
    fs::write(file, octets).with_context(|| file.display().to_string())
}

/// What is put between the Ethernet header and the IP packet.
#[derive(Clone, Copy, Debug)]
enum Wrapping {
    Vlan,
    QinQ,
    Pppoe,
    PppoeInQinQ,
    Mpls,
    FourLabels,
    Gre,
}

impl Wrapping {
    /// Each, and whether it is answered into.
    const ALL: [(Self, bool); 7] = [
        (Self::Vlan, true),
        (Self::QinQ, true),
        (Self::Pppoe, true),
        (Self::PppoeInQinQ, true),
        (Self::Mpls, false),
        (Self::FourLabels, false),
        (Self::Gre, true),
    ];

    /// Other frames than IP stay as they are.
    fn around(self, frame: &[u8]) -> Vec<u8> {
        let (addresses, rest) = frame.split_at(12);
        let (ethertype, packet) = rest.split_at(2);
        let ppp: [u8; 2] = match ethertype {
            [0x08, 0x00] => [0x00, 0x21],
            [0x86, 0xdd] => [0x00, 0x57],
            _ => return frame.to_vec(),
        };
        let session = || {
            let len = (packet.len() as u16 + 2).to_be_bytes();
            [&[0x88, 0x64, 0x11, 0, 0x12, 0x34][..], &len, &ppp].concat()
        };
        let header = match self {
            Self::Vlan => [&[0x81, 0x00, 0x00, 0x64][..], ethertype].concat(),
            Self::QinQ => [&[0x88, 0xa8, 0x00, 0x0a, 0x81, 0x00, 0x00, 0x64][..], ethertype].concat(),
            Self::Pppoe => session(),
            Self::PppoeInQinQ => [&[0x88, 0xa8, 0x00, 0x0a, 0x81, 0x00, 0x00, 0x64][..], &session()].concat(),
            Self::Mpls => vec![0x88, 0x47, 0x00, 0x01, 0x01, 0x40],
            Self::FourLabels => {
                [&[0x88, 0x47][..], &[0x00, 0x01, 0x00, 0x40].repeat(3), &[0x00, 0x02, 0x01, 0x40]].concat()
            }
            Self::Gre => {
                let outer = cordon_tests::packet::Ip::between([192, 0, 2, 77].into(), [198, 51, 100, 77].into());
                let gre = [&[0, 0][..], ethertype, packet].concat();
                return [addresses, &[0x08, 0x00], &outer.build(47, &gre)].concat();
            }
        };
        [addresses, &header, packet].concat()
    }
}

/// Whether a frame holds the beginning of a TLS record of handshake whose end it does not hold.
fn is_cut_hello(frame: &[u8]) -> bool {
    let payload = || {
        let l4 = match frame.get(12..14)? {
            [0x08, 0x00] if frame.get(23)? == &6 => 14 + usize::from(frame.get(14)? & 15) * 4,
            [0x86, 0xdd] if frame.get(20)? == &6 => 54,
            _ => return None,
        };
        frame.get(l4 + usize::from(frame.get(l4 + 12)? >> 4) * 4..)
    };
    match payload() {
        Some([22, 3, _, high, low, 1, rest @ ..]) => rest.len() + 1 < usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

/// T16: the browser's hellos have ECH, as GREASE; it is found in whichever segment it is.
fn count_ech(frames: &[Vec<u8>]) {
    let filter = Kernel::with(Setup { ech_sample: 1, ..Setup::default() }, [&test_order("o", ["nothing.example"])]);
    filter.run_all(frames);
    let tallies = filter.tallies();
    let of = |tally| tallies.iter().find(|(known, _)| *known == tally).map_or(0, |(_, count)| *count);
    assert!(of(Tally::EchSearched) >= 2, "{tallies:?}");
    assert_eq!(of(Tally::Ech), of(Tally::EchSearched), "{tallies:?}");
}
