//! `cargo xtask bench`: builds for release and measures what Cordon costs.

use anyhow::Result;

use crate::{setup, sh};

pub fn run(quick: bool) -> Result<()> {
    setup::run(false)?;
    sh::run(&mut sh::cargo(["build", "--release", "--package", "filter-user"]))?;
    let mut bench = sh::cargo(["run", "--release", "--package", "cordon-tests", "--bin", "bench"]);
    if quick {
        bench.args(["--", "--quick"]);
    }
    sh::run_built_as_root(&mut bench, &[])?;
    sh::run(&mut bench)
}
