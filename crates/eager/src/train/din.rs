//! DIN's training (official `DIN_trainer.py`): shuffled epochs over every window ([`epochs`]), sampled softmax with uniform
//! negatives, Adam, early stopping on validation. What comes out is the item table, EAGER's behaviour vectors.
//!
//! Batch statistics are those of a shard (ghost batch normalisation); the running ones move in shard order.

mod config;
mod sampled;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use eager_data::{Batches, Split, Windows};
use eager_infer::metrics::{Metrics, Rank};
use eager_model::{Din, DinBatch, DinConfig, DinScorer, DinStatistics, Parameters, Weights};
use eager_ops::{Dropout, Gradients, Ops, Segments};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use config::{DinTraining, LogQ};

use sampled::{Negatives, sampled_softmax};

use super::checkpoint;
use super::epochs::{self, Course, Found, Learner, Outcome};
use super::shards::{SHARDS, Shards};
use crate::run::write_json;

/// Keys the validation users' generator (ASCII "validate").
const VALIDATION: u64 = 0x7661_6c69_6461_7465;
/// Cut-off of the validation's figures.
const K: usize = 20;

/// All that a training run reads.
#[derive(Clone, Copy, Debug)]
pub struct DinSetting<'a> {
    /// The histories.
    pub split: &'a Split,
    /// The network's shape.
    pub config: &'a DinConfig,
    /// The loop's settings.
    pub training: &'a DinTraining,
    /// Fused or plain operations.
    pub ops: Ops,
    /// Seed of weights, data order, negatives, dropout and the choice of validation users.
    pub seed: u64,
    /// Where the network lives.
    pub device: &'a Device,
    /// The workers.
    pub shards: &'a Shards,
}

/// What happens in DIN's training.
pub type Event = epochs::Event<f64, DinValidation>;

/// Recall and NDCG at 20 over all items, items of the history not masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DinValidation {
    /// Share of users whose target is among the first 20: what early stopping looks at.
    pub recall_20: f64,
    /// Mean of `1/log2(1 + rank)` within the first 20.
    pub ndcg_20: f64,
}

impl Found for DinValidation {
    fn score(&self) -> f64 {
        self.recall_20
    }

    fn named(&self) -> [(&'static str, f64); 2] {
        [("recall@20", self.recall_20), ("ndcg@20", self.ndcg_20)]
    }
}

/// `report.json`: what training came to. No time is in it, so that equal runs leave equal files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DinReport {
    /// Of the loop.
    #[serde(flatten)]
    pub outcome: Outcome<DinValidation>,
    /// Users validated on.
    pub valid_users: usize,
    /// Euclidean norms of the item vectors: mean over items, and the share below a hundredth of it, which training has
    /// hardly touched.
    pub mean_norm: f64,
    /// See `mean_norm`.
    pub share_near_zero: f64,
}

/// What training left behind.
#[derive(Clone, Debug)]
pub struct DinOutcome {
    /// The file with the tensor `vectors`, `[n_items, width]`, f32.
    pub vectors: PathBuf,
    /// What `report.json` beside it holds.
    pub report: DinReport,
}

/// Trains a DIN and writes `vectors.safetensors` and `report.json` to `folder`. Checkpoints are kept in
/// `folder/checkpoints`, and gone on from where there are some; they must be of the same setting.
///
/// # Errors
/// When a setting is out of range, a checkpoint is damaged or cannot be written, or the loss is not finite.
pub fn train_din(
    setting: &DinSetting<'_>,
    folder: &Path,
    log: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<DinOutcome> {
    let DinSetting {
        split,
        config,
        training,
        device,
        ..
    } = *setting;
    config.validate()?;
    training.validate()?;
    let windows = Windows::new(split, config.longest_history() + 1);
    let windows = windows.with_min_history(training.min_history);
    ensure!(
        !windows.is_empty() && split.n_items() > 1,
        "DIN: there is no training example: no user has more training items than `behaviour.training.min_history`, {}, or \
         there is one item alone",
        training.min_history
    );
    let mut weights = Weights::random(setting.seed, device);
    let mut learner = Training {
        setting,
        din: Din::new(config, split.n_items(), &mut weights)?,
        parameters: weights.finish()?,
        statistics: DinStatistics::new(config, device)?,
        windows,
        users: validation_users(setting),
    };
    let course = Course {
        optimiser: &training.optimiser(),
        average: 0.0,
        max_epochs: training.max_epochs,
        max_updates: 0,
        validate_every: 1,
        patience: training.patience,
        log_every: training.log_every,
        checkpoint_seconds: training.checkpoint_seconds,
        device,
    };
    let outcome = epochs::train(&mut learner, &course, &folder.join("checkpoints"), log)?;
    learner.keep(outcome, folder)
}

struct Training<'a> {
    setting: &'a DinSetting<'a>,
    din: Din,
    parameters: Parameters,
    statistics: DinStatistics,
    windows: Windows,
    /// Validated on.
    users: Vec<u32>,
}

