//! Properties: each is one function over bytes that panics where it does not hold.
//!
//! libFuzzer drives them (`../targets`; `cargo +nightly fuzz run json_in -- -rss_limit_mb=512
//! -timeout=5`), seeds and the saved corpus do (`tests/tombolo/properties.rs`).
//! To add one: `<name>.rs` here with `pub fn property(data: &[u8])`, its name twice below, and a
//! target with its `[[bin]]` in Cargo.toml. Known inputs go into `../corpus/<name>`.

pub mod generate;
pub mod json_in;
pub mod patch;

/// One test for each property.
#[cfg(test)]
macro_rules! drive {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            crate::properties::drive(stringify!($name), $name::property);
        })*
    };
}

#[cfg(test)]
drive!(json_in, patch);
