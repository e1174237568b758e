//! DIN (Zhou et al., 2018), whose item table is EAGER's behaviour vectors (paper §3.2; official `DIN_Model.py`).
//!
//! A candidate `q` weighs each item `b` of the history: the local activation unit reads `[q, b, q - b, q∘b]` and its
//! output, without a softmax, is `b`'s weight `a`. The weighted items are summed in time windows; the sums and the
//! candidate go through a small network to one score. Two identities save most of the work, exactly:
//!
//! - `W·[q, b, q - b, q∘b] = (W_q + W_d)·q + (W_b - W_d)·b + W_p·(q∘b)`: the first two are computed once a candidate
//!   and once a position, and only the last for every pair of them;
//! - over the window sums `Σ_w W_w·Σ_{t in w} a_t·b_t = Σ_t a_t·(W_w(t)·b_t)`: one product a position, then for each
//!   candidate a weighted sum of them.
//!
//! Batch normalisation stands before each of the upper network's activations, dropout after. Left out: any feature
//! but item ids.

mod config;
mod layers;
mod scorer;
mod statistics;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};
use eager_ops::{Dropout, Ops, Pairs, Segments};

pub use config::{DinConfig, DinConfigError};
pub use scorer::DinScorer;
pub use statistics::DinStatistics;

use crate::{Init, Weights};
use layers::{Activation, Layer, Output, plain_scale};
use statistics::Norms;

/// Histories and the candidates to score for each: packed, in the same order.
#[derive(Clone, Debug)]
pub struct DinBatch<'a> {
    /// Items of all histories, oldest first, `[positions]`.
    pub history: &'a [u32],
    /// Each history's positions.
    pub positions: &'a Segments,
    /// Items to score, `[candidates]`.
    pub items: &'a [u32],
    /// Each history's candidates.
    pub candidates: &'a Segments,
}

/// The network.
#[derive(Clone, Debug)]
pub struct Din {
    config: DinConfig,
    /// `[n_items, d]`.
    items: Tensor,
    /// The activation unit's first layer by the parts of its input, `[h, d]` each: `q`, `b`, `q - b`, `q∘b`.
    unit_first: [Tensor; 4],
    unit_bias: Tensor,
    unit_first_activation: Activation,
    unit: Vec<Layer>,
    unit_output: Output,
    /// The upper network's first layer by the parts of its input, `[h, d]` each.
    top_candidate: Tensor,
    top_windows: Vec<Tensor>,
    top_bias: Tensor,
    top_first_activation: Activation,
    top: Vec<Layer>,
    top_output: Output,
}

/// What a candidate brings, whatever the history.
#[derive(Clone, Debug)]
struct CandidateParts {
    /// `q` and `(W_q + W_d)·q + bias` side by side, `[candidates, d + h]`.
    left: Tensor,
    /// `W_c·q + bias` of the upper network's first layer, `[candidates, top]`.
    top: Tensor,
}

/// What a history's position brings, whatever the candidate.
struct HistoryParts {
    /// `b` and `(W_b - W_d)·b` side by side, `[positions, d + h]`.
    right: Tensor,
    /// `W_w(t)·b`, `[positions, top]`.
    values: Tensor,
}

