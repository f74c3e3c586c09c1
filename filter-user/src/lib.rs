//! Cordon's daemon and command line: from orders to kernel tables, and back to what was done and why.

pub mod book;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod deferred;
pub mod feed;
pub mod guard;
pub mod kernel;
mod many;
pub mod name;
pub mod observe;
pub mod order;
pub mod policy;
pub mod replay;
pub mod report;
