//! A training loop: shuffled epochs, one update a batch, early stopping on validation, checkpoints.
//!
//! Everything random is a function of (seed, update, shard), and the data's order of (seed, epoch), so the cursor in a
//! checkpoint is all there is to resume from, and a resumed run is the uninterrupted one bit for bit. What is trained, and
//! on what, is a [`Learner`].

use std::collections::HashMap;
use std::fmt::{self, Debug, Display};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use eager_data::Batches;
use eager_model::Parameters;
use eager_ops::{AdamW, AdamWConfig, Gradients, MovingAverage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;

/// The file that a killed run goes on from.
const LAST: &str = "last.safetensors";
/// The weights of the best validation so far.
const BEST: &str = "best.safetensors";

/// What is trained.
pub trait Learner {
    /// The parts of its loss.
    type Losses: Losses;
    /// What a validation finds.
    type Found: Found;

    /// Its parameters.
    fn parameters(&self) -> &Parameters;

    /// All that a checkpoint has to keep of it: its parameters, unless it is more than them.
    fn tensors(&self) -> HashMap<String, Tensor> {
        self.parameters().tensors()
    }

    /// Puts back what [`Learner::tensors`] gave.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    fn set(&mut self, saved: HashMap<String, Tensor>) -> Result<()> {
        Ok(self.parameters().set(&saved)?)
    }

    /// The batches of an epoch, which are as many in each.
    fn batches(&self, epoch: u64) -> Batches;

    /// The learning rate of an update, the first of which is 1.
    fn rate(&self, update: u64) -> f64;

    /// The gradients of a batch, whose sum is the batch's, and the parts of its loss. `update` counts from 0.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn gradients(
        &mut self,
        examples: &[u32],
        update: u64,
    ) -> Result<(Vec<Gradients>, Self::Losses)>;

    /// How good the parameters are.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn validate(&mut self) -> Result<Self::Found>;
}

/// What a validation finds.
pub trait Found: Copy + Debug + Default + Serialize + DeserializeOwned {
    /// What early stopping looks at; more is better.
    fn score(&self) -> f64;

    /// The figures with their names.
    fn named(&self) -> [(&'static str, f64); 2];
}

/// Parts of a loss, or a single number.
pub trait Losses: Copy + Debug + Default + Serialize + DeserializeOwned {
    /// Adds `other`, weighted.
    fn add(&mut self, other: &Self, weight: f64);

    /// What is minimised.
    fn total(&self) -> f64;

    /// Every part with its name in logs.
    fn named(&self) -> Vec<(&'static str, f64)>;
}

/// A batch's gradients, a store a shard, and the parts of its loss: the sum of the shards' by their weights.
pub(super) fn over_shards<L: Losses>(
    results: impl IntoIterator<Item = (Gradients, L, f64)>,
) -> (Vec<Gradients>, L) {
    let (mut all, mut sum) = (vec![], L::default());
    for (grads, losses, weight) in results {
        sum.add(&losses, weight);
        all.push(grads);
    }
    (all, sum)
}

impl Losses for f64 {
    fn add(&mut self, other: &Self, weight: f64) {
        *self += weight * other;
    }

    fn total(&self) -> f64 {
        *self
    }

    fn named(&self) -> Vec<(&'static str, f64)> {
        vec![("loss", *self)]
    }
}

/// When training validates, ends, and writes things down.
#[derive(Clone, Debug)]
pub struct Course<'a> {
    /// The optimiser.
    pub optimiser: &'a AdamWConfig,
    /// Decay of the weights' moving average, which is then validated and kept in their place; 0 for none.
    pub average: f64,
    /// Most epochs.
    pub max_epochs: u64,
    /// Most updates; 0 for no limit but `max_epochs`.
    pub max_updates: u64,
    /// Epochs between validations.
    pub validate_every: u64,
    /// Validations without a better score after which training ends; 0 never ends it.
    pub patience: u64,
    /// Updates between two lines of the log.
    pub log_every: u64,
    /// Seconds between checkpoints; one is also written after every epoch.
    pub checkpoint_seconds: u64,
    /// Where the parameters live.
    pub device: &'a Device,
}

/// What the validation of a recommender finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Recall@10.
    pub recall_10: f64,
    /// NDCG@10: what early stopping looks at.
    pub ndcg_10: f64,
}

impl Found for Validation {
    fn score(&self) -> f64 {
        self.ndcg_10
    }

