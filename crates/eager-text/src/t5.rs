//! The T5 encoder (Raffel et al. 2020), forward only, over texts of one length and so without mask.
//!
//! Weights and shapes are those of candle's `T5EncoderModel`, the oracle of the test below, which
//! takes no mask either; queries, keys and values are one product here, and the elementwise steps are
//! fused ([`ops`](crate::ops)). There is no decoder.

use candle_core::{Result, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::t5::Config;

use crate::kernels::{Heads, Pair};
use crate::ops;

pub(crate) struct T5 {
    words: Tensor, // [vocabulary, d]
    distances: Distances,
    layers: Vec<Layer>,
    norm: Tensor, // [d]
    heads: usize,
    width: usize,
    eps: f64,
}

struct Layer {
    attention_norm: Tensor, // [d]
    qkv: Tensor,            // [d, 3 · heads · width]
    output: Tensor,         // [heads · width, d]
    wide_norm: Tensor,      // [d]
    wide: Wide,
    narrow: Tensor, // [d_ff, d]
}

/// The feed-forward's first half.
enum Wide {
    /// relu(x W); `zero` [d_ff] stands in the place of a bias.
    Relu { weight: Tensor, zero: Tensor },
    /// gelu(x W) · (x V)
    GatedGelu { gate: Tensor, value: Tensor },
}

impl T5 {
    /// Builds the encoder; the token table is `shared.weight` or `encoder.embed_tokens.weight`.
    pub fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let d = config.d_model;
        let table = ["shared.weight", "encoder.embed_tokens.weight"];
        let table = table
            .into_iter()
            .find(|name| vb.contains_tensor(name))
            .unwrap_or(table[0]);
        let words = vb.get((config.vocab_size, d), table)?;
        let vb = vb.pp("encoder");
        let first = vb.pp("block.0.layer.0.SelfAttention.relative_attention_bias");
        let buckets = config.relative_attention_num_buckets;
        let layer = |i| Layer::load(vb.pp("block").pp(i), config);
        Ok(Self {
            words,
            distances: Distances {
                table: first.get((buckets, config.num_heads), "weight")?,
                buckets,
                longest: config.relative_attention_max_distance,
            },
            layers: (0..config.num_layers).map(layer).collect::<Result<_>>()?,
            norm: vb.get(d, "final_layer_norm.weight")?,
            heads: config.num_heads,
            width: config.d_kv,
            eps: config.layer_norm_epsilon,
        })
    }

    /// Token vectors [batch, length, d] of `ids` [batch, length].
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let d = self.words.dim(1)?;
        let mut x = self
            .words
            .index_select(&ids.flatten_all()?, 0)?
            .reshape((batch, length, d))?;
        let bias = self.distances.bias(length)?;
        // T5 does not divide its scores by the square root of the width.
        let heads = Heads {
            count: self.heads,
            width: self.width,
            length,
            scale: 1.0,
        };
        for layer in &self.layers {
            x = layer.forward(&x, heads, &bias, self.eps)?;
        }
        ops::rms_norm(&x, &self.norm, self.eps)
    }
}

