//! From a run to a bundle, and `eager export` and `eager inspect`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use clap::Args;
use eager_bundle::{Bundle, Evaluation, Manifest, TextSource};
use eager_codes::ItemVectors;
use eager_data::Dataset;
use eager_infer::{InferConfig, Recommender};
use eager_model::{PerStream, Stream};

use crate::cli::{free, print};
use crate::config::{Config, EvalConfig, HeldOut, TreesConfig};
use crate::page::run_name;
use crate::report::Report;
use crate::run::{Stage, StageRecord, check, read_json, records};
use crate::stages::text;

/// A trained run as one folder that needs nothing else.
#[derive(Debug, Args)]
pub struct Export {
    /// A run's folder, trained up to stage `model`: runs/DATASET/NAME
    pub run: PathBuf,
    /// The bundle's folder, which must not be there yet
    pub out: PathBuf,
    /// The bundle's name; otherwise DATASET/NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// What a bundle holds, its files compared with their digests.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A bundle's folder
    pub bundle: PathBuf,
    /// Print bundle.json with the bundle's digest
    #[arg(long)]
    pub json: bool,
}

/// Opens a bundle's folder, or a trained run's as the bundle that it would be exported as.
///
/// # Errors
/// When the folder is neither, or something in it cannot be read.
pub fn open(folder: &Path, device: &Device) -> Result<Bundle> {
    if folder.join("bundle.json").exists() {
        return Ok(Bundle::load(folder, device)?);
    }
    of_run(folder, device)
}

/// Opens a bundle's folder, and no run's.
///
/// # Errors
/// When it is none, or something in it is not as it should be.
pub(crate) fn load(folder: &Path) -> Result<Bundle> {
    if !folder.join("bundle.json").exists() {
        let (place, run) = (folder.display(), folder.join("config.toml").exists());
        let what = if run {
            "a run"
        } else {
            "no bundle (no bundle.json)"
        };
        bail!("{place}: is {what}; make a bundle of a run with `eager export`")
    }
    Ok(Bundle::load(folder, &Device::Cpu)?)
}

/// Makes sure that a bundle has its digest: that of a run in memory is the digest that it would be exported with.
///
/// # Errors
/// When there is no room for it in the folder of temporary files.
pub fn with_digest(bundle: &mut Bundle) -> Result<()> {
    if bundle.digest().is_empty() {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        bundle.save(&folder.path().join("bundle"))?;
    }
    Ok(())
}

/// A run's bundle, in memory.
fn of_run(run: &Path, device: &Device) -> Result<Bundle> {
    let folder = |stage: Stage| run.join(stage.name());
    let path = run.join("config.toml");
    if !path.exists() {
        bail!(
            "{}: is neither a bundle, which has a bundle.json, nor a run, which has a config.toml and is \
             runs/DATASET/NAME; train one with `eager pipeline`",
            run.display()
        )
    }
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(&path).with_context(place)?;
    let config: Config = toml::from_str(&text).with_context(place)?;
    let records = records(run)?;
    let done = |stage: Stage| records.iter().find(|record| record.stage == stage);
    let baseline = done(Stage::Model).and_then(|model| model.config["baseline"].as_str());
    if let Some(name) = baseline {
        bail!(
            "{}: is a run of `eager baseline {name}`, which has no two streams of codes to recommend by; give a run of \
             `eager pipeline`",
            run.display()
        )
    }
    let record = |stage: Stage| -> Result<&StageRecord> {
        done(stage).with_context(|| {
            let run = run.display();
            format!(
                "the run {run} has not done its stage `{stage}`, or has made anew what it was made of; give its command \
                 again"
            )
        })
    };
    let (model, codes) = (record(Stage::Model)?, record(Stage::Codes)?);
    for stage in [Stage::Data, Stage::Behaviour, Stage::Text, Stage::Model] {
        check(run, record(stage)?)?;
    }
    let dataset = Dataset::load(&folder(Stage::Data))?;
    let recommender = Recommender::load(&folder(Stage::Model), device)?;
    let vectors = PerStream::try_from_fn(|stream| {
        let stage = match stream {
            Stream::Behaviour => Stage::Behaviour,
            Stream::Semantic => Stage::Text,
        };
        ItemVectors::load(&folder(stage).join("vectors.safetensors"))
    })?;
    let settings = |stage: Stage| format!("{}/stage.json", folder(stage).display());
    let text_settings: text::Settings = serde_json::from_value(record(Stage::Text)?.config.clone())
        .with_context(|| settings(Stage::Text))?;
    let trees: TreesConfig = serde_json::from_value(codes.config["trees"].clone())
        .with_context(|| settings(Stage::Codes))?;
    let infer = &config.eval.infer;
    let tested = done(Stage::Eval).filter(|eval| tested_so(&eval.config["eval"], infer));
    let report: Option<Report> = match tested {
        Some(_) => read_json(&folder(Stage::Eval).join("metrics.json"))?,
        None => None,
    };
    let metrics = report.iter().flat_map(|report| {
        let named = report.metrics.named();
        named.map(|(name, &figure)| (name, figure))
    });
    let metrics = metrics.collect();
    let name = run_name(run)?;
    let manifest = Manifest {
        format: 0,
        name: format!("{}/{name}", dataset.name),
        dataset: dataset.name.clone(),
        revision: 1,
        parent: None,
        version: model.versions.eager.clone(),
        seed: codes.seed,
        items: 0,
        branching: Some(PerStream {
            behaviour: trees.behaviour.branching,
            semantic: trees.semantic.branching,
        }),
        text: TextSource {
            // A model folder's name, and not where it lay: equal runs are equal bundles, and nobody else's business is told.
            encoder: Path::new(&text_settings.encoder).file_name().map_or_else(
                || text_settings.encoder.clone(),
                |name| name.to_string_lossy().into_owned(),
            ),
            sha256: text::origin(&folder(Stage::Text))?.sha256,
            template: text_settings.template,
        },
        infer: config.eval.infer,
        metrics,
        evaluation: report.map(evaluation),
        files: BTreeMap::new(),
    };
    Ok(Bundle::new(manifest, recommender, dataset.items, vectors)?)
}