    fn named(&self) -> [(&'static str, f64); 2] {
        [("recall@10", self.recall_10), ("ndcg@10", self.ndcg_10)]
    }
}

/// What happens in training, for whoever shows or keeps it.
#[derive(Clone, Copy, Debug)]
pub enum Event<L, F = Validation> {
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
        parts: L,
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
        found: F,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// What training came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome<F = Validation> {
    /// Updates made.
    pub updates: u64,
    /// Epochs made.
    pub epochs: u64,
    /// Epochs made when the weights that were kept were validated.
    pub best_epoch: u64,
    /// Their validation.
    pub best: F,
    /// Whether the patience ended training, not a limit.
    pub stopped_early: bool,
}

impl<F: Found> Display for Outcome<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epochs, kept) = (self.epochs, self.best_epoch);
        let [(recall, r), (ndcg, n)] = self.best.named();
        write!(
            f,
            "best of {epochs} epochs: {kept}, validation {recall} {r:.4}, {ndcg} {n:.4}"
        )
    }
}

/// Where the loop stands: with the weights and the optimiser's state, all there is to go on from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cursor<L, F> {
    updates: u64,
    epoch: u64,
    /// Batches of the epoch that are done.
    batch: usize,
    best: Option<(u64, F)>,
    validations_since_best: u64,
    ended: bool,
    /// Sums since the last line of the log.
    since_log: L,
    updates_since_log: u64,
}

type CursorOf<L> = Cursor<<L as Learner>::Losses, <L as Learner>::Found>;

/// What makes new weights: all of a run's state but the weights themselves and the cursor.
struct Optimiser {
    adamw: AdamW,
    average: Option<MovingAverage>,
}

impl Optimiser {
    fn new(parameters: &Parameters, course: &Course<'_>) -> Result<Self> {
        let average = (course.average > 0.0)
            .then(|| MovingAverage::new(parameters.trainable(), course.average));
        Ok(Self {
            adamw: AdamW::new(parameters.trainable(), course.optimiser.clone())?,
            average: average.transpose()?,
        })
    }

    fn load_state(&mut self, updates: u64, state: &HashMap<String, Tensor>) -> Result<()> {
        self.adamw.load_state(updates, state)?;
        if let Some(average) = &self.average {
            average.load_state(state)?;
        }
        Ok(())
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = self.adamw.state()?;
        state.extend(self.average.iter().flat_map(MovingAverage::state));
        Ok(state)
    }

    /// One update; the gradient's norm before clipping.
    fn step(&mut self, grads: &[Gradients], rate: f64) -> Result<f64> {
        let norm = self.adamw.step(grads, rate)?;
        if let Some(average) = &self.average {
            average.update(self.adamw.updates())?;
        }
        Ok(norm)
    }

    /// Puts the average, where there is one, in the weights' place, or the weights back.
    fn exchange(&self) -> Result<()> {
        match &self.average {
            Some(average) => Ok(average.exchange()?),
            None => Ok(()),
        }
    }
}

