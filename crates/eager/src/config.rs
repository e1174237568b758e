//! The whole configuration of a run: a section a stage, all of it in one TOML file, saved with the run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use eager_codes::CodesConfig;
use eager_data::{Example, Manifest, Order, PrepareConfig, Split, SplitRule};
use eager_infer::metrics::{BootstrapConfig, CUTOFFS};
use eager_infer::{InferConfig, Ranking};
use eager_losses::LossConfig;
use eager_model::{DinConfig, EagerConfig};
use eager_ops::Ops;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::baseline::BaselinesConfig;
use crate::train::din::DinTraining;
use crate::train::generator::TrainingConfig;
use crate::train::start::TableStart;

/// Everything that decides a run's figures, besides the dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of everything that is drawn; each stage derives its own. Official code: 2024.
    pub seed: u64,
    /// Fused operations, or the plain ones that they are tested against: the same figures within float noise, slower.
    pub ops: Ops,
    /// Filter, order, tie rule and split; the manifest's unless changed.
    #[serde(serialize_with = "with_split")]
    pub prepare: PrepareConfig,
    /// Behaviour vectors.
    pub behaviour: BehaviourConfig,
    /// Semantic vectors.
    pub text: TextConfig,
    /// The two trees of codes.
    pub codes: TreesConfig,
    /// The generator's shape.
    pub model: EagerConfig,
    /// The losses and their weights.
    pub losses: LossConfig,
    /// The generator's training.
    pub training: TrainingConfig,
    /// The test.
    pub eval: EvalConfig,
    /// The models that EAGER is compared with.
    #[serde(default)]
    pub baselines: BaselinesConfig,
}

/// What makes the behaviour vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BehaviourModel {
    /// A DIN (paper §3.2), of the settings beside.
    #[default]
    Din,
    /// A SASRec, of the settings in `baselines.sasrec`.
    Sasrec,
}

/// Behaviour vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BehaviourConfig {
    /// Ready-made vectors in place of the DIN's; see [`vectors`](crate::vectors). As text `""` is none.
    #[serde(with = "path_or_none")]
    pub vectors: Option<PathBuf>,
    /// Whose item embeddings they are.
    pub model: BehaviourModel,
    /// DIN's shape.
    pub din: DinConfig,
    /// How it is trained.
    pub training: DinTraining,
}

/// Which item of every user is held out and ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldOut {
    /// Validation's, with leave-one-out the last but one: for choosing among settings. Training stopped early by it, so
    /// figures are a little too good.
    Valid,
    /// The test's, the last: what tables are made of.
    #[default]
    Test,
}

impl HeldOut {
    /// Users that have one, ascending.
    #[must_use]
    pub fn users(self, split: &Split) -> Vec<u32> {
        match self {
            Self::Valid => split.valid_users(),
            Self::Test => split.test_users(),
        }
    }

    /// A user's.
    #[must_use]
    pub fn example(self, split: &Split, user: usize) -> Option<Example<'_>> {
        match self {
            Self::Valid => split.valid(user),
            Self::Test => split.test(user),
        }
    }
}

/// The test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Which item of every user is ranked.
    pub held_out: HeldOut,
    /// How items are recommended.
    pub infer: InferConfig,
    /// How intervals are made.
    pub bootstrap: BootstrapConfig,
    /// Users on whom the beam search is compared with scoring the whole catalogue, drawn from the seed; 0 for none.
    pub exact_users: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            held_out: HeldOut::default(),
            infer: InferConfig::default(),
            bootstrap: BootstrapConfig::default(),
            exact_users: 1_000,
        }
    }
}

/// Semantic vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// A preset (`sentence-t5-base`, …), `lsa`, or a model folder.
    pub encoder: String,
    /// Ready-made vectors in place of an encoder's; see [`vectors`](crate::vectors). As text `""` is none.
    #[serde(with = "path_or_none")]
    pub vectors: Option<PathBuf>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            encoder: eager_text::DEFAULT_ENCODER.to_owned(),
            vectors: None,
        }
    }
}

/// One tree from each kind of vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TreesConfig {
    /// The tree over the behaviour vectors.
    pub behaviour: CodesConfig,
    /// The tree over the semantic vectors.
    pub semantic: CodesConfig,
}

/// Writes the split even where it is the usual one, which the stages' records leave out: a saved config is to mean the same run
/// again, whatever the manifest says.
fn with_split<S: Serializer>(prepare: &PrepareConfig, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        prepare: &'a PrepareConfig,
        #[serde(skip_serializing_if = "Option::is_none")]
        split: Option<SplitRule>,
    }
    let split = prepare.split;
    let split = split.is_leave_one_out().then_some(split);
    Whole { prepare, split }.serialize(serializer)
}

/// A path that is written even where there is none, for the same reason; TOML has no null.
mod path_or_none {
    use super::{Deserialize, Deserializer, Path, PathBuf, Result, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let path = path.as_deref().unwrap_or(Path::new(""));
        path.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
    }
}

