//! The BERT encoder (Devlin et al. 2019), forward only, over texts of one length and so without mask.
//!
//! Weights and shapes are those of candle's `BertModel`, the oracle of the test below; queries, keys
//! and values are one product here, and the elementwise steps are fused ([`ops`](crate::ops)). Every
//! text is one segment.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{Config, HiddenAct};

use crate::kernels::{Heads, Pair};
use crate::ops;

pub(crate) struct Bert {
    words: Tensor,     // [vocabulary, d]
    positions: Tensor, // [positions, d], the first segment's vector added
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
}

struct Layer {
    qkv: Linear,
    output: Linear,
    output_norm: Norm,
    wide: Linear,
    activation: Pair,
    narrow: Linear,
    narrow_norm: Norm,
}

/// x W + b, the weight stored [inputs, outputs].
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Bert {
    /// Builds the encoder from `vb`, whose names may begin with `bert.`.
    pub fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let d = config.hidden_size;
        if !d.is_multiple_of(config.num_attention_heads) {
            let heads = config.num_attention_heads;
            candle_core::bail!("hidden_size {d} does not divide into {heads} heads");
        }
        let name = "embeddings.word_embeddings.weight";
        let vb = if vb.contains_tensor(name) {
            vb
        } else {
            vb.pp("bert")
        };
        let embeddings = vb.pp("embeddings");
        let segment =
            embeddings.get((config.type_vocab_size, d), "token_type_embeddings.weight")?;
        let positions = embeddings.get(
            (config.max_position_embeddings, d),
            "position_embeddings.weight",
        )?;
        let layer = |i| Layer::load(vb.pp("encoder.layer").pp(i), config);
        Ok(Self {
            words: embeddings.get((config.vocab_size, d), "word_embeddings.weight")?,
            positions: positions.broadcast_add(&segment.get(0)?)?,
            norm: Norm::load(embeddings.pp("LayerNorm"), config)?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_>>()?,
            heads: config.num_attention_heads,
        })
    }

    /// Token vectors [batch, length, d] of `ids` [batch, length].
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let d = self.words.dim(1)?;
        let words = self
            .words
            .index_select(&ids.flatten_all()?, 0)?
            .reshape((batch, length, d))?;
        let x = ops::pair(Pair::Add, &words, &self.positions.narrow(0, 0, length)?)?;
        let mut x = self.norm.forward(&x)?;
        let width = d / self.heads;
        let scale = 1.0 / (width as f32).sqrt();
        let heads = Heads {
            count: self.heads,
            width,
            length,
            scale,
        };
        for layer in &self.layers {
            x = layer.forward(&x, heads)?;
        }
        Ok(x)
    }
}

impl Layer {
    fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let part = |name: &str| Linear::load(vb.pp("attention.self").pp(name), d, d);
        let (q, k, v) = (part("query")?, part("key")?, part("value")?);
        Ok(Self {
            qkv: Linear {
                weight: Tensor::cat(&[q.weight, k.weight, v.weight], 1)?,
                bias: Tensor::cat(&[q.bias, k.bias, v.bias], 0)?,
            },
            output: Linear::load(vb.pp("attention.output.dense"), d, d)?,
            output_norm: Norm::load(vb.pp("attention.output.LayerNorm"), config)?,
            wide: Linear::load(vb.pp("intermediate.dense"), d, wide)?,
            activation: match config.hidden_act {
                HiddenAct::Gelu => Pair::AddGelu,
                HiddenAct::GeluApproximate => Pair::AddGeluTanh,
                HiddenAct::Relu => Pair::AddRelu,
            },
            narrow: Linear::load(vb.pp("output.dense"), wide, d)?,
            narrow_norm: Norm::load(vb.pp("output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        let qkv = self.qkv.forward(x, Pair::Add)?;
        let mixed = self
            .output
            .forward(&ops::attention(heads, &qkv, None)?, Pair::Add)?;
        let x = self
            .output_norm
            .forward(&ops::pair(Pair::Add, &mixed, x)?)?;
        let wide = self.wide.forward(&x, self.activation)?;
        let narrow = self.narrow.forward(&wide, Pair::Add)?;
        self.narrow_norm
            .forward(&ops::pair(Pair::Add, &narrow, &x)?)
    }
}

impl Linear {
    fn load(vb: VarBuilder, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = vb.get((outputs, inputs), "weight")?.t()?.contiguous()?;
        Ok(Self {
            weight,
            bias: vb.get(outputs, "bias")?,
        })
    }

    /// `f(x W, b)` for `x` [batch, length, inputs].
    fn forward(&self, x: &Tensor, f: Pair) -> Result<Tensor> {
        ops::pair(f, &x.broadcast_matmul(&self.weight)?, &self.bias)
    }
}

impl Norm {
    fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let (d, eps) = (config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            weight: vb.get(d, "weight")?,
            bias: vb.get(d, "bias")?,
            eps,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use candle_core::Device;
    use candle_transformers::models::bert::BertModel;

    #[test]
    fn token_vectors_are_those_of_candle() {
        for activation in ["gelu", "geluapproximate", "relu"] {
            let config: Config = serde_json::from_value(serde_json::json!({
                "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
                "intermediate_size": 40, "hidden_act": activation, "hidden_dropout_prob": 0.0,
                "max_position_embeddings": 64, "type_vocab_size": 2, "initializer_range": 0.02,
                "layer_norm_eps": 1e-12, "pad_token_id": 0,
            }))
            .unwrap();
            let (vb, fill) = random::weights();
            let theirs = BertModel::load(vb.clone(), &config).unwrap();
            fill(0.3);
            let ours = Bert::load(vb, &config).unwrap();
            for (batch, length) in [(3, 1), (2, 7), (1, 64)] {
                let ids = random::ids(batch, length, 50);
                let ids = Tensor::from_vec(ids, (batch, length), &Device::Cpu).unwrap();
                let segment = ids.zeros_like().unwrap();
                let theirs = theirs.forward(&ids, &segment, None).unwrap();
                random::assert_close(&ours.forward(&ids).unwrap(), &theirs, 2e-5);
            }
        }
    }
}