impl Layer {
    fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let (d, inner, wide) = (config.d_model, config.num_heads * config.d_kv, config.d_ff);
        let linear = |vb: VarBuilder, inputs: usize, outputs: usize| {
            vb.get((outputs, inputs), "weight")?.t()?.contiguous()
        };
        let attention = vb.pp("layer.0.SelfAttention");
        let feed = vb.pp("layer.1.DenseReluDense");
        let part = |name: &str| linear(attention.pp(name), d, inner);
        let projection = &config.feed_forward_proj;
        let wide_half = match (projection.gated, projection.activation) {
            (false, Activation::Relu) => {
                let weight = linear(feed.pp("wi"), d, wide)?;
                let zero = Tensor::zeros(wide, weight.dtype(), weight.device())?;
                Wide::Relu { weight, zero }
            }
            (true, Activation::NewGelu) => Wide::GatedGelu {
                gate: linear(feed.pp("wi_0"), d, wide)?,
                value: linear(feed.pp("wi_1"), d, wide)?,
            },
            _ => candle_core::bail!(
                "feed_forward_proj {projection:?} is not supported; supported: relu, gated-gelu"
            ),
        };
        Ok(Self {
            attention_norm: vb.get(d, "layer.0.layer_norm.weight")?,
            qkv: Tensor::cat(&[part("q")?, part("k")?, part("v")?], 1)?,
            output: linear(attention.pp("o"), inner, d)?,
            wide_norm: vb.get(d, "layer.1.layer_norm.weight")?,
            wide: wide_half,
            narrow: linear(feed.pp("wo"), wide, d)?,
        })
    }

    fn forward(&self, x: &Tensor, heads: Heads, bias: &Tensor, eps: f64) -> Result<Tensor> {
        let normed = ops::rms_norm(x, &self.attention_norm, eps)?;
        let mixed = ops::attention(heads, &normed.broadcast_matmul(&self.qkv)?, Some(bias))?;
        let x = ops::pair(Pair::Add, x, &mixed.broadcast_matmul(&self.output)?)?;
        let normed = ops::rms_norm(&x, &self.wide_norm, eps)?;
        let wide = match &self.wide {
            Wide::Relu { weight, zero } => {
                ops::pair(Pair::AddRelu, &normed.broadcast_matmul(weight)?, zero)?
            }
            Wide::GatedGelu { gate, value } => {
                let (gate, value) = (
                    normed.broadcast_matmul(gate)?,
                    normed.broadcast_matmul(value)?,
                );
                ops::pair(Pair::GeluTanhMul, &gate, &value)?
            }
        };
        ops::pair(Pair::Add, &x, &wide.broadcast_matmul(&self.narrow)?)
    }
}

/// The relative positions' part of the scores, shared by all layers.
struct Distances {
    table: Tensor, // [buckets, heads]
    buckets: usize,
    longest: usize,
}

impl Distances {
    /// [heads, length, length]: what the score of query `i` and key `j` gets for their distance.
    fn bias(&self, length: usize) -> Result<Tensor> {
        let pairs = (0..length).flat_map(|i| (0..length).map(move |j| (i, j)));
        let buckets: Vec<u32> = pairs.map(|(i, j)| self.bucket(i, j)).collect();
        let buckets = Tensor::from_vec(buckets, length * length, self.table.device())?;
        let bias = self.table.index_select(&buckets, 0)?; // [length², heads]
        bias.t()?
            .reshape((self.table.dim(1)?, length, length))?
            .contiguous()
    }

    /// Half the buckets are for keys after the query. Of each half, the first half are the distances
    /// themselves and the others grow logarithmically up to `longest`; in f32, as the original.
    fn bucket(&self, query: usize, key: usize) -> u32 {
        let half = self.buckets / 2;
        let exact = half / 2;
        let distance = query.abs_diff(key);
        let bucket = if distance < exact {
            distance
        } else {
            let ratio = (distance as f32 / exact as f32).ln();
            let range = (self.longest as f32 / exact as f32).ln();
            (exact + (ratio / range * (half - exact) as f32) as usize).min(half - 1)
        };
        (if key > query { half + bucket } else { bucket }) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use candle_core::Device;
    use candle_transformers::models::t5::T5EncoderModel;

    /// Candle's model takes no mask, so it is right for texts of one length.
    #[test]
    fn token_vectors_are_those_of_candle() {
        for projection in ["relu", "gated-gelu"] {
            let config: Config = serde_json::from_value(serde_json::json!({
                "vocab_size": 50, "d_model": 24, "d_kv": 10, "d_ff": 40, "num_layers": 2, "num_heads": 3,
                "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
                "dropout_rate": 0.0, "layer_norm_epsilon": 1e-6, "initializer_factor": 1.0,
                "feed_forward_proj": projection, "pad_token_id": 0, "eos_token_id": 1, "is_encoder_decoder": true, "use_cache": false,
            }))
            .unwrap();
            let (vb, fill) = random::weights();
            let mut theirs = T5EncoderModel::load(vb.clone(), &config).unwrap();
            fill(0.3);
            let ours = T5::load(vb, &config).unwrap();
            // Distances of their own, of logarithmic buckets, and beyond the last one.
            for (batch, length) in [(3, 1), (2, 7), (1, 60), (1, 170)] {
                let ids = random::ids(batch, length, 50);
                let ids = Tensor::from_vec(ids, (batch, length), &Device::Cpu).unwrap();
                let (ours, theirs) = (ours.forward(&ids).unwrap(), theirs.forward(&ids).unwrap());
                random::assert_close(&ours, &theirs, 2e-5);
            }
        }
    }
}
