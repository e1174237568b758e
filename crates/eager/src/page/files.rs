//! What a run's folder holds, read for the page; `None` for what is not there yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use eager_codes::ItemCodes;
use eager_data::digest::sha256;
use eager_data::{Dataset, Split};
use eager_infer::metrics::Rank;
use eager_model::PerStream;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{BehaviourModel, Config, HeldOut};
use crate::html::plot::Colour;
use crate::report::Report;
use crate::run::{Stage, StageRecord, read_json, records};
use crate::stages::eval::{Calibration, Users};
use crate::train::din::DinReport;
use crate::train::generator::Outcome;

/// The run.
pub(super) struct RunFiles {
    pub root: PathBuf,
    /// The folder's name.
    pub name: String,
    /// `config.toml`, with what the page looks at as the stages that are done had it: the config may be a later command's.
    pub config: Config,
    /// How the model, EAGER or a baseline, was trained, or is going to be.
    pub training: Value,
    /// `config.toml` as it is, and its SHA-256.
    pub config_text: String,
    pub config_digest: String,
    /// Of the stages that are done and belong together, in their order.
    pub records: Vec<StageRecord>,
    pub data: Option<Data>,
    pub codes: Option<PerStream<ItemCodes>>,
    pub behaviour_log: Vec<LogLine>,
    pub behaviour_report: Option<DinReport>,
    /// Of a SASRec in DIN's place.
    pub behaviour_outcome: Option<Outcome>,
    pub model_log: Vec<LogLine>,
    pub outcome: Option<Outcome>,
    pub report: Option<Report>,
    pub calibration: Option<Calibration>,
    pub ranks: Option<Vec<RankLine>>,
}

/// The dataset and who is evaluated on it.
pub(super) struct Data {
    pub dataset: Dataset,
    /// In the order of `eval/ranks.csv`.
    pub evaluated: Users,
    /// Interactions in training, by item.
    pub counts: Vec<u32>,
}

/// A line of a `metrics.jsonl`.
#[derive(Deserialize)]
pub(super) struct LogLine {
    /// Updates made.
    pub step: u64,
    /// By name; `None` where it was no number.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
}

/// A line of `ranks.csv`.
#[derive(Deserialize)]
pub(super) struct RankLine {
    pub user: String,
    pub merged: Rank,
    /// A baseline has no streams.
    #[serde(default)]
    pub behaviour: Rank,
    #[serde(default)]
    pub semantic: Rank,
    /// Only a model with a direct head has it.
    #[serde(default)]
    pub direct: Rank,
}

/// A list that users are given, by its name in the files of `eval/`.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub name: &'static str,
    pub colour: Colour,
    pub rank: fn(&RankLine) -> Rank,
}

impl List {
    /// What is recommended, then what it is merged of.
    pub const ALL: [Self; 4] = [
        Self {
            name: "merged",
            colour: Colour::Merged,
            rank: |line| line.merged,
        },
        Self {
            name: "behaviour",
            colour: Colour::Behaviour,
            rank: |line| line.behaviour,
        },
        Self {
            name: "semantic",
            colour: Colour::Semantic,
            rank: |line| line.semantic,
        },
        Self {
            name: "direct",
            colour: Colour::DIRECT,
            rank: |line| line.direct,
        },
    ];
}

