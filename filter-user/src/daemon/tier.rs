//! The deferred tier in the daemon.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

use crate::{
    deferred::{
        Limits,
        reader::{self, Turn, Watch},
        tier::Tier,
    },
    kernel::Kernel,
};

/// Starts its thread.
///
/// # Errors
/// If the kernel's rings cannot be opened.
pub(super) fn start(kernel: &Kernel) -> Result<(Arc<Watch>, JoinHandle<()>)> {
    let mut copies = kernel.copies().context("the deferred tier")?;
    let tables = kernel.share_tables();
    let watch = Arc::new(Watch::default());
    let shared = Arc::clone(&watch);
    let thread = thread::Builder::new().name("tier".into()).spawn(move || {
        reader::run(&mut copies, &tables, &shared, || {
            let mut tier = Tier::new(Limits::default());
            let (tables, counts) = (&*tables, &shared.counts);
            move |turn| match turn {
                Turn::Copy(copy) => tier.read(copy, tables, counts).map(drop),
                Turn::Ends => tier.write(tables, counts),
            }
        });
    })?;
    Ok((watch, thread))
}
