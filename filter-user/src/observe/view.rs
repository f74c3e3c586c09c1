//! The kernel's tables as the host-side evaluation reads them.

use filter_common::layout::{Node, Order, Policy};

use crate::{kernel::Tables, name::Name, policy::image};

/// The kernel's tables. What cannot be read is as if it were not there.
#[derive(Clone, Copy, Debug)]
pub struct KernelView<'a>(pub &'a Tables);

impl image::Tables for KernelView<'_> {
    fn depths(&self) -> [u64; 2] {
        self.0.settings().map_or([0; 2], |settings| settings.depths)
    }

    fn node(&self, name: &Name) -> Option<Node> {
        self.0.node(name)
    }

    fn policy(&self, slot: u32) -> Option<Policy> {
        self.0.policy(slot).ok()
    }

    fn order(&self, slot: u32) -> Option<Order> {
        self.0.order(slot).ok()
    }
}
