//! The generator's training loop: shuffled epochs over every window, AdamW, warm-up and inverse square root, early
//! stopping on validation.
//!
//! Everything random is a function of (seed, update, shard), and the data's order of (seed, epoch), so the cursor in a
//! checkpoint is all there is to resume from, and a resumed run is the uninterrupted one bit for bit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use eager_data::{Batch, Windows};
use eager_losses::LossConfig;
use eager_model::{Eager, Pass};
use eager_ops::{AdamW, AdamWConfig, Dropout, Gradients, Leaves, Ops};
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::objective::{Draw, Items, Objective, Parts};
use super::schedule::InverseSqrt;
use super::shards::{SHARDS, Shards};

/// The file that a killed run goes on from.
const LAST: &str = "last.safetensors";
/// The weights of the best validation so far.
const BEST: &str = "best.safetensors";

/// How the generator is trained. `Default` is ours where the paper's text is silent;
/// [`TrainingConfig::official`] what the authors' code runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Examples an update. Official code: 256.
    pub batch_size: usize,
    /// Most epochs; early stopping usually ends training before.
    pub max_epochs: u64,
    /// Most updates; official code: 60,000. 0 for no limit but `max_epochs`.
    pub max_updates: u64,
    /// The learning rate by update.
    pub schedule: InverseSqrt,
    /// The optimiser. Official code: Adam with weight decay 1e-7.
    pub optimiser: AdamWConfig,
    /// Epochs between validations.
    pub validate_every: u64,
    /// Validations without a better NDCG@10 after which training ends; 0 never ends it. (The official code has no
    /// validation: it reads the test set every 300 updates.)
    pub patience: u64,
    /// Users validated on, drawn once from the seed; 0 for all.
    pub valid_users: usize,
    /// Beams of the validation's search.
    pub valid_beams: usize,
    /// Updates between two lines of the log, which are means over them.
    pub log_every: u64,
    /// Seconds between checkpoints; one is also written after every validation.
    pub checkpoint_seconds: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            batch_size: 256,
            max_epochs: 200,
            max_updates: 0,
            schedule: InverseSqrt::default(),
            optimiser: AdamWConfig {
                weight_decay: 1e-7,
                clip_norm: 1.0,
                ..AdamWConfig::default()
            },
            validate_every: 1,
            patience: 5,
            valid_users: 4096,
            valid_beams: 20,
            log_every: 50,
            checkpoint_seconds: 60,
        }
    }
}

impl TrainingConfig {
    /// What the authors' code runs (`train_rec.py`), but for the choice of the best weights on the test set.
    #[must_use]
    pub fn official() -> Self {
        Self {
            max_updates: 60_000,
            optimiser: AdamWConfig {
                weight_decay: 1e-7,
                ..AdamWConfig::default()
            },
            ..Self::default()
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("batch_size", self.batch_size as u64),
            ("max_epochs", self.max_epochs),
            ("validate_every", self.validate_every),
            ("valid_beams", self.valid_beams as u64),
            ("log_every", self.log_every),
        ] {
            ensure!(value > 0, "training: `{field}` is 0; use 1 or more");
        }
        self.schedule.validate()
    }
}

/// What a validation found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Recall@10 of the merged list.
    pub recall_10: f64,
    /// NDCG@10 of the merged list: what early stopping looks at.
    pub ndcg_10: f64,
}

/// What happens in training, for whoever shows or keeps it.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Training begins, or goes on from a checkpoint.
    Started {
        /// Updates made in all; above 0 where it goes on.
        update: u64,
        /// Updates that training makes at most.
        limit: u64,
    },
    /// Some updates were made.
    Updates {
        /// Updates made in all.
        update: u64,
        /// Of them since the last event.
        made: u64,
        /// Epoch, from 0.
        epoch: u64,
        /// Mean parts of the loss over them.
        parts: Parts,
        /// The last update's learning rate.
        rate: f64,
        /// The last update's gradient norm before clipping.
        norm: f64,
    },
    /// A validation.
    Validated {
        /// Updates made in all.
        update: u64,
        /// Epochs made in all.
        epoch: u64,
        /// What it found.
        found: Validation,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// What training came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Updates made.
    pub updates: u64,
    /// Epochs made.
    pub epochs: u64,
    /// Epochs made when the weights that were kept were validated.
    pub best_epoch: u64,
    /// Their validation.
    pub best: Validation,
    /// Whether the patience ended training, not a limit.
    pub stopped_early: bool,
}

