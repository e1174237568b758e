//! Stages `model` and `eval` of a baseline's run: a next-item model trained on the histories, and its ranks of every user's
//! held-out item. The files of `eval` have the form of EAGER's, with one list.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use eager_data::{Dataset, Split};
use eager_infer::metrics::{CUTOFFS, Metrics, Rank};
use eager_infer::popularity_ranks;
use eager_model::{Parameters, Weights};
use eager_ops::Ops;
use serde::Serialize;
use serde_json::json;

use super::eval::{Users, dataset_protocol, write_ranks};
use super::{Context, show};
use crate::baseline::Kind;
use crate::config::EvalConfig;
use crate::logs::{Progress, TrainingLog};
use crate::report::Report;
use crate::run::{Run, Stage, StageRecord, write_json};
use crate::seed;
use crate::train::checkpoint;
use crate::train::next_item::{NextItemSetting, evaluate, train_next_item};
use crate::train::shards::Shards;

const WEIGHTS: &str = "model.safetensors";

#[derive(Serialize)]
struct Settings<'a> {
    baseline: &'a str,
    settings: serde_json::Value,
    ops: Ops,
}

/// Trains the model and writes `model.safetensors`, its item embeddings as `vectors.safetensors`, and `outcome.json`,
/// unless that is done; resumes from the last checkpoint.
///
/// # Errors
/// When training fails, or a file cannot be read or written.
pub fn train(
    run: &Run,
    ctx: &Context,
    stage: Stage,
    kind: Kind,
    dataset: &Dataset,
    data: &StageRecord,
) -> Result<StageRecord> {
    let config = &ctx.config;
    let settings = Settings {
        baseline: kind.name(),
        settings: config.baselines.settings(kind)?,
        ops: config.ops,
    };
    let seed = seed::derive(ctx.seed, kind.name());
    let (record, _) = run.stage(stage, &settings, seed, &[data], &[], |folder| {
        let split = Split::new(dataset)?;
        let weights = Weights::random(seed, &ctx.device);
        let model = config.baselines.model(kind, split.n_items(), weights)?;
        tracing::info!("{} parameters", model.parameters().count());
        let (loss, training) = config.baselines.learning(kind);
        let setting = NextItemSetting {
            split: &split,
            loss,
            training,
            ops: config.ops,
            seed,
            device: &ctx.device,
            shards: &Shards::new(&ctx.device)?,
        };
        let mut log: Option<TrainingLog> = None;
        let outcome = train_next_item(
            model.as_ref(),
            &setting,
            &folder.join("checkpoints"),
            &mut |event| show(&mut log, (folder, kind.name()), training.batch_size, event),
        )?;
        drop(log);
        save_weights(folder, model.parameters())?;
        let vectors = HashMap::from([("vectors".to_owned(), model.items().detach())]);
        write(&folder.join("vectors.safetensors"), vectors)?;
        tracing::info!("{outcome}");
        write_json(&folder.join("outcome.json"), &outcome)
    })?;
    Ok(record)
}

/// Writes `model.safetensors`.
pub(super) fn save_weights(folder: &Path, parameters: &Parameters) -> Result<()> {
    write(&folder.join(WEIGHTS), parameters.tensors())
}

/// The weights of stage `model`, for a model that is not trained on.
pub(super) fn saved_weights(run: &Run, ctx: &Context) -> Result<Weights> {
    let path = run.folder(Stage::Model).join(WEIGHTS);
    let weights = candle_core::safetensors::load(&path, &ctx.device)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Weights::saved(weights, &ctx.device).frozen())
}

fn write(path: &Path, tensors: HashMap<String, Tensor>) -> Result<()> {
    checkpoint::write(path, &tensors.into_iter().collect(), None)
        .with_context(|| format!("{}: cannot write", path.display()))
}

#[derive(Serialize)]
struct EvalSettings<'a> {
    baseline: &'a str,
    eval: &'a EvalConfig,
    model: serde_json::Value,
    ops: Ops,
}

