//! Calibration: whether an item that is predicted with probability p is the target in a share p of the cases (reliability
//! diagrams, DeGroot and Fienberg 1983).

use serde::{Deserialize, Serialize};

use super::{Interval, Rank};

/// Items that were predicted with about the same probability.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    /// Lowest probability of the bin, a power of 1/2; the highest is twice that, and not in it unless it is 1.
    pub low: f64,
    /// Items in the bin.
    pub items: u64,
    /// Mean of their predicted probabilities.
    pub confidence: f64,
    /// Those of them that were the target.
    pub hits: u64,
}

impl ReliabilityBin {
    /// Share of the items that were the target.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.items as f64
    }
}

/// Bins of width one octave, ascending, without empty ones; the lowest one, of 2⁻²⁰, takes all that is below it too.
///
/// `log_probs` `[users, top]` are natural logarithms of the probabilities of each user's first `top` items, best first, −∞
/// where a list is shorter; `ranks` `[users]` are the target's places in those lists.
#[must_use]
pub fn reliability(log_probs: &[f32], ranks: &[Rank]) -> Vec<ReliabilityBin> {
    const BINS: usize = 21;
    let mut bins: Vec<ReliabilityBin> = (0..BINS)
        .map(|octave| ReliabilityBin {
            low: 0.5f64.powi(octave as i32),
            items: 0,
            confidence: 0.0,
            hits: 0,
        })
        .collect();
    let top = log_probs.len() / ranks.len().max(1);
    for (log_probs, &rank) in log_probs.chunks_exact(top.max(1)).zip(ranks) {
        for (place, &log_prob) in (1..).zip(log_probs) {
            if log_prob == f32::NEG_INFINITY {
                continue;
            }
            // A probability of 1 may come out a little above it.
            let confidence = f64::from(log_prob).exp().min(1.0);
            let octave = (-confidence.log2()).ceil().min((BINS - 1) as f64) as usize;
            // 1 itself belongs to the bin of 1/2 to 1.
            let bin = &mut bins[octave.max(1)];
            bin.items += 1;
            bin.confidence += confidence;
            bin.hits += u64::from(rank == Some(place));
        }
    }
    bins.retain(|bin| bin.items > 0);
    bins.reverse();
    for bin in &mut bins {
        bin.confidence /= bin.items as f64;
    }
    bins
}

/// Wilson's 95 % interval of a share of which `hits` of `n` were seen (Wilson 1927); the whole range where `n` is 0.
#[must_use]
pub fn wilson(hits: u64, n: u64) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return Interval {
            low: 0.0,
            high: 1.0,
        };
    }
    let n = n as f64;
    let share = hits as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Interval {
        low: ((centre - half) / scale).max(0.0),
        high: ((centre + half) / scale).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_fall_into_octaves_and_targets_count_as_hits() {
        let ln = |p: f64| p.ln() as f32;
        let none = f32::NEG_INFINITY;
        let log_probs = [
            // The first user's target is its second item, the second's is in no list.
            ln(0.6),
            ln(0.3),
            ln(0.05),
            1e-7,
            ln(1e-9),
            none,
        ];
        let bins = reliability(&log_probs, &[Some(2), None]);
        let found: Vec<_> = bins.iter().map(|b| (b.low, b.items, b.hits)).collect();
        assert_eq!(
            found,
            [
                (0.5f64.powi(20), 1, 0),
                (0.03125, 1, 0),
                (0.25, 1, 1),
                (0.5, 2, 0)
            ]
        );
        assert!((bins[3].confidence - 0.8).abs() < 1e-6 && bins[2].hit_rate() == 1.0);
        assert!(reliability(&[], &[]).is_empty());
    }

    /// Worked example of Newcombe (1998), table I: 81 of 263.
    #[test]
    fn wilsons_interval() {
        let interval = wilson(81, 263);
        assert!((interval.low - 0.2553).abs() < 5e-5 && (interval.high - 0.3662).abs() < 5e-5);
        assert_eq!(wilson(0, 0).high, 1.0);
        assert!(wilson(0, 10).low < 1e-12 && wilson(10, 10).high > 1.0 - 1e-12);
    }
}
