//! Control of the daemon: HTTP and JSON over a Unix socket, so that `curl --unix-socket` works.
//!
//! Trust: who may open the socket (mode 0660) may end enforcement. What arrives is still checked like a feed's file.

pub mod api;
pub mod client;
mod metrics;
pub mod server;
