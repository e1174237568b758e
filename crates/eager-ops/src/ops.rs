//! The choice between the fused and the plain form of every operation.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::attention::{self, Attention, AttentionOp};
use crate::batch_norm::BatchNormOp;
use crate::columns::{self, ColumnStatistics};
use crate::cross_entropy::CrossEntropyOp;
use crate::dice::DiceOp;
use crate::dropout::{AddDropoutOp, Dropout, DropoutOp};
use crate::frequency::{FrequencyFilterOp, LowPass};
use crate::gather::GatherOp;
use crate::gelu::GeluOp;
use crate::layer_norm::LayerNormOp;
use crate::leaves::Slot;
use crate::linear::LinearOp;
use crate::pair_linear::PairLinearOp;
use crate::storage::{has_kernels, is_cpu_f32, tensor, with_slice, with_slices};
use crate::tree_scores::{self, TreeScores};
use crate::tree_softmax::{RowRanges, TreeCrossEntropyOp};
use crate::weighted_sum::WeightedSumOp;
use crate::{Attended, Pairs, Segments, plain};

/// Which form of the operations runs. Both give the same numbers within float noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ops {
    /// One kernel an operation, with its own backward: f32 on the CPU, and most of them on an NVIDIA GPU. Anything else runs
    /// the plain form.
    #[default]
    Fused,
    /// candle's own differentiable operations.
    Plain,
}

impl Ops {
    fn fused(self, operand: &Tensor) -> bool {
        self == Self::Fused && has_kernels(operand)
    }

    /// Of operations that have no kernels for GPUs.
    fn fused_on_cpu(self, operand: &Tensor) -> bool {
        self == Self::Fused && is_cpu_f32(operand)
    }

