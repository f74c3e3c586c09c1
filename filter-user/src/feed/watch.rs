//! Tells when files of orders change.

use std::path::PathBuf;

use tokio::sync::mpsc::Receiver;

use super::file::Which;

/// Watches as long as it lives.
#[derive(Debug)]
pub struct Watch {}

/// Watches files and folders. What arrives is ready for [`Files::sync`](super::file::Files::sync).
///
/// # Errors
/// Inotify is not available or its limits are reached.
pub fn watch(_paths: &[PathBuf]) -> notify::Result<(Watch, Receiver<Which>)> {
    todo!()
}
