//! Stage `eval`: every user's held-out item (the test's, or validation's for choosing settings) ranked among all items, by the merged list, by each stream alone and by
//! popularity; the figures with their intervals, and how often the beams find what scoring everything would.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use eager_data::{Dataset, ItemId, Split};
use eager_infer::metrics::{CUTOFFS, Metrics, Rank, ReliabilityBin, reliability};
use eager_infer::{Evaluation, InferConfig, Ranking, Recommender, evaluate, popularity_ranks};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::Context;
use crate::config::{EvalConfig, HeldOut};
use crate::logs::Progress;
use crate::report::Report;
use crate::run::{Run, Stage, StageRecord, write_atomic, write_json};
use crate::seed;

#[derive(Serialize)]
struct Settings<'a> {
    eval: &'a EvalConfig,
    ops: eager_ops::Ops,
    paper: Option<&'a eager_data::Paper>,
}

/// `beams.json`: the beam search against scoring the whole catalogue.
#[derive(Serialize)]
struct Beams {
    users: usize,
    beams: usize,
    /// Share of users whose first ten items are the same in the same order.
    same_top_10: f64,
    /// Share of all first tens that both have, whatever their places.
    common_top_10: f64,
}

/// `calibration.json`: how often the first items of the lists were the target, by the probability predicted for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// First items of every list that were looked at.
    pub top: usize,
    /// By list: `behaviour`, `semantic`, `direct` where the model has that head, and `merged` where that is ranked by a
    /// probability (by confidence or as a mixture, not by sum).
    pub lists: BTreeMap<String, Vec<ReliabilityBin>>,
}

/// Writes `metrics.json`, `ranks.csv` (a line a user), `calibration.json` and `beams.json`, unless that is done.
///
/// # Errors
/// When the model cannot be loaded, or a file cannot be written.
pub fn run(
    run: &Run,
    ctx: &Context,
    dataset: &Dataset,
    text_encoder: &str,
    data: &StageRecord,
    model: &StageRecord,
) -> Result<StageRecord> {
    let config = &ctx.config;
    let settings = Settings {
        eval: &config.eval,
        ops: config.ops,
        paper: ctx.manifest.paper.as_ref(),
    };
    let seed = seed::derive(ctx.seed, "eval");
    let upstream = [data, model];
    let encoder = [("text encoder", text_encoder.to_owned())];
    let (record, _) = run.stage(
        Stage::Eval,
        &settings,
        seed,
        &upstream,
        &encoder,
        |folder| {
            let eval = &config.eval;
            let split = Split::new(dataset)?;
            let recommender =
                Recommender::load(&run.folder(Stage::Model), &ctx.device)?.with_ops(config.ops);
            let users = Users::of(&split, eval.held_out);
            let histories = users.histories();
            let mut progress = Progress::new("ranking", histories.len() as u64, 0);
            let ranks = evaluate(
                &recommender,
                &histories,
                &users.targets,
                &eval.infer,
                &mut |done| progress.set(done as u64),
            )?;
            progress.finish();
            let popularity = popularity_ranks(
                &split.train_counts(),
                &histories,
                &users.targets,
                eval.infer.mask_history,
            )?;
            let mut lists = vec![
                ("merged", &ranks.merged[..]),
                ("behaviour", &ranks.behaviour),
                ("semantic", &ranks.semantic),
                ("popularity", &popularity),
            ];
            if !ranks.direct.is_empty() {
                lists.push(("direct", &ranks.direct));
            }
            write_ranks(&folder.join("ranks.csv"), dataset, &users, &lists)?;
            write_json(
                &folder.join("calibration.json"),
                &calibration(&ranks, eval.infer.ranking),
            )?;
            if eval.exact_users > 0 {
                let beams = compare(&recommender, &histories, eval, seed)?;
                tracing::info!(
                    "{} beams find the top 10 of the whole catalogue for {:.1} % of {} users",
                    beams.beams,
                    100.0 * beams.same_top_10,
                    beams.users
                );
                write_json(&folder.join("beams.json"), &beams)?;
            }
            let figures = |ranks: &[Rank]| Metrics::new(ranks, &CUTOFFS);
            let mut streams = BTreeMap::from([
                ("behaviour".to_owned(), figures(&ranks.behaviour)?),
                ("semantic".to_owned(), figures(&ranks.semantic)?),
                ("merged".to_owned(), figures(&ranks.merged)?),
            ]);
            if !ranks.direct.is_empty() {
                streams.insert("direct".to_owned(), figures(&ranks.direct)?);
            }
            let report = Report {
                dataset: dataset.name.clone(),
                users: histories.len(),
                text_encoder: text_encoder.to_owned(),
                protocol: protocol(ctx),
                metrics: figures(&ranks.merged)?,
                interval_level: eval.bootstrap.level,
                intervals: Some(Metrics::bootstrap(
                    &ranks.merged,
                    &CUTOFFS,
                    &eval.bootstrap,
                    seed,
                )?),
                streams,
                baselines: BTreeMap::from([("popularity".to_owned(), figures(&popularity)?)]),
                // The paper's figures are about the test.
                paper: (eval.held_out == HeldOut::Test)
                    .then(|| ctx.manifest.paper.clone())
                    .flatten(),
            };
            write_json(&folder.join("metrics.json"), &report)
        },
    )?;
    Ok(record)
}

