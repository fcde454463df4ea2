//! Drives `properties/standing.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::standing::property(data));
