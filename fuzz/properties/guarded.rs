//! Properties of code that catches panics, under libFuzzer, which ends at the first panic anywhere.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    sync::Mutex,
};

/// What the last panic said.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Takes the place of libFuzzer's hook: panics are remembered, and nothing else.
pub fn expect_panics() {
    set_hook(Box::new(|info| *LAST.lock().unwrap() = info.to_string()));
}

/// Ends the process if the property does not hold.
pub fn hold(property: fn(&[u8]), data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| property(data))).is_err() {
        eprintln!("{}", LAST.lock().unwrap());
        std::process::abort();
    }
}
