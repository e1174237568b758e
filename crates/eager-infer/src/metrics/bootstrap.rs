//! Percentile bootstrap over users (Efron 1979): how far a figure would move had other users of the same kind come.
//!
//! A resample draws as many users as there are, with replacement, each resample from its own stream of the seed: the
//! intervals do not depend on the number of threads.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Metrics, MetricsError, Rank, Result, check, gains};

/// Percentile interval of a figure.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// First less second, over the same users, with its percentile interval. It is significant at the interval's level where
/// the interval leaves out 0.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The difference of the figures.
    pub difference: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How intervals are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapConfig {
    /// Resamples of the users, each as many as there are, with replacement. 1,000 is usual for 95 % percentiles (Efron
    /// and Tibshirani 1993).
    pub resamples: usize,
    /// Share of the resampled figures that the interval holds; the paper gives no intervals.
    pub level: f64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self {
            resamples: 1000,
            level: 0.95,
        }
    }
}

impl BootstrapConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// When there is no resample, or the level is not between 0 and 1.
    pub fn validate(&self) -> Result<()> {
        if self.resamples == 0 {
            return Err(MetricsError::Config(
                "`resamples` is 0, expected 1 or more".to_owned(),
            ));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(MetricsError::Config(format!(
                "`level` is {}, expected a share between 0 and 1",
                self.level
            )));
        }
        Ok(())
    }
}

impl Metrics<Interval> {
    /// Percentile bootstrap intervals of the means over users. The same seed gives the same intervals on any number of
    /// threads.
    ///
    /// # Errors
    /// As [`Metrics::new`], or when `config` is not valid.
    pub fn bootstrap(
        ranks: &[Rank],
        cutoffs: &[usize],
        config: &BootstrapConfig,
        seed: u64,
    ) -> Result<Self> {
        config.validate()?;
        check(ranks, cutoffs)?;
        let users = Users::new(ranks, |&rank| gains(rank, cutoffs));
        let intervals = users.bootstrap(config, seed);
        Ok(Metrics::from_values(cutoffs, intervals))
    }
}

impl Metrics<Difference> {
    /// First less second, for lists of the same users in the same order; a resample draws the same users of both. Each side
    /// may have several lists, such as one a seed: a user then adds the mean over them, so that the interval is of the
    /// users, given these runs.
    ///
    /// # Errors
    /// As [`Metrics::bootstrap`], or when a side has no list, or the lists have different lengths.
    pub fn paired_bootstrap(
        first: &[&[Rank]],
        second: &[&[Rank]],
        cutoffs: &[usize],
        config: &BootstrapConfig,
        seed: u64,
    ) -> Result<Self> {
        config.validate()?;
        let (Some(users), Some(_)) = (first.first(), second.first()) else {
            return Err(MetricsError::NoUsers);
        };
        for list in first.iter().chain(second) {
            check(list, cutoffs)?;
            if list.len() != users.len() {
                return Err(MetricsError::Unpaired {
                    first: users.len(),
                    second: list.len(),
                });
            }
        }
        let of = |side: &[&[Rank]], user: usize| side.iter().map(|list| list[user]).collect();
        let pairs: Vec<(Vec<Rank>, Vec<Rank>)> = (0..users.len())
            .map(|user| (of(first, user), of(second, user)))
            .collect();
        let mean = |ranks: &[Rank]| {
            let mut mean = vec![0.0; 2 * cutoffs.len()];
            for &rank in ranks {
                for (mean, gain) in mean.iter_mut().zip(gains(rank, cutoffs)) {
                    *mean += gain / ranks.len() as f64;
                }
            }
            mean
        };
        let users = Users::new(&pairs, |(first, second)| {
            let pairs = mean(first).into_iter().zip(mean(second));
            pairs.map(|(a, b)| a - b).collect()
        });
        let differences = users.means().into_iter().zip(users.bootstrap(config, seed));
        let differences = differences.map(|(difference, Interval { low, high })| Difference {
            difference,
            low,
            high,
        });
        Ok(Metrics::from_values(cutoffs, differences))
    }
}

/// Users by what they add to the figures. Users of the same rank add the same, so a resample is a count of each kind, exactly.
pub(super) struct Users {
    /// Kind of each user.
    kinds: Vec<u32>,
    /// What a user of each kind adds to every figure.
    gains: Vec<Vec<f64>>,
}

