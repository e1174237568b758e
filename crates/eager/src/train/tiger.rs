//! TIGER's training: shuffled epochs over every prefix of a history ([`epochs`]), with EAGER's optimiser and schedule, early
//! stopping on validation by beam search.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::Device;
use eager_baselines::{Candidate, Tiger};
use eager_data::{Batches, Split, Windows};
use eager_infer::metrics::Rank;
use eager_model::{Histories, Parameters};
use eager_ops::{AdamWConfig, Dropout, Gradients, Ops, Pass};
use serde::{Deserialize, Serialize};

use super::epochs::{self, Course, Event, Learner, Outcome, Validation};
use super::generator::TrainingConfig;
use super::objective::Draw;
use super::schedule::InverseSqrt;
use super::shards::Shards;
use super::validation::{ValidationUsers, validation};

/// Rows of a decoding step that a worker makes at a time.
const ROWS: usize = 2048;

/// How TIGER is trained. `Default` has EAGER's optimiser, schedule and validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TigerTraining {
    /// Prefixes of histories an update. Paper: 256.
    pub batch_size: usize,
    /// Most epochs; early stopping usually ends training before.
    pub max_epochs: u64,
    /// The learning rate by update.
    pub schedule: InverseSqrt,
    /// The optimiser.
    pub optimiser: AdamWConfig,
    /// Epochs between validations.
    pub validate_every: u64,
    /// Validations without a better NDCG@10 after which training ends; 0 never ends it.
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

impl Default for TigerTraining {
    fn default() -> Self {
        let eager = TrainingConfig::default();
        Self {
            batch_size: 256,
            max_epochs: eager.max_epochs,
            schedule: eager.schedule,
            optimiser: eager.optimiser,
            validate_every: eager.validate_every,
            patience: 10,
            valid_users: eager.valid_users,
            valid_beams: eager.valid_beams,
            log_every: eager.log_every,
            checkpoint_seconds: eager.checkpoint_seconds,
        }
    }
}

impl TigerTraining {
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
        self.optimiser.validate().context("training")?;
        self.schedule.validate()
    }
}

/// All that a training run reads.
#[derive(Clone, Copy, Debug)]
pub struct TigerSetting<'a> {
    /// The histories.
    pub split: &'a Split,
    /// The loop's settings.
    pub training: &'a TigerTraining,
    /// Fused or plain operations.
    pub ops: Ops,
    /// Seed of data order, dropout and validation users.
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
pub fn train_tiger(
    model: &Tiger,
    setting: &TigerSetting<'_>,
    folder: &Path,
    log: &mut dyn FnMut(Event<f64>) -> Result<()>,
) -> Result<Outcome> {
    let TigerSetting {
        split,
        training,
        seed,
        ..
    } = *setting;
    training.validate()?;
    let windows = Windows::new(split, model.config().window + 1);
    ensure!(
        !windows.is_empty(),
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
        windows,
        users: ValidationUsers::new(split, training.valid_users, seed),
    };
    epochs::train(&mut learner, &course, folder, log)
}

struct Training<'a> {
    model: &'a Tiger,
    setting: &'a TigerSetting<'a>,
    windows: Windows,
    users: ValidationUsers,
}

impl Learner for Training<'_> {
    type Losses = f64;
    type Found = Validation;

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn batches(&self, epoch: u64) -> Batches {
        let TigerSetting { training, seed, .. } = *self.setting;
        self.windows.batches(training.batch_size, seed, epoch)
    }

    fn rate(&self, update: u64) -> f64 {
        self.setting.training.schedule.at(update)
    }

    fn gradients(&mut self, examples: &[u32], update: u64) -> Result<(Vec<Gradients>, f64)> {
        let TigerSetting { ops, seed, .. } = *self.setting;
        let results = self.setting.shards.parts(examples.len(), |shard, part| {
            let own = &examples[part];
            let batch = self.windows.batch(own);
            let draw = Draw {
                seed,
                update,
                shard,
            };
            let rate = self.model.config().dropout;
            let pass = Pass {
                ops,
                dropout: &Dropout::new(rate, draw.dropout_seed(), update),
                leaves: None,
            };
            let histories = Histories::new(&batch.items, &batch.offsets)?;
            let loss = self.model.loss(pass, &histories, &batch.targets)?;
            // The mean over the whole batch, as a sum over its shards.
            let loss = (loss * (own.len() as f64 / examples.len() as f64))?;
            let grads = Gradients::from(loss.backward()?);
            Ok((grads, f64::from(loss.to_scalar::<f32>()?), 1.0))
        })?;
        Ok(epochs::over_shards(results))
    }

    fn validate(&mut self) -> Result<Validation> {
        let TigerSetting {
            training,
            ops,
            shards,
            ..
        } = *self.setting;
        let search = BeamSearch {
            model: self.model,
            ops,
            beams: training.valid_beams,
            mask_history: false,
        };
        let (histories, targets) = (self.users.histories(), &self.users.targets);
        validation(&search.ranks(shards, &histories, targets, &mut |_| ())?)
    }
}

/// How TIGER's lists are made.
#[derive(Clone, Copy, Debug)]
pub struct BeamSearch<'a> {
    /// The model.
    pub model: &'a Tiger,
    /// Fused or plain operations.
    pub ops: Ops,
    /// Prefixes kept in every place of an id: a list's length, before anything is taken out.
    pub beams: usize,
    /// Whether items of the history are taken out of the list.
    pub mask_history: bool,
}

impl BeamSearch<'_> {
    /// The rank of every user's target in the list by the newest items of its history, `None` where it is not in it.
    /// `progress` hears how many users are done.
    ///
    /// # Errors
    /// When a history is empty, an item is unknown, or the weights have diverged.
    pub fn ranks(
        &self,
        shards: &Shards,
        histories: &[&[u32]],
        targets: &[u32],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Rank>> {
        let users = (ROWS / self.beams.max(1)).max(1);
        let mut found = Vec::with_capacity(targets.len());
        let rounds = histories.chunks(users * shards.count());
        for (histories, targets) in rounds.zip(targets.chunks(users * shards.count())) {
            let results = shards.run(|shard| {
                let own = histories.chunks(users).zip(targets.chunks(users));
                match own.into_iter().nth(shard) {
                    Some((histories, targets)) => self.chunk(histories, targets),
                    None => Ok(vec![]),
                }
            })?;
            found.extend(results.into_iter().flatten());
            progress(found.len());
        }
        Ok(found)
    }

    fn chunk(&self, histories: &[&[u32]], targets: &[u32]) -> Result<Vec<Rank>> {
        let newest = Histories::newest(histories, self.model.config().window)?;
        let lists = self.model.beam_search(self.ops, &newest, self.beams)?;
        let rank = |list: &[Candidate], history: &[u32], target: u32| {
            let masked = if self.mask_history { history } else { &[] };
            let mut kept = list.iter().filter(|found| !masked.contains(&found.item));
            let place = kept.position(|found| found.item == target);
            place.map(|place| place as u32 + 1)
        };
        let users = lists.iter().zip(histories).zip(targets);
        Ok(users
            .map(|((list, history), &target)| rank(list, history, target))
            .collect())
    }
}
