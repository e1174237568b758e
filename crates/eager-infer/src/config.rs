//! How recommendations are made. Numbers of the official code stand here and nowhere else.

use serde::{Deserialize, Serialize};

use crate::{InferError, Ranking, RankingWeights, Result};

/// How recommendations are made. `Default` is the paper's rule with the official code's beams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferConfig {
    /// Prefixes kept on every level, in each stream. Official code 100.
    pub beams: usize,
    /// Predictions of each stream, and of the direct head where there is one, that are merged (the paper's top-k). A merged
    /// list has at most `2 · top_k` items, `3 · top_k` with a head; where masks or narrow beams leave the lists short, it may
    /// have fewer than `top_k`. At most `beams`, unless `exact`. 20 is the largest cut-off of the paper's tables.
    pub top_k: usize,
    /// How the streams' predictions are ranked. Paper: confidence; official code: sum.
    pub ranking: Ranking,
    /// How much each prediction counts, unless they are ranked by confidence.
    pub weights: RankingWeights,
    /// Whether items of the history are taken out of every list before it is ranked. Official code: no.
    pub mask_history: bool,
    /// Whether the whole catalogue is scored instead of searched.
    pub exact: bool,
}

impl Default for InferConfig {
    fn default() -> Self {
        Self {
            beams: 100,
            top_k: 20,
            ranking: Ranking::Confidence,
            weights: RankingWeights::default(),
            mask_history: false,
            exact: false,
        }
    }
}

impl InferConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// When one is outside its range: what it is and what was expected.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, found: usize, expected: String| {
            Err(InferError::Config {
                field,
                found: found.to_string(),
                expected,
            })
        };
        if self.beams == 0 {
            return refuse("beams", 0, "1 or more".to_owned());
        }
        if self.top_k == 0 {
            return refuse("top_k", 0, "1 or more".to_owned());
        }
        for (field, weight) in [
            ("weights.behaviour", self.weights.behaviour),
            ("weights.semantic", self.weights.semantic),
            ("weights.direct", self.weights.direct),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(InferError::Config {
                    field,
                    found: weight.to_string(),
                    expected: "a finite number, 0 or more".to_owned(),
                });
            }
        }
        let RankingWeights {
            behaviour,
            semantic,
            direct,
        } = self.weights;
        if self.ranking != Ranking::Confidence && behaviour + semantic + direct == 0.0 {
            return Err(InferError::Config {
                field: "weights",
                found: "0 for every prediction".to_owned(),
                expected: "one above 0, to rank by".to_owned(),
            });
        }
        if self.top_k > self.beams && !self.exact {
            let expected = format!("at most `beams`, {}", self.beams);
            return refuse("top_k", self.top_k, expected);
        }
        Ok(())
    }

    /// Checks every field, for a model with or without a direct head.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and when nothing that such a model predicts has a weight to rank by.
    pub fn validate_for(&self, direct_head: bool) -> Result<()> {
        self.validate()?;
        let streams = self.weights.behaviour + self.weights.semantic;
        if self.ranking != Ranking::Confidence && !direct_head && streams == 0.0 {
            return Err(InferError::Config {
                field: "weights",
                found: "0 for both streams of a model without a direct head".to_owned(),
                expected: "one above 0, to rank by".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_name_a_few_fields_and_bad_ones_are_named() {
        let config: InferConfig =
            serde_json::from_str(r#"{"ranking": "sum", "mask_history": true}"#).unwrap();
        assert_eq!(
            (config.ranking, config.beams, config.mask_history),
            (Ranking::Sum, 100, true)
        );
        assert!(config.validate().is_ok());
        assert!(serde_json::from_str::<InferConfig>(r#"{"beam": 3}"#).is_err());
        let refused = |change: fn(&mut InferConfig)| {
            let mut config = InferConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.beams = 0).contains("`beams` is 0"));
        assert!(refused(|c| c.top_k = 0).contains("`top_k` is 0"));
        assert!(refused(|c| c.weights.direct = -1.0).contains("`weights.direct` is -1"));
        assert!(refused(|c| c.beams = 10).contains("at most `beams`, 10"));
        let none = InferConfig {
            weights: RankingWeights {
                behaviour: 0.0,
                semantic: 0.0,
                direct: 0.0,
            },
            ..InferConfig::default()
        };
        assert!(none.validate().is_ok(), "confidence has no weights");
        for ranking in [Ranking::Sum, Ranking::Mixture] {
            let none = InferConfig {
                ranking,
                ..none.clone()
            };
            let message = none.validate().unwrap_err().to_string();
            assert!(message.contains("`weights` is 0 for every"), "{message}");
        }
        let head_alone = |ranking| InferConfig {
            ranking,
            weights: RankingWeights {
                direct: 1.0,
                ..none.weights
            },
            ..none.clone()
        };
        assert!(head_alone(Ranking::Confidence).validate_for(false).is_ok());
        for ranking in [Ranking::Sum, Ranking::Mixture] {
            let config = head_alone(ranking);
            assert!(config.validate_for(true).is_ok());
            let message = config.validate_for(false).unwrap_err().to_string();
            assert!(message.contains("without a direct head"), "{message}");
        }
        assert!(InferConfig { top_k: 0, ..none }.validate_for(true).is_err());
        let exact = InferConfig {
            beams: 1,
            exact: true,
            ..InferConfig::default()
        };
        assert!(exact.validate().is_ok());
    }
}
