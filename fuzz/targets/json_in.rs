//! Drives `properties/json_in.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::json_in::property(data));
