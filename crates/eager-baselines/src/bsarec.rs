//! BSARec (Shin et al., AAAI 2024, "An attentive inductive bias for sequential recommendation beyond the self-attention"):
//! layers that mix self-attention with a filter over the sequence's spectrum, [`FilterLayer`].
//!
//! The transform runs over sequences of one length, padded before the oldest item, and reads padding as embeddings of zero
//! at their positions. Attention does not see it; a padded position attends to nothing. (In both the authors' code differs:
//! `docs/baselines.md`.) Since the filter looks ahead, only the last position's state is trained, on every prefix of a
//! history.

use candle_core::{Result, Tensor};
use eager_model::{Embedding, FilterInput, FilterLayer, Histories, Init, Parameters, Weights};
use eager_ops::{LowPass, Pass, Segments};

use crate::{BsarecConfig, NextItem, check};

/// The model.
#[derive(Debug)]
pub struct Bsarec {
    config: BsarecConfig,
    items: Tensor,
    embedding: Embedding,
    layers: Vec<FilterLayer>,
    parameters: Parameters,
}

impl Bsarec {
    /// Makes the model of `weights`: drawn, or saved ones of the same configuration.
    ///
    /// # Errors
    /// When `config` is not valid, or saved weights do not fit.
    pub fn new(config: &BsarecConfig, n_items: usize, mut weights: Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let (d, init) = (config.d_model, config.init);
        let w = &mut weights;
        let items = w.get("items", (n_items, d), Init::Normal(init))?;
        let embedding = Embedding::new(w, "embedding", (config.window, d), init)?;
        let low_pass = LowPass::new(config.window, config.filter().frequencies())?;
        let layers = (0..config.layers).map(|i| {
            let filter = match i + 1 == config.layers {
                true => low_pass.last(),
                false => low_pass.clone(),
            };
            let (name, shape) = (format!("layers.{i}"), config.layer());
            FilterLayer::new(w, &name, shape, init, (config.alpha, filter))
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self {
            items,
            embedding,
            layers,
            parameters: weights.finish()?,
            config: config.clone(),
        })
    }
}

impl NextItem for Bsarec {
    fn items(&self) -> &Tensor {
        &self.items
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn window(&self) -> usize {
        self.config.window
    }

    fn dropout(&self) -> f32 {
        self.config.dropout
    }

    fn every_position(&self) -> bool {
        false
    }

    fn states(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor> {
        let (length, ops) = (self.config.window, pass.ops);
        check(histories, length, self.items.dim(0)?)?;
        let real = histories.rows();
        let first =
            |(s, r): (usize, std::ops::Range<usize>)| (s + 1) * length - r.len()..(s + 1) * length;
        let places: Vec<u32> = real
            .iter()
            .enumerate()
            .flat_map(first)
            .map(|p| p as u32)
            .collect();
        // A row of zeros behind the items' stands for padding.
        let items = ops.gather(&self.items, histories.items())?;
        let none = Tensor::zeros((1, self.config.d_model), items.dtype(), items.device())?;
        let mut sources = vec![histories.items().len() as u32; real.len() * length];
        for (item, &place) in (0..).zip(&places) {
            sources[place as usize] = item;
        }
        let x = ops.gather(&Tensor::cat(&[&items, &none], 0)?, &sources)?; // [n·length, d]
        let positions: Vec<u32> = (0..real.len()).flat_map(|_| 0..length as u32).collect();
        let mut x = self.embedding.forward(pass, &x, &positions)?;
        let all = Segments::uniform(real.len(), length);
        // How many of its history's items each position sees.
        let of = |n: usize| (0..length).map(move |p| (p + 1 + n).saturating_sub(length) as u32);
        let seen: Vec<u32> = real.iter().flat_map(|r| of(r.len())).collect();
        let input = FilterInput {
            rows: &all,
            keys: (Some(&places), real),
            seen: Some(&seen),
        };
        for layer in &self.layers {
            x = layer.forward(pass, &x, input)?;
        }
        Ok(x)
    }

    fn last(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor> {
        self.states(pass, histories)
    }
}
