//! RCU grace periods: to wait until every run of the program that goes on now has come to its end.
//!
//! A write by bpf(2) to a map of maps returns only after one (`maybe_wait_bpf_programs` of kernel/bpf/syscall.c calls
//! `synchronize_rcu`; Linux 5.0, commit 1ae80cf31938), so a small map of maps is made for nothing else. membarrier(2)
//! would do as well, but refuses where CPUs run without ticks (`nohz_full`), and returns at once where one CPU is online,
//! on which a run may yet have been preempted.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use super::{error::Error, sys};

/// Who can wait for them.
#[derive(Debug)]
pub struct GracePeriods {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriods {
    /// Makes the map.
    pub fn new() -> Result<Self, Error> {
        let make = || {
            let inner = sys::create_array()?;
            Ok(Self { outer: sys::create_array_of_maps(inner.as_fd())?, inner })
        };
        make().map_err(Error::system("making a map of maps"))
    }

    /// Waits until every run that has begun has ended.
    ///
    /// # Errors
    /// If the kernel does not wait. Then nothing may be done that a run must not see.
    pub fn wait(&self) -> Result<(), Error> {
        let inner = self.inner.as_raw_fd() as u32;
        sys::update(self.outer.as_fd(), &0_u32, &[inner]).map_err(Error::system("waiting for an RCU grace period"))
    }
}
