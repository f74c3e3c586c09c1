//! BPF_PROG_TEST_RUN.

use std::os::fd::BorrowedFd;

use super::{error::Error, sys};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// XDP action code: 0 aborted, 1 drop, 2 pass, 3 tx, 4 redirect.
    pub xdp_action: u32,
    /// The frame afterwards.
    pub data_out: Vec<u8>,
    /// Mean of all runs.
    pub ns_per_run: u32,
}

/// Runs the program on a frame.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<RunOutcome, Error> {
    let mut data_out = vec![0; frame.len() + GROWTH];
    let (xdp_action, ns_per_run, length) = sys::test_run(program, frame, &mut data_out, repeat)
        .map_err(Error::system(format!("running a frame of {} octets through the program", frame.len())))?;
    data_out.truncate(length);
    Ok(RunOutcome { xdp_action, data_out, ns_per_run })
}

/// More than an answer can be longer than its query.
const GROWTH: usize = 512;
