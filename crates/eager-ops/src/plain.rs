//! The same operations composed of candle's own differentiable ones: any device, any float dtype.
//!
//! This is the reference the fused kernels are tested against and what runs where they cannot. Packed
//! sequences are padded here, computed with a mask, and packed again.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{log_softmax, softmax};

use crate::attention::Attention;
use crate::columns::ColumnStatistics;
use crate::{LowPass, Pairs, RowRanges, Segments};

/// Stands for -∞ where a whole row may be masked: `exp` of it is 0, and no NaN comes of it.
const MASKED: f32 = -1e9;

pub(crate) fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    x.matmul(&w.t()?)?.broadcast_add(b)
}

pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .broadcast_mul(w)?
        .broadcast_add(b)
}

pub(crate) fn dropout_factors(mask: crate::dropout::Mask, x: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(mask.factors(x.elem_count()), x.shape(), x.device())?.to_dtype(x.dtype())
}

pub(crate) fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    table
        .contiguous()?
        .index_select(&Tensor::from_slice(ids, ids.len(), table.device())?, 0)
}

/// Row index of every (sequence, position), padded with row 0 to the longest sequence.
fn padded_rows(segments: &Segments, longest: usize) -> Vec<u32> {
    segments
        .iter()
        .flat_map(|r| (0..longest).map(move |i| if i < r.len() { (r.start + i) as u32 } else { 0 }))
        .collect()
}