impl Config {
    /// What the paper says, on this dataset.
    #[must_use]
    pub fn paper(manifest: &Manifest) -> Self {
        Self {
            seed: 2024,
            ops: Ops::Fused,
            prepare: manifest.prepare.clone(),
            behaviour: BehaviourConfig::default(),
            text: TextConfig::default(),
            codes: TreesConfig::default(),
            model: EagerConfig::default(),
            losses: LossConfig::default(),
            training: TrainingConfig::default(),
            eval: EvalConfig::default(),
            baselines: BaselinesConfig::default(),
        }
    }

    /// What the authors' code runs, on this dataset: file order among others.
    #[must_use]
    pub fn official(manifest: &Manifest) -> Self {
        let mut config = Self::paper(manifest);
        config.prepare.order = Order::File;
        config.behaviour.training = DinTraining::official();
        config.codes.behaviour = CodesConfig::official();
        config.codes.semantic = CodesConfig::official();
        config.model = EagerConfig::official();
        config.losses = LossConfig::official();
        config.training = TrainingConfig::official();
        config.eval.infer.ranking = Ranking::Sum;
        config
    }

    /// Beyond the paper (`docs/eager-plus.md`): a direct head beside the two decoders, all three predictions in the ranking,
    /// behaviour vectors of a SASRec, tables that start from the vectors, and sizes chosen on validation.
    #[must_use]
    pub fn plus(manifest: &Manifest) -> Self {
        let mut config = Self::paper(manifest);
        config.behaviour.model = BehaviourModel::Sasrec;
        config.model.direct_head = true;
        config.model.d_model = 64;
        config.model.heads = 2;
        config.model.feed_forward = 256;
        config.model.encoder_layers = 2;
        config.model.decoder_layers = 2;
        config.model.dropout = 0.4;
        config.model.filter.alpha = 0.7;
        config.losses.direct = 5.0;
        config.training.tables = TableStart::Vectors;
        config.training.average = 0.999;
        config.training.schedule.warmup = 1_000;
        config.eval.infer.ranking = Ranking::Mixture;
        config.eval.infer.weights.direct = 6.0;
        config
    }

    /// Checks every section, so that a long run does not fail at its last stage.
    ///
    /// # Errors
    /// When a value is outside its range.
    pub fn validate(&self) -> Result<()> {
        self.prepare.validate().context("prepare")?;
        self.codes.behaviour.validate().context("codes.behaviour")?;
        self.codes.semantic.validate().context("codes.semantic")?;
        self.behaviour.din.validate().context("behaviour.din")?;
        let training = &self.behaviour.training;
        training.validate().context("behaviour.training")?;
        self.model.validate().context("model")?;
        self.losses.validate().context("losses")?;
        let (head, weight) = (self.model.direct_head, self.losses.direct);
        ensure!(
            head == (weight > 0.0),
            "`model.direct_head` is {head}, `losses.direct` {weight}: the head needs a weight above 0 to be trained, and \
             the weight the head"
        );
        self.training.validate()?;
        let infer = &self.eval.infer;
        infer.validate_for(head).context("eval.infer")?;
        let (top_k, most) = (infer.top_k, CUTOFFS[CUTOFFS.len() - 1]);
        ensure!(
            top_k >= most,
            "eval.infer: `top_k` is {top_k}; use {most}, the longest list that is looked at, or more"
        );
        self.eval.bootstrap.validate().context("eval.bootstrap")?;
        self.baselines.validate().context("baselines")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline;

    #[test]
    fn a_saved_config_means_the_same_run_again() {
        let manifest = "name = 'mine'\ntitle = 'Mine'\n[[source]]\nformat = 'demo'\n\
            [prepare]\nsplit.global-time.quantile = 0.9\n\
            [settings]\nbehaviour.vectors = 'b.npy'\ntext.vectors = 't.npy'\n";
        let manifest = Manifest::parse(manifest, Path::new("mine.toml")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("config.toml");
        let again = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let config = pipeline::config("paper", &sets, &manifest).unwrap();
            std::fs::write(&saved, toml::to_string(&config).unwrap()).unwrap();
            let read = pipeline::config(saved.to_str().unwrap(), &[], &manifest).unwrap();
            assert_eq!(read, config);
            read
        };
        let all = again(&[]);
        assert!(!all.prepare.split.is_leave_one_out());
        assert_eq!(all.text.vectors.as_deref(), Some(Path::new("t.npy")));
        let none = again(&[
            "prepare.split=leave-one-out",
            "prepare.ties.shuffle.seed=1",
            "behaviour.vectors=",
            "text.vectors=",
        ]);
        assert!(none.prepare.split.is_leave_one_out());
        assert_eq!((none.behaviour.vectors, none.text.vectors), (None, None));
        // As the stages' records have it, so that older runs stay as they are.
        let record = serde_json::to_value(&none.prepare).unwrap();
        assert_eq!(record.get("split"), None);
    }
}