/// Trains a learner, which is left with the best weights that it validated. Checkpoints are kept in `folder`, and gone on
/// from where there are some.
///
/// # Errors
/// When a checkpoint is damaged or cannot be written, the loss is not finite, or the learner fails.
pub fn train<L: Learner>(
    learner: &mut L,
    course: &Course<'_>,
    folder: &Path,
    log: &mut dyn FnMut(Event<L::Losses, L::Found>) -> Result<()>,
) -> Result<Outcome<L::Found>> {
    let (last, best) = (folder.join(LAST), folder.join(BEST));
    let mut optimiser = Optimiser::new(learner.parameters(), course)?;
    let mut cursor = begin(learner, &mut optimiser, &last, course.device)?;
    let updates_an_epoch = learner.batches(0).len() as u64;
    let by_epochs = course.max_epochs.saturating_mul(updates_an_epoch);
    let limit = match course.max_updates {
        0 => by_epochs,
        most => by_epochs.min(most),
    };
    log(Event::Started {
        update: cursor.updates,
        limit,
    })?;
    let mut saved_at = Instant::now();
    while !cursor.ended {
        let batches = learner.batches(cursor.epoch);
        for examples in batches.from(cursor.batch) {
            if cursor.updates >= limit {
                break;
            }
            let rate = learner.rate(cursor.updates + 1);
            let (grads, parts) = learner.gradients(examples, cursor.updates)?;
            let norm = optimiser.step(&grads, rate).with_context(|| {
                format!(
                    "update {} (epoch {}): the loss was {}",
                    cursor.updates + 1,
                    cursor.epoch,
                    parts.total()
                )
            })?;
            cursor.updates += 1;
            cursor.batch += 1;
            cursor.since_log.add(&parts, 1.0);
            cursor.updates_since_log += 1;
            if cursor.updates.is_multiple_of(course.log_every) {
                log(cursor.line(rate, norm))?;
            }
            // Not after an epoch's last: what the validation then logs would be of a step that a resumed log keeps.
            let more = cursor.batch < batches.len() && cursor.updates < limit;
            if more && saved_at.elapsed() >= Duration::from_secs(course.checkpoint_seconds) {
                save(learner, &optimiser, &cursor, &last)?;
                saved_at = Instant::now();
            }
        }
        let limited = cursor.updates >= limit;
        cursor.epoch += 1;
        cursor.batch = 0;
        if limited || cursor.epoch.is_multiple_of(course.validate_every) {
            optimiser.exchange()?;
            let found = learner.validate()?;
            let better = cursor.judge(found);
            if better {
                let weights = learner.tensors().into_iter().collect();
                super::checkpoint::write(&best, &weights, None)
                    .with_context(|| format!("cannot write {}", best.display()))?;
            }
            optimiser.exchange()?;
            log(Event::Validated {
                update: cursor.updates,
                epoch: cursor.epoch,
                found,
                best: better,
            })?;
        }
        let patient = course.patience == 0 || cursor.validations_since_best < course.patience;
        cursor.ended = limited || !patient;
        save(learner, &optimiser, &cursor, &last)?;
        saved_at = Instant::now();
    }
    let Some((best_epoch, found)) = cursor.best else {
        anyhow::bail!("training ended without a validation; this is a defect of the loop")
    };
    let weights = candle_core::safetensors::load(&best, course.device)
        .with_context(|| format!("cannot read the best weights, {}", best.display()))?;
    learner
        .set(weights)
        .with_context(|| format!("the best weights, {}", best.display()))?;
    Ok(Outcome {
        updates: cursor.updates,
        epochs: cursor.epoch,
        best_epoch,
        best: found,
        stopped_early: cursor.updates < limit,
    })
}

/// The cursor to start or to go on from; of a checkpoint with its weights and moments.
fn begin<L: Learner>(
    learner: &mut L,
    optimiser: &mut Optimiser,
    last: &Path,
    device: &Device,
) -> Result<CursorOf<L>> {
    let Some(saved) = Checkpoint::<CursorOf<L>>::load_if_present(last, device)? else {
        return Ok(Cursor::default());
    };
    let whence = || format!("cannot go on from {}", last.display());
    learner.set(saved.weights).with_context(whence)?;
    optimiser
        .load_state(saved.cursor.updates, &saved.optimiser)
        .with_context(whence)?;
    tracing::info!(
        "going on from {} ({} updates made)",
        last.display(),
        saved.cursor.updates
    );
    Ok(saved.cursor)
}

fn save<L: Learner>(
    learner: &L,
    optimiser: &Optimiser,
    cursor: &CursorOf<L>,
    last: &Path,
) -> Result<()> {
    let state = Checkpoint {
        weights: learner.tensors(),
        optimiser: optimiser.state()?,
        cursor: cursor.clone(),
    };
    Ok(state.save(last)?)
}

impl<L: Losses, F: Found> Cursor<L, F> {
    /// The next line of the log, whose sums begin anew.
    fn line(&mut self, rate: f64, norm: f64) -> Event<L, F> {
        let made = std::mem::take(&mut self.updates_since_log);
        let mut parts = L::default();
        parts.add(&std::mem::take(&mut self.since_log), 1.0 / made as f64);
        Event::Updates {
            update: self.updates,
            made,
            epoch: self.epoch,
            parts,
            rate,
            norm,
        }
    }

    /// Whether a validation is the best so far; keeps count.
    fn judge(&mut self, found: F) -> bool {
        let better = self
            .best
            .is_none_or(|(_, best)| found.score() > best.score());
        if better {
            self.best = Some((self.epoch, found));
            self.validations_since_best = 0;
        } else {
            self.validations_since_best += 1;
        }
        better
    }
}

#[cfg(test)]
mod tests;
