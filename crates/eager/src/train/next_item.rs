//! Training of the next-item models that EAGER is compared with: SASRec on whole histories, BSARec on every prefix of
//! them, softmax over the catalogue, Adam at a constant rate, early stopping on validation.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::Device;
use eager_baselines::{LossConfig, NextItem, Rank, Sample, SoftmaxLoss, ranks, softmax_loss};
use eager_data::{Batches, Sequences, Split, Windows};
use eager_model::{Histories, Parameters};
use eager_ops::{AdamWConfig, Dropout, Gradients, Ops, Pass};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::epochs::{self, Course, Event, Learner, Outcome, Validation};
use super::shards::Shards;
use super::validation::validation;

/// Keys the negatives' generator apart from the data order's (ASCII "negative").
const NEGATIVES: u64 = 0x6e65_6761_7469_7665;
/// Users scored at a time by a worker: `[USERS, n_items]` scores.
const USERS: usize = 128;

/// How a next-item model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NextItemTraining {
    /// Examples an update: histories where a model learns at every position, else prefixes of histories.
    pub batch_size: usize,
    /// Most epochs; early stopping usually ends training before.
    pub max_epochs: u64,
    /// The learning rate.
    pub rate: f64,
    /// The optimiser.
    pub optimiser: AdamWConfig,
    /// Epochs between validations, which are on all users that have a target there.
    pub validate_every: u64,
    /// Validations without a better NDCG@10 after which training ends; 0 never ends it.
    pub patience: u64,
    /// Updates between two lines of the log, which are means over them.
    pub log_every: u64,
    /// Seconds between checkpoints; one is also written after every epoch.
    pub checkpoint_seconds: u64,
}

impl Default for NextItemTraining {
    fn default() -> Self {
        Self {
            batch_size: 256,
            max_epochs: 200,
            rate: 1e-3,
            optimiser: AdamWConfig::default(),
            validate_every: 1,
            patience: 10,
            log_every: 50,
            checkpoint_seconds: 60,
        }
    }
}

impl NextItemTraining {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("batch_size", self.batch_size as u64),
            ("max_epochs", self.max_epochs),
            ("validate_every", self.validate_every),
            ("log_every", self.log_every),
        ] {
            ensure!(value > 0, "training: `{field}` is 0; use 1 or more");
        }
        ensure!(
            self.rate > 0.0 && self.rate.is_finite(),
            "training: `rate` is {}; use a number above 0",
            self.rate
        );
        self.optimiser.validate().context("training")
    }
}

/// All that a training run reads.
#[derive(Clone, Copy, Debug)]
pub struct NextItemSetting<'a> {
    /// The histories.
    pub split: &'a Split,
    /// The loss.
    pub loss: &'a LossConfig,
    /// The loop's settings.
    pub training: &'a NextItemTraining,
    /// Fused or plain operations.
    pub ops: Ops,
    /// Seed of data order, dropout and negatives.
    pub seed: u64,
    /// Where the model lives.
    pub device: &'a Device,
    /// The workers.
    pub shards: &'a Shards,
}

/// Trains `model`, which is left with the weights of the best validation. Checkpoints are kept in `folder`, and gone on from
/// where there are some.
///
/// # Errors
/// When a setting is out of range, a checkpoint is damaged or cannot be written, or the loss is not finite.
pub fn train_next_item(
    model: &dyn NextItem,
    setting: &NextItemSetting<'_>,
    folder: &Path,
    log: &mut dyn FnMut(Event<f64>) -> Result<()>,
) -> Result<Outcome> {
    let training = setting.training;
    training.validate()?;
    let examples = Examples::new(model, setting.split);
    ensure!(
        !examples.batches(1, 0, 0).is_empty(),
        "there is no training example: every user has fewer than two training items"
    );
    let course = Course {
        optimiser: &training.optimiser,
        average: 0.0,
        max_epochs: training.max_epochs,
        max_updates: 0,
        validate_every: training.validate_every,
        patience: training.patience,
        log_every: training.log_every,
        checkpoint_seconds: training.checkpoint_seconds,
        device: setting.device,
    };
    let mut learner = Training {
        model,
        setting,
        examples,
        counts: setting.split.train_counts(),
    };
    epochs::train(&mut learner, &course, folder, log)
}

/// What the model learns from.
enum Examples {
    /// Histories, at every position.
    Sequences(Sequences),
    /// Prefixes of histories, at their end.
    Prefixes(Windows),
}

impl Examples {
    fn new(model: &dyn NextItem, split: &Split) -> Self {
        if model.every_position() {
            Self::Sequences(Sequences::new(split, model.window()))
        } else {
            Self::Prefixes(Windows::new(split, model.window() + 1))
        }
    }

