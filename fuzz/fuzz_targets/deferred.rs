//! `cargo xtask fuzz deferred`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::deferred::run(data));
