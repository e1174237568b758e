//! The global contrastive task (paper §3.3): the summary of a code is drawn to its item's own, pre-trained vector.
//!
//! The paper's form has positives only, `F(s, v)` with a metric `F`; the official code's is InfoNCE against sampled items.
//! All take summaries already projected to the vectors' width, `[batch, w]`, and give the mean over the batch.
//!
//! candle's `abs` has derivative 1 at 0; L1 multiplies by a detached sign instead, which gives the usual subgradient (0 at
//! 0).

use candle_core::{D, Result, Tensor};
use candle_nn::ops::log_softmax;
use eager_ops::Ops;

use crate::{ContrastiveConfig, Metric};

/// Sampled items that InfoNCE tells the target from.
#[derive(Clone, Debug)]
pub struct Negatives {
    /// Ids, `[n]`; one that is a batch row's own target does not count as that row's negative.
    pub items: Vec<u32>,
    /// Their vectors, `[n, w]`.
    pub vectors: Tensor,
}

/// The distance that `config` names of `summaries` `[batch, w]` to `vectors` `[batch, w]` of the items `targets` `[batch]`;
/// unweighted. `negatives` are used by InfoNCE alone, and needed there.
///
/// # Errors
/// When shapes differ, or InfoNCE has no negatives.
pub fn contrastive(
    ops: Ops,
    config: &ContrastiveConfig,
    summaries: &Tensor,
    vectors: &Tensor,
    targets: &[u32],
    negatives: Option<&Negatives>,
) -> Result<Tensor> {
    match (config.metric, negatives) {
        (Metric::SmoothL1, _) => ops.smooth_l1(summaries, vectors),
        (Metric::L1, _) => l1(summaries, vectors),
        (Metric::L2, _) => l2(summaries, vectors),
        (Metric::Cosine, _) => cosine(summaries, vectors),
        (Metric::InfoNce, Some(negatives)) => {
            info_nce(summaries, vectors, targets, negatives, config.temperature)
        }
        (Metric::InfoNce, None) => candle_core::bail!("InfoNCE needs negatives"),
    }
}

/// Mean of `|summary - vector|`.
fn l1(summaries: &Tensor, vectors: &Tensor) -> Result<Tensor> {
    let x = (summaries - vectors)?;
    (x.detach().sign()? * x)?.mean_all()
}

/// Mean of `(summary - vector)²`.
fn l2(summaries: &Tensor, vectors: &Tensor) -> Result<Tensor> {
    (summaries - vectors)?.sqr()?.mean_all()
}

/// Rows scaled to length 1; one of length 0 stays.
fn unit(x: &Tensor) -> Result<Tensor> {
    let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-16)?.sqrt()?;
    x.broadcast_div(&norm)
}

/// Mean of `1 - cos(summary, vector)`; the cosine with a vector of length 0 is 0.
fn cosine(summaries: &Tensor, vectors: &Tensor) -> Result<Tensor> {
    let cosines = (unit(summaries)? * unit(vectors)?)?.sum(D::Minus1)?;
    (1.0 - cosines)?.mean_all()
}

/// Mean of `-log softmax([cos(s, v), cos(s, n₁), cos(s, n₂), …] / temperature)[0]`, a row's own target left out of its
/// negatives (`HF_Model.py`, `info_nce` with its `norm`).
fn info_nce(
    summaries: &Tensor,
    vectors: &Tensor,
    targets: &[u32],
    negatives: &Negatives,
    temperature: f64,
) -> Result<Tensor> {
    /// Stands for -∞: its exponential is 0, and no NaN comes of it.
    const LEFT_OUT: f32 = -1e9;
    let shape = (targets.len(), negatives.items.len());
    let summaries = unit(summaries)?;
    let own = (&summaries * unit(vectors)?)?.sum_keepdim(D::Minus1)?; // [batch, 1]
    let others = summaries.matmul(&unit(&negatives.vectors)?.t()?)?; // [batch, n]
    let bias: Vec<f32> = targets
        .iter()
        .flat_map(|t| {
            let items = negatives.items.iter();
            items.map(move |n| if n == t { LEFT_OUT } else { 0.0 })
        })
        .collect();
    let bias = Tensor::from_vec(bias, shape, summaries.device())?.to_dtype(summaries.dtype())?;
    let others = ((others / temperature)? + bias)?;
    let logits = Tensor::cat(&[(own / temperature)?, others], 1)?;
    log_softmax(&logits, D::Minus1)?
        .narrow(1, 0, 1)?
        .mean_all()?
        .neg()
}
