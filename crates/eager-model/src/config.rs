//! The generator's shape. Numbers of the paper and of the official code stand here and nowhere else.

use eager_ops::LayerShape;
use serde::{Deserialize, Serialize};

use crate::layers::EPS;

/// The generator's shape. `Default` is the paper's method; [`EagerConfig::official`] is what the authors' code runs.
/// `docs/paper.md` sets the two side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EagerConfig {
    /// Width of every embedding and hidden state. Ours 128; official code 96.
    pub d_model: usize,
    /// Attention heads; divides `d_model`. Official code 4.
    pub heads: usize,
    /// Inner width of the feed-forward layers. Ours 4 · `d_model`; official code 1,024, and 2 · `d_model` in the auxiliary
    /// decoder.
    pub feed_forward: usize,
    /// Layers of the encoder that both streams share. Official code 1.
    pub encoder_layers: usize,
    /// Layers of each decoder. Ours 4; official code 2.
    pub decoder_layers: usize,
    /// Layers of the auxiliary bidirectional decoder of the transfer task. Official code 1.
    pub transfer_layers: usize,
    /// Dropout of embeddings, attention probabilities and every sub-layer's output. Official code 0.1, and 0 in the auxiliary
    /// decoder.
    pub dropout: f32,
    /// Positions of a window: the newest `window - 1` items of a history, and the target. Official code 20.
    pub window: usize,
    /// Whether the streams share the table of item embeddings.
    pub items: ItemTable,
    /// Whether a summary is scaled to length 1 before its projection. Paper's text: no; official code: yes.
    pub normalise_summary: bool,
    /// What guides the transfer task.
    pub guide: Guide,
    /// Whether the transfer task's gradient stops at the semantic summary. Paper's text: no; official code: yes.
    pub detach_guide: bool,
    /// Whether there is a head beside the decoders that scores every item directly, from the encoder's state at the newest
    /// item. Not in the paper, see `docs/eager-plus.md`; needs `items = "shared"`.
    pub direct_head: bool,
    /// The filter beside attention in the encoder's layers, as in BSARec. Not in the paper, see `docs/eager-plus.md`.
    pub filter: FilterConfig,
    /// Standard deviation of the normal distribution that weights are drawn from. BERT, so official code's
    /// encoder and decoders: 0.02.
    pub init: f64,
}

/// A filter over a history's spectrum: see [`FilterLayer`](crate::FilterLayer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterConfig {
    /// Share of the filter in a layer's mixture with attention (BSARec's α); 0 for attention alone.
    pub alpha: f64,
    /// BSARec's cut-off c, as its authors' code counts it: the lowest `c / 2 + 1` frequencies are the low ones.
    pub cutoff: usize,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            alpha: 0.0,
            cutoff: 5,
        }
    }
}

impl FilterConfig {
    /// Frequencies that count as low.
    #[must_use]
    pub fn frequencies(&self) -> usize {
        self.cutoff / 2 + 1
    }

    /// Checks both for sequences of at most `length` positions.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self, length: usize) -> Result<(), ConfigError> {
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(ConfigError {
                field: "alpha",
                found: self.alpha.to_string(),
                expected: "0 to 1".to_owned(),
            });
        }
        let most = length / 2 + 1;
        if self.frequencies() > most {
            return Err(ConfigError {
                field: "cutoff",
                found: self.cutoff.to_string(),
                expected: format!("at most {} for {length} positions", 2 * most - 1),
            });
        }
        Ok(())
    }
}

/// Whose item embeddings the encoder reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemTable {
    /// One table; the encoder runs once for both streams (paper: "shared encoder").
    Shared,
    /// A table for each stream, so that the encoder runs twice with the same weights (official code).
    PerStream,
}

/// What of the semantic summary the transfer task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guide {
    /// The decoder's output at the summary token (paper).
    Summary,
    /// Its projection to the item vector's width (official code).
    Projection,
}

