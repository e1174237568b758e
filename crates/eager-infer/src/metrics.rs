//! Ranking metrics of one target a user: Recall@k and NDCG@k from the target's rank (the paper's figures, "leave one out"),
//! with bootstrap intervals over users.
//!
//! With one target, for rank r counted from 1: `Recall@k = [r ≤ k]` (the same as the hit rate), `NDCG@k = [r ≤ k] /
//! log₂(r + 1)` (the ideal list has gain 1); both 0 where the target is not in the list. A figure is the mean over users.
//! Ranks come from the evaluation; nothing here ranks anything. There is no figure without a cut-off, such as MRR over a whole
//! list: lists are of different lengths (two streams' union, one stream's beams, a catalogue), and the longer would win.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod bootstrap;
mod reliability;

pub use bootstrap::{BootstrapConfig, Difference, Interval};
pub use reliability::{ReliabilityBin, reliability, wilson};

use bootstrap::Users;

/// Rank of a user's target in the list recommended, counted from 1; `None` where it is not in the list.
pub type Rank = Option<u32>;

/// Cut-offs of the paper's tables (R@5/10/20, N@5/10/20).
pub const CUTOFFS: [usize; 3] = [5, 10, 20];

/// What is wrong with ranks or settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// No user at all.
    #[error("there are no ranks; metrics are means over at least one user")]
    NoUsers,
    /// Ranks count from 1.
    #[error("user {user} has rank 0; ranks count from 1, and a target outside the list has none")]
    RankZero {
        /// Place in the list of ranks.
        user: usize,
    },
    /// Cut-offs that are no cut-offs.
    #[error("cut-offs {0:?}: expected at least one, from 1 up, each larger than the one before")]
    Cutoffs(Vec<usize>),
    /// Two rank lists of different users.
    #[error(
        "{first} ranks against {second}; a paired comparison needs the same users in the same order"
    )]
    Unpaired {
        /// Users of the first list.
        first: usize,
        /// Users of the second.
        second: usize,
    },
    /// Bootstrap settings outside their range.
    #[error("bootstrap config: {0}")]
    Config(String),
}

/// `Result` with this module's error.
pub type Result<T> = std::result::Result<T, MetricsError>;

/// A figure for every metric: `f64` for the metrics themselves, [`Interval`] or [`Difference`] for what is said of them.
///
/// As JSON it is one flat map, in this order: `{"recall@5": …, "recall@10": …, …, "ndcg@5": …, …}`; so it can stand in a
/// larger struct with `#[serde(flatten)]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics<T = f64> {
    /// The figures at every cut-off, ascending.
    pub at: Vec<AtCutoff<T>>,
}

/// The figures at one cut-off.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct AtCutoff<T = f64> {
    /// The cut-off k, ≥ 1.
    pub k: usize,
    /// Recall@k.
    pub recall: T,
    /// NDCG@k.
    pub ndcg: T,
}

impl Metrics {
    /// Means over users.
    ///
    /// # Errors
    /// When there is no user, a rank is 0, or the cut-offs do not ascend from 1 up.
    pub fn new(ranks: &[Rank], cutoffs: &[usize]) -> Result<Self> {
        check(ranks, cutoffs)?;
        let users = Users::new(ranks, |&rank| gains(rank, cutoffs));
        Ok(Metrics::from_values(cutoffs, users.means()))
    }
}

impl<T> Metrics<T> {
    /// The figures at cut-off `k`, where it is one.
    #[must_use]
    pub fn at(&self, k: usize) -> Option<&AtCutoff<T>> {
        self.at.iter().find(|at| at.k == k)
    }

    /// Every figure with its name, in the order of the JSON map.
    pub fn named(&self) -> impl Iterator<Item = (String, &T)> {
        let recall = self
            .at
            .iter()
            .map(|at| (format!("recall@{}", at.k), &at.recall));
        let ndcg = self
            .at
            .iter()
            .map(|at| (format!("ndcg@{}", at.k), &at.ndcg));
        recall.chain(ndcg)
    }
}

