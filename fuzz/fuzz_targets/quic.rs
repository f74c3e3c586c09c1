//! `cargo xtask fuzz quic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon_fuzz::quic::run(data));
