//! Drives `properties/key_codec.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::key_codec::property(data));
