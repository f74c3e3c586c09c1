//! Verdict tables: one frame, one verdict, one counter, by BPF_PROG_TEST_RUN. Names begin with the case's id.

mod actions;
mod agreement;
mod answers;
mod dns;
mod frames;
mod hidden;
mod initials;
mod judgments;
mod lengths;
mod orders;
mod overblocking;
mod quic;
mod redirect;
mod split;
mod tier;
mod tls;
mod tunnels;
mod verifier;
