//! Stages `codes`, `model` and `eval` of a TIGER's run: semantic ids of the items' semantic vectors, the model trained to say
//! them, and its ranks of every user's held-out item. The files of `eval` have the form of EAGER's, with one list.

use anyhow::Result;
use eager_baselines::{Tiger, TigerConfig};
use eager_codes::{ItemVectors, SemanticIdConfig, SemanticIdReport, SemanticIds};
use eager_data::{Dataset, Split};
use eager_model::Weights;
use eager_ops::Ops;
use serde::Serialize;
use serde_json::json;

use super::baseline::{Evaluated, save_weights, saved_weights, write_report};
use super::eval::Users;
use super::{Context, show, text};
use crate::baseline::TIGER;
use crate::config::EvalConfig;
use crate::logs::{Progress, TrainingLog, say};
use crate::run::{Run, Stage, StageRecord, read_json, write_atomic, write_json};
use crate::seed;
use crate::train::at_usual_pace;
use crate::train::shards::Shards;
use crate::train::tiger::{BeamSearch, TigerSetting, train_tiger};

const IDS: &str = "ids.safetensors";

#[derive(Serialize)]
struct CodesSettings<'a> {
    semantic_ids: &'a SemanticIdConfig,
}

/// Makes `ids.safetensors`, `report.json` and `report.txt`, unless that is done, and prints the report.
///
/// # Errors
/// When the vectors cannot be read or clustered, or a file cannot be written.
pub fn codes(run: &Run, ctx: &Context, text: &StageRecord) -> Result<StageRecord> {
    let config = &ctx.config.baselines.tiger.codes;
    let settings = CodesSettings {
        semantic_ids: config,
    };
    let seed = seed::derive(ctx.seed, "codes/semantic ids");
    let (record, _) = run.stage(Stage::Codes, &settings, seed, &[text], &[], |folder| {
        let path = run.folder(Stage::Text).join("vectors.safetensors");
        let ids = SemanticIds::build(ItemVectors::load(&path)?.checked()?, config, seed)?;
        ids.save(&folder.join(IDS))?;
        let report = ids.report();
        write_json(&folder.join("report.json"), &report)?;
        write_atomic(&folder.join("report.txt"), format!("{report}\n").as_bytes())
    })?;
    let path = run.folder(Stage::Codes).join("report.json");
    if let Some(report) = read_json::<SemanticIdReport>(&path)? {
        say(&format!("semantic ids: {report}"));
    }
    Ok(record)
}

#[derive(Serialize)]
struct Settings<'a> {
    baseline: &'a str,
    model: &'a TigerConfig,
    training: serde_json::Value,
    ops: Ops,
}

/// Trains the model and writes `model.safetensors` and `outcome.json`, unless that is done; resumes from the last
/// checkpoint.
///
/// # Errors
/// When the ids cannot be read, training fails, or a file cannot be written.
pub fn train(
    run: &Run,
    ctx: &Context,
    dataset: &Dataset,
    data: &StageRecord,
    codes: &StageRecord,
) -> Result<StageRecord> {
    let (config, ops) = (&ctx.config.baselines.tiger, ctx.config.ops);
    let settings = Settings {
        baseline: TIGER,
        model: &config.model,
        training: at_usual_pace(&config.training)?,
        ops,
    };
    let seed = seed::derive(ctx.seed, TIGER);
    let upstream = [data, codes];
    let (record, _) = run.stage(Stage::Model, &settings, seed, &upstream, &[], |folder| {
        let split = Split::new(dataset)?;
        let weights = Weights::random(seed, &ctx.device);
        let model = Tiger::new(&config.model, &ids(run)?, weights)?;
        tracing::info!("{} parameters", model.parameters().count());
        let setting = TigerSetting {
            split: &split,
            training: &config.training,
            ops,
            seed,
            device: &ctx.device,
            shards: &Shards::new(&ctx.device)?,
        };
        let mut log: Option<TrainingLog> = None;
        let batch_size = config.training.batch_size;
        let outcome = train_tiger(
            &model,
            &setting,
            &folder.join("checkpoints"),
            &mut |event| show(&mut log, (folder, TIGER), batch_size, event),
        )?;
        drop(log);
        save_weights(folder, model.parameters())?;
        tracing::info!("{outcome}");
        write_json(&folder.join("outcome.json"), &outcome)
    })?;
    Ok(record)
}

fn ids(run: &Run) -> Result<SemanticIds> {
    Ok(SemanticIds::load(&run.folder(Stage::Codes).join(IDS))?)
}

#[derive(Serialize)]
struct EvalSettings<'a> {
    baseline: &'a str,
    eval: &'a EvalConfig,
    beams: usize,
    ops: Ops,
}

/// Writes `metrics.json` and `ranks.csv`, unless that is done.
///
/// # Errors
/// When the model cannot be loaded, or a file cannot be written.
pub fn evaluate(
    run: &Run,
    ctx: &Context,
    dataset: &Dataset,
    data: &StageRecord,
    codes: &StageRecord,
    model: &StageRecord,
) -> Result<StageRecord> {
    let (config, eval, ops) = (
        &ctx.config.baselines.tiger,
        &ctx.config.eval,
        ctx.config.ops,
    );
    let encoder = text::origin(&run.folder(Stage::Text))?.name;
    let settings = EvalSettings {
        baseline: TIGER,
        eval,
        beams: config.beams,
        ops,
    };
    let seed = seed::derive(ctx.seed, "eval");
    let upstream = [data, codes, model];
    let named = [("text encoder", encoder.clone())];
    let (record, _) = run.stage(Stage::Eval, &settings, seed, &upstream, &named, |folder| {
        let split = Split::new(dataset)?;
        let model = Tiger::new(&config.model, &ids(run)?, saved_weights(run, ctx)?)?;
        let users = Users::of(&split, eval.held_out);
        let search = BeamSearch {
            model: &model,
            ops,
            beams: config.beams,
            mask_history: eval.infer.mask_history,
        };
        let histories = users.histories();
        let mut progress = Progress::new("ranking", histories.len() as u64, 0);
        let ranks = search.ranks(
            &Shards::new(&ctx.device)?,
            &histories,
            &users.targets,
            &mut |done| {
                progress.set(done as u64);
            },
        )?;
        progress.finish();
        let evaluated = Evaluated {
            dataset,
            split: &split,
            users: &users,
            ranks: &ranks,
            text_encoder: &encoder,
            protocol: vec![
                ("model", json!(TIGER)),
                ("window", json!(config.model.window)),
                ("beams", json!(config.beams)),
            ],
        };
        write_report(ctx, folder, &evaluated, seed)
    })?;
    Ok(record)
}