/// The users that have an item held out, ascending, each with what is known and that item.
pub(crate) struct Users {
    /// By the dataset's numbers.
    pub(crate) users: Vec<u32>,
    pub(crate) items: Vec<Vec<u32>>,
    pub(crate) targets: Vec<u32>,
}

impl Users {
    pub(crate) fn of(split: &Split, held_out: HeldOut) -> Self {
        let ids = |items: &[ItemId]| items.iter().map(|i| i.0).collect();
        let users = held_out.users(split);
        let examples = || {
            let examples = users
                .iter()
                .map(|&user| held_out.example(split, user as usize));
            examples.flatten()
        };
        Self {
            items: examples().map(|example| ids(example.history)).collect(),
            targets: examples().map(|example| example.target.0).collect(),
            users,
        }
    }

    pub(super) fn histories(&self) -> Vec<&[u32]> {
        self.items.iter().map(Vec::as_slice).collect()
    }
}

/// What decides the figures besides the model.
fn protocol(ctx: &Context) -> Map<String, serde_json::Value> {
    let (config, infer) = (&ctx.config, &ctx.config.eval.infer);
    let mut protocol = dataset_protocol(ctx);
    for (name, value) in [
        ("window", json!(config.model.window)),
        ("ranking", json!(infer.ranking)),
        ("beams", json!(infer.beams)),
        ("top_k", json!(infer.top_k)),
        ("exact", json!(infer.exact)),
    ] {
        protocol.insert(name.to_owned(), value);
    }
    if infer.ranking != Ranking::Confidence {
        let w = &infer.weights;
        let mut weights = format!("behaviour {}, semantic {}", w.behaviour, w.semantic);
        if config.model.direct_head {
            weights += &format!(", direct {}", w.direct);
        }
        protocol.insert("weights".to_owned(), json!(weights));
    }
    protocol
}

/// What decides the figures whatever the model.
pub(super) fn dataset_protocol(ctx: &Context) -> Map<String, serde_json::Value> {
    let config = &ctx.config;
    let entries = [
        ("split", json!(config.prepare.split)),
        ("held_out", json!(config.eval.held_out)),
        ("order", json!(config.prepare.order)),
        ("ties", json!(config.prepare.ties)),
        ("candidates", json!("all items")),
        ("mask_history", json!(config.eval.infer.mask_history)),
        ("seed", json!(ctx.seed)),
    ];
    let named = entries.map(|(name, value)| (name.to_owned(), value));
    named.into_iter().collect()
}

/// A line a user: raw id, raw id of the target, and its rank in each list, empty where it is in none.
pub(super) fn write_ranks(
    path: &Path,
    dataset: &Dataset,
    users: &Users,
    lists: &[(&str, &[Rank])],
) -> Result<()> {
    let mut csv = csv::Writer::from_writer(vec![]);
    let names = lists.iter().map(|(name, _)| *name);
    csv.write_record(["user", "target"].into_iter().chain(names))?;
    let text = |rank: Rank| rank.map_or(String::new(), |r| r.to_string());
    for (place, (&user, &target)) in users.users.iter().zip(&users.targets).enumerate() {
        let ids = [
            dataset.users[user as usize].clone(),
            dataset.items[target as usize].id.clone(),
        ];
        let ranks = lists.iter().map(|(_, ranks)| text(ranks[place]));
        csv.write_record(ids.into_iter().chain(ranks))?;
    }
    let bytes = csv.into_inner().context("ranks.csv")?;
    write_atomic(path, &bytes)
}

