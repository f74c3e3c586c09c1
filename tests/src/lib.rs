//! What the root-only tests and the demonstration share.

pub mod foreign;
pub mod lab;
