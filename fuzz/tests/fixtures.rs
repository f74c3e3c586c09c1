//! What fuzzing once found, again, and each target on octets that are not special.

use std::{fs, path::Path};

use cordon_fuzz::TARGETS;

#[test]
fn fixtures_of_every_target() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            run(&fs::read(path).expect("a fixture"));
        }
    }
}

#[test]
fn every_fixture_is_described() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let index = fs::read_to_string(folder.join("README.md")).expect("the index");
    for (target, _) in TARGETS {
        let Ok(entries) = fs::read_dir(folder.join(target)) else { continue };
        for entry in entries {
            let line = format!("`{target}/{}`", entry.expect("an entry").file_name().display());
            assert!(index.contains(&line), "{line} has no line in fixtures/README.md");
        }
    }
}

#[test]
fn octets_at_random() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (_, run) in TARGETS {
        for len in 0..2000 {
            let octets: Vec<u8> = (0..len).map(|_| next() as u8).collect();
            run(&octets);
        }
    }
}
