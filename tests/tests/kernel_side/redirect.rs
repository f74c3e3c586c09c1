//! Redirect targets follow devices and neighbours.

use std::time::{Duration, Instant};

use filter_user::kernel::{Kernel, TargetSpec, Targets};

use crate::support::{CAPACITY, in_namespace, sh, veth};

/// A named namespace for the other end.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("cordon-test-{}-{name}", std::process::id());
        sh(&format!("ip netns add {name}"));
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        sh(&format!("ip netns del {}", self.0));
    }
}

#[test]
fn a_target_becomes_ready_and_ceases_to_be() {
    in_namespace(|| {
        let far = Namespace::new("redirect");
        veth("r0", "r1");
        sh(&format!("ip link set r1 netns {}", far.0));
        let there = format!("ip netns exec {}", far.0);
        sh(&format!("{there} ip link set r1 up address 02:00:00:00:00:22"));
        sh(&format!("{there} ip addr add 192.0.2.2/24 dev r1"));
        sh("ip link set r0 address 02:00:00:00:00:11 && ip addr add 192.0.2.1/24 dev r0");

        let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
        let tables = kernel.tables();
        let spec = |name: &str, interface: &str, next_hop: Option<&str>| TargetSpec {
            name: name.into(),
            interface: interface.into(),
            next_hop: next_hop.map(|next_hop| next_hop.parse().unwrap()),
            fallback_pass: name == "dpi",
        };
        let mut targets = Targets::new(vec![
            spec("none", "r9", None),
            spec("dpi", "r0", Some("192.0.2.2")),
            spec("nobody", "r0", Some("192.0.2.99")),
        ]);
        let problem = |targets: &mut Targets, slot: usize| targets.refresh(tables).unwrap()[slot].problem.clone();
        assert_eq!(problem(&mut targets, 0).as_deref(), Some("r9: no such interface"));
        assert_eq!(problem(&mut targets, 1).as_deref(), Some("r0: its driver does not send redirected frames"));
        let target = tables.target(1).unwrap();
        assert_eq!((target.ready, target.fallback_pass), (0, 1));

        // With GRO, the peer polls, and takes redirected frames.
        sh(&format!("{there} ethtool -K r1 gro on"));
        let until = Instant::now() + Duration::from_secs(5);
        while let Some(problem) = problem(&mut targets, 1) {
            assert_eq!(problem, "r0: no answer from 192.0.2.2");
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(50));
        }
        let target = tables.target(1).unwrap();
        assert_eq!((target.ready, target.rewrite, target.fallback_pass), (1, 1, 1));
        assert_eq!((target.destination, target.source), ([2, 0, 0, 0, 0, 0x22], [2, 0, 0, 0, 0, 0x11]));
        assert_eq!(problem(&mut targets, 2).as_deref(), Some("r0: no answer from 192.0.2.99"));
        assert_eq!(tables.target(2).unwrap().ready, 0);

        sh("ip link del r0");
        assert_eq!(problem(&mut targets, 1).as_deref(), Some("r0: no such interface"));
        assert_eq!(tables.target(1).unwrap().ready, 0);

        // A new daemon without targets clears what is left.
        Targets::new(Vec::new()).refresh(tables).unwrap();
        assert_eq!(tables.target(1).unwrap().fallback_pass, 0);
    });
}
