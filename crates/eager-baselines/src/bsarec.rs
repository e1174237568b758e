//! BSARec (Shin et al., AAAI 2024, "An attentive inductive bias for sequential recommendation beyond the self-attention"):
//! each layer mixes self-attention with a filter over the sequence's spectrum,
//! `α·LN(x + F(x)) + (1 - α)·LN(x + A(x))`, before its feed-forward. `F` keeps low frequencies and scales the others by a
//! learnt `β²` a column.
//!
//! The transform runs over sequences of one length, padded before the oldest item, and reads padding as the authors' code
//! does: as embeddings of zero at their positions. Attention does not see it; a padded position attends to nothing. Since
//! the filter looks ahead, only the last position's state is trained, on every prefix of a history.

use candle_core::{Result, Tensor};
use eager_model::{Embedding, Histories, Init, Linear, Norm, Parameters, Pass, Weights};
use eager_ops::{Attended, LowPass, Segments};

use crate::{BsarecConfig, NextItem, check};

/// The model.
#[derive(Debug)]
pub struct Bsarec {
    config: BsarecConfig,
    items: Tensor,
    embedding: Embedding,
    blocks: Vec<Block>,
    low_pass: LowPass,
    parameters: Parameters,
}

/// One layer.
#[derive(Debug)]
struct Block {
    q: Linear,
    kv: Linear,
    attended: Linear,
    attention_norm: Norm,
    /// β: what high frequencies are scaled by is its square.
    beta: Tensor,
    filter_norm: Norm,
    inner: Linear,
    outer: Linear,
    norm: Norm,
}

/// Where items stand in padded sequences.
struct Padded<'a> {
    /// The sequences without padding.
    real: &'a Segments,
    /// Rows of their items among the padded ones, `[items]`.
    places: Vec<u32>,
    length: usize,
}

impl Padded<'_> {
    /// How many keys of its sequence each of the last `outputs` positions sees.
    fn seen(&self, outputs: usize) -> Vec<u32> {
        let of = |n: usize| {
            (self.length - outputs..self.length)
                .map(move |p| (p + 1 + n).saturating_sub(self.length) as u32)
        };
        self.real.iter().flat_map(|r| of(r.len())).collect()
    }
}

impl Block {
    fn new(weights: &mut Weights, name: &str, config: &BsarecConfig) -> Result<Self> {
        let (d, inner, init) = (config.d_model, config.feed_forward, config.init);
        let mut linear =
            |part: &str, from, to| Linear::new(weights, &format!("{name}.{part}"), from, to, init);
        let (q, kv) = (linear("q", d, d)?, linear("kv", d, 2 * d)?);
        let attended = linear("attended", d, d)?;
        let (into, out) = (linear("inner", d, inner)?, linear("outer", inner, d)?);
        let mut norm = |part: &str| Norm::new(weights, &format!("{name}.{part}"), d);
        Ok(Self {
            q,
            kv,
            attended,
            inner: into,
            outer: out,
            attention_norm: norm("attention_norm")?,
            filter_norm: norm("filter_norm")?,
            norm: norm("norm")?,
            // The authors' code: standard normal.
            beta: weights.get(&format!("{name}.beta"), d, Init::Normal(1.0))?,
        })
    }

    /// `x` `[sequences·length, d]`; the rows that `low_pass` has outputs for, `[sequences·outputs, d]`.
    fn forward(
        &self,
        pass: Pass<'_>,
        x: &Tensor,
        padded: &Padded<'_>,
        low_pass: &LowPass,
        config: &BsarecConfig,
    ) -> Result<Tensor> {
        let (ops, dropout) = (pass.ops, pass.dropout);
        let (n, outputs) = (padded.real.len(), low_pass.outputs());
        let own = if outputs == padded.length {
            x.clone()
        } else {
            let of = |s: usize| (s + 1) * padded.length - outputs..(s + 1) * padded.length;
            let rows: Vec<u32> = (0..n).flat_map(of).map(|row| row as u32).collect();
            ops.gather(x, &rows)?
        };
        let filtered = ops.frequency_filter(x, &self.beta, low_pass)?;
        let filtered = ops.add_dropout(&own, &filtered, dropout)?;
        let filtered = self.filter_norm.forward(ops, &filtered)?;

        let kv = self.kv.forward(ops, &ops.gather(x, &padded.places)?)?; // [items, 2·d]
        let attended = Attended {
            kv: &kv,
            rows: padded.real,
        };
        let mixed = ops.attention(
            &self.q.forward(ops, &own)?,
            &Segments::uniform(n, outputs),
            attended,
            Some(&padded.seen(outputs)),
            config.heads,
            dropout,
        )?;
        let mixed = ops.add_dropout(&own, &self.attended.forward(ops, &mixed)?, dropout)?;
        let mixed = self.attention_norm.forward(ops, &mixed)?;

        let x = ((filtered * config.alpha)? + (mixed * (1.0 - config.alpha))?)?;
        let inner = ops.gelu(&self.inner.forward(ops, &x)?)?;
        let out = ops.add_dropout(&x, &self.outer.forward(ops, &inner)?, dropout)?;
        self.norm.forward(ops, &out)
    }
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
        let blocks = (0..config.layers)
            .map(|i| Block::new(w, &format!("layers.{i}"), config))
            .collect::<Result<_>>()?;
        Ok(Self {
            items,
            embedding,
            blocks,
            low_pass: LowPass::new(config.window, config.frequencies())?,
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
        let padded = Padded {
            real,
            places,
            length,
        };
        for (i, block) in self.blocks.iter().enumerate() {
            let low_pass = if i + 1 == self.blocks.len() {
                self.low_pass.last()
            } else {
                self.low_pass.clone()
            };
            x = block.forward(pass, &x, &padded, &low_pass, &self.config)?;
        }
        Ok(x)
    }

    fn last(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor> {
        self.states(pass, histories)
    }
}
