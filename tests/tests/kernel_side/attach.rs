//! Attaching: one pinned link for each interface, replaced without a gap, and nobody else's program touched.

use std::{fs, net::UdpSocket, os::unix::fs::MetadataExt as _, time::Duration};

use filter_common::{layout::LAYOUT_VERSION, verdict::Reason};
use filter_user::kernel::{Attached, Error, Kernel, Mode, detach, status};

use crate::support::{CAPACITY, PinRoot, in_namespace, sh, veth};

fn index(interface: &str) -> u32 {
    sh(&format!("ip -o link show {interface} | cut -d: -f1")).trim().parse().unwrap()
}

/// Ids of the XDP programs on an interface, as `ip` tells.
fn program_on(interface: &str) -> Option<u32> {
    let line = sh(&format!("ip link show {interface}"));
    let mut words = line.split_whitespace().skip_while(|word| *word != "prog/xdp");
    Some(words.nth(2)?.parse().unwrap())
}

fn program(kernel: &Kernel) -> u32 {
    kernel.programs().next().unwrap().id
}

#[test]
fn on_and_off_again() {
    in_namespace(|| {
        veth("c0", "c1");
        let root = PinRoot::new();
        let kernel = root.open();
        assert_eq!(status(root.path()).unwrap(), []);
        let attached = kernel.attach("c0", Mode::Native, false).unwrap();
        let expected = Attached {
            interface: "c0".into(),
            index: index("c0"),
            mode: Some(Mode::Native),
            program: program(&kernel),
            layout: LAYOUT_VERSION,
        };
        assert_eq!(attached, expected);
        assert_eq!(status(root.path()).unwrap(), [expected]);
        assert_eq!(program_on("c0"), Some(program(&kernel)));

        // Only ARP is not IP; what IPv6 says by itself when a link comes up may be counted already.
        let not_ip = || {
            let counters = kernel.tables().counters().unwrap();
            counters.iter().find(|(reason, _)| *reason == Reason::NotIp).map(|(_, counter)| counter.packets)
        };
        assert_eq!(not_ip(), Some(0));
        sh("ip addr add 192.0.2.1/24 dev c1");
        UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"who is there?", "192.0.2.2:9").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(not_ip() > Some(0), "{:?}", not_ip());

        // The daemon is gone; the program stays.
        let id = program(&kernel);
        drop(kernel);
        assert_eq!(program_on("c0"), Some(id));
        assert!(detach(root.path(), "c0").unwrap());
        assert_eq!(program_on("c0"), None);
        assert_eq!(status(root.path()).unwrap(), []);
        assert!(!detach(root.path(), "c0").unwrap());
    });
}

#[test]
fn a_new_program_takes_the_place_of_the_old_one_in_the_same_link() {
    in_namespace(|| {
        veth("c0", "c1");
        let root = PinRoot::new();
        let old = root.open();
        old.attach("c0", Mode::Native, false).unwrap();
        let pin = root.layout(LAYOUT_VERSION).join("links/c0");
        let link = fs::metadata(&pin).unwrap().ino();
        let new = root.open();
        assert_eq!(program_on("c0"), Some(program(&old)), "loading changes nothing on interfaces");
        let attached = new.attach("c0", Mode::Generic, false).unwrap();
        assert_eq!((attached.program, attached.mode), (program(&new), Some(Mode::Native)), "the link keeps its mode");
        assert_eq!(program_on("c0"), Some(program(&new)));
        assert_eq!(fs::metadata(&pin).unwrap().ino(), link);
    });
}

#[test]
fn offloads_that_hide_packets_are_refused_with_the_command() {
    in_namespace(|| {
        veth("c0", "c1");
        sh("ethtool -K c0 rxvlan on");
        let root = PinRoot::new();
        let kernel = root.open();
        for mode in [Mode::Native, Mode::Generic] {
            let error = kernel.attach("c0", mode, true).unwrap_err();
            assert!(
                matches!(&error, Error::Offload { command, .. } if command == "ethtool -K c0 rxvlan off"),
                "{error}"
            );
        }
        assert_eq!(program_on("c0"), None);
        let Err(Error::Offload { command, .. }) = kernel.attach("c0", Mode::Native, false) else { panic!() };
        sh(&command);
        kernel.attach("c0", Mode::Native, false).unwrap();
    });
}

#[test]
fn another_program_is_left_alone_unless_told_otherwise() {
    in_namespace(|| {
        veth("c0", "c1");
        let (root, other) = (PinRoot::new(), PinRoot::new());
        let (kernel, foreign) = (root.open(), other.open());
        let by_link = || drop(foreign.attach("c0", Mode::Native, false).unwrap());
        let by_netlink = || {
            let pin = other.layout(LAYOUT_VERSION).join("program");
            sh(&format!("ip link set c0 xdpgeneric pinned {}", pin.display()));
        };
        for attach in [&by_link as &dyn Fn(), &by_netlink] {
            attach();
            let error = kernel.attach("c0", Mode::Native, false).unwrap_err();
            let id = program(&foreign);
            assert_eq!(
                error.to_string(),
                format!("c0: another XDP program is attached: id {id}, `cordon`; `--replace` puts Cordon in its place")
            );
            assert_eq!(program_on("c0"), Some(id));
            assert!(!detach(root.path(), "c0").unwrap(), "detaching is for our own program only");
            assert_eq!(program_on("c0"), Some(id));
            kernel.attach("c0", Mode::Native, true).unwrap();
            assert_eq!(program_on("c0"), Some(program(&kernel)));
            assert!(detach(root.path(), "c0").unwrap());
            // What is left of the other one's link is a pin without effect.
            let _ = detach(other.path(), "c0");
        }
    });
}