impl Learner for Training<'_> {
    type Losses = f64;
    type Found = DinValidation;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn tensors(&self) -> HashMap<String, Tensor> {
        let mut tensors = self.parameters.tensors();
        tensors.extend(self.statistics.tensors(self.setting.config));
        tensors
    }

    fn set(&mut self, mut saved: HashMap<String, Tensor>) -> Result<()> {
        let DinSetting { config, device, .. } = *self.setting;
        self.statistics = DinStatistics::take(config, &mut saved, device)?;
        Ok(self.parameters.set(&saved)?)
    }

    fn batches(&self, epoch: u64) -> Batches {
        let DinSetting { training, seed, .. } = *self.setting;
        self.windows.batches(training.batch_size, seed, epoch)
    }

    fn rate(&self, update: u64) -> f64 {
        self.setting.training.schedule.at(update)
    }

    fn gradients(&mut self, examples: &[u32], update: u64) -> Result<(Vec<Gradients>, f64)> {
        let DinSetting {
            split,
            config,
            training,
            ops,
            seed,
            shards,
            ..
        } = *self.setting;
        let negatives = Negatives::draw(self.setting, &self.windows, examples, update);
        let (din, windows) = (&self.din, &self.windows);
        let results = shards.parts(examples.len(), |shard, part| {
            let stream = update * SHARDS as u64 + shard as u64;
            let dropout = Dropout::new(config.dropout as f32, seed, stream);
            let own = windows.batch(&examples[part.clone()]);
            let batch = DinBatch {
                history: &own.items,
                positions: &Segments::from_offsets(&own.offsets)?,
                items: &negatives.items[part.start * negatives.each..part.end * negatives.each],
                candidates: &Segments::uniform(own.len(), negatives.each),
            };
            let (scores, seen) = din.forward(ops, &batch, &dropout)?;
            let loss = sampled_softmax(&scores, negatives.each, split.n_items(), training.log_q)?;
            // The mean over the whole batch, as a sum over its shards.
            let loss = (loss / examples.len() as f64)?;
            let grads = Gradients::from(loss.backward()?);
            Ok((grads, f64::from(loss.to_scalar::<f32>()?), seen))
        })?;
        let mut weighted = vec![];
        for (grads, loss, seen) in results {
            self.statistics.update(&seen, training.momentum)?;
            weighted.push((grads, loss, 1.0));
        }
        Ok(epochs::over_shards(weighted))
    }

    /// Ranks each user's validation target among all items.
    fn validate(&mut self) -> Result<DinValidation> {
        let DinSetting {
            split,
            config,
            ops,
            shards,
            ..
        } = *self.setting;
        let scorer = DinScorer::new(ops, &self.din, &self.statistics)?;
        let batch = split.valid_batch(&self.users, config.longest_history() + 1);
        let ranks = shards.run(|shard| {
            (shard..batch.len())
                .step_by(shards.count())
                .map(|i| Ok(scorer.rank(batch.history(i), batch.targets[i])?))
                .collect::<Result<Vec<usize>>>()
        })?;
        let above = ranks.into_iter().flatten();
        let ranks: Vec<Rank> = above.map(|n| u32::try_from(n + 1).ok()).collect();
        let metrics = Metrics::new(&ranks, &[K])?;
        let at = metrics.at(K).context("no figures at the cut-off")?;
        Ok(DinValidation {
            recall_20: at.recall,
            ndcg_20: at.ndcg,
        })
    }
}

impl Training<'_> {
    /// Writes the item table and the report.
    fn keep(&self, outcome: Outcome<DinValidation>, folder: &Path) -> Result<DinOutcome> {
        let items = self.parameters.tensors().remove("items");
        let items = items.context("a DIN has no tensor `items`")?;
        let norms: Vec<f32> = items.sqr()?.sum(1)?.sqrt()?.to_vec1()?;
        let n = norms.len() as f64;
        let mean_norm = norms.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let small = norms.iter().filter(|&&x| f64::from(x) < mean_norm / 100.0);
        let report = DinReport {
            outcome,
            valid_users: self.users.len(),
            mean_norm,
            share_near_zero: small.count() as f64 / n,
        };
        let vectors = folder.join("vectors.safetensors");
        let tensors = BTreeMap::from([("vectors".to_owned(), items)]);
        checkpoint::write(&vectors, &tensors, None)
            .with_context(|| format!("cannot write {}", vectors.display()))?;
        write_json(&folder.join("report.json"), &report)?;
        Ok(DinOutcome { vectors, report })
    }
}

/// A fixed sample, drawn from the seed, in ascending order.
fn validation_users(setting: &DinSetting<'_>) -> Vec<u32> {
    let mut users = setting.split.valid_users();
    let wanted = setting.training.valid_users;
    if wanted > 0 && wanted < users.len() {
        users.shuffle(&mut ChaCha8Rng::seed_from_u64(setting.seed ^ VALIDATION));
        users.truncate(wanted);
        users.sort_unstable();
    }
    users
}
