//! Learning rates by update, counted from 1: the recommender's inverse square root and DIN's exponential decay, both
//! after a linear warm-up.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The recommender's schedule (`train_rec.py`): for update `u` of a warm-up of `w`,
/// `start + (rate - start)·u/w` while `u ≤ w`, then `rate·√(w/u)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InverseSqrt {
    /// Rate that the warm-up starts from. Official code: 1e-7.
    pub start: f64,
    /// Rate at the end of the warm-up, the highest. Official code: 1e-3.
    pub rate: f64,
    /// Updates of the warm-up; 0 is as 1. Official code: 2,000.
    pub warmup: u64,
}

impl Default for InverseSqrt {
    fn default() -> Self {
        Self {
            start: 1e-7,
            rate: 1e-3,
            warmup: 2_000,
        }
    }
}

impl InverseSqrt {
    /// The rate of update `update`, the first of which is 1.
    #[must_use]
    pub fn at(&self, update: u64) -> f64 {
        let (update, warmup) = (update.max(1) as f64, self.warmup.max(1) as f64);
        if update <= warmup {
            self.start + (self.rate - self.start) * update / warmup
        } else {
            self.rate * (warmup / update).sqrt()
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        positive("rate", self.rate)?;
        ensure!(
            self.start >= 0.0 && self.start <= self.rate,
            "schedule: `start` is {}; use 0 to `rate` ({})",
            self.start,
            self.rate
        );
        Ok(())
    }
}

/// DIN's schedule (`DIN_trainer.py`): `rate·u/w` while `u ≤ w`, then `rate·½^((u - w)/half_life)`, never below `floor`
/// after the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupExponential {
    /// Rate at the end of the warm-up, the highest. Official code: 1e-3.
    pub rate: f64,
    /// Updates of the warm-up; 0 for none. Official code: 5,000. Ours is about an epoch of Amazon Beauty; validation
    /// recall is then highest after four epochs.
    pub warmup: u64,
    /// Updates in which the rate halves. Official code: 10,397 (a factor e in three warm-ups).
    pub half_life: f64,
    /// Lowest rate of the decay. Official code: 1e-6.
    pub floor: f64,
}

impl Default for WarmupExponential {
    fn default() -> Self {
        Self {
            rate: 1e-3,
            warmup: 1_000,
            half_life: 3_000.0,
            floor: 1e-6,
        }
    }
}

impl WarmupExponential {
    /// The rate of update `update`, the first of which is 1.
    #[must_use]
    pub fn at(&self, update: u64) -> f64 {
        let update = update.max(1);
        if update <= self.warmup {
            self.rate * update as f64 / self.warmup as f64
        } else {
            let halvings = (update - self.warmup) as f64 / self.half_life;
            (self.rate * 0.5f64.powf(halvings)).max(self.floor)
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        positive("rate", self.rate)?;
        positive("half_life", self.half_life)?;
        ensure!(
            self.floor >= 0.0 && self.floor <= self.rate,
            "schedule: `floor` is {}; use 0 to `rate` ({})",
            self.floor,
            self.rate
        );
        Ok(())
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    ensure!(
        value > 0.0 && value.is_finite(),
        "schedule: `{name}` is {value}; use a number above 0"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got}, not {want}");
    }

    #[test]
    fn inverse_square_root_by_hand() {
        let s = InverseSqrt::default();
        close(s.at(1), 5.9995e-7);
        close(s.at(1_000), 5.0005e-4);
        close(s.at(2_000), 1e-3);
        close(s.at(8_000), 5e-4);
        close(s.at(200_000), 1e-4);
        close(InverseSqrt { warmup: 0, ..s }.at(4), 5e-4);
    }

    #[test]
    fn exponential_decay_by_hand() {
        let s = WarmupExponential {
            rate: 0.8,
            warmup: 4,
            half_life: 2.0,
            floor: 0.3,
        };
        for (update, want) in [(1, 0.2), (2, 0.4), (4, 0.8), (6, 0.4), (8, 0.3), (99, 0.3)] {
            close(s.at(update), want);
        }
        close(s.at(5), 0.8 * 0.5f64.sqrt());
        close(WarmupExponential { warmup: 0, ..s }.at(2), 0.4);
    }

    #[test]
    fn nonsense_is_named() {
        let message = |r: Result<()>| r.unwrap_err().to_string();
        let s = InverseSqrt {
            start: 1.0,
            ..Default::default()
        };
        assert!(message(s.validate()).contains("`start` is 1"));
        let s = WarmupExponential {
            half_life: 0.0,
            ..Default::default()
        };
        assert!(message(s.validate()).contains("`half_life` is 0"));
        assert!(InverseSqrt::default().validate().is_ok());
        assert!(WarmupExponential::default().validate().is_ok());
        assert!(serde_json::from_str::<InverseSqrt>(r#"{"warm": 3}"#).is_err());
    }
}