impl<T: Copy> Metrics<T> {
    /// From figures in the order of [`gains`].
    fn from_values(cutoffs: &[usize], values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<T> = values.into_iter().collect();
        let (recalls, ndcgs) = values.split_at(cutoffs.len());
        let at = cutoffs.iter().zip(recalls).zip(ndcgs);
        Self {
            at: at
                .map(|((&k, &recall), &ndcg)| AtCutoff { k, recall, ndcg })
                .collect(),
        }
    }
}

/// One user's part in every figure: Recall at every cut-off, NDCG at every cut-off.
fn gains(rank: Rank, cutoffs: &[usize]) -> Vec<f64> {
    let gain = |k: usize, gain: f64| match rank {
        Some(rank) if rank as usize <= k => gain,
        _ => 0.0,
    };
    let discounted = rank.map_or(0.0, |rank| (f64::from(rank) + 1.0).log2().recip());
    let recall = cutoffs.iter().map(|&k| gain(k, 1.0));
    let ndcg = cutoffs.iter().map(|&k| gain(k, discounted));
    recall.chain(ndcg).collect()
}

fn check(ranks: &[Rank], cutoffs: &[usize]) -> Result<()> {
    if cutoffs.first().is_none_or(|&k| k == 0) || !cutoffs.is_sorted_by(|a, b| a < b) {
        return Err(MetricsError::Cutoffs(cutoffs.to_vec()));
    }
    if ranks.is_empty() {
        return Err(MetricsError::NoUsers);
    }
    match ranks.iter().position(|&rank| rank == Some(0)) {
        Some(user) => Err(MetricsError::RankZero { user }),
        None => Ok(()),
    }
}

impl<T: Serialize> Serialize for Metrics<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 * self.at.len()))?;
        for (name, value) in self.named() {
            map.serialize_entry(&name, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Metrics<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(MetricsVisitor(PhantomData))
    }
}

