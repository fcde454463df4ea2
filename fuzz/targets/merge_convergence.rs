//! Drives `properties/merge_convergence.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::merge_convergence::property(data));
