//! Verdict tables: one frame, one verdict, one counter, by BPF_PROG_TEST_RUN. Names begin with the case's id.

mod tls;
