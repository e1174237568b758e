//! `eager baseline`: the models that EAGER is compared with, on the same data, split, seeds and figures.

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use eager_baselines::{
    Bsarec, BsarecConfig, LossConfig, NextItem, Sasrec, SasrecConfig, TigerConfig,
};
use eager_codes::SemanticIdConfig;
use eager_infer::metrics::CUTOFFS;
use eager_model::Weights;
use serde::{Deserialize, Serialize};

use crate::cli::RunArgs;
use crate::pipeline;
use crate::train::at_usual_pace;
use crate::train::next_item::NextItemTraining;
use crate::train::tiger::TigerTraining;

/// Which model, on what, and where.
#[derive(Debug, Subcommand)]
pub enum Baseline {
    /// SASRec (Kang & McAuley, 2018) with softmax over the whole catalogue, or a sample of it
    ///
    /// Settings are those below `baselines.sasrec` (docs/baselines.md):
    /// --set baselines.sasrec.loss.softmax=sampled, --set baselines.sasrec.model.d_model=128.
    Sasrec(RunArgs),
    /// BSARec (Shin et al., AAAI 2024): attention mixed with a filter over the sequence's spectrum
    ///
    /// Settings are those below `baselines.bsarec` (docs/baselines.md): --set baselines.bsarec.model.alpha=0.5.
    Bsarec(RunArgs),
    /// TIGER (Rajput et al., NeurIPS 2023): an encoder–decoder that says semantic ids, of the items' texts
    ///
    /// Settings are those below `baselines.tiger` (docs/baselines.md): --set baselines.tiger.codes.branching=64,
    /// --set baselines.tiger.beams=20.
    Tiger(RunArgs),
}

/// The name of TIGER's subcommand, settings and, unless named, run.
pub const TIGER: &str = "tiger";

/// A next-item model by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SASRec.
    Sasrec,
    /// BSARec.
    Bsarec,
}

impl Kind {
    /// The name of its subcommand, its settings and its run unless named.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sasrec => "sasrec",
            Self::Bsarec => "bsarec",
        }
    }
}

impl Baseline {
    /// Trains, evaluates and prints.
    ///
    /// # Errors
    /// As [`pipeline::baseline`] and [`pipeline::tiger`].
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Sasrec(args) => pipeline::baseline(args, Kind::Sasrec),
            Self::Bsarec(args) => pipeline::baseline(args, Kind::Bsarec),
            Self::Tiger(args) => pipeline::tiger(args),
        }
    }
}

/// Settings of all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaselinesConfig {
    /// SASRec.
    pub sasrec: NextItemConfig<SasrecConfig>,
    /// BSARec.
    pub bsarec: NextItemConfig<BsarecConfig>,
    /// TIGER.
    pub tiger: TigerSettings,
}

/// Settings of TIGER.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TigerSettings {
    /// Prefixes that the test's search keeps in every place of an id, and so the length of a list.
    pub beams: usize,
    /// The semantic ids.
    pub codes: SemanticIdConfig,
    /// Its shape.
    pub model: TigerConfig,
    /// How it is trained.
    pub training: TigerTraining,
}

impl Default for TigerSettings {
    fn default() -> Self {
        Self {
            beams: 50,
            codes: SemanticIdConfig::default(),
            model: TigerConfig::default(),
            training: TigerTraining::default(),
        }
    }
}

impl TigerSettings {
    fn validate(&self) -> Result<()> {
        let most = CUTOFFS[CUTOFFS.len() - 1];
        ensure!(
            self.beams >= most,
            "`beams` is {}; use {most}, the longest list that is looked at, or more",
            self.beams
        );
        self.codes.validate().context("codes")?;
        let length = self.codes.levels + 1;
        self.model.validate(length).context("model")?;
        self.training.validate()
    }
}

/// Settings of a next-item model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NextItemConfig<M: Default> {
    /// Its shape.
    pub model: M,
    /// What it learns by.
    pub loss: LossConfig,
    /// How it is trained.
    pub training: NextItemTraining,
}

impl Default for BaselinesConfig {
    /// As published, each in its own setting; see `docs/baselines.md`.
    fn default() -> Self {
        let mut sasrec = NextItemConfig::<SasrecConfig>::default();
        sasrec.training.batch_size = 128;
        let mut bsarec = NextItemConfig::<BsarecConfig>::default();
        bsarec.training.rate = 5e-4;
        Self {
            sasrec,
            bsarec,
            tiger: TigerSettings::default(),
        }
    }
}

impl BaselinesConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.sasrec.model.validate().context("sasrec.model")?;
        self.bsarec.model.validate().context("bsarec.model")?;
        for (name, loss, training) in [
            ("sasrec", &self.sasrec.loss, &self.sasrec.training),
            ("bsarec", &self.bsarec.loss, &self.bsarec.training),
        ] {
            ensure!(
                loss.negatives > 0,
                "{name}.loss: `negatives` is 0; use 1 or more"
            );
            training.validate().with_context(|| name.to_owned())?;
        }
        self.tiger.validate().context("tiger")
    }

    /// A model's loss and training.
    #[must_use]
    pub fn learning(&self, kind: Kind) -> (&LossConfig, &NextItemTraining) {
        match kind {
            Kind::Sasrec => (&self.sasrec.loss, &self.sasrec.training),
            Kind::Bsarec => (&self.bsarec.loss, &self.bsarec.training),
        }
    }

    /// A model's settings as they go into its stage's record.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn settings(&self, kind: Kind) -> Result<serde_json::Value> {
        let mut settings = match kind {
            Kind::Sasrec => serde_json::to_value(&self.sasrec)?,
            Kind::Bsarec => serde_json::to_value(&self.bsarec)?,
        };
        let (_, training) = self.learning(kind);
        settings["training"] = at_usual_pace(training)?;
        Ok(settings)
    }

    /// Makes a model of `weights`.
    ///
    /// # Errors
    /// When its shape is not valid, or saved weights do not fit.
    pub fn model(&self, kind: Kind, n_items: usize, weights: Weights) -> Result<Box<dyn NextItem>> {
        Ok(match kind {
            Kind::Sasrec => Box::new(Sasrec::new(&self.sasrec.model, n_items, weights)?),
            Kind::Bsarec => Box::new(Bsarec::new(&self.bsarec.model, n_items, weights)?),
        })
    }

    /// Items of a history that a model reads.
    #[must_use]
    pub fn window(&self, kind: Kind) -> usize {
        match kind {
            Kind::Sasrec => self.sasrec.model.window,
            Kind::Bsarec => self.bsarec.model.window,
        }
    }
}
