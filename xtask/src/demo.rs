//! `cargo xtask demo`: builds everything and starts the demonstration, which is a program of the tests' package.

use anyhow::Result;

use crate::{debian, setup, sh};

pub fn run() -> Result<()> {
    setup::run(false)?;
    debian::install(&[debian::LAB])?;
    show()
}

/// Shows it on a machine that is set up. Fails where a client meets something else than what is ordered.
pub fn show() -> Result<()> {
    sh::run(&mut sh::cargo(["build", "--package", "filter-user"]))?;
    // The QUIC client and server of the lab.
    sh::run(&mut sh::cargo(["build", "--quiet", "--package", "cordon-tests", "--bin", "quic"]))?;
    let mut demo = sh::cargo(["run", "--quiet", "--package", "cordon-tests", "--bin", "demo"]);
    sh::run_built_as_root(&mut demo, &[])?;
    sh::run(&mut demo)
}