/// Writes `metrics.json` and `ranks.csv`, unless that is done.
///
/// # Errors
/// When the model cannot be loaded, or a file cannot be written.
pub fn evaluate_stage(
    run: &Run,
    ctx: &Context,
    kind: Kind,
    dataset: &Dataset,
    data: &StageRecord,
    model: &StageRecord,
) -> Result<StageRecord> {
    let config = &ctx.config;
    let (eval, baselines) = (&config.eval, &config.baselines);
    let settings = EvalSettings {
        baseline: kind.name(),
        eval,
        model: baselines.settings(kind)?["model"].take(),
        ops: config.ops,
    };
    let seed = seed::derive(ctx.seed, "eval");
    let upstream = [data, model];
    let (record, _) = run.stage(Stage::Eval, &settings, seed, &upstream, &[], |folder| {
        let split = Split::new(dataset)?;
        let model = baselines.model(kind, split.n_items(), saved_weights(run, ctx)?)?;
        let users = Users::of(&split, eval.held_out);
        let histories = users.histories();
        let mut progress = Progress::new("ranking", histories.len() as u64, 0);
        let ranks = evaluate(
            model.as_ref(),
            config.ops,
            &Shards::new(&ctx.device)?,
            &histories,
            &users.targets,
            eval.infer.mask_history,
            &mut |done| progress.set(done as u64),
        )?;
        progress.finish();
        let (loss, _) = baselines.learning(kind);
        let evaluated = Evaluated {
            dataset,
            split: &split,
            users: &users,
            ranks: &ranks,
            text_encoder: "none",
            protocol: vec![
                ("model", json!(kind.name())),
                ("softmax", json!(loss.softmax)),
                ("window", json!(baselines.window(kind))),
            ],
        };
        write_report(ctx, folder, &evaluated, seed)
    })?;
    Ok(record)
}

/// A baseline's ranks, and what they are of.
pub(super) struct Evaluated<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) split: &'a Split,
    pub(super) users: &'a Users,
    /// `[users]`.
    pub(super) ranks: &'a [Rank],
    /// `none` where the model reads no text.
    pub(super) text_encoder: &'a str,
    /// What decides the figures besides the dataset's.
    pub(super) protocol: Vec<(&'static str, serde_json::Value)>,
}

/// Writes `metrics.json` and `ranks.csv`, popularity beside; `seed` draws the bootstrap's resamples.
pub(super) fn write_report(
    ctx: &Context,
    folder: &Path,
    evaluated: &Evaluated<'_>,
    seed: u64,
) -> Result<()> {
    let Evaluated {
        dataset,
        split,
        users,
        ranks,
        ..
    } = *evaluated;
    let (eval, bootstrap) = (&ctx.config.eval, &ctx.config.eval.bootstrap);
    let popularity = popularity_ranks(
        &split.train_counts(),
        &users.histories(),
        &users.targets,
        eval.infer.mask_history,
    )?;
    let lists = [("merged", ranks), ("popularity", &popularity)];
    write_ranks(&folder.join("ranks.csv"), dataset, users, &lists)?;
    let mut protocol = dataset_protocol(ctx);
    let own = evaluated.protocol.iter().cloned();
    protocol.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let report = Report {
        dataset: dataset.name.clone(),
        users: ranks.len(),
        text_encoder: evaluated.text_encoder.to_owned(),
        protocol,
        metrics: Metrics::new(ranks, &CUTOFFS)?,
        interval_level: bootstrap.level,
        intervals: Some(Metrics::bootstrap(ranks, &CUTOFFS, bootstrap, seed)?),
        streams: BTreeMap::new(),
        baselines: BTreeMap::from([(
            "popularity".to_owned(),
            Metrics::new(&popularity, &CUTOFFS)?,
        )]),
        paper: None,
    };
    write_json(&folder.join("metrics.json"), &report)
}
