//! Drives `properties/patch.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::patch::property(data));
