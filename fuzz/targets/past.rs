//! Drives `properties/past.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::past::property(data));
