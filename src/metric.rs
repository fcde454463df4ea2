//! Counters, gauges and histograms: what the parts of a node count of themselves. Pure.
//!
//! Each is a few atomic numbers: no lock, no allocation after it was made, and any thread may move
//! it. Readers see each number as it is; numbers that were moved together may be seen apart.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds of times in nanoseconds: 50 µs to 10 s, about three in each decade.
pub const TIMES_NS: &[u64] = &[
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Bounds of counts: the powers of two up to 16,384.
pub const POWERS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384];

/// What only grows. Wraps around after 2^64.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds so many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What goes up and down, and not below zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Is this now. For gauges that one thread alone moves.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less, of those that [`Gauge::increment`] added.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it is. A decrement that is seen before its increment counts as none.
    pub fn value(&self) -> u64 {
        let value = self.0.load(Ordering::Relaxed);
        if value <= u64::MAX / 2 { value } else { 0 }
    }
}

/// How often values were as small as each of a few bounds, and what they add up to.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// Values in each bucket alone; the last holds what is over all bounds.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Each bound with the number of values that were not over it, ascending in both.
    pub buckets: Vec<(u64, u64)>,
    /// How many values there were; never less than in the last bucket.
    pub count: u64,
    /// Their sum, in the unit of the bounds; wraps around after 2^64.
    pub sum: u64,
}

impl Histogram {
    /// Nothing yet. The bounds ascend; their unit is that of the values.
    pub fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts a value in.
    pub fn observe(&self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What it holds.
    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let mut running = self.buckets.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let bounds = self.bounds.iter().copied();
        let buckets = bounds.zip(running.by_ref()).collect();
        // What is left is the bucket over all bounds.
        running.for_each(drop);
        Distribution { buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Distribution {
    /// Both together. They are read from histograms of the same bounds; without those, only count
    /// and sum are right.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for ((_, mine), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += more;
        }
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// What a histogram should say of these values, by the definition.
    fn expected(bounds: &[u64], values: &[u64]) -> Distribution {
        let within = |bound: u64| values.iter().filter(|value| **value <= bound).count() as u64;
        Distribution {
            buckets: bounds.iter().map(|bound| (*bound, within(*bound))).collect(),
            count: values.len() as u64,
            sum: values.iter().fold(0, |sum, value| sum.wrapping_add(*value)),
        }
    }

    #[test]
    fn a_histogram_holds_what_its_definition_says() {
        let mut random = fastrand::Rng::with_seed(7);
        for bounds in [TIMES_NS, POWERS, &[], &[0], &[5, u64::MAX]] {
            for _ in 0..200 {
                let near = |random: &mut fastrand::Rng| {
                    let bound = random.choice(bounds).copied().unwrap_or(1);
                    bound.saturating_add(random.u64(0..3)).saturating_sub(1)
                };
                let values: Vec<u64> = (0..random.usize(0..50))
                    .map(|_| if random.bool() { near(&mut random) } else { random.u64(..) })
                    .collect();
                let histogram = Histogram::new(bounds);
                values.iter().for_each(|value| histogram.observe(*value));
                assert_eq!(histogram.read(), expected(bounds, &values), "{values:?}");
                let (some, rest) = values.split_at(values.len() / 3);
                let parts = expected(bounds, some).and(&expected(bounds, rest));
                assert_eq!(histogram.read(), parts);
            }
        }
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [TIMES_NS, POWERS] {
            assert!(bounds.is_sorted_by(|less, more| less < more));
        }
        assert_eq!((TIMES_NS[0], TIMES_NS[16]), (50_000, 10_000_000_000));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        let histogram = Histogram::new(POWERS);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for value in 0..1000 {
                        counter.increment();
                        gauge.increment();
                        histogram.observe(value);
                        gauge.decrement();
                    }
                    counter.add(10);
                    gauge.increment();
                });
            }
        });
        assert_eq!((counter.value(), gauge.value()), (4040, 4));
        let Distribution { count, sum, .. } = histogram.read();
        assert_eq!((count, sum), (4000, 4 * 499_500));
    }

    #[test]
    fn a_gauge_is_never_below_zero() {
        let gauge = Gauge::default();
        gauge.decrement();
        assert_eq!(gauge.value(), 0);
        gauge.increment();
        gauge.increment();
        assert_eq!(gauge.value(), 1);
        gauge.set(7);
        assert_eq!(gauge.value(), 7);
    }
}
