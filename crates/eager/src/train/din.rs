//! DIN's training loop (official `DIN_trainer.py`): shuffled epochs over every window, sampled softmax with uniform
//! negatives, Adam, early stopping on validation. What comes out is the item table, EAGER's behaviour vectors.
//!
//! Everything random is a function of (seed, update, shard), and the data's order of (seed, epoch), so the cursor in a
//! checkpoint is all there is to resume from, and a resumed run is the uninterrupted one bit for bit. Batch statistics
//! are those of a shard (ghost batch normalisation); the running ones move in shard order.

mod config;
mod sampled;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use eager_data::{Split, Windows};
use eager_model::{Din, DinBatch, DinConfig, DinScorer, DinStatistics, Parameters, Weights};
use eager_ops::{AdamW, Dropout, Gradients, Ops, Segments};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use config::{DinTraining, LogQ};

use sampled::{Negatives, sampled_softmax};

use super::checkpoint::{self, Checkpoint};
use super::shards::{SHARDS, Shards};

/// The file that a killed run goes on from.
const LAST: &str = "checkpoints/last.safetensors";
/// Weights and statistics of the best validation so far.
const BEST: &str = "checkpoints/best.safetensors";
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

/// Recall and NDCG at 20 over all items, items of the history not masked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DinValidation {
    /// Share of users whose target is among the first 20.
    pub recall_20: f64,
    /// Mean of `1/log2(1 + rank)` within the first 20.
    pub ndcg_20: f64,
}

