//! `cargo xtask fuzz dns`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::dns::run(data));
