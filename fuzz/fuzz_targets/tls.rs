//! `cargo xtask fuzz tls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::tls::run(data));
