//! What the root-only tests and the demonstration share: packet builders, the filter under test, the same judgement
//! on the host, and the lab.

use std::io::Write;

pub mod bpffs;
pub mod corpus;
pub mod cpu;
pub mod harness;
pub mod host;
pub mod lab;
pub mod order;
pub mod packet;
pub mod primary;
pub mod tiered;
pub mod xdp_pass;

/// Says that a test, or a part of it, is left out, and why: loudly, because libtest hides what `println!` says in a
/// test that passes. `cargo xtask test` counts these.
pub fn skipped(why: &str) {
    // Without standard output there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {why}");
}

/// Whether this is a machine without network tools and drivers (`CORDON_BARE`, as `cargo xtask vm` sets it): then a test
/// that needs them is left out.
pub fn bare(test: &str) -> bool {
    let bare = std::env::var_os("CORDON_BARE").is_some();
    if bare {
        skipped(&format!("{test}: needs `ip` and veth, which this machine has not"));
    }
    bare
}

/// How many cases a long test goes through: a million with `CORDON_TEST_FULL`, else what `CORDON_CASES` says, else this.
pub fn cases(by_default: u32) -> u32 {
    if std::env::var_os("CORDON_TEST_FULL").is_some() {
        return 1_000_000;
    }
    let Some(cases) = std::env::var_os("CORDON_CASES") else { return by_default };
    cases.to_str().and_then(|cases| cases.parse().ok()).expect("CORDON_CASES is a number")
}