impl Users {
    pub(super) fn new<K: Ord>(users: &[K], gains: impl Fn(&K) -> Vec<f64>) -> Self {
        let mut numbers: BTreeMap<&K, u32> = users.iter().map(|user| (user, 0)).collect();
        for (number, kind) in (0..).zip(numbers.values_mut()) {
            *kind = number;
        }
        Self {
            kinds: users.iter().map(|user| numbers[user]).collect(),
            gains: numbers.keys().map(|kind| gains(kind)).collect(),
        }
    }

    /// The mean of every figure over all users.
    pub(super) fn means(&self) -> Vec<f64> {
        let mut counts = vec![0u32; self.gains.len()];
        for &kind in &self.kinds {
            counts[kind as usize] += 1;
        }
        self.means_of(&counts)
    }

    /// The mean of every figure over as many users of each kind.
    fn means_of(&self, counts: &[u32]) -> Vec<f64> {
        let mut means = vec![0.0; self.gains.first().map_or(0, Vec::len)];
        for (&count, gains) in counts.iter().zip(&self.gains) {
            for (mean, gain) in means.iter_mut().zip(gains) {
                *mean += f64::from(count) * gain;
            }
        }
        for mean in &mut means {
            *mean /= self.kinds.len() as f64;
        }
        means
    }

    /// Percentile interval of the mean of every figure. Resample `i` draws from stream `i` of the seed.
    fn bootstrap(&self, config: &BootstrapConfig, seed: u64) -> Vec<Interval> {
        let resampled: Vec<Vec<f64>> = (0..config.resamples as u64)
            .into_par_iter()
            .map(|resample| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(resample);
                let mut counts = vec![0u32; self.gains.len()];
                for _ in 0..self.kinds.len() {
                    let user = rng.random_range(0..self.kinds.len());
                    counts[self.kinds[user] as usize] += 1;
                }
                self.means_of(&counts)
            })
            .collect();
        let figures = self.gains.first().map_or(0, Vec::len);
        let tail = (1.0 - config.level) / 2.0;
        (0..figures)
            .map(|figure| {
                let mut values: Vec<f64> = resampled.iter().map(|means| means[figure]).collect();
                values.sort_by(f64::total_cmp);
                Interval {
                    low: percentile(&values, tail),
                    high: percentile(&values, 1.0 - tail),
                }
            })
            .collect()
    }
}

