//! BPF_PROG_TEST_RUN.

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
