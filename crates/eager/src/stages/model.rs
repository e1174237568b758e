//! Stage `model`: the generator trained on the codes, with early stopping on validation, and kept with its codes as one
//! folder that an [`eager_infer::Recommender`] is loaded from.

use anyhow::Result;
use candle_core::Tensor;
use eager_codes::{ItemCodes, ItemVectors};
use eager_data::{Dataset, Split, Windows};
use eager_infer::{InferConfig, Ranking, RankingWeights, Recommender, evaluate};
use eager_losses::LossConfig;
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use eager_ops::Ops;
use serde::Serialize;

use super::{Context, show};
use crate::config::Config;
use crate::logs::TrainingLog;
use crate::run::{Run, Stage, StageRecord, write_json};
use crate::seed;
use crate::train::at_usual_pace;
use crate::train::generator::{Setting, Validation, train_generator};
use crate::train::objective::Items;
use crate::train::shards::Shards;
use crate::train::start::{TableStart, tables_of_vectors};
use crate::train::validation::{ValidationUsers, validation};

#[derive(Serialize)]
struct Settings<'a> {
    model: &'a EagerConfig,
    losses: &'a LossConfig,
    training: serde_json::Value,
    ops: Ops,
}

/// Trains the generator and writes `model.safetensors`, `model.json`, `behaviour.safetensors`, `semantic.safetensors` and
/// `outcome.json`, unless that is done; resumes from the last checkpoint.
///
/// # Errors
/// When an artefact of a stage above cannot be read, or training fails.
pub fn run(
    run: &Run,
    ctx: &Context,
    dataset: &Dataset,
    data: &StageRecord,
    vectors: [&StageRecord; 2],
    codes: &StageRecord,
) -> Result<StageRecord> {
    let config = &ctx.config;
    let settings = Settings {
        model: &config.model,
        losses: &config.losses,
        training: at_usual_pace(&config.training)?,
        ops: config.ops,
    };
    let seed = seed::derive(ctx.seed, "model");
    let upstream = [data, vectors[0], vectors[1], codes];
    let (record, _) = run.stage(Stage::Model, &settings, seed, &upstream, &[], |folder| {
        let split = Split::new(dataset)?;
        let windows = Windows::new(&split, config.model.window);
        let windows = windows.with_min_history(config.training.min_history);
        let (items, codes) = items(run, ctx)?;
        let catalogue = Catalogue {
            tries: PerStream::from_fn(|s| &items.tries[s]),
            dims: PerStream::try_from_fn(|s| items.vectors[s].dim(1))?,
        };
        let weights = Weights::random(seed, &ctx.device);
        let model = Eager::new(&config.model, &catalogue, weights)?;
        if config.training.tables == TableStart::Vectors {
            model.set_tables(&tables_of_vectors(&model, &items)?)?;
        }
        tracing::info!(
            "{} parameters, {} examples an epoch",
            model.parameters().count(),
            windows.len()
        );
        let recommender = Recommender::new(model, codes, config.ops)?;
        let validator = Validator::new(&split, config, seed);
        let shards = Shards::new(&ctx.device)?;
        let setting = Setting {
            windows: &windows,
            items: &items,
            training: &config.training,
            losses: &config.losses,
            ops: config.ops,
            seed,
            device: &ctx.device,
            shards: &shards,
        };
        let mut log: Option<TrainingLog> = None;
        let outcome = train_generator(
            recommender.model(),
            &setting,
            &folder.join("checkpoints"),
            &mut |_| validator.validate(&recommender),
            &mut |event| {
                show(
                    &mut log,
                    (folder, "training"),
                    config.training.batch_size,
                    event,
                )
            },
        )?;
        drop(log);
        recommender.save(folder)?;
        tracing::info!("{outcome}");
        write_json(&folder.join("outcome.json"), &outcome)
    })?;
    Ok(record)
}

/// Codes and vectors of the stages above.
fn items(run: &Run, ctx: &Context) -> Result<(Items, PerStream<ItemCodes>)> {
    let vectors = PerStream::try_from_fn(|stream| {
        let from = match stream {
            Stream::Behaviour => Stage::Behaviour,
            Stream::Semantic => Stage::Text,
        };
        let vectors = ItemVectors::load(&run.folder(from).join("vectors.safetensors"))?;
        let shape = (vectors.items(), vectors.dim);
        Ok::<_, anyhow::Error>(Tensor::from_slice(&vectors.data, shape, &ctx.device)?)
    })?;
    let codes = PerStream::try_from_fn(|stream| {
        let file = format!("{}.safetensors", stream.name());
        ItemCodes::load(&run.folder(Stage::Codes).join(file))
    })?;
    let tries = PerStream::try_from_fn(|stream| eager_codes::CodeTrie::new(&codes[stream]))?;
    Ok((Items { tries, vectors }, codes))
}

/// The validation's users and how their lists are made, the same at every validation.
struct Validator {
    users: ValidationUsers,
    infer: InferConfig,
}

impl Validator {
    /// The lists are not the test's, so that another ranking there does not train anew. They are the paper's where both streams
    /// are trained and nothing else is; otherwise a mixture of what is trained, each with the weight of its loss. With a direct
    /// head they are without the history's items, which a head scores highest.
    fn new(split: &Split, config: &Config, seed: u64) -> Self {
        let (training, losses) = (&config.training, &config.losses);
        let weights = RankingWeights {
            behaviour: losses.generation.behaviour as f32,
            semantic: losses.generation.semantic as f32,
            direct: losses.direct as f32,
        };
        let both = weights.behaviour > 0.0 && weights.semantic > 0.0;
        Self {
            users: ValidationUsers::new(split, training.valid_users, seed),
            infer: InferConfig {
                beams: training.valid_beams,
                top_k: training.valid_beams.min(InferConfig::default().top_k),
                ranking: if both && !config.model.direct_head {
                    Ranking::Confidence
                } else {
                    Ranking::Mixture
                },
                weights,
                mask_history: config.model.direct_head,
                ..InferConfig::default()
            },
        }
    }

    fn validate(&self, recommender: &Recommender) -> Result<Validation> {
        let ranks = evaluate(
            recommender,
            &self.users.histories(),
            &self.users.targets,
            &self.infer,
            &mut |_| (),
        )?;
        validation(&ranks.merged)
    }
}
