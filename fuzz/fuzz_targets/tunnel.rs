//! `cargo xtask fuzz tunnel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::tunnel::run(data));
