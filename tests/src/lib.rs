//! What the root-only tests and the demonstration share.

pub mod lab;
