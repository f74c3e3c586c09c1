//! `cargo xtask fuzz frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::frame::run(data));
