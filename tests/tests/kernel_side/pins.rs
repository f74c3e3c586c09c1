//! Loading on top of what is pinned.

use std::{fs, os::unix::fs::MetadataExt as _};

use filter_common::layout::{LAYOUT_VERSION, map};
use filter_user::kernel::{Capacity, Error, Kernel, Reading, Tables};

use crate::support::{CAPACITY, NOT_IP, PinRoot};

#[test]
fn everything_is_pinned_and_taken_up_again() {
    let root = PinRoot::new();
    let first = root.open();
    let folder = root.layout(LAYOUT_VERSION);
    let mut pinned: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected: Vec<_> = map::PINNED.iter().map(ToString::to_string).collect();
    expected.push("program".into());
    pinned.sort();
    expected.sort();
    assert_eq!(pinned, expected);

    assert_eq!(first.run(&NOT_IP, 3).unwrap().xdp_action, 2);
    let counted = first.tables().counters().unwrap();
    assert_eq!(counted.iter().map(|(_, counter)| counter.packets).sum::<u64>(), 3);
    assert_eq!(counted.iter().map(|(_, counter)| counter.bytes).sum::<u64>(), 192);
    let program = inode(&folder.join("program"));
    let names = inode(&folder.join(map::NAMES));
    drop(first);

    let second = root.open();
    assert_eq!(second.tables().counters().unwrap(), counted);
    assert_ne!(inode(&folder.join("program")), program);
    assert_eq!(inode(&folder.join(map::NAMES)), names);
    assert_eq!(Tables::open(root.path()).unwrap().counters().unwrap(), counted);
}

fn inode(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn pinned_sizes_stay_in_force() {
    let root = PinRoot::new();
    assert_eq!(root.open().tables().capacity(), CAPACITY);
    let more = Capacity { names: 2 * CAPACITY.names, ..CAPACITY };
    assert_eq!(Kernel::open(root.path(), &more).unwrap().tables().capacity(), CAPACITY);
}

#[test]
fn a_map_of_another_shape_is_refused_with_both_figures() {
    let root = PinRoot::new();
    drop(root.open());
    let folder = root.layout(LAYOUT_VERSION);
    fs::rename(folder.join(map::ORDERS), folder.join(map::POLICIES)).unwrap();
    let error = Kernel::open(root.path(), &CAPACITY).unwrap_err();
    let expected = format!(
        "{}/POLICIES: value size is 120, but this program needs 64; another version pinned it",
        folder.display()
    );
    assert_eq!(error.to_string(), expected.replace("120", &size_of::<filter_common::layout::Order>().to_string()));
    assert!(matches!(error, Error::Shape { .. }));
}

#[test]
fn without_pins_there_are_no_tables_to_open() {
    let root = PinRoot::new();
    assert!(matches!(Tables::open(root.path()), Err(Error::Missing(_))));
    assert!(!root.path().exists());
}

#[test]
fn without_a_pin_root_nothing_is_pinned_and_nothing_attached() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    kernel.tables().set_ports(&Reading::default());
    let attached = kernel.attach("lo", filter_user::kernel::Mode::Generic, false);
    assert!(matches!(attached, Err(Error::Missing(_))));
}

#[test]
fn the_program_tells_its_verified_instructions() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    let programs: Vec<_> = kernel.programs().collect();
    let [program] = programs[..] else { panic!("{programs:?}") };
    assert_eq!(program.name, "cordon");
    assert!((1..200_000).contains(&program.verified_instructions), "{program:?}");
}

#[test]
fn frames_of_every_size_run() {
    let kernel = Kernel::ephemeral(&CAPACITY).unwrap();
    for length in [14, 60, 1514, 3000, 9014, 16_000] {
        let frame = vec![0x88; length];
        let outcome = kernel.run(&frame, 1).unwrap();
        assert_eq!((outcome.xdp_action, outcome.data_out), (2, frame), "{length}");
    }
    assert_eq!(
        kernel.run(&[0x88; 13], 1).unwrap_err().to_string(),
        "running a frame of 13 octets through the program: Invalid argument (os error 22)"
    );
}
