//! The filter on the border host, by itself: its program goes on and off the interface like the others.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cordon_tests::lab::Lab;
use filter_common::layout::LAYOUT_VERSION;
use filter_user::kernel::{Behaviour, Capacity, Kernel};

use crate::load;

/// The filter's program with an order in force. Without the daemon: what is measured are packets that need none.
pub struct Cordon {
    _kernel: Kernel,
    /// Where the program is pinned.
    pub program: PathBuf,
}

impl Cordon {
    /// Loads the program, and this file with the order. It behaves as by default, but that it answers every query.
    pub fn new(lab: &Lab, name: &str, orders: &Path, capacity: &Capacity) -> Result<Self> {
        let pins = lab.bpffs().join(name);
        let kernel = Kernel::open(&pins, capacity)?;
        load::prepare(kernel.tables())?;
        kernel.tables().set_behaviour(&Behaviour { answers_per_second: u32::MAX, ..Behaviour::default() })?;
        let mut compiler = load::compiler(kernel.tables())?;
        load::take(orders, &mut compiler, kernel.tables())?;
        Ok(Self { program: pins.join(format!("v{LAYOUT_VERSION}/program")), _kernel: kernel })
    }
}
