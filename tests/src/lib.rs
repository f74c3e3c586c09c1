//! What the root-only tests and the demonstration share: packet builders, the filter under test, the same judgement
//! on the host, and the lab.

use std::io::Write;

pub mod harness;
pub mod host;
pub mod lab;
pub mod order;
pub mod packet;
pub mod xdp_pass;

/// Says that a test, or a part of it, is left out, and why: loudly, because libtest hides what `println!` says in a
/// test that passes. `cargo xtask test` counts these.
pub fn skipped(why: &str) {
    // Without standard output there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {why}");
}
