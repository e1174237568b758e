//! The models' shapes. `docs/baselines.md` says where each number comes from.

use eager_model::{ConfigError, EPS, FilterConfig};
use eager_ops::{LayerShape, MAX_KEYS};
use serde::{Deserialize, Serialize};

fn self_attention(d_model: usize, heads: usize, feed_forward: usize) -> LayerShape {
    LayerShape {
        d_model,
        heads,
        feed_forward,
        cross: false,
        eps: EPS,
    }
}

/// SASRec's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SasrecConfig {
    /// Width of item embeddings and states.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Inner width of the feed-forward.
    pub feed_forward: usize,
    /// Dropout of embeddings, attention probabilities and every sublayer's output.
    pub dropout: f32,
    /// Items of a history that are read: the newest.
    pub window: usize,
    /// Standard deviation of the normal distribution that weights are drawn from.
    pub init: f64,
}

impl Default for SasrecConfig {
    fn default() -> Self {
        Self {
            d_model: 64,
            heads: 2,
            layers: 2,
            feed_forward: 256,
            dropout: 0.5,
            window: 50,
            init: 0.02,
        }
    }
}

impl SasrecConfig {
    pub(crate) fn layer(&self) -> LayerShape {
        self_attention(self.d_model, self.heads, self.feed_forward)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        shape(&[
            ("d_model", self.d_model),
            ("heads", self.heads),
            ("layers", self.layers),
            ("feed_forward", self.feed_forward),
            ("window", self.window),
        ])?;
        rest(
            self.d_model,
            self.heads,
            self.window,
            self.dropout,
            self.init,
        )
    }
}

/// BSARec's shape: SASRec's, and the filter's two numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BsarecConfig {
    /// Width of item embeddings and states.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Inner width of the feed-forward.
    pub feed_forward: usize,
    /// Dropout of embeddings, attention probabilities and every sublayer's output.
    pub dropout: f32,
    /// Positions of a sequence: the newest items, with padding before them.
    pub window: usize,
    /// Standard deviation of the normal distribution that weights are drawn from.
    pub init: f64,
    /// Share of the filter in a layer's mixture with attention (the paper's α).
    pub alpha: f64,
    /// The paper's cut-off c, as the authors' code counts it: the lowest `c / 2 + 1` frequencies are the low ones.
    pub cutoff: usize,
}

impl Default for BsarecConfig {
    fn default() -> Self {
        Self {
            d_model: 64,
            heads: 1,
            layers: 2,
            feed_forward: 256,
            dropout: 0.5,
            window: 50,
            init: 0.02,
            alpha: 0.7,
            cutoff: 5,
        }
    }
}

impl BsarecConfig {
    pub(crate) fn layer(&self) -> LayerShape {
        self_attention(self.d_model, self.heads, self.feed_forward)
    }

    /// The two numbers of the filter.
    #[must_use]
    pub fn filter(&self) -> FilterConfig {
        FilterConfig {
            alpha: self.alpha,
            cutoff: self.cutoff,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        shape(&[
            ("d_model", self.d_model),
            ("heads", self.heads),
            ("layers", self.layers),
            ("feed_forward", self.feed_forward),
            ("window", self.window),
        ])?;
        rest(
            self.d_model,
            self.heads,
            self.window,
            self.dropout,
            self.init,
        )?;
        self.filter().validate(self.window)
    }
}

/// TIGER's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TigerConfig {
    /// Width of token embeddings and states.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub heads: usize,
    /// Inner width of the feed-forward.
    pub feed_forward: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Dropout of embeddings, attention probabilities and every sublayer's output.
    pub dropout: f32,
    /// Items of a history that are read: the newest.
    pub window: usize,
    /// Standard deviation of the normal distribution that weights are drawn from.
    pub init: f64,
}

impl Default for TigerConfig {
    fn default() -> Self {
        Self {
            d_model: 128,
            heads: 4,
            feed_forward: 1024,
            encoder_layers: 4,
            decoder_layers: 4,
            dropout: 0.1,
            window: 20,
            init: 0.02,
        }
    }
}

impl TigerConfig {
    pub(crate) fn layer(&self, cross: bool) -> LayerShape {
        LayerShape {
            d_model: self.d_model,
            heads: self.heads,
            feed_forward: self.feed_forward,
            cross,
            eps: EPS,
        }
    }

    /// Checks every field, for ids of `length` tokens.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self, length: usize) -> Result<(), ConfigError> {
        shape(&[
            ("d_model", self.d_model),
            ("heads", self.heads),
            ("feed_forward", self.feed_forward),
            ("encoder_layers", self.encoder_layers),
            ("decoder_layers", self.decoder_layers),
            ("window", self.window),
        ])?;
        rest(
            self.d_model,
            self.heads,
            self.window,
            self.dropout,
            self.init,
        )?;
        let most = MAX_KEYS / length;
        if self.window > most {
            let expected = format!("1 to {most} items of {length} tokens");
            return refuse("window", self.window, &expected);
        }
        Ok(())
    }
}

fn refuse(field: &'static str, found: impl ToString, expected: &str) -> Result<(), ConfigError> {
    Err(ConfigError {
        field,
        found: found.to_string(),
        expected: expected.to_owned(),
    })
}

fn shape(counts: &[(&'static str, usize)]) -> Result<(), ConfigError> {
    match counts.iter().find(|(_, n)| *n == 0) {
        Some(&(field, _)) => refuse(field, 0, "1 or more"),
        None => Ok(()),
    }
}

fn rest(d: usize, heads: usize, window: usize, dropout: f32, init: f64) -> Result<(), ConfigError> {
    if !d.is_multiple_of(heads) {
        return refuse("heads", heads, &format!("a divisor of d_model, {d}"));
    }
    if window > MAX_KEYS {
        return refuse("window", window, &format!("1 to {MAX_KEYS}"));
    }
    if !(0.0..1.0).contains(&dropout) {
        return refuse("dropout", dropout, "0 or more, below 1");
    }
    if !(init > 0.0 && init.is_finite()) {
        return refuse("init", init, "a finite number above 0");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_fields_are_named() {
        assert_eq!(SasrecConfig::default().validate(), Ok(()));
        assert_eq!(BsarecConfig::default().validate(), Ok(()));
        assert_eq!(BsarecConfig::default().filter().frequencies(), 3);
        let tiger = TigerConfig::default();
        assert_eq!(tiger.validate(4), Ok(()));
        assert_eq!(
            tiger.validate(13).unwrap_err().to_string(),
            "`window` is 20, expected 1 to 19 items of 13 tokens"
        );
        let refused = |change: fn(&mut BsarecConfig)| {
            let mut config = BsarecConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|c| c.heads = 3),
            "`heads` is 3, expected a divisor of d_model, 64"
        );
        assert!(refused(|c| c.alpha = 1.5).contains("`alpha`"));
        assert!(refused(|c| c.cutoff = 60).contains("at most 51 for 50 positions"));
        assert!(refused(|c| c.window = 300).contains("`window` is 300"));
        assert!(refused(|c| c.layers = 0).contains("`layers` is 0"));
    }
}
