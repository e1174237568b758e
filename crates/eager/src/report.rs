//! `eval/metrics.json`: everything that a run's tables say, so that they can be made again from this file alone.

use std::collections::BTreeMap;

use eager_data::Paper;
use eager_infer::metrics::{Interval, Metrics};
use serde::{Deserialize, Serialize};

/// Figures of one evaluation on the test set, between 0 and 1, means over users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the dataset.
    pub dataset: String,
    /// Users evaluated.
    pub users: usize,
    /// Name of the encoder that made the semantic vectors.
    pub text_encoder: String,
    /// What else decides the figures: order of histories, tie rule, split, beams, merging, …
    pub protocol: serde_json::Map<String, serde_json::Value>,
    /// The model's figures: `recall@5`, …, `ndcg@20` beside the other keys.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Share of bootstrap resamples that each interval holds.
    #[serde(default = "usual_level")]
    pub interval_level: f64,
    /// Bootstrap intervals of the figures; `null` where none were made.
    pub intervals: Option<Metrics<Interval>>,
    /// The same model's figures from parts of it: `behaviour` and `semantic` by one decoder alone, `merged` by another
    /// merging rule.
    #[serde(default)]
    pub streams: BTreeMap<String, Metrics>,
    /// Figures of other recommenders under the same protocol, such as `popularity`.
    #[serde(default)]
    pub baselines: BTreeMap<String, Metrics>,
    /// The published figures; `null` where the paper has none for this dataset.
    pub paper: Option<Paper>,
}

fn usual_level() -> f64 {
    0.95
}
