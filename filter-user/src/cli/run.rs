//! `cordon run`.

use std::{io, process::ExitCode};

use anyhow::Result;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::Global;
use crate::daemon;

pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let config = global.config()?;
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    // The journal has times of its own.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_terminal);
    if is_terminal {
        log.init()
    } else {
        log.without_time().init()
    }
    daemon::run(global.file(), config)?;
    Ok(ExitCode::SUCCESS)
}
