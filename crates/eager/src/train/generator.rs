//! The generator's training: shuffled epochs over every window ([`epochs`]), AdamW, warm-up and inverse square root, early
//! stopping on validation.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::Device;
use eager_data::{Batches, Windows};
use eager_losses::LossConfig;
use eager_model::{Eager, Parameters};
use eager_ops::{AdamWConfig, Dropout, Gradients, Leaves, Ops, Pass};
use serde::{Deserialize, Serialize};

use super::epochs::{self, Course, Learner, Losses};
use super::objective::{Draw, Items, Objective, Parts};
use super::schedule::InverseSqrt;
use super::shards::Shards;
use super::start::TableStart;

pub use super::epochs::{Outcome, Validation};

/// What happens in the generator's training.
pub type Event = epochs::Event<Parts>;

/// How the generator is trained. `Default` is ours where the paper's text is silent;
/// [`TrainingConfig::official`] what the authors' code runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Examples an update. Official code: 256.
    pub batch_size: usize,
    /// Fewest items of a training example's history. Official code: 4, so that a user's first target is the fifth item.
    pub min_history: usize,
    /// Most epochs; early stopping usually ends training before.
    pub max_epochs: u64,
    /// Most updates; official code: 60,000. 0 for no limit but `max_epochs`.
    pub max_updates: u64,
    /// How the embeddings of items and code tokens start.
    pub tables: TableStart,
    /// The learning rate by update.
    pub schedule: InverseSqrt,
    /// The optimiser. Official code: Adam with weight decay 1e-7.
    pub optimiser: AdamWConfig,
    /// Decay an update of the weights' moving average, which is validated and kept in their place; 0 for none, as in the paper
    /// and the official code (`docs/eager-plus.md`).
    pub average: f64,
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
    /// Seconds between checkpoints; one is also written after every epoch.
    pub checkpoint_seconds: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            batch_size: 256,
            min_history: 1,
            max_epochs: 200,
            max_updates: 0,
            tables: TableStart::Random,
            schedule: InverseSqrt::default(),
            optimiser: AdamWConfig {
                weight_decay: 1e-7,
                clip_norm: 1.0,
                ..AdamWConfig::default()
            },
            average: 0.0,
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
    /// What the authors' code runs (`train_rec.py`), but for the choice of the best weights on the test set: all updates are
    /// made, nothing ends them early.
    #[must_use]
    pub fn official() -> Self {
        let updates = 60_000;
        Self {
            min_history: 4,
            max_epochs: updates, // an epoch has one at least
            max_updates: updates,
            patience: 0,
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
            ("min_history", self.min_history as u64),
            ("max_epochs", self.max_epochs),
            ("validate_every", self.validate_every),
            ("valid_beams", self.valid_beams as u64),
            ("log_every", self.log_every),
        ] {
            ensure!(value > 0, "training: `{field}` is 0; use 1 or more");
        }
        ensure!(
            (0.0..1.0).contains(&self.average),
            "training: `average` is {}; use 0 or more, below 1",
            self.average
        );
        self.optimiser.validate().context("training")?;
        self.schedule.validate()
    }
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
        "there is no training example: no user has more training items than `training.min_history`, {}",
        training.min_history
    );
    let course = Course {
        optimiser: &training.optimiser,
        average: training.average,
        max_epochs: training.max_epochs,
        max_updates: training.max_updates,
        validate_every: training.validate_every,
        patience: training.patience,
        log_every: training.log_every,
        checkpoint_seconds: training.checkpoint_seconds,
        device: setting.device,
    };
    let mut learner = Generator {
        model,
        setting,
        validate,
    };
    epochs::train(&mut learner, &course, folder, log)
}

struct Generator<'a> {
    model: &'a Eager,
    setting: &'a Setting<'a>,
    validate: &'a mut dyn FnMut(&Eager) -> Result<Validation>,
}

impl Learner for Generator<'_> {
    type Losses = Parts;
    type Found = Validation;

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn batches(&self, epoch: u64) -> Batches {
        let Setting {
            windows,
            training,
            seed,
            ..
        } = self.setting;
        windows.batches(training.batch_size, *seed, epoch)
    }

    fn rate(&self, update: u64) -> f64 {
        self.setting.training.schedule.at(update)
    }

    fn gradients(&mut self, examples: &[u32], update: u64) -> Result<(Vec<Gradients>, Parts)> {
        gradients(self.model, self.setting, examples, update)
    }

    fn validate(&mut self) -> Result<Validation> {
        (self.validate)(self.model)
    }
}

impl Losses for Parts {
    fn add(&mut self, other: &Self, weight: f64) {
        Self::add(self, other, weight);
    }

    fn total(&self) -> f64 {
        self.total
    }

    fn named(&self) -> Vec<(&'static str, f64)> {
        Self::named(self).to_vec()
    }
}

/// The gradients of a batch, a store a shard, whose sum is the batch's; and the parts of its loss. With a step of the
/// optimiser this is one update, what `benches` times. A shard's loss is weighed by its examples: where it masks some tokens of
/// each code, the reconstruction's mean is over the shard's tokens, not the batch's.
///
/// # Errors
/// When the examples do not fit the model, or a tensor operation fails.
pub fn gradients(
    model: &Eager,
    setting: &Setting<'_>,
    examples: &[u32],
    update: u64,
) -> Result<(Vec<Gradients>, Parts)> {
    let results = setting.shards.parts(examples.len(), |shard, part| {
        let own = &examples[part];
        let batch = setting.windows.batch(own);
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
        let loss = objective.loss(&batch)?;
        let weight = own.len() as f64 / examples.len() as f64;
        let grads = (&loss.total * weight)?.backward()?;
        let grads = leaves.gradients(grads)?;
        // Read last: on a GPU that waits for all of it.
        Ok((grads, loss.parts()?, weight))
    })?;
    Ok(epochs::over_shards(results))
}