/// Reads the flat map back; every cut-off must have both figures.
struct MetricsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MetricsVisitor<T> {
    type Value = Metrics<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of `recall@k` and `ndcg@k`")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let (mut recalls, mut ndcgs) = (BTreeMap::new(), BTreeMap::new());
        while let Some(name) = map.next_key::<String>()? {
            let cutoff = |text: &str| match text.parse() {
                Ok(k) if k > 0 => Ok(k),
                _ => Err(de::Error::custom(format!("`{name}`: no cut-off from 1 up"))),
            };
            let doubled = if name == "mrr" {
                // Older files have it, of lists of any length.
                map.next_value::<de::IgnoredAny>()?;
                false
            } else if let Some(k) = name.strip_prefix("recall@") {
                recalls.insert(cutoff(k)?, map.next_value()?).is_some()
            } else if let Some(k) = name.strip_prefix("ndcg@") {
                ndcgs.insert(cutoff(k)?, map.next_value()?).is_some()
            } else {
                return Err(de::Error::custom(format!(
                    "unknown metric `{name}`, expected `recall@k` or `ndcg@k`"
                )));
            };
            if doubled {
                return Err(de::Error::custom(format!("`{name}` twice")));
            }
        }
        let mut at = Vec::with_capacity(recalls.len());
        for (k, recall) in recalls {
            let missing = || de::Error::custom(format!("`recall@{k}` without `ndcg@{k}`"));
            let ndcg = ndcgs.remove(&k).ok_or_else(missing)?;
            at.push(AtCutoff { k, recall, ndcg });
        }
        if let Some((k, _)) = ndcgs.first_key_value() {
            return Err(de::Error::custom(format!(
                "`ndcg@{k}` without `recall@{k}`"
            )));
        }
        if at.is_empty() {
            return Err(de::Error::missing_field("recall@10"));
        }
        Ok(Metrics { at })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Ranks of `n` users, uniform in 1 to 39; those beyond 20 are not in the list.
    pub(super) fn random_ranks(n: usize, seed: u64) -> Vec<Rank> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n)
            .map(|_| {
                let rank = rng.random_range(1..40);
                (rank <= 20).then_some(rank)
            })
            .collect()
    }

    #[test]
    fn four_users_by_hand() {
        let metrics = Metrics::new(&[Some(1), Some(3), Some(7), None], &[1, 5, 10]).unwrap();
        let recalls: Vec<f64> = metrics.at.iter().map(|at| at.recall).collect();
        assert_eq!(recalls, [0.25, 0.5, 0.75]);
        // log₂ 2 = 1, log₂ 4 = 2, log₂ 8 = 3.
        let ndcgs: Vec<f64> = metrics.at.iter().map(|at| at.ndcg).collect();
        assert_eq!(ndcgs, [0.25, 0.375, 0.375 + 1.0 / 12.0]);
        assert_eq!(metrics.at(5).map(|at| at.recall), Some(0.5));
        assert_eq!(metrics.at(6), None);
    }

    /// The definition for lists of items: gains of the list over gains of the ideal list.
    #[test]
    fn figures_equal_the_definition_on_lists() {
        let ranks = random_ranks(500, 1);
        let metrics = Metrics::new(&ranks, &CUTOFFS).unwrap();
        for at in &metrics.at {
            let (mut recall, mut ndcg) = (0.0, 0.0);
            for &rank in &ranks {
                let list: Vec<u32> = (1..=at.k as u32).collect(); // the item at place p is p, the target is `rank`
                let relevant = |item: &&u32| Some(**item) == rank;
                recall += list.iter().filter(relevant).count() as f64;
                let gain = |(place, item): (usize, &u32)| {
                    f64::from(u8::from(Some(*item) == rank)) / ((place + 2) as f64).log2()
                };
                let ideal = 1.0 / 2f64.log2();
                ndcg += list.iter().enumerate().map(gain).sum::<f64>() / ideal;
            }
            assert!((at.recall - recall / 500.0).abs() < 1e-12);
            assert!((at.ndcg - ndcg / 500.0).abs() < 1e-12);
        }
    }

    #[test]
    fn names_are_flat_ordered_and_read_back() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            dataset: String,
            #[serde(flatten)]
            metrics: Metrics,
            intervals: Metrics<Interval>,
        }
        let ranks = random_ranks(64, 3);
        let config = BootstrapConfig::default();
        let file = File {
            dataset: "demo".to_owned(),
            metrics: Metrics::new(&ranks, &[5, 20]).unwrap(),
            intervals: Metrics::bootstrap(&ranks, &[5, 20], &config, 1).unwrap(),
        };
        let text = serde_json::to_string(&file).unwrap();
        let places: Vec<Option<usize>> = ["recall@5", "recall@20", "ndcg@5", "ndcg@20"]
            .iter()
            .map(|name| text.find(&format!("\"{name}\":")))
            .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted());
        let back: File = serde_json::from_str(&text).unwrap();
        assert_eq!(back.dataset, file.dataset);
        assert_eq!(back.metrics.at.len(), 2);
        for ((name, a), (_, b)) in back.metrics.named().zip(file.metrics.named()) {
            assert!((a - b).abs() < 1e-12, "{name}");
        }
        let low = |file: &File| file.intervals.at[0].ndcg.low;
        assert!((low(&back) - low(&file)).abs() < 1e-12);
        let older = r#"{"recall@5": 1.0, "ndcg@5": 0.5, "mrr": 0.4}"#;
        assert_eq!(serde_json::from_str::<Metrics>(older).unwrap().at.len(), 1);

        let refused = |text: &str| {
            serde_json::from_str::<Metrics>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(r#"{"recall@5": 1.0}"#).contains("without `ndcg@5`"));
        assert!(refused(r#"{"ndcg@5": 1.0}"#).contains("without `recall@5`"));
        assert!(refused(r#"{"recall@0": 1.0}"#).contains("`recall@0`"));
        assert!(refused(r#"{"hits": 1.0}"#).contains("unknown metric `hits`"));
        assert!(refused("{}").contains("recall@10"));
    }

    #[test]
    fn what_has_no_metrics_is_refused() {
        assert_eq!(Metrics::new(&[], &[5]), Err(MetricsError::NoUsers));
        assert_eq!(
            Metrics::new(&[Some(1), Some(0)], &[5]),
            Err(MetricsError::RankZero { user: 1 })
        );
        for cutoffs in [&[][..], &[0, 5], &[10, 5], &[5, 5]] {
            let refused = Metrics::new(&[None], cutoffs);
            assert_eq!(refused, Err(MetricsError::Cutoffs(cutoffs.to_vec())));
        }
        let none = Metrics::new(&[None, None], &[5]).unwrap();
        assert!(none.named().all(|(_, &value)| value == 0.0));
    }
}
