//! The store's properties, on seeds. To be driven by the general driver once there is one.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "properties are tests, shared with fuzzers"
)]

#[path = "../fuzz/properties/key_codec.rs"]
mod key_codec;
#[path = "../fuzz/properties/store_model.rs"]
mod store_model;

/// Runs a property on the data of some seeds; a failure names its seed.
fn on_seeds(property: fn(&[u8]), seeds: u64, bytes_max: usize) {
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let data: Vec<u8> = (0..random.usize(..bytes_max)).map(|_| random.u8(..)).collect();
        if std::panic::catch_unwind(|| property(&data)).is_err() {
            unreachable!("the property does not hold for seed {seed}");
        }
    }
}

#[test]
fn key_codec() {
    on_seeds(key_codec::property, 20_000, 400);
}

#[test]
fn store_model() {
    on_seeds(store_model::property, 400, 2_000);
}
