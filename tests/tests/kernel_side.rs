//! The kernel side against the real kernel: pins, attaching, tables, redirect targets.

#[path = "kernel_side/attach.rs"]
mod attach;
#[path = "kernel_side/bench.rs"]
mod bench;
#[path = "kernel_side/churn.rs"]
mod churn;
#[path = "kernel_side/nodes.rs"]
mod nodes;
#[path = "kernel_side/pins.rs"]
mod pins;
#[path = "kernel_side/redirect.rs"]
mod redirect;
#[path = "kernel_side/support.rs"]
mod support;
#[path = "kernel_side/tables.rs"]
mod tables;
