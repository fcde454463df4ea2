//! Drives `properties/sketch_decode.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::sketch_decode::property(data));
