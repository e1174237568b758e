//! Losses and speed of the training loop.

use std::time::{Duration, Instant};

/// Sums up losses and time between two lines of the log, and examples over all.
pub(super) struct Meter {
    losses: f64,
    updates: u64,
    examples: usize,
    since: Instant,
    all_examples: usize,
    all_time: Duration,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            losses: 0.0,
            updates: 0,
            examples: 0,
            since: Instant::now(),
            all_examples: 0,
            all_time: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, loss: f64, examples: usize) {
        self.losses += loss;
        self.updates += 1;
        self.examples += examples;
    }

    /// Leaves out time that no update took.
    pub(super) fn pause(&mut self, time: Duration) {
        self.since += time;
    }

    /// Mean loss, examples and examples a second since the last line.
    pub(super) fn line(&mut self) -> (f64, usize, f64) {
        let time = self.since.elapsed();
        let line = (
            self.losses / self.updates.max(1) as f64,
            self.examples,
            self.examples as f64 / time.as_secs_f64().max(1e-9),
        );
        self.all_examples += self.examples;
        self.all_time += time;
        (self.losses, self.updates, self.examples) = (0.0, 0, 0);
        self.since = Instant::now();
        line
    }

    /// Examples a second over all; 0 if there was none.
    pub(super) fn overall(mut self) -> f64 {
        self.line();
        self.all_examples as f64 / self.all_time.as_secs_f64().max(1e-9)
    }
}