impl Din {
    /// A DIN over `n_items` items with parameters from `weights`.
    ///
    /// # Errors
    /// When the configuration is not valid, or the weights do not fit it.
    pub fn new(config: &DinConfig, n_items: usize, weights: &mut Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let (d, unit, top) = (config.width, &config.unit, &config.top);
        let items = weights.get("items", (n_items, d), Init::Normal(config.init_std))?;
        let scale = plain_scale(4 * d);
        let mut part = |name: &str| weights.get(&format!("unit.0.{name}"), (unit[0], d), scale);
        let unit_first = [part("q")?, part("b")?, part("d")?, part("p")?];
        let scale = plain_scale((1 + config.windows.len()) * d);
        let mut part = |name: &str| weights.get(&format!("top.0.{name}"), (top[0], d), scale);
        let top_candidate = part("candidate")?;
        let top_windows = (0..config.windows.len())
            .map(|w| part(&format!("window.{w}")))
            .collect::<Result<_>>()?;
        let (norm, dice_eps, norm_eps) = (config.batch_norm, config.dice_eps, config.norm_eps);
        let mut slots = 0..;
        let mut activation = |name: String, width, norm, weights: &mut Weights| {
            Activation::new(
                &name,
                width,
                norm,
                [norm_eps, dice_eps],
                &mut slots,
                weights,
            )
        };
        let unit_first_activation = activation("unit.0".into(), unit[0], false, weights)?;
        let unit_layers = (1..unit.len())
            .map(|i| {
                let name = format!("unit.{i}");
                let activation = activation(name.clone(), unit[i], false, weights)?;
                Layer::new(&name, unit[i - 1], activation, weights)
            })
            .collect::<Result<_>>()?;
        let top_first_activation = activation("top.0".into(), top[0], norm, weights)?;
        let top_layers = (1..top.len())
            .map(|i| {
                let name = format!("top.{i}");
                let activation = activation(name.clone(), top[i], norm, weights)?;
                Layer::new(&name, top[i - 1], activation, weights)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            items,
            unit_first,
            unit_bias: weights.get("unit.0.bias", unit[0], Init::Zeros)?,
            unit_first_activation,
            unit: unit_layers,
            unit_output: Output::new("unit.out", unit[unit.len() - 1], weights)?,
            top_candidate,
            top_windows,
            top_bias: weights.get("top.0.bias", top[0], Init::Zeros)?,
            top_first_activation,
            top: top_layers,
            top_output: Output::new("top.out", top[top.len() - 1], weights)?,
        })
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &DinConfig {
        &self.config
    }

    /// The item table, `[n_items, width]`: the behaviour vectors.
    #[must_use]
    pub fn items(&self) -> &Tensor {
        &self.items
    }

    /// Scores in training: normalised by the batch's own statistics, which come back for
    /// [`DinStatistics::update`]. `[candidates]`.
    ///
    /// # Errors
    /// When the batch does not fit together, an item is not in the table, a history is longer than the windows, or
    /// no history has an item.
    pub fn forward(
        &self,
        ops: Ops,
        batch: &DinBatch<'_>,
        dropout: &Dropout,
    ) -> Result<(Tensor, DinStatistics)> {
        let (n, positions) = (batch.items.len(), batch.history.len());
        // One gather, so that the table's gradient is made once.
        let ids = [batch.items, batch.history].concat();
        let rows = ops.gather(&self.items, &ids)?; // [candidates + positions, d]
        let candidates = self.candidate_parts(ops, &rows.narrow(0, 0, n)?)?;
        let history = rows.narrow(0, n, positions)?;
        let history = self.history_parts(ops, &history, batch.positions)?;
        let pairs = Pairs::new(batch.candidates, batch.positions)?;
        let mut norms = Norms::of_batch(&self.config);
        let scores = self.scores(ops, &candidates, &history, &pairs, &mut norms, dropout)?;
        Ok((scores, norms.into_statistics()?))
    }

    /// `q`: `[candidates, d]`.
    fn candidate_parts(&self, ops: Ops, q: &Tensor) -> Result<CandidateParts> {
        let [w_q, _, w_d, _] = &self.unit_first;
        let u = ops.linear(q, &(w_q + w_d)?, &self.unit_bias)?;
        Ok(CandidateParts {
            left: Tensor::cat(&[q, &u], 1)?,
            top: ops.linear(q, &self.top_candidate, &self.top_bias)?,
        })
    }

    /// `b`: `[positions, d]`.
    fn history_parts(&self, ops: Ops, b: &Tensor, positions: &Segments) -> Result<HistoryParts> {
        let [_, w_b, w_d, _] = &self.unit_first;
        let v = b.contiguous()?.matmul(&(w_b - w_d)?.t()?)?;
        // The rows of each window stand together for one product, then go back to their places.
        let windows = self.config.rows_by_window(positions)?;
        let mut place = vec![0; positions.rows()];
        for (i, &row) in windows.iter().flatten().enumerate() {
            place[row as usize] = i as u32;
        }
        let products = windows
            .iter()
            .zip(&self.top_windows)
            .filter(|(rows, _)| !rows.is_empty())
            .map(|(rows, w)| ops.gather(b, rows)?.matmul(&w.t()?))
            .collect::<Result<Vec<_>>>()?;
        let values = if products.is_empty() {
            Tensor::zeros((0, self.config.top[0]), b.dtype(), b.device())?
        } else {
            ops.gather(&Tensor::cat(&products, 0)?, &place)?
        };
        Ok(HistoryParts {
            right: Tensor::cat(&[b, &v], 1)?,
            values,
        })
    }

    /// `[candidates]`.
    fn scores(
        &self,
        ops: Ops,
        candidates: &CandidateParts,
        history: &HistoryParts,
        pairs: &Pairs,
        norms: &mut Norms<'_>,
        dropout: &Dropout,
    ) -> Result<Tensor> {
        let mut x = candidates.top.clone();
        if !pairs.is_empty() {
            let w_p = &self.unit_first[3];
            let h = ops.pair_linear(&candidates.left, &history.right, w_p, pairs)?;
            let mut h = self.unit_first_activation.forward(ops, &h, norms)?; // [pairs, h]
            for layer in &self.unit {
                h = layer.forward(ops, &h, norms)?;
            }
            let a = self.unit_output.forward(ops, &h)?; // [pairs, 1]
            x = (x + ops.weighted_sum(&a, &history.values, pairs)?)?;
        }
        let x = self.top_first_activation.forward(ops, &x, norms)?;
        let mut x = ops.dropout(&x, dropout)?;
        for layer in &self.top {
            x = ops.dropout(&layer.forward(ops, &x, norms)?, dropout)?;
        }
        self.top_output.forward(ops, &x)?.squeeze(1)
    }

    /// The same network over the same memory, outside of any graph.
    fn detached(&self) -> Self {
        Self {
            config: self.config.clone(),
            items: self.items.detach(),
            unit_first: self.unit_first.each_ref().map(Tensor::detach),
            unit_bias: self.unit_bias.detach(),
            unit_first_activation: self.unit_first_activation.detached(),
            unit: self.unit.iter().map(Layer::detached).collect(),
            unit_output: self.unit_output.detached(),
            top_candidate: self.top_candidate.detach(),
            top_windows: self.top_windows.iter().map(Tensor::detach).collect(),
            top_bias: self.top_bias.detach(),
            top_first_activation: self.top_first_activation.detached(),
            top: self.top.iter().map(Layer::detached).collect(),
            top_output: self.top_output.detached(),
        }
    }
}