    /// `x·wᵀ + b`: `x` `[n, in]`, `w` `[out, in]`, `b` `[out]`; `[n, out]` out.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn linear(self, x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        if self.fused(x) {
            x.contiguous()?.apply_op3(w, b, LinearOp)
        } else {
            plain::linear(x, w, b)
        }
    }

    /// Normalises each row of `x` `[n, d]` to mean 0 and variance 1, then scales by `w` and shifts by `b` (`[d]`).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn layer_norm(self, x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
        if self.fused(x) {
            x.contiguous()?
                .apply_op3(w, b, LayerNormOp { eps: eps as f32 })
        } else {
            plain::layer_norm(x, w, b, eps)
        }
    }

    /// GELU in its tanh form, elementwise.
    ///
    /// # Errors
    /// When `x` is not a float tensor.
    pub fn gelu(self, x: &Tensor) -> Result<Tensor> {
        if self.fused(x) {
            x.contiguous()?.apply_op1(GeluOp)
        } else {
            x.gelu()
        }
    }

    /// `x` with elements dropped as `dropout` says.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn dropout(self, x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        match dropout.next_mask() {
            None => Ok(x.clone()),
            Some(mask) if self.fused(x) => x.contiguous()?.apply_op1(DropoutOp(mask)),
            Some(mask) => x * plain::dropout_factors(mask, x)?,
        }
    }

    /// `residual + dropout(x)`, both of one shape.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add_dropout(self, residual: &Tensor, x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        match dropout.next_mask() {
            None => residual + x,
            Some(mask) if self.fused(x) => residual
                .contiguous()?
                .apply_op2(&x.contiguous()?, AddDropoutOp(mask)),
            Some(mask) => residual + (x * plain::dropout_factors(mask, x)?)?,
        }
    }

    /// Rows `ids` of `table` `[rows, d]`; `[ids, d]` out.
    ///
    /// # Errors
    /// When an id is not a row of the table.
    pub fn gather(self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        self.gather_into(table, ids, None)
    }

    pub(crate) fn gather_into(
        self,
        table: &Tensor,
        ids: &[u32],
        slot: Option<Slot>,
    ) -> Result<Tensor> {
        if self.fused(table) {
            table.contiguous()?.apply_op1(GatherOp {
                ids: Arc::from(ids),
                slot,
            })
        } else {
            plain::gather(table, ids)
        }
    }

    /// Multi-head attention of packed `queries` `[nq, d]` over the keys and values `[nk, 2·d]` of the sequence with the same
    /// number; `[nq, d]` out. `seen` says for each query row how many keys of its sequence it sees, from the first on, all
    /// without; a query that sees none gives zeros. `dropout` is on the probabilities.
    ///
    /// # Errors
    /// When shapes do not fit or a sequence has more than [`crate::MAX_KEYS`] keys.
    pub fn attention(
        self,
        queries: &Tensor,
        rows: &Segments,
        attended: Attended<'_>,
        seen: Option<&[u32]>,
        heads: usize,
        dropout: &Dropout,
    ) -> Result<Tensor> {
        let Attended { kv, rows: keys } = attended;
        let ((nq, d), (nk, width)) = (queries.dims2()?, kv.dims2()?);
        let op = Attention {
            queries: rows.clone(),
            keys: keys.clone(),
            heads,
            seen: seen.map(Arc::from),
            mask: dropout.next_mask(),
        };
        op.check(nq, nk, d)?;
        if width != 2 * d {
            candle_core::bail!(
                "attention: queries of width {d} want keys and values of {}, got {width}",
                2 * d
            )
        }
        if self.fused(queries) {
            queries
                .contiguous()?
                .apply_op2(&kv.contiguous()?, AttentionOp(op))
        } else {
            plain::attention(&op, queries, &kv.narrow(1, 0, d)?, &kv.narrow(1, d, d)?)
        }
    }

    /// Multi-head attention of `queries` `[n, d]`, one position each, over its own prefix: the keys and values of query `i`
    /// at a step are row `rows[step][i]` of `past[step]` `[_, 2·d]`. `[n, d]` out; for inference, no gradient runs through
    /// the fused form.
    ///
    /// # Errors
    /// When shapes do not fit, there is no step, or a row does not exist.
    pub fn prefix_attention(
        self,
        queries: &Tensor,
        past: &[Tensor],
        rows: &[Vec<u32>],
        heads: usize,
    ) -> Result<Tensor> {
        let (n, d) = queries.dims2()?;
        if past.is_empty() || past.len() != rows.len() || heads == 0 || !d.is_multiple_of(heads) {
            candle_core::bail!(
                "prefix attention: queries {:?} of {heads} heads over {} steps, rows of {}",
                queries.shape(),
                past.len(),
                rows.len()
            )
        }
        for (step, rows) in past.iter().zip(rows) {
            let (len, width) = step.dims2()?;
            if width != 2 * d || rows.len() != n || rows.iter().any(|&r| r as usize >= len) {
                candle_core::bail!(
                    "prefix attention: {} rows for {n} queries of width {d}, of a step {:?}",
                    rows.len(),
                    step.shape()
                )
            }
        }
        if self.fused(queries) {
            let past = past
                .iter()
                .map(|step| step.contiguous())
                .collect::<Result<Vec<_>>>()?;
            #[cfg(feature = "cuda")]
            if crate::cuda::is_cuda_f32(queries) {
                return attention::prefix_attention_on_gpu(queries, &past, rows, heads);
            }
            return with_slices(&past, |past| {
                with_slice(queries, |queries| {
                    let out = attention::prefix_attention(queries, past, rows, d, heads);
                    tensor(out, &[n, d])
                })
            });
        }
        let steps = past
            .iter()
            .zip(rows)
            .map(|(kv, rows)| plain::gather(kv, rows))
            .collect::<Result<Vec<_>>>()?;
        let kv = Tensor::stack(&steps, 1)?.reshape((n * steps.len(), 2 * d))?;
        let attended = Attended {
            kv: &kv,
            rows: &Segments::uniform(n, steps.len()),
        };
        let each = Segments::uniform(n, 1);
        self.attention(queries, &each, attended, None, heads, &Dropout::off())
    }

    /// Mean over rows of `-log softmax(hidden_i · table[range_i]ᵀ)[target_i]`: the cross-entropy of a
    /// level-wise choice among a node's children. `hidden` `[n, d]`, `table` `[nodes, d]`; scalar out.
    ///
    /// # Errors
    /// When shapes do not fit `rows` or a range leaves the table.
    pub fn tree_cross_entropy(
        self,
        hidden: &Tensor,
        table: &Tensor,
        rows: &RowRanges,
    ) -> Result<Tensor> {
        self.tree_cross_entropy_into(hidden, table, rows, None)
    }

    pub(crate) fn tree_cross_entropy_into(
        self,
        hidden: &Tensor,
        table: &Tensor,
        rows: &RowRanges,
        slot: Option<Slot>,
    ) -> Result<Tensor> {
        if self.fused(hidden) {
            let differentiate = hidden.track_op() || table.track_op();
            let op = TreeCrossEntropyOp::new(rows, differentiate, slot);
            hidden.contiguous()?.apply_op2(&table.contiguous()?, op)
        } else {
            plain::tree_cross_entropy(hidden, table, rows)
        }
    }

    /// Mean over rows of `-log softmax(hidden_i · tableᵀ)[target_i]`, over all rows of the table. `hidden` `[n, d]`, `table`
    /// `[rows, d]`, `targets` `[n]`; scalar out.
    ///
    /// # Errors
    /// When the shapes do not fit, there is no row, or a target is not in the table.
    pub fn cross_entropy(self, hidden: &Tensor, table: &Tensor, targets: &[u32]) -> Result<Tensor> {
        if self.fused(hidden) {
            let differentiate = hidden.track_op() || table.track_op();
            let op = CrossEntropyOp::new(targets, differentiate);
            hidden.contiguous()?.apply_op2(&table.contiguous()?, op)
        } else {
            plain::cross_entropy(hidden, table, targets)
        }
    }

    /// Mean of `h(x - y)`, `h(z) = z²/2` where `|z| < 1`, else `|z| - 1/2`, over all elements. Scalar out.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn smooth_l1(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self == Self::Fused && crate::cuda::is_cuda_f32(x) {
            use crate::cuda::losses::{Kind, MeanLossOp};
            let op = MeanLossOp::new(Kind::SmoothL1);
            return x.contiguous()?.apply_op2(&y.contiguous()?, op);
        }
        plain::smooth_l1(x, y)
    }

    /// Mean binary cross-entropy of logits `[n]` whose label is 1 and `[m]` whose label is 0: of `-log σ(x)` and `-log σ(-x)`.
    /// Scalar out.
    ///
    /// # Errors
    /// When both are empty.
    pub fn logistic_loss(self, positive: &Tensor, negative: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self == Self::Fused && crate::cuda::is_cuda_f32(positive) {
            use crate::cuda::losses::{Kind, MeanLossOp};
            let op = MeanLossOp::new(Kind::Logistic);
            return positive
                .contiguous()?
                .apply_op2(&negative.contiguous()?, op);
        }
        plain::logistic_loss(positive, negative)
    }

    /// `low + scale²∘(x - low)` of packed sequences, with `low` what `low_pass` keeps of them, each filled up with zeros
    /// before its first position. `x` `[n, d]`, `scale` `[d]`; the rows of its outputs, `[outputs, d]`.
    ///
    /// # Errors
    /// When the shapes do not fit, or a sequence is longer than the filter's.
    pub fn frequency_filter(
        self,
        x: &Tensor,
        rows: &Segments,
        scale: &Tensor,
        low_pass: &LowPass,
    ) -> Result<Tensor> {
        if self.fused(x) {
            let op = FrequencyFilterOp {
                low_pass: low_pass.clone(),
                rows: rows.clone(),
            };
            x.contiguous()?.apply_op2(&scale.contiguous()?, op)
        } else {
            plain::frequency_filter(x, rows, scale, low_pass)
        }
    }

    /// `log softmax(hidden_i · table[ranges_i]ᵀ)` of every row, over its own range of the table's rows. `hidden`
    /// `[n, d]`, `table` `[nodes, d]`. No gradient runs through it, and the numbers are on the host.
    ///
    /// # Errors
    /// When the shapes do not fit or a range leaves the table.
    pub fn tree_scores(
        self,
        hidden: &Tensor,
        table: &Tensor,
        ranges: &[Range<u32>],
    ) -> Result<TreeScores> {
        tree_scores::tree_scores(self.fused(hidden), hidden, table, ranges)
    }

    /// Batch normalisation of `x` `[n, d]`, scaled by `w` and shifted by `b` (`[d]`). Without `known` it is by the
    /// statistics of `x` itself, through which the gradient runs, and which come back; with `known` by those, as
    /// constants.
    ///
    /// # Errors
    /// When the shapes do not fit, or there is no row to take statistics of.
    pub fn batch_norm(
        self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        known: Option<&ColumnStatistics>,
        eps: f64,
    ) -> Result<(Tensor, ColumnStatistics)> {
        if !self.fused_on_cpu(x) {
            return plain::batch_norm(x, w, b, known, eps);
        }
        let x = x.contiguous()?;
        let statistics = known.map_or_else(|| columns::statistics(&x), |s| Ok(s.clone()))?;
        let op = BatchNormOp {
            columns: statistics.scales(eps)?,
            of_batch: known.is_none(),
        };
        Ok((x.apply_op3(w, b, op)?, statistics))
    }

    /// Dice: `p = σ((x - mean)/√(var + eps))`, `x·(p + alpha·(1 - p))` for `x` `[n, d]` and `alpha` `[d]`, with
    /// statistics as in [`Ops::batch_norm`].
    ///
    /// # Errors
    /// When the shapes do not fit, or there is no row to take statistics of.
    pub fn dice(
        self,
        x: &Tensor,
        alpha: &Tensor,
        known: Option<&ColumnStatistics>,
        eps: f64,
    ) -> Result<(Tensor, ColumnStatistics)> {
        if !self.fused_on_cpu(x) {
            return plain::dice(x, alpha, known, eps);
        }
        let x = x.contiguous()?;
        let statistics = known.map_or_else(|| columns::statistics(&x), |s| Ok(s.clone()))?;
        let op = DiceOp {
            columns: statistics.scales(eps)?,
            of_batch: known.is_none(),
        };
        Ok((x.apply_op2(alpha, op)?, statistics))
    }

    /// `W·(q_c∘b_t) + u_c + v_t` for every pair; `left` `[candidates, d + h]` holds each candidate's `q` and `u` side
    /// by side, `right` `[positions, d + h]` each position's `b` and `v`, and `w` is `[h, d]`. `[pairs, h]` out.
    ///
    /// With `u = W_q·q` and `v = W_b·b` that is a linear layer over `[q, b, q∘b]`, most of it done once a row.
    ///
    /// # Errors
    /// When the shapes do not fit each other or `pairs`.
    pub fn pair_linear(
        self,
        left: &Tensor,
        right: &Tensor,
        w: &Tensor,
        pairs: &Pairs,
    ) -> Result<Tensor> {
        let ((rows, width), (positions, right_width)) = (left.dims2()?, right.dims2()?);
        let (h, d) = w.dims2()?;
        pairs.check("pair_linear", rows, positions)?;
        if h == 0 || d == 0 || width != d + h || right_width != d + h {
            candle_core::bail!(
                "pair_linear: left {:?} and right {:?} want {} columns for w {:?}",
                left.shape(),
                right.shape(),
                d + h,
                w.shape()
            )
        }
        if self.fused_on_cpu(left) {
            let (left, right) = (left.contiguous()?, right.contiguous()?);
            left.apply_op3(&right, &w.contiguous()?, PairLinearOp(pairs.clone()))
        } else {
            plain::pair_linear(left, right, w, pairs)
        }
    }

    /// `Σ_t weights_ct·values_t` for each candidate `c` over the positions of its sequence; `weights` `[pairs]` or
    /// `[pairs, 1]`, `values` `[positions, d]`; `[candidates, d]` out. Without positions the sum is 0.
    ///
    /// # Errors
    /// When the shapes do not fit `pairs`.
    pub fn weighted_sum(self, weights: &Tensor, values: &Tensor, pairs: &Pairs) -> Result<Tensor> {
        pairs.check("weighted_sum", pairs.candidates().rows(), values.dims2()?.0)?;
        if weights.dim(0)? != pairs.len() || weights.elem_count() != pairs.len() {
            candle_core::bail!(
                "weighted_sum: weights {:?} for {} pairs",
                weights.shape(),
                pairs.len()
            )
        }
        if self.fused_on_cpu(weights) {
            let weights = weights.contiguous()?;
            weights.apply_op2(&values.contiguous()?, WeightedSumOp(pairs.clone()))
        } else {
            plain::weighted_sum(weights, values, pairs)
        }
    }
}
