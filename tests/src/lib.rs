//! What the root-only tests share: packet builders, the filter under test, and the same judgement on the host.

pub mod harness;
pub mod host;
pub mod order;
pub mod packet;
