//! The semantic-guided transfer losses (paper §3.4): rebuild the masked tokens of a behaviour code, and tell a true code
//! from one with tokens replaced, both from the semantic summary.

use candle_core::{Result, Tensor};
use eager_ops::{Ops, Pass, RowRanges};

/// Mean cross-entropy of the masked tokens. `hidden` `[masked, d]` are the states there, `rows` for every token of the codes
/// its siblings and the true one, `masked` the rows that were masked, `tokens` `[nodes, d]` the embeddings scored against.
/// Scalar out.
///
/// # Errors
/// When shapes do not fit, or no row is masked.
pub fn reconstruction(
    pass: Pass<'_>,
    hidden: &Tensor,
    tokens: &Tensor,
    rows: &RowRanges,
    masked: &[u32],
) -> Result<Tensor> {
    if let Some(row) = masked.iter().find(|&&r| r as usize >= rows.len()) {
        candle_core::bail!("masked row {row} of {} tokens", rows.len())
    }
    let ranges = masked.iter().map(|&r| rows.ranges()[r as usize].clone());
    let targets = masked.iter().map(|&r| rows.targets()[r as usize]);
    let rows = RowRanges::new(ranges.collect(), targets.collect())?;
    pass.tree_cross_entropy(hidden, tokens, &rows)
}

/// Mean binary cross-entropy of the logits of `true_codes` `[n]` (label 1) and `replaced_codes` `[m]` (label 0):
/// `-log σ(x)` and `-log σ(-x)`. Scalar out.
///
/// # Errors
/// When both are empty.
pub fn recognition(ops: Ops, true_codes: &Tensor, replaced_codes: &Tensor) -> Result<Tensor> {
    ops.logistic_loss(true_codes, replaced_codes)
}
