//! Drives `properties/store_model.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::store_model::property(data));
