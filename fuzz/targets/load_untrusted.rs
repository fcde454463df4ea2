//! Drives `properties/load_untrusted.rs`.
#![no_main]
use properties::{guarded, load_untrusted};
libfuzzer_sys::fuzz_target!(
    init: guarded::expect_panics(),
    |data: &[u8]| guarded::hold(load_untrusted::property, data)
);
