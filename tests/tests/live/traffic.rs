//! The traffic generator of the live benchmark, and the programs that the filter is compared with there.

use std::{fs::File, time::Duration};

use anyhow::{Context as _, Result};
use cordon_tests::{
    cpu,
    lab::{ACCESS_INTERFACE, CLIENT_INTERFACE, Host, Lab},
    packet::{Ip, Packet, Query, Transport},
};
use filter_user::{
    kernel::{Pace, Plainer, Traffic},
    replay::capture::Capture,
};

const DROP: u32 = 1;
const PASS: u32 = 2;

fn query(name: &str) -> Vec<u8> {
    Packet::dns(Ip::v4(), &Query::new(name).trailing(&[0; 8])).build()
}

#[test]
fn plain_programs_drop_what_they_say() -> Result<()> {
    let mut traffic = Traffic::new(1, 1, 4)?;
    traffic.list([&b"\x03www\x06listed\x07example"[..], b"\x01a"])?;
    let data = Packet::new(Ip::v4(), Transport::tcp(53), vec![0; 64]).build();
    let other_port = Packet::dns(Ip::v4(), &Query::new("www.listed.example")).port(5353).build();
    let v6 = Packet::dns(Ip::v6(), &Query::new("www.listed.example")).build();
    let of = |program, frame: &[u8]| Ok::<_, anyhow::Error>(traffic.run(program, frame)?.xdp_action);
    for (frame, [pass, sink, drop_dns, look_up]) in [
        (query("www.listed.example"), [PASS, DROP, DROP, DROP]),
        (query("a"), [PASS, DROP, DROP, DROP]),
        // A whole name, as it is written.
        (query("WWW.listed.example"), [PASS, DROP, DROP, PASS]),
        (query("x.www.listed.example"), [PASS, DROP, DROP, PASS]),
        (query("listed.example"), [PASS, DROP, DROP, PASS]),
        (other_port, [PASS, DROP, PASS, PASS]),
        (data, [PASS, DROP, PASS, PASS]),
        (v6, [PASS, DROP, PASS, PASS]),
    ] {
        let found = [Plainer::Pass, Plainer::Sink, Plainer::DropDns, Plainer::LookUp].map(|one| of(one, &frame));
        let found = found.into_iter().collect::<Result<Vec<_>>>()?;
        assert_eq!(found, [pass, sink, drop_dns, look_up], "{frame:02x?}");
    }
    assert!(traffic.add(false, []).is_err(), "no frames");
    assert!(traffic.add(false, [vec![0; 125]]).is_err(), "longer than a short frame");
    traffic.add(false, [vec![0; 124]])?;
    assert!(traffic.add(false, [vec![0; 60]]).is_err(), "no room");
    traffic.clear();
    traffic.add(false, [vec![0; 60]])?;
    Ok(())
}

#[test]
fn frames_are_sent_whole_in_their_order_at_their_pace() -> Result<()> {
    let lab = Lab::bare()?;
    lab.read(Host::Border, &["ethtool", "-K", ACCESS_INTERFACE, "gro", "on"])?;
    let mut traffic = Traffic::new(5, 2, 1)?;
    traffic.add(false, [query("of.another.set")])?;
    let short = [query("one.example"), query("a.longer.name.example"), query("three.example")];
    let long = [Packet::new(Ip::v4(), Transport::udp(53), vec![7; 1472]).build(), query("short")];
    let sets = [(traffic.add(false, short.clone())?, &short[..]), (traffic.add(true, long.clone())?, &long[..])];
    for (number, (frames, expected)) in sets.into_iter().enumerate() {
        let name = format!("sent{number}");
        let capture = lab.capture(Host::Border, ACCESS_INTERFACE, &name, "udp dst port 53")?;
        let pace = Pace::Rows { burst: 4, rate: 2000 };
        let sent = lab.within(Host::Client, || {
            // Each CPU knows for itself which frame is the next.
            cpu::stay()?;
            let index = lab_index()?;
            Ok(traffic.send(&frames, 1, index, pace, Duration::from_millis(300))?)
        })?;
        let mut capture = Capture::open(File::open(capture.end()?)?)?;
        let mut arrived = 0;
        while let Some(frame) = capture.next_frame()? {
            let at = (1 + arrived) % expected.len();
            assert_eq!(frame, expected[at], "frame {arrived} of set {number}");
            arrived += 1;
        }
        assert_eq!(arrived as u64, sent);
        // A noisy machine sends fewer, none sends more.
        assert!((4..=2000).contains(&sent), "{sent} frames at 2,000 a second");
    }
    Ok(())
}

fn lab_index() -> Result<u32> {
    let name = std::ffi::CString::new(CLIENT_INTERFACE)?;
    // SAFETY: a C string that lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index).context("no such interface")
}
