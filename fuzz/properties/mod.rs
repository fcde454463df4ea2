//! Properties: each is one function over bytes that panics where it does not hold.
//!
//! libFuzzer drives them (`../targets`; `cargo +nightly fuzz run json_in -- -rss_limit_mb=512
//! -timeout=5`), seeds and the saved corpus do (`tests/tombolo/properties.rs`).
//! To add one: `<name>.rs` here with `pub fn property(data: &[u8])`, its name twice below, and a
//! target with its `[[bin]]` in Cargo.toml. Inputs worth keeping go into `../corpus/<name>`, named for
//! what they show.

pub mod automerge_repo;
pub mod forge;
pub mod gate;
pub mod generate;
#[cfg(not(test))]
pub mod guarded;
pub mod json_in;
pub mod key_codec;
pub mod load_untrusted;
pub mod merge_convergence;
pub mod past;
pub mod patch;
pub mod put_at_version;
pub mod sketch_decode;
pub mod standing;
pub mod store_model;

/// One test for each property, with so many seeds: a second or two in all.
#[cfg(test)]
macro_rules! drive {
    ($($name:ident: $seeds:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            crate::properties::drive(stringify!($name), $seeds, $name::property);
        })*
    };
}

#[cfg(test)]
drive!(
    automerge_repo: 2_000,
    gate: 1_000,
    json_in: 10_000,
    key_codec: 10_000,
    load_untrusted: 1_000,
    merge_convergence: 1_500,
    past: 1_500,
    patch: 10_000,
    put_at_version: 1_500,
    sketch_decode: 3_000,
    standing: 1_500,
    store_model: 300,
);
