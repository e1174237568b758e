//! The sampled softmax: which items stand for the rest of the catalogue, and the loss over them.

use anyhow::Result;
use candle_core::{D, Tensor};
use eager_data::Windows;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DinSetting, LogQ};

/// Keys the negatives' generator apart from the data order's (ASCII "negative").
const NEGATIVES: u64 = 0x6e65_6761_7469_7665;

/// Candidates of a batch: for each example its target, then its negatives.
pub(super) struct Negatives {
    pub(super) items: Vec<u32>,
    /// Candidates of one example.
    pub(super) each: usize,
}

impl Negatives {
    /// Negatives are uniform over the items other than the target, drawn with replacement from (seed, update).
    pub(super) fn draw(
        setting: &DinSetting<'_>,
        windows: &Windows,
        examples: &[u32],
        update: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(setting.seed ^ NEGATIVES);
        rng.set_stream(update);
        let others = setting.split.n_items() as u32 - 1;
        let each = setting.training.negatives + 1;
        let mut items = Vec::with_capacity(examples.len() * each);
        for target in windows.batch(examples).targets {
            items.push(target);
            items.extend((1..each).map(|_| {
                let item = rng.random_range(0..others);
                item + u32::from(item >= target)
            }));
        }
        Self { items, each }
    }
}

/// Sum over examples of `-log softmax(s - log Q)[target]` over the target and its negatives; see [`LogQ`] for `Q`.
/// `scores` `[examples·each]`, the target first of each example's. Scalar out.
pub(super) fn sampled_softmax(
    scores: &Tensor,
    each: usize,
    n_items: usize,
    log_q: LogQ,
) -> Result<Tensor> {
    let mut logits = scores.reshape(((), each))?; // [examples, 1 + negatives]
    if log_q == LogQ::Negatives {
        let correction = ((n_items - 1) as f32 / (each - 1) as f32).ln();
        let corrections: Vec<f32> = (0..each)
            .map(|i| if i == 0 { 0.0 } else { correction })
            .collect();
        let corrections = Tensor::from_vec(corrections, (1, each), scores.device())?;
        logits = logits.broadcast_add(&corrections)?;
    }
    let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
    Ok(log_p.narrow(1, 0, 1)?.sum_all()?.neg()?)
}