/// Whether an evaluation with these settings is of the test, ranked as the bundle ranks; a bundle tells no other figures.
fn tested_so(eval: &serde_json::Value, infer: &InferConfig) -> bool {
    let eval = serde_json::from_value::<EvalConfig>(eval.clone());
    eval.is_ok_and(|eval| eval.held_out == HeldOut::Test && eval.infer == *infer)
}

fn evaluation(report: Report) -> Evaluation {
    let intervals = report.intervals.iter().flat_map(|intervals| {
        let named = intervals.named();
        named.map(|(name, interval)| (name, [interval.low, interval.high]))
    });
    Evaluation {
        users: report.users,
        intervals: intervals.collect(),
        interval_level: report.interval_level,
        protocol: report.protocol,
    }
}

impl Export {
    /// Writes the bundle and prints its folder.
    ///
    /// # Errors
    /// [`Usage`](crate::cli::Usage) when something is at the bundle's place; when the run is not trained.
    pub fn run(&self) -> Result<()> {
        free(&self.out)?;
        if self.run.join("bundle.json").exists() {
            bail!(
                "{}: is a bundle already; copy its folder",
                self.run.display()
            )
        }
        let mut bundle = of_run(&self.run, &Device::Cpu)?;
        if let Some(name) = &self.name {
            bundle = bundle.named(name);
        }
        bundle.save(&self.out)?;
        tracing::info!("digest {}", bundle.digest());
        print(self.out.display())
    }
}

impl Inspect {
    /// Reads everything and says what it is.
    ///
    /// # Errors
    /// When a file is missing, altered or does not hold what it should.
    pub fn run(&self) -> Result<()> {
        let bundle = load(&self.bundle)?;
        let manifest = bundle.manifest();
        if self.json {
            let mut value = serde_json::to_value(manifest)?;
            value["digest"] = bundle.digest().into();
            return print(serde_json::to_string_pretty(&value)?);
        }
        let model = bundle.recommender().model();
        let mut lines = vec![
            ("name", manifest.name.clone()),
            ("digest", bundle.digest().to_owned()),
            ("revision", manifest.revision.to_string()),
        ];
        lines.extend(manifest.parent.clone().map(|parent| ("parent", parent)));
        lines.extend([
            (
                "dataset",
                format!("{}, seed {}", manifest.dataset, manifest.seed),
            ),
            (
                "items",
                format!(
                    "{}, {} categories",
                    bundle.items().len(),
                    bundle.categories().len()
                ),
            ),
            ("text", manifest.text.encoder.clone()),
        ]);
        for stream in Stream::ALL {
            let trie = bundle.recommender().trie(stream);
            let tree = format!(
                "{} levels, {} nodes, {} leaves, vectors of width {}",
                trie.levels(),
                trie.n_nodes(),
                trie.n_leaves(),
                bundle.vectors(stream).dim
            );
            lines.push((stream.name(), tree));
        }
        let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
        let (parameters, width) = (model.parameters().count(), model.config().d_model);
        let (files, size) = (manifest.files.len(), indicatif::HumanBytes(bytes));
        lines.push(("model", format!("{parameters} parameters, width {width}")));
        lines.push(("files", format!("{files}, {size}, as recorded")));
        let figures = manifest.metrics.iter();
        lines.extend(figures.map(|(name, figure)| (name.as_str(), format!("{figure:.4}"))));
        let lines: Vec<String> = lines
            .into_iter()
            .map(|(name, value)| format!("{name:<11} {value}"))
            .collect();
        print(lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::{Run, write_atomic};

    #[test]
    fn figures_of_a_bundle_are_the_tests_ranked_as_it_ranks() {
        let infer = InferConfig::default();
        let eval = serde_json::to_value(EvalConfig::default()).unwrap();
        assert!(tested_so(&eval, &infer));
        let changed = |part: &str, value: serde_json::Value| {
            let mut eval = eval.clone();
            *eval.pointer_mut(part).unwrap() = value;
            tested_so(&eval, &infer)
        };
        assert!(changed("/exact_users", json!(0)));
        assert!(!changed("/held_out", json!("valid")));
        assert!(!changed("/infer/mask_history", json!(true)));
    }

    #[test]
    fn a_run_of_a_baseline_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sasrec");
        let run = Run::open(&root).unwrap();
        let config = Config::paper(&eager_data::Manifest::find("demo").unwrap());
        let config = toml::to_string(&config).unwrap();
        write_atomic(&root.join("config.toml"), config.as_bytes()).unwrap();
        let refused = |words: &str| {
            let error = open(&root, &Device::Cpu).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused("has not done its stage `model`");
        let inspect = Inspect {
            bundle: root.clone(),
            json: false,
        };
        let error = inspect.run().unwrap_err().to_string();
        assert!(
            error.contains("is a run; make a bundle of a run with `eager export`"),
            "{error}"
        );
        let above = open(folder.path(), &Device::Cpu).unwrap_err();
        let above = crate::cli::chain(&above);
        assert!(
            above.contains("runs/DATASET/NAME") && !above.contains("os error"),
            "{above}"
        );
        let settings = json!({ "baseline": "sasrec" });
        let trained = run.stage(Stage::Model, &settings, 1, &[], &[], |_| Ok(()));
        trained.unwrap();
        refused("is a run of `eager baseline sasrec`");
    }
}