/// The value below which a share of the sorted values lies, with linear interpolation between neighbours; there is at
/// least one value.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::super::CUTOFFS;
    use super::super::tests::random_ranks;
    use super::*;

    #[test]
    fn intervals_are_those_of_the_normal_approximation() {
        let ranks = random_ranks(4000, 5);
        let metrics = Metrics::new(&ranks, &CUTOFFS).unwrap();
        let config = BootstrapConfig::default();
        let intervals = Metrics::bootstrap(&ranks, &CUTOFFS, &config, 2).unwrap();
        for (at, interval) in metrics.at.iter().zip(&intervals.at) {
            // Recall is a share: its standard error is known.
            let error = (at.recall * (1.0 - at.recall) / 4000.0).sqrt();
            assert!((interval.recall.low - (at.recall - 1.96 * error)).abs() < 0.3 * error);
            assert!((interval.recall.high - (at.recall + 1.96 * error)).abs() < 0.3 * error);
            assert!(interval.ndcg.low < at.ndcg && at.ndcg < interval.ndcg.high);
        }
    }

    #[test]
    fn about_95_of_100_intervals_hold_the_true_recall() {
        let truth = 5.0 / 39.0; // Recall@5 of ranks uniform in 1..40
        let config = BootstrapConfig::default();
        let held = (0..200)
            .filter(|&seed| {
                let ranks = random_ranks(400, 1000 + seed);
                let at = Metrics::bootstrap(&ranks, &[5], &config, seed).unwrap().at;
                at[0].recall.low <= truth && truth <= at[0].recall.high
            })
            .count();
        assert!((180..=198).contains(&held), "{held} of 200");
    }

    #[test]
    fn pairs_are_compared_user_by_user() {
        let first = random_ranks(1000, 7);
        // The second list is the first, one place later for every tenth user.
        let second: Vec<Rank> = first
            .iter()
            .enumerate()
            .map(|(user, &rank)| rank.map(|r| if user % 10 == 0 { r + 1 } else { r }))
            .collect();
        let config = BootstrapConfig::default();
        let sides =
            |a: &[&[Rank]], b: &[&[Rank]]| Metrics::paired_bootstrap(a, b, &CUTOFFS, &config, 3);
        let paired = |a: &[Rank], b: &[Rank]| sides(&[a], &[b]);
        let found = paired(&first, &second).unwrap();
        let (a, b) = (
            Metrics::new(&first, &CUTOFFS).unwrap(),
            Metrics::new(&second, &CUTOFFS).unwrap(),
        );
        for ((name, found), ((_, a), (_, b))) in found.named().zip(a.named().zip(b.named())) {
            assert!((found.difference - (a - b)).abs() < 1e-12, "{name}");
            assert!(found.low <= found.difference && found.difference <= found.high);
        }
        // Far smaller than either interval alone, and yet without doubt.
        let alone = Metrics::bootstrap(&first, &CUTOFFS, &config, 3).unwrap();
        let (of_pairs, alone) = (found.at[2].ndcg, alone.at[2].ndcg);
        assert!(of_pairs.low > 0.0);
        assert!(of_pairs.high - of_pairs.low < 0.3 * (alone.high - alone.low));
        let turned = paired(&second, &first).unwrap();
        assert!((turned.at[2].ndcg.low + of_pairs.high).abs() < 1e-12);
        let same = paired(&first, &first).unwrap();
        assert!(same.named().all(|(_, d)| (d.low, d.high) == (0.0, 0.0)));
        assert_eq!(
            paired(&first, &second[1..]),
            Err(MetricsError::Unpaired {
                first: 1000,
                second: 999
            })
        );
    }

    #[test]
    fn several_runs_of_a_side_count_as_their_mean() {
        let lists: Vec<Vec<Rank>> = (20..25).map(|seed| random_ranks(500, seed)).collect();
        let config = BootstrapConfig::default();
        let sides =
            |a: &[&[Rank]], b: &[&[Rank]]| Metrics::paired_bootstrap(a, b, &CUTOFFS, &config, 3);
        let (a, b): (Vec<&[Rank]>, Vec<&[Rank]>) = (
            lists[..2].iter().map(Vec::as_slice).collect(),
            lists[2..].iter().map(Vec::as_slice).collect(),
        );
        let found = sides(&a, &b).unwrap();
        let mean = |side: &[&[Rank]]| {
            let ndcg = |list: &&[Rank]| Metrics::new(list, &CUTOFFS).unwrap().at[2].ndcg;
            side.iter().map(ndcg).sum::<f64>() / side.len() as f64
        };
        assert!((found.at[2].ndcg.difference - (mean(&a) - mean(&b))).abs() < 1e-12);
        // A list said twice is the list.
        let (once, twice) = (sides(&a[..1], &b[..1]), sides(&[a[0], a[0]], &b[..1]));
        for ((_, once), (_, twice)) in once.unwrap().named().zip(twice.unwrap().named()) {
            assert!((once.low - twice.low).abs() < 1e-12 && (once.high - twice.high).abs() < 1e-12);
        }
        assert_eq!(sides(&[], &b), Err(MetricsError::NoUsers));
    }

    #[test]
    fn threads_do_not_matter_and_seeds_do() {
        let ranks = random_ranks(300, 9);
        let config = BootstrapConfig {
            resamples: 101,
            level: 0.9,
        };
        let with = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| Metrics::bootstrap(&ranks, &CUTOFFS, &config, seed))
                .unwrap()
        };
        assert_eq!(with(1, 4), with(2, 4));
        assert_ne!(with(1, 4), with(1, 5));
    }

    #[test]
    fn percentiles_are_interpolated() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&values, 0.0), 1.0);
        assert_eq!(percentile(&values, 0.5), 3.0);
        assert_eq!(percentile(&values, 1.0), 8.0);
        assert_eq!(percentile(&[3.0], 0.975), 3.0);
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        for (resamples, level) in [(0, 0.95), (10, 1.0), (10, f64::NAN)] {
            let config = BootstrapConfig { resamples, level };
            let refused = Metrics::bootstrap(&[None], &[5], &config, 1);
            assert!(matches!(refused, Err(MetricsError::Config(_))));
        }
    }
}
