//! Drives `properties/gate.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::gate::property(data));
