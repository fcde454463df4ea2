//! Drives `properties/automerge_repo.rs`.
#![no_main]
use properties::{automerge_repo, guarded};
libfuzzer_sys::fuzz_target!(
    init: guarded::expect_panics(),
    |data: &[u8]| guarded::hold(automerge_repo::property, data)
);