impl Default for EagerConfig {
    fn default() -> Self {
        Self {
            d_model: 128,
            heads: 4,
            feed_forward: 512,
            encoder_layers: 1,
            decoder_layers: 4,
            transfer_layers: 1,
            dropout: 0.1,
            window: 20,
            items: ItemTable::Shared,
            normalise_summary: false,
            guide: Guide::Summary,
            detach_guide: false,
            direct_head: false,
            filter: FilterConfig::default(),
            init: 0.02,
        }
    }
}

impl EagerConfig {
    /// What the authors' code runs (`train_rec.py`, `HF_Model.py`).
    #[must_use]
    pub fn official() -> Self {
        Self {
            d_model: 96,
            feed_forward: 1024,
            decoder_layers: 2,
            items: ItemTable::PerStream,
            normalise_summary: true,
            guide: Guide::Projection,
            detach_guide: true,
            ..Self::default()
        }
    }

    /// Its layers.
    pub(crate) fn layer(&self, cross: bool) -> LayerShape {
        LayerShape {
            d_model: self.d_model,
            heads: self.heads,
            feed_forward: self.feed_forward,
            cross,
            eps: EPS,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// When one is outside its range: what it is and what was expected.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, found: String, expected: &str| {
            Err(ConfigError {
                field,
                found,
                expected: expected.to_owned(),
            })
        };
        let counts = [
            ("d_model", self.d_model),
            ("heads", self.heads),
            ("feed_forward", self.feed_forward),
            ("encoder_layers", self.encoder_layers),
            ("decoder_layers", self.decoder_layers),
            ("transfer_layers", self.transfer_layers),
        ];
        if let Some(&(field, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return refuse(field, "0".to_owned(), "1 or more");
        }
        if !self.d_model.is_multiple_of(self.heads) {
            return refuse(
                "heads",
                self.heads.to_string(),
                &format!("a divisor of d_model, {}", self.d_model),
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", self.dropout.to_string(), "0 or more, below 1");
        }
        if !(2..=eager_ops::MAX_KEYS).contains(&self.window) {
            return refuse(
                "window",
                self.window.to_string(),
                &format!("2 to {}", eager_ops::MAX_KEYS),
            );
        }
        if self.direct_head && self.items != ItemTable::Shared {
            let expected = "`items = \"shared\"` with it: it scores the rows of one table of items";
            return refuse("direct_head", "true".to_owned(), expected);
        }
        if self.filter.alpha != 0.0 {
            let qualified = |error: ConfigError| ConfigError {
                field: match error.field {
                    "alpha" => "filter.alpha",
                    _ => "filter.cutoff",
                },
                ..error
            };
            let filter = self.filter.validate(self.window - 1);
            filter.map_err(qualified)?;
        }
        if !(self.init > 0.0 && self.init.is_finite()) {
            return refuse("init", self.init.to_string(), "a finite number above 0");
        }
        Ok(())
    }
}

/// A configuration value outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {found}, expected {expected}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// The range.
    pub expected: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid_and_bad_fields_are_named() {
        assert!(EagerConfig::default().validate().is_ok());
        assert!(EagerConfig::official().validate().is_ok());
        let refused = |change: fn(&mut EagerConfig)| {
            let mut config = EagerConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|c| c.heads = 3),
            "`heads` is 3, expected a divisor of d_model, 128"
        );
        assert!(refused(|c| c.dropout = 1.0).contains("`dropout`"));
        assert!(refused(|c| c.window = 1).contains("`window` is 1"));
        assert!(refused(|c| c.encoder_layers = 0).contains("`encoder_layers`"));
        assert!(
            refused(|c| (c.direct_head, c.items) = (true, ItemTable::PerStream))
                .contains("`direct_head`")
        );
        assert!(refused(|c| c.init = f64::NAN).contains("`init`"));
        let filter = |alpha, cutoff| FilterConfig { alpha, cutoff };
        let mut config = EagerConfig {
            filter: filter(1.0, 19),
            ..EagerConfig::default()
        };
        assert!(config.validate().is_ok());
        config.filter = filter(1.0, 20);
        let message = config.validate().unwrap_err().to_string();
        assert_eq!(
            message,
            "`filter.cutoff` is 20, expected at most 19 for 19 positions"
        );
        config.filter = filter(-0.1, 5);
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("`filter.alpha`")
        );
    }
}