/// Where the loop stands: with the weights and the optimiser's state, all there is to go on from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cursor {
    updates: u64,
    epoch: u64,
    /// Batches of the epoch that are done.
    batch: usize,
    best: Option<(u64, Validation)>,
    validations_since_best: u64,
    ended: bool,
    /// Sums since the last line of the log.
    since_log: Parts,
    updates_since_log: u64,
}

/// All that a training run reads.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The examples.
    pub windows: &'a Windows,
    /// The items' codes and vectors.
    pub items: &'a Items,
    /// The loop's settings.
    pub training: &'a TrainingConfig,
    /// The losses' weights.
    pub losses: &'a LossConfig,
    /// Fused or plain operations.
    pub ops: Ops,
    /// Seed of data order, dropout, masks and negatives.
    pub seed: u64,
    /// Where the model lives.
    pub device: &'a Device,
    /// The workers.
    pub shards: &'a Shards,
}

/// Trains `model`, which is left with the best weights that `validate` saw. Checkpoints are kept in `folder`, and gone on
/// from where there are some.
///
/// # Errors
/// When a checkpoint is damaged or cannot be written, the loss is not finite, or `validate` fails.
pub fn train_generator(
    model: &Eager,
    setting: &Setting<'_>,
    folder: &Path,
    validate: &mut dyn FnMut(&Eager) -> Result<Validation>,
    log: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<Outcome> {
    let Setting {
        windows, training, ..
    } = *setting;
    training.validate()?;
    setting.losses.validate()?;
    ensure!(
        !windows.is_empty(),
        "there is no training example: every user has fewer than two training items"
    );
    let (last, best) = (folder.join(LAST), folder.join(BEST));
    let mut optimiser = AdamW::new(model.parameters().trainable(), training.optimiser.clone())?;
    let mut cursor = Cursor::default();
    if let Some(saved) = Checkpoint::<Cursor>::load_if_present(&last, setting.device)? {
        model.parameters().set(&saved.weights)?;
        cursor = saved.cursor;
        optimiser.load_state(cursor.updates, &saved.optimiser)?;
        tracing::info!(
            "going on from {} ({} updates made)",
            last.display(),
            cursor.updates
        );
    }
    let save = |optimiser: &AdamW, cursor: &Cursor| -> Result<()> {
        let state = Checkpoint {
            weights: model.parameters().tensors(),
            optimiser: optimiser.state()?,
            cursor: cursor.clone(),
        };
        Ok(state.save(&last)?)
    };

    let updates_an_epoch = windows.len().div_ceil(training.batch_size) as u64;
    let by_epochs = training.max_epochs.saturating_mul(updates_an_epoch);
    let limit = match training.max_updates {
        0 => by_epochs,
        most => by_epochs.min(most),
    };
    log(Event::Started {
        update: cursor.updates,
        limit,
    })?;
    let mut saved_at = Instant::now();
    while !cursor.ended {
        let batches = windows.batches(training.batch_size, setting.seed, cursor.epoch);
        for examples in batches.from(cursor.batch) {
            if cursor.updates >= limit {
                break;
            }
            let rate = training.schedule.at(cursor.updates + 1);
            let (grads, parts) = gradients(model, setting, examples, cursor.updates)?;
            let norm = optimiser.step(&grads, rate).with_context(|| {
                format!(
                    "update {} (epoch {}): the loss was {}",
                    cursor.updates + 1,
                    cursor.epoch,
                    parts.total
                )
            })?;
            cursor.updates += 1;
            cursor.batch += 1;
            cursor.since_log.add(&parts, 1.0);
            cursor.updates_since_log += 1;
            if cursor.updates.is_multiple_of(training.log_every) {
                let mut parts = Parts::default();
                let made = std::mem::take(&mut cursor.updates_since_log);
                parts.add(&std::mem::take(&mut cursor.since_log), 1.0 / made as f64);
                log(Event::Updates {
                    update: cursor.updates,
                    made,
                    epoch: cursor.epoch,
                    parts,
                    rate,
                    norm,
                })?;
            }
            if saved_at.elapsed() >= Duration::from_secs(training.checkpoint_seconds) {
                save(&optimiser, &cursor)?;
                saved_at = Instant::now();
            }
        }
        let limited = cursor.updates >= limit;
        cursor.epoch += 1;
        cursor.batch = 0;
        if limited || cursor.epoch.is_multiple_of(training.validate_every) {
            let found = validate(model)?;
            let better = cursor
                .best
                .is_none_or(|(_, best)| found.ndcg_10 > best.ndcg_10);
            if better {
                cursor.best = Some((cursor.epoch, found));
                cursor.validations_since_best = 0;
                let weights = model.parameters().tensors().into_iter().collect();
                super::checkpoint::write(&best, &weights, None)
                    .with_context(|| format!("cannot write {}", best.display()))?;
            } else {
                cursor.validations_since_best += 1;
            }
            log(Event::Validated {
                update: cursor.updates,
                epoch: cursor.epoch,
                found,
                best: better,
            })?;
        }
        let patient = training.patience == 0 || cursor.validations_since_best < training.patience;
        cursor.ended = limited || !patient;
        save(&optimiser, &cursor)?;
        saved_at = Instant::now();
    }
    let Some((best_epoch, found)) = cursor.best else {
        anyhow::bail!("training ended without a validation; this is a defect of the loop")
    };
    let weights = candle_core::safetensors::load(&best, setting.device)
        .with_context(|| format!("cannot read the best weights, {}", best.display()))?;
    model.parameters().set(&weights)?;
    Ok(Outcome {
        updates: cursor.updates,
        epochs: cursor.epoch,
        best_epoch,
        best: found,
        stopped_early: cursor.updates < limit,
    })
}

/// The gradients of a batch, a store a shard, whose sum is the batch's; and the parts of its loss. With a step of the
/// optimiser this is one update, what `benches` times.
///
/// # Errors
/// When the examples do not fit the model, or a tensor operation fails.
pub fn gradients(
    model: &Eager,
    setting: &Setting<'_>,
    examples: &[u32],
    update: u64,
) -> Result<(Vec<Gradients>, Parts)> {
    let shard_size = examples.len().div_ceil(SHARDS);
    let results = setting.shards.run(|shard| {
        let own: Vec<u32> = examples
            .chunks(shard_size)
            .nth(shard)
            .unwrap_or_default()
            .to_vec();
        if own.is_empty() {
            return Ok(None);
        }
        let batch: Batch = setting.windows.batch(&own);
        let draw = Draw {
            seed: setting.seed,
            update,
            shard,
        };
        let dropout = Dropout::new(model.config().dropout, draw.dropout_seed(), update);
        let leaves = Leaves::default();
        let objective = Objective {
            model,
            items: setting.items,
            config: setting.losses,
            pass: Pass {
                ops: setting.ops,
                dropout: &dropout,
                leaves: Some(&leaves),
            },
            draw,
        };
        let (loss, parts) = objective.loss(&batch)?;
        let weight = own.len() as f64 / examples.len() as f64;
        let grads = (loss * weight)?.backward()?;
        let grads = leaves.gradients(grads);
        Ok(Some((grads, parts, weight)))
    })?;
    let mut sum = Parts::default();
    let mut grads = vec![];
    for (grad, parts, weight) in results.into_iter().flatten() {
        sum.add(&parts, weight);
        grads.push(grad);
    }
    Ok((grads, sum))
}
