//! Softmax cross-entropy over the catalogue, whole or sampled.

use candle_core::{D, Result, Tensor};
use eager_ops::Ops;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Which items a state is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftmaxLoss {
    /// All of them.
    #[default]
    Full,
    /// The target and a sample that stands for the rest.
    Sampled,
}

/// Where a sample comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draws {
    /// Every item alike.
    #[default]
    Uniform,
    /// In proportion to an item's interactions in training.
    Popularity,
}

/// The loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Full or sampled.
    pub softmax: SoftmaxLoss,
    /// Items of a sample, which all states of an update share. Of the sampled softmax.
    pub negatives: usize,
    /// Where the sample comes from. Of the sampled softmax.
    pub draws: Draws,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            softmax: SoftmaxLoss::Full,
            negatives: 512,
            draws: Draws::Uniform,
        }
    }
}

/// Items drawn for an update, and how often each was expected.
#[derive(Clone, Debug)]
pub struct Sample {
    items: Vec<u32>,
    /// Natural logarithms of the expected numbers.
    log_expected: Vec<f32>,
}

impl Sample {
    /// Draws with replacement. `counts` are the items' interactions in training.
    pub fn draw(config: &LossConfig, counts: &[u32], rng: &mut impl Rng) -> Self {
        let n = config.negatives;
        let (items, log_expected) = match config.draws {
            Draws::Uniform => {
                let expected = (n as f32 / counts.len() as f32).ln();
                let items = (0..n).map(|_| rng.random_range(0..counts.len() as u32));
                (items.collect(), vec![expected; n])
            }
            Draws::Popularity => {
                // Item i owns the numbers up to `ends[i]` from the end before.
                let mut total = 0u64;
                let mut end = |&count: &u32| {
                    total += u64::from(count);
                    total
                };
                let ends: Vec<u64> = counts.iter().map(&mut end).collect();
                let items: Vec<u32> = (0..n)
                    .map(|_| {
                        let number = rng.random_range(0..total.max(1));
                        let item = ends.partition_point(|&end| end <= number);
                        item.min(counts.len() - 1) as u32
                    })
                    .collect();
                let share =
                    |&item: &u32| f64::from(counts[item as usize].max(1)) / total.max(1) as f64;
                let logs = items
                    .iter()
                    .map(|item| (n as f64 * share(item)).ln() as f32);
                let logs = logs.collect();
                (items, logs)
            }
        };
        Self {
            items,
            log_expected,
        }
    }
}

/// Mean over states `[n, d]` of `-log softmax(scores)[target]`: over all rows of `items` `[n_items, d]`, or over the target
/// and a `sample`. Of the latter each enters with its score less the logarithm of how often it was expected, so that the
/// sum under the logarithm estimates that over all items that can be drawn without bias (Bengio & Senécal, 2003; by
/// popularity those of no interaction cannot); one that is a state's own target is left out. Scalar out.
///
/// # Errors
/// When shapes do not fit, or a target is unknown.
pub fn softmax_loss(
    ops: Ops,
    states: &Tensor,
    items: &Tensor,
    targets: &[u32],
    sample: Option<&Sample>,
) -> Result<Tensor> {
    let Some(sample) = sample else {
        return ops.cross_entropy(states, items, targets);
    };
    let device = states.device();
    let (n, k) = (targets.len(), sample.items.len());
    let own = (states * ops.gather(items, targets)?)?.sum_keepdim(D::Minus1)?; // [n, 1]
    let drawn = states.matmul(&ops.gather(items, &sample.items)?.t()?)?; // [n, k]
    let mut less: Vec<f32> = Vec::with_capacity(n * k);
    for &target in targets {
        let pairs = sample.items.iter().zip(&sample.log_expected);
        less.extend(pairs.map(|(&item, &log)| if item == target { HIT } else { log }));
    }
    let less = Tensor::from_vec(less, (n, k), device)?.to_dtype(states.dtype())?;
    let logits = Tensor::cat(&[&own, &(drawn - less)?], 1)?;
    candle_nn::ops::log_softmax(&logits, D::Minus1)?
        .narrow(1, 0, 1)?
        .mean_all()?
        .neg()
}

/// Takes a score out of the softmax.
const HIT: f32 = 1e9;
