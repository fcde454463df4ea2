//! Drives `properties/gate.rs`.
#![no_main]
use properties::{gate, guarded};
libfuzzer_sys::fuzz_target!(
    init: guarded::expect_panics(),
    |data: &[u8]| guarded::hold(gate::property, data)
);