impl RunFiles {
    pub fn read(root: &Path) -> Result<Self> {
        let config_path = root.join("config.toml");
        let config_text = std::fs::read_to_string(&config_path).with_context(|| {
            let root = root.display();
            format!("{root} is no folder of a run: it has no config.toml that can be read; make one with `eager pipeline`")
        })?;
        let mut config: Config =
            toml::from_str(&config_text).with_context(|| config_path.display().to_string())?;
        let file = |stage: Stage, name: &str| root.join(stage.name()).join(name);
        let records = records(root)?;
        let done = |stage| {
            records
                .iter()
                .any(|record: &StageRecord| record.stage == stage)
        };
        // Or it is being trained, or was when its command ended. Else its folder is of what the run was before.
        let begun = |stage| done(stage) || file(stage, "inputs.json").exists();
        let log = |stage| match begun(stage) {
            true => read_log(&file(stage, "metrics.jsonl")),
            false => Ok(vec![]),
        };
        for record in &records {
            put_settings(&mut config, record)
                .with_context(|| file(record.stage, "stage.json").display().to_string())?;
        }
        let trained = records.iter().find(|record| record.stage == Stage::Model);
        let training = match trained.map(|record| &record.config) {
            // Of a next-item model they are one deeper.
            Some(of) => of.get("settings").unwrap_or(of)["training"].clone(),
            None => serde_json::to_value(&config.training)?,
        };
        let data = done(Stage::Data)
            .then(|| Data::read(&root.join(Stage::Data.name()), config.eval.held_out))
            .transpose()?;
        // TIGER's semantic ids are no trees.
        let trees = records.iter().any(|record| {
            let file = "behaviour.safetensors";
            record.stage == Stage::Codes && record.outputs.contains_key(file)
        });
        let codes = trees.then(|| {
            PerStream::try_from_fn(|stream| {
                ItemCodes::load(&file(
                    Stage::Codes,
                    &format!("{}.safetensors", stream.name()),
                ))
            })
        });
        let codes = codes.transpose()?;
        // A stage that was begun anew has none of these until it is done.
        let (report, calibration, ranks): (Option<Report>, _, _) = if done(Stage::Eval) {
            (
                read_json(&file(Stage::Eval, "metrics.json"))?,
                read_json(&file(Stage::Eval, "calibration.json"))?,
                Some(read_ranks(&file(Stage::Eval, "ranks.csv"))?),
            )
        } else {
            (None, None, None)
        };
        let seed = report.as_ref().and_then(|of| of.protocol.get("seed"));
        config.seed = seed.and_then(Value::as_u64).unwrap_or(config.seed);
        let (behaviour_report, behaviour_outcome) = if begun(Stage::Behaviour) {
            (
                read_json(&file(Stage::Behaviour, "report.json"))?,
                read_json(&file(Stage::Behaviour, "outcome.json"))?,
            )
        } else {
            (None, None)
        };
        let outcome = match begun(Stage::Model) {
            true => read_json(&file(Stage::Model, "outcome.json"))?,
            false => None,
        };
        let files = Self {
            name: name(root)?,
            config_digest: sha256(config_text.as_bytes()),
            config,
            training,
            config_text,
            behaviour_log: log(Stage::Behaviour)?,
            behaviour_report,
            behaviour_outcome,
            model_log: log(Stage::Model)?,
            outcome,
            root: root.to_owned(),
            records,
            data,
            codes,
            report,
            calibration,
            ranks,
        };
        files.check()?;
        Ok(files)
    }

