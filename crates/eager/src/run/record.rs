//! What a finished stage leaves besides its artefacts: `stage.json`.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The stages in the order in which they run.
#[derive(
    Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Histories and items, filtered and ordered.
    Data,
    /// Behaviour vectors of the items, by a DIN.
    Behaviour,
    /// Semantic vectors of the items, from their texts.
    Text,
    /// Two trees of codes, one from each kind of vectors.
    Codes,
    /// The two-stream model, trained.
    Model,
    /// Figures on the test set.
    Eval,
}

impl Stage {
    /// All of them, first to last.
    pub const ALL: [Self; 6] = [
        Self::Data,
        Self::Behaviour,
        Self::Text,
        Self::Codes,
        Self::Model,
        Self::Eval,
    ];

    /// The name of the stage, of its folder and of its subcommand.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Behaviour => "behaviour",
            Self::Text => "text",
            Self::Codes => "codes",
            Self::Model => "model",
            Self::Eval => "eval",
        }
    }

    /// Whether it leaves checkpoints, from which it goes on where it was interrupted.
    #[must_use]
    pub fn trains(self) -> bool {
        matches!(self, Self::Behaviour | Self::Model)
    }

    /// Names of its outputs; a run has those of its kind. Any other file in its folder is none.
    #[must_use]
    pub fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Data => &["dataset.json", "items.jsonl", "interactions.jsonl"],
            Self::Behaviour => &[
                "vectors.safetensors",
                "report.json",
                "model.safetensors",
                "outcome.json",
            ],
            Self::Text => &["vectors.safetensors"],
            Self::Codes => &[
                "behaviour.safetensors",
                "semantic.safetensors",
                "ids.safetensors",
                "report.json",
                "report.txt",
            ],
            Self::Model => &[
                "model.safetensors",
                "model.json",
                "behaviour.safetensors",
                "semantic.safetensors",
                "vectors.safetensors",
                "outcome.json",
            ],
            Self::Eval => &[
                "metrics.json",
                "ranks.csv",
                "calibration.json",
                "beams.json",
            ],
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `stage.json`: what a stage was made from and with, and what it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// Which stage.
    pub stage: Stage,
    /// SHA-256 of `input_parts`, lower-case hex.
    pub inputs: String,
    /// Every input by name, most of them digests.
    pub input_parts: BTreeMap<String, String>,
    /// The stage's settings.
    pub config: serde_json::Value,
    /// The seed that the stage draws from: one derived from the run's, of stage `codes` the run's own, 0 where nothing is drawn.
    pub seed: u64,
    /// What made it.
    pub versions: Versions,
    /// The device of the run: `cpu`, `cuda` or `metal`.
    pub device: String,
    /// File in the stage's folder → SHA-256 of its bytes.
    pub outputs: BTreeMap<String, String>,
    /// How often it was started until it was done.
    pub attempts: u32,
    /// Time of all attempts, seconds; an interrupted one counts up to the last file it wrote.
    pub wall_seconds: f64,
    /// Most memory the process had while doing the last attempt, bytes; `None` where the system does not tell. GPU memory
    /// is not in it.
    pub peak_memory_bytes: Option<u64>,
}

impl StageRecord {
    /// Whether it was made of what `other` left.
    pub(super) fn reads(&self, other: Stage) -> bool {
        let prefix = format!("{other}/");
        self.input_parts
            .keys()
            .any(|name| name.starts_with(&prefix))
    }

    /// Whether what it was made of is what the stages before it, `others`, hold now.
    pub(super) fn made_of(&self, others: &[Self]) -> bool {
        Stage::ALL.into_iter().all(|source| {
            let prefix = format!("{source}/");
            let parts = self.input_parts.iter();
            let read =
                parts.filter_map(|(name, digest)| Some((name.strip_prefix(&prefix)?, digest)));
            let mut read = read.peekable();
            let other = others.iter().find(|other| other.stage == source);
            let held = other.into_iter().flat_map(|other| &other.outputs);
            read.peek().is_none() || read.eq(held.map(|(file, digest)| (file.as_str(), digest)))
        })
    }
}

/// What made a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// This crate's.
    pub eager: String,
    /// candle's.
    pub candle: String,
    /// The compiler's.
    pub rustc: String,
    /// The target it was compiled for.
    pub target: String,
    /// The processor, whose kind moves figures in the last digits; `None` of a stage that was made before it was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
}

impl Versions {
    /// The running program, here.
    #[must_use]
    pub fn of_this_program() -> Self {
        Self {
            eager: env!("CARGO_PKG_VERSION").to_owned(),
            candle: env!("EAGER_CANDLE").to_owned(),
            rustc: env!("EAGER_RUSTC").to_owned(),
            target: env!("EAGER_TARGET").to_owned(),
            processor: Some(processor()),
        }
    }
}

/// The processor's name, with what tells generations apart where the name does not; its architecture where the system does not
/// say.
#[must_use]
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model\t")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        (Some(name), ..) => name,
        _ => std::env::consts::ARCH.to_owned(),
    }
}

/// A config as JSON with sorted keys, so that its digest follows from its content alone.
pub(super) fn canonical<C: Serialize>(config: &C) -> Result<serde_json::Value> {
    let mut value =
        serde_json::to_value(config).context("the stage's config cannot be written as JSON")?;
    value.sort_all_objects();
    Ok(value)
}
