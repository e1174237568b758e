//! The generation loss (paper §3.2): the code of the target, token by token.
//!
//! `L = Σ_l -log p(c_l | c_<l, history)`, mean over the batch; `p` is a softmax over the children of the true prefix.

use candle_core::{Result, Tensor};
use eager_ops::{Pass, RowRanges};

use crate::Levels;

/// Of states `hidden` `[batch · levels, d]` (a code's positions together), token embeddings `tokens` `[nodes, d]` and for
/// each state the children of its prefix with the true one among them. Scalar out.
///
/// # Errors
/// When shapes do not fit.
pub fn generation(
    pass: Pass<'_>,
    hidden: &Tensor,
    tokens: &Tensor,
    rows: &RowRanges,
    levels: usize,
    reduction: Levels,
) -> Result<Tensor> {
    let mean = pass.tree_cross_entropy(hidden, tokens, rows)?; // over batch and levels
    match reduction {
        Levels::Mean => Ok(mean),
        Levels::Sum => mean * levels as f64,
    }
}
