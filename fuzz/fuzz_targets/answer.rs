//! `cargo xtask fuzz answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::answer::run(data));