/// Of the lists whose scores are log-probabilities: all but the merged one of [`Ranking::Sum`].
fn calibration(found: &Evaluation, ranking: Ranking) -> Calibration {
    let scores = &found.scores;
    let mut lists = BTreeMap::from([
        (
            "behaviour".to_owned(),
            reliability(&scores.behaviour, &found.behaviour),
        ),
        (
            "semantic".to_owned(),
            reliability(&scores.semantic, &found.semantic),
        ),
    ]);
    if !found.direct.is_empty() {
        let direct = reliability(&scores.direct, &found.direct);
        lists.insert("direct".to_owned(), direct);
    }
    if ranking != Ranking::Sum {
        let merged = reliability(&scores.merged, &found.merged);
        lists.insert("merged".to_owned(), merged);
    }
    Calibration {
        top: eager_infer::TOP,
        lists,
    }
}

/// Both ways of making the merged list, on a sample of users.
fn compare(
    recommender: &Recommender,
    histories: &[&[u32]],
    eval: &EvalConfig,
    seed: u64,
) -> Result<Beams> {
    const K: usize = 10;
    let mut rng = ChaCha8Rng::seed_from_u64(seed::derive(seed, "exact users"));
    let n = eval.exact_users.min(histories.len());
    let sample: Vec<&[u32]> = index::sample(&mut rng, histories.len(), n)
        .into_iter()
        .map(|user| histories[user])
        .collect();
    let infer = &eval.infer;
    // With `exact` the settings may have fewer than a search needs.
    let beams = infer.beams.max(infer.top_k);
    let lists = |exact: bool| {
        let config = InferConfig {
            exact,
            beams,
            ..infer.clone()
        };
        recommender.recommend(&sample, K, &config)
    };
    let (found, exact) = (lists(false)?, lists(true)?);
    let (mut same, mut common, mut all) = (0, 0, 0);
    for (found, exact) in found.iter().zip(&exact) {
        let items = |list: &[eager_infer::Ranked]| list.iter().map(|r| r.item).collect::<Vec<_>>();
        let (found, exact) = (items(found), items(exact));
        same += usize::from(found == exact);
        common += exact.iter().filter(|item| found.contains(item)).count();
        all += exact.len();
    }
    Ok(Beams {
        users: n,
        beams,
        same_top_10: same as f64 / n as f64,
        common_top_10: common as f64 / all.max(1) as f64,
    })
}

#[cfg(test)]
mod tests {
    use eager_data::Manifest;
    use eager_infer::RankingWeights;

    use super::*;
    use crate::config::Config;

    #[test]
    fn an_exact_evaluation_is_compared_with_as_many_beams_as_its_lists_are_long() {
        let infer = InferConfig {
            beams: 10,
            top_k: 30,
            exact: true,
            ..InferConfig::default()
        };
        infer.validate().unwrap();
        let eval = EvalConfig {
            infer,
            exact_users: 2,
            ..EvalConfig::default()
        };
        let bundle = eager_fixtures::bundle(40, 1);
        let histories: [&[u32]; 3] = [&[1, 2], &[3], &[4, 5]];
        let found = compare(bundle.recommender(), &histories, &eval, 1).unwrap();
        assert_eq!((found.users, found.beams), (2, 30));
    }

    #[test]
    fn a_ranking_by_a_head_that_the_model_has_not_is_refused_before_anything_runs() {
        let mut config = Config::paper(&Manifest::find("demo").unwrap());
        config.eval.infer.ranking = Ranking::Sum;
        config.eval.infer.weights = RankingWeights {
            behaviour: 0.0,
            semantic: 0.0,
            direct: 1.0,
        };
        let message = format!("{:#}", config.validate().unwrap_err());
        assert!(message.contains("without a direct head"), "{message}");
        config.model.direct_head = true;
        config.losses.direct = 1.0;
        config.validate().unwrap();
    }
}