/// What happens in training, for whoever shows or keeps it.
#[derive(Clone, Copy, Debug)]
pub enum DinProgress {
    /// Training begins, or goes on.
    Begun {
        /// Updates made before, where there was a checkpoint.
        resumed: Option<u64>,
        /// Updates that training makes at most.
        limit: u64,
    },
    /// Some updates were made.
    Updates {
        /// Updates made in all.
        update: u64,
        /// Examples of the updates since the last line.
        examples: usize,
        /// Epoch, from 0.
        epoch: u64,
        /// Mean loss since the last line.
        loss: f64,
        /// The last update's learning rate.
        rate: f64,
        /// The last update's gradient norm before clipping.
        norm: f64,
    },
    /// An epoch was validated.
    Validated {
        /// Updates made in all.
        update: u64,
        /// Epochs made in all.
        epoch: u64,
        /// What was found.
        found: DinValidation,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// `report.json`: what training came to. No time is in it, so that equal runs leave equal files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DinReport {
    /// Validation of the weights that were kept.
    pub best: DinValidation,
    /// Epochs made when they were validated.
    pub best_epoch: u64,
    /// Users validated on.
    pub valid_users: usize,
    /// Epochs made.
    pub epochs: u64,
    /// Updates made.
    pub updates: u64,
    /// Whether the patience ended training, not the limit.
    pub stopped_early: bool,
    /// Every epoch's validation, in order.
    pub validations: Vec<DinValidation>,
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

/// Where the loop stands: with weights, statistics and the optimiser's state, all there is to go on from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cursor {
    updates: u64,
    epoch: u64,
    /// Batches of the epoch that are done.
    batch: usize,
    best: Option<(u64, DinValidation)>,
    validations: Vec<DinValidation>,
    ended: bool,
}

/// What was seen since the last line of the log.
#[derive(Default)]
struct Line {
    /// Sum of the updates' losses.
    losses: f64,
    updates: u64,
    examples: usize,
}

impl Line {
    fn add(&mut self, loss: f64, examples: usize) {
        self.losses += loss;
        self.updates += 1;
        self.examples += examples;
    }
}

/// The network and what it learns with.
struct State {
    din: Din,
    parameters: Parameters,
    statistics: DinStatistics,
    optimiser: AdamW,
}

/// Trains a DIN and writes `vectors.safetensors` and `report.json` to `folder`. Checkpoints are kept in
/// `folder/checkpoints`, and gone on from where there are some; they must be of the same setting.
///
/// # Errors
/// When a setting is out of range, a checkpoint is damaged or cannot be written, or the loss is not finite.
pub fn train_din(
    setting: &DinSetting<'_>,
    folder: &Path,
    log: &mut dyn FnMut(DinProgress) -> Result<()>,
) -> Result<DinOutcome> {
    let DinSetting {
        split,
        config,
        training,
        ..
    } = *setting;
    config.validate()?;
    training.validate()?;
    let windows = Windows::new(split, config.longest_history() + 1);
    ensure!(
        !windows.is_empty() && split.n_items() > 1,
        "DIN: there is no training example: every user has fewer than two training items"
    );
    let (last, best) = (folder.join(LAST), folder.join(BEST));
    let (mut state, mut cursor) = begin(setting, &last)?;
    let users = validation_users(setting);
    let updates_an_epoch = windows.len().div_ceil(training.batch_size) as u64;
    let limit = training.max_epochs.saturating_mul(updates_an_epoch);
    log(DinProgress::Begun {
        resumed: (cursor.updates > 0).then_some(cursor.updates),
        limit,
    })?;
    let mut line = Line::default();
    let mut saved_at = Instant::now();
    while !cursor.ended {
        let batches = windows.batches(training.batch_size, setting.seed, cursor.epoch);
        for examples in batches.from(cursor.batch) {
            let rate = training.schedule.at(cursor.updates + 1);
            let (loss, norm) = update(&mut state, setting, &windows, examples, &cursor, rate)?;
            cursor.updates += 1;
            cursor.batch += 1;
            line.add(loss, examples.len());
            if cursor.updates.is_multiple_of(training.log_every) {
                let Line {
                    losses,
                    updates,
                    examples,
                } = std::mem::take(&mut line);
                log(DinProgress::Updates {
                    update: cursor.updates,
                    examples,
                    epoch: cursor.epoch,
                    loss: losses / updates as f64,
                    rate,
                    norm,
                })?;
                // At a line of the log, so that no line's mean is cut in two by a resumption.
                if saved_at.elapsed() >= Duration::from_secs(training.checkpoint_seconds) {
                    save(&state, setting, &cursor, &last)?;
                    saved_at = Instant::now();
                }
            }
        }
        cursor.epoch += 1;
        cursor.batch = 0;
        let found = validate(&state, setting, &users)?;
        let better = cursor
            .best
            .is_none_or(|(_, best)| found.recall_20 > best.recall_20);
        if better {
            cursor.best = Some((cursor.epoch, found));
            let tensors: BTreeMap<_, _> = tensors(&state, config).into_iter().collect();
            checkpoint::write(&best, &tensors, None)
                .with_context(|| format!("cannot write {}", best.display()))?;
        }
        cursor.validations.push(found);
        log(DinProgress::Validated {
            update: cursor.updates,
            epoch: cursor.epoch,
            found,
            best: better,
        })?;
        let best_epoch = cursor.best.map_or(0, |(epoch, _)| epoch);
        let tired = training.patience > 0 && cursor.epoch - best_epoch >= training.patience;
        cursor.ended = tired || cursor.epoch >= training.max_epochs;
        save(&state, setting, &cursor, &last)?;
        saved_at = Instant::now();
    }
    finish(setting, folder, &cursor, users.len())
}

/// The state to start or to go on from.
fn begin(setting: &DinSetting<'_>, last: &Path) -> Result<(State, Cursor)> {
    let (config, device) = (setting.config, setting.device);
    let n_items = setting.split.n_items();
    let saved = Checkpoint::<Cursor>::load_if_present(last, device)?;
    let (mut weights, statistics, resumed) = match saved {
        None => {
            let weights = Weights::random(setting.seed, device);
            (weights, DinStatistics::new(config, device)?, None)
        }
        Some(mut saved) => {
            let statistics = DinStatistics::take(config, &mut saved.weights, device)
                .with_context(|| format!("cannot go on from {}", last.display()))?;
            let weights = Weights::saved(saved.weights, device);
            (weights, statistics, Some((saved.optimiser, saved.cursor)))
        }
    };
    let din = Din::new(config, n_items, &mut weights)
        .with_context(|| format!("cannot make the DIN of {}", last.display()))?;
    let parameters = weights.finish()?;
    let mut optimiser = AdamW::new(parameters.trainable(), setting.training.optimiser())?;
    let mut cursor = Cursor::default();
    if let Some((moments, saved)) = resumed {
        optimiser.load_state(saved.updates, &moments)?;
        tracing::info!(
            "going on from {} ({} updates made)",
            last.display(),
            saved.updates
        );
        cursor = saved;
    }
    let state = State {
        din,
        parameters,
        statistics,
        optimiser,
    };
    Ok((state, cursor))
}

/// Weights and running statistics by name.
fn tensors(state: &State, config: &DinConfig) -> std::collections::HashMap<String, Tensor> {
    let mut tensors = state.parameters.tensors();
    tensors.extend(state.statistics.tensors(config));
    tensors
}

fn save(state: &State, setting: &DinSetting<'_>, cursor: &Cursor, last: &Path) -> Result<()> {
    let checkpoint = Checkpoint {
        weights: tensors(state, setting.config),
        optimiser: state.optimiser.state()?,
        cursor: cursor.clone(),
    };
    Ok(checkpoint.save(last)?)
}

/// One update; the batch's mean loss and its gradient's norm.
fn update(
    state: &mut State,
    setting: &DinSetting<'_>,
    windows: &Windows,
    examples: &[u32],
    cursor: &Cursor,
    rate: f64,
) -> Result<(f64, f64)> {
    let negatives = Negatives::draw(setting, windows, examples, cursor.updates);
    let din = &state.din;
    let results = setting.shards.run(|shard| {
        // Each shard an equal share of consecutive examples; the last may have fewer, or none.
        let share = examples.len().div_ceil(setting.shards.count());
        let range = (shard * share).min(examples.len())..((shard + 1) * share).min(examples.len());
        if range.is_empty() {
            return Ok(None);
        }
        let dropout = Dropout::new(
            setting.config.dropout as f32,
            setting.seed,
            cursor.updates * SHARDS as u64 + shard as u64,
        );
        let batch = windows.batch(&examples[range.clone()]);
        let items = &negatives.items[range.start * negatives.each..range.end * negatives.each];
        let lengths = Segments::from_offsets(&batch.offsets)?;
        let batch = DinBatch {
            history: &batch.items,
            positions: &lengths,
            items,
            candidates: &Segments::uniform(batch.len(), negatives.each),
        };
        let (scores, seen) = din.forward(setting.ops, &batch, &dropout)?;
        let n_items = setting.split.n_items();
        let loss = sampled_softmax(&scores, negatives.each, n_items, setting.training.log_q)?;
        // The mean over the whole batch, as a sum over its shards.
        let loss = (loss / examples.len() as f64)?;
        let grads = Gradients::from(loss.backward()?);
        Ok(Some((f64::from(loss.to_scalar::<f32>()?), grads, seen)))
    })?;
    let mut loss = 0.0;
    let mut grads: Vec<Gradients> = Vec::with_capacity(setting.shards.count());
    for (shard_loss, shard_grads, seen) in results.into_iter().flatten() {
        loss += shard_loss;
        grads.push(shard_grads);
        state.statistics.update(&seen, setting.training.momentum)?;
    }
    let norm = state.optimiser.step(&grads, rate).with_context(|| {
        format!(
            "DIN, update {} (epoch {}): the loss was {loss}",
            cursor.updates + 1,
            cursor.epoch
        )
    })?;
    Ok((loss, norm))
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

/// Ranks each user's validation target among all items.
fn validate(state: &State, setting: &DinSetting<'_>, users: &[u32]) -> Result<DinValidation> {
    let scorer = DinScorer::new(setting.ops, &state.din, &state.statistics)?;
    let batch = setting
        .split
        .valid_batch(users, setting.config.longest_history() + 1);
    let ranks = setting.shards.run(|shard| {
        (shard..batch.len())
            .step_by(setting.shards.count())
            .map(|i| Ok(scorer.rank(batch.history(i), batch.targets[i])?))
            .collect::<Result<Vec<usize>>>()
    })?;
    let found = || ranks.iter().flatten().filter(|&&above| above < K);
    let n = batch.len() as f64;
    Ok(DinValidation {
        recall_20: found().count() as f64 / n,
        ndcg_20: found()
            .map(|&above| 1.0 / (above as f64 + 2.0).log2())
            .sum::<f64>()
            / n,
    })
}

/// Writes the best weights' item table and the report.
fn finish(
    setting: &DinSetting<'_>,
    folder: &Path,
    cursor: &Cursor,
    valid_users: usize,
) -> Result<DinOutcome> {
    let Some((best_epoch, best)) = cursor.best else {
        bail!("DIN: training ended without a validation; this is a defect of the loop")
    };
    let path = folder.join(BEST);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)
        .with_context(|| format!("cannot read the best weights, {}", path.display()))?;
    let Some(items) = tensors.remove("items") else {
        bail!(
            "{}: it holds no tensor `items`; delete the folder to train again",
            path.display()
        )
    };
    let norms: Vec<f32> = items.sqr()?.sum(1)?.sqrt()?.to_vec1()?;
    let n = norms.len() as f64;
    let mean_norm = norms.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let small = norms.iter().filter(|&&x| f64::from(x) < mean_norm / 100.0);
    let report = DinReport {
        best,
        best_epoch,
        valid_users,
        epochs: cursor.epoch,
        updates: cursor.updates,
        stopped_early: cursor.epoch < setting.training.max_epochs,
        validations: cursor.validations.clone(),
        mean_norm,
        share_near_zero: small.count() as f64 / n,
    };
    let vectors = folder.join("vectors.safetensors");
    checkpoint::write(
        &vectors,
        &BTreeMap::from([("vectors".to_owned(), items)]),
        None,
    )
    .with_context(|| format!("cannot write {}", vectors.display()))?;
    let path = folder.join("report.json");
    checkpoint::write_bytes(&path, &serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(DinOutcome { vectors, report })
}