#[test]
fn a_driver_without_native_mode_needs_the_generic_one_named() {
    in_namespace(|| {
        let root = PinRoot::new();
        let kernel = root.open();
        let error = kernel.attach("lo", Mode::Native, false).unwrap_err();
        assert!(matches!(error, Error::NativeUnsupported { .. }), "{error}");
        assert_eq!(program_on("lo"), None);
        let attached = kernel.attach("lo", Mode::Generic, false).unwrap();
        assert_eq!(attached.mode, Some(Mode::Generic));
        assert!(detach(root.path(), "lo").unwrap());
    });
}

#[test]
fn an_interface_that_went_away_makes_room_for_its_successor() {
    in_namespace(|| {
        let root = PinRoot::new();
        let kernel = root.open();
        let error = kernel.attach("c0", Mode::Native, false).unwrap_err();
        assert_eq!(error.to_string(), "c0: no such interface");
        veth("c0", "c1");
        kernel.attach("c0", Mode::Native, false).unwrap();
        sh("ip link del c0");
        let gone = status(root.path()).unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!((&gone[0].interface[..], gone[0].index, gone[0].mode), ("c0", 0, None));
        assert!(matches!(kernel.attach("c0", Mode::Native, false), Err(Error::Interface { .. })));
        veth("c0", "c1");
        let attached = kernel.attach("c0", Mode::Native, false).unwrap();
        assert_eq!(status(root.path()).unwrap(), [attached]);
        sh("ip link del c0");
        assert!(detach(root.path(), "c0").unwrap(), "a stale pin can be removed, too");
        assert_eq!(status(root.path()).unwrap(), []);
    });
}

#[test]
fn names_with_dots_and_new_names() {
    in_namespace(|| {
        veth("c0.100", "c1");
        let root = PinRoot::new();
        let kernel = root.open();
        kernel.attach("c0.100", Mode::Native, false).unwrap();
        assert_eq!(status(root.path()).unwrap()[0].interface, "c0.100");
        let link = fs::metadata(root.layout(LAYOUT_VERSION).join("links/c0%2e100")).unwrap().ino();
        sh("ip link set c0.100 down && ip link set c0.100 name c9 && ip link set c9 up");
        assert_eq!(status(root.path()).unwrap()[0].interface, "c9");
        kernel.attach("c9", Mode::Native, false).unwrap();
        assert_eq!(status(root.path()).unwrap().len(), 1);
        assert_eq!(fs::metadata(root.layout(LAYOUT_VERSION).join("links/c9")).unwrap().ino(), link);
        assert!(detach(root.path(), "c9").unwrap());
    });
}

#[test]
fn another_layout_is_named_and_taken_over_only_when_told() {
    in_namespace(|| {
        veth("c0", "c1");
        let root = PinRoot::new();
        let old = root.open();
        old.attach("c0", Mode::Native, false).unwrap();
        fs::rename(root.layout(LAYOUT_VERSION), root.layout(999)).unwrap();
        let new = Kernel::open(root.path(), &CAPACITY).unwrap();
        assert_eq!(status(root.path()).unwrap()[0].layout, 999);
        let error = new.attach("c0", Mode::Native, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("c0: layout 999 is in force; this program has {LAYOUT_VERSION}; `--replace` takes over")
        );
        assert_eq!(program_on("c0"), Some(program(&old)));
        let link = fs::metadata(root.layout(999).join("links/c0")).unwrap().ino();
        let attached = new.attach("c0", Mode::Native, true).unwrap();
        assert_eq!((attached.layout, attached.program), (LAYOUT_VERSION, program(&new)));
        assert_eq!(status(root.path()).unwrap(), [attached]);
        assert_eq!(fs::metadata(root.layout(LAYOUT_VERSION).join("links/c0")).unwrap().ino(), link, "without a gap");
    });
}

#[test]
fn an_interface_of_another_namespace_is_not_taken_for_one_of_this() {
    let root = PinRoot::new();
    let kernel = root.open();
    in_namespace(|| {
        veth("c0", "c1");
        kernel.attach("c0", Mode::Native, false).unwrap();
        let there = index("c0");
        in_namespace(|| {
            veth("c9", "c1");
            assert_eq!(index("c9"), there, "two new namespaces count alike");
            let elsewhere = status(root.path()).unwrap();
            assert_eq!((&elsewhere[0].interface[..], elsewhere[0].mode), ("c0", None));
            assert!(!detach(root.path(), "c9").unwrap());
            assert!(!detach(root.path(), "c0").unwrap());
            kernel.attach("c9", Mode::Native, false).unwrap();
            assert!(detach(root.path(), "c9").unwrap());
        });
        assert_eq!(program_on("c0"), Some(program(&kernel)));
        assert!(detach(root.path(), "c0").unwrap());
    });
}
