//! Everything that can be decided without a kernel: the packet parsers, the canonical form and the keyed hash of
//! names, the choice of a verdict, and the layout of the maps.
//!
//! The XDP program and the host run this same code: what the host tests and fuzzes is what enforces. A parser is
//! state plus a step; the caller owns the loop, because the kernel's loop is `bpf_loop`.
#![no_std]
#![forbid(unsafe_code)]

pub mod answer;
pub mod bytes;
pub mod dns;
pub mod edns;
pub mod filter;
pub mod flow;
pub mod frame;
pub mod layout;
pub mod name;
pub mod quic;
pub mod resolver;
pub mod sieve;
pub mod stream;
pub mod tls;
pub mod traffic;
pub mod verdict;
pub mod walk;
