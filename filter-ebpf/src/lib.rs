//! The XDP program, for all entry points.
//!
//! A packet goes from [`filter`] (which protocol is it?) through [`dns`] or [`tcp`] and [`tls`] (which name?), [`sieve`]
//! (can any rule be meant?), [`lookup`] (which rule?) and [`choose`] (which order?) to [`act`] (what becomes of it?), and
//! each ends in one reason, which is counted. What must be known of earlier packets of a connection is in [`flow`]; hellos over several segments are read
//! in [`hello`].
#![no_std]
// The verifier needs some registers masked where LLVM sees that they are in bounds already.
#![feature(asm_experimental_arch)]
#![expect(clippy::needless_borrows_for_generic_args, reason = "a key by value goes over the stack once more")]
#![expect(clippy::not_unsafe_ptr_arg_deref, reason = "a seam's context is the program's, which only the helpers read")]

pub mod act;
pub mod choose;
pub mod clock;
pub mod dns;
pub mod event;
pub mod filter;
pub mod flow;
pub mod hello;
pub mod lookup;
pub mod maps;
pub mod packet;
pub mod plain;
pub mod quic;
pub mod seam;
pub mod sieve;
pub mod tcp;
pub mod tier;
pub mod tls;

/// There is no way to panic in BPF: the build fails if this is linked in.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
