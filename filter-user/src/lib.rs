//! Cordon's daemon and command line: from orders to kernel tables, and back to what was done and why.

pub mod kernel;
pub mod name;
pub mod order;
pub mod policy;
