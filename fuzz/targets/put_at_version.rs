//! Drives `properties/put_at_version.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::put_at_version::property(data));