/// `q`, `k`, `v`: `[rows, d]`. Returns `[query rows, d]`.
pub(crate) fn attention(op: &Attention, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (device, dtype) = (q.device(), q.dtype());
    let (n, d, heads) = (op.queries.len(), q.dim(1)?, op.heads);
    let (lq, lk) = (op.queries.longest(), op.keys.longest());
    if lq == 0 || lk == 0 {
        return q.zeros_like();
    }
    let pad = |x: &Tensor, segments: &Segments, longest: usize| {
        gather(x, &padded_rows(segments, longest))?
            .reshape((n, longest, heads, d / heads))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (q, k, v) = (
        pad(q, &op.queries, lq)?,
        pad(k, &op.keys, lk)?,
        pad(v, &op.keys, lk)?,
    );
    // Query i of sequence s sees so many keys: 0 there, MASKED behind, [n, 1, lq, lk].
    let seen: Vec<usize> = op
        .queries
        .iter()
        .zip(op.keys.iter())
        .flat_map(|(queries, keys)| {
            (0..lq).map(move |i| {
                let row = queries.clone().nth(i);
                row.map_or(keys.len(), |row| op.seen(row, keys.len()))
            })
        })
        .collect();
    let bias: Vec<f32> = seen
        .iter()
        .flat_map(|&seen| (0..lk).map(move |j| if j < seen { 0.0 } else { MASKED }))
        .collect();
    let bias = Tensor::from_vec(bias, (n, 1, lq, lk), device)?.to_dtype(dtype)?;
    let scores = (q.matmul(&k.t()?)? / ((d / heads) as f64).sqrt())?;
    let mut p = softmax(&scores.broadcast_add(&bias)?, D::Minus1)?;
    if let Some(mask) = op.mask {
        let factors: Vec<f32> = op
            .queries
            .iter()
            .flat_map(|rows| {
                (0..heads).flat_map(move |h| {
                    (0..lq).flat_map(move |i| {
                        let first = op.site(rows.start + i, h);
                        (0..lk).map(move |j| mask.factor(first.wrapping_add(j as u32)))
                    })
                })
            })
            .collect();
        p = (p * Tensor::from_vec(factors, (n, heads, lq, lk), device)?.to_dtype(dtype)?)?;
    }
    // Who sees nothing gets zeros.
    let some: Vec<f32> = seen
        .iter()
        .map(|&s| if s == 0 { 0.0 } else { 1.0 })
        .collect();
    let some = Tensor::from_vec(some, (n, 1, lq, 1), device)?.to_dtype(dtype)?;
    let out = p
        .matmul(&v)?
        .broadcast_mul(&some)?
        .transpose(1, 2)?
        .reshape((n * lq, d))?;
    let rows: Vec<u32> = op
        .queries
        .iter()
        .enumerate()
        .flat_map(|(s, r)| (0..r.len()).map(move |i| (s * lq + i) as u32))
        .collect();
    gather(&out, &rows)
}

/// See [`crate::Ops::tree_cross_entropy`].
pub(crate) fn tree_cross_entropy(
    hidden: &Tensor,
    table: &Tensor,
    rows: &RowRanges,
) -> Result<Tensor> {
    let ((n, d), device) = (hidden.dims2()?, hidden.device());
    let ranges = rows.ranges();
    let longest = ranges.iter().map(|r| r.len()).max().unwrap_or(0);
    let ids: Vec<u32> = ranges
        .iter()
        .flat_map(|r| {
            (0..longest as u32).map(move |j| if j < r.end - r.start { r.start + j } else { 0 })
        })
        .collect();
    let bias: Vec<f32> = ranges
        .iter()
        .flat_map(|r| (0..longest).map(move |j| if j < r.len() { 0.0 } else { MASKED }))
        .collect();
    let bias = Tensor::from_vec(bias, (n, longest), device)?.to_dtype(hidden.dtype())?;
    let children = gather(table, &ids)?.reshape((n, longest, d))?;
    let logits = children.matmul(&hidden.reshape((n, d, 1))?)?.squeeze(2)?;
    let targets: Vec<u32> = ranges
        .iter()
        .zip(rows.targets())
        .map(|(r, t)| t - r.start)
        .collect();
    let targets = Tensor::from_vec(targets, (n, 1), device)?;
    log_softmax(&(logits + bias)?, D::Minus1)?
        .gather(&targets, 1)?
        .mean_all()?
        .neg()
}

/// See [`crate::Ops::cross_entropy`].
pub(crate) fn cross_entropy(hidden: &Tensor, table: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let logits = hidden.matmul(&table.t()?)?; // [n, rows]
    let targets = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    log_softmax(&logits, D::Minus1)?
        .gather(&targets, 1)?
        .mean_all()?
        .neg()
}

/// See [`crate::Ops::smooth_l1`]. candle's `abs` has derivative 1 at 0 and `clamp` none we would rely on; multiplied by a
/// detached clamp it has the usual subgradients, 0 at 0.
pub(crate) fn smooth_l1(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let x = (x - y)?;
    // h = c·(x - c/2) with c = clamp(x, -1, 1), and h' = c.
    let c = x.detach().clamp(-1f32, 1f32)?;
    (&c * (x - (&c * 0.5)?)?)?.mean_all()
}

/// See [`crate::Ops::logistic_loss`].
pub(crate) fn logistic_loss(positive: &Tensor, negative: &Tensor) -> Result<Tensor> {
    // -log σ(x) is the first of log softmax([x, 0]): finite for every finite x, smooth everywhere.
    let x = Tensor::cat(&[positive, &negative.neg()?], 0)?;
    let pairs = Tensor::stack(&[&x, &x.zeros_like()?], 1)?;
    log_softmax(&pairs, D::Minus1)?
        .narrow(1, 0, 1)?
        .mean_all()?
        .neg()
}

/// See [`crate::Ops::frequency_filter`].
pub(crate) fn frequency_filter(
    x: &Tensor,
    rows: &Segments,
    scale: &Tensor,
    low_pass: &LowPass,
) -> Result<Tensor> {
    let d = low_pass.check(x.shape(), scale.shape(), rows)?;
    let (n, length) = (rows.len(), low_pass.length());
    // Every sequence with zeros, a row behind the others, before its first position.
    let zeros = Tensor::zeros((1, d), x.dtype(), x.device())?;
    let filled: Vec<u32> = rows
        .iter()
        .flat_map(|r| {
            let none = std::iter::repeat_n(rows.rows(), length - r.len());
            none.chain(r).map(|row| row as u32)
        })
        .collect();
    let x = gather(&Tensor::cat(&[x, &zeros], 0)?, &filled)?.reshape((n, length, d))?;
    let matrix = low_pass.tensor(&x)?;
    let outputs = matrix.dim(0)?;
    let low = matrix.broadcast_left(n)?.contiguous()?.matmul(&x)?; // [n, outputs, d]
    let own = x.narrow(1, length - outputs, outputs)?;
    let high = (own - &low)?.broadcast_mul(&scale.sqr()?)?;
    let all = (low + high)?.reshape((n * outputs, d))?;
    let real: Vec<u32> = low_pass
        .outputs(rows)
        .enumerate()
        .flat_map(|(s, own)| ((s + 1) * outputs - own.len()..(s + 1) * outputs).map(|r| r as u32))
        .collect();
    gather(&all, &real)
}

/// `(x - mean)/√(var + ε)`, by `known` statistics or differentiably by those of `x`, and the statistics.
fn normalise(
    x: &Tensor,
    known: Option<&ColumnStatistics>,
    eps: f64,
) -> Result<(Tensor, ColumnStatistics)> {
    if known.is_none() && x.dim(0)? == 0 {
        candle_core::bail!("column statistics: x {:?} has no elements", x.shape())
    }
    let cast = |s: &Tensor| s.to_device(x.device())?.to_dtype(x.dtype())?.unsqueeze(0);
    let mean = known.map_or_else(|| x.mean_keepdim(0), |k| cast(&k.mean))?; // [1, d]
    let centred = x.broadcast_sub(&mean)?;
    let var = known.map_or_else(|| centred.sqr()?.mean_keepdim(0), |k| cast(&k.var))?;
    let statistics = ColumnStatistics {
        mean: mean.squeeze(0)?.detach(),
        var: var.squeeze(0)?.detach(),
    };
    Ok((
        centred.broadcast_div(&(var + eps)?.sqrt()?)?,
        known.cloned().unwrap_or(statistics),
    ))
}

/// See [`crate::Ops::batch_norm`].
pub(crate) fn batch_norm(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    known: Option<&ColumnStatistics>,
    eps: f64,
) -> Result<(Tensor, ColumnStatistics)> {
    let (z, statistics) = normalise(x, known, eps)?;
    Ok((z.broadcast_mul(w)?.broadcast_add(b)?, statistics))
}

/// See [`crate::Ops::dice`].
pub(crate) fn dice(
    x: &Tensor,
    alpha: &Tensor,
    known: Option<&ColumnStatistics>,
    eps: f64,
) -> Result<(Tensor, ColumnStatistics)> {
    let (z, statistics) = normalise(x, known, eps)?;
    let p = candle_nn::ops::sigmoid(&z)?;
    let rest = p.affine(-1.0, 1.0)?.broadcast_mul(alpha)?;
    Ok(((x * (p + rest)?)?, statistics))
}

/// See [`crate::Ops::pair_linear`].
pub(crate) fn pair_linear(
    left: &Tensor,
    right: &Tensor,
    w: &Tensor,
    pairs: &Pairs,
) -> Result<Tensor> {
    let (h, d) = w.dims2()?;
    if pairs.is_empty() {
        return Tensor::zeros((0, h), left.dtype(), left.device());
    }
    let (candidates, positions) = pairs.rows();
    let (left, right) = (gather(left, &candidates)?, gather(right, &positions)?); // [pairs, d + h]
    let products = (left.narrow(1, 0, d)? * right.narrow(1, 0, d)?)?;
    products.matmul(&w.t()?)? + (left.narrow(1, d, h)? + right.narrow(1, d, h)?)?
}

/// See [`crate::Ops::weighted_sum`].
pub(crate) fn weighted_sum(weights: &Tensor, values: &Tensor, pairs: &Pairs) -> Result<Tensor> {
    let rows = pairs.candidates().rows();
    let zeros = Tensor::zeros((rows, values.dim(1)?), values.dtype(), values.device())?;
    if pairs.is_empty() {
        return Ok(zeros);
    }
    let (candidates, positions) = pairs.rows();
    let candidates = Tensor::from_vec(candidates, pairs.len(), values.device())?;
    let terms = gather(values, &positions)?.broadcast_mul(&weights.reshape((pairs.len(), 1))?)?;
    zeros.index_add(&candidates, &terms, 0)
}
