//! How items become codes: branching, depth, variant and the limits of k-means. The default is the paper's method,
//! [`CodesConfig::official`] what the authors' code runs.

use serde::{Deserialize, Serialize};

use crate::{CodesError, Result};

/// The most children a node may have: ordinals and the score table of k-means stay small.
pub const MAX_BRANCHING: usize = 65_536;

/// The most levels a code may have: a decoder makes one step a level, and learned positions are not made for more.
pub const MAX_LEVELS: usize = 64;

/// The most leaves of a balanced tree (2²⁴), all of which are clustered and kept.
pub const MAX_LEAVES: u64 = 1 << 24;

/// What a build without the feature `kmeans` says of that backend.
pub(crate) const NO_KMEANS: &str = "the `kmeans` backend is not compiled in; build with `--features kmeans`, \
                                    which `eager` and `eager-codes` have, or use the `blocked` backend";

/// Which hierarchical k-means.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The paper's text: k clusters, each clustered again, until every cluster holds one item. Clusters have the size
    /// the data give them.
    Plain,
    /// The official code (`KmeansTree.py`): every cluster has exactly the same number of members; items are duplicated
    /// at random until they fill `branching ^ levels` leaves.
    Balanced,
}

/// Which implementation of Lloyd's algorithm makes the plain clusters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// This crate's own, with distances by blocked matrix products.
    Blocked,
    /// The `kmeans` crate, from the same start; needs the feature `kmeans` of this crate or of `eager`. Several times
    /// slower; here to compare with.
    Kmeans,
}

/// How items become codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodesConfig {
    /// Children a node, k ≥ 2. Paper: "cluster into k", 256 here; official code for Beauty: 128.
    pub branching: usize,
    /// Most levels of a code. Plain: at the last one every remaining item gets its own leaf, where branching may exceed
    /// k; `None` goes on until every cluster holds one item (the paper). Balanced: exactly so many levels; `None` is
    /// the fewest with `branching ^ levels ≥ items` (official code).
    pub depth: Option<usize>,
    /// Which hierarchical k-means.
    pub variant: Variant,
    /// Which implementation of Lloyd's algorithm (plain variant only).
    pub backend: Backend,
    /// Most Lloyd iterations of one clustering. Official code: 100.
    pub max_iterations: usize,
    /// A clustering also ends when the squared sum of the distances its centres moved is below this, in squared units of
    /// the vectors. Official code: 1e-6; 0, the default, ends a plain clustering only when no item changes its cluster,
    /// whatever the vectors' scale. The `kmeans` backend ends when the inertia falls by no more than this.
    pub tolerance: f64,
}

impl Default for CodesConfig {
    fn default() -> Self {
        Self {
            branching: 256,
            depth: None,
            variant: Variant::Plain,
            backend: Backend::Blocked,
            max_iterations: 100,
            tolerance: 0.0,
        }
    }
}

impl CodesConfig {
    /// What the authors' code runs for Beauty (`train_rec.py`, `KmeansTree.py`): balanced, k = 128, as many levels as
    /// the items need (two), at most 100 iterations or a squared shift below 1e-6.
    #[must_use]
    pub fn official() -> Self {
        Self {
            branching: 128,
            variant: Variant::Balanced,
            tolerance: 1e-6,
            ..Self::default()
        }
    }

    /// Checks every field on its own and against the others.
    ///
    /// # Errors
    /// When one is outside its range, when the balanced variant is asked of the `kmeans` crate (which cannot balance),
    /// or when that crate is not compiled in.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(CodesError::Config(message));
        if !(2..=MAX_BRANCHING).contains(&self.branching) {
            return refuse(format!(
                "`branching` is {}, expected 2 to {MAX_BRANCHING}",
                self.branching
            ));
        }
        if let Some(depth) = self.depth
            && !(1..=MAX_LEVELS).contains(&depth)
        {
            return refuse(format!("`depth` is {depth}, expected 1 to {MAX_LEVELS}"));
        }
        if self.max_iterations == 0 {
            return refuse("`max_iterations` is 0, expected 1 or more".to_owned());
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return refuse(format!(
                "`tolerance` is {}, expected a finite number ≥ 0",
                self.tolerance
            ));
        }
        if self.backend == Backend::Kmeans {
            if self.variant == Variant::Balanced {
                return refuse(
                    "the `kmeans` backend has no balanced variant; use the `blocked` backend"
                        .to_owned(),
                );
            }
            if cfg!(not(any(test, feature = "kmeans"))) {
                return refuse(NO_KMEANS.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_outside_their_range_are_named() {
        let refused = |change: fn(&mut CodesConfig)| {
            let mut config = CodesConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.branching = 1).contains("`branching` is 1"));
        assert!(refused(|c| c.depth = Some(0)).contains("`depth` is 0"));
        assert!(refused(|c| c.max_iterations = 0).contains("`max_iterations`"));
        assert!(refused(|c| c.tolerance = f64::NAN).contains("`tolerance` is NaN"));
        assert!(
            refused(|c| {
                c.variant = Variant::Balanced;
                c.backend = Backend::Kmeans;
            })
            .contains("no balanced variant")
        );
        assert!(CodesConfig::default().validate().is_ok());
        assert!(CodesConfig::official().validate().is_ok());
    }

    #[test]
    fn a_file_may_name_a_few_fields_but_no_unknown_one() {
        let config: CodesConfig =
            serde_json::from_str(r#"{"branching": 16, "variant": "balanced"}"#).unwrap();
        assert_eq!(config.branching, 16);
        assert_eq!(config.variant, Variant::Balanced);
        assert_eq!(config.max_iterations, 100);
        assert!(serde_json::from_str::<CodesConfig>(r#"{"branches": 16}"#).is_err());
    }
}