    fn batches(&self, batch_size: usize, seed: u64, epoch: u64) -> Batches {
        match self {
            Self::Sequences(sequences) => sequences.batches(batch_size, seed, epoch),
            Self::Prefixes(windows) => windows.batches(batch_size, seed, epoch),
        }
    }

    /// Histories and the targets of their states.
    fn pack(&self, examples: &[u32]) -> Result<(Histories, Vec<u32>)> {
        Ok(match self {
            Self::Sequences(sequences) => {
                let batch = sequences.batch(examples);
                (Histories::new(&batch.items, &batch.offsets)?, batch.targets)
            }
            Self::Prefixes(windows) => {
                let batch = windows.batch(examples);
                (Histories::new(&batch.items, &batch.offsets)?, batch.targets)
            }
        })
    }
}

struct Training<'a> {
    model: &'a dyn NextItem,
    setting: &'a NextItemSetting<'a>,
    examples: Examples,
    /// Training interactions of every item.
    counts: Vec<u32>,
}

impl Learner for Training<'_> {
    type Losses = f64;
    type Found = Validation;

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn batches(&self, epoch: u64) -> Batches {
        let NextItemSetting { training, seed, .. } = *self.setting;
        self.examples.batches(training.batch_size, seed, epoch)
    }

    fn rate(&self, _update: u64) -> f64 {
        self.setting.training.rate
    }

    fn gradients(&mut self, examples: &[u32], update: u64) -> Result<(Vec<Gradients>, f64)> {
        let NextItemSetting {
            loss, ops, seed, ..
        } = *self.setting;
        let sample = (loss.softmax == SoftmaxLoss::Sampled).then(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ NEGATIVES);
            rng.set_stream(update);
            Sample::draw(loss, &self.counts, &mut rng)
        });
        let shards = self.setting.shards;
        let packed = shards.parts(examples.len(), |_, part| {
            self.examples.pack(&examples[part])
        })?;
        let all: usize = packed.iter().map(|(_, targets)| targets.len()).sum();
        let results = shards.parts(examples.len(), |shard, _| {
            let (histories, targets) = &packed[shard];
            let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(shard as u64));
            rng.set_stream(update);
            let pass = Pass {
                ops,
                dropout: &Dropout::new(self.model.dropout(), rng.random(), update),
                leaves: None,
            };
            let states = self.model.states(pass, histories)?;
            let items = self.model.items();
            let loss = softmax_loss(ops, &states, items, targets, sample.as_ref())?;
            // The mean over the whole batch's targets, as a sum over its shards.
            let loss = (loss * (targets.len() as f64 / all as f64))?;
            let grads = Gradients::from(loss.backward()?);
            Ok((grads, f64::from(loss.to_scalar::<f32>()?), 1.0))
        })?;
        Ok(epochs::over_shards(results))
    }

    fn validate(&mut self) -> Result<Validation> {
        let NextItemSetting {
            split, ops, shards, ..
        } = *self.setting;
        let users = split.valid_users();
        let batch = split.valid_batch(&users, self.model.window() + 1);
        let histories: Vec<&[u32]> = (0..batch.len()).map(|i| batch.history(i)).collect();
        let ranks = evaluate(
            self.model,
            ops,
            shards,
            &histories,
            &batch.targets,
            false,
            &mut |_| (),
        )?;
        validation(&ranks)
    }
}

/// The rank of every user's target among all items by the newest items of its history, equal scores by item; with
/// `mask_history` among the items that are not in the history, where a target that is has none. `progress` hears how many
/// users are done.
///
/// # Errors
/// When a history is empty, or an item is unknown.
pub fn evaluate(
    model: &dyn NextItem,
    ops: Ops,
    shards: &Shards,
    histories: &[&[u32]],
    targets: &[u32],
    mask_history: bool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Rank>> {
    let items = model.items().detach();
    let none: &[u32] = &[];
    let mut found = Vec::with_capacity(targets.len());
    let rounds = histories.chunks(USERS * shards.count());
    for (histories, targets) in rounds.zip(targets.chunks(USERS * shards.count())) {
        let results = shards.run(|shard| {
            let Some(histories) = histories.chunks(USERS).nth(shard) else {
                return Ok(vec![]);
            };
            let pass = Pass {
                ops,
                dropout: &Dropout::off(),
                leaves: None,
            };
            let states = model.last(pass, &Histories::newest(histories, model.window())?)?;
            let masked: Vec<&[u32]> = if mask_history {
                histories.to_vec()
            } else {
                vec![none; histories.len()]
            };
            let targets = &targets[shard * USERS..][..histories.len()];
            Ok(ranks(&states.detach(), &items, targets, &masked)?)
        })?;
        found.extend(results.into_iter().flatten());
        progress(found.len());
    }
    Ok(found)
}
