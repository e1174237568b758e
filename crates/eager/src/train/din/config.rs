//! How DIN is trained.

use anyhow::{Result, ensure};
use eager_ops::AdamWConfig;
use serde::{Deserialize, Serialize};

use crate::train::schedule::WarmupExponential;

/// How DIN is trained. `Default` is ours where it differs from the official code (`DIN_trainer.py`, `train_din.py`), mostly so
/// that training takes minutes; [`DinTraining::official`] has theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinTraining {
    /// Examples an update. Official code: 128.
    pub batch_size: usize,
    /// Fewest items of a training example's history. Official code: 4, so that a user's first target is the fifth item.
    pub min_history: usize,
    /// Negatives of each example. Official code: 60.
    pub negatives: usize,
    /// The sampled softmax's correction. Official code: [`LogQ::Negatives`].
    pub log_q: LogQ,
    /// The learning rate by update.
    pub schedule: WarmupExponential,
    /// Whether Adam divides by the largest second moment seen. Official code: yes.
    pub amsgrad: bool,
    /// Decoupled weight decay, of matrices and the item table.
    pub weight_decay: f64,
    /// Scale the gradient down to this global norm; 0 leaves it alone.
    pub clip_norm: f64,
    /// How far a shard moves the running statistics to its own. PyTorch: 0.1.
    pub momentum: f64,
    /// Most epochs.
    pub max_epochs: u64,
    /// Epochs without a better recall@20 after which training ends; 0 never ends it.
    pub patience: u64,
    /// Users validated on after every epoch, drawn once from the seed; 0 for all.
    pub valid_users: usize,
    /// Updates between two lines of the log, which are means over them.
    pub log_every: u64,
    /// Seconds between checkpoints; one is also written after every epoch.
    pub checkpoint_seconds: u64,
}

/// What a candidate's score `s` is corrected by in the sampled softmax: it enters as `s - log Q`.
///
/// A negative is drawn uniformly from the `N - 1` items other than the target, `k` times, so it is expected
/// `Q = k/(N - 1)` times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogQ {
    /// The target is corrected as if it had been drawn like the negatives (Jean et al., 2015; TensorFlow's
    /// `sampled_softmax_loss`). With uniform draws that moves every score alike, and the softmax does not see it.
    #[default]
    Both,
    /// The target is there for certain, `Q = 1`; each negative stands for `(N - 1)/k` items. The sum in the softmax is
    /// then an unbiased estimate of the one over all items.
    Negatives,
}

impl Default for DinTraining {
    fn default() -> Self {
        Self {
            batch_size: 128,
            min_history: 1,
            negatives: 60,
            log_q: LogQ::Both,
            schedule: WarmupExponential::default(),
            amsgrad: true,
            weight_decay: 0.0,
            clip_norm: 0.0,
            momentum: 0.1,
            max_epochs: 10,
            patience: 2,
            valid_users: 500,
            log_every: 100,
            checkpoint_seconds: 60,
        }
    }
}

impl DinTraining {
    /// What the authors' code runs, but for early stopping, which is ours: on Beauty they take the weights after 28,000
    /// updates (`train_rec.py`), which are 50 epochs.
    #[must_use]
    pub fn official() -> Self {
        let warmup = 5_000;
        Self {
            min_history: 4,
            log_q: LogQ::Negatives,
            schedule: WarmupExponential {
                warmup,
                // e^(-(u - w)/3w)
                half_life: 3.0 * std::f64::consts::LN_2 * warmup as f64,
                ..WarmupExponential::default()
            },
            max_epochs: 50,
            patience: 4,
            ..Self::default()
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("batch_size", self.batch_size as u64),
            ("min_history", self.min_history as u64),
            ("negatives", self.negatives as u64),
            ("max_epochs", self.max_epochs),
            ("log_every", self.log_every),
        ] {
            ensure!(value > 0, "DIN training: `{field}` is 0; use 1 or more");
        }
        for (field, value) in [
            ("weight_decay", self.weight_decay),
            ("clip_norm", self.clip_norm),
        ] {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "DIN training: `{field}` is {value}; use 0 or more"
            );
        }
        ensure!(
            self.momentum > 0.0 && self.momentum <= 1.0,
            "DIN training: `momentum` is {}; use more than 0, at most 1",
            self.momentum
        );
        self.schedule.validate()
    }

    pub(super) fn optimiser(&self) -> AdamWConfig {
        AdamWConfig {
            weight_decay: self.weight_decay,
            amsgrad: self.amsgrad,
            clip_norm: self.clip_norm,
            ..AdamWConfig::default()
        }
    }
}
