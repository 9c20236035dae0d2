//! How long requests took, as the figure that so many of a hundred are within.

use std::time::Duration;

/// Of requests that were made under the same conditions.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a hundred are within: fewer than all.
    pub(crate) fn at(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        self.0[self.0.len() * percent / 100]
    }
}
