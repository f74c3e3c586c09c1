//! What the root-only tests and the demonstration share: packet builders, the filter under test, the same judgement
//! on the host, and the lab.

pub mod foreign;
pub mod harness;
pub mod host;
pub mod lab;
pub mod order;
pub mod packet;
