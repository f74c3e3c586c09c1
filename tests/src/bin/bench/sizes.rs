//! The same packets beside lists of other lengths.

use anyhow::Result;

use crate::{Run, load::Ready, packets, report::Report};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    for names in run.size.lists {
        let ready = Ready::new(run, *names)?;
        let mut copies = ready.bench.copies()?;
        packets::kinds(&ready, &mut copies, &run.size, report)?;
    }
    Ok(())
}