    /// Whether files of different stages are of the same data.
    fn check(&self) -> Result<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let again = "the stages are of different data; run the pipeline again";
        let items = data.dataset.items.len();
        let users = data
            .evaluated
            .users
            .iter()
            .map(|&user| &data.dataset.users[user as usize]);
        if let Some(ranks) = &self.ranks
            && !users.eq(ranks.iter().map(|line| &line.user))
        {
            bail!(
                "{}: eval/ranks.csv has other users than data/: {again}",
                self.root.display()
            );
        }
        if let Some(codes) = &self.codes
            && (codes.behaviour.n_items() != items || codes.semantic.n_items() != items)
        {
            bail!(
                "{}: codes/ has other items than data/: {again}",
                self.root.display()
            );
        }
        Ok(())
    }

    /// Users' ranks with the data that they are of.
    pub fn evaluated(&self) -> Option<(&Data, &[RankLine])> {
        Some((self.data.as_ref()?, self.ranks.as_deref()?))
    }

    /// The baseline that the run is of, if it is one of `eager baseline`, once its model is trained.
    pub fn baseline(&self) -> Option<&str> {
        let mut records = self.records.iter();
        let trained = records.find(|record| record.stage == Stage::Model)?;
        trained.config["baseline"].as_str()
    }

    /// The lists that there are: what is recommended, and what that is merged of, which a baseline has none of.
    pub fn lists(&self) -> Vec<List> {
        let streams = self.report.as_ref().map(|report| &report.streams);
        let there = |list: &List| {
            list.name == "merged" || streams.is_some_and(|streams| streams.contains_key(list.name))
        };
        List::ALL.into_iter().filter(there).collect()
    }

    /// Whether the model has a direct head.
    pub fn has_direct_head(&self) -> bool {
        match &self.report {
            Some(report) => report.streams.contains_key("direct"),
            None => self.config.model.direct_head,
        }
    }

    pub fn dataset_name(&self) -> &str {
        let data = self.data.as_ref().map(|data| data.dataset.name.as_str());
        data.or(self.report.as_ref().map(|report| report.dataset.as_str()))
            .unwrap_or("a dataset not yet prepared")
    }
}

/// Puts what a stage was done with into `config`, where the page looks at it.
fn put_settings(config: &mut Config, record: &StageRecord) -> serde_json::Result<()> {
    let of = |name: &str| record.config[name].clone();
    let baseline = !record.config["baseline"].is_null();
    match record.stage {
        Stage::Data => config.prepare = serde_json::from_value(of("prepare"))?,
        Stage::Behaviour if baseline => config.behaviour.model = BehaviourModel::Sasrec,
        Stage::Behaviour => config.behaviour.model = BehaviourModel::Din,
        Stage::Text => config.text.encoder = serde_json::from_value(of("encoder"))?,
        Stage::Model if !baseline => {
            config.model = serde_json::from_value(of("model"))?;
            config.losses = serde_json::from_value(of("losses"))?;
        }
        Stage::Eval => {
            config.eval = serde_json::from_value(of("eval"))?;
            config.ops = serde_json::from_value(of("ops"))?;
        }
        // Of the run's own seed, but for TIGER's.
        Stage::Codes if !record.config["trees"].is_null() => config.seed = record.seed,
        Stage::Model | Stage::Codes => {}
    }
    Ok(())
}

impl Data {
    fn read(folder: &Path, held_out: HeldOut) -> Result<Self> {
        let dataset = Dataset::load(folder)?;
        let split = Split::new(&dataset)?;
        Ok(Self {
            counts: split.train_counts(),
            evaluated: Users::of(&split, held_out),
            dataset,
        })
    }

    /// What an item is called: its title, else its id; cut where it is very long.
    pub fn title(&self, item: u32) -> String {
        const MOST: usize = 100;
        let item = &self.dataset.items[item as usize];
        let title = item.title.as_deref().unwrap_or(&item.id).trim();
        match title.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}…", title[..end].trim_end()),
            None => title.to_owned(),
        }
    }
}

/// The last part of the path, even of `.`.
pub(crate) fn name(root: &Path) -> Result<String> {
    let whole = root
        .canonicalize()
        .with_context(|| format!("{}: cannot be found", root.display()))?;
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    Ok(name.to_string_lossy().into_owned())
}

/// A log's lines; none where there is no log. The last line of a run that is training may be half-written.
fn read_log(path: &Path) -> Result<Vec<LogLine>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot read", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    (1..)
        .zip(whole.lines())
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| {
                let path = path.display();
                format!("{path}:{number}: expected {{\"step\": …, \"name\": number, …}}")
            })
        })
        .collect()
}

fn read_ranks(path: &Path) -> Result<Vec<RankLine>> {
    let place = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).with_context(place)?;
    let lines: std::result::Result<Vec<RankLine>, csv::Error> = reader.deserialize().collect();
    lines.with_context(place)
}
