//! The weights of the whole loss, `L = L_gen + λ₁·L_con + λ₂·(L_recon + L_recog)` (paper §3.5), and each part's settings.

use serde::{Deserialize, Serialize};

/// Every part of the loss. `Default` is the paper's text; [`LossConfig::official`] what the authors' code computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// The generation loss.
    pub generation: GenerationConfig,
    /// The global contrastive task.
    pub contrastive: ContrastiveConfig,
    /// The semantic-guided transfer task.
    pub transfer: TransferConfig,
    /// Weight of the direct head's cross-entropy over the whole catalogue; 0 leaves it out. Not in the paper, see
    /// `docs/eager-plus.md`; needs the model's `direct_head`.
    pub direct: f64,
}

/// The generation loss (paper §3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationConfig {
    /// How the cross-entropies of a code's tokens become one number. Paper: the sum; official code: the mean.
    pub levels: Levels,
    /// Weight of the behaviour stream: 1; 0 leaves the stream untrained (ablation).
    pub behaviour: f64,
    /// Weight of the semantic stream: 1; 0 leaves the stream untrained (ablation).
    pub semantic: f64,
}

/// How the cross-entropies of a code's tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Levels {
    /// Their sum: minus the log-probability of the whole code.
    Sum,
    /// Their mean.
    Mean,
}

/// How far a summary is from its item's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean over components of `x²/2` where `|x| < 1`, else `|x| - 1/2`: the paper's default.
    SmoothL1,
    /// Mean absolute difference.
    L1,
    /// Mean squared difference.
    L2,
    /// One minus the cosine.
    Cosine,
    /// Cross-entropy of the item's own vector among sampled ones, by cosine (official code).
    InfoNce,
}

/// The global contrastive task (paper §3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContrastiveConfig {
    /// The metric.
    pub metric: Metric,
    /// λ₁ of the behaviour stream; 0 leaves it out. Paper 1 (one λ₁ for both); official code 1.
    pub behaviour: f64,
    /// λ₁ of the semantic stream; 0 leaves it out. Paper 1; official code 10.
    pub semantic: f64,
    /// Temperature of InfoNCE. Official code 0.3.
    pub temperature: f64,
    /// Items sampled as negatives of InfoNCE, one draw for a batch. Official code 2,048.
    pub negatives: usize,
}

/// Which tokens of a code are masked or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// Each token of each code on its own with probability `ratio`, at least one a code (paper: m % of the tokens).
    Tokens,
    /// One position for a whole batch, drawn anew for masking and for replacing (official code).
    OnePosition,
}

/// The semantic-guided transfer task (paper §3.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferConfig {
    /// λ₂ of the reconstruction; 0 leaves it out. Official code 1.
    pub reconstruction: f64,
    /// λ₂ of the recognition; 0 leaves it out. Official code 1.
    pub recognition: f64,
    /// Which tokens are masked or replaced.
    pub masking: Masking,
    /// Share of tokens masked for the reconstruction, above 0, at most 1 (`masking = "tokens"`).
    pub mask_ratio: f64,
    /// Share of tokens replaced to make a negative for the recognition, above 0, at most 1 (`masking = "tokens"`).
    pub replace_ratio: f64,
    /// Whether the reconstruction's gradient stops at the token embeddings it is scored against. Official code: yes.
    pub detach_tokens: bool,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            levels: Levels::Sum,
            behaviour: 1.0,
            semantic: 1.0,
        }
    }
}

impl Default for ContrastiveConfig {
    fn default() -> Self {
        Self {
            metric: Metric::SmoothL1,
            behaviour: 1.0,
            semantic: 1.0,
            temperature: 0.3,
            negatives: 2048,
        }
    }
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            reconstruction: 1.0,
            recognition: 1.0,
            masking: Masking::Tokens,
            mask_ratio: 0.5,
            replace_ratio: 0.5,
            detach_tokens: false,
        }
    }
}

impl LossConfig {
    /// What the authors' code computes with both tasks switched on (`use_con`, `use_guide`; the published script leaves
    /// them off, which is all weights 0).
    #[must_use]
    pub fn official() -> Self {
        Self {
            generation: GenerationConfig {
                levels: Levels::Mean,
                ..GenerationConfig::default()
            },
            contrastive: ContrastiveConfig {
                metric: Metric::InfoNce,
                semantic: 10.0,
                ..ContrastiveConfig::default()
            },
            transfer: TransferConfig {
                masking: Masking::OnePosition,
                detach_tokens: true,
                ..TransferConfig::default()
            },
            direct: 0.0,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// When one is outside its range: what it is and what was expected.
    pub fn validate(&self) -> Result<(), LossConfigError> {
        let (g, c, t) = (&self.generation, &self.contrastive, &self.transfer);
        let refuse = |field, found: String, expected| {
            Err(LossConfigError {
                field,
                found,
                expected,
            })
        };
        let weights = [
            ("generation.behaviour", g.behaviour),
            ("generation.semantic", g.semantic),
            ("contrastive.behaviour", c.behaviour),
            ("contrastive.semantic", c.semantic),
            ("transfer.reconstruction", t.reconstruction),
            ("transfer.recognition", t.recognition),
            ("direct", self.direct),
        ];
        for (field, weight) in weights {
            if !(weight >= 0.0 && weight.is_finite()) {
                return refuse(field, weight.to_string(), "a finite number, 0 or more");
            }
        }
        if g.behaviour + g.semantic + self.direct == 0.0 {
            return refuse(
                "generation.behaviour",
                "0, and so is `generation.semantic`".to_owned(),
                "a weight above 0 for at least one stream, or `direct`",
            );
        }
        for (field, ratio) in [
            ("transfer.mask_ratio", t.mask_ratio),
            ("transfer.replace_ratio", t.replace_ratio),
        ] {
            if !(ratio > 0.0 && ratio <= 1.0) {
                return refuse(field, ratio.to_string(), "above 0, at most 1");
            }
        }
        if !(c.temperature > 0.0 && c.temperature.is_finite()) {
            return refuse(
                "contrastive.temperature",
                c.temperature.to_string(),
                "a finite number above 0",
            );
        }
        if c.negatives == 0 {
            return refuse("contrastive.negatives", "0".to_owned(), "1 or more");
        }
        Ok(())
    }
}

/// A configuration value outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {found}, expected {expected}")]
pub struct LossConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// The range.
    pub expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid_and_bad_fields_are_named() {
        assert!(LossConfig::default().validate().is_ok());
        assert!(LossConfig::official().validate().is_ok());
        let refused = |change: fn(&mut LossConfig)| {
            let mut config = LossConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(
            refused(|c| c.contrastive.semantic = -1.0).contains("`contrastive.semantic` is -1")
        );
        assert!(refused(|c| c.transfer.mask_ratio = 0.0).contains("`transfer.mask_ratio`"));
        assert!(refused(|c| c.transfer.recognition = f64::NAN).contains("`transfer.recognition`"));
        assert!(refused(|c| c.contrastive.temperature = 0.0).contains("temperature"));
        assert!(refused(|c| c.contrastive.negatives = 0).contains("negatives"));
        let no_stream = refused(|c| (c.generation.behaviour, c.generation.semantic) = (0.0, 0.0));
        assert!(no_stream.contains("at least one stream"), "{no_stream}");
        let mut head_alone = LossConfig::default();
        (
            head_alone.generation.behaviour,
            head_alone.generation.semantic,
        ) = (0.0, 0.0);
        head_alone.direct = 1.0;
        assert!(head_alone.validate().is_ok());
    }
}
