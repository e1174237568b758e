//! Stage `behaviour`: behaviour vectors of the items, the item table of a DIN trained on the histories (paper §3.2), in
//! `vectors.safetensors`; with `report.json` of its training. Or, where `behaviour.model` says so, that of a SASRec, with
//! `outcome.json` of its.

use std::path::Path;

use anyhow::Result;
use eager_data::digest::sha256_file;
use eager_data::{Dataset, Split};
use eager_model::DinConfig;
use eager_ops::Ops;
use serde::Serialize;

use super::{Context, baseline, show};
use crate::baseline::Kind;
use crate::config::BehaviourModel;
use crate::logs::TrainingLog;
use crate::run::{Run, Stage, StageRecord};
use crate::seed;
use crate::train::din::{DinSetting, train_din};
use crate::train::{Shards, at_usual_pace};
use crate::vectors::{self, Ready};

#[derive(Serialize)]
struct Settings<'a> {
    behaviour: Din<'a>,
    ops: Ops,
}

#[derive(Serialize)]
struct Din<'a> {
    din: &'a DinConfig,
    training: serde_json::Value,
}

/// Trains the DIN or the SASRec, unless that is done; resumes from the last checkpoint. Ready-made vectors take their place.
///
/// # Errors
/// When a setting is out of range, training fails, ready-made vectors do not fit, or a file cannot be read or written.
pub fn run(run: &Run, ctx: &Context, data: &StageRecord, dataset: &Dataset) -> Result<StageRecord> {
    if let Some(path) = &ctx.config.behaviour.vectors {
        return ready(run, ctx, data, dataset, path);
    }
    match ctx.config.behaviour.model {
        BehaviourModel::Din => din(run, ctx, data, dataset),
        BehaviourModel::Sasrec => {
            baseline::train(run, ctx, Stage::Behaviour, Kind::Sasrec, dataset, data)
        }
    }
}

fn din(run: &Run, ctx: &Context, data: &StageRecord, dataset: &Dataset) -> Result<StageRecord> {
    let config = &ctx.config.behaviour;
    let settings = Settings {
        behaviour: Din {
            din: &config.din,
            training: at_usual_pace(&config.training)?,
        },
        ops: ctx.config.ops,
    };
    let seed = seed::derive(ctx.seed, "behaviour");
    let split = Split::new(dataset)?;
    let shards = Shards::new(&ctx.device)?;
    let setting = DinSetting {
        split: &split,
        config: &config.din,
        training: &config.training,
        ops: settings.ops,
        seed,
        device: &ctx.device,
        shards: &shards,
    };
    let (record, _) = run.stage(Stage::Behaviour, &settings, seed, &[data], &[], |folder| {
        let mut log: Option<TrainingLog> = None;
        let outcome = train_din(&setting, folder, &mut |event| {
            show(
                &mut log,
                (folder, "behaviour"),
                config.training.batch_size,
                event,
            )
        })?;
        drop(log);
        let report = &outcome.report;
        tracing::info!("{}, of {} users", report.outcome, report.valid_users);
        Ok(())
    })?;
    Ok(record)
}

/// Vectors from elsewhere; nothing is drawn, so the seed has no part in them.
fn ready(
    run: &Run,
    ctx: &Context,
    data: &StageRecord,
    dataset: &Dataset,
    path: &Path,
) -> Result<StageRecord> {
    let path = vectors::find(path, ctx)?;
    let digest = [("vectors", sha256_file(&path)?)];
    let settings = serde_json::json!({ "vectors": "ready-made" });
    let (record, _) = run.stage(Stage::Behaviour, &settings, 0, &[data], &digest, |folder| {
        let vectors = Ready::read(&path)?.of_items(&dataset.items)?;
        Ok(vectors.save(&folder.join("vectors.safetensors"), None)?)
    })?;
    Ok(record)
}
