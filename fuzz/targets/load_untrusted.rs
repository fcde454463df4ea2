//! Drives `properties/load_untrusted.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::load_untrusted::property(data));
